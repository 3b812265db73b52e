"""The disk that the journal is on, and what goes wrong with it: put between SQLite's driver and SQLAlchemy.

A commit fails and was made, or was not; the disk is full; another program holds the lock; the disk takes
its time, before a transaction or after its commit. Nobody is ever made to wait with SQLite's own lock in
his hands, or other processes of the world, which share the real thread, would wait for ever.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model.clockwork import this_strand

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.clockwork import World

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a disk that is quick, for files of our own making
BUSY_SECONDS: Final = 5.0  # engine.BUSY_MS
PAUSE: Final = 4.0  # seconds; within the journal's patience
HANG: Final = 25.0  # seconds; beyond it


class Fault(StrEnum):
    """What is wrong with the disk."""

    NOT_MADE = "a commit fails, and is not made"
    MADE = "a commit fails, and is made all the same"
    FULL = "the disk is full"
    LOCKED = "another program holds the lock"
    SLOW_BEFORE = "slow before the transaction"
    SLOW_AFTER = "slow after the commit"
    HANGS_BEFORE = "hangs before the transaction"
    HANGS_AFTER = "hangs after the commit"
    GONE = "no connection can be made, and no transaction"


class Disk:
    """A journal's file, and what is wrong with its disk. times: for how many more transactions."""

    def __init__(self, template: Path, world: World) -> None:
        self._world = world
        self.well_since = world.now
        self.folder = Path(tempfile.mkdtemp(prefix="ivr-agi-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.file = self.folder / "journal.db"
        shutil.copy(template, self.file)
        self.fault: Fault | None = None
        self.times = 0

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def go_wrong(self, fault: Fault, times: int) -> None:
        self.fault, self.times = fault, times

    def get_well(self) -> None:
        if self.fault:
            self.fault, self.well_since = None, self._world.now

    def happens(self, *faults: Fault) -> Fault | None:
        """The fault that strikes now, if it is one of these."""
        if self.fault not in faults:
            return None
        struck = self.fault
        self.times -= 1
        if self.times <= 0:
            self.get_well()
        return struck

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def connect(self, address: str, **options: Any) -> sqlite3.Connection:
        """sqlite3.connect, on this disk."""
        if self.happens(Fault.GONE):
            raise sqlite3.OperationalError("unable to open database file")
        connection = sqlite3.connect(address, factory=Connection, **options)
        connection.disk = self
        return connection


class Connection(sqlite3.Connection):
    """A connection on a disk that may fail."""

    disk: Disk
    writing = False

    def cursor(self, factory: Callable[..., sqlite3.Cursor] | None = None) -> sqlite3.Cursor:
        del factory
        cursor = super().cursor(Cursor)
        cursor.disk = self.disk
        return cursor

    def commit(self) -> None:
        if not self.writing or this_strand() is None:
            return super().commit()
        fault = self.disk.happens(Fault.NOT_MADE, Fault.MADE, Fault.SLOW_AFTER, Fault.HANGS_AFTER)
        if fault is Fault.NOT_MADE:
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()
        if fault is Fault.MADE:
            raise sqlite3.OperationalError("disk I/O error")
        if fault:
            wait(PAUSE if fault is Fault.SLOW_AFTER else HANG)
        return None


class Cursor(sqlite3.Cursor):
    """A cursor on a disk that may fail."""

    disk: Disk

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        if statement.startswith("BEGIN"):
            self._begin(immediate=statement == "BEGIN IMMEDIATE")
        elif statement.startswith(("INSERT", "UPDATE")) and self.disk.happens(Fault.FULL):
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, parameters)

    def _begin(self, *, immediate: bool) -> None:
        self.connection.writing = immediate
        if this_strand() is None:
            return
        fault = self.disk.happens(Fault.GONE, Fault.SLOW_BEFORE, Fault.HANGS_BEFORE)
        if fault is Fault.GONE:
            raise sqlite3.OperationalError("unable to open database file")
        if fault:
            wait(PAUSE if fault is Fault.SLOW_BEFORE else HANG)
        if immediate and self.disk.happens(Fault.LOCKED):
            wait(BUSY_SECONDS)
            raise sqlite3.OperationalError("database is locked")


def wait(seconds: float) -> None:
    """Have the thread that asks the disk wait; others go on."""
    strand = this_strand()
    if strand is not None:
        strand.park(seconds)
