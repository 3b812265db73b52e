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
from ivr_agi.journal import AttemptState, IllegalStep, Journal, Resolution, lease, owner
from ivr_agi.journal.owner import Watch
from ivr_agi.journal.tables import attempt, process

S = AttemptState
ELSEWHERE = "another-host:pid:[1]/boot/1/2"


@pytest.fixture
def elsewhere(begun, monkeypatch):
    """A journal opened by a server on another host."""
    with monkeypatch.context() as there:
        there.setattr("ivr_agi.journal.this_process", lambda: ELSEWHERE)
        opened = Journal(begun)
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
    lapsed = {}
    for now in range(1000, 1200, 5):
        beats = {"a": now if now < 1100 else 1095, "b": 7 if now != 1050 else 8}
        lapsed[now] = watch.lapsed(beats, now)
    assert [now for now, names in lapsed.items() if "a" in names] == list(range(1155, 1200, 5))
    assert [now for now, names in lapsed.items() if "b" in names] == list(range(1115, 1200, 5))


def test_watch_that_could_not_look():
    """The database was away: nobody could beat, and that time is held against nobody."""
    watch = Watch(60)
    assert watch.lapsed({"a": 1}, 1000) == set()
    assert watch.lapsed({"a": 1}, 1005) == set()
    assert watch.lapsed({"a": 1}, 1105) == set()
    for now in range(1110, 1140, 5):
        assert watch.lapsed({"a": 1}, now) == set()
    for now in range(1140, 1200, 5):
        names = watch.lapsed({"a": 1}, now)
    assert names == {"a"}  # and it does not beat now, either


async def test_judged_by_what_it_was_a_moment_ago(journal):
    """Read as `otp_sent`, and `sent` by the time that it is to be settled: not failed, and the order stays held."""
    attempt_id = await bring(journal, S.SENT)
    seen = {"id": attempt_id, "state": S.OTP_SENT, "owner": owner.this_process()}
    assert journal._now(lambda connection, _again: lease._settle(connection, journal._scribe, seen)) is None
    assert journal.attempts()[0]["state"] == "sent"
    assert await journal.standing("A-1") is S.SENT


async def test_verdict_while_an_answer_is_being_committed(postgres_url):
    """A person says not paid at the very moment in which `paid` is committed: the answer stands."""
    opened = Journal(postgres_url)
    attempt_id = await bring(opened, S.UNKNOWN)
    with opened._engine.connect() as answering:
        change = sa.update(attempt).where(attempt.c.id == attempt_id)
        answering.execute(change.values(state=S.PAID, ref_id="4711"))
        verdict = asyncio.create_task(
            asyncio.to_thread(opened.resolve, attempt_id, Resolution.NOT_PAID, by="Sara", evidence="a list")
        )
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with opened._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            await until(lambda: looking.exec_driver_sql(waits).scalar())
        answering.commit()
    with pytest.raises(IllegalStep):
        await verdict
    assert opened.attempts()[0]["state"] == "paid"
    assert await opened.standing("A-1") is S.PAID
    opened.close()


def test_clones_of_one_host():
    """Another boot under our name: on a disk of our own an earlier one, on a shared database perhaps a clone of us."""
    host, _boot, pid, started = owner.this_process().split("/")
    clone = f"{host}/another-boot/{pid}/{started}"
    assert owner.fate(clone) is owner.Fate.GONE
    assert owner.fate(clone, alone=False) is owner.Fate.ELSEWHERE


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


async def test_two_watchers(journal_url, elsewhere):
    """Two servers watch the same one vanish: each attempt is settled once."""
    for number in range(10):
        await bring(elsewhere, S.SENT, f"O{number}")
    watchers, told = [Journal(journal_url), Journal(journal_url)], [Told(), Told()]
    for watcher, hears in zip(watchers, told, strict=True):
        watcher.live(hears, lease=0.4)
    await until(lambda: sum(found[S.UNKNOWN] for hears in told for found in hears.heard) == 10)
    assert all(len(watchers[0].attempt(number + 1)[1]) == 4 for number in range(10))
    for watcher in watchers:
        watcher.close()


async def test_leaving(journal_url, journal):
    """A server that ends takes its name off the list, unless something of it is left to settle."""
    server = Journal(journal_url)
    server.live(Told())
    assert owner.this_process() in beats(journal)
    server.close()
    assert owner.this_process() not in beats(journal)
    server = Journal(journal_url)
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


async def test_step_that_cannot_be_stored(journal):
    """A note that no database takes: refused whole, the step with it; the others' stand, and the journal goes on."""
    attempt_ids = [await bring(journal, S.SENT, f"O{number}") for number in range(2)]
    results = await asyncio.gather(
        journal.step(attempt_ids[0], S.DECLINED, "\ud800"),
        journal.step(attempt_ids[1], S.PAID, ref_id="1"),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["JournalError", "NoneType"]
    assert [row["state"] for row in journal.each()] == ["sent", "paid"]
    assert not journal.trouble
