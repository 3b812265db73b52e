"""The process above the workers: it starts, watches, replaces and ends them. It takes no call.

A worker that dies is replaced at once, and later and later if it keeps dying. One whose loop does not turn
is killed, and replaced. SIGHUP starts all anew, with the code and the settings of that moment: the old ones
let their calls end while the new ones take what comes; if the new ones do not get ready, the old ones stay.
SIGTERM drains all, a second one shortens that. Those below speak sd_notify(3) to it, as they would to
systemd; it speaks for all of them to systemd itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import multiprocess

from ivr_agi.workers import roll
from ivr_agi.workers.place import FRONT, METRICS, ROLL, STATE, Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from ivr_agi.notify import Notify

log = structlog.get_logger()

READY_SECONDS: Final = 60.0  # until one that was started takes calls
WATCHDOG_SECONDS: Final = 30.0  # without a turn of its loop
SOON: Final = 10.0  # seconds; one that dies sooner is started again later and later
LONGEST_WAIT: Final = 30.0  # seconds between two starts of one that keeps dying
MEMORY: Final = Path("/dev", "shm")  # a folder of our own is made there


@dataclass(eq=False, slots=True)
class Child:
    """A process below. part: FRONT, or which of the workers it is."""

    place: Place
    part: str
    process: asyncio.subprocess.Process
    ear: socket.socket  # on which it is heard
    since: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    heard: float = 0.0  # when it last was
    status: str = ""
    leaving: bool = False


class StartFailed(Exception):  # noqa: N818 - named for what it is
    """A process below did not get ready. status: what it ended with, 1 if it did not end."""

    def __init__(self, status: int) -> None:
        super().__init__("a worker did not get ready: its own lines of the log say why")
        self.status = status


class Supervisor:
    """One run of `serve --workers`."""

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        sockets: Sequence[Sequence[socket.socket]],
        web: Sequence[socket.socket],
        listen: Callable[[], Awaitable[Sequence[socket.socket]]],
        notify: Notify,
        *,
        max_calls: int,
        drain_seconds: float,
        address: str,
        command: Sequence[str] = (sys.executable, "-m", "ivr_agi", "serve"),
    ) -> None:
        """sockets: for each worker, those it listens on. web: the front's; none if they cannot be had.

        listen: opens such sockets anew. max_calls: of all workers. drain_seconds: what systemd is told that
        the end may take.
        """
        self._sockets: dict[str, Sequence[socket.socket]] = {
            **{str(number): of for number, of in enumerate(sockets)},
            FRONT: web,
        }
        self._listen = listen
        self._notify = notify
        self._max_calls = max_calls
        self._drain_seconds = drain_seconds
        self._address = address
        self._command = command
        self._most = 2 * len(self._sockets) + 2  # during a reload there are the old ones, too
        self._children: dict[int, Child] = {}
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        base = os.environ.get("RUNTIME_DIRECTORY") or (str(MEMORY) if os.access(MEMORY, os.W_OK) else None)
        self._folder = Path(tempfile.mkdtemp(prefix="ivr-agi-", dir=base))
        (self._folder / METRICS).mkdir()
        roll.make(self._folder / ROLL, self._most, max_calls, secrets.token_bytes(roll.KEY))

    async def run(self) -> int:
        """Until SIGTERM or SIGINT has come, and all have ended; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        self._reloading = self._go(self._start_all())
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            try:
                await self._reloading
            except StartFailed as failed:
                if self._ending.is_set():  # told to end before it had begun
                    await self._ended()
                    return 0
                log.critical("workers.not_started", error=str(failed))
                self._end()
                await self._ended()
                return failed.status
            log.info("workers.ready", workers=len(self._sockets) - 1, address=self._address)
            self._notify.ready(self._status)
            watching = asyncio.create_task(self._watch())
            await self._ending.wait()
            self._notify.stopping("Draining", self._drain_seconds)
            watching.cancel()
            await self._ended()
        finally:
            self._notify.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        return 0

    # -- signals ------------------------------------------------------------------------------------

    def _end(self) -> None:
        """The first time all drain, the second time they hurry."""
        number = signal.SIGINT if self._ending.is_set() else signal.SIGTERM
        self._ending.set()
        for child in self._children.values():
            child.leaving = True
            _signal(child, number)

    def _reload(self) -> None:
        if self._ending.is_set():
            return
        if not self._reloading.done():
            log.warning("workers.still_starting", cure="wait for workers.ready or workers.reloaded")
            return
        if len(self._children) + len(self._sockets) > self._most:
            log.warning("workers.still_draining", cure="wait until those of the reload before have ended")
            return
        self._reloading = self._go(self._replace_all())

    async def _replace_all(self) -> None:
        old = [child for child in self._children.values() if not child.leaving]
        log.info("workers.reloading", workers=len(old) - 1)
        try:
            await self._start_all()
        except (StartFailed, OSError) as failed:
            log.error(
                "workers.not_reloaded",
                error=str(failed),
                cure="mend it, then SIGHUP again; the old ones go on",
            )
            return
        for child in old:
            child.leaving = True
            _signal(child, signal.SIGTERM)
        self._tell()
        log.info("workers.reloaded", draining=len(old))

    # -- starting, and what becomes of them ---------------------------------------------------------

    async def _start_all(self) -> None:
        """Start one of each part, and wait until all are ready. Raises StartFailed; then none stays."""
        begun = [await self._start(part) for part in self._sockets]
        failed = 0
        for child in begun:
            failed = failed or await self._until_ready(child)
        if failed:
            for child in begun:
                child.leaving = True
                _signal(child, signal.SIGTERM)
            raise StartFailed(failed)
        self._tell()

    async def _until_ready(self, child: Child) -> int:
        """Wait for it; returns 0, or with what it failed."""
        ready, ended = (asyncio.create_task(child.ready.wait()), asyncio.create_task(child.process.wait()))
        try:
            await asyncio.wait((ready, ended), timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            ended.cancel()
        if child.ready.is_set():
            return 0
        if child.process.returncode is None:
            log.error("worker.not_ready", name=child.place.name, seconds=READY_SECONDS)
            _signal(child, signal.SIGKILL)
        return abs(child.process.returncode or 1)

    async def _start(self, part: str) -> Child:
        slot = next(number for number in range(self._most) if number not in self._children)
        descriptors = tuple(each.fileno() for each in self._sockets[part])
        place = Place(slot, part == FRONT, self._folder, descriptors, self._max_calls)
        ear = _listen_to(place)
        inherited = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
        environment = {**inherited, **place.variables, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=environment,
            pass_fds=descriptors,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # the keyboard's signals are for us to hand on
        )
        child = self._children[slot] = Child(place, part, process, ear, self._now())
        log.info("worker.started", name=place.name, pid=process.pid)
        asyncio.get_running_loop().add_reader(ear.fileno(), self._hear, child)
        self._go(self._keep(child))
        if self._ending.is_set():  # it came too late to be told with the others
            child.leaving = True
            _signal(child, signal.SIGTERM)
        return child

    async def _keep(self, child: Child) -> None:
        """When it has ended, clear up after it, and replace it unless it was told to go."""
        status = await child.process.wait()
        self._forget(child)
        if child.leaving or self._ending.is_set():
            return
        if not child.ready.is_set():
            return  # whoever started it sees to that
        log.error(
            "worker.died", name=child.place.name, pid=child.process.pid, status=status, cure="it is replaced"
        )
        await self._replace(child.part, 0.0 if self._now() - child.since > SOON else 1.0)

    async def _replace(self, part: str, wait: float) -> None:
        while not self._ending.is_set():
            if wait:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._ending.wait()
                        return
            status = await self._try_again(part)
            if not status:
                self._tell()
                return
            wait = min(LONGEST_WAIT, 2 * wait or 1.0)
            log.error("worker.not_replaced", part=part, status=status, again_in=wait)
            self._let_go(part)

    async def _try_again(self, part: str) -> int:
        """Start another one; returns 0 once it is ready, or with what it failed."""
        try:
            if not self._sockets[part] and part != FRONT:
                self._sockets[part] = await self._listen()
            child = await self._start(part)
        except OSError as error:
            log.error("worker.not_started", part=part, error=error.strerror)
            return 1
        status = await self._until_ready(child)
        if not status:
            log.info("worker.replaced", name=child.place.name, pid=child.process.pid)
        return status

    def _let_go(self, part: str) -> None:
        """Close what nobody takes calls from: they go to the others; those that wait there hear an end."""
        if part != FRONT:
            for each in self._sockets[part]:
                each.close()
            self._sockets[part] = []

    def _forget(self, child: Child) -> None:
        asyncio.get_running_loop().remove_reader(child.ear.fileno())
        child.ear.close()
        for path in (child.place.ear, child.place.mouth):
            path.unlink(missing_ok=True)
        multiprocess.mark_process_dead(child.place.slot, str(child.place.metrics))  # type: ignore[no-untyped-call]
        roll.clear(self._folder / ROLL, child.place.slot, self._max_calls)
        del self._children[child.place.slot]
        self._tell()

    async def _ended(self) -> None:
        """Until all have; each is bounded by its own limits."""
        while self._children:
            await asyncio.wait(
                [asyncio.create_task(child.process.wait()) for child in self._children.values()]
            )
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()

    # -- hearing them -------------------------------------------------------------------------------

    def _hear(self, child: Child) -> None:
        with suppress(BlockingIOError):
            while True:
                for line in child.ear.recv(4096).decode(errors="replace").splitlines():
                    name, _, value = line.partition("=")
                    if name == "READY":
                        child.ready.set()
                    elif name == "STATUS":
                        child.status = value
                child.heard = self._now()

    async def _watch(self) -> None:
        """Kill those whose loop does not turn."""
        while True:
            await asyncio.sleep(WATCHDOG_SECONDS / 4)
            for child in tuple(self._children.values()):
                if child.ready.is_set() and self._now() - child.heard > WATCHDOG_SECONDS:
                    log.critical(
                        "worker.hangs",
                        worker=child.part,
                        pid=child.process.pid,
                        cure="it is killed, and replaced",
                    )
                    _signal(child, signal.SIGKILL)

    # -- telling of them ----------------------------------------------------------------------------

    def _working(self) -> Iterator[Child]:
        return (
            child
            for child in self._children.values()
            if child.part != FRONT and child.ready.is_set() and not child.leaving
        )

    def _status(self) -> str:
        return f"Taking calls on {self._address}; {len(list(self._working()))} workers"

    def _tell(self) -> None:
        """Tell the front how the workers are."""
        said = {
            "working": len(list(self._working())),
            "pids": [child.process.pid for child in self._children.values()],
        }
        new = self._folder / f"{STATE}.new"
        with suppress(OSError):
            new.write_text(json.dumps(said))
            new.replace(self._folder / STATE)

    # -- odds and ends ------------------------------------------------------------------------------

    def _go(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _listen_to(place: Place) -> socket.socket:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    ear.bind(str(place.ear))
    return ear


def _signal(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        child.process.send_signal(number)
