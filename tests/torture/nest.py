"""Servers to be killed, from the killer's side: hatched by victim.py, told of, killed, buried.

A server is killed by the handle that the kernel gives for it, never by its number: that may be another's by
then. It must never outlive the nest.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where torture.py is run by itself

import warm

SEQUENCE = "acd54b56ddd651a5cc3v"
SETTINGS = {
    "port": 0,
    "sequence": SEQUENCE,
    "otp_cooldown": 0,
    # These people fail more often than any line lets them.
    **{f"limit_{scope}": "" for scope in ("caller", "card", "order", "total")},
    "otp_timeout": 2,
    "pay_timeout": 0.5,
    "late_limit": 3,
    "drain_limit": 1,
}


class Victim:
    """One server. port and owner: once it listens. struck: the point at which it killed itself."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.hatched, self.ended = loop.create_future(), loop.create_future()
        self.settled = asyncio.Event()  # it listens, or will never
        self.handle = self.port = None
        self.owner = self.struck = ""

    def hear(self, line):
        """What the nest, or the server itself, says of it."""
        self.port, self.owner = line.get("port", self.port), line.get("owner", self.owner)
        self.struck = line.get("struck", self.struck)
        if "ended" in line:
            os.close(self.handle)
            self.port = self.handle = None
            self.ended.set_result(line["ended"])
        if "port" in line or "ended" in line:
            self.settled.set()

    def signal(self, number):
        """Kill it, or ask it to stop; nothing if it has ended."""
        if self.handle is not None:
            self.port = None  # nobody calls it any more
            signal.pidfd_send_signal(self.handle, number)


class Nest:
    """The process that servers are forked from, for as long as the `async with` lasts."""

    def __init__(self, folder: Path, **settings):
        """folder: takes what the servers log."""
        self._log, self._settings = folder / "victims.log", settings
        self._by_pid, self._unhatched, self._slots = {}, {}, 0

    async def __aenter__(self):
        self._process = await warm.start(
            script=Path(__file__).with_name("victim.py"),
            stdin=warm.PIPE,
            stdout=warm.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("IVR_AGI_")},
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_exc):
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self):
        async for raw in self._process.stdout:
            line = json.loads(raw)
            pid = line["pid"]
            if "slot" in line:
                victim = self._by_pid[pid] = self._unhatched.pop(line["slot"])
                victim.handle = os.pidfd_open(pid)
                victim.hatched.set_result(pid)
            else:
                self._by_pid[pid].hear(line)
            if "ended" in line:
                del self._by_pid[pid]

    async def hatch(self, *, point="", nth=1, broken="", host="", lease=0.0, **settings):
        """Fork a server, which serves from now on. point, nth: where it kills itself, if anywhere."""
        self._slots += 1
        victim = self._unhatched[self._slots] = Victim()
        words = {
            "slot": self._slots,
            "point": point,
            "nth": nth,
            "broken": broken,
            "host": host,
            "lease": lease,
        }
        given = SETTINGS | self._settings | settings | words | {"log": str(self._log)}
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        await self._process.stdin.drain()
        await victim.hatched
        return victim
