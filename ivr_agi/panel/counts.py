"""What the journal's statistics come to: what was paid, at what rate, how far callers came, how long it took.

Pure. Two rules hold throughout: money of a payment in doubt is never added to what was paid, and a rate is of
what its words say, of nothing else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from ivr_agi.flow import State
from ivr_agi.journal.statistics import Calls, Kind, Tally
from ivr_agi.journal.tables import OPEN, AttemptState, Resolution
from ivr_agi.model import PayStatus
from ivr_agi.panel.charts import Latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What became of a payment, as the panel has it -> the kinds that are so.
OUTCOMES: Final[dict[str, frozenset[Kind]]] = {
    "paid": frozenset({(AttemptState.PAID, ""), (AttemptState.RESOLVED, Resolution.PAID)}),
    "declined": frozenset({(AttemptState.DECLINED, "")}),
    "unknown": frozenset({(AttemptState.UNKNOWN, "")}),
    "failed": frozenset({(AttemptState.FAILED, "")}),
    "not_paid": frozenset({(AttemptState.RESOLVED, Resolution.NOT_PAID)}),
    "open": frozenset((state, "") for state in OPEN),
}
# How a call ended, as the panel has it -> PAYSTATUS.
ENDS: Final[dict[str, frozenset[PayStatus]]] = {
    "paid": frozenset({PayStatus.PAID}),
    "declined": frozenset({PayStatus.DECLINED}),
    "unknown": frozenset({PayStatus.UNKNOWN}),
    "failed": frozenset({PayStatus.FAILED}),
    "hangup": frozenset({PayStatus.HANGUP}),
    "no_input": frozenset({PayStatus.NOINPUT}),
    "refused": frozenset({PayStatus.REFUSED}),
    "chose": frozenset({PayStatus.CANCELLED, PayStatus.OPERATOR}),
}
STATES: Final = tuple(state for state in State if state is not State.END)

# The bounds of a distribution, in each power of ten: none is more than a tenth above the one before.
_TWO_DIGITS: Final = (
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24, 26, 28,
    30, 33, 36, 39, 42, 46, 50, 55, 60, 66, 72, 79, 86, 94,
)  # fmt: skip
_GRID: Final = tuple(digits * 10**power for power in range(5) for digits in _TWO_DIGITS)  # milliseconds
_ROUND: Final = tuple(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Payments by what became of them. failed_after_pay: of those that failed, how many had been sent."""

    tallies: dict[str, Tally]
    failed_after_pay: int = 0

    @classmethod
    def of(cls, kinds: Iterable[Mapping[Kind, Tally]], failed_after_pay: int = 0) -> Outcomes:
        """Added up."""
        tallies = {}
        for name, of_it in OUTCOMES.items():
            found = [tally for each in kinds for kind, tally in each.items() if kind in of_it]
            tallies[name] = Tally(sum(one.count for one in found), sum(one.rials for one in found))
        return cls(tallies, failed_after_pay)

    @property
    def begun(self) -> int:
        """All of them."""
        return sum(tally.count for tally in self.tallies.values())

    @property
    def sent(self) -> int:
        """Those that were sent to the bank and are not under way any more: of them is the success rate."""
        over = ("paid", "declined", "unknown", "not_paid")
        return sum(self.tallies[name].count for name in over) + self.failed_after_pay


@dataclass(frozen=True, slots=True)
class Step:
    """A state of the call: how many calls came to it, and how many came no further, by ENDS."""

    state: str
    reached: int
    ended: dict[str, int]


@dataclass(frozen=True, slots=True)
class Callers:
    """All calls. steps: each state, in the order that callers meet them."""

    calls: Calls
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, found: Mapping[tuple[str, str], Calls]) -> Callers:
        """From statistics.calls. A state that is none of the call's counts as the first one."""
        ended: dict[str, Counter[str]] = {state: Counter() for state in STATES}
        for (reached, status), calls in found.items():
            end = next((name for name, statuses in ENDS.items() if status in statuses), "failed")
            ended[reached if reached in ended else STATES[0]][end] += calls.count
        count = left = sum(calls.count for calls in found.values())
        steps = []
        for state in STATES:
            steps.append(Step(state, left, dict(ended[state])))
            left -= ended[state].total()
        return cls(Calls(count, sum(calls.ms for calls in found.values())), tuple(steps))

    @property
    def to_card(self) -> int:
        """How many were asked for their card."""
        return next(step.reached for step in self.steps if step.state == State.CARD)

    @property
    def paid(self) -> int:
        """How many paid."""
        return sum(step.ended.get("paid", 0) for step in self.steps)


def latencies(found: Mapping[str, Mapping[int, int]], labels: Mapping[str, str]) -> list[Latency]:
    """Distributions of the services that answered, over the same bounds, each a tenth above its neighbour.

    found: statistics.gateway's. Bounds are cut to where there are answers.
    """
    spread = sorted(ms for answers in found.values() for ms in answers)
    if not spread:
        return []
    first = min(max(bisect_right(_GRID, spread[0]) - 1, 0), len(_GRID) - 2)
    bounds = _GRID[first : max(bisect_right(_GRID, spread[-1]) + 1, first + 2)]
    return [
        Latency(labels[service], tuple(ms / 1000 for ms in bounds), _sorted_into(bounds, answers))
        for service, answers in found.items()
        if answers
    ]


def spans_of_time(found: Mapping[str, Mapping[int, int]]) -> list[tuple[int, int | None, dict[str, int]]]:
    """The same in few lines: from so many ms on, before so many (None: no bound), answers by service."""
    by_service = {service: _sorted_into(_ROUND, answers) for service, answers in found.items()}
    lines = []
    for place, (low, high) in enumerate(zip((0, *_ROUND), (*_ROUND, None), strict=True)):
        counts = {service: answers[place] for service, answers in by_service.items()}
        lines.append((low, high, counts))
    while lines and not any(lines[-1][2].values()):
        lines.pop()
    empty = len(list(takewhile(lambda line: not any(line[2].values()), lines)))
    return lines[empty:]


def _sorted_into(bounds: Sequence[int], answers: Mapping[int, int]) -> tuple[int, ...]:
    counts = [0] * (len(bounds) + 1)
    for ms, count in answers.items():
        counts[bisect_right(bounds, ms)] += count
    return tuple(counts)
