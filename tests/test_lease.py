"""Who lives: beats, leases, and what is settled of processes that are gone, here and elsewhere."""

import asyncio
import os
import subprocess
import threading

import pytest
import sqlalchemy as sa
from line import open_line, until
from test_journal import bring, new

from ivr_agi import metrics, payments
from ivr_agi.journal import AttemptState, IllegalStep, Journal, owner
from ivr_agi.journal.owner import Watch
from ivr_agi.journal.tables import attempt, process

S = AttemptState
ELSEWHERE = "another-host:pid:[1]/boot/1/2"


@pytest.fixture
def url(journal_url):
    return journal_url


@pytest.fixture
def elsewhere(url, monkeypatch):
    """A journal opened by a server on another host."""
    with monkeypatch.context() as there:
        there.setattr("ivr_agi.journal.this_process", lambda: ELSEWHERE)
        opened = Journal(url)
    yield opened
    opened.close()


@pytest.fixture
def journal(url):
    opened = Journal(url)
    yield opened
    opened.close()


class Told:
    """What the watch has settled."""

    def __init__(self):
        self.heard = []
        self.came = threading.Event()

    def __call__(self, settled):
        self.heard.append(settled)
        self.came.set()


def beats(journal):
    return journal._read(
        lambda connection: dict(connection.execute(sa.select(process.c.name, process.c.beat)).all())
    )


def test_watch():
    """Gone is who has not beaten for the lease on the watcher's own clock; one beat and the lease begins anew."""
    watch = Watch(60)
    assert watch.lapsed({"a": 1, "b": 7}, 1000) == set()
    assert watch.lapsed({"a": 2, "b": 7}, 1059) == set()
    assert watch.lapsed({"a": 2, "b": 7}, 1060) == {"b"}
    assert watch.lapsed({"a": 2, "b": 8}, 1061) == set()
    assert watch.lapsed({"a": 2}, 1118) == set()
    assert watch.lapsed({"a": 2, "b": 8}, 1119) == {"a"}  # b is new to the watch again


async def test_a_living_server_elsewhere_is_left_alone(journal, elsewhere):
    """It beats: whatever it has under way stays, however often another server starts."""
    elsewhere.live(Told(), lease=0.4)
    told = Told()
    await bring(elsewhere, S.SENT)
    journal.live(told, lease=0.4)
    first = beats(journal)[ELSEWHERE]
    await until(lambda: beats(journal)[ELSEWHERE] >= first + 10)
    assert not told.heard
    assert journal.attempts()[0]["state"] == "sent"


async def test_a_vanished_server_elsewhere(journal, elsewhere):
    """It beats no more: `sent` becomes unknown, what came before failed; nothing is posted, and its late word counts."""
    for state in (S.CREATED, S.OTP_SENT, S.SENT, S.PAID):
        await bring(elsewhere, state, f"order-{state}")
    told = Told()
    journal.live(told, lease=0.4)
    await asyncio.to_thread(told.came.wait, 20)
    assert told.heard == [{S.FAILED: 2, S.UNKNOWN: 1}]
    assert [row["state"] for row in journal.each()] == ["failed", "failed", "unknown", "paid"]
    row, lines = journal.attempt(3)
    assert (row["reason"], row["review"]) == ("process-gone", "charged")
    assert lines[-1]["owner"] == owner.this_process()
    await elsewhere.step(3, S.PAID, ref_id="4711")  # it was only cut off: the truth still counts
    assert journal.attempt(3)[0]["state"] == "paid"
    with pytest.raises(IllegalStep):  # and what it had before `pay` cannot go on
        await elsewhere.step(2, S.SENT)


async def test_a_server_that_was_cut_off_comes_back(journal, elsewhere):
    """Taken for gone and yet alive: it beats again, and is left alone from then on."""
    told = Told()
    await bring(elsewhere, S.SENT)
    journal.live(told, lease=0.4)
    await asyncio.to_thread(told.came.wait, 20)
    assert ELSEWHERE not in beats(journal)
    elsewhere.live(Told(), lease=0.4)
    await bring(elsewhere, S.SENT, "another")
    first = beats(journal)[ELSEWHERE]
    await until(lambda: beats(journal).get(ELSEWHERE, 0) >= first + 10)
    assert journal.attempts()[0]["state"] == "sent"


async def test_orders_of_a_container_made_anew(journal, elsewhere):
    """Its name is another each time, and so is no proof; the lease frees the order."""
    await bring(elsewhere, S.OTP_SENT)
    assert journal.recover() == {}
    told = Told()
    journal.live(told, lease=0.4)
    await asyncio.to_thread(told.came.wait, 20)
    assert await journal.reserve(new()) == 2


async def test_two_watchers(url, elsewhere):
    """Two servers watch the same one vanish: each attempt is settled once."""
    for number in range(10):
        await bring(elsewhere, S.SENT, f"O{number}")
    watchers, told = [Journal(url), Journal(url)], [Told(), Told()]
    for watcher, hears in zip(watchers, told, strict=True):
        watcher.live(hears, lease=0.4)
    await until(lambda: sum(found[S.UNKNOWN] for hears in told for found in hears.heard) == 10)
    assert all(len(watchers[0].attempt(number + 1)[1]) == 4 for number in range(10))
    for watcher in watchers:
        watcher.close()


async def test_leaving(url, journal):
    """A server that ends takes its name off the list, unless something of it is left to settle."""
    server = Journal(url)
    server.live(Told())
    assert owner.this_process() in beats(journal)
    server.close()
    assert owner.this_process() not in beats(journal)
    server = Journal(url)
    server.live(Told())
    await bring(server, S.SENT)
    server.close()
    assert owner.this_process() in beats(journal)


def test_dead_child_that_nobody_waited_for():
    """Killed, and still in the table of processes because its parent sleeps: gone all the same."""
    with subprocess.Popen(["sleep", "600"]) as child:
        name = "/".join([*owner.this_process().split("/")[:2], str(child.pid), owner._started(child.pid)])
        assert owner.fate(name) is owner.Fate.LIVES
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left where it is
        assert owner.fate(name) is owner.Fate.GONE


async def test_hidden_process(monkeypatch):
    """A process that /proc hides from us (another user's) is not taken for gone."""
    mine = owner.this_process()
    monkeypatch.setattr(owner, "_started", lambda _pid: "")
    assert owner.fate(mine) is owner.Fate.LIVES


async def test_stopped_between_sent_and_pay(tmp_path, monkeypatch):
    """Stopped for long between `sent` and the request: it does not leave, for nobody knows what was decided meanwhile."""
    ticks = iter([0.0, payments.FENCE + 1])
    monkeypatch.setattr(payments, "clock", lambda: next(ticks))
    async with open_line(tmp_path) as line:
        ended = await line.call(line.buyer())
        assert (ended.status, ended.reason) == ("FAILED", "not-recorded")
        assert line.services() == ["otp-v2"]
        assert [row["state"] for row in line.attempts()] == ["failed"]
        assert await line.journal.standing("A-1") is None


async def test_steps_share_a_commit(journal):
    """What waits at the same moment is committed together: far fewer commits than steps."""

    def commits():
        return metrics.REGISTRY.get_sample_value("ivr_agi_journal_commits_total")

    before = commits()
    ids = await asyncio.gather(*(journal.reserve(new(f"O{number}")) for number in range(100)))
    assert sorted(ids) == list(range(1, 101))
    assert commits() - before <= 20
    count = journal._read(
        lambda connection: connection.execute(sa.select(sa.func.count()).select_from(attempt)).scalar()
    )
    assert count == 100


async def test_one_bad_step_among_many(journal):
    """One that the database refuses, and one that is illegal: theirs alone; the others' stand."""
    attempt_ids = [await bring(journal, S.SENT, f"O{number}") for number in range(4)]
    results = await asyncio.gather(
        journal.step(attempt_ids[0], S.PAID, ref_id="1"),
        journal.step(attempt_ids[1], S.PAID, ref_id=""),  # a check forbids it
        journal.step(attempt_ids[2], S.OTP_SENT),  # nothing leads back
        journal.step(attempt_ids[3], S.PAID, ref_id="4"),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == [
        "NoneType",
        "JournalError",
        "IllegalStep",
        "NoneType",
    ]
    assert [row["state"] for row in journal.each()] == ["paid", "sent", "sent", "paid"]
    assert not journal.trouble


async def test_step_whose_commit_nobody_answered(journal):
    """Committed, and reported as failed: given once more by its key, it is taken once."""
    attempt_id = await bring(journal, S.OTP_SENT)
    await journal.step(attempt_id, S.SENT, key="k1")
    await journal.step(attempt_id, S.SENT, key="k1", again=True)
    key = "k2"
    assert await journal.reserve(new("B"), key=key) == 2
    await journal.withdraw(key, "not-recorded")
    await journal.withdraw(key, "not-recorded")
    await journal.withdraw("never-written", "not-recorded")
    assert [line["state"] for line in journal.attempt(attempt_id)[1]] == ["created", "otp_sent", "sent"]
    assert [line["state"] for line in journal.attempt(2)[1]] == ["created", "failed"]
