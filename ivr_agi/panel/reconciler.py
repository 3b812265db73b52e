"""A process of its own that reads one settlement list and lays it beside the journal, and then ends.

Tens of thousands of lines keep a processor busy for seconds; in a thread of the server every call would feel
it. What is asked comes by standard input, what was found goes by standard output: a list may have whole
card numbers, and nothing of it is ever on a disk, in a log or among the arguments. Only `lists.py` starts it.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ivr_agi import reconciling
from ivr_agi.hardening import keep_memory_in
from ivr_agi.journal import Journal, JournalError
from ivr_agi.settlement.judging import Kind
from ivr_agi.settlement.matching import match
from ivr_agi.settlement.reading import Settled, Standing, Unreadable, UnreadableList, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date

    from ivr_agi.settlement.judging import Entry
    from ivr_agi.settlement.matching import Period, Reconciliation
    from ivr_agi.settlement.notes import Note
    from ivr_agi.settlement.reading import Listing

MOST_SHOWN: Final = 500  # entries of a kind that are kept for a person to look at
MOST_CERTAIN: Final = 1000  # entries that can be resolved at once
NAMED: Final = 20  # numbers in a row
POLITE: Final = 10  # how much calls go before
# What is needed of an attempt; the rest is not kept, there may be a hundred thousand.
OF_ATTEMPT: Final = (
    "id", "order_id", "ref_id", "amount", "card", "state", "resolution", "code", "created_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """A list, and how it is to be read: as `settlement.reading.read` and `reconciling.covered` have it."""

    content: bytes = field(repr=False)
    journal_url: str = field(repr=False)
    mapping: Mapping[str, str] = field(default_factory=dict)
    toman: bool = False
    paid_status: tuple[str, ...] = ()
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """All entries of a kind: how many, their lines and attempts, and rials: paid there, attempted here."""

    kind: Kind
    entries: int
    to_look_at: int
    lines: int
    paid_there: int
    attempts: int
    rials_here: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Some of many numbers: the first ones, and how many there are."""

    first: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Result:
    """What was found. entries: those to look at, as many as are kept. Of cards, masks alone."""

    headings: Mapping[str, str]
    encoding: str
    lines: int
    unreadable: int
    passed_over: Numbers
    period: Period
    not_covered: int
    under_way: Numbers  # attempts that no line names
    at_edge: Numbers
    table: tuple[Counted, ...]
    entries: tuple[Entry, ...]
    certain: int  # all of them


@dataclass(frozen=True, slots=True)
class Failed:
    """Why nothing was found: the list's fault, or the journal's."""

    unreadable: Note | None = None
    journal: str = ""


def work(question: Question) -> Result | Failed:
    """Read the list and match it with the journal."""
    try:
        listing = read(
            question.content,
            mapping=question.mapping,
            toman=question.toman,
            paid_status=question.paid_status,
        )
        period = reconciling.covered(listing, question.first, question.last)
    except UnreadableList as why:
        return Failed(unreadable=why.note)
    try:
        journal = Journal(question.journal_url, create=False)
        try:
            attempts = [_needed(row) for row in reconciling.attempts(journal, listing, period)]
        finally:
            journal.close()
    except JournalError as error:
        return Failed(journal=str(error))
    return _result(listing, period, match(listing.lines, attempts, period))


def _needed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in OF_ATTEMPT}


def _result(listing: Listing, period: Period, found: Reconciliation) -> Result:
    alone = [entry for entry in found.of(Kind.UNDER_WAY) if not entry.lines]
    return Result(
        headings=dict(listing.headings),
        encoding=listing.encoding,
        lines=len(listing.lines),
        unreadable=sum(isinstance(line, Unreadable) for line in listing.lines),
        passed_over=_numbers(listing.passed_over),
        period=period,
        not_covered=found.not_covered,
        under_way=_numbers(_ids(alone)),
        at_edge=_numbers(_ids(found.of(Kind.AT_EDGE))),
        table=tuple(_counted(kind, found.of(kind)) for kind in Kind),
        entries=tuple(_kept(found)),
        certain=len(found.certain),
    )


def _counted(kind: Kind, entries: list[Entry]) -> Counted:
    lines = [line for entry in entries for line in entry.lines]
    attempts = [attempt for entry in entries for attempt in entry.attempts]
    paid = (line for line in lines if isinstance(line, Settled) and line.standing is Standing.PAID)
    return Counted(
        kind,
        len(entries),
        sum(entry.to_look_at for entry in entries),
        len(lines),
        sum(line.amount for line in paid),
        len(attempts),
        sum(attempt["amount"] for attempt in attempts),
    )


def _kept(found: Reconciliation) -> Iterator[Entry]:
    had: Counter[tuple[Kind, bool]] = Counter()
    for entry in found.to_look_at:
        had[entry.kind, entry.certain] += 1
        if had[entry.kind, entry.certain] <= (MOST_CERTAIN if entry.certain else MOST_SHOWN):
            yield entry


def _ids(entries: Iterable[Entry]) -> tuple[int, ...]:
    return tuple(attempt["id"] for entry in entries for attempt in entry.attempts)


def _numbers(found: tuple[int, ...]) -> Numbers:
    return Numbers(found[:NAMED], len(found))


def main() -> None:
    """Answer the question that comes by the standard input."""
    keep_memory_in()
    with suppress(OSError):  # a sandbox may forbid it
        os.nice(POLITE)
    question = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent wrote it
    sys.stdout.buffer.write(pickle.dumps(work(question)))
    sys.stdout.buffer.flush()
