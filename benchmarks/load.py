"""What call.py and growth.py have in common: the Go program that plays both ends, the server's own counters, the disk.

The program (`call/load`) is Asterisk with its callers and the gateway's stand-in in one process, so that times
between the two are read from one clock. It is built into `.cache/bench`, needs no network, and has a core of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen

import uvloop
from measuring import percentile
from processes import TICKS, Server

from ivr_agi.journal.engine import file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parent / ".cache" / "bench"
SOURCE: Final = HERE / "call" / "load"
HELD_MOST: Final = 20_000  # MAX_CALLS of the server: it is not what is measured

Figures = dict[str, Any]


def build() -> Path:
    """Build the program where it has changed; returns where it is. Installs Go where that can be done."""
    if shutil.which("go") is None:
        subprocess.run([str(HERE.parent / "tools" / "debian-packages"), "golang-go"], check=True)  # noqa: S603
    CACHE.mkdir(parents=True, exist_ok=True)
    offline = {
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GOCACHE": str(CACHE / "go-cache"),
    }
    made = CACHE / "load"
    subprocess.run(["go", "build", "-o", str(made), "."], cwd=SOURCE, env=os.environ | offline, check=True)  # noqa: S603, S607
    return made


class Load:
    """The program, at work on one core. gateway: the stand-in's base address."""

    def __init__(self, core: int) -> None:
        self._core = core
        self.gateway = ""

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        with on_core(self._core):
            self._process = await asyncio.create_subprocess_exec(
                str(build()), "--control", stdin=pipe, stdout=pipe, limit=2**20
            )
        self.gateway = (await self._read())["gateway"]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()  # whatever it holds
        await self._process.wait()

    async def do(self, what: str, **given: object) -> Figures:
        """Have it do something (control.go says what there is), and await what comes of it."""
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.write(json.dumps({"do": what, **given}).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._read()

    async def _read(self) -> Figures:
        assert self._process.stdout  # noqa: S101 - it is a pipe
        found: Figures = json.loads(await self._process.stdout.readline())
        if "error" in found:
            raise RuntimeError(found["error"])
        return found


class Line(Server):
    """`ivr-agi serve` under load: its counters, too. All limits are the defaults, but for how many calls at once."""

    def __init__(self, name: str, folder: Path, core: int, **given: object) -> None:
        self.http_port = free_port()
        self._name = name
        super().__init__(
            name, folder, core, **({"http_port": self.http_port, "max_calls": HELD_MOST} | given)
        )

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except BaseException:  # ended while it starts, or it does not start: nothing stays behind
            await self.__aexit__()
            raise

    @property
    def address(self) -> str:
        """Where callers dial."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def terminate(self) -> float:
        """SIGTERM, and wait; returns the seconds that it took."""
        since = time.perf_counter()
        self._process.terminate()
        await self._process.wait()
        return time.perf_counter() - since

    async def counters(self) -> dict[str, float]:
        """Every sample of its metrics without labels, by name."""
        return await asyncio.to_thread(self._scrape)

    def _scrape(self) -> dict[str, float]:
        for _ in range(100):
            with suppress(URLError, ConnectionError):
                with urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
                    lines = answer.read().decode().splitlines()
                pairs = (line.split(" ") for line in lines if not line.startswith("#"))
                return {name: float(value) for name, value in pairs if "{" not in name}
            time.sleep(0.05)  # it listens for calls first
        raise RuntimeError(f"{self._name}: no metrics")

    def draining(self) -> int:
        """How many calls were in progress when it began to drain, as its log has it; -1 if it did not."""
        for line in self._log.read_text().splitlines():
            said = json.loads(line)
            if said["message"] == "server.draining":
                return int(said["calls"])
        return -1


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used so far."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wrong_with(found: Figures) -> str:
    """What of these calls did not end well: '' for nothing. Each is paid, and charged once."""
    paid = found["status"].get("PAID", 0)
    if paid == found["calls"] > 0 and not found["miscounted"] and not found["wrong"]:
        return ""
    names = ("calls", "status", "lost_when", "refused", "unanswered", "miscounted", "wrong")
    return ", ".join(f"{name} {found[name]}" for name in names)


def flat(found: Figures, *names: str) -> dict[str, float]:
    """The p50 and p99 of some distributions as columns; milliseconds."""
    return {f"{name}_{place}": found[name][place] for name in names for place in ("p50", "p99")}


def run(program: Coroutine[Any, Any, int]) -> int:
    """Run a benchmark; ended by SIGTERM it leaves no process behind. Returns the exit status."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # a descriptor for each call; children inherit it

    async def interruptible() -> int:
        task = asyncio.create_task(program)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return uvloop.run(interruptible())
    except asyncio.CancelledError:
        return 1


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is begun within is on this core, where the machine lets us choose."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & ours or ours)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder on a disk, not in memory as /tmp may be; gone afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="call-", dir=CACHE) as folder:
        yield Path(folder)


def disk(folder: Path) -> dict[str, str]:
    """What the journal is on: the file system, and how long it takes to have 4 kB on it (fdatasync)."""
    file = folder / "probe"
    took = []
    wire = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        for place in range(200):
            os.pwrite(wire, os.urandom(4096), place % 16 * 4096)
            since = time.perf_counter()
            os.fdatasync(wire)
            took.append((time.perf_counter() - since) * 1000)
    finally:
        os.close(wire)
        file.unlink()
    return {
        "file_system": file_system(folder.resolve()),
        "fdatasync_ms": f"p50 {percentile(took, 50):.2f}, p99 {percentile(took, 99):.2f}",
    }


@contextmanager
def postgresql(core: int) -> Iterator[Callable[[], str]]:
    """A PostgreSQL of our own, on a real disk, on this core; gives the address of a new database each time."""
    sys.path.append(str(HERE.parent / "tests"))
    from postgres import PostgresServer, prototype  # noqa: PLC0415 - only where it is asked for

    with tempfile.TemporaryDirectory() as shared, on_core(core):  # its starter is a thread, begun here
        server = PostgresServer(prototype(Path(shared)), on_disk=True)
        with server:
            yield server.create
