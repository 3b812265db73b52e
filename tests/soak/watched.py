"""The server under watch, from the watcher's side: `ivr-agi serve` as a process, and what it holds (telling.py)."""

import asyncio
import json
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import warm
from process import environment

PROGRAM = Path(__file__).with_name("telling.py")
ANSWERS = 60.0  # seconds for a start, a reading, an end
PATIENCE = 20.0  # seconds until a moment must be quiet
LOOKS = 0.5  # seconds between two looks


@dataclass(frozen=True)
class Reading:
    """What the process holds, in bytes or counted. calls: made in this life before.

    rss: resident memory; sqlite: what SQLite keeps of the journal; heap: all else that was given out, and not
    given back. tasks by their coroutine's name, descriptors by their kind or file, threads by what they are for.
    """

    rss: int
    sqlite: int
    heap: int
    tasks: Counter
    descriptors: Counter
    threads: Counter
    calls: int = 0

    @property
    def resident(self):
        """Bytes of memory that grow with the calls only if something leaks."""
        return self.rss - self.sqlite

    @property
    def held(self):
        """What nothing that has ended may go on holding."""
        return self.tasks, self.descriptors["socket"]


class Watched:
    """One life of the server. log: the file it writes to; given: settings by name. port: None when it is not up."""

    def __init__(self, log, *, forked=False, **given):
        """forked: from a process that has imported all, which saves a second of CPU."""
        self._log, self._forked = log, forked
        self._given = {"port": 0, "http_port": 0, "log_format": "json", **given}
        self.port = self.http_port = None

    async def start(self):
        """Start it, and wait until it takes calls."""
        began = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": log.fileno(), "cwd": self._log.parent}
            env = environment(**self._given)
            if self._forked:
                self._process = await warm.start(script=PROGRAM, env=env, **pipes)
            else:
                command = sys.executable, str(PROGRAM)
                self._process = await asyncio.create_subprocess_exec(*command, env=env, **pipes)

        def listens():
            with self._log.open("rb") as log:
                log.seek(began)
                said = [json.loads(line) for line in log if line.endswith(b"\n")]
            ports = {line["message"]: line["port"] for line in said if line["message"].endswith(".listening")}
            self.port, self.http_port = ports.get("server.listening"), ports.get("web.listening")
            return (self.port and self.http_port) or self._process.returncode is not None

        async with asyncio.timeout(ANSWERS):
            while not listens():
                await asyncio.sleep(0.05)
        assert self._process.returncode is None, f"the server did not start, see {self._log}"

    async def read(self):
        """One reading."""
        self._process.send_signal(signal.SIGUSR1)
        said = json.loads(await asyncio.wait_for(self._process.stdout.readline(), ANSWERS))
        counted = {name: Counter(said[name]) for name in ("tasks", "descriptors", "threads")}
        return Reading(**said | counted)

    async def read_in_peace(self, like=None, calls=0):
        """A reading once nothing is held that was not when `like` was read; after the patience, as it is then.

        Without `like`: once two looks see the same.
        """
        give_up = asyncio.get_running_loop().time() + PATIENCE
        while True:
            found = await self.read()
            if (like and found.held == like.held) or asyncio.get_running_loop().time() > give_up:
                return replace(found, calls=calls)
            await asyncio.sleep(LOOKS)
            if like is None and (await self.read()).held == found.held:
                return replace(found, calls=calls)

    def kill(self):
        """End it at once, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()

    async def end(self, number):
        """Send it a signal, and wait; returns its exit status."""
        self.port = self.http_port = None  # nobody calls it any more
        self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), 2 * ANSWERS)
