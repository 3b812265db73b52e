"""The outbox of the journal: what is written into it, who may take what out, and that two never take the same."""

import asyncio
import json

import pytest
import sqlalchemy as sa
from line import until
from receiver import SHARED, Shop, end

from ivr_agi.journal import AttemptState, IllegalStep, Journal, Resolution, outbox
from ivr_agi.journal.outbox import FIELDS
from ivr_agi.journal.tables import notice
from ivr_agi.model import Secret
from ivr_agi.webhook import Webhook

S = AttemptState
NOW = 1_800_000_000.0
LATER = NOW + 30


@pytest.fixture
def journal(begun):
    opened = Journal(begun, notices=True)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(request, tmp_path):
    """One journal, opened by two servers."""
    address = f"sqlite:///{tmp_path / 'pair.db'}"
    if request.param == "postgresql":
        address = request.getfixturevalue("durable_postgres").create()
    opened = [Journal(address, notices=True) for _ in range(2)]
    yield opened
    for one in opened:
        one.close()


async def claim(journal, now=NOW, limit=9, without=()):
    """What is claimed, as (order, kind)."""
    return [(one.order_id, one.kind) for one in await journal.claim_notices(now, now + 30, limit, without)]


def bodies(journal):
    query = sa.select(notice.c.body).order_by(notice.c.id)
    return [json.loads(row["body"]) for row in journal._rows(query)]


# -- what is written ----------------------------------------------------------------------------------


async def test_each_outcome_and_nothing_else(journal):
    """A notice for each outcome, none for a step on the way, none for a step that is refused."""
    attempt = await end(journal, "A-1", S.UNKNOWN)
    with pytest.raises(IllegalStep):
        await journal.step(attempt, S.SENT)
    await journal.note(attempt, "a person has called")
    await journal.step(attempt, S.PAID, ref_id="9")
    journal.resolve(attempt, Resolution.NOT_PAID, by="Sara", evidence="statement", seen=S.PAID)
    assert [body["type"] for body in bodies(journal)] == [
        "payment.unknown",
        "payment.paid",
        "payment.resolved",
    ]
    assert [body["payment"]["state"] for body in bodies(journal)] == ["unknown", "paid", "resolved"]
    assert len({body["id"] for body in bodies(journal)}) == 3


async def test_what_is_told(journal):
    """The attempt as it was then: the fields of the contract, with their types, and no more."""
    attempt = await end(journal, "سفارش ۱۷")
    (body,) = bodies(journal)
    assert body.keys() == {"id", "type", "created_at", "payment"}
    payment = body["payment"]
    assert tuple(payment) == FIELDS
    row, history = journal.attempt(attempt)
    assert payment == {name: row[name] for name in FIELDS}
    assert (payment["order_id"], payment["amount"], payment["id"]) == ("سفارش ۱۷", 50000, attempt)
    assert body["created_at"] == history[-1]["at"] == payment["updated_at"]


async def test_none_unless_wanted(journal_url):
    """Without WEBHOOK_URL nothing piles up."""
    journal = Journal(journal_url)
    await end(journal, "A-1")
    assert journal.notices(every=True) == []
    journal.close()


# -- who may take what --------------------------------------------------------------------------------


async def test_one_of_an_order(journal):
    """The first of each order, oldest first; the second only once the first is delivered or given up."""
    for order in ("A", "B"):
        attempt = await end(journal, order, S.UNKNOWN)
        await journal.step(attempt, S.PAID, ref_id="9")
    first, second = await journal.claim_notices(NOW, LATER, 9)
    assert [(first.order_id, first.kind), (second.order_id, second.kind)] == [
        ("A", "payment.unknown"),
        ("B", "payment.unknown"),
    ]
    assert await claim(journal) == []
    await journal.settle_notice(first, delivered_at="2026-01-01")
    assert await claim(journal) == [("A", "payment.paid")]
    await journal.settle_notice(second, trouble="timeout", due_at=NOW + 5)
    assert await claim(journal, NOW + 4) == []
    (second,) = await journal.claim_notices(NOW + 5, NOW + 35, 9)
    assert (second.kind, second.tries) == ("payment.unknown", 1)
    await journal.settle_notice(second, trouble="timeout", given_up_at="2026-01-01")
    assert await claim(journal, NOW + 5) == [("B", "payment.paid")]


async def test_a_claim_runs_out(journal):
    """Whoever claimed it has died: it is due again, and not before."""
    await end(journal, "A")
    assert await claim(journal) == [("A", "payment.paid")]
    assert await journal.next_notice() == LATER
    assert await claim(journal, LATER - 1) == []
    assert await claim(journal, LATER) == [("A", "payment.paid")]


async def test_limit_and_orders_left_out(journal):
    """At most so many, and none of an order that the sender is busy with."""
    for order in "ABCD":
        await end(journal, order)
    assert await claim(journal, limit=2, without=["B"]) == [("A", "payment.paid"), ("C", "payment.paid")]
    assert await journal.next_notice(["B", "D"]) == LATER
    assert await journal.next_notice(["B"]) == 0
    assert await journal.next_notice(list("ABCD")) is None


async def test_results_that_come_twice_or_late(journal):
    """Written twice, it counts once; a failure after a delivery, or after a new start, changes nothing."""
    await end(journal, "A")
    (told,) = await journal.claim_notices(NOW, LATER, 9)
    for _ in range(2):
        await journal.settle_notice(told, trouble="timeout", due_at=NOW + 5)
    assert journal.notices()[0]["tries"] == 1
    (again,) = await journal.claim_notices(LATER, LATER + 30, 9)
    assert journal.resend_notice(told.key)
    await journal.settle_notice(again, trouble="timeout", given_up_at="2026-01-01")
    (fresh,) = await journal.claim_notices(LATER, LATER + 30, 9)
    assert fresh.tries == 0
    await journal.settle_notice(fresh, delivered_at="2026-01-01")
    await journal.settle_notice(fresh, trouble="timeout", due_at=NOW)
    assert journal.notices() == []


async def test_delivered_by_one_given_up_by_the_other(journal):
    """The receiver has it, whatever another server made of its own try."""
    await end(journal, "A")
    (told,) = await journal.claim_notices(NOW, LATER, 9)
    (theirs,) = await journal.claim_notices(LATER, LATER + 30, 9)
    await journal.settle_notice(theirs, trouble="timeout", given_up_at="2026-01-01")
    await journal.settle_notice(told, delivered_at="2026-01-02")
    (row,) = journal.notices(every=True)
    assert (row["delivered_at"], row["given_up_at"], row["trouble"]) == ("2026-01-02", "", "")


async def test_what_waits_behind_a_failure_waits_as_long(journal):
    """The second of an order is not looked at before the first is due: it would be passed over each time."""
    attempt = await end(journal, "A", S.UNKNOWN)
    await journal.step(attempt, S.PAID, ref_id="9")
    (told,) = await journal.claim_notices(NOW, LATER, 9)
    await journal.settle_notice(told, trouble="timeout", due_at=NOW + 600)
    assert [row["due_at"] for row in journal.notices()] == [NOW + 600] * 2
    assert await claim(journal, NOW + 600) == [("A", "payment.unknown")]


async def test_hurry(journal):
    """What waits for long is due now; what somebody is sending stays his."""
    for order in "AB":
        await end(journal, order)
    (told,) = await journal.claim_notices(NOW, LATER, 1)
    await journal.settle_notice(told, trouble="timeout", due_at=NOW + 3600)
    assert await claim(journal) == [("B", "payment.paid")]
    assert await journal.hurry_notices(NOW, LATER) == 1
    assert await claim(journal) == [("A", "payment.paid")]


async def test_waiting(journal):
    """What is neither delivered nor given up, and the oldest of it."""
    assert await journal.waiting_notices() == outbox.Waiting(0, "")
    for order in "ABC":
        await end(journal, order)
    (told,) = await journal.claim_notices(NOW, LATER, 1)
    await journal.settle_notice(told, delivered_at="2026-01-01")
    rows = journal.notices()
    assert await journal.waiting_notices() == outbox.Waiting(2, rows[0]["created_at"])


@pytest.mark.sqlite("its planner; PostgreSQL's takes statistics into account")
async def test_found_by_index(journal):
    """A long outbox is never read through by the thread that writes payments."""
    query = sa.select(notice.c.id).where(outbox._first(["A"]), notice.c.due_at <= NOW)
    query = query.order_by(notice.c.due_at, notice.c.id).limit(8)
    with journal._engine.begin() as connection:
        words = query.compile(connection, compile_kwargs={"render_postcompile": True})
        values = tuple(words.params[name] for name in words.positiontup)
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values)]
    assert plan == [
        "SEARCH notice USING INDEX notice_due (due_at<?)",
        "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH earlier USING INDEX notice_by_order (order_id=? AND rowid<?)",
    ]


# -- two servers on one journal -----------------------------------------------------------------------


async def test_two_claim_at_the_same_moment(pair):
    """Both ask at once, over and over: each notice is given to one of them."""
    for order in range(30):
        await end(pair[0], f"A-{order}")
    claims = [one.claim_notices(NOW, LATER, 2) for _ in range(10) for one in pair]
    found = [told.order_id for claimed in await asyncio.gather(*claims) for told in claimed]
    assert sorted(found) == sorted({f"A-{order}" for order in range(30)})


async def test_nobody_waits_for_a_claim(durable_postgres):
    """PostgreSQL: a claim under way holds up neither another claim nor, behind it, a payment."""
    address = durable_postgres.create()
    one, other = [Journal(address, notices=True) for _ in range(2)]
    await end(one, "0")
    (sent,) = await one.claim_notices(NOW, LATER, 1)
    for order in "ABC":
        await end(one, order)
    with one._engine.begin() as connection:
        mine = outbox.claim(connection, NOW, LATER, 2, ())
        outbox.settle(connection, sent, delivered_at="2026-01-01")
        theirs = await claim(other)
        assert await other.hurry_notices(NOW, NOW) == 1  # theirs
        await end(other, "D")
    assert [told.order_id for told in mine] == ["A", "B"]
    assert theirs == [("C", "payment.paid")]
    one.close()
    other.close()


async def test_two_senders(pair):
    """Two servers deliver one journal's notices: each once, one order's in their order, never two at once."""
    for order in range(15):
        attempt = await end(pair[order % 2], f"A-{order}", S.UNKNOWN)
        await pair[order % 2].step(attempt, S.PAID, ref_id="9")
    async with Shop() as shop:
        hooks = [Webhook(one, shop.url, [Secret(SHARED)], days=3) for one in pair]
        for hook in hooks:
            hook.start()
        await until(lambda: not pair[0].notices())
        for hook in hooks:
            await hook.stop()
    assert (len(shop.got), len({got.event for got in shop.got}), shop.twice) == (30, 30, False)
    for order in range(15):
        kinds = [got.kind for got in shop.got if got.order == f"A-{order}"]
        assert kinds == ["payment.unknown", "payment.paid"]
