"""The journal: what may follow what, what holds an order, what a restart makes of what was left."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ivr_agi.journal import (
    AttemptState,
    IllegalStep,
    Journal,
    JournalError,
    NewAttempt,
    OrderHeld,
    engine,
    owner,
)
from ivr_agi.journal.owner import Fate
from ivr_agi.journal.tables import FOLLOWS, HOLDING, call_record, metadata

S = AttemptState
# The way to each state from an attempt just made.
WAYS = {
    S.CREATED: [],
    S.OTP_SENT: [S.OTP_SENT],
    S.SENT: [S.OTP_SENT, S.SENT],
    S.PAID: [S.OTP_SENT, S.SENT, S.PAID],
    S.DECLINED: [S.OTP_SENT, S.SENT, S.DECLINED],
    S.FAILED: [S.FAILED],
    S.UNKNOWN: [S.OTP_SENT, S.SENT, S.UNKNOWN],
    S.RESOLVED: [S.OTP_SENT, S.SENT, S.UNKNOWN, S.RESOLVED],
}
# What a step to a state must bring along.
FIELDS = {
    S.PAID: {"ref_id": "123456"},
    S.RESOLVED: {
        "resolution": "not-paid",
        "resolved_by": "Sara",
        "resolved_at": "2026",
        "evidence": "statement",
    },
}


def new(order="A-1", card_hash=""):
    return NewAttempt(order, "ivr", 50000, "603799******7893", "+989123456789", "1.2", card_hash)


async def bring(journal, state, order="A-1"):
    """An attempt in that state."""
    attempt_id = await journal.reserve(new(order))
    for step in WAYS[state]:
        await journal.step(attempt_id, step, **FIELDS.get(step, {}))
    return attempt_id


ALLOWED = {
    (S.CREATED, S.OTP_SENT), (S.CREATED, S.FAILED),
    (S.OTP_SENT, S.OTP_SENT), (S.OTP_SENT, S.SENT), (S.OTP_SENT, S.FAILED),
    (S.SENT, S.PAID), (S.SENT, S.DECLINED), (S.SENT, S.FAILED), (S.SENT, S.UNKNOWN),
    (S.UNKNOWN, S.PAID), (S.UNKNOWN, S.DECLINED), (S.UNKNOWN, S.FAILED), (S.UNKNOWN, S.RESOLVED),
    (S.PAID, S.RESOLVED), (S.DECLINED, S.RESOLVED), (S.FAILED, S.RESOLVED), (S.RESOLVED, S.RESOLVED),
}  # fmt: skip


@pytest.mark.parametrize("after", S)
@pytest.mark.parametrize("before", S)
async def test_every_step(journal, before, after):
    """Each pair of states: allowed, or refused with nothing written."""
    attempt_id = await bring(journal, before)
    fields = FIELDS.get(after, {})
    if (before, after) in ALLOWED:
        await journal.step(attempt_id, after, **fields)
        assert journal.attempt(attempt_id)[0]["state"] == after
    else:
        steps = journal.attempt(attempt_id)
        with pytest.raises(IllegalStep):
            await journal.step(attempt_id, after, **fields)
        assert journal.attempt(attempt_id) == steps


def test_nothing_leads_back():
    """After `sent`, no state of before can be reached."""
    reachable, ahead = set(), [S.SENT]
    while ahead:
        for state in FOLLOWS[ahead.pop()] - reachable:
            reachable.add(state)
            ahead.append(state)
    assert not reachable & {S.CREATED, S.OTP_SENT, S.SENT}


@pytest.mark.parametrize("state", S)
async def test_what_holds_an_order(journal, state):
    """An open, unknown or paid attempt holds its order; a declined or failed one does not."""
    await bring(journal, state)
    if state in HOLDING:
        with pytest.raises(OrderHeld) as held:
            await journal.reserve(new())
        assert held.value.state is state
    else:
        assert await journal.reserve(new()) == 2
    assert await journal.reserve(new("other"))


@pytest.mark.sqlite("writes by the module sqlite3")
async def test_index_forbids_a_second_attempt(journal, journal_url):
    """Not the code alone: the database itself refuses a second attempt that holds the order."""
    await bring(journal, S.UNKNOWN)
    with (
        sqlite3.connect(journal_url.removeprefix("sqlite:///")) as raw,
        pytest.raises(sqlite3.IntegrityError),
    ):
        raw.execute(
            "INSERT INTO attempt (order_id, method, amount, card, mobile, state, holds_order, owner, created_at, updated_at)"
            " SELECT order_id, method, amount, card, mobile, 'created', 1, owner, created_at, updated_at FROM attempt"
        )
    raw.close()


@pytest.mark.sqlite("writes by the module sqlite3")
@pytest.mark.parametrize(
    "change",
    [
        "state = 'maybe'",
        "holds_order = 0",  # of an unknown one
        "amount = 0",
        "state = 'paid', ref_id = ''",
    ],
)
async def test_checks_of_the_database(journal, journal_url, change):
    """States that do not exist, and paid without a tracking number, cannot be stored."""
    await bring(journal, S.UNKNOWN)
    with (
        sqlite3.connect(journal_url.removeprefix("sqlite:///")) as raw,
        pytest.raises(sqlite3.IntegrityError),
    ):
        raw.execute(f"UPDATE attempt SET {change}")  # noqa: S608 - the cases above
    raw.close()


async def test_two_journals_one_order(journal_url):
    """Two journals on one file: one reservation, the other is told."""
    first, second = Journal(journal_url), Journal(journal_url)
    results = await asyncio.gather(
        *(journal.reserve(new()) for journal in (first, second) * 10), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, OrderHeld) for result in results) == 19
    first.close()
    second.close()


async def test_history(journal):
    """Every step is kept, with its time, its note and the process that took it."""
    attempt_id = await journal.reserve(new())
    await journal.step(attempt_id, S.OTP_SENT)
    await journal.step(attempt_id, S.SENT)
    await journal.step(attempt_id, S.DECLINED, "no money", code="51")
    row, steps = journal.attempt(attempt_id)
    assert [(step["state"], step["note"]) for step in steps] == [
        ("created", ""),
        ("otp_sent", ""),
        ("sent", ""),
        ("declined", "no money"),
    ]
    assert {step["owner"] for step in steps} == {owner.this_process()}
    assert row["code"] == "51"
    assert row["pins_sent"] == 1


async def test_recovery(journal_url):
    """What a dead process left: `sent` becomes unknown, what came before it failed, the rest stays."""
    journal = Journal(journal_url)
    for state in S:
        await bring(journal, state, f"order-{state}")
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    with journal._engine.begin() as connection:
        dead = owner.this_process().rsplit("/", 2)[0] + f"/{gone.pid}/12345"
        connection.execute(sa.text("UPDATE attempt SET owner = :dead"), {"dead": dead})
    assert journal.recover() == {S.FAILED: 2, S.UNKNOWN: 1}
    states = {row["order_id"].removeprefix("order-"): row["state"] for row in journal.attempts()}
    assert states == {
        "created": "failed",
        "otp_sent": "failed",
        "sent": "unknown",
        "paid": "paid",
        "declined": "declined",
        "failed": "failed",
        "unknown": "unknown",
        "resolved": "resolved",
    }
    assert next(row for row in journal.attempts() if row["order_id"] == "order-sent")["review"] == "charged"
    assert journal.recover() == {}
    journal.close()


async def test_recovery_leaves_the_living_alone(journal_url):
    """Attempts of a process that lives, and of another host, are not this start's business."""
    journal = Journal(journal_url)
    await bring(journal, S.SENT)
    another = Journal(journal_url)
    assert another.recover() == {}
    another.close()
    with journal._engine.begin() as connection:
        connection.execute(sa.text("UPDATE attempt SET owner = 'elsewhere/boot/1/2'"))
    assert journal.recover() == {}
    journal.close()


def test_owner():
    """This process lives; a pid used again by a later process, and another boot, do not count as it."""
    mine = owner.this_process()
    host, boot, pid, started = mine.split("/")
    assert owner.fate(mine) is Fate.LIVES
    assert owner.fate(f"{host}/{boot}/{pid}/{int(started) + 1}") is Fate.GONE
    assert owner.fate(f"{host}/another-boot/{pid}/{started}") is Fate.GONE
    assert owner.fate(f"{host}/{boot}/999999999/{started}") is Fate.GONE
    assert owner.fate(f"another-host/{boot}/{pid}/{started}") is Fate.ELSEWHERE


@pytest.mark.sqlite("its pragmas")
def test_pragmas(journal):
    """SQLite's own word on what makes a commit last."""
    with journal._engine.begin() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["persist", 3, 1]


@pytest.mark.sqlite("its pragmas")
def test_pragma_that_does_not_hold(monkeypatch, journal_url):
    """A database that does not do as it is told is refused."""
    monkeypatch.setattr("ivr_agi.journal.engine.PRAGMAS", {"journal_mode": "nonsense"})
    with pytest.raises(JournalError, match="journal_mode"):
        Journal(journal_url)


@pytest.mark.parametrize(
    "bad",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://x/y",
        "nonsense",
        "sqlite:////nowhere/at/all.db",
        "sqlite:///x.db?nolock=1",
        "sqlite+aiosqlite:///x.db",
        "sqlite:///file:x.db",
    ],
)
def test_journals_that_forget(bad):
    """Memory, unknown databases and folders that are not there are refused with the setting's name."""
    with pytest.raises(JournalError, match="IVR_AGI_JOURNAL_URL"):
        Journal(bad)


def test_file_that_is_no_database(tmp_path):
    """A file of another kind is not overwritten; the message names the cause."""
    (tmp_path / "x.db").write_text("This is not a database, but it is long enough to be read as one." * 20)
    with pytest.raises(JournalError, match="not a database"):
        Journal(f"sqlite:///{tmp_path / 'x.db'}")


@pytest.mark.sqlite("a trigger in its language")
async def test_failed_write_says_so(journal):
    """A commit that fails raises, with the driver's reason and no value of the statement; nothing is written."""
    attempt_id = await bring(journal, S.OTP_SENT)
    with journal._engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    with pytest.raises(JournalError, match="the disk is full") as failure:
        await journal.step(attempt_id, S.SENT, "a note of ours")
    assert "a note of ours" not in str(failure.value)
    assert journal.attempts()[0]["state"] == "otp_sent"


async def test_a_note_is_no_step(journal):
    """What happened without a step stands in the history, too."""
    attempt_id = await bring(journal, S.CREATED)
    await journal.note(attempt_id, "otp-v2 refused: no")
    row, steps = journal.attempt(attempt_id)
    assert row["state"] == "created"
    assert [(step["state"], step["note"]) for step in steps] == [
        ("created", ""),
        ("created", "otp-v2 refused: no"),
    ]


@pytest.mark.sqlite("writes by the module sqlite3")
def test_journal_of_a_later_release(journal_url):
    """A schema that this release does not know is refused with a sentence."""
    Journal(journal_url).close()
    with sqlite3.connect(journal_url.removeprefix("sqlite:///")) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(JournalError, match="not this release's"):
        Journal(journal_url)


@pytest.mark.sqlite("writes by the module sqlite3")
def test_journal_of_several_releases(journal_url):
    """Two releases that have both upgraded a schema have left none that either of them knows."""
    Journal(journal_url).close()
    with sqlite3.connect(journal_url.removeprefix("sqlite:///")) as raw:
        raw.execute("INSERT INTO alembic_version VALUES ('9999')")
    raw.close()
    with pytest.raises(JournalError, match="not this release's"):
        Journal(journal_url)


def test_newest_migration():
    """The release's own revision is written down once more, so that a start can do without Alembic."""
    assert ScriptDirectory.from_config(engine._migrations()).get_heads() == [engine.HEAD]


@pytest.mark.sqlite("whether a file is there")
def test_journal_that_must_be_there(journal_url):
    """Reading a journal that is not there does not begin a new one."""
    with pytest.raises(JournalError, match="there is no journal"):
        Journal(journal_url, create=False)


def test_migrations_make_what_tables_say(journal):
    """The schema that alembic builds is the one that the code uses."""
    with journal._engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False}
        )
        assert compare_metadata(context, metadata) == []


async def test_hostile_texts(journal):
    """What a dialplan, a trunk or a gateway may send is kept as it is, and is never part of a statement."""
    hostile = "'; DROP TABLE attempt; --\" %s :x ?"
    attempt_id = await journal.reserve(replace(new(hostile), call=hostile, caller=hostile))
    await journal.step(attempt_id, S.OTP_SENT, hostile)
    await journal.step(attempt_id, S.SENT)
    await journal.step(attempt_id, S.DECLINED, code="'--", reason=hostile)
    row, history = journal.attempt(attempt_id)
    assert (row["order_id"], row["call"], row["caller"]) == (hostile, hostile, hostile)
    assert (row["code"], row["reason"], history[1]["note"]) == ("'--", hostile, hostile)
    assert journal.attempts(order_id=hostile, state="declined") == [row]
    assert await journal.standing(hostile) is None


async def test_who_is_in_no_hurry_shares_the_commit_of_others(journal):
    """The line about an ended call waits a moment for a step of another one, and is then written by itself."""
    committed = []
    sa.event.listen(journal._write_engine, "commit", committed.append)
    first = await journal.reserve(new("A-1"))
    about = {"reached": "pin", "status": "PAID", "reason": "", "ms": 1, "language": "fa", "attempt_id": first}
    committed.clear()
    ended = [asyncio.create_task(journal.record_call(**about)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not committed
    await journal.step(first, AttemptState.OTP_SENT)
    await asyncio.gather(*ended)
    assert len(committed) == 1
    await journal.record_call(**about)  # nobody else comes
    assert len(committed) == 2
    assert journal._rows(sa.select(sa.func.count().label("many")).select_from(call_record)) == [{"many": 3}]
