"""What the panel counts: payments by time and outcome, the bank's codes, calls, how long the gateway took.

Each function is on a connection and asks little: a question is answered by an index, not by reading rows, so
that a month of a large shop takes some tens of milliseconds. Times are UTC in ISO 8601, from `since` on and
before `until`. A payment counts when it began, a call when it ended, an answer when it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal.tables import AttemptState, Resolution, attempt, history
from ivr_agi.model import PayStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = tuple[str, str]  # of a payment: its state, and what a person has found out, '' for nothing

S = AttemptState
KINDS: Final[tuple[Kind, ...]] = (
    *((state.value, "") for state in S if state is not S.RESOLVED),
    *((S.RESOLVED.value, found.value) for found in Resolution),
)
# A step with a time is an answer of the gateway: to `otp-v2` while nothing has been paid yet, else to `pay`.
SERVICES: Final[dict[str, tuple[str, ...]]] = {
    "otp-v2": (S.CREATED.value, S.OTP_SENT.value),
    "pay": (S.PAID.value, S.DECLINED.value, S.FAILED.value, S.UNKNOWN.value),
}
LONGEST: Final = timedelta(days=1)  # within which the `pay` of an attempt is answered, after its beginning


@dataclass(frozen=True, slots=True)
class Tally:
    """How many payments, and their sum in rials."""

    count: int = 0
    rials: int = 0


@dataclass(frozen=True, slots=True)
class Calls:
    """How many calls, and how long all of them took together."""

    count: int = 0
    ms: int = 0


# -- payments -----------------------------------------------------------------------------------------


def payments(connection: sa.Connection, edges: Sequence[str]) -> list[dict[Kind, Tally]]:
    """Payments of each span between two neighbouring edges, by kind; what there is none of is left out."""
    found: list[dict[Kind, Tally]] = [{} for _ in edges[1:]]
    for place, state, resolution, both in connection.execute(payments_query(edges)):
        tally = Tally(*_apart(both))
        if tally.count:
            found[place][state, resolution] = tally
    return found


def payments_query(edges: Sequence[str]) -> sa.TextClause:
    """What `payments` asks."""
    spans = ", ".join(f"({place}, :edge{place}, :edge{place + 1})" for place in range(len(edges) - 1))
    query = sa.text(_PAYMENTS.format(spans=spans, kinds=_listed(KINDS)))
    return query.bindparams(**{f"edge{place}": edge for place, edge in enumerate(edges)})


# A text, since SQLAlchemy would take longer to word it than the database to answer. Counted for each span and
# kind by itself, since SQLite would sort all that it groups; and both figures in one value, since it would
# read everything twice for two.
_PAYMENTS: Final = """
WITH span(place, since, until) AS (VALUES {spans}), kind(state, resolution) AS (VALUES {kinds})
SELECT place, kind.state, kind.resolution, (
    SELECT count(*) || ' ' || coalesce(sum(amount), 0) FROM attempt
    WHERE attempt.state = kind.state AND attempt.resolution = kind.resolution
    AND attempt.created_at >= span.since AND attempt.created_at < span.until
) FROM span CROSS JOIN kind
"""


def failed_after_pay(connection: sa.Connection, since: str, until: str) -> int:
    """How many payments failed (certainly not charged) although `pay` had been asked for, or was being so."""
    return int(connection.execute(failed_after_pay_query(since, until)).scalar_one())


def failed_after_pay_query(since: str, until: str) -> sa.Select[Any]:
    """What `failed_after_pay` asks."""
    last = (datetime.fromisoformat(until) + LONGEST).isoformat(timespec="milliseconds")
    answers = sa.select(history.c.attempt_id).where(_answers((S.FAILED.value,), since, last))
    query = sa.select(sa.func.count()).select_from(attempt)
    return query.where(
        attempt.c.id.in_(answers),
        attempt.c.state == S.FAILED.value,
        attempt.c.created_at >= since,
        attempt.c.created_at < until,
    )


def codes(connection: sa.Connection, since: str, until: str) -> dict[str, int]:
    """How often the bank declined, by its code, the most frequent first; '' where it gave none.

    Also what a person has settled since, as far as the bank had given a code.
    """
    found = connection.execute(codes_query(since, until))
    return {code: int(count) for code, count in sorted(found, key=lambda each: (-each[1], each[0]))}


def codes_query(since: str, until: str) -> sa.Select[Any]:
    """What `codes` asks."""
    query = sa.select(attempt.c.code, sa.func.count())
    return query.where(
        attempt.c.state.in_((S.DECLINED.value, S.RESOLVED.value)),
        attempt.c.created_at >= since,
        attempt.c.created_at < until,
        sa.or_(attempt.c.state == S.DECLINED.value, attempt.c.code != ""),
    ).group_by(attempt.c.code)


# -- calls --------------------------------------------------------------------------------------------


def calls(connection: sa.Connection, since: str, until: str) -> dict[tuple[str, str], Calls]:
    """Calls by the furthest state that they reached and PAYSTATUS; what there is none of is left out."""
    found = connection.execute(calls_query(since, until))
    every = {(reached, status): Calls(*_apart(both)) for reached, status, both in found}
    return {key: each for key, each in every.items() if each.count}


def calls_query(since: str, until: str) -> sa.TextClause:
    """What `calls` asks."""
    ends = _listed([(status.value,) for status in PayStatus])
    return sa.text(_CALLS.format(ends=ends)).bindparams(since=since, until=until)


# As above; the states are found from one to the next by the index, which DISTINCT would read from end to end.
_CALLS: Final = """
WITH RECURSIVE step(reached) AS (
    SELECT min(reached) FROM call_record
    UNION ALL
    SELECT (SELECT min(reached) FROM call_record WHERE reached > step.reached) FROM step
    WHERE reached IS NOT NULL
), ending(status) AS (VALUES {ends})
SELECT step.reached, ending.status, (
    SELECT count(*) || ' ' || coalesce(sum(ms), 0) FROM call_record
    WHERE call_record.reached = step.reached AND call_record.status = ending.status
    AND ended_at >= :since AND ended_at < :until
) FROM step CROSS JOIN ending WHERE step.reached IS NOT NULL
"""


# -- the gateway --------------------------------------------------------------------------------------


def gateway(connection: sa.Connection, since: str, until: str) -> dict[str, dict[int, int]]:
    """How long each of SERVICES took: milliseconds, two digits of them from 100 on, rounded down -> answers.

    What was not answered in time, or not clearly, counts with the time that we waited.
    """
    return {
        service: {
            int(least): int(count)
            for least, count in connection.execute(gateway_query(service, since, until))
        }
        for service in SERVICES
    }


def gateway_query(service: str, since: str, until: str) -> sa.Select[Any]:
    """What `gateway` asks."""
    ms = history.c.ms
    # The remainder, not a quotient: what `/` makes of two whole numbers is each database's own idea.
    steps = ((100, ms), (1000, ms - ms % 10), (10_000, ms - ms % 100))
    least = sa.case(*((ms < below, rounded) for below, rounded in steps), else_=ms - ms % 1000).label("least")
    query = sa.select(least, sa.func.count()).where(_answers(SERVICES[service], since, until))
    return query.group_by(sa.text("least"))


# -- what they share ----------------------------------------------------------------------------------


def _answers(states: Sequence[str], since: str, until: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        history.c.ms.is_not(None), history.c.state.in_(states), history.c.at >= since, history.c.at < until
    )


def _listed(values: Iterable[tuple[str, ...]]) -> str:
    """Words of our own as the rows of VALUES."""
    return ", ".join(f"({', '.join(map(repr, each))})" for each in values)


def _apart(both: str) -> tuple[int, int]:
    count, total = both.split()
    return int(count), int(total)
