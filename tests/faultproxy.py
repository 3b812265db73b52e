"""A TCP proxy between the client and the gateway's stand-in, that goes wrong after exactly N bytes.

Real sockets, one fault for one connection, and a record of what was carried each way: how many bytes
of a request have reached the far side is what decides about money. With a certificate it ends TLS
itself, and N counts bytes of HTTP; without, it carries TLS unread, and N counts bytes on the wire. It
must never repair anything, and it knows nothing of payments.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ivr_agi.simulator.gateway import BASE

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65_536
NO_LINGER = struct.pack("ii", 1, 0)


class Way(StrEnum):
    """The direction in which bytes are counted."""

    REQUEST = "request"
    ANSWER = "answer"


class Kind(StrEnum):
    """What happens after the last byte that is carried."""

    CLOSE = "close"  # FIN to both sides
    FAREWELL = "farewell"  # the same, after TLS has said goodbye
    RESET = "reset"  # RST to the client, FIN to the far side, which keeps what it got
    HALF_CLOSE = "half-close"  # FIN in this direction; the other goes on
    FREEZE = "freeze"  # nothing moves either way, until `thaw`
    DELAY = "delay"  # nothing moves either way for `seconds`
    TRICKLE = "trickle"  # from here on byte by byte, with `seconds` before each


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: after so many bytes in this direction. instead: sent in place of all that would follow.

    0 bytes of a request: as soon as the connection stands, with nothing read of it. 0 bytes of an
    answer: when its first byte comes, and the far side has done what it was asked.
    """

    way: Way
    after: int
    kind: Kind
    seconds: float = 0.05
    instead: bytes | None = field(default=None, repr=False)

    @property
    def at_once(self) -> bool:
        """Whether it strikes before anything is read."""
        return (self.way, self.after) == (Way.REQUEST, 0) and self.kind not in (Kind.TRICKLE, Kind.HALF_CLOSE)


class Wire:
    """One end of a connection, as bare as it comes."""

    def __init__(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        raw.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # what is carried has left, also before a reset
        self._raw = raw
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """Return what has come, b"" at its end."""
        return await self._loop.sock_recv(self._raw, CHUNK)

    async def write(self, chunk: bytes) -> None:
        await self._loop.sock_sendall(self._raw, chunk)

    async def farewell(self) -> None:
        """Say goodbye in the protocol's own words: TCP has none but FIN."""

    def fin(self) -> None:
        """End our direction. Not by close(), which answers bytes left unread with a reset."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._raw.close()

    def close(self) -> None:
        self._raw.close()

    async def drain(self) -> None:
        """Throw away what comes, up to its end."""
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(self._raw, CHUNK):
                pass


class TlsWire(Wire):
    """The same as a server under TLS. FIN and RST strike the bare socket, without goodbye."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(raw)
        self._came, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._leaving, server_side=True)

    async def handshake(self) -> str:
        """Return why it failed, "" if it did not."""
        try:
            await self._do(self._tls.do_handshake)
        except ssl.SSLError as error:
            return error.reason or "no words"
        return ""

    async def read(self) -> bytes:
        try:
            return await self._do(self._tls.read, CHUNK)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    async def write(self, chunk: bytes) -> None:
        if chunk:
            await self._do(self._tls.write, chunk)

    async def farewell(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):  # ours is said; theirs is not waited for
            self._tls.unwrap()
        await self._flush()

    async def _do(self, step: Callable[..., Any], *args: object) -> Any:
        while True:
            try:
                return step(*args)
            except ssl.SSLWantReadError:
                await self._flush()
                came = await super().read()
                if came:
                    self._came.write(came)
                else:
                    self._came.write_eof()
            finally:
                await self._flush()

    async def _flush(self) -> None:
        if self._leaving.pending:
            await super().write(self._leaving.read())


@dataclass(slots=True)
class Carried:
    """One connection: what has reached the far side and the client, whether its fault has begun, whether it is over.

    turned_down: why there was no handshake, in OpenSSL's words.
    """

    request: bytearray = field(default_factory=bytearray, repr=False)
    answer: bytearray = field(default_factory=bytearray, repr=False)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    struck: bool = False
    turned_down: str = ""


class Link:
    """One connection while it lasts: two pumps, and the fault that ends or holds them."""

    def __init__(self, proxy: FaultProxy, near: Wire, carried: Carried, fault: Fault | None) -> None:
        self._proxy = proxy
        self._near = near
        self._far: Wire | None = None
        self._carried = carried
        self._fault = fault
        self._flows = asyncio.Event()

    async def run(self) -> None:
        """Carry both ways until an end, ours or theirs."""
        end: Kind | None = None
        if self._fault is not None and self._fault.at_once:
            fault, self._fault = self._fault, None
            await self._near.write(fault.instead or b"")
            end = await self._strike(fault)
        try:
            end = end or await self._carry()
            await self._finish(end)
        finally:
            if self._far is not None:
                self._far.close()

    async def _carry(self) -> Kind | None:
        self._flows.set()
        self._far = Wire(socket.socket())
        await self._proxy.connect(self._far)
        pumps = {
            asyncio.ensure_future(self._pump(Way.REQUEST, self._carried.request, self._near, self._far)),
            asyncio.ensure_future(self._pump(Way.ANSWER, self._carried.answer, self._far, self._near)),
        }
        try:
            while pumps:
                done, pumps = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for end in filter(None, [pump.result() for pump in done]):
                    return end
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        return None

    async def _pump(self, way: Way, carried: bytearray, source: Wire, sink: Wire) -> Kind | None:
        """Carry one way. Returns the kind of the fault that ends the connection; None at an end of theirs."""
        fault = self._fault if self._fault is not None and self._fault.way is way else None
        pause: float | None = None
        while chunk := await source.read():
            await self._flows.wait()
            if fault is not None and len(carried) + len(chunk) >= fault.after:
                room = fault.after - len(carried)
                self._flows.clear()  # before the last bytes leave: nothing may slip through behind them
                await self._pass(chunk[:room], carried, sink, None)
                await sink.write(fault.instead or b"")
                if end := await self._strike(fault):
                    return end
                self._flows.set()
                if fault.kind is Kind.HALF_CLOSE or fault.instead is not None:
                    sink.fin()
                    await source.drain()
                    return None
                chunk = chunk[room:]  # the rest of it goes on
                pause = fault.seconds if fault.kind is Kind.TRICKLE else None
                fault = None
            await self._pass(chunk, carried, sink, pause)
        sink.fin()
        return None

    async def _pass(self, chunk: bytes, carried: bytearray, sink: Wire, pause: float | None) -> None:
        for part in [chunk] if pause is None else [chunk[place : place + 1] for place in range(len(chunk))]:
            if pause is not None:
                await asyncio.sleep(pause)
            await sink.write(part)
            carried += part

    async def _strike(self, fault: Fault) -> Kind | None:
        """Returns the kind if it ends the connection; otherwise comes back when bytes may move again."""
        self._carried.struck = True
        match fault.kind:
            case Kind.FREEZE:
                await self._proxy.thawed.wait()
            case Kind.DELAY:
                await asyncio.sleep(fault.seconds)
            case Kind.CLOSE | Kind.FAREWELL | Kind.RESET:
                return fault.kind
        return None

    async def _finish(self, end: Kind | None) -> None:
        wires = [wire for wire in (self._near, self._far) if wire is not None]
        if end is Kind.RESET:
            self._near.reset()
            wires.remove(self._near)
        elif end is Kind.FAREWELL:
            await self._near.farewell()
        for wire in wires:
            wire.fin()
        await asyncio.gather(*(wire.drain() for wire in wires))


class FaultProxy:
    """The proxy on a free port of loopback. target: the gateway's address; may be set once it is known.

    connections: one record each, in order. thawed: set it to let what is frozen go on.
    """

    def __init__(self, target: str = "", *, tls: ssl.SSLContext | None = None, secure: bool = False) -> None:
        """tls: end TLS here. secure: carry TLS that the far side ends."""
        self.target = target
        self.connections: list[Carried] = []
        self.thawed = asyncio.Event()
        self._tls = tls
        self._scheme = "https" if tls or secure else "http"
        self._plan: list[Fault | None] = []
        self._links: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._filler: socket.socket | None = None
        self._door = self._bound(0)

    @property
    def url(self) -> str:
        """The base address of the API, by way of the proxy."""
        return f"{self._scheme}://127.0.0.1:{self._door.getsockname()[1]}{BASE}"

    @property
    def last(self) -> Carried:
        """The last connection."""
        return self.connections[-1]

    def arm(self, fault: Fault, *, skip: int = 0) -> None:
        """Let this fault strike the next connection, or the one after so many whole ones."""
        self._plan = [*[None] * skip, fault]

    async def open(self) -> None:
        """Accept connections; those that wait at a swallowing door come in, late."""
        self._door.listen(100)
        if self._filler is not None:
            self._filler.close()
            (await asyncio.get_running_loop().sock_accept(self._door))[0].close()
            self._filler = None
        self._accepting = asyncio.ensure_future(self._accept())

    async def refuse(self) -> None:
        """Answer whoever connects with a reset: the port is ours, and nobody listens."""
        port = self._door.getsockname()[1]
        await self._shut()
        self._door.close()
        self._door = self._bound(port)

    async def swallow(self) -> None:
        """Answer nobody who connects, as a firewall that drops: the queue is one place long, and taken."""
        await self._shut()
        self._door.listen(0)
        self._filler = socket.socket()
        self._filler.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self._filler, self._door.getsockname())

    async def connect(self, far: Wire) -> None:
        """Connect to the target. Raises OSError."""
        address = urlsplit(self.target)
        await asyncio.get_running_loop().sock_connect(far._raw, (address.hostname, address.port))

    async def stop(self) -> None:
        """Drop everything."""
        await self._shut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        for open_socket in filter(None, (self._door, self._filler)):
            open_socket.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    @staticmethod
    def _bound(port: int) -> socket.socket:
        door = socket.socket()
        door.setblocking(False)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of this port still linger
        door.bind(("127.0.0.1", port))
        return door

    async def _shut(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._accepting = None

    async def _accept(self) -> None:
        while True:
            raw, _ = await asyncio.get_running_loop().sock_accept(self._door)
            link = asyncio.ensure_future(self._serve(raw, self._plan.pop(0) if self._plan else None))
            self._links.add(link)
            link.add_done_callback(self._links.discard)

    async def _serve(self, raw: socket.socket, fault: Fault | None) -> None:
        carried = Carried()
        self.connections.append(carried)
        near = Wire(raw) if self._tls is None else TlsWire(raw, self._tls)
        try:
            if isinstance(near, TlsWire):
                carried.turned_down = await near.handshake()
            if carried.turned_down:
                near.fin()
                await near.drain()
                return
            await Link(self, near, carried, fault).run()
        except OSError:
            pass  # one side has gone; what was carried stays carried
        finally:
            near.close()
            carried.over.set()
