"""How much of what may happen within which time: the form of the LIMIT_… settings.

A limit is `10/hour`, or names what it counts: `5 declines/hour`. A setting may list several, separated by
commas. What has happened is counted in the journal (`journal/velocity.py`), so that neither a restart nor
a second server begins anew. PCI and card schemes call this velocity checking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """Of what a limit is. A caller ID can be forged, so it is never the only one."""

    CALLER = "caller"
    CARD = "card"
    ORDER = "order"
    TOTAL = "total"


class Counted(StrEnum):
    """What is counted."""

    PINS = "pins"  # one-time PINs requested of the gateway: each may be an SMS
    FAILURES = "failures"  # those of them that came to no payment, once the attempt has ended
    DECLINES = "declines"  # payments that the bank declined
    WRONG_PINS = "wrong-pins"  # those of them that had the wrong PIN
    CARDS = "cards"  # different cards
    CALLERS = "callers"  # different callers


PERIODS: Final = {"minute": 60, "hour": 3600, "day": 86400}  # seconds
LONGEST: Final = max(PERIODS.values())
MEANINGLESS: Final = {(Scope.CALLER, Counted.CALLERS), (Scope.CARD, Counted.CARDS)}  # there is only one


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many of what is counted within a period."""

    most: int
    period: str
    counted: Counted = Counted.PINS

    @property
    def seconds(self) -> int:
        """The period."""
        return PERIODS[self.period]

    def __str__(self) -> str:
        what = "" if self.counted is Counted.PINS else f" {self.counted}"
        return f"{self.most}{what}/{self.period}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of every scope."""

    caller: tuple[Limit, ...] = ()
    card: tuple[Limit, ...] = ()
    order: tuple[Limit, ...] = ()
    total: tuple[Limit, ...] = ()

    @property
    def each(self) -> list[tuple[Scope, Limit]]:
        """Every one, with whose it is."""
        return [(scope, limit) for scope in Scope for limit in getattr(self, scope)]


def read_limits(text: str, scope: Scope) -> tuple[Limit, ...]:
    """Read `10/hour, 5 declines/day`; none for an empty text. Raises ValueError: what is allowed."""
    limits = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"([1-9][0-9]{0,8})(?:\s+([a-z-]+))?\s*/\s*([a-z]+)", part, re.ASCII)
        counted = found[2] or Counted.PINS if found else ""
        if (
            not found
            or found[3] not in PERIODS
            or counted not in tuple(Counted)
            or (scope, counted) in MEANINGLESS
        ):
            kinds = ", ".join(kind for kind in Counted if (scope, kind) not in MEANINGLESS)
            raise ValueError(
                f"{part[:40]!r} is no limit: `10/hour`, or `5 declines/day`; one of {kinds}; per"
                f" {', '.join(PERIODS)}; several separated by commas; empty for none"
            )
        limits.append(Limit(int(found[1]), found[3], Counted(counted)))
    return tuple(limits)
