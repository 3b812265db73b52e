"""One exchange over HTTP on a connection of its own: opened for it, and closed behind it whatever happens.

In httpx's words, with a wire of ours below them: h11 writes and reads HTTP, the event loop does TCP and TLS,
and a request costs a fraction of what httpx's pool and its many locks take. No connection is shared or left
over: nothing is sent on one that is half closed already, and no answer can be another request's.

It must never send a request twice, never let a byte go before it has said so, never keep what it has sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

import h11
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LEAVING: Final = "leaving"  # a request's extension: what is called right before its first byte may leave
MOST_OF_HEAD: Final = 102_400  # bytes of an answer's head, or of the line before a chunk
MOST_UNREAD: Final = 65_536  # bytes that may have come and wait to be read
HEAD_START: Final = 0.25  # seconds for one of several addresses until the next is tried, too (RFC 8305, 5)
DAY: Final = 86_400.0  # seconds: no limit, where asyncio would set one of its own
PORTS: Final = {"http": 80, "https": 443}


class FreshConnections(httpx.AsyncBaseTransport):
    """A connection for each request, and no time limits: the callers' are for a whole exchange.

    It raises httpx's own. ConnectError: up to the end of TLS's handshake; nothing of the request has left.
    ReadError: the connection broke. RemoteProtocolError: what came is no HTTP, or not the whole of it.
    There is no WriteError: whoever stops listening may have answered before, so that is read first.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        """tls: what verifies the other side of https."""
        tls.set_alpn_protocols(["http/1.1"])
        self.tls = tls

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, once; its answer as soon as the head has come: read it to its end, or close it."""
        transport, incoming = await self._connect(request.url)
        try:
            talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_OF_HEAD)
            whole = await _worded(talk, request)
            if leaving := request.extensions.get(LEAVING):
                leaving()
            transport.write(whole)
            del request, whole  # while the other side thinks, nobody here need know what was asked
            await asyncio.sleep(0)  # the loop writes when it comes round: also when an answer came too early
            head = await _head(talk, incoming)
            body = _Body(talk, incoming, transport)
            return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=body)
        except BaseException:
            transport.abort()
            raise

    async def _connect(self, url: httpx.URL) -> tuple[asyncio.Transport, _Incoming]:
        """Connect to the first of the host's addresses that takes us, up to the end of TLS's handshake."""
        if url.scheme not in PORTS or not url.host:
            raise httpx.UnsupportedProtocol("neither http nor https")
        secured: dict[str, Any] = {}
        if url.scheme == "https":
            name = url.raw_host.decode("ascii")
            secured = {"ssl": self.tls, "server_hostname": name, "ssl_handshake_timeout": DAY}
        with _named():
            places = await _places(url.raw_host, url.port or PORTS[url.scheme])
            if len(places) == 1:
                return await _attempt(places[0], secured)
            return await _first_of(places, secured)


@contextmanager
def _named() -> Iterator[None]:
    """What fails before the connection stands is a ConnectError, whoever has said so."""
    try:
        yield
    except ConnectionError as error:
        # An end in the middle of TLS's handshake is a failure of TLS; asyncio gives that one no number.
        raise httpx.ConnectError("no connection") from (error if error.errno else ssl.SSLEOFError())
    except OSError as error:
        raise httpx.ConnectError("no connection") from error


async def _places(host: bytes, port: int) -> list[tuple[str, int]]:
    """Look up where a host is. As RFC 8305 has it, the second is of the other family, if there is one.

    Raises OSError if nobody knows.
    """
    with suppress(ValueError):
        return [(str(ip_address(host.decode("ascii"))), port)]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    other = next((one for one in found if one[0] != found[0][0]), None)
    if other:
        found.remove(other)
        found.insert(1, other)
    return [(str(address[0]), port) for *_, address in found]


async def _attempt(place: tuple[str, int], secured: dict[str, Any]) -> tuple[asyncio.Transport, _Incoming]:
    return await asyncio.get_running_loop().create_connection(_Incoming, *place, **secured)


async def _first_of(
    places: list[tuple[str, int]], secured: dict[str, Any]
) -> tuple[asyncio.Transport, _Incoming]:
    """Try one after the other, each once the one before has failed or takes long: the first that stands.

    Raises what the first one has raised if none does.
    """
    left = places[::-1]
    tried: list[asyncio.Task[tuple[asyncio.Transport, _Incoming]]] = []
    under_way: set[asyncio.Task[tuple[asyncio.Transport, _Incoming]]] = set()
    try:
        while left or under_way:
            if left:
                tried.append(asyncio.create_task(_attempt(left.pop(), secured)))
                under_way.add(tried[-1])
            done, under_way = await asyncio.wait(
                under_way, timeout=HEAD_START if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if not task.exception():
                    tried.remove(task)
                    return task.result()
        return await tried[0]
    finally:
        for task in tried:
            task.add_done_callback(_drop)
            task.cancel()
        if tried:
            await asyncio.wait(tried)


def _drop(task: asyncio.Task[tuple[asyncio.Transport, _Incoming]]) -> None:
    """Close what a second one has connected, where one is enough."""
    if not task.cancelled() and not task.exception():
        task.result()[0].abort()


async def _worded(talk: h11.Connection, request: httpx.Request) -> bytes:
    """The whole request as it goes over the wire."""
    body = await request.aread()
    try:
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        events = [head, h11.Data(data=body), h11.EndOfMessage()] if body else [head, h11.EndOfMessage()]
        return b"".join(talk.send(event) or b"" for event in events)
    except h11.LocalProtocolError:
        raise httpx.LocalProtocolError("what was to be sent is no HTTP") from None


async def _head(talk: h11.Connection, incoming: _Incoming) -> h11.Response:
    """The answer's head; interim answers before it are passed over."""
    while not isinstance(event := await _next(talk, incoming), h11.Response):
        pass
    return event


async def _next(talk: h11.Connection, incoming: _Incoming) -> h11.Event | type[h11.PAUSED]:
    """What the other side says next. Raises ReadError, RemoteProtocolError."""
    while True:
        try:
            event = talk.next_event()
        except h11.RemoteProtocolError:  # its message has bytes of the answer, which may repeat ours
            raise httpx.RemoteProtocolError("no HTTP, or not the whole of it") from None
        if event is not h11.NEED_DATA:
            return cast("h11.Event | type[h11.PAUSED]", event)
        talk.receive_data(await incoming.read())


class _Body(httpx.AsyncByteStream):
    """An answer's body as it comes; the connection is closed at its end, or with it."""

    def __init__(self, talk: h11.Connection, incoming: _Incoming, transport: asyncio.Transport) -> None:
        self._talk = talk
        self._incoming = incoming
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while isinstance(event := await _next(self._talk, self._incoming), h11.Data):
                yield bytes(event.data)
        finally:
            self._transport.abort()

    async def aclose(self) -> None:
        self._transport.abort()


class _Incoming(asyncio.Protocol):
    """What has come over a connection and waits to be read."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._paused = False
        self._over = False
        self._broken: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, chunk: bytes) -> None:
        self._unread += chunk
        if len(self._unread) > MOST_UNREAD and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        self._over = True
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        # What TLS has not read because of a pause is lost with the connection: that is no end of a body.
        self._broken = error or (ConnectionResetError() if self._paused and not self._over else None)
        self._over = True
        self._tell()

    def _tell(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    async def read(self) -> bytes:
        """What has come, as soon as something has; b"" at the end. Raises ReadError, after all that came."""
        if not self._unread and not self._over:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        came, self._unread = self._unread, b""
        if self._paused and self._transport and not self._over:
            self._paused = False
            self._transport.resume_reading()
        if self._broken and not came:
            raise httpx.ReadError("the connection broke") from self._broken
        return came
