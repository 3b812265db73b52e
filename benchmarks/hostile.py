"""The flooder: a process that keeps hostile connections up against one port, and renews each that is closed.

    hostile.py PORT FROM --up 2000 --each-second 500 [--only KIND…] [--without KIND…]

Told `stop` on standard input it closes them all, prints what came of them as one line of JSON, and ends.
Cheap on purpose, because it shares a small machine with what it attacks: one loop, no task for a connection,
the drips of all of them by one timer. It must never send a payment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import socket
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

TICK: Final = 0.02  # seconds between two looks at what is due
DRIP: Final = 1.0  # seconds between two bytes of one connection
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets, and leaves no TIME_WAIT
GENUINE: Final = (
    b"agi_network: yes\nagi_network_script: pay?amount=50000\nagi_request: agi://127.0.0.1/pay?amount=50000\n"
    b"agi_channel: PJSIP/flood-00000001\nagi_language: fa\nagi_type: PJSIP\nagi_uniqueid: 1.1\n"
    b"agi_version: 22.10.1\nagi_callerid: 09120000000\nagi_calleridname: unknown\nagi_context: pay\n\n"
)


@dataclass(frozen=True)
class Kind:
    """One way to be a nuisance. says: at once. then: `wait`, `drip` (on through `says`) or `reset`.

    answers: what each command is answered with; one that does passes for a call, as does `calls`, and comes
    from an address of its own: see flood.py.
    """

    says: bytes
    then: str
    share: int  # of all that are up
    calls: bool = False
    answers: bytes = b""


JUNK: Final = b"250 what? \x00\xff\n100 Trying\n200 result=\xff\xfe(((\nHANGUPx\n"

KINDS: Final = {
    "silent": Kind(b"", "wait", 25),
    "drip": Kind(GENUINE, "drip", 25),
    "reset": Kind(b"", "reset", 8),
    "reset-halfway": Kind(GENUINE[:150], "reset", 8),
    "binary": Kind(bytes(range(11, 256)) * 8, "wait", 6),
    "http": Kind(b"GET / HTTP/1.1\r\nHost: pay\r\nUser-Agent: x\r\n\r\n", "wait", 6),
    "endless-line": Kind(b"x" * 256_000, "wait", 4),
    "short-lines": Kind(b"\n" * 1_000_000, "wait", 2),
    "agi-lines": Kind(b"agi_x: 1\n" * 100_000, "wait", 2),
    "call-silent": Kind(GENUINE, "wait", 7, calls=True),
    "call-junk": Kind(GENUINE, "wait", 6, calls=True, answers=JUNK * 3),
    "call-hangups": Kind(GENUINE, "wait", 1, calls=True, answers=b"HANGUP\n" * 36_000),
}


@dataclass
class Tally:
    """What came of the connections of one kind."""

    opened: int = 0
    refused: int = 0  # not even connected
    closed: int = 0  # by the server
    longest: float = 0.0  # seconds that the server let one be


@dataclass
class Flood:
    """All connections of one run."""

    port: int
    sources: dict[bool, str]  # whether it passes for a call -> the address it comes from
    each_second: float
    due: deque[str]
    up: set[Hostile] = field(default_factory=set)
    tallies: dict[str, Tally] = field(default_factory=dict)
    commands: Counter[str] = field(default_factory=Counter)  # what the server said to them
    most_up: int = 0
    opening: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Renew at most so many a second, and drip, until told to stop."""
        allowance, before = 0.0, time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            allowance = min(allowance + (now - before) * self.each_second, self.each_second * 0.1)
            before = now
            while self.due and allowance >= 1 and len(self.opening) < 256:  # noqa: PLR2004 - SYNs under way
                allowance -= 1
                task = asyncio.create_task(self._open(self.due.popleft()))
                self.opening.add(task)
                task.add_done_callback(self.opening.discard)
            self._drip(now)
            self.most_up = max(self.most_up, len(self.up))
            await asyncio.sleep(TICK)
        for hostile in list(self.up):
            hostile.leave()

    async def _open(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        tally = self.tallies.setdefault(name, Tally())
        wire = socket.socket()
        wire.setblocking(False)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        # the port is chosen at connect(), so that ports of other connections may be had again
        wire.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        try:
            wire.bind((self.sources[KINDS[name].calls], 0))
            await loop.sock_connect(wire, ("127.0.0.1", self.port))
        except OSError:
            wire.close()
            tally.refused += 1
            self.due.append(name)
            return
        tally.opened += 1
        await loop.create_connection(lambda: Hostile(self, name), sock=wire)  # from here on it is the loop's

    def _drip(self, now: float) -> None:
        for hostile in list(self.up):
            if hostile.next_drip <= now:
                hostile.drip(now)

    def report(self) -> dict[str, object]:
        """What is printed at the end."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "most_up": self.most_up,
            "cpu": round(used.ru_utime + used.ru_stime, 2),
            "kinds": {name: vars(tally) for name, tally in sorted(self.tallies.items())},
            "commands": dict(self.commands),
        }


class Hostile(asyncio.Protocol):
    """One connection."""

    def __init__(self, flood: Flood, name: str) -> None:
        self._flood, self._name, self._kind = flood, name, KINDS[name]
        self._left = False
        self._said = 0
        self.next_drip = float("inf")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to be a nuisance."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = time.monotonic()
        self._flood.up.add(self)
        if self._kind.then == "drip":
            self.next_drip = self._since + random.random() * DRIP  # noqa: S311 - no key
        elif self._kind.says:
            self._transport.write(self._kind.says)
        if self._kind.then == "reset":
            asyncio.get_running_loop().call_soon(self.leave)

    def data_received(self, chunk: bytes) -> None:
        """Whatever the server says: junk is the answer, or none."""
        self._flood.commands[chunk[:12].decode("latin-1").split()[0]] += 1
        if self._kind.answers:
            self._transport.write(self._kind.answers)

    def drip(self, now: float) -> None:
        """One byte more of an environment."""
        self._transport.write(self._kind.says[self._said : self._said + 1])
        self._said += 1
        self.next_drip = now + DRIP

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: it will be renewed."""
        del exc
        self._flood.up.discard(self)
        self._flood.due.append(self._name)
        if not self._left:
            tally = self._flood.tallies[self._name]
            tally.closed += 1
            tally.longest = max(tally.longest, round(time.monotonic() - self._since, 2))

    def leave(self) -> None:
        """Reset it."""
        self._left = True
        self._transport.abort()


def crowd(up: int, only: list[str], without: list[str]) -> list[str]:
    """So many of each kind as its share is, well mixed."""
    chosen = {name: kind.share for name, kind in KINDS.items() if name in (only or KINDS)}
    for name in without:
        chosen.pop(name, None)
    whole = sum(chosen.values())
    names = [name for name, share in chosen.items() for _ in range(round(up * share / whole))]
    random.Random(1).shuffle(names)  # noqa: S311 - no key
    return names


async def main() -> None:
    """Flood until told to stop."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("port", type=int)
    asked.add_argument("--source", default="127.0.0.1", help="the address that it comes from")
    asked.add_argument("--caller", default="", help="the address of those that pass for calls")
    asked.add_argument("--up", type=int, default=2000)
    asked.add_argument("--each-second", type=float, default=500)
    asked.add_argument("--only", nargs="*", choices=KINDS, default=[])
    asked.add_argument("--without", nargs="*", choices=KINDS, default=[])
    told = asked.parse_args()
    stop = asyncio.Event()
    sources = {False: told.source, True: told.caller or told.source}
    flood = Flood(told.port, sources, told.each_second, deque(crowd(told.up, told.only, told.without)))
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, stop.set)
    await flood.run(stop)
    print(json.dumps(flood.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
