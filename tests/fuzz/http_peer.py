"""The gateway's client against a peer on a real socket, which reads the request and answers with whatever it is given."""

from __future__ import annotations

import asyncio
import atexit
import ssl
from functools import cache
from typing import TYPE_CHECKING

from oracles import hold

from ivr_agi.gateway import Gateway
from ivr_agi.model import Method

if TYPE_CHECKING:
    from ivr_agi.model import Pan, PayAnswer, Pin, Secret

SECONDS = 5.0  # on loopback, for a peer that closes at once: who needs them hangs
UNREAD = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; spares plain HTTP the reading of CAs
EARLY, TORN, IN_TWO = 1, 2, 4  # how it answers: before it has read, with a reset after, in two pieces


class _Peer(asyncio.Protocol):
    """One connection: the answer, once the head of the request and its body have come, then the end."""

    raw = b""
    how = 0
    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).connections += 1
        self._transport = transport
        self._heard = b""
        if self.how & EARLY:
            self._answer()

    def data_received(self, chunk: bytes) -> None:
        self._heard += chunk
        if not self.how & EARLY and self._heard.endswith(b"}"):
            self._answer()

    def _answer(self) -> None:
        half = len(self.raw) // 2 if self.how & IN_TWO else 0
        self._transport.write(self.raw[:half])
        self._transport.write(self.raw[half:])
        if self.how & TORN and self._transport.get_write_buffer_size() == 0:
            self._transport.abort()
        else:
            self._transport.close()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    atexit.register(loop.close)
    return loop


@cache
def _port() -> int:
    server = _loop().run_until_complete(_loop().create_server(_Peer, "127.0.0.1", 0))
    atexit.register(server.close)
    return int(server.sockets[0].getsockname()[1])


def pay_at_peer(raw: bytes, how: bytes, secrets: tuple[Pan, Secret, Pin]) -> PayAnswer:
    """Pay once at a peer that answers so."""
    pan, sequence, pin = secrets
    _Peer.raw, _Peer.how, _Peer.connections = raw, how[0] if how else 0, 0
    client = Gateway(
        f"http://127.0.0.1:{_port()}", sequence, otp_timeout=SECONDS, pay_timeout=SECONDS, tls=UNREAD
    )
    paying = client.pay(Method.IVR, pan, pin, 50_000, "A-1", "+989123456789")
    answer = _loop().run_until_complete(paying)
    hold("sent-again", _Peer.connections == 1, _Peer.connections)
    hold("hangs", answer.detail != "timeout", raw)
    return answer
