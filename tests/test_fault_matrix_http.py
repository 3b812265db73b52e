"""What HTTP itself can do to an answer of `pay`, over real sockets.

The stand-in has charged each time, and the proxy puts raw bytes in place of its answer: so an answer that is
broken, doubled, cut or mislabelled must come out as paid or unknown, and as declined or failed only
where the bytes say just that. What each HTTP status means is worked out from gateway-api.md's words in `by_the_words`.
"""

import gzip
import json
from http import HTTPStatus

import pytest
from faultbench import PAN, open_bench
from faultproxy import Fault, Kind, Way

from ivr_agi.gateway import Exchange, read_pay
from ivr_agi.model import Verdict
from ivr_agi.simulator.gateway import GatewaySimulator

PAID, DECLINED, FAILED, UNKNOWN = Verdict.PAID, Verdict.DECLINED, Verdict.FAILED, Verdict.UNKNOWN

YES = json.dumps({"status": 1, "data": {"refID": "123456"}, "errors": []}).encode()
NO = json.dumps({"status": 0, "data": {"refID": "0", "transactionStatus": "51"}, "errors": []}).encode()
HTML = b"<html><h1>something</h1></html>"


@pytest.fixture
async def bench():
    async with open_bench() as opened:
        yield opened


def words(body: bytes = YES, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """An answer on the wire. A header `Content-Length` is added unless headers speak of the length."""
    told = any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers)
    length = [] if told else [f"Content-Length: {len(body)}"]
    head = "\r\n".join([f"HTTP/{version} {status}", "Content-Type: application/json", *headers, *length])
    return head.encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes, size=lambda chunk: f"{len(chunk):x}", end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(size(chunk).encode() + b"\r\n" + chunk + b"\r\n" for chunk in chunks)
    return words(body + end, "Transfer-Encoding: chunked")


def endless(*, version: str = "1.1", body: bytes = YES, status: str = "200 OK") -> bytes:
    """An answer without a length: it lasts as long as the connection."""
    return f"HTTP/{version} {status}\r\nConnection: close\r\n\r\n".encode() + body


async def answered(bench, raw: bytes, kind: Kind = Kind.CLOSE):
    """Pay, be charged, and get these bytes for an answer. A freeze is what an open connection looks like."""
    bench.proxy.arm(Fault(Way.ANSWER, 0, kind, instead=raw))
    answer = await bench.pay()
    assert bench.carried.struck
    assert len(bench.gateway.charges) == bench.payments == len(bench.proxy.connections)
    return answer


# -- before the answer, behind it, and instead of it -------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
MANY = "".join(f"X-{number}: {'x' * 90}\r\n" for number in range(3000)).encode()


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        pytest.param(words(), PAID, id="as it should be"),
        pytest.param(GO_ON + words(), PAID, id="100, then the answer"),
        pytest.param(HINTS + words(NO), DECLINED, id="103, then the answer"),
        pytest.param(GO_ON + HINTS * 50 + words(), PAID, id="many 1xx, then the answer"),
        pytest.param(GO_ON, UNKNOWN, id="100, then nothing"),
        pytest.param(HINTS, UNKNOWN, id="103, then nothing"),
        pytest.param(GO_ON + words(b"", status="403 No"), FAILED, id="100, then 403"),
        pytest.param(SWITCH + words(), UNKNOWN, id="101"),
        pytest.param(words() + words(b"", status="403 No"), PAID, id="paid, then another answer"),
        pytest.param(words() + b"\x00garbage", PAID, id="paid, then garbage"),
        pytest.param(words(b"", status="502 No") + words(), UNKNOWN, id="502, then paid"),
        pytest.param(b"", UNKNOWN, id="nothing"),
        pytest.param(YES, UNKNOWN, id="HTTP/0.9"),
        pytest.param(b"\r\n\r\n" + words(), UNKNOWN, id="blank lines first"),
        pytest.param(words(version="2.0"), PAID, id="HTTP/2.0 in words"),
        pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18, UNKNOWN, id="HTTP/2 in bytes"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", UNKNOWN, id="a TLS alert"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", UNKNOWN, id="SSH"),
        pytest.param(words(status="20 OK"), UNKNOWN, id="status of two digits"),
        pytest.param(words(status="099 Low"), UNKNOWN, id="status 099"),
        pytest.param(words(status="600 High"), UNKNOWN, id="status 600"),
        pytest.param(words(status="999 No"), UNKNOWN, id="status 999"),
        pytest.param(words(status="200"), PAID, id="no reason phrase"),
        pytest.param(words(YES, "X-Bomb: " + "x" * 200_000), UNKNOWN, id="one header of 200 kB"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + MANY + b"\r\n", UNKNOWN, id="300 kB of headers"),
        pytest.param(words(YES, "no colon"), UNKNOWN, id="header without a colon"),
        pytest.param(words(YES, "X: a\x00b"), UNKNOWN, id="NUL in a header"),
    ],
)
async def test_around_the_answer(bench, raw, verdict):
    """What is no HTTP answer is unknown; interim answers are passed over."""
    assert (await answered(bench, raw)).verdict is verdict


# -- how long is the body? ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        pytest.param(words(YES, "Content-Length: 500"), UNKNOWN, id="length too great"),
        pytest.param(words(YES, "Content-Length: 20"), UNKNOWN, id="length too small"),
        pytest.param(words(YES, "Content-Length: 0"), UNKNOWN, id="length 0"),
        pytest.param(words(YES, "Content-Length: -1"), UNKNOWN, id="length negative"),
        pytest.param(words(YES, "Content-Length: ten"), UNKNOWN, id="length no number"),
        pytest.param(words(YES, "Content-Length: 20", f"Content-Length: {len(YES)}"), UNKNOWN, id="two lengths"),
        pytest.param(words(YES, f"Content-Length: {len(YES)}, {len(YES)}"), PAID, id="one length twice"),
        pytest.param(words(HTML, "Content-Length: 500", status="403 No"), UNKNOWN, id="403, length too great"),
        pytest.param(chunked(YES), PAID, id="chunked"),
        pytest.param(chunked(YES[:9], YES[9:20], YES[20:]), PAID, id="many chunks"),
        pytest.param(chunked(YES, size=lambda chunk: f"{len(chunk):x};a=b"), PAID, id="chunk extension"),
        pytest.param(chunked(YES, end=b"0\r\nX-Trailer: y\r\n\r\n"), PAID, id="trailers"),
        pytest.param(chunked(YES, end=b""), UNKNOWN, id="no last chunk"),
        pytest.param(chunked(YES, end=b"0\r\n"), UNKNOWN, id="last chunk cut"),
        pytest.param(chunked(YES, size=lambda chunk: f"{len(chunk) + 5:x}"), UNKNOWN, id="chunk size too great"),
        pytest.param(chunked(YES, size=lambda chunk: f"{len(chunk) - 5:x}"), UNKNOWN, id="chunk size too small"),
        pytest.param(chunked(YES, size=lambda _: "zz"), UNKNOWN, id="chunk size no number"),
        pytest.param(chunked(YES, size=lambda _: "-1"), UNKNOWN, id="chunk size negative"),
        pytest.param(chunked(YES, size=lambda _: "f" * 40), UNKNOWN, id="chunk size beyond belief"),
        pytest.param(chunked(HTML, end=b"").replace(b"200 OK", b"403 No"), UNKNOWN, id="403, no last chunk"),
        pytest.param(words(YES, "Transfer-Encoding: gzip, chunked"), UNKNOWN, id="transfer coding not asked for"),
        pytest.param(endless(), PAID, id="no length, closed"),
        pytest.param(endless(version="1.0"), PAID, id="HTTP/1.0, closed"),
        pytest.param(endless(version="1.0", body=YES[:-9]), UNKNOWN, id="HTTP/1.0, cut by a close"),
        pytest.param(endless(version="1.0", body=NO[:-9]), UNKNOWN, id="HTTP/1.0, decline cut by a close"),
        pytest.param(endless(body=b""), UNKNOWN, id="no length, no body"),
    ],
)  # fmt: skip
async def test_length_of_the_body(bench, raw, verdict):
    """A body counts when it came whole by HTTP's own rules, and then by what it says."""
    assert (await answered(bench, raw)).verdict is verdict


async def test_no_length_and_reset(bench):
    """Without a length a reset is no end: it may have been cut anywhere."""
    assert (await answered(bench, endless(), Kind.RESET)).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (words(YES, "Content-Length: 500"), "timeout"),
        (chunked(YES, end=b""), "timeout"),
        (endless(), "timeout"),
        (GO_ON, "timeout"),
    ],
    ids=["length too great", "no last chunk", "no length", "100"],
)
async def test_the_rest_does_not_come(bench, raw, detail):
    """The connection stays open and the end is missing: the time limit says unknown."""
    answer = await bench.pay_until_struck(Fault(Way.ANSWER, 0, Kind.FREEZE, instead=raw))
    assert (answer.verdict, answer.detail) == (UNKNOWN, detail)


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close", "X: y"])
async def test_whole_and_left_open(bench, header):
    """A whole answer counts at once; nobody waits for the connection's end."""
    assert (await answered(bench, words(YES, header), Kind.FREEZE)).verdict is PAID


# -- what the body is --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        pytest.param(words(gzip.compress(YES), "Content-Encoding: gzip"), UNKNOWN, id="gzip, not asked for"),
        pytest.param(words(gzip.compress(YES)), UNKNOWN, id="gzip, not said"),
        pytest.param(words(YES, "Content-Encoding: gzip"), PAID, id="gzip said, and none"),
        pytest.param(words(b"\xef\xbb\xbf" + YES), PAID, id="BOM"),
        pytest.param(words(YES.decode().encode("utf-16")), UNKNOWN, id="UTF-16"),
        pytest.param(words(b"\r\n " + YES + b"\r\n"), PAID, id="blanks around it"),
        pytest.param(words(YES + b"x"), UNKNOWN, id="a letter behind it"),
        pytest.param(words(YES + NO), UNKNOWN, id="two objects"),
        pytest.param(words(YES.replace(b'"', b"'")), UNKNOWN, id="single quotes"),
        pytest.param(words(YES.replace(b"[]", b"[],")), UNKNOWN, id="trailing comma"),
        pytest.param(words(YES.replace(b": 1", b": 1e0")), UNKNOWN, id="status 1e0"),
        pytest.param(words(YES.replace(b": 1", b': "1 "')), UNKNOWN, id="status '1 '"),
        pytest.param(words(YES.replace(b": 1", b': "01"')), UNKNOWN, id="status '01'"),
        pytest.param(words(YES.replace(b": 1", b": 01")), UNKNOWN, id="status 01"),
        pytest.param(words(YES.replace(b": 1", b': "+1"')), UNKNOWN, id="status '+1'"),
        pytest.param(words(YES.replace(b": 1", b": NaN")), UNKNOWN, id="status NaN"),
        pytest.param(words(YES.replace(b": 1", b": " + b"1" * 5000)), UNKNOWN, id="status of 5000 digits"),
        pytest.param(words(b'{"a":' * 5000 + YES + b"}" * 5000), UNKNOWN, id="deep JSON"),
        pytest.param(words(YES.replace(b"123456", b" ")), UNKNOWN, id="blank refID"),
        pytest.param(words(YES.replace(b"refID", b"refId")), UNKNOWN, id="no refID"),
        pytest.param(words(YES.replace(b"123456", b"\\ud800")), UNKNOWN, id="half a character as refID"),
        pytest.param(words(YES.replace(b'"refID"', b'"refID": "9", "refID"')), UNKNOWN, id="two refIDs"),
        pytest.param(words(YES, "Content-Type: text/html; charset=windows-1256"), PAID, id="JSON said to be HTML"),
        pytest.param(words(b"<!-- -->" + YES), UNKNOWN, id="HTML with JSON in it"),
    ],
)  # fmt: skip
async def test_body(bench, raw, verdict):
    """JSON of the documented form counts, whatever the headers call it; anything looser is unknown."""
    assert (await answered(bench, raw)).verdict is verdict


# -- redirects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_redirect(bench, status, where):
    """Never followed, not even to the same address: that would be a second `pay`."""
    async with GatewaySimulator("another's") as other:
        there = (bench.proxy.url if where == "here" else other.url) + "/pay"
        answer = await answered(bench, words(b"", f"Location: {there}", status=f"{status} Go"))
        assert (answer.verdict, answer.detail) == (UNKNOWN, f"unclear-answer-http-{status}")
        assert not other.requests


# -- every status ------------------------------------------------------------------------------------

REFUSALS = (400, 401, 403, 404, 405, 413, 422, 429)  # gateway-api.md, the third line of the table
BODIES = {"empty": b"", "HTML": HTML, "status 0": NO, "status 1": YES}


def by_the_words(status: int, body: bytes) -> Verdict:
    """The table's words, in its order; a yes under a status that says no is a contradiction, so unknown."""
    if status < 200:  # no answer yet, and none came after it
        return UNKNOWN
    if status in (204, 304):  # has no body, whatever follows it on the wire
        return UNKNOWN
    if body is NO:
        return DECLINED
    if body is YES:
        return PAID if status < 300 else UNKNOWN
    return FAILED if status in REFUSALS else UNKNOWN


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_every_known_status_on_the_wire(bench, body):
    """Each status that has a name, with this body."""
    found = {}
    for status in HTTPStatus:
        found[status] = (await answered(bench, words(body, status=f"{status:d} {status.phrase}"))).verdict
    assert found == {status: by_the_words(status, body) for status in HTTPStatus}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_final_status(body):
    """Each number from 200 to 599, as it is read."""
    numbers = [number for number in range(200, 600) if number not in (204, 304)]
    found = {number: read_pay(Exchange(True, number, body), [PAN]).verdict for number in numbers}
    assert found == {number: by_the_words(number, body) for number in numbers}


# -- answers that contradict themselves --------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(422, b'{"status": 0, "data": {"refID": "123456"}}', id="422: no, with a tracking number"),
        pytest.param(422, b'{"status": 0, "data": {"transactionStatus": "00"}}', id="422: no, with code 00"),
        pytest.param(422, b'{"status": 0, "status": 1, "data": {"refID": "123456"}}', id="422: no and yes"),
        pytest.param(422, YES.replace(b": 1", b": 1.0"), id="422: yes, as 1.0"),
        pytest.param(200, b'{"status": 0, "data": {"transactionStatus": 0}}', id="no, with code 0"),
        pytest.param(200, b'{"status": 0, "data": {"transactionStatus": []}}', id="no, with a code that is none"),
        pytest.param(200, YES.replace(b"[]", b"NaN"), id="yes, in what is no JSON"),
    ],
)  # fmt: skip
def test_contradiction(status, body):
    """Decision 1: an answer that contradicts itself is unknown; gateway-api.md: anything looser is unknown."""
    assert read_pay(Exchange(True, status, body), [PAN]).verdict is UNKNOWN
