"""Being alive, and settling what the dead left.

A process that takes payments beats: its number in `process` goes up every few seconds. Each also
watches the others. Of one that is gone, what was `sent` becomes unknown, what came before it failed;
nothing is posted again, ever. It is gone when this host says so, or when its beat has not changed for
the whole lease while we were watching: a restart of one server never touches what another has under way.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
import structlog

from ivr_agi.journal import velocity
from ivr_agi.journal.engine import JournalError, rows
from ivr_agi.journal.owner import Fate, Watch, fate
from ivr_agi.journal.steps import IllegalStep, Scribe
from ivr_agi.journal.tables import OPEN, AttemptState, attempt, make_key, process, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ivr_agi.journal.writer import Writer

log = structlog.get_logger()

BEAT: Final = 5.0  # seconds
FORGET_EVERY: Final = 720  # beats
LEASE: Final = 60.0  # seconds without a beat after which a process elsewhere counts as gone

Settled = dict[AttemptState, int]

# What others have under way: one's own may be thousands, and this is asked every few seconds.
_OF_OTHERS: Final = sa.select(attempt.c.id, attempt.c.state, attempt.c.owner).where(
    attempt.c.state.in_(OPEN), attempt.c.owner != sa.bindparam("me")
)


class Lease:
    """This process's beat, and its watch over the others. told: hears what was settled, in the thread."""

    def __init__(
        self, writer: Writer, scribe: Scribe, told: Callable[[Settled], None], *, lease: float = LEASE
    ) -> None:
        self._writer = writer
        self._scribe = scribe
        self._told = told
        self._watch = Watch(lease)
        self._every = min(BEAT, lease / 4)
        self._turns = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Beat no more; a process with nothing under way takes its name off the list."""
        self._ended.set()
        self._thread.join()
        with suppress(JournalError, TimeoutError):
            self._writer.submit(lambda connection, _again: self._leave(connection)).result(5)

    def _run(self) -> None:
        beating: Future[Settled] | None = None
        while not self._ended.wait(self._every):
            self._writer.loosen()
            if beating is not None and not beating.done():
                continue  # the journal hangs: writer.py says so
            if beating is not None and not beating.exception() and (settled := beating.result()):
                try:
                    self._told(settled)
                except Exception:
                    log.exception("journal.not_told")  # who watches must go on
            beating = self._writer.submit(lambda connection, _again: self._turn(connection))

    def _turn(self, connection: sa.Connection) -> Settled:
        name = self._scribe.owner
        beaten = connection.execute(
            sa.update(process).where(process.c.name == name).values(beat=process.c.beat + 1)
        )
        if not beaten.rowcount:  # a watcher took us for gone
            connection.execute(sa.insert(process).values(name=name, beat=0, since=timestamp()))
        if self._turns % FORGET_EVERY == 0:
            velocity.forget(connection)
        self._turns += 1
        return recover(connection, self._scribe, self._watch)

    def _leave(self, connection: sa.Connection) -> None:
        mine = sa.exists().where(attempt.c.owner == process.c.name, attempt.c.state.in_(OPEN))
        connection.execute(sa.delete(process).where(process.c.name == self._scribe.owner, ~mine))


def register(connection: sa.Connection, owner: str) -> None:
    """Put this process on the list, before it begins an attempt."""
    connection.execute(sa.delete(process).where(process.c.name == owner))
    connection.execute(sa.insert(process).values(name=owner, beat=0, since=timestamp()))


def recover(connection: sa.Connection, scribe: Scribe, watch: Watch | None = None) -> Settled:
    """Settle what the gone have left. watch: None when there has been no time to watch anybody.

    Returns how many attempts ended in each state.
    """
    under_way = rows(connection, _OF_OTHERS, me=scribe.owner)
    beats = {row["name"]: row["beat"] for row in rows(connection, sa.select(process))}
    owners = ({row["owner"] for row in under_way} | beats.keys()) - {scribe.owner}
    # Where the database is another machine's, so may an equal host be: clones have one name.
    alone = connection.dialect.name == "sqlite"
    fates = {owner: fate(owner, alone=alone) for owner in owners}
    elsewhere = {owner: beats.get(owner, -1) for owner, found in fates.items() if found is Fate.ELSEWHERE}
    lapsed = watch.lapsed(elsewhere, time.monotonic()) if watch else set()
    gone = {owner for owner, found in fates.items() if found is Fate.GONE} | lapsed
    settled: Settled = {}
    for row in under_way:
        if row["owner"] in gone and (state := _settle(connection, scribe, row)):
            settled[state] = settled.get(state, 0) + 1
    if gone:
        connection.execute(sa.delete(process).where(process.c.name.in_(gone)))
    return settled


def _settle(connection: sa.Connection, scribe: Scribe, row: dict[str, str]) -> AttemptState | None:
    sent = row["state"] == AttemptState.SENT
    state = AttemptState.UNKNOWN if sent else AttemptState.FAILED
    try:
        scribe.step(
            connection,
            int(row["id"]),
            state,
            note="its process was gone",
            fields={"reason": "process-gone", "review": "charged" if sent else ""},
            key=make_key(),
            of=row["owner"],
            seen=AttemptState(row["state"]),
        )
    except IllegalStep:  # it has been settled this very moment, by another server or by its own
        return None
    return state
