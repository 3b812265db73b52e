"""What has happened lately, of whom: counted in the journal, against the LIMIT_… settings.

A row of `happening` for each one-time PIN that is asked for, written before the gateway is asked, and
for each decline or failure, written in the step that says so. A count looks at no more rows than its
limit allows, whatever the journal's size; one of different cards or callers, at those of its period.
Whoever counts and writes does both in one transaction, and nobody else counts meanwhile (`take_turn`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ivr_agi.journal.tables import AttemptState, attempt, happening, pause, timestamp
from ivr_agi.limits import LONGEST, Counted, Limit, Limits, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG_PIN: Final = "55"  # the bank's code
NOT_PAID: Final = (AttemptState.DECLINED, AttemptState.FAILED)
KEPT: Final = timedelta(seconds=2 * LONGEST)  # rows older than that count for nothing
AHEAD: Final = timedelta(minutes=1)  # and those that are later, by another server's clock


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """What is asked for is not to be had; raised before anything is written."""


class OverLimit(Refusal):
    """One of the limits is reached. scope: whose."""

    def __init__(self, scope: Scope, limit: Limit) -> None:
        super().__init__(f"the limit of the {scope} is reached: {limit}")
        self.scope = scope
        self.limit = limit


class Paused(Refusal):
    """No payment begins until `ivr-agi resume`."""


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


def take_turn(connection: sa.Connection) -> None:
    """Let nobody else count until the commit. Raises OperationalError when that is not to be had at once.

    To be called before anything is written, so that two servers cannot hold each other up.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")  # one that is frozen may hold it
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4574)")
        connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")


def is_paused(connection: sa.Connection) -> bool:
    """Whether no payment is to begin."""
    return connection.execute(sa.select(pause.c.id)).first() is not None


def check_pause(connection: sa.Connection) -> None:
    """Raise Paused while no payment is to begin."""
    if is_paused(connection):
        raise Paused("no payments are taken at present (ivr-agi resume)")


def check(connection: sa.Connection, who: Who, limits: Limits) -> None:
    """Raise OverLimit if one more PIN would be too many."""
    for scope, limit in limits.each:
        of = _of(scope, who)
        if of is not None and _reached(connection, of, limit, who):
            raise OverLimit(scope, limit)


def record_pin(connection: sa.Connection, attempt_id: int) -> None:
    """A one-time PIN is about to be asked for."""
    _record(connection, attempt_id, [Counted.PINS])
    connection.execute(
        sa.update(attempt).where(attempt.c.id == attempt_id).values(pins_asked=attempt.c.pins_asked + 1)
    )


def take_back_pin(connection: sa.Connection, attempt_id: int) -> None:
    """Not one byte of its last request left: it counts for nothing. Its attempt still holds the order."""
    order_id = sa.select(attempt.c.order_id).where(attempt.c.id == attempt_id).scalar_subquery()
    last = sa.select(sa.func.max(happening.c.id)).where(
        happening.c.order_id == order_id, happening.c.what == Counted.PINS
    )
    connection.execute(sa.delete(happening).where(happening.c.id == last.scalar_subquery()))
    connection.execute(
        sa.update(attempt)
        .where(attempt.c.id == attempt_id, attempt.c.pins_asked > 0)
        .values(pins_asked=attempt.c.pins_asked - 1)
    )


def record_refusal(connection: sa.Connection, attempt_id: int) -> None:
    """The gateway would send no PIN to this card: to whoever tries cards, that is an answer."""
    _record(connection, attempt_id, [Counted.DECLINES])


def record_end(connection: sa.Connection, attempt_id: int, state: AttemptState) -> None:
    """An attempt has ended: declined and failed ones leave what is counted."""
    if state not in NOT_PAID:
        return
    query = sa.select(attempt.c.pins_asked, attempt.c.code).where(attempt.c.id == attempt_id)
    pins, code = connection.execute(query).one()
    what = [Counted.FAILURES] * pins
    if state is AttemptState.DECLINED:
        what.append(Counted.DECLINES)
        what += [Counted.WRONG_PINS] if code == WRONG_PIN else []
    _record(connection, attempt_id, what)


def declines(connection: sa.Connection, attempt_id: int) -> int:
    """Declines within a day of this attempt's caller, or of its card, whichever are more."""
    row = connection.execute(sa.select(attempt).where(attempt.c.id == attempt_id)).mappings().one()
    since = _ago(timedelta(seconds=LONGEST))
    counts = []
    for of in (_of(Scope.CALLER, Who(caller=row["caller"])), _of(Scope.CARD, Who(card=row["card"]))):
        if of is not None:
            query = sa.select(sa.func.count()).select_from(happening)
            counts.append(
                connection.execute(query.where(*_within(Counted.DECLINES, since), *of)).scalar_one()
            )
    return max(counts, default=0)


def forget(connection: sa.Connection) -> None:
    """Remove what is too old to count, or was written by a clock that was wrong."""
    for counted in Counted:  # by the index
        of = happening.c.what == counted
        for wrong in (happening.c.at < _ago(KEPT), happening.c.at > _ago(-KEPT)):
            connection.execute(sa.delete(happening).where(of, wrong))


def _record(connection: sa.Connection, attempt_id: int, what: Sequence[Counted]) -> None:
    if not what:
        return
    names = ("order_id", "caller", "card", "card_hash")
    query = sa.select(*(attempt.c[name] for name in names)).where(attempt.c.id == attempt_id)
    of = dict(zip(names, connection.execute(query).one(), strict=True)) | {"at": timestamp()}
    connection.execute(sa.insert(happening), [{"what": counted, **of} for counted in what])


def _ago(span: timedelta) -> str:
    return (datetime.now(UTC) - span).isoformat(timespec="milliseconds")


def _within(counted: Counted, since: str) -> Sequence[sa.ColumnElement[bool]]:
    return (happening.c.what == counted, happening.c.at >= since, happening.c.at <= _ago(-AHEAD))


# One card: by its hash, or where it was written without a key, by its mask.
_CARD: Final = sa.case((happening.c.card_hash != "", happening.c.card_hash), else_=happening.c.card)


def _of(scope: Scope, who: Who) -> Sequence[sa.ColumnElement[bool]] | None:
    """Which rows are a scope's; None where it is not known whose."""
    if scope is Scope.TOTAL:
        return ()
    if scope is Scope.CARD:
        if not who.card:
            return None
        same = happening.c.card == who.card
        if not who.hashes:
            return (same,)
        return (same, sa.or_(happening.c.card_hash == "", happening.c.card_hash.in_(who.hashes)))
    column, value = {
        Scope.CALLER: (happening.c.caller, who.caller),
        Scope.ORDER: (happening.c.order_id, who.order_id),
    }[scope]
    return (column == value,) if value else None


def _reached(connection: sa.Connection, of: Sequence[sa.ColumnElement[bool]], limit: Limit, who: Who) -> bool:
    since = _ago(timedelta(seconds=limit.seconds))
    if limit.counted is Counted.CARDS:
        return bool(who.card) and _too_many(connection, of, since, _CARD, (who.card, *who.hashes), limit)
    if limit.counted is Counted.CALLERS:
        mine = (who.caller,)
        return bool(who.caller) and _too_many(connection, of, since, happening.c.caller, mine, limit)
    rows = sa.select(sa.literal(1)).select_from(happening).where(*_within(limit.counted, since), *of)
    last = rows.limit(1).offset(limit.most - 1)
    return connection.execute(last).first() is not None


def _too_many(  # noqa: PLR0913 - a count of different ones
    connection: sa.Connection,
    of: Sequence[sa.ColumnElement[bool]],
    since: str,
    column: sa.ColumnElement[str],
    mine: Sequence[str],
    limit: Limit,
) -> bool:
    """Whether there are that many others already, of whom mine (by each of its names) is none."""
    rows = sa.select(column).where(*_within(Counted.PINS, since), *of)
    if connection.execute(rows.where(column.in_(mine)).limit(1)).first() is not None:
        return False
    others = rows.distinct().limit(1).offset(limit.most - 1)
    return connection.execute(others).first() is not None
