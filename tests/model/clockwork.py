"""A world with a clock of its own: processes, their event loops and threads, all on one real thread.

Each process of the world is a server of ours, unchanged: its asyncio code runs on a `Loop`, its threads
(the journal's writer, its lease, its readers) on `Strand`s, which are greenlets that run when the world says
so. Time passes when nobody has anything left to do, and then at once. So the same choices give
the same run, a process is killed by never being run again, and is frozen by not being run for a while.

Nothing here knows of payments.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import queue
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

BOOTED = 1_000.0  # seconds that the machines have been up when a world begins
LATEST = float("inf")
AGES = 1e6  # seconds


class Killed(BaseException):
    """Unwinds a thread of a process that is dead."""


class World:
    """All there is. now: seconds; running: the process whose code runs at this moment."""

    def __init__(self) -> None:
        self.now = BOOTED
        self.running: Process | None = None
        self.processes: list[Process] = []
        self.mishaps: list[str] = []  # what an event loop complained of
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = itertools.count()

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Have something happen outside of all processes."""
        heapq.heappush(self._events, (self.now + seconds, next(self._serial), act))

    def run(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, or stop as soon as it is done; returns whether it is."""
        until = self.now + seconds
        while not done():
            if self.turn():
                continue
            following = min([self._next_event(), *(process.next_wake() for process in self.processes)])
            if following == LATEST and until - self.now > AGES:
                raise RuntimeError("somebody waits for what will never be")
            if following > until:
                self.now = max(self.now, until)
                return done()
            self.now = max(self.now, following)
        return True

    def turn(self) -> bool:
        """Let everybody do what is to be done at this very moment, once; returns whether there was anything."""
        worked = False
        asking, self.running = self.running, None
        while self._next_event() <= self.now:
            heapq.heappop(self._events)[2]()
            worked = True
        for process in list(self.processes):
            worked |= process.turn()
        self.running = asking
        return worked

    def _next_event(self) -> float:
        return self._events[0][0] if self._events else LATEST


class Process:
    """One process. lag: seconds by which its monotonic clock is behind, having been asleep."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.host = name.partition("/")[0]
        self.alive = True
        self.frozen = False
        self.blocked = False  # its main thread waits for another: the loop does not turn
        self.lag = 0.0
        self.strands: list[Strand] = []
        self.ready: deque[Strand] = deque()
        self.loop = Loop(self)
        world.processes.append(self)

    def monotonic(self) -> float:
        return self.world.now - self.lag

    def turn(self) -> bool:
        """One turn of each thread that has something to do, and of the event loop."""
        if self.frozen or not self.alive:
            return False
        worked = False
        before, self.world.running = self.world.running, self
        try:
            for strand in self.strands:
                if strand.wake_at <= self.world.now:
                    strand.awaken(timed_out=True)
            while self.ready:
                self.ready.popleft().resume()
                worked = True
            if not self.blocked and self.loop.due():
                self.loop.turn()
                worked = True
        finally:
            self.world.running = before
        return worked

    def next_wake(self) -> float:
        if self.frozen or not self.alive:
            return LATEST
        loop = LATEST if self.blocked else self.loop.next_wake()
        return min([loop, *(strand.wake_at for strand in self.strands)])

    def call(self, act: Callable[..., Any], *args: object) -> Any:
        """Run something as this process, outside of its event loop: what a command, or a start, does."""
        before, self.world.running = self.world.running, self
        try:
            return act(*args)
        finally:
            self.world.running = before

    def block(self, done: Callable[[], bool], seconds: float) -> bool:
        """The process's main thread waits for one of its others, while the world goes on."""
        self.blocked = True
        try:
            return self.world.run(seconds, lambda: done() or not self.alive) and done()
        finally:
            self.blocked = False

    def kill(self) -> None:
        """From now on it does nothing; `bury` gives back what it has."""
        self.alive = False
        self.world.processes.remove(self)

    def bury(self) -> None:
        """End the threads and tasks of a dead process; nothing that they do counts any more."""
        for strand in self.strands:
            strand.end()
        before, self.world.running = self.world.running, self
        try:
            self.loop.bury()
        finally:
            self.world.running = before


class _Nothing:
    """A selector of nothing: there are no sockets in this world."""

    def select(self, _timeout: float | None) -> list[object]:
        return []


class Loop(asyncio.BaseEventLoop):
    """An event loop whose time is the world's and that is run turn by turn."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._selector = _Nothing()
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._process.monotonic()

    def due(self) -> bool:
        soon = self.time() + self._clock_resolution  # as asyncio itself has it
        return bool(self._ready) or bool(self._scheduled and self._scheduled[0]._when <= soon)

    def next_wake(self) -> float:
        if self._ready:
            return self._process.world.now
        return self._scheduled[0]._when + self._process.lag if self._scheduled else LATEST

    def turn(self) -> None:
        """Run what is ready, once."""
        self.stop()
        self.run_forever()

    def bury(self) -> None:
        """Cancel everything and close."""
        for _ in range(50):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            for _ in range(5):
                self.turn()
        self.close()

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._process.alive:
            self._process.world.mishaps.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class Strand:
    """What is a thread in the product: it runs until it parks, and again when it is resumed."""

    def __init__(self, process: Process, target: Callable[[], object]) -> None:
        self.process = process
        self.wake_at = LATEST
        self._timed_out = False
        self._queued = True
        self._greenlet = greenlet(target)
        self._greenlet.strand = self
        process.strands.append(self)
        process.ready.append(self)

    @property
    def ended(self) -> bool:
        return bool(self._greenlet.dead)

    def resume(self) -> None:
        """Let it run until it parks, or ends."""
        self._queued = False
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()
        if self.ended and self in self.process.strands:
            self.process.strands.remove(self)

    def park(self, seconds: float = LATEST) -> bool:
        """Let the others go on until awakened, or for so long; returns whether time ran out."""
        self.wake_at = self.process.world.now + seconds
        self._greenlet.parent.switch()
        return self._timed_out

    def awaken(self, *, timed_out: bool = False) -> None:
        """Let it go on at the process's next turn."""
        if self._queued or self.ended:
            return
        self._queued = True
        self._timed_out = timed_out
        self.wake_at = LATEST
        self.process.ready.append(self)

    def end(self) -> None:
        """Unwind it: its process is dead."""
        while not self.ended:
            self._greenlet.parent = getcurrent()
            with suppress(Killed):
                self._greenlet.throw(Killed)


def this_strand() -> Strand | None:
    """The strand that runs at this moment; None for a process's main thread, and outside of all."""
    return getattr(getcurrent(), "strand", None)


# -- what the product's threads are made of, in place of `threading`, `queue` and `concurrent.futures` ----


def stand_ins(world: World) -> SimpleNamespace:  # noqa: C901 - five small classes
    """Thread, Event, SimpleQueue, Pool and Future.result for the processes of a world."""

    def running() -> Process:
        if world.running is None:
            raise RuntimeError("no process of the world runs")
        return world.running

    class Waiters:
        """Strands that wait for one thing."""

        def __init__(self) -> None:
            self._waiting: list[Strand] = []

        def wait(self, seconds: float | None) -> bool:
            """Returns whether time ran out."""
            strand = this_strand()
            if strand is None:
                raise RuntimeError("a main thread must not wait here")
            self._waiting.append(strand)
            late = strand.park(LATEST if seconds is None else seconds)
            if strand in self._waiting:
                self._waiting.remove(strand)
            return late

        def wake(self) -> None:
            while self._waiting:
                self._waiting.pop().awaken()

    class Thread:
        def __init__(self, *, target: Callable[[], object], name: str, daemon: bool) -> None:
            del name, daemon
            self._target = target
            self._process = running()
            self._strand: Strand | None = None

        def start(self) -> None:
            self._strand = Strand(self._process, self._target)

        def join(self, timeout: float = 1e9) -> None:
            self._process.block(lambda: not self.is_alive(), timeout)

        def is_alive(self) -> bool:
            return self._strand is not None and not self._strand.ended

    class Event:
        def __init__(self) -> None:
            self._set = False
            self._waiters = Waiters()

        def set(self) -> None:
            self._set = True
            self._waiters.wake()

        def wait(self, timeout: float | None = None) -> bool:
            if not self._set:
                self._waiters.wait(timeout)
            return self._set

    class SimpleQueue:
        def __init__(self) -> None:
            self._items: deque[Any] = deque()
            self._waiters = Waiters()

        def __class_getitem__(cls, _item: object) -> type:
            return cls

        def put(self, item: object) -> None:
            self._items.append(item)
            self._waiters.wake()

        def clear(self) -> None:
            for future, *_ in self._items:
                future.cancel()
            self._items.clear()

        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if not self._items and block:
                self._waiters.wait(timeout)
            if not self._items:
                raise queue.Empty
            return self._items.popleft()

    finished = Future.result

    def result(future: Future, timeout: float | None = None) -> Any:  # type: ignore[type-arg]
        """In place of Future.result: the other threads go on while a main thread waits."""
        if not future.done() and this_strand() is None and world.running is not None:
            world.running.block(future.done, 1e9 if timeout is None else timeout)
        return finished(future, 0)

    class Pool:
        """A ThreadPoolExecutor of one thread."""

        def __init__(self, *_args: object, **_options: object) -> None:
            self._jobs = SimpleQueue()
            self._thread = Thread(target=self._work, name="pool", daemon=True)
            self._thread.start()

        def submit(self, do: Callable[..., Any], *args: object) -> Future:  # type: ignore[type-arg]
            future: Future = Future()  # type: ignore[type-arg]
            self._jobs.put((future, do, args))
            return future

        def shutdown(self, *, wait: bool = True, cancel_futures: bool = False) -> None:
            if cancel_futures:
                self._jobs.clear()
            self._jobs.put(None)
            if wait:
                self._thread.join()

        def _work(self) -> None:
            while (job := self._jobs.get()) is not None:
                future, do, args = job
                if future.set_running_or_notify_cancel():
                    try:
                        future.set_result(do(*args))
                    except Exception as error:  # noqa: BLE001 - handed on to whoever waits
                        future.set_exception(error)

    return SimpleNamespace(
        Thread=Thread, Event=Event, SimpleQueue=SimpleQueue, Empty=queue.Empty, Pool=Pool, result=result
    )
