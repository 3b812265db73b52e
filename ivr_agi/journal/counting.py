"""The limits as one query: a column for each, worded once for what is known of a payer.

To word a query anew costs more than to run it, and on PostgreSQL each is a way there and back. So all that
is to be counted of a payer is asked for at once, by a query whose values are parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal.tables import attempt, happening, pause
from ivr_agi.limits import Counted, Limit, Limits, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Who:
    """Whose limits a payment counts against; what is empty is not known yet, and not counted.

    caller: model.name_caller's. card: masked; hashes: by each key in use, so that two cards with one mask
    are told apart; without a key they count as one.
    """

    order_id: str = ""
    caller: str = ""
    card: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters for it, by their names (`names`)."""
        known = {"order_id": self.order_id, "caller": self.caller, "card": self.card}
        return known | {f"hash_{number}": value for number, value in enumerate(self.hashes)}

    @property
    def names(self) -> Who:
        """The names of the parameters that stand for what is known, in its places."""
        return Who(
            self.order_id and "order_id",
            self.caller and "caller",
            self.card and "card",
            tuple(f"hash_{number}" for number in range(len(self.hashes))),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and what its last columns stand for: each limit that may be reached by whom it was made for.

    It has one row; a limit's column is true when it is reached. Parameters: Who.parameters, and
    `within`'s of each period.
    """

    query: sa.Select[Any]
    limits: tuple[tuple[Scope, Limit], ...]


def of_limits(limits: Limits, who: Who) -> Question:
    """Which limits are reached."""
    return _of_limits(limits, who.names)


def of_beginning(limits: Limits, who: Who) -> Question:
    """What keeps an attempt from beginning.

    Its first columns are the state of the attempt that holds the order (NULL for none, or no order), and
    whether there is a pause.
    """
    return _of_beginning(limits, who.names)


@cache
def _of_limits(limits: Limits, names: Who) -> Question:
    each = [(scope, limit, _reached(scope, limit, names)) for scope, limit in limits.each]
    known = [(scope, limit, column) for scope, limit, column in each if column is not None]
    columns: Sequence[sa.ColumnElement[Any]] = [column for _, _, column in known]
    return Question(sa.select(*columns), tuple((scope, limit) for scope, limit, _ in known))


@cache
def _of_beginning(limits: Limits, names: Who) -> Question:
    counted = _of_limits(limits, names)
    held = HELD.scalar_subquery() if names.order_id else sa.null()
    paused = sa.select(pause.c.id).scalar_subquery().is_not(None)
    columns: Sequence[sa.ColumnElement[Any]] = [held, paused, *counted.query.selected_columns]
    return Question(sa.select(*columns), counted.limits)


# In the words of its index, which has no more than one row of an order.
HELD: Final = sa.select(attempt.c.state).where(
    attempt.c.order_id == sa.bindparam("order_id"), sa.text("holds_order")
)
# One card: by its hash, or where it was written without a key, by its mask.
_CARD: Final = sa.case((happening.c.card_hash != "", happening.c.card_hash), else_=happening.c.card).label(
    "one"
)


def within(counted: Counted, period: str) -> Sequence[sa.ColumnElement[bool]]:
    """Rows of a kind of the last limits.PERIODS[period] seconds. Parameters: `since_<period>`, `until`."""
    at = happening.c.at
    return (happening.c.what == counted, at >= sa.bindparam(f"since_{period}"), at <= sa.bindparam("until"))


def _reached(scope: Scope, limit: Limit, names: Who) -> sa.ColumnElement[bool] | None:
    """Whether a limit is reached; None where it is not known whose it is, or who would be one more."""
    of = _of(scope, names)
    if of is None:
        return None
    if limit.counted is Counted.CARDS:
        return _too_many(of, _CARD, (names.card, *names.hashes), limit) if names.card else None
    if limit.counted is Counted.CALLERS:
        return _too_many(of, happening.c.caller, (names.caller,), limit) if names.caller else None
    rows = sa.select(happening.c.at).where(*within(limit.counted, limit.period), *of)
    return _has(rows, limit.most)


def _of(scope: Scope, names: Who) -> Sequence[sa.ColumnElement[bool]] | None:
    """Which rows are a scope's; None where it is not known whose."""
    if scope is Scope.TOTAL:
        return ()
    if scope is Scope.CARD:
        if not names.card:
            return None
        same = happening.c.card == sa.bindparam(names.card)
        if not names.hashes:
            return (same,)
        return (same, sa.or_(happening.c.card_hash == "", _is_one_of(happening.c.card_hash, names.hashes)))
    column, name = {
        Scope.CALLER: (happening.c.caller, names.caller),
        Scope.ORDER: (happening.c.order_id, names.order_id),
    }[scope]
    return (column == sa.bindparam(name),) if name else None


def _too_many(
    of: Sequence[sa.ColumnElement[bool]], column: sa.ColumnElement[str], mine: Sequence[str], limit: Limit
) -> sa.ColumnElement[bool]:
    """Whether there are that many others already, of whom mine (by each of its names) is none."""
    rows = sa.select(column).where(*within(Counted.PINS, limit.period), *of)
    return sa.and_(sa.not_(_has(rows.where(_is_one_of(column, mine)), 1)), _has(rows.distinct(), limit.most))


def _has(rows: sa.Select[Any], most: int) -> sa.ColumnElement[bool]:
    """Whether there are so many rows; no more are looked at."""
    # Not by an OFFSET: of a subquery that is a value SQLite forgets the DISTINCT.
    enough: sa.ColumnElement[int] = sa.literal_column(str(most))
    some = sa.select(sa.func.count()).select_from(rows.limit(enough).subquery())
    return some.scalar_subquery() >= enough


def _is_one_of(column: sa.ColumnElement[str], names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Of a number that is known when the query is made: a list that may grow is worded at each run."""
    return sa.or_(*(column == sa.bindparam(name) for name in names))
