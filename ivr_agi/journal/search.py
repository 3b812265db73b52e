"""What the panel looks for among all payments: each kind of question by an index of its own, newest first.

A page begins where the one before has ended, by time and id, not by a number of rows: payments that come
meanwhile neither shift it nor are listed twice. By which index a question is answered is decided here
(`_conditions`): SQLite has counted nothing, and would as soon read all that was ever paid as one order's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ivr_agi.journal.engine import rows
from ivr_agi.journal.tables import IN_DOUBT, OPEN, AttemptState, attempt
from ivr_agi.model import ascii_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_OPEN: Final = "open"  # under way: any of tables.OPEN
IN_REVIEW: Final = "review"  # a person should look at it
COMMON: Final = frozenset({AttemptState.PAID, AttemptState.DECLINED, AttemptState.FAILED})
STATES: Final = (*(state.value for state in AttemptState), IS_OPEN, IN_REVIEW)

_PERSIAN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")

Place = tuple[str, int]  # created_at and id of an attempt


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for; '' is no matter. Text is compared whole.

    order, ref_id: digits of another script count as the same. mobile: `+989123456789`. first, last: UTC in
    ISO 8601, begun from then on, until before. state: one of STATES. method: ivr or web.
    """

    order: str = ""
    mobile: str = ""
    ref_id: str = ""
    last_four: str = ""
    first: str = ""
    last: str = ""
    state: str = ""
    method: str = ""


class _Match(NamedTuple):
    """One thing that must be true: said so that an index is looked in, and so that none is."""

    rank: int  # the rarer what matches is, the lower
    here: sa.ColumnElement[bool]
    aside: sa.ColumnElement[bool]


def find(
    connection: sa.Connection, wanted: Filter, before: Place | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Attempts, newest first, as dictionaries of the table's columns. before: where the last page ended."""
    return rows(connection, query(wanted, before, limit))


def query(wanted: Filter, before: Place | None, limit: int) -> sa.Select[Any]:
    """What `find` asks."""
    asked = sa.select(attempt).where(*_conditions(wanted))
    if before is not None:
        asked = asked.where(sa.tuple_(attempt.c.created_at, attempt.c.id) < sa.tuple_(*before))
    return asked.order_by(attempt.c.created_at.desc(), attempt.c.id.desc()).limit(limit)


def place(connection: sa.Connection, attempt_id: int) -> Place | None:
    """Where an attempt stands in the order of `find`; None if there is none of that id."""
    asked = sa.select(attempt.c.created_at, attempt.c.id).where(attempt.c.id == attempt_id)
    found = connection.execute(asked).one_or_none()
    return None if found is None else (found.created_at, found.id)


def count(connection: sa.Connection, wanted: Filter) -> int:
    """How many there are."""
    return int(connection.execute(count_query(wanted)).scalar_one())


def count_query(wanted: Filter) -> sa.Select[Any]:
    """What `count` asks."""
    return sa.select(sa.func.count()).select_from(attempt).where(*_conditions(wanted))


def of_card(connection: sa.Connection, card_hash: str, limit: int) -> list[dict[str, Any]]:
    """Attempts of one card, by its keyed hash, newest first; none for ''."""
    return rows(connection, of_card_query(card_hash, limit))


def of_card_query(card_hash: str, limit: int) -> sa.Select[Any]:
    """What `of_card` asks."""
    same = sa.select(attempt).where(attempt.c.card_hash == card_hash, sa.text("card_hash <> ''"))
    return same.order_by(attempt.c.id.desc()).limit(limit)


class _aside(FunctionElement[Any]):  # noqa: N801 - a function of SQL
    """A column that SQLite looks up no index for; PostgreSQL knows by itself, from what it has counted."""

    inherit_cache = True


@compiles(_aside)
def _plain(element: Any, compiler: Any, **how: Any) -> str:
    return str(compiler.process(element.clauses, **how))


@compiles(_aside, "sqlite")
def _without_index(element: Any, compiler: Any, **how: Any) -> str:
    return f"+{compiler.process(element.clauses, **how)}"


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    """All that must be true; an index is looked in for the rarest of it alone."""
    matches = sorted(_matches(wanted), key=lambda match: match.rank)
    conditions = [match.aside if place else match.here for place, match in enumerate(matches)]
    if wanted.first:
        conditions.append(attempt.c.created_at >= wanted.first)
    if wanted.last:
        conditions.append(attempt.c.created_at < wanted.last)
    return conditions


def _matches(wanted: Filter) -> Iterator[_Match]:
    columns = attempt.c
    if wanted.order:
        yield _match(0, columns.order_id, _scripts(wanted.order))
    if wanted.ref_id:
        found = _match(1, columns.ref_id, _scripts(wanted.ref_id))
        # The index has only those that have a number, and the planner must see that no other is asked for.
        yield found._replace(here=sa.and_(found.here, sa.text("ref_id <> ''")))
    if wanted.mobile:
        yield _match(2, columns.mobile, [wanted.mobile])
    if wanted.last_four:
        yield _match(3, columns.last_four, [wanted.last_four])
    if wanted.state == IN_REVIEW:
        in_doubt = sa.or_(_aside(columns.review) != "", _aside(columns.state) == AttemptState.UNKNOWN)
        yield _Match(4, sa.literal_column(f"({IN_DOUBT})"), in_doubt)
    elif wanted.state:
        states = [state.value for state in OPEN] if wanted.state == IS_OPEN else [wanted.state]
        yield _match(6 if wanted.state in COMMON else 4, columns.state, states)
    if wanted.method:
        yield _match(5, columns.method, [wanted.method])


def _match(rank: int, column: sa.Column[Any], texts: list[str]) -> _Match:
    if len(texts) == 1:
        return _Match(rank, column == texts[0], _aside(column) == texts[0])
    return _Match(rank, column.in_(texts), _aside(column).in_(texts))


def _scripts(text: str) -> list[str]:
    """The same text as it may have been written: as given, with ASCII digits, with Persian ones."""
    plain = ascii_digits(text)
    return sorted({text, plain, plain.translate(_PERSIAN)})
