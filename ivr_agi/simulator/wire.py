"""HTTP/1.1 on a socket, right or wrong on purpose: h11 reads and words, the faults are written raw.

Knows nothing of payments. It must never repair a fault: a cut answer is cut where it was told to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import h11

from ivr_agi.simulator.outcomes import Fault

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Awaitable, Callable

LARGEST: Final = 65_536  # bytes of a request
_PHRASES: Final = {
    200: "OK", 201: "Created", 307: "Temporary Redirect", 400: "Bad Request", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large", 422: "Unprocessable Content",
    502: "Bad Gateway",
}  # fmt: skip
_BODILESS: Final = frozenset({204, 304})
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and how it goes wrong. pause: seconds before each byte of a dripping one."""

    status: int
    body: bytes
    content_type: str = "application/json"
    fault: Fault | None = None
    pause: float = 0.0
    location: str = ""


class HttpServer:
    """Serves `respond` on a port; `on_accept` may name a fault for a connection just accepted."""

    def __init__(
        self, respond: Callable[[Request], Awaitable[Reply]], on_accept: Callable[[], Fault | None]
    ) -> None:
        self._respond = respond
        self._on_accept = on_accept
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, ssl: tls.SSLContext | None) -> int:
        """Listen; return the port, which the system chooses for 0."""
        self._server = await asyncio.start_server(self._accept, host, port, ssl=ssl)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def stop(self) -> None:
        """Stop listening, and drop every connection, answered or not."""
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            fault = self._on_accept()
            if fault is None:
                await self._converse(reader, writer)
            elif fault is Fault.RESET_ON_ACCEPT:
                _reset(writer)
        except OSError:
            pass  # the client has gone; what was done stays done
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
        while True:
            try:
                request = await _read(protocol, reader, writer)
            except h11.RemoteProtocolError as error:
                await self._refuse(protocol, writer, error.error_status_hint)
                return
            if request is None:
                return
            reply = await self._respond(request)
            if request.method == "HEAD" or reply.status in _BODILESS:
                reply = replace(reply, body=b"")
            await _answer(protocol, reader, writer, reply)
            if writer.is_closing() or protocol.our_state is not h11.DONE:
                return
            protocol.start_next_cycle()

    async def _refuse(self, protocol: h11.Connection, writer: asyncio.StreamWriter, status: int) -> None:
        if protocol.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            writer.write(b"".join(_worded(protocol, Reply(status, b"", "text/plain"))))
            await writer.drain()


async def _read(
    protocol: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            if protocol.they_are_waiting_for_100_continue:
                go_on = protocol.send(h11.InformationalResponse(status_code=100, headers=[]))
                writer.write(go_on or b"")
            protocol.receive_data(await reader.read(LARGEST))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LARGEST:
                raise h11.RemoteProtocolError("request too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode("latin-1"), headers, bytes(body))
        else:
            return None  # closed by the client


def _worded(protocol: h11.Connection, reply: Reply) -> tuple[bytes, bytes]:
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    if reply.location:
        headers.append(("Location", reply.location))
    phrase = _PHRASES.get(reply.status, "")
    head = protocol.send(h11.Response(status_code=reply.status, headers=headers, reason=phrase)) or b""
    body = protocol.send(h11.Data(data=reply.body)) or b""
    return head, body + (protocol.send(h11.EndOfMessage()) or b"")


async def _answer(
    protocol: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply
) -> None:
    head, body = _worded(protocol, reply)
    match reply.fault:
        case Fault.RESET_AFTER_READ:
            _reset(writer)
            return
        case Fault.CLOSE_AFTER_READ:
            writer.close()
            return
        case Fault.SILENCE:
            while await reader.read(LARGEST):
                pass
            writer.close()
            return
        case Fault.CUT_HEADERS:
            writer.write(head[: len(head) // 2])
            writer.close()
            return
        case Fault.CUT_BODY:
            writer.write(head + body[: len(body) // 2])
            writer.close()
            return
        case Fault.DRIP:
            for byte in head + body:
                await asyncio.sleep(reply.pause)
                writer.write(bytes([byte]))
                await writer.drain()
        case _:
            writer.write(head + body)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset: what a crashed or overloaded server does."""
    raw = writer.get_extra_info("socket")
    # A copy of the descriptor, since some event loops hand out a socket without options.
    with socket.fromfd(raw.fileno(), raw.family, raw.type) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
