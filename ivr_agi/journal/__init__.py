"""The journal of payments: the only truth there is, since the gateway cannot be asked afterwards.

Every step is committed to disk before its method returns. Writes are made by one thread
(`writer.py`), reads by others, none by the event loop. What may follow what is `tables.FOLLOWS`; a
step outside of it raises IllegalStep and changes nothing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from ivr_agi import metrics
from ivr_agi.journal import outbox, queries, steps, velocity
from ivr_agi.journal.engine import JournalError, cause, migrate, open_engine, rows
from ivr_agi.journal.lease import LEASE, Lease, recover, register
from ivr_agi.journal.owner import this_process
from ivr_agi.journal.steps import IllegalStep, NewAttempt, OrderHeld, Scribe
from ivr_agi.journal.tables import (
    AttemptState,
    Resolution,
    attempt,
    call_record,
    make_key,
    pause,
    timestamp,
)
from ivr_agi.journal.velocity import OverLimit, Paused, Refusal, Who
from ivr_agi.journal.writer import PATIENCE, Writer, cut, probe
from ivr_agi.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = [
    "AttemptState", "IllegalStep", "Journal", "JournalError", "NewAttempt", "OrderHeld", "OverLimit",
    "Paused", "Refusal", "Resolution", "Who", "make_key",
]  # fmt: skip

T = TypeVar("T")

READERS = 2  # threads
_CALL = sa.insert(call_record).inline()


class Journal:
    """The journal, opened: `await` for the server, plain calls for the commands."""

    def __init__(
        self, url: str, *, create: bool = True, notices: bool = False, limits: Limits | None = None
    ) -> None:
        """Open it and bring its schema up to date. Raises JournalError.

        create: False to refuse a SQLite file that is not there, rather than begin a new journal.
        notices: write for each outcome what the merchant is to be told (outbox.py).
        limits: beyond which no attempt begins, and no PIN is asked for; none unless given.
        """
        self._engine = open_engine(url, create=create)
        self._read_engine = self._engine.execution_options(reading=True)
        try:
            migrate(self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        self._scribe = Scribe(this_process(), notices, limits or Limits())
        # Its own: when it gives up a connection, those that read keep theirs.
        self._write_engine = open_engine(url, create=create)
        self._writer = Writer(self._write_engine)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="journal-read")
        self._reading: set[Any] = set()  # the driver's connections, in use
        self._lease: Lease | None = None
        self._closing = False
        self.on_notice: Callable[[], None] = lambda: None  # called on the loop when one was written by a step

    @property
    def place(self) -> str:
        """Where the journal is, for a log: an absolute path, or an address without its password."""
        url = self._engine.url
        if url.get_backend_name() == "sqlite":
            return str(Path(url.database or "").resolve())
        return url.render_as_string(hide_password=True)

    @property
    def trouble(self) -> str:
        """Why no payment can begin at present: the journal takes no write. '' when it does."""
        return self._writer.trouble

    def close(self) -> None:
        """Wait for what is being written, then close."""
        self._closing = True
        if self._lease:
            self._lease.close()
        self._writer.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._cut_readers()  # nobody waits for them any more
        self._readers.shutdown(wait=True)
        self._write_engine.dispose()
        self._engine.dispose()

    # -- the server's side: each returns once it is on disk -----------------------------------
    # A JournalError leaves open whether the step was taken. key names a step: given once more, with
    # again=True, it is taken once.

    async def reserve(self, new: NewAttempt, *, key: str | None = None) -> int:
        """Begin an attempt, with its first PIN: the order is now held by it.

        Raises OrderHeld, OverLimit, Paused, JournalError.
        """
        name = key or make_key()
        return await self._write(
            lambda connection, again: self._scribe.reserve(connection, new, name, again=again), counting=True
        )

    async def ask_pin(self, attempt_id: int, who: Who) -> None:
        """Count one more PIN of an attempt, before it is asked for.

        Raises OverLimit, IllegalStep, JournalError.
        """
        key = make_key()
        await self._write(
            lambda connection, again: self._scribe.ask_pin(connection, attempt_id, who, key, again=again),
            counting=True,
        )

    async def pin_not_sent(self, attempt_id: int, note: str, *, left: bool, ms: int | None = None) -> None:
        """The PIN that was asked for has been refused (left), or nothing of the request left.

        Raises JournalError.
        """
        key = make_key()
        await self._write(
            lambda connection, again: self._scribe.pin_not_sent(
                connection, attempt_id, note, key, left=left, again=again, ms=ms
            )
        )

    async def withdraw(self, key: str, reason: str) -> None:
        """Let go of what a `reserve` that raised JournalError may have begun. Raises JournalError."""
        await self._write(lambda connection, _again: self._scribe.withdraw(connection, key, reason))

    async def step(  # noqa: PLR0913 - what a step consists of
        self,
        attempt_id: int,
        state: AttemptState,
        note: str = "",
        *,
        holds_order: bool | None = None,
        key: str | None = None,
        again: bool = False,
        ms: int | None = None,
        **fields: str,
    ) -> None:
        """Take one step of FOLLOWS; fields: code, ref_id, review, reason. ms: the gateway's, for its answer.

        Raises IllegalStep, JournalError.
        """
        name = key or make_key()
        await self._write(
            lambda connection, again: self._scribe.step(
                connection,
                attempt_id,
                state,
                note=note,
                holds_order=holds_order,
                fields=fields,
                key=name,
                again=again,
                ms=ms,
            ),
            again=again,
        )
        if self._scribe.notices and state in outbox.TOLD:
            self.on_notice()

    async def note(  # noqa: PLR0913 - a line and its names
        self,
        attempt_id: int,
        note: str,
        *,
        review: str = "",
        key: str | None = None,
        again: bool = False,
        ms: int | None = None,
    ) -> None:
        """Add a line to an attempt's history without a step. Raises JournalError.

        review: what a person should look at, from now on. ms: the gateway's, for its answer.
        """
        name = key or make_key()
        await self._write(
            lambda connection, again: self._scribe.note(
                connection, attempt_id, note, review=review, key=name, again=again, ms=ms
            ),
            again=again,
        )

    async def standing(self, order_id: str) -> AttemptState | None:
        """How far the attempt that holds an order has come; None if none does. Raises JournalError."""
        return await self.look(lambda connection: steps.holder(connection, order_id))

    async def may_begin(self, who: Who) -> None:
        """Look, without a promise, whether an attempt could begin; what is not known yet is left out.

        Raises OrderHeld, OverLimit, Paused, JournalError.
        """

        def look(connection: sa.Connection) -> None:
            if hindrance := velocity.hindrance(connection, who, self._scribe.limits):
                raise hindrance

        await self.look(look)

    async def declines(self, attempt_id: int) -> int:
        """Declines within a day of an attempt's caller or card, whichever are more. Raises JournalError."""
        return await self.look(lambda connection: velocity.declines(connection, attempt_id))

    async def get(self, attempt_id: int) -> dict[str, Any] | None:
        """One attempt as it is now, a dictionary of the table's columns. Raises JournalError."""
        query = sa.select(attempt).where(attempt.c.id == attempt_id)
        return await self.look(lambda connection: next(iter(rows(connection, query)), None))

    async def count(self, state: AttemptState) -> int:
        """How many attempts are in a state. Raises JournalError."""
        query = sa.select(sa.func.count()).select_from(attempt).where(attempt.c.state == state)
        return await self.look(lambda connection: connection.execute(query).scalar_one())

    async def probe(self) -> None:
        """Commit a write that changes nothing that counts. Raises JournalError if none can be made."""
        await self._write(probe)

    async def record_call(self, **call: Any) -> None:
        """Remember a call that has ended, unhurriedly: columns of `call_record`. Raises JournalError."""
        row = {"ended_at": timestamp(), **call}
        written = self._writer.submit(
            lambda connection, _again: connection.execute(_CALL, row), unhurried=True
        )
        await _in_time(asyncio.wrap_future(written))

    async def write(self, do: Callable[[sa.Connection], T]) -> T:
        """Have something of the panel's written (people.py). Raises JournalError."""
        return await self._write(lambda connection, _again: do(connection))

    def now(self, do: Callable[[sa.Connection], T]) -> T:
        """Write, and wait for it without a loop: for the commands. Raises JournalError."""
        return self._now(lambda connection, _again: do(connection))

    async def _write(
        self, do: Callable[[sa.Connection, bool], T], *, again: bool = False, counting: bool = False
    ) -> T:
        counting = counting and bool(self._scribe.limits.each)
        with metrics.journal_commit_seconds.time():
            return await _in_time(
                asyncio.wrap_future(self._writer.submit(do, again=again, counting=counting))
            )

    async def look(self, job: Callable[[sa.Connection], T]) -> T:
        """Have something read, by a thread. Raises JournalError."""
        try:
            return await _in_time(asyncio.wrap_future(self._readers.submit(self._read, job)))
        except NoAnswer:
            self._cut_readers()  # those that hang would be missing from now on; the others ask again
            raise

    def _read(self, job: Callable[[sa.Connection], T]) -> T:
        try:
            try:
                return self._read_once(job)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated or self._closing:
                    raise
                return self._read_once(job)  # an idle connection may have died with a restart
        except sa.exc.SQLAlchemyError as error:
            metrics.journal_failures.inc()
            raise JournalError(f"the journal cannot be read: {cause(error)}") from None

    def _read_once(self, job: Callable[[sa.Connection], T]) -> T:
        connection = self._read_engine.connect()
        wire = connection.connection.driver_connection
        self._reading.add(wire)  # until all is over: the end of a transaction may hang, too
        try:
            with connection, connection.begin():
                return job(connection)
        finally:
            self._reading.discard(wire)

    def _cut_readers(self) -> None:
        for wire in tuple(self._reading):
            cut(wire)

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return self._read(lambda connection: rows(connection, query))

    def _now(self, do: Callable[[sa.Connection, bool], T]) -> T:
        """Write, and wait for it without a loop. Raises JournalError."""
        future = self._writer.submit(do)
        try:
            return future.result(PATIENCE)
        except TimeoutError:
            future.cancel()
            raise _no_answer() from None

    # -- the outbox (outbox.py says what each does): each raises JournalError ---------------------

    async def next_notice(self, without: Collection[str] = ()) -> float | None:
        """When the next notice is due, in seconds since 1970; None for none. without: orders left out."""
        return await self.look(lambda connection: outbox.soonest(connection, without))

    async def claim_notices(
        self, now: float, until: float, limit: int, without: Collection[str] = ()
    ) -> list[outbox.Notice]:
        """Take notices due at `now`, at most one of an order; nobody else gets them before `until`."""
        return await self._write(
            lambda connection, _again: outbox.claim(connection, now, until, limit, without)
        )

    async def settle_notice(self, told: outbox.Notice, **outcome: Any) -> None:
        """Write what came of a try; outcome: trouble, due_at, delivered_at, given_up_at."""
        await self._write(lambda connection, _again: outbox.settle(connection, told, **outcome))

    async def hurry_notices(self, now: float, later_than: float) -> int:
        """Have what is due only later than that tried now; returns how many."""
        return await self._write(lambda connection, _again: outbox.hurry(connection, now, later_than))

    async def waiting_notices(self) -> outbox.Waiting:
        """How many are neither delivered nor given up, and since when."""
        return await self.look(outbox.waiting)

    def notices(self, *, every: bool = False, limit: int | None = None) -> list[dict[str, Any]]:
        """Notices pending or given up, oldest first, without bodies; every: all, newest first."""
        return self._rows(outbox.listed(every=every, limit=limit))

    def resend_notice(self, key: str) -> bool:
        """Have one sent (again); False if there is none of that key."""
        return self._now(lambda connection, _again: outbox.resend(connection, key))

    def resend_given_up(self) -> int:
        """Have all that were given up sent; returns how many."""
        return self._now(lambda connection, _again: outbox.resend_given_up(connection))

    # -- on start ------------------------------------------------------------------------------

    def recover(self) -> dict[AttemptState, int]:
        """Settle what dead processes left: `sent` becomes unknown, what came before it failed.

        Nothing is posted again. Attempts of processes that live, or of other hosts, stay.
        Returns how many attempts ended in each state. Raises JournalError.
        """
        return self._now(lambda connection, _again: recover(connection, self._scribe))

    def live(self, told: Callable[[dict[AttemptState, int]], None], *, lease: float = LEASE) -> None:
        """Beat from now on, and watch over the other processes. Raises JournalError.

        told: hears, in a thread, how many attempts of a vanished process ended in each state.
        lease: seconds without a beat after which a process elsewhere counts as gone.
        """
        self._now(lambda connection, _again: register(connection, self._scribe.owner))
        self._lease = Lease(self._writer, self._scribe, told, lease=lease)

    # -- the pause --------------------------------------------------------------------------------

    def paused(self) -> dict[str, Any] | None:
        """Since when no payment begins, by whom and why; None if they do."""
        return next(iter(self._rows(sa.select(pause.c.since, pause.c.by, pause.c.reason))), None)

    async def is_paused(self) -> bool:
        """Whether no payment begins at present. Raises JournalError."""
        return await self.look(velocity.is_paused)

    def pause(self, by: str, reason: str) -> bool:
        """Let no payment begin, on any server; False if that was so already. Raises JournalError."""

        def do(connection: sa.Connection, _again: bool) -> bool:
            if velocity.is_paused(connection):
                return False
            connection.execute(
                sa.insert(pause).values(id=1, since=timestamp(), by=by[:80], reason=reason[:200])
            )
            return True

        return self._now(do)

    def resume(self) -> bool:
        """Let payments begin again; False if they did. Raises JournalError."""
        return self._now(lambda connection, _again: bool(connection.execute(sa.delete(pause)).rowcount))

    # -- for the commands ----------------------------------------------------------------------

    def resolve(  # noqa: PLR0913 - what a verdict consists of
        self,
        attempt_id: int,
        resolution: Resolution,
        *,
        by: str,
        evidence: str,
        ref_id: str = "",
        seen: AttemptState = AttemptState.UNKNOWN,
    ) -> bool:
        """Record what a person has found out about an ended attempt, and on what evidence.

        Paid: the order stays held; not paid: it may be paid again. Returns whether the order is held by
        it: False when it is paid and another attempt holds the order, so that somebody may have paid
        twice. seen: the state that the person judged by; should a late answer have changed it, nothing is
        written. Raises IllegalStep for that, for an attempt under way or not there; JournalError.
        """
        return self._now(
            lambda connection, _again: self._scribe.resolve(
                connection, attempt_id, resolution, by=by, evidence=evidence, ref_id=ref_id, seen=seen
            )
        )

    def attempts(
        self, *, order_id: str | None = None, state: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Attempts, newest first, as dictionaries of the table's columns."""
        return self._rows(queries.newest(order_id, state, limit))

    def each(self, since: str = "", until: str = "9999") -> Iterator[dict[str, Any]]:
        """Attempts begun from `since` until before `until` (ISO 8601, UTC), oldest first, read in pages."""
        last = 0
        while page := self._rows(queries.page(since, until, last)):
            yield from page
            last = page[-1]["id"]

    def same_card(self, attempt_id: int) -> list[dict[str, Any]]:
        """Attempts with the card of this one, newest first; none if it was written without a key."""
        return self._rows(queries.of_same_card(attempt_id))

    def review(self, stuck_since: str) -> list[dict[str, Any]]:
        """What a person should look at, oldest first: unknown and suspicious payments.

        stuck_since: ISO 8601; what is `sent` and has not moved since then is listed, too.
        """
        return self._rows(queries.in_doubt(stuck_since))

    def attempt(self, attempt_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """One attempt with its history, oldest step first; None if there is none."""
        return self._read(lambda connection: queries.with_history(connection, attempt_id))


async def _in_time(answer: asyncio.Future[T]) -> T:
    try:
        async with asyncio.timeout(PATIENCE):
            return await answer
    except TimeoutError:
        raise _no_answer() from None


class NoAnswer(JournalError):  # noqa: N818 - named for what it is
    """Nothing has come back in time; whoever was asked may hang."""


def _no_answer() -> NoAnswer:
    metrics.journal_failures.inc()
    return NoAnswer(f"the journal has not answered for {PATIENCE:g} s; see to its disk or database")
