"""What is read of the attempts: each a query, or a function on a connection."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from ivr_agi.journal.engine import rows
from ivr_agi.journal.tables import IN_DOUBT, AttemptState, attempt, history

PAGE: Final = 1000  # rows read at once: a long read holds up SQLite's writer


def newest(order_id: str | None, state: str | None, limit: int | None) -> sa.Select[Any]:
    """Attempts, newest first; of an order, in a state, at most so many, where these are given."""
    query = sa.select(attempt).order_by(attempt.c.id.desc()).limit(limit)
    if order_id is not None:
        query = query.where(attempt.c.order_id == order_id)
    if state is not None:
        query = query.where(attempt.c.state == state)
    return query


def page(since: str, until: str, last: int) -> sa.Select[Any]:
    """The next PAGE attempts of a period, oldest first. last: the id of the one before."""
    return (
        sa.select(attempt)
        .where(attempt.c.id > last, attempt.c.created_at >= since, attempt.c.created_at < until)
        .order_by(attempt.c.id)
        .limit(PAGE)
    )


def of_same_card(attempt_id: int) -> sa.Select[Any]:
    """Attempts with the card of this one, newest first; none if it was written without a key."""
    card = sa.select(attempt.c.card_hash).where(attempt.c.id == attempt_id).scalar_subquery()
    query = sa.select(attempt).where(attempt.c.card_hash == card, attempt.c.card_hash != "")
    return query.order_by(attempt.c.id.desc())


def in_doubt(stuck_since: str) -> sa.Select[Any]:
    """Unknown and suspicious attempts, oldest first, and what is `sent` and has not moved since then."""
    waiting = sa.select(attempt.c.id).where(sa.text(IN_DOUBT))  # in the very words of its index
    stuck = sa.select(attempt.c.id).where(
        attempt.c.state == AttemptState.SENT, attempt.c.updated_at < stuck_since
    )
    return sa.select(attempt).where(attempt.c.id.in_(sa.union_all(waiting, stuck))).order_by(attempt.c.id)


def with_history(
    connection: sa.Connection, attempt_id: int
) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """One attempt with its history, oldest step first; None if there is none."""
    lines = sa.select(history).where(history.c.attempt_id == attempt_id).order_by(history.c.id)
    found = rows(connection, sa.select(attempt).where(attempt.c.id == attempt_id))
    return (found[0], rows(connection, lines)) if found else None
