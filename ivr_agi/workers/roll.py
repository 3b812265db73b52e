"""The roll of the calls in progress in all workers, so that MAX_CALLS and its like hold for all together.

A file in memory: for each worker a count, and as many rows, of what its peers and callers are called in a
hash of this run's own. Each worker writes its own part and reads all. Two that let a call in at the same
moment may be over a limit by as many as there are workers; the part of one that is gone is cleared by the
supervisor.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

MARK: Final = 8  # bytes of a hash; no two are alike by chance
NOBODY: Final = bytes(MARK)  # a caller who is not known
ROW: Final = 2 * MARK  # the peer's, the caller's
KEY: Final = 16  # bytes, in front of all
COUNT: Final = struct.Struct("<Q")  # in front of each worker's rows


def make(file: Path, slots: int, calls: int, key: bytes) -> None:
    """Make the file for so many workers of so many calls each. key: random bytes."""
    file.write_bytes(key[:KEY] + bytes(slots * _part(calls)))


def clear(file: Path, slot: int, calls: int) -> None:
    """Forget the calls of a worker that is gone."""
    with file.open("r+b") as opened:
        opened.seek(KEY + slot * _part(calls))
        opened.write(COUNT.pack(0))


def _part(calls: int) -> int:
    return COUNT.size + calls * ROW


class SharedRoll:
    """One worker's hold on the roll; the like of `door.Roll`."""

    def __init__(self, file: Path, slot: int, calls: int) -> None:
        with file.open("r+b") as opened:
            self._all = mmap.mmap(opened.fileno(), 0)
        self._key = self._all[:KEY]
        self._parts = range(KEY, len(self._all), _part(calls))
        self._mine = self._parts[slot]
        self._rows: dict[Hashable, int] = {}  # of this worker's calls: 0, 1, … without a gap
        self._calls: list[Hashable] = []  # the other way round
        COUNT.pack_into(self._all, self._mine, 0)

    @property
    def total(self) -> int:
        """How many calls are in progress."""
        return sum(count for _, count in self._counts())

    def enter(self, call: Hashable, peer: str) -> None:
        """A call of this worker's has begun; at most as many at once as the file was made for."""
        self._rows[call] = len(self._calls)
        self._calls.append(call)
        self._write(call, self._mark(peer) + NOBODY)
        COUNT.pack_into(self._all, self._mine, len(self._calls))

    def name(self, call: Hashable, caller: str) -> None:
        """Whose call it is; '' if withheld."""
        place = self._place(self._rows[call])
        self._write(call, self._all[place : place + MARK] + (self._mark(caller) if caller else NOBODY))

    def leave(self, call: Hashable) -> None:
        """It has ended: the last one takes its row."""
        row, last = self._rows.pop(call), self._calls.pop()
        if last is not call:
            place = self._place(len(self._calls))
            self._rows[last], self._calls[row] = row, last
            self._write(last, self._all[place : place + ROW])
        COUNT.pack_into(self._all, self._mine, len(self._calls))

    def of_peer(self, peer: str) -> int:
        """How many calls a peer has."""
        return self._like(self._mark(peer))

    def of_caller(self, caller: str) -> int:
        """How many calls a caller has."""
        return self._like(self._mark(caller))

    def _like(self, mark: bytes) -> int:
        rows = (self._all[start : start + count * ROW] for start, count in self._counts())
        return sum(part.count(mark) for part in rows)

    def _counts(self) -> Iterator[tuple[int, int]]:
        """Where each worker's rows begin, and how many there are."""
        for part in self._parts:
            yield part + COUNT.size, COUNT.unpack_from(self._all, part)[0]

    def _place(self, row: int) -> int:
        return self._mine + COUNT.size + row * ROW

    def _write(self, call: Hashable, row: bytes) -> None:
        place = self._place(self._rows[call])
        self._all[place : place + ROW] = row

    def _mark(self, name: str) -> bytes:
        return hashlib.blake2b(name.encode(), digest_size=MARK, key=self._key).digest()
