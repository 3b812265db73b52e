"""Settlement lists that were uploaded: each is read by a process of its own, and its result kept for a while.

The file itself is let go of as soon as it is read. A result is its user's alone, is known by a name that
nobody guesses, and has of cards no more than masks; it is in memory only, and gone with the server.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import reconciling
from ivr_agi.journal import JournalError
from ivr_agi.panel.reconciler import Failed, Result
from ivr_agi.settlement.judging import Kind
from ivr_agi.settlement.reading import UnreadableList
from ivr_agi.settlement.report import Applied

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from ivr_agi.journal import Journal
    from ivr_agi.panel.reconciler import Counted, Question
    from ivr_agi.settlement.judging import Entry

log = structlog.get_logger()

KEPT: Final = 1800.0  # seconds for which a result can be seen
MOST: Final = 20  # results kept, of all users
AT_ONCE: Final = 1  # lists that are read
MOST_WAITING: Final = 4  # those that are read among them
PROGRAM: Final = "from ivr_agi.panel.reconciler import main; main()"  # -m would give its classes other names
PATIENCE: Final = 300.0  # seconds for reading one
INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME",
)  # fmt: skip
OF_POSTGRESQL: Final = "PG"  # what libpq reads, and the server's own connection was made by


class Busy(Exception):  # noqa: N818 - an answer, not a fault
    """Too many lists are being read."""


class TooLong(Exception):  # noqa: N818 - an answer, not a fault
    """Reading has taken longer than PATIENCE."""


@dataclass(eq=False)
class Kept:
    """One result. at: when it was made, as the journal has times. applied: what was resolved by it so far."""

    owner: str
    file_name: str
    result: Result
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    applied: Applied = field(default_factory=Applied)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def certain(self) -> list[Entry]:
        """Those that can be resolved as paid at once, and have not been."""
        return [
            entry
            for entry in self.result.entries
            if entry.certain and entry.attempts[0]["id"] not in self.applied.resolved
        ]

    def left(self, kind: Kind) -> list[Entry]:
        """What a person must still look at: all that was kept, but what has been resolved without a word."""
        done = self.applied.resolved - self.applied.trouble.keys()
        return [
            entry
            for entry in self.result.entries
            if entry.kind is kind and not (entry.certain and entry.attempts[0]["id"] in done)
        ]

    def resolved(self) -> list[Entry]:
        """What was resolved by it."""
        return [
            entry
            for entry in self.result.entries
            if entry.certain and entry.attempts[0]["id"] in self.applied.resolved
        ]

    def count(self, counted: Counted) -> int:
        """How many of a kind a person must still look at, kept or not."""
        if counted.kind is not Kind.UNKNOWN_PAID:
            return counted.to_look_at
        return counted.to_look_at - len(self.applied.resolved - self.applied.trouble.keys())

    async def apply(self, journal: Journal, by: str) -> int:
        """Resolve as paid what is certain; returns how many were resolved now: of each, once."""
        async with self.busy:
            before = self.applied
            now = await asyncio.to_thread(reconciling.apply, journal, self.certain, by, self.file_name)
            # What could not be recorded before, and has been now, is no trouble any more.
            still = {id_: note for id_, note in before.trouble.items() if id_ not in now.resolved}
            self.applied = Applied(by, before.resolved | now.resolved, {**still, **now.trouble})
            return len(now.resolved)


class Lists:
    """All results of one server."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def read(self, owner: str, file_name: str, question: Question) -> Kept:
        """Have a list read and matched. Raises UnreadableList, JournalError, Busy, TooLong."""
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                found = await ask(question)
        finally:
            self._waiting -= 1
        if isinstance(found, Failed):
            if found.unreadable is not None:
                raise UnreadableList(found.unreadable)
            raise JournalError(found.journal)
        while len(self._kept) >= MOST:
            self._kept.pop(next(iter(self._kept)))
        kept = Kept(owner, file_name, found)
        self._kept[kept.id] = kept
        asyncio.get_running_loop().call_later(KEPT, self._kept.pop, kept.id, None)
        return kept

    def find(self, owner: str, id_: str) -> Kept | None:
        """A result of this user's; None if there is none, or none any more."""
        kept = self._kept.get(id_)
        return kept if kept is not None and kept.owner == owner else None


async def ask(question: Question) -> Result | Failed:
    """Have a process of its own find it out. Raises TooLong."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", PROGRAM),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,  # a traceback might quote the list
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for us: we end it
    )
    try:
        async with asyncio.timeout(PATIENCE):
            written = await asyncio.to_thread(pickle.dumps, question)
            said, _ = await process.communicate(written)
    except TimeoutError:
        raise TooLong from None
    finally:
        await _end(process)
    if process.returncode or not said:
        log.error("settlement.reader_failed", status=process.returncode)
        raise RuntimeError("the settlement list's reader has failed")
    found: Result | Failed = await asyncio.to_thread(pickle.loads, said)
    return found


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """What it needs in order to run, to find the very modules that we run on, and the journal."""
    ours = str(Path(__file__).resolve().parents[2])
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or name.startswith(OF_POSTGRESQL)
    }
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}
