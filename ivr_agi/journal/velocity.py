"""What has happened lately, of whom: counted in the journal, against the LIMIT_… settings.

A row of `happening` for each one-time PIN that is asked for, written before the gateway is asked, and
for each decline or failure, written in the step that says so. A count looks at no more rows than its
limit allows, whatever the journal's size; one of different cards or callers, at those of its period.
Whoever counts and writes does both in one transaction, and nobody else counts meanwhile (`take_turn`).
How is `counting.py`'s matter.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal import counting
from ivr_agi.journal.counting import Who
from ivr_agi.journal.tables import AttemptState, attempt, happening, pause, timestamp
from ivr_agi.limits import LONGEST, PERIODS, Counted, Limit, Limits, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["OrderHeld", "OverLimit", "Paused", "Refusal", "Who"]

WRONG_PIN: Final = "55"  # the bank's code
NOT_PAID: Final = (AttemptState.DECLINED, AttemptState.FAILED)
KEPT: Final = timedelta(seconds=2 * LONGEST)  # rows older than that count for nothing
AHEAD: Final = timedelta(minutes=1)  # and those that are later, by another server's clock


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """What is asked for is not to be had; raised before anything is written."""


class OrderHeld(Refusal):
    """Another attempt holds the order. state: how far that one has come."""

    def __init__(self, state: AttemptState) -> None:
        super().__init__(f"the order is held by an attempt in state {state}")
        self.state = state


class OverLimit(Refusal):
    """One of the limits is reached. scope: whose."""

    def __init__(self, scope: Scope, limit: Limit) -> None:
        super().__init__(f"the limit of the {scope} is reached: {limit}")
        self.scope = scope
        self.limit = limit


class Paused(Refusal):
    """No payment begins until `ivr-agi resume`."""


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
    return connection.execute(_PAUSED).first() is not None


def hindrance(connection: sa.Connection, who: Who, limits: Limits) -> Refusal | None:
    """Why an attempt cannot begin: its order is held, there is a pause, or one more PIN would be too many."""
    asked = counting.of_beginning(limits, who)
    state, paused, *reached = connection.execute(asked.query, _values(who)).one()
    if state is not None:
        return OrderHeld(AttemptState(state))
    if paused:
        return Paused("no payments are taken at present (ivr-agi resume)")
    return _over(asked, reached)


def check(connection: sa.Connection, who: Who, limits: Limits) -> None:
    """Raise OverLimit if one more PIN would be too many."""
    asked = counting.of_limits(limits, who)
    if asked.limits and (over := _over(asked, connection.execute(asked.query, _values(who)).one())):
        raise over


def record_first_pin(connection: sa.Connection, of: Mapping[str, Any], now: str) -> None:
    """An attempt begins, whose row (of) counts a one-time PIN already."""
    connection.execute(_HAPPENED, {"what": Counted.PINS, "at": now} | {name: of[name] for name in _OF})


def record_pin(connection: sa.Connection, attempt_id: int) -> None:
    """One more one-time PIN is about to be asked for."""
    _record(connection, attempt_id, Counted.PINS)
    connection.execute(_ASKED, {"attempt_id": attempt_id})


def take_back_pin(connection: sa.Connection, attempt_id: int) -> None:
    """Not one byte of its last request left: it counts for nothing. Its attempt still holds the order."""
    connection.execute(_LAST_TAKEN_BACK, {"attempt_id": attempt_id})
    connection.execute(_ASKED_LESS, {"attempt_id": attempt_id})


def record_refusal(connection: sa.Connection, attempt_id: int) -> None:
    """The gateway would send no PIN to this card: to whoever tries cards, that is an answer."""
    _record(connection, attempt_id, Counted.DECLINES)


def record_end(connection: sa.Connection, attempt_id: int, state: AttemptState) -> None:
    """An attempt has ended: declined and failed ones leave what is counted."""
    if state not in NOT_PAID:
        return
    row = connection.execute(_ENDED, {"attempt_id": attempt_id}).mappings().one()
    what = [Counted.FAILURES] * row["pins_asked"]
    if state is AttemptState.DECLINED:
        what.append(Counted.DECLINES)
        what += [Counted.WRONG_PINS] if row["code"] == WRONG_PIN else []
    of = {name: row[name] for name in _OF} | {"at": timestamp()}
    if what:
        connection.execute(_HAPPENED, [{"what": counted, **of} for counted in what])


def declines(connection: sa.Connection, attempt_id: int) -> int:
    """Declines within a day of this attempt's caller, or of its card, whichever are more."""
    return max(connection.execute(_DECLINES, {"attempt_id": attempt_id, **_times()}).one())


def forget(connection: sa.Connection) -> None:
    """Remove what is too old to count, or was written by a clock that was wrong."""
    for counted in Counted:  # by the index
        of = happening.c.what == counted
        for wrong in (happening.c.at < _ago(KEPT), happening.c.at > _ago(-KEPT)):
            connection.execute(sa.delete(happening).where(of, wrong))


def _record(connection: sa.Connection, attempt_id: int, what: Counted) -> None:
    connection.execute(_HAPPENED_TO, {"happened": what, "happened_at": timestamp(), "attempt_id": attempt_id})


def _over(asked: counting.Question, reached: Iterable[bool]) -> OverLimit | None:
    """The first limit that is reached."""
    over = (each for each, is_reached in zip(asked.limits, reached, strict=True) if is_reached)
    return next((OverLimit(scope, limit) for scope, limit in over), None)


def _values(who: Who) -> dict[str, str]:
    return who.parameters | _times()


def _times() -> dict[str, str]:
    """Since when, and until when, it counts: counting.within's."""
    since = {f"since_{period}": _ago(timedelta(seconds=seconds)) for period, seconds in PERIODS.items()}
    return since | {"until": _ago(-AHEAD)}


def _ago(span: timedelta) -> str:
    return (datetime.now(UTC) - span).isoformat(timespec="milliseconds")


def _declines_of(mine: sa.Column[str], theirs: sa.Column[str]) -> sa.ScalarSelect[int]:
    """Declines of the same one as an attempt's; none where it is not known whose."""
    rows = sa.select(sa.func.count()).select_from(happening).correlate(attempt)
    return rows.where(*counting.within(Counted.DECLINES, "day"), theirs == mine, mine != "").scalar_subquery()


# Worded once, run often.
_OF: Final = ("order_id", "caller", "card", "card_hash")  # columns that attempt and happening share
_THIS: Final = attempt.c.id == sa.bindparam("attempt_id")
_PAUSED: Final = sa.select(pause.c.id)
_HAPPENED: Final = sa.insert(happening).inline()
_HAPPENED_TO: Final = sa.insert(happening).from_select(
    ["what", "at", *_OF],
    sa.select(
        sa.bindparam("happened", type_=happening.c.what.type),
        sa.bindparam("happened_at", type_=happening.c.at.type),
        *(attempt.c[name] for name in _OF),
    ).where(_THIS),
)
_ASKED: Final = sa.update(attempt).where(_THIS).values(pins_asked=attempt.c.pins_asked + 1)
_ASKED_LESS: Final = (
    sa.update(attempt).where(_THIS, attempt.c.pins_asked > 0).values(pins_asked=attempt.c.pins_asked - 1)
)
_LAST: Final = sa.select(sa.func.max(happening.c.id)).where(
    happening.c.order_id == sa.select(attempt.c.order_id).where(_THIS).scalar_subquery(),
    happening.c.what == Counted.PINS,
)
_LAST_TAKEN_BACK: Final = sa.delete(happening).where(happening.c.id == _LAST.scalar_subquery())
_ENDED: Final = sa.select(attempt.c.pins_asked, attempt.c.code, *(attempt.c[name] for name in _OF)).where(
    _THIS
)
_DECLINES: Final = sa.select(
    _declines_of(attempt.c.caller, happening.c.caller), _declines_of(attempt.c.card, happening.c.card)
).where(_THIS)
