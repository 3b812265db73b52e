"""The processes of a benchmark, each on a core of its own choice, and what the kernel says they use."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable

SEQUENCE: Final = "acd54b56ddd651a5cc3v"
HERE: Final = Path(__file__).parent
TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# `ivr-agi serve` to the letter; on SIGUSR1 it also gives back what malloc keeps, to tell that from a leak.
SERVE: Final = """
import ctypes, gc, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: (gc.collect(), ctypes.CDLL(None).malloc_trim(0)))
sys.argv = ["ivr-agi", "serve"]
from ivr_agi.cli import main
main()
"""


def environment(**given: object) -> dict[str, str]:
    """Make a process's environment: settings by name, and nothing of ours from outside."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IVR_AGI_")}
    return clean | {f"IVR_AGI_{name.upper()}": str(value) for name, value in given.items()}


async def start(core: int, *arguments: str, **pipes: object) -> asyncio.subprocess.Process:
    """Start Python with these arguments on one core, where the machine lets us choose."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & ours or ours)  # a child inherits it
    try:
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, **pipes)  # type: ignore[arg-type]
        if {core} != ours:  # only what stands beside us is as urgent as we are
            os.setpriority(os.PRIO_PROCESS, process.pid, 0)
        return process
    finally:
        os.sched_setaffinity(0, ours)


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and wait."""
    if process.returncode is None:
        process.terminate()
    await asyncio.wait_for(process.wait(), 30)


class Server:
    """`ivr-agi serve` as a process of its own, its log in a file."""

    def __init__(self, name: str, folder: Path, core: int, **given: object) -> None:
        self._log = folder / f"{name}.log"
        self._core = core
        self._given = {
            "port": 0,
            "http_port": 0,
            "sequence": SEQUENCE,
            "log_format": "json",
            "otp_cooldown": 0,
            "drain_limit": 0,
            "journal_url": f"sqlite:///{folder / name}.db",
            **given,
        }
        self.port = 0

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await start(
                self._core, "-c", SERVE, stderr=log, env=environment(**self._given), cwd=self._log.parent
            )
        self._proc = Path("/proc") / str(self._process.pid)
        async with asyncio.timeout(30):
            while not self.port:
                await asyncio.sleep(0.05)
                said = [json.loads(line) for line in self._log.read_text().splitlines()]
                self.port = next((s["port"] for s in said if s["message"] == "server.listening"), 0)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await end(self._process)

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def starved(self) -> float:
        """Seconds that it could have run and got no core: others' load, and the callers' on the same core."""
        return int((self._proc / "schedstat").read_text().split()[1]) / 1e9

    def rss(self) -> float:
        """MB of memory that are resident."""
        return int((self._proc / "statm").read_text().split()[1]) * PAGE / 1e6

    def descriptors(self) -> int:
        """How many are open; -1 where only root may look: the process is not dumpable."""
        try:
            return len(list((self._proc / "fd").iterdir()))
        except PermissionError:
            return -1

    async def trim(self) -> None:
        """Have malloc give back what it keeps."""
        self._process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(1)

    def logged(self) -> int:
        """How many bytes its log has by now."""
        return self._log.stat().st_size

    def lines(self, since: int, until: int) -> list[str]:
        """The messages logged between two sizes of the log."""
        with self._log.open("rb") as log:
            log.seek(since)
            return [str(json.loads(line)["message"]) for line in log.read(until - since).splitlines()]


class Flooder:
    """hostile.py as a process of its own."""

    def __init__(self, core: int, port: int, *arguments: str) -> None:
        self._core, self._arguments = core, (str(HERE / "hostile.py"), str(port), *arguments)
        self.report: dict[str, object] = {}

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await start(self._core, *self._arguments, stdin=pipe, stdout=pipe)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        output, _ = await within(30, self._process.communicate(b"stop\n"))
        self.report = json.loads(output)


async def within(seconds: float, work: Awaitable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Await it, for so long at most."""
    return await asyncio.wait_for(work, seconds)
