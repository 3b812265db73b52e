"""Lay a settlement list beside our attempts: what agrees, what does not, and what a person must look at.

Lines and attempts that share an order id or a tracking number form a group, and `judging` judges each group
by itself. Every line gets into exactly one entry, and so does every attempt that is of the period or shares a
key with a line. Only dictionaries: 100,000 lines against 100,000 attempts take seconds.

Nothing is decided here. That an attempt is not in the list proves nothing: settlement can be later.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ivr_agi.settlement.dates import day_of
from ivr_agi.settlement.judging import DAY, Attempt, Entry, Group, Key, Kind, Ours, keys_of, stands
from ivr_agi.settlement.reading import Line, Settled, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

__all__ = ["Attempt", "Entry", "Kind", "Period", "Reconciliation", "match", "period_of", "touching"]

_RANK: Final = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Period:
    """The days, Tehran's, for which the list should hold every payment; and the edges, where it may not.

    An attempt at 23:58 may be in the list at 00:01, and a day's list tells little of the day before: so an
    attempt in an edge that is not in the list is no finding.
    """

    first: date
    last: date
    edge_before: timedelta = DAY
    edge_after: timedelta = DAY

    @property
    def earliest(self) -> date:
        """The first day, edge and all."""
        return self.first - self.edge_before

    @property
    def latest(self) -> date:
        """The last day, edge and all."""
        return self.last + self.edge_after

    def holds(self, day: date) -> bool:
        """Whether a day is in the period, edges and all."""
        return self.earliest <= day <= self.latest

    def is_edge(self, day: date) -> bool:
        """Whether a day is in an edge."""
        return self.holds(day) and not self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result. not_covered: unknown attempts outside of the period, of which the list tells nothing."""

    entries: tuple[Entry, ...]
    period: Period | None
    not_covered: int

    def of(self, kind: Kind) -> list[Entry]:
        """The entries of one kind, in the list's order."""
        return [entry for entry in self.entries if entry.kind is kind]

    @property
    def to_look_at(self) -> list[Entry]:
        """The entries that a person must look at."""
        return [entry for entry in self.entries if entry.to_look_at]

    @property
    def certain(self) -> list[Entry]:
        """Unknown attempts that the list proves to be paid: one line and one attempt each."""
        return [entry for entry in self.entries if entry.certain]


def period_of(lines: Iterable[Line], first: date | None = None, last: date | None = None) -> Period | None:
    """The list's period: from its earliest date to its latest, with a day's edge each side; or as given.

    None where the list has no dates and not both are given.
    """
    days = [line.at.date() for line in lines if isinstance(line, Settled) and line.at]
    if not days and (first is None or last is None):
        return None
    return Period(
        first or min(days),
        last or max(days),
        DAY if first is None else timedelta(),
        DAY if last is None else timedelta(),
    )


def touching(lines: Iterable[Line]) -> Callable[[Attempt], bool]:
    """Make a test whether a line names an attempt's order or tracking number, whenever that was."""
    named = {name for line in lines for name in keys_of(line)}
    return lambda attempt: not named.isdisjoint(keys_of(attempt))


def match(lines: Iterable[Line], attempts: Iterable[Attempt], period: Period | None = None) -> Reconciliation:
    """Match the list's lines with attempts. period: `period_of(lines)` unless given."""
    lines = list(lines)
    unreadable = [line for line in lines if isinstance(line, Unreadable)]
    period = period or period_of(lines)
    spoiled = {name: line.line for line in reversed(unreadable) for name in keys_of(line)}
    entries = [Entry(Kind.UNREADABLE, (line,)) for line in unreadable]
    not_covered = 0
    for group in _groups([line for line in lines if isinstance(line, Settled)], attempts, spoiled):
        if group.lines:
            entries += group.judge()
            continue
        for attempt in group.attempts:
            day = day_of(attempt["created_at"])
            if period is not None and period.holds(day):
                entries.append(group.judge_alone(attempt, edge=period.is_edge(day)))
            elif stands(attempt) is Ours.UNKNOWN:
                not_covered += 1
    entries.sort(key=_place)
    return Reconciliation(tuple(entries), period, not_covered)


def _place(entry: Entry) -> tuple[int, int, int]:
    line = entry.lines[0].line if entry.lines else 0
    return _RANK[entry.kind], line, entry.attempts[0]["id"] if entry.attempts else 0


def _groups(
    settled: Iterable[Settled], attempts: Iterable[Attempt], spoiled: Mapping[Key, int]
) -> Iterable[Group]:
    """Put together what shares a key, directly or by way of another (union-find over the keys)."""
    leader: dict[Key, Key] = {}

    def lead(name: Key) -> Key:
        while (above := leader.setdefault(name, name)) != name:
            leader[name] = name = leader[above]
        return name

    def join(names: list[Key]) -> Key:
        first = lead(names[0])
        for name in names[1:]:
            leader[lead(name)] = first
        return first

    lines = [(join(keys_of(line)), line) for line in settled]
    ours = [(join(keys_of(attempt)), attempt) for attempt in attempts]
    groups: defaultdict[Key, Group] = defaultdict(lambda: Group([], [], spoiled))
    for name, line in lines:
        groups[lead(name)].lines.append(line)
    for name, attempt in ours:
        groups[lead(name)].attempts.append(attempt)
    return groups.values()
