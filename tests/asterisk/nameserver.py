"""A name server for one domain, on an address of the loopback of its own: SRV and A records, over UDP.

It must listen on port 53, for `resolv.conf` knows no other; so it takes one of the sixteen million
addresses of 127/8, and runs side by side do not meet.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PORT = 53
A, SRV, IN = 1, 33, 1
ANSWER, NAME_ERROR = 0x8580, 0x8583  # authoritative
LOCALHOST = bytes([127, 0, 0, 1])


def own_address() -> str:
    """An address of the loopback that nobody else is likely to use."""
    return "127." + ".".join(str(secrets.randbelow(250) + 2) for _ in range(3))


@dataclass
class Zone(asyncio.DatagramProtocol):
    """Services by name, each a list of (priority, port) on this machine. asked: each question, in order."""

    services: dict[str, list[tuple[int, int]]]
    asked: list[str] = field(default_factory=list)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, question: bytes, sender: tuple[str, int]) -> None:
        name, end = _name(question, 12)
        (kind,) = struct.unpack_from("!H", question, end)
        self.asked.append(name)
        records = self._records(name, kind)
        flags = ANSWER if records or name.startswith("host.") else NAME_ERROR
        header = question[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0)
        self._transport.sendto(header + question[12 : end + 4] + b"".join(records), sender)

    def _records(self, name: str, kind: int) -> list[bytes]:
        if kind == A and name.startswith("host."):
            return [_record(A, LOCALHOST)]
        if kind != SRV:
            return []
        return [
            _record(SRV, struct.pack("!3H", priority, 1, port) + _labels(f"host.{name.partition('.')[2]}"))
            for priority, port in self.services.get(name, [])
        ]


def _name(packet: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode().lower())
        at += length + 1
    return ".".join(labels), at + 1


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(kind: int, value: bytes) -> bytes:
    behind_the_header = 0xC00C  # the name that was asked for
    return struct.pack("!3HIH", behind_the_header, kind, IN, 0, len(value)) + value


@asynccontextmanager
async def serving(address: str, services: dict[str, list[tuple[int, int]]]) -> AsyncIterator[Zone]:
    """Answer at this address as long as the block runs."""
    loop = asyncio.get_running_loop()
    transport, zone = await loop.create_datagram_endpoint(lambda: Zone(services), local_addr=(address, PORT))
    try:
        yield zone
    finally:
        transport.close()
