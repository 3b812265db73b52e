"""Where Asterisk knocks: the listening sockets, and how to stop listening without losing a call."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.agi import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_ONCE: Final = 16  # connections that are taken in one turn of the loop
BACKLOG: Final = 4096  # connections that the kernel keeps until we have taken them
# How soon a peer that has vanished without a word is noticed: tcp(7); seconds, a count, milliseconds. One
# that is frozen still answers these; it has the deadline of each command.
KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000,
}  # fmt: skip
CLOSING_SECONDS: Final = 0.1  # for connections that are just being made when we close
SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
# Classic BPF over a packet's TCP header, an instruction a line (linux/filter.h: code, jump if so, jump if
# not, value): SYN without ACK is dropped, all else passes.
NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # keep nothing
    (0x06, 0, 0, 0xFFFF_FFFF),  # keep all
)


async def open_sockets(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Listen for Asterisk on each address of a host; port 0 takes a free one. Raises OSError.

    shared: other sockets may listen there, too (SO_REUSEPORT); the kernel deals connections out.
    """
    found: list[socket.socket] = []
    try:
        for family, (address, _, *more) in await addresses_of(host, port):
            taken = found[0].getsockname()[1] if found else port
            listening = socket.socket(family)
            found.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Each connection has these from here: tcp(7).
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            listening.bind((address, taken, *more))
            listening.listen(BACKLOG)
            listening.setblocking(False)
    except OSError:
        for listening in found:
            listening.close()
        raise
    return found


async def addresses_of(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Each address of a host once, with its family. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


class Listener:
    """Takes what comes to the sockets; `opened` is called with each connection."""

    def __init__(self, sockets: Sequence[socket.socket], opened: Callable[[Wire], None]) -> None:
        self._sockets = sockets
        self._opened = opened
        self._servers: list[asyncio.Server] = []
        self.port = int(sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        # uvloop takes one connection for each turn of the loop and each handle it has: of a rush of calls the
        # last would wait long, and some be dropped, were there but one.
        self._servers = [
            await loop.create_server(lambda: Wire(self._opened), sock=listening.dup(), backlog=BACKLOG)
            for listening in self._sockets
            for _ in range(AT_ONCE)
        ]

    async def stop(self, *, alone: bool = True) -> None:
        """Take no more, and lose none that has come. alone: nobody else has these sockets.

        A connection that is there, but not yet taken, would be cut when its socket is closed. So what is new
        is kept out first: whoever comes now tries again, and is refused once we have closed.
        """
        if alone:
            for listening in self._sockets:
                with suppress(OSError):
                    _keep_out(listening)
            await asyncio.sleep(CLOSING_SECONDS)
        for server in self._servers:
            server.close()
        if alone:
            for listening in self._sockets:
                listening.close()


def _keep_out(listening: socket.socket) -> None:
    """Let in no packet that would begin a connection: socket(7), SO_ATTACH_FILTER."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in NO_SYN))
    bound = struct.pack("@HP", len(NO_SYN), ctypes.addressof(program))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bound)
