"""Two servers on one journal, and everybody calls for the same order at once: one `pay` leaves."""

import asyncio
from collections import Counter

import pytest
from line import CARD, SEQUENCE, until
from process import Serving

from ivr_agi.journal import Journal
from ivr_agi.simulator.gateway import GatewaySimulator, Outcome, Rule

CALLS = 50


class Together:
    """An answer that nobody gives before all have been asked."""

    def __init__(self, keys, callers):
        self._keys, self._missing = keys, callers
        self._all_here = asyncio.Event()

    async def __call__(self):
        self._missing -= 1
        if not self._missing:
            self._all_here.set()
        await self._all_here.wait()
        return self._keys


@pytest.fixture
async def gateway():
    """The bank."""
    async with GatewaySimulator(SEQUENCE) as opened:
        yield opened


def pays(gateway):
    """How many `pay` requests have arrived."""
    return len([request for request in gateway.requests if request.service == "pay"])


async def call_all_at_once(gateway, url):
    """Fifty callers who have all passed the first look at the order; what each was told."""
    card, said = Together(CARD, CALLS), asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=said), service="pay"))
    given = {"gateway_url": gateway.url, "journal_url": url}
    async with Serving(**given) as one, Serving(**given) as other:
        calls = [
            asyncio.create_task((one, other)[number % 2].call(gateway, {"enter-card": card}))
            for number in range(CALLS)
        ]
        # The bank takes its time, until everybody else has had his answer.
        await until(lambda: len([call for call in calls if call.done()]) + pays(gateway) >= CALLS)
        before = [call.result() for call in calls if call.done()]
        said.set()
        return before, [told for told in await asyncio.gather(*calls) if told not in before]


async def one_is_paid(gateway, url):
    """All but one are turned away while the order is being paid, and one `pay` has left."""
    turned_away, paid = await call_all_at_once(gateway, url)
    reasons = Counter((told["PAYSTATUS"], told["PAYREASON"]) for told in turned_away)
    assert reasons == {("REFUSED", "order-busy"): CALLS - 1}
    assert [told["PAYSTATUS"] for told in paid] == ["PAID"]
    assert [request.service for request in gateway.requests] == ["otp-v2", "pay"]
    assert len(gateway.charges) == 1
    journal = Journal(url)
    try:
        (attempt,) = journal.attempts()
    finally:
        journal.close()
    assert (attempt["state"], attempt["ref_id"]) == ("paid", gateway.charges[0].ref_id)


async def test_fifty_calls_for_one_order_on_postgresql(gateway, postgres_url):
    """Whichever server they reach, one reserves the order, and one `pay` leaves."""
    await one_is_paid(gateway, postgres_url)


@pytest.mark.sqlite("one file, two processes")
async def test_fifty_calls_for_one_order_on_one_file(gateway, tmp_path):
    """The same with two processes on one SQLite file: there, too, the database forbids it, not a lock in memory."""
    await one_is_paid(gateway, f"sqlite:///{tmp_path / 'j.db'}")
