"""The one thread that writes: what is waiting is committed together, and a failure stops all writing.

Calls that wait at the same moment share one transaction, and so one fsync. When a commit fails, or
nothing answers in time, the journal is out of order: each further write is refused at once, without
touching the disk, until a test write succeeds; the thread tries one every second. So a caller is told
quickly, and service comes back by itself.

A commit whose answer was lost may still have been made. So a step has a key, and a job that is run
again looks for its key first: no step is ever taken twice.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import sqlalchemy as sa
import structlog

from ivr_agi import metrics
from ivr_agi.journal.engine import JournalError, cause
from ivr_agi.journal.velocity import Refusal, take_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger()
T = TypeVar("T")

MOST: Final = 256  # jobs in one transaction
PATIENCE: Final = 15.0  # seconds until a write that nothing answers counts as failed
# PostgreSQL's deadlock_detected, serialization_failure, lock_not_available
CROSSED: Final = ("40P01", "40001", "55P03")
UNHURRIED: Final = 0.1  # seconds that a job for which nobody waits does so for others, to share their fsync
PROBE_EVERY: Final = 1.0  # seconds between test writes while out of order


@dataclass(slots=True)
class Job(Generic[T]):
    """One piece of work in a transaction. do: is told whether it may have been done before.

    counting: it counts against limits, and nobody else may meanwhile. unhurried: nobody waits for it, so that
    it can wait for others.
    """

    do: Callable[[sa.Connection, bool], T]
    again: bool = False
    counting: bool = False
    unhurried: bool = False
    future: Future[T] = field(default_factory=Future)


Outcome = tuple[Job[Any], Any, Refusal | None]  # its result, or what it was refused for


class Writer:
    """The writing thread of one journal."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._trouble = ""
        self._busy_since: float | None = None
        self._opened: sa.Connection | None = None  # kept from one transaction to the next, unless one fails
        self._connection: Any = None  # the driver's, while a transaction is under way
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why the journal takes no write at present; '' if it does."""
        since = self._busy_since
        if not self._trouble and since is not None and time.monotonic() - since > PATIENCE:
            return f"nothing has answered for {PATIENCE:g} s"
        return self._trouble

    def submit(
        self,
        do: Callable[[sa.Connection, bool], T],
        *,
        again: bool = False,
        counting: bool = False,
        unhurried: bool = False,
    ) -> Future[T]:
        """Have a job done in a transaction of the thread's; the future ends once it is on disk.

        The future raises JournalError when it could not be, or when that is not certain.
        """
        job = Job(do, again, counting, unhurried)
        if trouble := self.trouble:
            job.future.set_exception(_refused(trouble))
        else:
            self._waiting.put(job)
        return job.future

    def close(self) -> None:
        """Do what is waiting, then end."""
        self._waiting.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.critical("journal.stuck", cure="the disk or the database does not answer; see its log")

    def loosen(self) -> None:
        """Cut a connection on which nothing answers; SQLite has none that could be cut."""
        since, connection = self._busy_since, self._connection
        if since is not None and time.monotonic() - since >= PATIENCE and connection is not None:
            cut(connection)

    # -- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        ended = False
        while not ended:
            try:
                ended = self._turn()
            except Exception:  # a bug of ours; without this thread nothing would ever be written again
                log.exception("journal.broken")
        self._let_go()

    def _turn(self) -> bool:
        """Do what is waiting; returns whether to end."""
        jobs, ended = self._take()
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        if self._trouble and not self._probe():
            for job in jobs:
                job.future.set_exception(_refused(self._trouble))
        elif jobs:
            self._commit(jobs)
        return ended

    def _take(self) -> tuple[list[Job[Any]], bool]:
        """What is waiting now, at least one; none when it is time for a test write. And whether to end."""
        jobs: list[Job[Any]] = []
        until = 0.0  # when those for whom nobody waits have waited enough
        try:
            while len(jobs) < MOST:
                job = self._waiting.get(timeout=self._patience(jobs, until))
                if job is None:
                    return jobs, True
                until = until or time.monotonic() + UNHURRIED
                jobs.append(job)
        except queue.Empty:
            pass
        return jobs, False

    def _patience(self, jobs: list[Job[Any]], until: float) -> float | None:
        """Seconds to wait for one more than these; None for however long it takes."""
        if not jobs:
            return PROBE_EVERY if self._trouble else None
        return max(0.0, until - time.monotonic()) if all(job.unhurried for job in jobs) else 0.0

    def _commit(self, jobs: list[Job[Any]]) -> None:
        try:
            self._transact(jobs)
        except NotOurTurn as error:
            self._without_counting(jobs, error)
        except Exception as error:  # noqa: BLE001 - a bug, too: no job may hang
            if _is_a_jobs(error):
                self._one_by_one(jobs, error)
            elif isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
                self._once_more(jobs)
            else:
                self._fail(jobs, error)

    def _without_counting(self, jobs: list[Job[Any]], error: NotOurTurn) -> None:
        """Outcomes need not wait until another server has counted; what would count is refused."""
        for job in jobs:
            if job.counting:
                job.future.set_exception(_refused(str(error)))
        if rest := [job for job in jobs if not job.counting]:
            self._commit(rest)

    def _one_by_one(self, jobs: list[Job[Any]], error: Exception) -> None:
        """Nothing was committed: each on its own, so that only the one that cannot be done is refused."""
        if len(jobs) == 1:
            metrics.journal_failures.inc()
            jobs[0].future.set_exception(_refused(_why(error)))
            return
        for job in jobs:
            if self._trouble:
                job.future.set_exception(_refused(self._trouble))
            else:
                self._commit([job])

    def _once_more(self, jobs: list[Job[Any]]) -> None:
        """On a new connection: the old one may only have been idle for too long."""
        for job in jobs:
            job.again = True  # the commit may have been made
        try:
            self._transact(jobs)
        except NotOurTurn as error:
            self._without_counting(jobs, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(jobs, error)

    def _transact(self, jobs: list[Job[Any]]) -> None:
        """One transaction for all; their futures are told once it is committed."""
        outcomes: list[Outcome] = []
        self._busy_since = time.monotonic()
        try:
            connection = self._opened = self._opened or self._engine.connect()
            with connection.begin():
                self._connection = connection.connection.driver_connection
                if any(job.counting for job in jobs):
                    _take_turn(connection)
                for job in jobs:
                    try:
                        outcomes.append((job, job.do(connection, job.again), None))
                    except Refusal as answer:  # raised before any write
                        outcomes.append((job, None, answer))
        except BaseException:
            self._let_go()  # whatever has failed: the next one has nothing of it
            raise
        finally:
            self._busy_since = self._connection = None
        metrics.journal_commits.inc()
        _tell(outcomes)

    def _let_go(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _fail(self, jobs: list[Job[Any]], error: Exception) -> None:
        metrics.journal_failures.inc()
        if not self._trouble:
            log.critical(
                "journal.out_of_order",
                error=_why(error),
                cure="no payment begins until a test write succeeds; see to the disk or the database",
            )
        self._give_up(error)
        for job in jobs:
            job.future.set_exception(_refused(self._trouble))

    def _probe(self) -> bool:
        try:
            self._transact([Job(probe)])
        except Exception as error:  # noqa: BLE001 - still out of order, whatever it is
            self._give_up(error)
            return False
        log.warning("journal.in_order_again", was=self._trouble)
        self._trouble = ""
        return True

    def _give_up(self, error: Exception) -> None:
        self._trouble = _why(error)
        with suppress(Exception):
            self._engine.dispose()  # what the connection knows of the disk may be no longer true


def _tell(outcomes: Iterable[Outcome]) -> None:
    """What has come of each job, now that all of it is on disk."""
    for job, result, refusal in outcomes:
        if refusal:
            job.future.set_exception(refusal)
        else:
            job.future.set_result(result)


class NotOurTurn(Exception):  # noqa: N818 - an answer, not a fault
    """Another server counts, and does not come to an end."""


def _take_turn(connection: sa.Connection) -> None:
    try:
        take_turn(connection)
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", "") not in CROSSED:
            raise
        raise NotOurTurn("another server counts, and does not come to an end") from None


def cut(connection: Any) -> None:
    """End a driver's connection on which somebody waits in vain; SQLite's has nothing to cut."""
    with suppress(Exception):
        wire = socket.socket(fileno=connection.fileno())
        try:
            wire.shutdown(socket.SHUT_RDWR)
        finally:
            wire.detach()


def probe(connection: sa.Connection, _again: bool = False) -> None:
    """A write that changes nothing that counts, and yet is one to the disk."""
    connection.exec_driver_sql("SELECT count(*) FROM process").close()  # it is our journal
    # One that changes not one byte is no write to SQLite; its header's user version, not used
    # otherwise, is written whatever it was. PostgreSQL writes a row that is the same.
    statement = (
        "PRAGMA user_version = 1"
        if connection.dialect.name == "sqlite"
        else "UPDATE alembic_version SET version_num = version_num"
    )
    connection.exec_driver_sql(statement).close()


def _is_a_jobs(error: Exception) -> bool:
    """Whether it is one job that cannot be done (or two servers in each other's way), not the journal."""
    if isinstance(error, JournalError):  # a connection that we do not take
        return False
    if not isinstance(error, sa.exc.SQLAlchemyError):  # what cannot be stored, or a bug
        return True
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return True
    return getattr(getattr(error, "orig", None), "sqlstate", "") in CROSSED


def _why(error: Exception) -> str:
    """What went wrong, without a value of ours: the database's words, or our own."""
    if isinstance(error, sa.exc.SQLAlchemyError):
        return cause(error)
    return str(error) if isinstance(error, JournalError) else type(error).__name__


def _refused(why: str) -> JournalError:
    return JournalError(f"the journal has not taken a step: {why}")
