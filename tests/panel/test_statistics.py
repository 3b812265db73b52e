"""What the journal counts for the panel: to the millisecond, by kind, and by an index alone."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from panel import crowd
from sqlalchemy.dialects import sqlite

from ivr_agi.journal import AttemptState, NewAttempt, Resolution, statistics
from ivr_agi.journal.statistics import Calls, Tally
from ivr_agi.journal.tables import call_record, history

SINCE, UNTIL = "2026-11-27T20:30:00.000+00:00", "2026-11-28T20:30:00.000+00:00"  # a day in Tehran
BEFORE, AT_LAST = "2026-11-27T20:29:59.999+00:00", "2026-11-28T20:29:59.999+00:00"
NOON = "2026-11-28T08:30:00.000+00:00"


def asked(journal, function, *arguments):
    """What a function of statistics finds."""
    return journal.now(lambda connection: function(connection, *arguments))


def answered(journal, attempt_id, state, ms, at=NOON):
    """Put an answer of the gateway into the history."""
    row = {"attempt_id": attempt_id, "at": at, "state": state, "note": "", "owner": "shop:1:1", "ms": ms}
    journal.now(lambda connection: connection.execute(sa.insert(history).values(row)))


def called(journal, reached="card", status="HANGUP", at=NOON, ms=1000):
    """Put an ended call into the journal."""
    row = {"ended_at": at, "reached": reached, "status": status, "reason": "", "ms": ms, "language": "fa"}
    journal.now(lambda connection: connection.execute(sa.insert(call_record).values(row)))


def test_a_span_has_its_beginning_and_not_its_end(journal):
    """A payment of the very moment at which a span begins is in it, one of the moment at which it ends in the next."""
    for number, at in enumerate((BEFORE, SINCE, NOON, AT_LAST, UNTIL)):
        crowd.add(journal, order_id=f"A-{number}", amount=10**number, created_at=at)
    found = asked(journal, statistics.payments, [SINCE, NOON, UNTIL])
    assert found == [{("paid", ""): Tally(1, 10)}, {("paid", ""): Tally(2, 1100)}]


def test_kinds_of_payments(journal):
    """Each state is counted by itself, with its sum, and what a person has found out apart."""
    for number, state in enumerate(AttemptState):
        crowd.add(journal, order_id=f"A-{number}", amount=1000 + number, state=state, created_at=NOON)
    crowd.add(
        journal, order_id="B", amount=7, state="resolved", resolution="paid", ref_id="1", created_at=NOON
    )
    (found,) = asked(journal, statistics.payments, [SINCE, UNTIL])
    expected = {
        (state.value, ""): Tally(1, 1000 + number)
        for number, state in enumerate(AttemptState)
        if state is not AttemptState.RESOLVED
    }
    assert found == expected | {("resolved", "not-paid"): Tally(1, 1007), ("resolved", "paid"): Tally(1, 7)}


def test_nothing_yet(journal):
    """An empty journal is counted, too."""
    assert asked(journal, statistics.payments, [SINCE, NOON, UNTIL]) == [{}, {}]
    assert asked(journal, statistics.failed_after_pay, SINCE, UNTIL) == 0
    assert asked(journal, statistics.codes, SINCE, UNTIL) == {}
    assert asked(journal, statistics.calls, SINCE, UNTIL) == {}
    assert asked(journal, statistics.gateway, SINCE, UNTIL) == {"otp-v2": {}, "pay": {}}


def test_sums_beyond_32_bits(journal):
    """A billion rials a payment, and 62 spans: neither is too much."""
    crowd.add(journal, order_id="A", amount=9 * 10**15, created_at=NOON)
    crowd.add(journal, order_id="B", amount=10**15, created_at=NOON)
    begin = datetime.fromisoformat(SINCE)
    edges = [(begin + timedelta(minutes=20 * n)).isoformat(timespec="milliseconds") for n in range(63)]
    found = asked(journal, statistics.payments, edges)
    assert [each for each in found if each] == [{("paid", ""): Tally(2, 10**16)}]
    assert found[36]


async def test_an_answer_that_came_late(journal):
    """In doubt until the answer comes, a payment is paid from then on, in the span in which it began."""
    attempt_id = await journal.reserve(
        NewAttempt("A-1", "ivr", 50_000, "603799******7893", "+989123456789", "1.2")
    )
    now = datetime.now(UTC)
    edges = [(now + timedelta(hours=hours)).isoformat(timespec="milliseconds") for hours in (-1, 1)]
    seen = []
    for state, fields in (("otp_sent", {}), ("sent", {}), ("unknown", {}), ("paid", {"ref_id": "77"})):
        await journal.step(attempt_id, AttemptState(state), **fields)
        seen.append(await journal.look(lambda connection: statistics.payments(connection, edges)))
    assert seen[2] == [{("unknown", ""): Tally(1, 50_000)}]
    assert seen[3] == [{("paid", ""): Tally(1, 50_000)}]


def test_failed_after_pay(journal):
    """Only what has failed with an answer to `pay` is counted: not what was left before, or settled since."""
    left = crowd.add(journal, order_id="A", state="failed", created_at=NOON)
    sent = crowd.add(journal, order_id="B", state="failed", created_at=AT_LAST)
    settled = crowd.add(journal, order_id="C", state="resolved", created_at=NOON)
    earlier = crowd.add(journal, order_id="D", state="failed", created_at=BEFORE)
    answered(journal, left, "otp_sent", 400)
    answered(journal, sent, "failed", 12, at="2026-11-28T20:31:00.000+00:00")  # after the period's end
    answered(journal, settled, "failed", 12)
    answered(journal, earlier, "failed", 12)
    assert asked(journal, statistics.failed_after_pay, SINCE, UNTIL) == 1


def test_codes(journal):
    """Declines by code, the most frequent first; with those settled since, without what has no answer."""
    given = (
        [("declined", "51")] * 2 + [("declined", "55")] * 3 + [("declined", ""), ("resolved", "94")]
        + [("resolved", ""), ("unknown", ""), ("paid", "")]
    )  # fmt: skip
    for number, (state, code) in enumerate(given):
        crowd.add(journal, order_id=f"A-{number}", state=state, code=code, created_at=NOON)
    crowd.add(journal, order_id="B", state="declined", code="61", created_at=UNTIL)
    found = asked(journal, statistics.codes, SINCE, UNTIL)
    assert list(found.items()) == [("55", 3), ("51", 2), ("", 1), ("94", 1)]


def test_calls(journal):
    """Calls by the furthest state and PAYSTATUS, also of a state that there is no more; by when they ended."""
    for at in (BEFORE, SINCE, AT_LAST, UNTIL):
        called(journal, at=at, ms=30_000)
    called(journal, reached="pay", status="PAID", ms=3 * 10**9)
    called(journal, reached="fortune", status="HANGUP", ms=1)
    assert asked(journal, statistics.calls, SINCE, UNTIL) == {
        ("card", "HANGUP"): Calls(2, 60_000),
        ("pay", "PAID"): Calls(1, 3 * 10**9),
        ("fortune", "HANGUP"): Calls(1, 1),
    }


def test_the_gateway(journal):
    """An answer is of the service that its state tells, at two digits rounded down; by when it came."""
    attempt_id = crowd.add(journal, order_id="A", created_at=BEFORE)
    for state, ms in (
        ("created", 99), ("otp_sent", 105), ("otp_sent", 109), ("paid", 1234), ("declined", 1299),
        ("failed", 0), ("unknown", 60_999),
    ):  # fmt: skip
        answered(journal, attempt_id, state, ms)
    answered(journal, attempt_id, "sent", None)
    for at in (BEFORE, SINCE, AT_LAST, UNTIL):
        answered(journal, attempt_id, "paid", 7, at=at)
    assert asked(journal, statistics.gateway, SINCE, UNTIL) == {
        "otp-v2": {99: 1, 100: 2},
        "pay": {0: 1, 7: 2, 1200: 2, 60_000: 1},
    }


QUERIES = {
    "payments": lambda: statistics.payments_query([SINCE, NOON, UNTIL]),
    "failed": lambda: statistics.failed_after_pay_query(SINCE, UNTIL),
    "codes": lambda: statistics.codes_query(SINCE, UNTIL),
    "calls": lambda: statistics.calls_query(SINCE, UNTIL),
    "otp-v2": lambda: statistics.gateway_query("otp-v2", SINCE, UNTIL),
    "pay": lambda: statistics.gateway_query("pay", SINCE, UNTIL),
}
# Beyond an index: the few answers that failed, of which the attempt is looked up.
ROWS = {"failed": "SEARCH history USING INDEX history_by_state (state=? AND at>? AND at<?)"}
BOUNDED = {
    "attempt": "created_at>? AND created_at<?",
    "history": "at>? AND at<?",
    "call_record": "ended_at>?",
}


@pytest.mark.sqlite("its own words for a plan")
@pytest.mark.parametrize("name", QUERIES)
def test_each_question_is_answered_by_an_index(journal, name):
    """No table is read from end to end, and no row where the index has it all; only the period is read."""
    asked = QUERIES[name]().compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    values = tuple(asked.params[key] for key in asked.positiontup)
    with journal._engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}", values)]
    read = [line for line in plan if any(table in line for table in BOUNDED)]
    assert read
    for line in read:
        assert " USING COVERING INDEX " in line or line == ROWS.get(name)
    for table, bounds in BOUNDED.items():
        of_table = [line for line in read if f"SEARCH {table} " in line]
        assert not of_table or any(bounds in line for line in of_table)


def test_every_kind_there_is():
    """The kinds that are counted are all that the tables allow, each once."""
    kinds = statistics.KINDS
    assert {state for state, _ in kinds} == set(AttemptState)
    assert {found for state, found in kinds if state == "resolved"} == set(Resolution)
    assert len(set(kinds)) == len(kinds)
