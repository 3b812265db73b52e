"""The journal of payments: the only truth there is, since the gateway cannot be asked afterwards.

Every step is committed to disk before its method returns. Writes are made by threads, never by
the event loop. What may follow what is `tables.FOLLOWS`; a step outside of it raises
IllegalStep and changes nothing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
import structlog

from ivr_agi import metrics
from ivr_agi.journal.engine import JournalError, cause, migrate, open_engine, rows
from ivr_agi.journal.owner import is_gone, this_process
from ivr_agi.journal.tables import FOLLOWS, HOLDING, AttemptState, attempt, history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["AttemptState", "IllegalStep", "Journal", "JournalError", "NewAttempt", "OrderHeld"]

log = structlog.get_logger()
T = TypeVar("T")


class OrderHeld(Exception):  # noqa: N818 - an answer, not a fault
    """Another attempt holds the order. state: how far that one has come."""

    def __init__(self, state: AttemptState) -> None:
        super().__init__(f"the order is held by an attempt in state {state}")
        self.state = state


class IllegalStep(Exception):  # noqa: N818
    """A step that `tables.FOLLOWS` does not have: a bug of ours, and nothing was written."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """What an attempt begins with. card is masked, amount in rials, call Asterisk's unique id."""

    order_id: str
    method: str
    amount: int
    card: str
    mobile: str
    call: str = ""


class Journal:
    """The journal, opened: `await` for the server, plain reading for the commands."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Open it and bring its schema up to date. Raises JournalError.

        create: False to refuse a SQLite file that is not there, rather than begin a new journal.
        """
        self._engine = open_engine(url, create=create)
        try:
            migrate(self._engine)
        except JournalError:
            self._engine.dispose()
            raise
        self._owner = this_process()
        # SQLite has one writer anyway; a second thread would only wait for the lock.
        writers = 1 if self._engine.dialect.name == "sqlite" else 4
        self._threads = ThreadPoolExecutor(writers, thread_name_prefix="journal")

    @property
    def place(self) -> str:
        """Where the journal is, for a log: an absolute path, or an address without its password."""
        url = self._engine.url
        if url.get_backend_name() == "sqlite":
            return str(Path(url.database or "").resolve())
        return url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Wait for what is being written, then close."""
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    # -- the server's side: each returns once it is on disk -----------------------------------

    async def reserve(self, new: NewAttempt) -> int:
        """Begin an attempt: the order is now held by it. Raises OrderHeld, JournalError."""
        return await self._write(lambda connection: self._reserve(connection, new))

    async def step(
        self,
        attempt_id: int,
        state: AttemptState,
        note: str = "",
        *,
        holds_order: bool | None = None,
        **fields: str,
    ) -> None:
        """Take one step of FOLLOWS; fields: code, ref_id, review, reason.

        Raises IllegalStep, JournalError.
        """
        await self._write(
            lambda connection: self._step(connection, attempt_id, state, note, holds_order, fields)
        )

    async def note(self, attempt_id: int, note: str) -> None:
        """Add a line to an attempt's history without a step. Raises JournalError."""

        def remember(connection: sa.Connection) -> None:
            state = connection.execute(
                sa.select(attempt.c.state).where(attempt.c.id == attempt_id)
            ).scalar_one()
            self._remember(connection, attempt_id, AttemptState(state), note, _now())

        await self._write(remember)

    async def standing(self, order_id: str) -> AttemptState | None:
        """How far the attempt that holds an order has come; None if none does."""
        return await asyncio.wrap_future(
            self._threads.submit(self._read, lambda connection: _holder(connection, order_id))
        )

    async def count(self, state: AttemptState) -> int:
        """How many attempts are in a state. Raises JournalError."""
        query = sa.select(sa.func.count()).select_from(attempt).where(attempt.c.state == state)
        return await asyncio.wrap_future(
            self._threads.submit(self._read, lambda connection: connection.execute(query).scalar_one())
        )

    async def probe(self) -> None:
        """Commit a write that changes nothing that counts. Raises JournalError if none can be made."""
        # One that changes not one byte is no write to SQLite; its header's user version, not used
        # otherwise, is written whatever it was. PostgreSQL writes a row that is the same.
        statement = (
            "PRAGMA user_version = 1"
            if self._engine.dialect.name == "sqlite"
            else "UPDATE alembic_version SET version_num = version_num"
        )
        await self._write(lambda connection: connection.exec_driver_sql(statement).close())

    async def _write(self, job: Callable[[sa.Connection], T]) -> T:
        with metrics.journal_commit_seconds.time():
            return await asyncio.wrap_future(self._threads.submit(self._transact, job))

    def _read(self, job: Callable[[sa.Connection], T]) -> T:
        return self._transact(job, self._engine.execution_options(reading=True))

    def _transact(self, job: Callable[[sa.Connection], T], engine: sa.Engine | None = None) -> T:
        try:
            with (engine or self._engine).begin() as connection:
                return job(connection)
        except sa.exc.SQLAlchemyError as error:
            metrics.journal_failures.inc()
            raise JournalError(f"the journal has not taken a step: {cause(error)}") from None

    def _reserve(self, connection: sa.Connection, new: NewAttempt) -> int:
        if (state := _holder(connection, new.order_id)) is not None:
            raise OrderHeld(state)
        now = _now()
        values = {
            **asdict(new),
            "state": AttemptState.CREATED,
            "holds_order": True,
            "owner": self._owner,
            "created_at": now,
            "updated_at": now,
        }
        try:
            inserted = connection.execute(sa.insert(attempt).values(values)).inserted_primary_key
        except sa.exc.IntegrityError as error:
            if "order" not in cause(error):
                raise
            # Another server was faster between the look and the insert.
            raise OrderHeld(AttemptState.CREATED) from None
        assert inserted is not None  # noqa: S101 - an insert has a key
        attempt_id = int(inserted[0])
        self._remember(connection, attempt_id, AttemptState.CREATED, "", now)
        return attempt_id

    def _step(  # noqa: PLR0913 - what a step consists of
        self,
        connection: sa.Connection,
        attempt_id: int,
        state: AttemptState,
        note: str,
        holds_order: bool | None,
        fields: dict[str, str],
    ) -> None:
        before = [earlier for earlier, later in FOLLOWS.items() if state in later]
        now = _now()
        values: dict[str, Any] = {
            **fields,
            "state": state,
            "holds_order": state in HOLDING if holds_order is None else holds_order,
            "owner": self._owner,
            "updated_at": now,
        }
        if state is AttemptState.OTP_SENT:
            values["pins_sent"] = attempt.c.pins_sent + 1
        changed = connection.execute(
            sa.update(attempt).where(attempt.c.id == attempt_id, attempt.c.state.in_(before)).values(values)
        )
        if changed.rowcount != 1:
            raise IllegalStep(f"attempt {attempt_id} cannot become {state} from where it is")
        self._remember(connection, attempt_id, state, note, now)

    def _remember(
        self, connection: sa.Connection, attempt_id: int, state: AttemptState, note: str, now: str
    ) -> None:
        connection.execute(
            sa.insert(history).values(
                attempt_id=attempt_id, at=now, state=state, note=note, owner=self._owner
            )
        )

    # -- on start ------------------------------------------------------------------------------

    def recover(self) -> dict[AttemptState, int]:
        """Settle what dead processes left: `sent` becomes unknown, what came before it failed.

        Nothing is posted again. Attempts of processes that live, or of other hosts, stay.
        Returns how many attempts ended in each state.
        """
        return self._transact(self._recover)

    def _recover(self, connection: sa.Connection) -> dict[AttemptState, int]:
        begun = (AttemptState.CREATED, AttemptState.OTP_SENT, AttemptState.SENT)
        query = sa.select(attempt.c.id, attempt.c.state, attempt.c.owner).where(attempt.c.state.in_(begun))
        settled: dict[AttemptState, int] = {}
        for row in rows(connection, query):
            if not is_gone(row["owner"]):
                continue
            sent = row["state"] == AttemptState.SENT
            state = AttemptState.UNKNOWN if sent else AttemptState.FAILED
            review = {"review": "charged"} if sent else {}
            self._step(
                connection,
                row["id"],
                state,
                "its process was gone",
                None,
                {"reason": "process-gone", **review},
            )
            settled[state] = settled.get(state, 0) + 1
        return settled

    # -- for the commands ----------------------------------------------------------------------

    def attempts(
        self, *, order_id: str | None = None, state: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Attempts, newest first, as dictionaries of the table's columns."""
        query = sa.select(attempt).order_by(attempt.c.id.desc()).limit(limit)
        if order_id is not None:
            query = query.where(attempt.c.order_id == order_id)
        if state is not None:
            query = query.where(attempt.c.state == state)
        return list(self._read(lambda connection: rows(connection, query)))

    def attempt(self, attempt_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """One attempt with its history, oldest step first; None if there is none."""

        def look(connection: sa.Connection) -> tuple[Iterable[dict[str, Any]], Iterable[dict[str, Any]]]:
            steps = sa.select(history).where(history.c.attempt_id == attempt_id).order_by(history.c.id)
            return rows(connection, sa.select(attempt).where(attempt.c.id == attempt_id)), rows(
                connection, steps
            )

        found, steps = self._read(look)
        return next(((row, list(steps)) for row in found), None)


def _holder(connection: sa.Connection, order_id: str) -> AttemptState | None:
    query = sa.select(attempt.c.state).where(attempt.c.order_id == order_id, attempt.c.holds_order)
    state = connection.execute(query).scalar()
    return None if state is None else AttemptState(state)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
