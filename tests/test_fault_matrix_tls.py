"""The fault matrix under TLS, with real certificates.

"A byte was written" must mean a byte of the HTTP request: whatever goes wrong before the handshake is done is failed,
with nothing of a card on the wire; whatever goes wrong after it is what it would be without TLS.
"""

import asyncio
import ssl
import warnings
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
import trustme
from faultbench import LIMITS, SEQUENCE, Bench
from faultproxy import Fault, FaultProxy, Kind, Way
from test_fault_matrix import KINDS, ONE_OF_EACH, Place, check_money, strike

from ivr_agi import https
from ivr_agi.model import Verdict
from ivr_agi.simulator.gateway import GatewaySimulator

PAID, FAILED, UNKNOWN = Verdict.PAID, Verdict.FAILED, Verdict.UNKNOWN
DAY = timedelta(days=1)
GOODBYE = 24  # bytes of a record of TLS 1.3 with an alert in it
CA = trustme.CA()


def trusting(authority: trustme.CA = CA) -> ssl.SSLContext:
    """What the client is given in production, and this CA."""
    context = https._verified_by.__wrapped__()  # one of our own: nobody changes what is shared
    authority.configure_trust(context)
    return context


def serving(*names: str, authority: trustme.CA = CA, **given) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ["127.0.0.1"]), **given).configure_cert(context)
    return context


TRUSTING, SERVING = trusting(), serving()


@asynccontextmanager
async def ended_at_the_proxy(context: ssl.SSLContext = SERVING):
    """The proxy ends TLS with this context: faults are counted in bytes of HTTP."""
    async with GatewaySimulator(SEQUENCE) as gateway, FaultProxy(gateway.url, tls=context) as proxy:
        yield Bench(gateway, proxy, TRUSTING)


@asynccontextmanager
async def carried_through(context: ssl.SSLContext = SERVING):
    """The stand-in ends TLS, the proxy carries it unread: faults are counted in bytes on the wire."""
    gateway = GatewaySimulator(SEQUENCE)
    await gateway.start(ssl=context)
    try:
        async with FaultProxy(gateway.url, secure=True) as proxy:
            yield Bench(gateway, proxy, TRUSTING)
    finally:
        await gateway.stop()


@pytest.fixture
async def bench():
    async with ended_at_the_proxy() as opened:
        yield opened


# -- certificates ------------------------------------------------------------------------------------


def self_signed() -> ssl.SSLContext:
    lonely, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lonely.issue_cert("127.0.0.1").configure_cert(context)
    with lonely.cert_pem.tempfile() as certificate, lonely.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


def old_fashioned() -> ssl.SSLContext:
    context = serving()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # just so
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


NOW = datetime.now(UTC)
HAS_TLS_1_1 = pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="this OpenSSL cannot even serve TLS 1.1")


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        pytest.param(partial(serving, not_before=NOW - 9 * DAY, not_after=NOW - DAY), "has expired", id="expired"),
        pytest.param(partial(serving, not_before=NOW + DAY, not_after=NOW + 9 * DAY), "not yet", id="not yet valid"),
        pytest.param(partial(serving, "gateway.test"), "address mismatch", id="another's name"),
        pytest.param(partial(serving, "127.0.0.2"), "address mismatch", id="another's address"),
        pytest.param(partial(serving, authority=trustme.CA()), "get local issuer", id="unknown CA"),
        pytest.param(partial(serving, authority=trustme.CA().create_child_ca()), "get local issuer", id="CA below it"),
        pytest.param(self_signed, "self.signed", id="self-signed"),
        pytest.param(old_fashioned, "(?i)protocol", id="TLS 1.1 only", marks=HAS_TLS_1_1),
    ],
)  # fmt: skip
async def test_not_to_be_trusted(serve, why):
    """Failed, and not a byte of a request was sent; OpenSSL says why it is meant to be so."""
    async with ended_at_the_proxy(serve()) as bench:
        port = urlsplit(bench.proxy.url).port
        with pytest.raises(ssl.SSLError, match=why):
            await asyncio.open_connection("127.0.0.1", port, ssl=TRUSTING)
        answer = await bench.pay()
        assert (answer.verdict, answer.detail) == (FAILED, "tls-error")
        await bench.carried.over.wait()
        assert len(bench.proxy.connections) == 2
        assert bench.carried.turned_down
        assert not bench.carried.request
        assert not bench.payments


@pytest.mark.parametrize("authority", [CA, CA.create_child_ca()], ids=["CA", "CA below it"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_to_be_trusted(authority, version):
    """The same machinery with nothing wrong: paid."""
    context = serving(authority=authority)
    context.minimum_version = context.maximum_version = version
    async with ended_at_the_proxy(context) as bench:
        assert (await bench.pay()).verdict is PAID
        assert not bench.carried.turned_down


async def test_no_tls_at_the_other_end():
    """Plain HTTP where TLS is expected: failed, and the far side has seen a handshake, not a card."""
    async with (
        GatewaySimulator(SEQUENCE) as gateway,
        FaultProxy(gateway.url, secure=True) as proxy,
    ):
        answer = await Bench(gateway, proxy, TRUSTING).pay()
        assert (answer.verdict, answer.detail) == (FAILED, "tls-error")
        assert proxy.last.request
        assert b"HTTP" not in proxy.last.request
        assert [request.service for request in gateway.requests] == ["otp-v2"]


async def test_tls_where_none_was_meant():
    """Plain HTTP to a port that speaks TLS: bytes have left, so it is unknown."""
    async with carried_through() as bench:
        answer = await bench.pay(bench.proxy.url.replace("https", "http"))
        assert answer.verdict is UNKNOWN
        assert not bench.payments


# -- a client's certificate --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "verdict"),
    [(ssl.TLSVersion.TLSv1_2, FAILED), (ssl.TLSVersion.TLSv1_3, UNKNOWN)],
    ids=["1.2", "1.3"],
)
async def test_gateway_wants_a_certificate(version, verdict):
    """TLS 1.2 says so within the handshake. TLS 1.3 says so when our request may be on its way.

    In TLS 1.3 the client is done before the server has looked at what it sent. The refusal is an alert that comes
    in place of an answer, and an alert could as well follow a request that was read: unknown.
    """
    context = serving()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    async with ended_at_the_proxy(context) as bench:
        answer = await bench.pay()
        assert (answer.verdict, answer.detail) == (verdict, "tls-error")
        assert bench.carried.turned_down == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        assert not bench.carried.request
        assert not bench.payments


# -- faults in the handshake -------------------------------------------------------------------------


def records(raw: bytes) -> list[int]:
    """Where each TLS record ends."""
    ends = [0]
    while ends[-1] < len(raw):
        ends.append(ends[-1] + 5 + int.from_bytes(raw[ends[-1] + 3 : ends[-1] + 5]))
    return ends[1:]


def last_words(raw: bytes) -> tuple[int, int]:
    """Where the last record that says something begins and ends: behind it there may be a goodbye, always of one length."""
    ends = records(raw)
    said = [(begin, end) for begin, end in pairwise(ends) if end - begin != GOODBYE]
    return said[-1]


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.RESET, Kind.FREEZE])
@pytest.mark.parametrize(
    ("way", "after"),
    [
        *[(Way.REQUEST, after) for after in (0, 1, 5, 100, "hello")],
        *[(Way.ANSWER, after) for after in (0, 1, 5, 100, "hello", 500)],
    ],
)
async def test_fault_in_the_handshake(way, after, kind):
    """Failed, and nothing but a handshake has left; what thaws later finds the client gone."""
    async with carried_through() as bench:
        assert (await bench.pay()).verdict is PAID
        first = records(getattr(bench.carried, way))[0]
        fault = Fault(way, first if after == "hello" else after, kind)
        if kind is Kind.FREEZE:
            answer = await bench.pay_until_struck(fault)
            assert answer.detail == "timeout"
        else:
            bench.proxy.arm(fault)
            answer = await bench.pay()
        assert bench.carried.struck
        assert answer.verdict is FAILED
        bench.proxy.thawed.set()
        await bench.carried.over.wait()
        assert bench.payments == 1  # the rehearsal's


@pytest.mark.parametrize(
    "instead", [b"\x15\x03\x03\x00\x02\x02\x50", b"\x16\x03\x03\x00\x04junk", b"\x00" * 50], ids=["alert", "junk", "zeros"]
)  # fmt: skip
async def test_garbage_in_the_handshake(instead):
    """An alert, or what is no TLS at all, in place of the server's hello: failed."""
    async with carried_through() as bench:
        bench.proxy.arm(Fault(Way.ANSWER, 0, Kind.CLOSE, instead=instead))
        answer = await bench.pay()
        assert (answer.verdict, answer.detail) == (FAILED, "tls-error")
        assert not bench.payments


@pytest.mark.parametrize(("way", "after"), [(Way.REQUEST, 0), (Way.REQUEST, 100), (Way.ANSWER, 100)])
async def test_slow_handshake(way, after):
    """A handshake that comes to its end in time changes nothing."""
    async with carried_through() as bench:
        bench.proxy.arm(Fault(way, after, Kind.DELAY))
        assert (await bench.pay()).verdict is PAID


# -- faults after the handshake ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, Kind.FAREWELL])
@pytest.mark.parametrize("place", list(Place)[1:])
@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.name)
async def test_fault(bench, row, place, kind):
    """As without TLS; and a goodbye in TLS's own words is no answer either."""
    sizes, _fault, answer = await strike(bench, row, place, kind)
    await check_money(bench, row, sizes, answer.verdict)


@pytest.fixture(scope="module")
def even():
    """A server whose handshakes are all of one length: RSA's signatures are, ECDSA's are not."""
    return serving(key_type=trustme.KeyType.RSA)


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("place", ["header", "middle", "last byte"])
async def test_cut_in_a_record(even, way, place):
    """Cut within the last record of either side: nobody can read what came of it, so it is unknown."""
    async with carried_through(even) as bench:
        assert (await bench.pay()).verdict is PAID
        begin, end = last_words(getattr(bench.carried, way))
        after = {"header": begin + 3, "middle": (begin + end) // 2, "last byte": end - 1}[place]
        bench.proxy.arm(Fault(way, after, Kind.RESET))
        assert (await bench.pay()).verdict is UNKNOWN
        assert bench.payments == len(bench.gateway.charges) == (2 if way is Way.ANSWER else 1)


@pytest.mark.parametrize("way", Way)
async def test_record_that_was_tampered_with(even, way):
    """A request that does not verify is not acted on, an answer that does not is none: unknown, both."""
    async with carried_through(even) as bench:
        assert (await bench.pay()).verdict is PAID
        begin, end = last_words(getattr(bench.carried, way))
        middle = (begin + end) // 2
        bench.proxy.arm(Fault(way, middle, Kind.HALF_CLOSE, instead=bytes(end - middle)))
        assert (await bench.pay()).verdict is UNKNOWN
        assert bench.payments == len(bench.gateway.charges) == (2 if way is Way.ANSWER else 1)


async def test_nothing_leaves_after_failed():
    """A handshake that is done after the time limit has said failed carries no request."""
    async with ended_at_the_proxy() as bench:
        await bench.proxy.swallow()
        assert (await bench.pay(limit=LIMITS[0])).verdict is FAILED
        await bench.proxy.open()
        assert (await bench.pay()).verdict is PAID
        assert len(bench.proxy.connections) == bench.payments == 1
