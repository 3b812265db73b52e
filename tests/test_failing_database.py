"""PostgreSQL that goes away in the middle of a payment: handled like a broken disk, and back by itself."""

import asyncio

import pytest
from line import CARD, open_line, until
from postgres import PostgresProxy

from ivr_agi.journal import AttemptState, Journal, NewAttempt, engine, writer
from ivr_agi.simulator.gateway import Outcome, Rule

S = AttemptState


@pytest.fixture
async def network(postgres_url):
    with PostgresProxy(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def line(network, tmp_path, monkeypatch):
    """A line whose journal is behind that network; what nothing answers counts as failed after 0.5 s."""
    for module in ("ivr_agi.journal", "ivr_agi.journal.writer"):
        monkeypatch.setattr(f"{module}.PATIENCE", 0.5)
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.05)
    monkeypatch.setattr("ivr_agi.journal.lease.BEAT", 0.1)
    async with open_line(tmp_path, journal_url=network.url) as opened:
        opened.journal.live(lambda _settled: None)
        yield opened


def cut(network):
    network.cut()
    return network.mend


def freeze(network):
    network.freeze()
    return network.thaw


HARMS = [cut, freeze]


async def back(line):
    """Until it is in order again, and everything owed to it is written."""
    await until(lambda: not line.journal.trouble)
    await line.payments.quiet()


@pytest.mark.parametrize("harm", HARMS)
async def test_before_a_call(line, network, harm, logged):
    """Out of order: not one request; then back, and paid."""
    mend = harm(network)
    refused = await line.call(line.buyer())
    assert (refused.status, refused.reason) == ("FAILED", "not-recorded")
    assert "out-of-order" in refused.heard
    assert not line.services()
    mend()
    await back(line)
    assert (await line.call(line.buyer())).status == "PAID"
    assert len(line.gateway.charges) == 1
    assert [entry["event"] for entry in logged].count("journal.in_order_again") <= 1


@pytest.mark.parametrize("harm", HARMS)
async def test_before_sent(line, network, harm):
    """It goes while the caller keys the PIN: `pay` does not leave; the order is free when it is back."""
    mend = None

    def pin():
        nonlocal mend
        mend = harm(network)
        return line.gateway.pin_for(CARD) + "#"

    refused = await line.call(line.buyer(enter_pin=pin))
    assert (refused.status, refused.reason) == ("FAILED", "not-recorded")
    assert line.services() == ["otp-v2"]
    mend()
    await back(line)
    assert [row["state"] for row in line.attempts()] == ["failed"]
    assert (await line.call(line.buyer())).status == "PAID"


@pytest.mark.parametrize("harm", HARMS)
async def test_during_pay(line, network, harm):
    """It goes while the bank thinks: the outcome waits for it, and is written and told."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    calling = asyncio.create_task(line.call(line.buyer()))
    await line.gateway.arrived.wait()
    mend = harm(network)
    answer.set()
    await until(lambda: line.journal.trouble)
    mend()
    assert (await calling).status == "PAID"
    await back(line)
    (row,) = line.attempts()
    assert (row["state"], row["ref_id"]) == ("paid", line.gateway.charges[0].ref_id)


@pytest.mark.parametrize("lose", ["lose", "lose_answer"])
@pytest.mark.parametrize("question", ["enter_card", "enter_pin"])
async def test_commit_that_nobody_answered(line, network, question, lose):
    """The COMMIT of the reservation, or of `sent`, is lost or its answer is: looked for, taken once, and paid."""
    lost = None

    def key():
        nonlocal lost
        lost = getattr(network, lose)(b"COMMIT")
        return CARD if question == "enter_card" else line.gateway.pin_for(CARD) + "#"

    ended = await line.call(line.buyer(**{question: [key]}))
    assert lost.done()
    assert ended.status == "PAID"
    _, lines = line.journal.attempt(int(ended.variables["PAYID"]))
    assert [step["state"] for step in lines] == ["created", "otp_sent", "sent", "paid"]
    assert line.services() == ["otp-v2", "pay"]


async def test_frozen_for_good(network, monkeypatch):
    """Nothing answers any more, not even to those that read: they are let go, and it can be closed."""
    monkeypatch.setattr("ivr_agi.journal.PATIENCE", 0.5)
    opened = Journal(network.url)
    assert await opened.standing("A-1") is None
    network.freeze()
    with pytest.raises(engine.JournalError):
        await opened.standing("A-1")
    network.thaw()
    assert await opened.standing("A-1") is None
    network.freeze()
    looking = asyncio.create_task(opened.standing("A-1"))
    await until(lambda: opened._reading)
    # Cut at once, as a rule; one that was just being begun ends by its own time limits.
    await asyncio.wait_for(asyncio.to_thread(opened.close), 90)
    with pytest.raises(engine.JournalError):
        await looking


async def test_killed_and_started_again(durable_postgres, tmp_path, monkeypatch):
    """PostgreSQL is killed in mid-payment and started again: all that was acknowledged is there."""
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.05)
    answer = asyncio.Event()
    with durable_postgres.fresh() as url:
        async with open_line(tmp_path, journal_url=url) as line:
            line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
            calling = asyncio.create_task(line.call(line.buyer()))
            await line.gateway.arrived.wait()
            await asyncio.to_thread(durable_postgres.kill)
            answer.set()
            await until(lambda: line.journal.trouble)
            await asyncio.to_thread(durable_postgres.start)
            assert (await calling).status == "PAID"
            await back(line)
            assert [step["state"] for step in line.journal.attempt(1)[1]] == [
                "created", "otp_sent", "sent", "paid",
            ]  # fmt: skip


async def test_two_servers_in_each_others_way(postgres_url):
    """Two servers that reserve the same orders in opposite order: nobody's step is lost to the deadlock."""
    new = [NewAttempt(f"O{n}", "ivr", 1000, "603799******7893", "+989123456789") for n in range(60)]
    one, other = Journal(postgres_url), Journal(postgres_url)
    results = await asyncio.gather(
        *(one.reserve(attempt) for attempt in new),
        *(other.reserve(attempt) for attempt in reversed(new)),
        return_exceptions=True,
    )
    assert sorted(result for result in results if isinstance(result, int)) == sorted(
        row["id"] for row in one.attempts()
    )
    assert len(one.attempts()) == 60
    assert {type(result).__name__ for result in results} == {"int", "OrderHeld"}
    assert not one.trouble
    assert not other.trouble
    one.close()
    other.close()


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync", "full_page_writes"])
def test_what_makes_a_commit_last(postgres_url, setting, monkeypatch):
    """A server that could lose a commit is refused, with the setting's name; ours wins over a role's."""
    if setting == "synchronous_commit":
        without = {name: given for name, given in engine.POSTGRESQL.items() if name != "options"}
        monkeypatch.setattr(engine, "POSTGRESQL", without | {"options": "-c synchronous_commit=off"})
        with pytest.raises(engine.JournalError, match="synchronous_commit=off"):
            Journal(postgres_url)
        return
    found = {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on", setting: "off"}

    class Connection:
        def execute(self, statement):
            self.name = statement.split()[1]
            return self

        def fetchone(self):
            return (found[self.name],)

        def close(self):
            pass

    with pytest.raises(engine.JournalError, match=f"{setting}=off"):
        engine._examine_postgresql(Connection(), None)


def test_synchronous_commit_whatever_the_role_says(postgres, postgres_url):
    """Switched off for the whole database: our connections have it on all the same."""
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    postgres.sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    opened = Journal(postgres_url)
    with opened._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    opened.close()
