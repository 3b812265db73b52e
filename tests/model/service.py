"""The service in this world: servers of ours on one journal, started, drained, killed and frozen.

`Service` puts the world's clock, threads, disk and bank in place of the real ones, at the product's edges,
and takes them away again. Everything between is the product itself.
"""

from __future__ import annotations

import gc
import sqlite3
import ssl
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from model.bank import SEQUENCE, Bank
from model.callers import Caller, Line
from model.clockwork import Process, World, stand_ins
from model.faults import Disk

from ivr_agi import flow, https, journal, payments, settings
from ivr_agi.gateway import Gateway
from ivr_agi.journal import (
    AttemptState,
    IllegalStep,
    Journal,
    JournalError,
    Resolution,
    engine,
    lease,
    tables,
    velocity,
    writer,
)
from ivr_agi.journal.owner import Fate
from ivr_agi.model import Secret, Verdict
from ivr_agi.payments import Payments
from ivr_agi.server import Server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

EPOCH: Final = 1_790_000_000.0  # what the wall clock says when a world begins
LEASE: Final = 480.0  # seconds; longer than lease.LEASE, and with it the beat, for speed
SETTINGS: Final = settings.load(
    _env_file=None,
    gateway_url="https://bank.test",
    sequence=SEQUENCE,
    call_limit=400,
    otp_cooldown=10,
    drain_limit=120,
    max_calls=10_000,
)
NEVER_LOGGED: Final = ("call.broken", "pay.broken", "journal.contradicted")
GIVES_UP: Final = ("journal.owed_for_ever", "journal.stuck")  # on ending, while the disk is out of order
HOSTS: Final = ("here", "there")


class Compiled(dict[Any, Any]):
    """Statements, compiled once for all engines: SQLAlchemy's key begins with the engine's own dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


COMPILED: Final = Compiled()


@dataclass
class Running:
    """One server. disturbed: it was frozen, or says that it gives up. exited: it has drained and ended."""

    process: Process
    journal: Journal
    payments: Payments
    server: Server
    draining: bool = False
    disturbed: bool = False
    exited: bool = False
    asleep_since: float | None = None
    stopping: asyncio.Task[None] | None = None

    @property
    def accepting(self) -> bool:
        return self.process.alive and not self.draining


@cache
def no_tls() -> ssl.SSLContext:
    """Never used: nothing leaves this world."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Service:
    """Servers, their journal, the bank, the callers; and who has died."""

    def __init__(self, template: Path) -> None:
        """template: an empty journal of this release."""
        self.world = World()
        self.disk = Disk(template, self.world)
        self.eye = sqlite3.connect(self.disk.file, isolation_level=None)  # sees only what is committed
        self.bank = Bank(self.world, self._sent)
        self.wall = 0.0  # seconds that the wall clock has been set forward
        self.servers: list[Running] = []
        self.ever: list[Running] = []
        self.gone: list[Process] = []
        self.lines: list[Line] = []
        self.orders: list[str] = []
        self.logged: list[dict[str, Any]] = []
        self._names: dict[str, Process] = {}
        self._patches = pytest.MonkeyPatch()
        gc.disable()  # a world is small and short, and so all of it is thrown away at its end
        try:
            self._arrange()
        except BaseException:  # nothing of this world may stay behind for other tests
            self.close()
            raise

    # -- the edges ------------------------------------------------------------------------------

    def _arrange(self) -> None:
        patch, world = self._patches.setattr, self.world
        ours = stand_ins(world)
        clock = SimpleNamespace(monotonic=lambda: world.running.monotonic() if world.running else world.now)
        patch(writer, "threading", ours)
        patch(writer, "queue", ours)
        patch(writer, "time", clock)
        patch(lease, "threading", ours)
        patch(lease, "time", clock)
        patch(lease, "BEAT", LEASE / 4)
        patch(lease, "fate", self._fate)
        patch("concurrent.futures.Future.result", ours.result)
        patch(journal, "ThreadPoolExecutor", ours.Pool)
        patch(journal, "this_process", lambda: world.running.name if world.running else "")
        patch(journal, "migrate", lambda _engine: None)  # the template is of this release
        patch(journal, "open_engine", self._open_engine)
        patch(
            engine,
            "sqlite3",
            SimpleNamespace(connect=self.disk.connect, OperationalError=sqlite3.OperationalError),
        )
        patch(payments, "clock", lambda: world.now)
        patch(https, "transport", self.bank.transport)
        wall = SimpleNamespace(now=lambda zone: datetime.fromtimestamp(EPOCH + world.now + self.wall, zone))
        patch(tables, "datetime", wall)
        patch(velocity, "datetime", wall)
        patch(flow, "datetime", wall)
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.format_exc_info,
                self._log,
            ],
            wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        )

    def _log(self, _logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        self.logged.append(event)
        if event["event"] in NEVER_LOGGED and not self._taken_for_gone(event) and not _is_no_news(event):
            self.world.mishaps.append(f"logged: {event}")
        if event["event"] in GIVES_UP:
            self._mark_disturbed()
        raise structlog.DropEvent

    def _mark_disturbed(self) -> None:
        for running in self.ever:
            if running.process is self.world.running:
                running.disturbed = True

    def _taken_for_gone(self, event: dict[str, Any]) -> bool:
        """Whether this call's server was frozen for so long that another one has let go of its attempt."""
        frozen = any(r.disturbed for r in self.ever if r.process is self.world.running)
        return frozen and "IllegalStep: attempt" in event.get("exception", "")

    @staticmethod
    def _open_engine(url: str, **options: Any) -> Any:
        opened = engine.open_engine(url, **options)
        opened.update_execution_options(compiled_cache=COMPILED)
        return opened

    def _fate(self, name: str, *, alone: bool) -> Fate:
        """What the process that asks can say of another. alone: SQLite's journal is one machine's."""
        del alone
        asks, host = self.world.running, name.partition("/")[0]
        if asks is None or asks.host != host:
            return Fate.ELSEWHERE
        return Fate.LIVES if self._names[name].alive else Fate.GONE

    def _sent(self, order: str) -> list[tuple[int, str]]:
        """Attempts of an order that are `sent` on the disk: the id, and the call's."""
        query = "SELECT id, \"call\" FROM attempt WHERE order_id = ? AND state = 'sent'"
        return self.eye.execute(query, (order,)).fetchall()

    # -- servers ----------------------------------------------------------------------------------

    def _process(self, host: str) -> Process:
        process = Process(self.world, f"{host}/boot/{len(self._names) + 1}/0")
        self._names[process.name] = process
        return process

    def start(self, host: str) -> Running | None:
        """Start a server; None if the journal does not let it."""
        process = self._process(host)
        try:
            running = process.call(self._boot, process)
        except JournalError:
            self._die(process)
            return None
        self.servers.append(running)
        self.ever.append(running)
        return running

    def _boot(self, process: Process) -> Running:
        opened = Journal(self.disk.url, create=False)
        opened.recover()
        opened.live(lambda _settled: None, lease=LEASE)
        client = Gateway(
            SETTINGS.gateway_url,
            Secret(SEQUENCE),
            otp_timeout=SETTINGS.otp_timeout,
            pay_timeout=SETTINGS.pay_timeout,
            late_limit=SETTINGS.late_limit,
            tls=no_tls(),
        )
        money = Payments(opened, client)
        return Running(process, opened, money, Server(SETTINGS, money))

    def kill(self, running: Running) -> None:
        """SIGKILL, at whatever moment this is."""
        self.servers.remove(running)
        self._die(running.process)
        for line in self.lines:
            if line.process is running.process and not line.closed:
                line.cut = line.closed = True

    def _die(self, process: Process) -> None:
        process.kill()
        self.gone.append(process)

    def drain(self, running: Running) -> None:
        """SIGTERM."""
        running.draining = True

        def exit_() -> None:
            if running.process.frozen:
                self.world.after(1, exit_)
                return
            if running.process.alive:
                running.process.call(running.journal.close)
            if running.process.alive:  # nobody has killed it meanwhile
                running.exited = True
                self.servers.remove(running)
                self._die(running.process)

        async def stop() -> None:
            await running.server.drain()
            self.world.after(0, exit_)

        def begin() -> None:
            running.stopping = running.process.loop.create_task(stop())

        running.process.loop.call_soon(begin)

    def freeze(self, running: Running) -> None:
        """SIGSTOP, or the whole machine asleep."""
        running.process.frozen = running.disturbed = True
        running.asleep_since = self.world.now

    def thaw(self, running: Running, *, slept: bool) -> None:
        """Go on. slept: the process's monotonic clock stood still."""
        running.process.frozen = False
        if slept and running.asleep_since is not None:
            running.process.lag += self.world.now - running.asleep_since

    # -- callers, and a person ----------------------------------------------------------------------

    def ring(self, running: Running, caller: Caller) -> Line:
        """A call begins."""
        if not caller.order or caller.order > len(self.orders):
            self.orders.append(f"O-{len(self.orders) + 1}")
            order = self.orders[-1]
        else:
            order = self.orders[-caller.order]
        line = Line(self.world, self.bank, running.process, caller, order=order, serial=len(self.lines) + 1)
        self.lines.append(line)
        line.dial(running.server)
        return line

    def resolve(self, choice: int) -> bool:
        """A person looks at one payment that is in doubt, asks the bank, and says what is true."""
        doubtful = "SELECT 1 FROM attempt WHERE state = 'unknown' OR state = 'declined' AND review <> ''"
        if not self.eye.execute(doubtful).fetchone():
            return False
        return bool(self.command(lambda found: self._resolve(found, choice)))

    def _resolve(self, opened: Journal, choice: int) -> bool:
        doubtful = [row for row in opened.review("") if row["state"] in ("unknown", "declined")]
        if not doubtful:
            return False
        row = doubtful[choice % len(doubtful)]
        attempt, seen = row["id"], AttemptState(row["state"])
        request = self.bank.by_attempt.get(attempt)
        if request and request.deciding:
            return False  # the bank cannot say yet
        paid = request is not None and request.charged
        opened.resolve(
            attempt,
            Resolution.PAID if paid else Resolution.NOT_PAID,
            by="a person",
            evidence="the bank's own list",
            ref_id=request.ref if request and paid else "",
            seen=seen,
        )
        return True

    def command(self, act: Callable[[Journal], Any]) -> Any:
        """Do something as `ivr-agi journal` does; None if the journal is out of order."""
        process = self._process(HOSTS[0])

        def run() -> Any:
            opened = Journal(self.disk.url, create=False)
            try:
                return act(opened)
            finally:
                opened.close()

        try:
            return process.call(run)
        except (JournalError, IllegalStep):  # out of order; or the attempt has moved on meanwhile
            return None
        finally:
            self._die(process)

    # -- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give everything back."""
        self.disk.get_well()
        for running in list(self.servers):
            self.kill(running)
        for process in self.gone:
            process.bury()
        self.eye.close()
        self._patches.undo()
        structlog.reset_defaults()
        self.disk.remove()
        gc.enable()


def _is_no_news(event: dict[str, Any]) -> bool:
    """Whether a server that was taken for gone says of a payment, settled since, that it knows nothing."""
    return event["event"] == "journal.contradicted" and event["verdict"] is Verdict.UNKNOWN
