"""The wire below all requests: what leaves and when, what is taken for an answer, and that nothing stays open."""

import asyncio
import gc
import socket
import ssl
import traceback
import weakref
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from faultproxy import NO_LINGER, FaultProxy
from line import until
from test_fault_matrix import knocking

from ivr_agi import exchange, https
from ivr_agi.exchange import LEAVING, MOST_UNREAD, FreshConnections

CARD = "6037991234567893"
NAME = "gateway.test"
CA = trustme.CA()
TRUSTING = ssl.create_default_context()
CA.configure_trust(TRUSTING)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"


def serving() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    CA.issue_cert("127.0.0.1", NAME).configure_cert(context)
    return context


class Peer(asyncio.Protocol):
    """One connection as the other side has it. heard: what came; over: once it has ended."""

    def __init__(self, peers, says, ends):
        self.heard, self.over, self.transport = b"", asyncio.Event(), None
        self._says, self._ends = says, ends
        peers.append(self)

    def connection_made(self, transport):
        self.transport = transport
        if self._ends == "early":
            transport.write(self._says)

    def data_received(self, chunk):
        self.heard += chunk
        if self._ends == "hang up":
            self.transport.close()
        if self.heard.endswith(b"}") and self._ends != "early":
            self.transport.write(self._says)
            if self._ends == "close":
                self.transport.close()
            elif self._ends == "reset":
                self.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
                )
                self.transport.abort()

    def connection_lost(self, _error):
        self.over.set()


@asynccontextmanager
async def listening(says=ANSWER, ends="close", *, tls=None, host="127.0.0.1", port=0):
    """A server that answers each request with these bytes; its port, and its connections so far."""
    peers = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Peer(peers, says, ends), host, port, ssl=tls
    )
    try:
        yield server.sockets[0].getsockname()[1], peers
    finally:
        server.close()
        for peer in peers:
            if peer.transport:  # its handshake was done
                peer.transport.abort()


@asynccontextmanager
async def swallowing():
    """A port at 127.0.0.1 that answers nobody who connects."""
    async with FaultProxy() as proxy:
        await proxy.swallow()
        yield urlsplit(proxy.url).port


class Asked:
    """A request, and when it began to leave. seen: what the other side had heard by then."""

    def __init__(self, url, peers=()):
        self.left, self.seen, self._peers = 0, b"", peers
        self.request = httpx.Request(
            "POST", url, headers=https.HEADERS, json={"pan": CARD}, extensions={LEAVING: self._leave}
        )

    def _leave(self):
        self.left += 1
        self.seen = b"".join(peer.heard for peer in self._peers)


async def send(asked, tls=TRUSTING):
    """Send it, and read the answer: status and body."""
    response = await FreshConnections(tls).handle_async_request(asked.request)
    return response.status_code, b"".join([chunk async for chunk in response.aiter_raw()])


def resolve(monkeypatch, *found):
    """Let our name have these addresses, or none."""
    others = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host, port, **given):
        if host != NAME.encode():
            return await others(host, port, **given)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [(kind, 1, 6, "", (address, port)) for kind, address in zip(families, found, strict=True)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


# -- what leaves ------------------------------------------------------------------------------------


async def test_the_whole_request():
    """Byte by byte, once, on a connection of its own, and not before it was said; the Host has its port."""
    async with listening() as (port, peers):
        asked = Asked(f"http://127.0.0.1:{port}/a/pay?b=c", peers)
        assert await send(asked) == (200, b"whole")
        await peers[0].over.wait()
    (peer,) = peers
    whole = (
        f"POST /a/pay?b=c HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\nUser-Agent: ivr-agi\r\n"
        f'Content-Length: 26\r\nContent-Type: application/json\r\n\r\n{{"pan":"{CARD}"}}'
    )
    assert peer.heard == whole.encode()
    assert (asked.left, asked.seen) == (1, b"")


async def test_client_words_it_alike():
    """What the orders and the notices are asked by says the same of itself."""
    async with listening() as (port, peers), https.client(TRUSTING) as client:
        assert (await client.post(f"http://127.0.0.1:{port}/", json={"pan": CARD})).content == b"whole"
    head = peers[0].heard.partition(b"\r\n\r\n")[0].decode().lower()
    assert sorted(
        line for line in head.split("\r\n") if not line.startswith(("post", "host", "content"))
    ) == [
        "accept-encoding: identity",
        "accept: application/json",
        "connection: close",
        "user-agent: ivr-agi",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://gateway.test/", "gateway.test"),
        ("https://gateway.test:443/", "gateway.test"),
        ("http://gateway.test:8080/", "gateway.test:8080"),
        ("https://[::1]/", "[::1]"),
        ("https://[::1]:8443/", "[::1]:8443"),
    ],
)
async def test_host(url, host):
    """The Host as RFC 9110, 7.2 has it: a port that is not the usual one, an IPv6 address in brackets."""
    talk = exchange.h11.Connection(exchange.h11.CLIENT)
    assert f"\r\nHost: {host}\r\n".encode() in await exchange._worded(talk, Asked(url).request)


async def test_ipv6():
    """An IPv6 address is connected to as it is."""
    async with listening(host="::1") as (port, peers):
        assert await send(Asked(f"http://[::1]:{port}/")) == (200, b"whole")
    assert f"Host: [::1]:{port}\r\n".encode() in peers[0].heard


async def test_it_leaves_whole_though_the_answer_is_early(monkeypatch):
    """Who answers before he is asked hears the question all the same: it counts as written."""
    connect = FreshConnections._connect

    async def answered(self, url):
        transport, incoming = await connect(self, url)
        await until(lambda: incoming._unread)
        return transport, incoming

    monkeypatch.setattr(FreshConnections, "_connect", answered)
    async with listening(ends="early") as (port, peers):
        assert await send(Asked(f"http://127.0.0.1:{port}/")) == (200, b"whole")
        await peers[0].over.wait()
    assert peers[0].heard.endswith(f'{{"pan":"{CARD}"}}'.encode())


async def test_tls_has_one_protocol_to_offer():
    """HTTP/1.1, also where the other side would rather speak HTTP/2."""
    async with listening(tls=serving()) as (port, peers):
        assert await send(Asked(f"https://127.0.0.1:{port}/")) == (200, b"whole")
        assert peers[0].transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_request_is_let_go_of():
    """While the other side thinks, nothing here has the request any more."""
    async with listening(b"", "") as (port, peers):
        asked = Asked(f"http://127.0.0.1:{port}/")
        remembered = weakref.ref(asked.request)
        sending = asyncio.create_task(FreshConnections(TRUSTING).handle_async_request(asked.request))
        asked.request = None
        await until(lambda: peers and peers[0].heard.endswith(b"}"))
        gc.collect()
        assert remembered() is None
        sending.cancel()
        await asyncio.wait({sending})


# -- where it ends, and whether a byte may have left ------------------------------------------------------


async def ends_with(asked, error, word, *, left):
    with pytest.raises(error) as raised:
        await send(asked)
    assert (https.trouble(raised.value), asked.left) == (word, left)
    shown = "".join(traceback.format_exception(raised.value))
    assert CARD not in shown


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///pay", "127.0.0.1/pay"])
async def test_no_address(url):
    """What is no address of HTTP's is not gone to."""
    await ends_with(Asked(url), httpx.UnsupportedProtocol, "unsupported-protocol", left=0)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_there(monkeypatch, scheme):
    """No such name, nobody who listens: not a byte has left."""
    resolve(monkeypatch)
    await ends_with(Asked(f"{scheme}://{NAME}/"), httpx.ConnectError, "connect-error", left=0)
    async with listening() as (port, _):
        pass
    await ends_with(Asked(f"{scheme}://127.0.0.1:{port}/"), httpx.ConnectError, "connect-error", left=0)


async def test_no_handshake():
    """Who does not prove to be who he is, or ends the handshake, or speaks no TLS, gets no byte."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    another = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("another.test").configure_cert(another)
    for context in (stranger, another):
        async with listening(tls=context) as (port, peers):
            await ends_with(Asked(f"https://127.0.0.1:{port}/"), httpx.ConnectError, "tls-error", left=0)
            assert not any(peer.heard for peer in peers)
    for ends in ("early", "hang up"):
        async with listening(b"no TLS", ends) as (port, peers):
            await ends_with(Asked(f"https://127.0.0.1:{port}/"), httpx.ConnectError, "tls-error", left=0)
            await peers[0].over.wait()
            assert CARD.encode() not in peers[0].heard


ECHO = f"HTTP/1.1 {CARD}\r\n\r\n".encode()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("says", "ends", "error", "word"),
    [
        pytest.param(b"", "close", httpx.RemoteProtocolError, "remote-protocol-error", id="no answer"),
        pytest.param(b"", "reset", httpx.ReadError, "read-error", id="reset"),
        pytest.param(ECHO, "close", httpx.RemoteProtocolError, "remote-protocol-error", id="no HTTP"),
        pytest.param(ANSWER[:20], "close", httpx.RemoteProtocolError, "remote-protocol-error", id="cut head"),
        pytest.param(ANSWER[:-2], "close", httpx.RemoteProtocolError, "remote-protocol-error", id="cut body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "", httpx.RemoteProtocolError, "remote-protocol-error", id="endless head"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "close", httpx.RemoteProtocolError,
            "remote-protocol-error", id="no last chunk",
        ),
    ],
)  # fmt: skip
async def test_no_whole_answer(says, ends, error, word, tls):
    """From the first byte on it may have been acted on; what has come is in no message, and nothing stays open."""
    async with listening(says, ends, tls=serving() if tls else None) as (port, peers):
        asked = Asked(f"http{'s' * tls}://127.0.0.1:{port}/", peers)
        await ends_with(asked, error, word, left=1)
        assert asked.seen == b""
        await peers[0].over.wait()
    assert len(peers) == 1


GO_ON, HINTS = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nwho\r\n2\r\nle\r\n0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("says", "ends"),
    [
        pytest.param(ANSWER, "", id="left open"),
        pytest.param(ANSWER + b"and more", "", id="bytes behind it"),
        pytest.param(ANSWER + ANSWER, "close", id="another answer behind it"),
        pytest.param(GO_ON + HINTS * 9 + ANSWER, "", id="interim answers"),
        pytest.param(CHUNKS, "", id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nwhole", "close", id="up to the end"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nwhole", "close", id="HTTP/1.0"),
    ],
)
async def test_whole_answer(says, ends, tls):
    """An answer is whole by HTTP's own rules, and then the connection is closed by us, if by nobody else."""
    async with listening(says, ends, tls=serving() if tls else None) as (port, peers):
        assert await send(Asked(f"http{'s' * tls}://127.0.0.1:{port}/")) == (200, b"whole")
        await peers[0].over.wait()


# -- nothing stays open -----------------------------------------------------------------------------


async def give_up(asked, when):
    sending = asyncio.create_task(send(asked))
    await until(when)
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()


async def test_given_up_in_the_connecting():
    """Nobody knocks any more."""
    async with swallowing() as port:
        asked = Asked(f"http://127.0.0.1:{port}/")
        await give_up(asked, lambda: str(port) in knocking())
        assert str(port) not in knocking()
    assert not asked.left


@pytest.mark.parametrize(
    ("tls", "says", "left"),
    [
        pytest.param(True, b"", 0, id="handshake"),
        pytest.param(False, b"", 1, id="before the head"),
        pytest.param(False, ANSWER[:20], 1, id="in the head"),
        pytest.param(False, ANSWER[:-2], 1, id="in the body"),
    ],
)
async def test_given_up(tls, says, left):
    """Cancelled anywhere, the connection is closed at once; what was written has been said."""
    async with listening(says, "") as (port, peers):
        asked = Asked(f"http{'s' * tls}://127.0.0.1:{port}/")
        await give_up(asked, lambda: peers and peers[0].heard)
        async with asyncio.timeout(5):
            await peers[0].over.wait()
    assert asked.left == left


async def test_body_that_is_not_wanted():
    """Who has read enough closes the answer, and with it the connection."""
    async with listening(ANSWER[:-2], "") as (port, peers):
        response = await FreshConnections(TRUSTING).handle_async_request(
            Asked(f"http://127.0.0.1:{port}/").request
        )
        assert not peers[0].over.is_set()
        await response.aclose()
        await peers[0].over.wait()


async def test_body_that_nobody_reads(monkeypatch):
    """What is not read waits with the other side, and comes whole when it is."""
    kept = []
    monkeypatch.setattr(
        exchange, "_Incoming", lambda made=exchange._Incoming: kept.append(made()) or kept[-1]
    )
    size = 20_000_000
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()
    async with listening(head + b"x" * size, "") as (port, _peers):
        response = await FreshConnections(TRUSTING).handle_async_request(
            Asked(f"http://127.0.0.1:{port}/").request
        )
        (incoming,) = kept
        await until(lambda: incoming._paused)
        for _ in range(100):  # turns of the loop, in each of which more would come
            await asyncio.sleep(0)
        assert len(incoming._unread) < MOST_UNREAD + 500_000
        assert sum([len(chunk) async for chunk in response.aiter_raw()]) == size


@pytest.mark.parametrize("size", [MOST_UNREAD, MOST_UNREAD + 1])
async def test_end_in_a_pause(size):
    """TLS forgets what it has not read when the connection ends: after a pause that is no end of an answer."""
    incoming = exchange._Incoming()
    incoming.connection_made(SimpleNamespace(pause_reading=lambda: None))
    incoming.data_received(b"x" * size)
    incoming.connection_lost(None)
    assert await incoming.read() == b"x" * size
    if size <= MOST_UNREAD:
        assert await incoming.read() == b""
    else:
        with pytest.raises(httpx.ReadError):
            await incoming.read()


# -- several addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_first_address_refuses(monkeypatch, tls):
    """The next one is tried at once, and asked once."""
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(exchange, "HEAD_START", 60)
    async with listening(tls=serving() if tls else None) as (port, peers):
        asked = Asked(f"http{'s' * tls}://{NAME}:{port}/")
        assert await send(asked) == (200, b"whole")
    assert (len(peers), asked.left) == (1, 1)


async def test_all_addresses_refuse(monkeypatch):
    """Not a byte has left."""
    resolve(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    async with listening() as (port, _):
        await ends_with(Asked(f"http://{NAME}:{port}/"), httpx.ConnectError, "connect-error", left=0)


async def test_first_address_is_silent(monkeypatch):
    """The next one is tried when the first has had its head start; then nobody knocks at the first any more."""
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(exchange, "HEAD_START", 0.01)
    async with swallowing() as port, listening(host="127.0.0.2", port=port) as (_, peers):
        asked = Asked(f"http://{NAME}:{port}/")
        assert await send(asked) == (200, b"whole")
        assert str(port) not in knocking()
    assert (len(peers), asked.left) == (1, 1)


async def test_given_up_among_addresses(monkeypatch):
    """Cancelled while one of several is tried, none is any more, and those that are left never will be."""
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(exchange, "HEAD_START", 60)
    async with swallowing() as port, listening(host="127.0.0.2", port=port) as (_, peers):
        asked = Asked(f"http://{NAME}:{port}/")
        await give_up(asked, lambda: str(port) in knocking())
        assert str(port) not in knocking()
        assert not [task for task in asyncio.all_tasks() if "_attempt" in repr(task.get_coro())]
    assert (peers, asked.left) == ([], 0)


async def test_one_connection_is_enough(monkeypatch):
    """Two addresses that take us at the same time: one is asked, the other hears nothing and is closed."""
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(exchange, "HEAD_START", 0)
    attempt, both = exchange._attempt, asyncio.Barrier(2)

    async def at_once(*given):
        connected = await attempt(*given)
        await both.wait()
        return connected

    monkeypatch.setattr(exchange, "_attempt", at_once)
    async with (
        listening(host=["127.0.0.1"]) as (port, first),
        listening(host="127.0.0.2", port=port) as (_, second),
    ):
        asked = Asked(f"http://{NAME}:{port}/")
        assert await send(asked) == (200, b"whole")
        (one,), (other,) = first, second
        await one.over.wait()
        await other.over.wait()
    assert sorted([bool(one.heard), bool(other.heard)]) == [False, True]
    assert asked.left == 1


async def test_order_of_addresses(monkeypatch):
    """As the resolver has them, but the second is of the other family (RFC 8305, 4)."""
    resolve(monkeypatch, "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
    assert [host for host, _ in await exchange._places(NAME.encode(), 443)] == [
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.2",
        "2001:db8::2",
    ]


async def test_address_is_not_looked_up(monkeypatch):
    """What is an address already is asked of no name server."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    assert await exchange._places(b"::1", 443) == [("::1", 443)]
    assert await exchange._places(b"127.0.0.1", 443) == [("127.0.0.1", 443)]
