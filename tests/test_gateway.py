"""The gateway's client: what leaves, and what each answer on the wire is taken for."""

import asyncio
import gzip
import json
import ssl

import pytest
import trustme

from ivr_agi import https
from ivr_agi.gateway import Exchange, Gateway, read_otp, read_pay
from ivr_agi.model import Method, Msisdn, OtpVerdict, Pan, Pin, Secret, Verdict
from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule

PAN = Pan("6037991234567893")
MOBILE = Msisdn("+989123456789")
SEQUENCE = "acd54b56ddd651a5cc3v"


def client(url, **given):
    """A client of the gateway at `url`; time limits that end a hanging test."""
    return Gateway(url, Secret(SEQUENCE), **{"otp_timeout": 5, "pay_timeout": 5, **given})


@pytest.fixture
async def gateway():
    async with GatewaySimulator(SEQUENCE) as simulator:
        yield simulator


async def pay(gateway, *, url="", pin=None, method=Method.IVR, **given):
    """Ask for a PIN, then pay with it (or with another)."""
    ours = client(url or gateway.url, **given)
    if pin is None:
        assert (await client(gateway.url).request_pin(PAN, 50000, "A-1")).verdict is OtpVerdict.SENT
        pin = gateway.pin_for("6037991234567893")
    return await ours.pay(method, PAN, Pin(pin), 50000, "A-1", MOBILE)


# -- what leaves ------------------------------------------------------------------------------------


async def test_fields_by_phone(gateway):
    """otp-v2 and pay carry the documented fields with the documented types, and nothing else."""
    answer = await pay(gateway)
    otp, paid = gateway.requests
    assert otp.body == {"amount": 50000, "pan": "6037991234567893", "order_id": "A-1", "sequence": SEQUENCE}
    pin = paid.body.pop("pin")
    assert isinstance(pin, str)
    assert paid.body == {
        "ivr": 1,
        "pan": "6037991234567893",
        "amount": 50000,
        "order_id": "A-1",
        "merchant_cid": "+989123456789",
        "sequence": SEQUENCE,
    }
    assert type(paid.body["amount"]) is int
    assert answer.verdict is Verdict.PAID
    assert answer.ref_id == gateway.charges[0].ref_id


async def test_fields_from_the_panel(gateway):
    """Method 2.2: ivr 0, invoice_id in place of order_id, and no amount."""
    answer = await pay(gateway, method=Method.WEB)
    body = gateway.requests[1].body
    assert answer.verdict is Verdict.PAID
    assert body["ivr"] == 0
    assert body["invoice_id"] == "A-1"
    assert not {"order_id", "amount"} & body.keys()


async def test_each_request_has_a_connection_of_its_own(gateway):
    """One client, three requests, three connections: `pay` never goes out on one that may be half closed."""
    connections = []
    gateway._http._on_accept = lambda: connections.append("one")
    ours = client(gateway.url)
    await ours.request_pin(PAN, 50000, "A-1")
    await ours.request_pin(PAN, 50000, "A-1")
    await ours.pay(Method.IVR, PAN, Pin("12345"), 50000, "A-1", MOBILE)
    assert len(connections) == len(gateway.requests) == 3


async def test_no_proxy_from_the_environment(gateway, monkeypatch):
    """A proxy named in the environment does not get to see a card."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await pay(gateway)).verdict is Verdict.PAID


# -- the table, row by row --------------------------------------------------------------------------

PAID = {"status": 1, "data": {"refID": "123456"}, "errors": []}
NO_51 = {"status": 0, "data": {"refID": "0", "transactionStatus": "51"}, "errors": []}


@pytest.mark.parametrize(
    ("status", "body", "verdict", "code"),
    [
        # paid: JSON with status 1 and a refID that is neither empty nor 0
        (200, PAID, "paid", ""),
        (200, PAID | {"status": "1"}, "paid", ""),
        (200, PAID | {"data": [{"refID": "123456"}]}, "paid", ""),
        (201, PAID, "paid", ""),
        # declined: JSON with status 0, with its code, if any
        (200, NO_51, "declined", "51"),
        (200, NO_51 | {"status": "0"}, "declined", "51"),
        (200, NO_51 | {"data": [{"refID": "0", "transactionStatus": "51"}]}, "declined", "51"),
        (200, {"status": 0, "data": {"refID": "0", "transactionStatus": "03"}}, "declined", "3"),
        (200, {"status": 0, "data": {"refID": "0", "transactionStatus": "999"}}, "declined", "999"),
        (200, {"status": 0, "data": [], "errors": ["x"]}, "declined", ""),
        (200, {"status": 0}, "declined", ""),
        (422, NO_51, "declined", "51"),
        (500, NO_51, "declined", "51"),
        # failed: refused over HTTP, without such JSON
        *[(status, b"", "failed", "") for status in (400, 401, 403, 404, 405, 413, 422, 429)],
        (403, b"<html>no</html>", "failed", ""),
        (422, {"message": "The pan field is required."}, "failed", ""),
        (200, b"\xef\xbb\xbf" + json.dumps(NO_51).encode(), "declined", "51"),
        (422, {"status": -9, "errors": ["x"]}, "failed", ""),
        # unknown: everything else
        (200, PAID | {"data": {"refID": "0"}}, "unknown", ""),
        (200, PAID | {"data": {"refID": ""}}, "unknown", ""),
        (200, PAID | {"data": {"refID": "  "}}, "unknown", ""),
        (200, PAID | {"data": {"refID": 123456}}, "unknown", ""),
        (200, PAID | {"data": {"refID": None}}, "unknown", ""),
        (200, PAID | {"data": {"refID": "1" * 65}}, "unknown", ""),
        (200, PAID | {"data": {"refID": "12\n34"}}, "unknown", ""),
        (200, PAID | {"data": {}}, "unknown", ""),
        (200, PAID | {"data": []}, "unknown", ""),
        (200, PAID | {"data": "123456"}, "unknown", ""),
        (200, PAID | {"data": [{"refID": "1"}, {"refID": "2"}]}, "unknown", ""),
        (200, PAID | {"data": [[{"refID": "1"}]]}, "unknown", ""),
        (200, PAID | {"status": True}, "unknown", ""),
        (200, PAID | {"status": 1.0}, "unknown", ""),
        (200, PAID | {"status": "1.0"}, "unknown", ""),
        (200, PAID | {"status": " 1"}, "unknown", ""),
        (200, PAID | {"status": "۱"}, "unknown", ""),
        (200, PAID | {"status": 2}, "unknown", ""),
        (200, PAID | {"status": -1}, "unknown", ""),
        (200, PAID | {"status": None}, "unknown", ""),
        (200, {"data": {"refID": "123456"}}, "unknown", ""),
        (200, NO_51 | {"status": False}, "unknown", ""),
        (200, NO_51 | {"data": "no"}, "unknown", ""),
        (200, NO_51 | {"data": {"refID": "123", "transactionStatus": "51"}}, "unknown", ""),
        (200, NO_51 | {"data": {"refID": "0", "transactionStatus": "00"}}, "unknown", ""),
        (200, NO_51 | {"data": {"transactionStatus": ["51"]}}, "unknown", ""),
        (200, NO_51 | {"data": {"transactionStatus": 51}}, "unknown", ""),
        (200, [PAID], "unknown", ""),
        (200, "paid", "unknown", ""),
        (200, 1, "unknown", ""),
        (200, b"", "unknown", ""),
        (200, b'{"status": 1, "data": {"refID": "12', "unknown", ""),
        (200, b'{"status": 0, "status": 1, "data": {"refID": "123456"}}', "unknown", ""),
        (200, b"\xff\xfe", "unknown", ""),
        (200, b"[" * 30_000, "unknown", ""),
        (200, b"<html>paid</html>", "unknown", ""),
        (204, b"", "unknown", ""),
        (302, PAID, "unknown", ""),
        (402, b"", "unknown", ""),
        (408, b"", "unknown", ""),
        (409, b"", "unknown", ""),
        (422, PAID, "unknown", ""),
        (500, b"", "unknown", ""),
        (500, PAID, "unknown", ""),
        (502, b"<html>bad gateway</html>", "unknown", ""),
        (503, b"", "unknown", ""),
        (504, b"", "unknown", ""),
    ],
)
def test_verdict_of_an_answer(status, body, verdict, code):
    """Each row of gateway-api.md's table, and the forms that come close to one."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = read_pay(Exchange(written=True, status=status, body=body), [PAN])
    assert (answer.verdict, answer.code) == (verdict, code)
    assert (answer.ref_id == "123456") is (verdict == "paid")


@pytest.mark.parametrize(("written", "verdict"), [(False, "failed"), (True, "unknown")])
def test_verdict_of_no_answer(written, verdict):
    """One byte written makes the difference between failed and unknown."""
    assert read_pay(Exchange(written, trouble="timeout"), [PAN]).verdict == verdict


def test_cut_body_of_a_refusal_is_unknown():
    """A 403 whose body did not come whole might have been anything."""
    assert (
        read_pay(Exchange(written=True, status=403, trouble="read-error"), [PAN]).verdict is Verdict.UNKNOWN
    )


def test_card_number_in_the_answer_is_masked():
    """The gateway's own words are kept, a card number in them is not."""
    body = {
        "status": 0,
        "data": [],
        "errors": ["card 6037991234567893, 6219 8611 2345 6786, pin ۱۲۳۴۵ refused"],
    }
    answer = read_pay(Exchange(written=True, status=200, body=json.dumps(body).encode()), [PAN])
    assert answer.detail == '["card [masked], pin [masked] refused"]'
    body = {"status": 1, "data": {"refID": "x6037991234567893"}}
    answer = read_pay(Exchange(written=True, status=200, body=json.dumps(body).encode()), [PAN])
    assert answer.ref_id == "x603799******7893"


# -- the same, over real sockets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [
        (Outcome(fault=Fault.RESET_AFTER_READ), "read-error"),
        (Outcome(fault=Fault.CLOSE_AFTER_READ), "remote-protocol-error"),
        (Outcome(fault=Fault.CUT_HEADERS), "remote-protocol-error"),
        (Outcome(fault=Fault.CUT_BODY), "remote-protocol-error"),
        (Outcome(fault=Fault.REDIRECT), "unclear-answer-http-307"),
        (Outcome(status=502, body=b"<html>502</html>", content_type="text/html"), "unclear-answer-http-502"),
        (Outcome(body=b"x" * 100_000), "too-long"),
    ],
)
async def test_fault_after_the_request(gateway, outcome, detail):
    """Whatever happens once a byte was written is unknown, and `pay` is sent once."""
    gateway.rules.append(Rule(outcome, service="pay"))
    answer = await pay(gateway)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.detail == detail
    assert [request.service for request in gateway.requests] == ["otp-v2", "pay"]


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.DRIP])
async def test_no_answer_in_time(gateway, fault):
    """The time limit is for the whole answer: one that drips does not hold the caller for ever."""
    gateway.rules.append(Rule(Outcome(fault=fault, delay=10), service="pay"))
    answer = await pay(gateway, pay_timeout=0.3)
    assert (answer.verdict, answer.detail) == (Verdict.UNKNOWN, "timeout")


async def test_slow_but_whole(gateway):
    """An answer that drips, but comes whole in time, counts."""
    gateway.rules.append(Rule(Outcome(fault=Fault.DRIP), service="pay"))
    assert (await pay(gateway)).verdict is Verdict.PAID


async def test_nobody_listens(gateway):
    """A refused connection: not one byte left, failed."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    answer = await pay(gateway, url=f"http://127.0.0.1:{port}", pin="123456")
    assert (answer.verdict, answer.detail) == (Verdict.FAILED, "connect-error")


async def test_no_such_host(gateway):
    """A name that does not resolve: failed."""
    answer = await pay(gateway, url="https://gateway.invalid/api", pin="123456")
    assert answer.verdict is Verdict.FAILED


async def test_accepted_and_nothing_read(gateway):
    """TCP took the request's bytes, whoever read them: unknown, although nothing was charged."""
    gateway.rules.append(Rule(Outcome(fault=Fault.RESET_ON_ACCEPT)))
    answer = await pay(gateway, pin="123456")
    assert answer.verdict is Verdict.UNKNOWN
    assert not gateway.requests


@pytest.fixture
async def tls_gateway():
    """A gateway with a certificate for 127.0.0.1 of a CA of its own."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    simulator = GatewaySimulator(SEQUENCE)
    await simulator.start(ssl=server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    yield simulator, trusting
    await simulator.stop()


async def test_tls(tls_gateway):
    """With the CA known, the request goes through."""
    gateway, trusting = tls_gateway
    answer = await client(gateway.url, tls=trusting).pay(Method.IVR, PAN, Pin("12345"), 1, "A", MOBILE)
    assert answer.code == "55"


async def test_tls_keys_are_not_logged(monkeypatch, tmp_path):
    """SSLKEYLOGFILE would put the keys of the card's encryption on a disk."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))  # made for it, and now
    assert not https.verified_tls().keylog_filename


async def test_tls_is_verified(tls_gateway):
    """An unknown CA ends it before a byte of the request: failed, and the gateway saw no card."""
    gateway, _ = tls_gateway
    answer = await client(gateway.url).pay(Method.IVR, PAN, Pin("12345"), 1, "A", MOBILE)
    assert (answer.verdict, answer.detail) == (Verdict.FAILED, "tls-error")
    assert not gateway.requests


# -- otp-v2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (
            Exchange(written=True, status=200, body=b'{"status": 1, "data": [], "errors": []}'),
            OtpVerdict.SENT,
        ),
        (Exchange(written=True, status=200, body=b'{"status": "1"}'), OtpVerdict.SENT),
        (Exchange(written=True, status=200, body=b'{"status": 0, "errors": ["x"]}'), OtpVerdict.REFUSED),
        (Exchange(written=True, status=200, body=b'{"status": 7}'), OtpVerdict.REFUSED),
        (Exchange(written=True, status=403, body=b""), OtpVerdict.REFUSED),
        (Exchange(written=False, trouble="connect-error"), OtpVerdict.FAILED),
        (Exchange(written=True, trouble="timeout"), OtpVerdict.UNCLEAR),
        (Exchange(written=True, status=200, body=b"<html>"), OtpVerdict.UNCLEAR),
        (Exchange(written=True, status=502, body=b'{"status": 1}'), OtpVerdict.UNCLEAR),
    ],
)
def test_verdict_on_otp(exchange, verdict):
    """Only status 1 is a PIN on its way."""
    assert read_otp(exchange, [PAN]).verdict is verdict


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"sta',
        b'<html>"refID": "5"</html>',
        b'<html>{"status": 1}</html>',
        b'{"status": "x", "refID": "5"}',
        b'{"status": 1.0, "message": "x"}',
        rb'{"r\u0065fID": "5"}',
        b"\xef\xbb\xbf" + rb'{"r\u0065fID": "5"}',
        b'[{"status": 1}]',
        b'["a", ',
        b'Warning: x in y.php\n{"sta',
        rb'"{\"status\": 1}"',
        '{"status": 1}'.encode("utf-16"),
        gzip.compress(b'{"status": 1}', mtime=0),
    ],
)
def test_refusal_that_speaks_of_a_payment(body):
    """A 4xx that says, or may go on to say, that something was paid or declined is no clear refusal."""
    assert read_pay(Exchange(written=True, status=422, body=body), [PAN]).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("body", [b"", b"<html>no such page {x}</html>", b'{"message": "bad amount"}', b"[]"])
def test_refusal_that_does_not(body):
    """One that speaks of no payment is: nothing was charged."""
    assert read_pay(Exchange(written=True, status=422, body=body), [PAN]).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("ref_id", "kept"),
    [
        ("700123555012", "700123555012"),
        ("R" + PAN.reveal()[::-1], "[masked]"),
        (PAN.reveal()[3:12], "[masked]"),
        ("90817264", "[masked]"),
        ("9081-7264", "[masked]"),
        ("A-90817264-B", "[masked]"),
        ("1290817264", "1290817264"),  # inside of a longer number it is chance
        ("secret-of-letters", "[masked]"),
    ],
)
def test_tracking_number_that_repeats_a_secret(ref_id, kept):
    """Paid it is; what cannot be told from a secret of ours is not kept."""
    secrets = [PAN, Pin("90817264"), Secret("secretofletters")]
    body = json.dumps({"status": 1, "data": {"refID": ref_id}}).encode()
    answer = read_pay(Exchange(written=True, status=200, body=body), secrets)
    assert (answer.verdict, answer.ref_id) == (Verdict.PAID, kept)


def test_sequence_of_letters_in_the_gateways_words():
    """A credential without a digit is masked there as well."""
    body = b'{"status": 0, "data": [], "errors": ["no such terminal: secretofletters"]}'
    answer = read_pay(Exchange(written=True, status=200, body=body), [Secret("secretofletters")])
    assert "secretofletters" not in answer.detail


async def test_paid_with_a_number_that_is_masked(line):
    """Somebody has to look: the bank's own number is not in the journal."""
    line.gateway.rules.append(
        Rule(
            Outcome(body=json.dumps({"status": 1, "data": {"refID": PAN.reveal()[::-1]}}).encode()),
            service="pay",
        )
    )
    assert (await line.call(line.buyer())).status == "PAID"
    row = line.attempts()[0]
    assert (row["state"], row["ref_id"], row["review"]) == ("paid", "[masked]", "check")
