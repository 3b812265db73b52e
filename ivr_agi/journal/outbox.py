"""What the merchant is still to be told: a notice is written in the very transaction of the outcome.

So none is lost and none is made up: if the outcome is on disk, its notice is. `webhook.py` delivers.
Notices of one order go one after the other: none may be claimed while an earlier one of its order is
neither delivered nor given up. A claim is a time before which nobody else may have it, so a sender that
dies holds it up, and no more. Times are in seconds since 1970, of the sender's clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal.engine import rows
from ivr_agi.journal.tables import AttemptState, attempt, make_key, notice

if TYPE_CHECKING:
    from collections.abc import Collection

S = AttemptState
# The states that are outcomes; each makes a notice `payment.<state>`.
TOLD: Final = frozenset({S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN, S.RESOLVED})

# What the merchant is told of an attempt (docs/webhook.md).
FIELDS: Final = (
    "id", "order_id", "method", "state", "amount", "card", "mobile", "ref_id", "code", "reason", "review",
    "resolution", "resolved_by", "resolved_at", "evidence", "created_at", "updated_at",
)  # fmt: skip
HURRIED: Final = 1000  # notices brought forward at once: the writing thread has payments to write


@dataclass(frozen=True, slots=True)
class Notice:
    """One that is to be sent. key: its name for the receiver; tries: how many have failed."""

    id: int
    key: str
    order_id: str
    kind: str
    body: str
    created_at: str
    tries: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many are neither delivered nor given up. oldest: when their first was written; '' for none."""

    count: int
    oldest: str


def announce(connection: sa.Connection, attempt_id: int, now: str) -> None:
    """Write the notice of what an attempt has just become. now: the step's own time."""
    told = dict(connection.execute(_TOLD, {"attempt_id": attempt_id}).mappings().one())
    key, kind = make_key(), f"payment.{told['state']}"
    body = {"id": key, "type": kind, "created_at": now, "payment": told}
    row = {"key": key, "attempt_id": attempt_id, "order_id": told["order_id"], "kind": kind}
    connection.execute(_WRITTEN, row | {"body": json.dumps(body, ensure_ascii=False), "created_at": now})


# Worded once, run for each outcome.
_TOLD: Final = sa.select(*(attempt.c[name] for name in FIELDS)).where(
    attempt.c.id == sa.bindparam("attempt_id")
)
_WRITTEN: Final = sa.insert(notice).inline()


# -- for whoever sends --------------------------------------------------------------------------------


def soonest(connection: sa.Connection, without: Collection[str]) -> float | None:
    """When the next one is due that may be claimed; None if there is none. without: orders left out."""
    query = sa.select(notice.c.due_at).where(_first(without)).order_by(notice.c.due_at).limit(1)
    due = connection.execute(query).scalar()
    return None if due is None else float(due)


def claim(
    connection: sa.Connection, now: float, until: float, limit: int, without: Collection[str]
) -> list[Notice]:
    """Take up to `limit` of those that are due, at most one of an order; until then nobody else gets them."""
    columns = (notice.c[name] for name in Notice.__slots__)
    query = (
        sa.select(*columns)
        .where(_first(without), notice.c.due_at <= now)
        .order_by(notice.c.due_at, notice.c.id)
        .limit(limit)
        # A server that claims at this moment gets others, and nobody waits. SQLite: one writes at a time.
        .with_for_update(of=notice, skip_locked=True)
    )
    found = [Notice(**row) for row in rows(connection, query)]
    if found:
        taken = notice.c.id.in_([one.id for one in found])
        connection.execute(sa.update(notice).where(taken).values(due_at=until))
    return found


def settle(  # noqa: PLR0913 - what can come of a try
    connection: sa.Connection,
    told: Notice,
    *,
    trouble: str = "",
    due_at: float = 0.0,
    delivered_at: str = "",
    given_up_at: str = "",
) -> None:
    """Write what came of a try: delivered, given up, or due again at a time.

    A delivery always counts, even if somebody else has given up meanwhile; a failure only if nothing else
    has been written since the claim. May be repeated.
    """
    change = sa.update(notice).where(notice.c.id == told.id)
    if not delivered_at:
        change = change.where(notice.c.tries == told.tries)
    connection.execute(
        change.values(
            tries=told.tries + 1,
            trouble=trouble,
            due_at=due_at,
            delivered_at=delivered_at,
            given_up_at=given_up_at,
        )
    )
    if due_at:  # those that wait for it are not to be looked at, again and again, before it
        behind = sa.update(notice).where(notice.c.order_id == told.order_id, notice.c.id > told.id)
        connection.execute(behind.where(_pending(notice), notice.c.due_at < due_at).values(due_at=due_at))


def hurry(connection: sa.Connection, now: float, later_than: float) -> int:
    """Have what is due only later than that tried now; returns how many. Others may be under way."""
    some = (
        sa.select(notice.c.id)
        .where(_pending(notice), notice.c.due_at > later_than)
        .order_by(notice.c.id)
        .limit(HURRIED)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(sa.update(notice).where(notice.c.id.in_(some)).values(due_at=now)).rowcount


def waiting(connection: sa.Connection) -> Waiting:
    """How many are still to be told."""
    query = sa.select(sa.func.count(), sa.func.min(notice.c.id)).where(_pending(notice))
    count, first = connection.execute(query).one()
    oldest = connection.execute(sa.select(notice.c.created_at).where(notice.c.id == first)).scalar()
    return Waiting(int(count), oldest or "")


# -- for a person --------------------------------------------------------------------------------------


def listed(*, every: bool, limit: int | None = None) -> sa.Select[Any]:
    """The query of what is pending or given up, oldest first, without bodies.

    every: the delivered, too, and newest first.
    """
    columns = [column for column in notice.c if column.name != "body"]
    query = sa.select(*columns).limit(limit)
    if every:
        return query.order_by(notice.c.id.desc())
    return query.where(notice.c.delivered_at == "").order_by(notice.c.id)


def resend(connection: sa.Connection, key: str) -> bool:
    """Have one sent as if it had never been tried, delivered or not; False if there is none."""
    change = sa.update(notice).where(notice.c.key == key).values(_AFRESH)
    return connection.execute(change).rowcount == 1


def resend_given_up(connection: sa.Connection) -> int:
    """Have all that were given up sent; returns how many."""
    given_up = sa.and_(notice.c.given_up_at != "", notice.c.delivered_at == "")
    return connection.execute(sa.update(notice).where(given_up).values(_AFRESH)).rowcount


_AFRESH: Final[dict[str, Any]] = {"due_at": 0.0, "tries": 0, "delivered_at": "", "given_up_at": ""}


def _pending(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Neither delivered nor given up, in the words of the partial indexes (tables.PENDING)."""
    nothing: sa.ColumnElement[str] = sa.literal_column("''")
    return sa.and_(table.c.delivered_at == nothing, table.c.given_up_at == nothing)


def _first(without: Collection[str]) -> sa.ColumnElement[bool]:
    """Pending, and no earlier one of its order is."""
    earlier = notice.alias("earlier")
    blocked = sa.exists().where(
        earlier.c.order_id == notice.c.order_id, earlier.c.id < notice.c.id, _pending(earlier)
    )
    return sa.and_(_pending(notice), ~blocked, notice.c.order_id.not_in(without))
