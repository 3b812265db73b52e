"""What is heard on loopback, by the kernel's own clock: Asterisk's sound as a caller gets it, and AGI as it goes to and fro.

Neither costs those who are listened to more than a filter of some instructions for each packet.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER
_TIMESTAMPNS: Final = 35  # SO_TIMESTAMPNS
_ETH_P_IP: Final = 0x0800  # as they arrive; a tap of all protocols would also see, and copy, what leaves
_BUFFER: Final = 2**22
_ALL, _NONE = (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
SAMPLE: Final = 8  # calls listened to: up to twice as many
NEXT: Final = (1, 160)  # by how much sequence number and timestamp grow within a sound
LATE_MS: Final = 40.0  # a jitter buffer of a packet more is empty by then

Instruction = tuple[int, int, int, int]


class Ear:
    """A socket that callers have the line's sound sent to. gaps: ms between two packets of one stretch of sound.

    Of many calls it hears a part, by Asterisk's port; the rest is thrown away in the kernel.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.address, self.port = self._socket.getsockname()
        self._last: dict[int, tuple[int, int, float]] = {}  # by port: sequence number, timestamp, ms
        self.gaps: list[float] = []

    def __enter__(self) -> Self:
        _prepare(self._socket)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def of(self, calls: int) -> None:
        """Listen to some of so many calls, and begin anew."""
        part = 1
        while part * 2 * SAMPLE <= calls:
            part *= 2
        # The source port stands first in a UDP packet; RTP has the even ones.
        _attach(self._socket, [(0x28, 0, 0, 0), (0x54, 0, 0, (part - 1) << 1), (0x15, 0, 1, 0), _ALL, _NONE])
        self._last.clear()
        self.gaps = []

    def _hear(self) -> None:
        for packet, ms, sender in _received(self._socket):
            _, sequence, timestamp = struct.unpack_from("!HHI", packet)
            before = self._last.get(sender[1])
            self._last[sender[1]] = sequence, timestamp, ms
            # The next packet, and 20 ms of sound on: 20 ms should have passed.
            if before and ((sequence - before[0]) & 0xFFFF, (timestamp - before[1]) & 0xFFFFFFFF) == NEXT:
                self.gaps.append(ms - before[2])


class Tap:
    """AGI's packets. own: ms from an answer of Asterisk's to the next command; bank: those with the bank or the journal."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._command: dict[int, bytes] = {}
        self._answered: dict[int, float] = {}
        self.own: list[float] = []
        self.bank: list[float] = []

    def __enter__(self) -> Self:
        source, destination = (0x48, 0, 0, 0), (0x48, 0, 0, 2)
        tcp, ports = (
            [(0x30, 0, 0, 9), (0x15, 0, 6, 6)],
            [(0xB1, 0, 0, 0)],
        )  # the protocol; X: the header's length
        ports += [source, (0x15, 2, 0, self._port), destination, (0x15, 0, 1, self._port)]
        _attach(self._socket, [*tcp, *ports, _ALL, _NONE])
        _prepare(self._socket)
        self._socket.bind(("lo", _ETH_P_IP))
        asyncio.get_running_loop().add_reader(self._socket, self._see)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def anew(self) -> None:
        """Forget what was measured."""
        self.own, self.bank = [], []

    def _see(self) -> None:
        for packet, ms, _ in _received(self._socket):
            tcp = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4])]
            payload = tcp[(tcp[12] >> 4) * 4 :]
            if not payload:
                continue
            source, destination = struct.unpack_from("!HH", tcp)
            if source != self._port:
                self._answered[source] = ms
            elif (since := self._answered.pop(destination, None)) is not None:
                command, self._command[destination] = self._command.get(destination, b""), payload
                (self.bank if _asks(command) else self.own).append(ms - since)


def _asks(command: bytes) -> bool:
    """Whether the bank or the journal is asked before the next command: in the music, and behind two of the questions."""
    said = command.upper()
    return said.startswith(b"SET MUSIC ON") or any(word in said for word in (b"WELCOME", b"ENTER-CARD"))


def _prepare(which: socket.socket) -> None:
    which.setblocking(False)
    which.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    which.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)


def _attach(which: socket.socket, program: Sequence[Instruction]) -> None:
    """Have the kernel drop what a classic BPF program does not want."""
    raw = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    which.setsockopt(
        socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(raw))
    )


def _received(which: socket.socket) -> list[tuple[bytes, float, tuple[str, int]]]:
    """All that has come: packet, the kernel's time in ms, sender."""
    found: list[tuple[bytes, float, tuple[str, int]]] = []
    while True:
        try:
            packet, ancillary, _, sender = which.recvmsg(2048, 64)
        except BlockingIOError:
            return found
        seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
        found.append((packet, seconds * 1e3 + nanoseconds / 1e6, sender))
