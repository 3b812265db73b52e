"""The fault matrix: each row of the verdict table, with the fault at each place and of each kind.

Over real sockets. What is expected is worked out from gateway-api.md's words, not from the code: `expected`
below. What decides about money is checked apart from it, in `check_money`, against what has
reached the far side and what that has charged. TLS is in
test_fault_matrix_tls.py, what HTTP has to offer in test_fault_matrix_http.py.
"""

import asyncio
import itertools
import json
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faultbench import IN_TIME, LIMITS, open_bench
from faultproxy import Fault, FaultProxy, Kind, Way
from line import open_line, until

from ivr_agi.model import Verdict
from ivr_agi.simulator.gateway import Outcome, Rule

PAID, DECLINED, FAILED, UNKNOWN = Verdict.PAID, Verdict.DECLINED, Verdict.FAILED, Verdict.UNKNOWN


@pytest.fixture
async def bench():
    async with open_bench() as opened:
        yield opened


# -- the table --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the verdict table: what the stand-in does when asked, and the verdict on its whole answer."""

    name: str
    outcome: Outcome
    verdict: Verdict

    @property
    def charges(self) -> bool:
        return self.outcome.charge or self.outcome == Outcome()


def answers(body: object, *, status: int = 200, charge: bool = False) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Outcome(status=status, body=raw, charge=charge)


ROWS = [
    Row("paid", Outcome(), PAID),
    Row("paid, in an array", answers({"status": "1", "data": [{"refID": "123"}]}, charge=True), PAID),
    Row("declined", Outcome(code="5"), DECLINED),
    Row("declined without a code", answers({"status": 0, "data": [], "errors": ["no"]}), DECLINED),
    Row("declined under HTTP 500", answers({"status": 0, "data": {"transactionStatus": "51"}}, status=500), DECLINED),
    Row("HTTP 403", answers(b"<html>no</html>", status=403), FAILED),
    Row("HTTP 422", answers({"message": "The pan field is required."}, status=422), FAILED),
    Row("paid, refID 0", answers({"status": 1, "data": {"refID": "0"}}, charge=True), UNKNOWN),
    Row("another status", answers({"status": 7, "data": {"refID": "123"}}, charge=True), UNKNOWN),
    Row("cut JSON", answers(b'{"status": 1, "data": {"refID": "12', charge=True), UNKNOWN),
    Row("HTTP 502", answers(b"<html>502</html>", status=502, charge=True), UNKNOWN),
]  # fmt: skip
ONE_OF_EACH = [row for row in ROWS if row.name in ("paid", "declined", "HTTP 403", "HTTP 502")]


class Place(StrEnum):
    """Where the fault strikes."""

    BEFORE_CONNECT = "before connect"
    CONNECTED = "connected"  # and not a byte of the request
    FIRST_BYTE = "first byte"
    MID_REQUEST = "mid-request"
    WHOLE_REQUEST = "whole request"
    MID_HEADERS = "mid-headers"
    MID_BODY = "mid-body"
    WHOLE_ANSWER = "whole answer"


KINDS = [Kind.CLOSE, Kind.RESET, Kind.FREEZE, Kind.DELAY]


def expected(row: Row, place: Place, kind: Kind) -> Verdict:
    """The words: no byte written is failed; without a whole answer it is unknown; a whole answer is what it says."""
    if kind is Kind.DELAY or place is Place.WHOLE_ANSWER:
        return row.verdict
    return FAILED if place is Place.BEFORE_CONNECT else UNKNOWN


# -- the machinery of a case ------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Bytes of a whole exchange."""

    request: int
    mid_request: int
    mid_headers: int
    mid_body: int
    answer: int

    @classmethod
    def of(cls, carried) -> "Sizes":
        request, answer = carried.request, carried.answer
        body, answered = request.index(b"\r\n\r\n") + 4, answer.index(b"\r\n\r\n") + 4
        half_of_answer = (answered + len(answer)) // 2
        return cls(len(request), (body + len(request)) // 2, answered // 2, half_of_answer, len(answer))

    def fault(self, place: Place, kind: Kind) -> Fault:
        way, after = {
            Place.CONNECTED: (Way.REQUEST, 0),
            Place.FIRST_BYTE: (Way.REQUEST, 1),
            Place.MID_REQUEST: (Way.REQUEST, self.mid_request),
            Place.WHOLE_REQUEST: (Way.REQUEST, self.request),
            Place.MID_HEADERS: (Way.ANSWER, self.mid_headers),
            Place.MID_BODY: (Way.ANSWER, self.mid_body),
            Place.WHOLE_ANSWER: (Way.ANSWER, self.answer),
        }[place]
        return Fault(way, after, kind)


REHEARSED: dict[tuple[str, int], Sizes] = {}


async def rehearse(bench, row) -> Sizes:
    """Let the stand-in do as the row says, and know the sizes: from a whole exchange, run the first time."""
    bench.gateway.rules.append(Rule(row.outcome, service="pay"))
    key = row.name, len(bench.proxy.url)  # the port is part of the request
    if key not in REHEARSED:
        assert (await bench.pay()).verdict is row.verdict
        REHEARSED[key] = Sizes.of(bench.carried)
    return REHEARSED[key]


async def check_money(bench, row, sizes, verdict) -> None:
    """What was charged is never called declined or failed, and nothing that the gateway may act on is called failed.

    Of the last order. The far side is given the time to do what it was asked.
    """
    reached = bench.carried.request
    if len(reached) == sizes.request:
        async with asyncio.timeout(IN_TIME):
            await bench.gateway.arrived.wait()
    charged = [charge for charge in bench.gateway.charges if charge.order_id == f"A-{bench.orders}"]
    assert len(charged) == (row.charges and len(reached) == sizes.request)
    if charged:
        assert verdict in (PAID, UNKNOWN)
    if verdict is FAILED and reached:
        assert row.verdict is FAILED
        assert len(bench.carried.answer) == sizes.answer
    assert bench.payments <= bench.orders
    assert len(bench.proxy.connections) <= bench.orders


async def strike(bench, row, place, kind):
    """Pay with a fault at this place, which gives the table's verdict; returns sizes, fault and answer."""
    sizes = await rehearse(bench, row)
    fault = sizes.fault(place, kind)
    if kind is Kind.FREEZE and place is not Place.WHOLE_ANSWER:
        answer = await bench.pay_until_struck(fault)
        assert answer.detail == "timeout"
    else:
        bench.proxy.arm(fault)
        answer = await bench.pay()
    assert bench.carried.struck
    assert answer.verdict is expected(row, place, kind)
    return sizes, fault, answer


# -- row by place by kind ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", list(Place)[1:])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_fault(bench, row, place, kind):
    """A fault at this place gives the table's verdict, and the money agrees with it."""
    sizes, fault, answer = await strike(bench, row, place, kind)
    carried = bench.carried
    if kind is not Kind.DELAY:  # the proxy has carried no more than it was told
        assert (len(carried.request), len(carried.answer)) == (
            (fault.after, 0) if fault.way is Way.REQUEST else (sizes.request, fault.after)
        )
    await check_money(bench, row, sizes, answer.verdict)


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.RESET, Kind.FREEZE])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_fault_before_connect(bench, row, kind):
    """Refused, unreachable or unanswered: no byte left, failed, whatever the gateway would have said."""
    sizes = await rehearse(bench, row)
    url, limit = "", IN_TIME
    if kind is Kind.CLOSE:
        await bench.proxy.refuse()
    elif kind is Kind.RESET:
        url = "http://224.0.0.1/api/ivr/bpm"  # no TCP goes to a multicast address: unreachable at once
    else:
        await bench.proxy.swallow()
        limit = LIMITS[0]
    answer = await bench.pay(url, limit=limit)
    assert answer.verdict is expected(row, Place.BEFORE_CONNECT, kind) is FAILED
    assert answer.detail == ("timeout" if kind is Kind.FREEZE else "connect-error")
    await check_money(bench, row, sizes, answer.verdict)


def knocking() -> set[str]:
    """The ports at which somebody waits for a door to open (SYN_SENT, in the kernel's own table)."""
    states = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()]
    return {str(int(there[-4:], 16)) for _, there, state in states if state == "02"}


def port_of(bench) -> str:
    return str(urlsplit(bench.proxy.url).port)


async def test_delay_before_connect():
    """A connection that stands only at the kernel's second try changes nothing: all rows at once."""
    async with AsyncExitStack() as stack:
        benches = [await stack.enter_async_context(open_bench()) for _ in ROWS]
        sizes = [await rehearse(bench, row) for bench, row in zip(benches, ROWS, strict=True)]
        for bench in benches:
            await bench.proxy.swallow()
        paying = asyncio.gather(*(bench.pay() for bench in benches))
        await until(lambda: knocking() >= set(map(port_of, benches)))
        for bench in benches:
            await bench.proxy.open()
        for bench, row, size, answer in zip(benches, ROWS, sizes, await paying, strict=True):
            assert answer.verdict is expected(row, Place.BEFORE_CONNECT, Kind.DELAY)
            await check_money(bench, row, size, answer.verdict)


async def test_nothing_leaves_after_failed(bench):
    """Once the time limit has said failed, a door that opens after all is not gone through."""
    await bench.proxy.swallow()
    assert (await bench.pay(limit=LIMITS[0])).verdict is FAILED
    assert port_of(bench) not in knocking()
    await bench.proxy.open()
    assert (await bench.pay()).verdict is PAID
    assert len(bench.proxy.connections) == bench.payments == 1


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.name)
@pytest.mark.parametrize("way", Way)
async def test_half_close(bench, row, way):
    """One direction ends in the middle, the other goes on: a whole answer counts, half of one is unknown."""
    sizes = await rehearse(bench, row)
    place = Place.MID_BODY if way is Way.ANSWER else Place.MID_REQUEST
    bench.proxy.arm(sizes.fault(place, Kind.HALF_CLOSE))
    answer = await bench.pay()
    if way is Way.ANSWER:
        assert answer.verdict is UNKNOWN
        await check_money(bench, row, sizes, answer.verdict)
    else:  # half a request: the stand-in itself refuses it, over HTTP
        assert (answer.verdict, answer.detail) == (FAILED, "http-400")
        assert not [charge for charge in bench.gateway.charges if charge.order_id == f"A-{bench.orders}"]


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.name)
@pytest.mark.parametrize("way", Way)
async def test_trickle(bench, row, way):
    """Byte by byte, but in time: the row's verdict."""
    sizes = await rehearse(bench, row)
    bench.proxy.arm(Fault(way, 0, Kind.TRICKLE, seconds=0))
    answer = await bench.pay()
    assert answer.verdict is row.verdict
    await check_money(bench, row, sizes, answer.verdict)


async def test_trickle_beyond_the_limit(bench):
    """Bytes that keep coming do not hold the time limit up."""
    answer = await bench.pay_until_struck(Fault(Way.ANSWER, 0, Kind.TRICKLE, seconds=0.02))
    assert (answer.verdict, answer.detail) == (UNKNOWN, "timeout")
    assert bench.gateway.charges


# -- names ------------------------------------------------------------------------------------------


NAME = "gateway.test"


def resolve_by(monkeypatch, look_up):
    """Let our name be looked up by this coroutine function, which is given the port; returns who asked."""
    loop = asyncio.get_running_loop()
    others = loop.getaddrinfo
    asked = []

    async def getaddrinfo(host, port, **given):
        if host not in (NAME, NAME.encode()):
            return await others(host, port, **given)
        asked.append(host)
        return await look_up(port)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


def addresses(port, *found):
    """The answer of a name server."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


def named(url: str) -> str:
    return url.replace("127.0.0.1", NAME)


@pytest.mark.parametrize("why", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
async def test_name_does_not_resolve(bench, monkeypatch, why):
    """No such name, or a name server out of order: failed."""

    async def look_up(_port):
        raise socket.gaierror(why, "as the resolver says it")

    asked = resolve_by(monkeypatch, look_up)
    answer = await bench.pay(named(bench.proxy.url))
    assert (answer.verdict, answer.detail) == (FAILED, "connect-error")
    assert len(asked) == 1
    assert not bench.proxy.connections


async def test_name_server_is_silent(bench, monkeypatch):
    """The time limit is for the look-up, too, and nothing leaves when the name is known after all."""
    found = asyncio.Event()

    async def look_up(port):
        await found.wait()
        return addresses(port, "127.0.0.1")

    asked = resolve_by(monkeypatch, look_up)
    answer = await bench.pay(named(bench.proxy.url), limit=LIMITS[0])
    assert (answer.verdict, answer.detail) == (FAILED, "timeout")
    assert len(asked) == 1
    found.set()
    assert (await bench.pay()).verdict is PAID
    assert len(bench.proxy.connections) == bench.payments == 1


async def test_first_address_of_a_name_is_dead(bench, monkeypatch):
    """The second address is tried, for nothing was written to the first; the request leaves once."""

    async def look_up(port):
        return addresses(port, "127.0.0.2", "127.0.0.1")

    resolve_by(monkeypatch, look_up)
    assert (await bench.pay(named(bench.proxy.url))).verdict is PAID
    assert len(bench.proxy.connections) == bench.payments == len(bench.gateway.charges) == 1


async def test_name_that_is_none(bench):
    """What cannot be a name at all cannot have been written to: failed, and nothing raises."""
    assert (await bench.pay("http://xn--a/api")).verdict is FAILED


# -- whole calls ------------------------------------------------------------------------------------

SAID = {PAID: "paid", DECLINED: "error-5", FAILED: "failed", UNKNOWN: "unknown"}
CASES = list(itertools.product(ONE_OF_EACH, Place))


@pytest.mark.parametrize(
    ("row", "place", "kind"),
    [(row, place, (Kind.RESET, Kind.CLOSE)[number % 2]) for number, (row, place) in enumerate(CASES)],
    ids=[f"{row.name}-{place}" for row, place in CASES],
)
async def test_call(tmp_path, row, place, kind):
    """Journal, dialplan and caller agree on the verdict, and whoever calls again is charged once at most."""
    async with FaultProxy() as proxy, open_line(tmp_path, gateway_url=proxy.url) as line:
        proxy.target = line.gateway.url
        line.gateway.rules.append(Rule(row.outcome, service="pay"))
        key = f"call, {row.name}", len(proxy.url)
        if key not in REHEARSED:
            assert (await line.call(line.buyer(), "amount=50000&order_id=A-0")).status == row.verdict.upper()
            REHEARSED[key] = Sizes.of(proxy.last)
        sizes = REHEARSED[key]

        async def pin():  # otp-v2 has passed; now to `pay`
            if place is Place.BEFORE_CONNECT:
                await proxy.refuse()
            else:
                proxy.arm(sizes.fault(place, kind))
            return line.pin()()

        ended = await line.call(line.buyer(enter_pin=pin))
        verdict = expected(row, place, kind)
        assert ended.status == verdict.upper()
        assert line.attempts()[-1]["state"] == verdict
        assert set(ended.heard) & set(SAID.values()) == {SAID[verdict]}

        line.gateway.rules.clear()
        await proxy.open()
        again = await line.call(line.buyer())
        assert (again.status, again.reason) == {
            PAID: ("REFUSED", "already-paid"),
            UNKNOWN: ("REFUSED", "under-review"),
        }.get(verdict, ("PAID", ""))
        assert [charge.order_id for charge in line.gateway.charges].count("A-1") <= 1


async def test_call_with_a_frozen_answer(tmp_path):
    """Charged, and no answer in time: unknown to all, and the order is held."""
    async with FaultProxy() as proxy, open_line(tmp_path, gateway_url=proxy.url, pay_timeout=1) as line:
        proxy.target = line.gateway.url
        proxy.arm(Fault(Way.ANSWER, 0, Kind.FREEZE), skip=1)
        ended = await line.call(line.buyer())
        assert (ended.status, ended.reason) == ("UNKNOWN", "timeout")
        assert [attempt["state"] for attempt in line.attempts()] == ["unknown"]
        assert set(ended.heard) & set(SAID.values()) == {"unknown"}
        assert len(line.gateway.charges) == 1
        assert (await line.call(line.buyer())).reason == "under-review"
        await proxy.stop()
