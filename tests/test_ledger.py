"""The journal as a ledger: upgraded with its rows, append-only, and settled by people on evidence."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from process import ivr_agi
from test_journal import bring, new
from typer.testing import CliRunner

from ivr_agi import cli
from ivr_agi.cardhash import CardHash
from ivr_agi.journal import AttemptState, IllegalStep, Journal, JournalError, Resolution, engine
from ivr_agi.journal.tables import FOLLOWS, attempt
from ivr_agi.model import Pan, Secret

S = AttemptState
PAN = Pan("6037991234567893")


# -- upgrades ---------------------------------------------------------------------------------------

OLD = (
    ("A", "created", 1, ""), ("B", "otp_sent", 1, ""), ("C", "sent", 1, ""), ("D", "paid", 1, "123456"),
    ("E", "declined", 0, ""), ("E", "failed", 0, ""), ("F", "unknown", 1, ""), ("G", "declined", 1, ""),
)  # fmt: skip


def begun_at(journal_url, revision):
    """A journal as an earlier release left it."""
    opened = engine.open_engine(journal_url)
    config = engine._migrations()
    with opened.execution_options(migrating=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return opened


def test_upgrade_with_rows(journal_url):
    """Every released form, with rows in each state: all of them are there afterwards, and all is enforced."""
    old = begun_at(journal_url, "0001")
    with old.begin() as connection:
        for order, state, holds, ref_id in OLD:
            connection.execute(
                sa.text(
                    "INSERT INTO attempt (order_id, method, amount, card, mobile, state, holds_order, ref_id,"
                    " owner, created_at, updated_at) VALUES (:order, 'ivr', 50000, '603799******7893',"
                    " '+989123456789', :state, :holds, :ref_id, 'elsewhere:x/boot/1/2', '2026-11-01', '2026-11-01')"
                ),
                {"order": order, "state": state, "holds": bool(holds), "ref_id": ref_id},
            )
        connection.exec_driver_sql(
            "INSERT INTO history (attempt_id, at, state, note, owner)"
            " SELECT id, '2026-11-01', state, 'n', owner FROM attempt"
        )
    old.dispose()
    opened = Journal(journal_url)
    rows = opened.attempts()[::-1]
    assert [(row["order_id"], row["state"], row["ref_id"]) for row in rows] == [
        (order, state, ref_id) for order, state, _, ref_id in OLD
    ]
    assert {(row["card_hash"], row["resolution"], row["evidence"]) for row in rows} == {("", "", "")}
    assert all(opened.attempt(row["id"])[1][0]["note"] == "n" for row in rows)
    assert opened.resolve(7, Resolution.PAID, by="Sara", evidence="statement", ref_id="99")
    with pytest.raises(IllegalStep, match="under way"):
        opened.resolve(3, Resolution.PAID, by="Sara", evidence="statement", ref_id="99", seen=S.SENT)
    opened.close()
    Journal(journal_url).close()  # and once more


@pytest.mark.sqlite("its sequence table")
def test_upgrade_keeps_ids_apart(journal_url):
    """An id that was told to a caller is given to no other attempt, upgraded or not."""
    old = begun_at(journal_url, "0001")
    with old.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES ('attempt', 41)")
    old.dispose()
    opened = Journal(journal_url)
    with closing(sqlite3.connect(journal_url.removeprefix("sqlite:///"))) as raw:
        (made,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'attempt'").fetchone()
    assert "AUTOINCREMENT" in made
    opened.close()


async def test_upgrade_that_fails_changes_nothing(journal_url, monkeypatch):
    """An upgrade that breaks in the middle leaves the journal as the earlier release had it."""
    begun_at(journal_url, "0001").dispose()
    monkeypatch.setattr("ivr_agi.journal.engine._check_references", lambda _connection: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Journal(journal_url)
    opened = engine.open_engine(journal_url)
    assert engine.revisions(opened)[0] == "0001"
    opened.dispose()
    monkeypatch.undo()
    again = Journal(journal_url)
    assert await again.reserve(new()) == 1
    again.close()


# -- append-only ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE history SET note = 'never mind'",
        "DELETE FROM history",
        "DELETE FROM attempt",
        "UPDATE attempt SET state = 'failed'",  # of a paid one
        "UPDATE attempt SET state = 'resolved', resolution = 'paid', resolved_by = 'x', resolved_at = 'y'",
    ],
)
async def test_the_database_itself_refuses(journal, statement):
    """Not the code alone: whoever writes, the history stands, and no step is taken that FOLLOWS lacks."""
    attempt_id = await bring(journal, S.PAID)
    before = journal.attempt(attempt_id)
    with pytest.raises(sa.exc.DBAPIError), journal._engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert journal.attempt(attempt_id) == before


@pytest.mark.parametrize("before", S)
async def test_triggers_are_the_table(journal, before):
    """What the database lets follow is FOLLOWS, no more and no less."""
    attempt_id = await bring(journal, before)
    evidence = {"resolution": "paid", "resolved_by": "x", "resolved_at": "y", "evidence": "z"}
    change = sa.update(attempt).where(attempt.c.id == attempt_id)
    allowed = set()
    for after in S:
        try:
            with journal._engine.begin() as connection:
                connection.execute(change.values(state=after, holds_order=True, ref_id="1", **evidence))
                allowed.add(after)
                connection.rollback()
        except sa.exc.DBAPIError as refused:
            why = str(refused)
            assert "no step leads there" in why
    assert allowed == FOLLOWS[before]


async def test_history_names_who_wrote(journal):
    """Each line has its time, its process, and a key of its own."""
    attempt_id = await bring(journal, S.RESOLVED)
    _, lines = journal.attempt(attempt_id)
    assert [line["state"] for line in lines] == ["created", "otp_sent", "sent", "unknown", "resolved"]
    assert {line["owner"] for line in lines} == {journal._scribe.owner}
    assert len({line["key"] for line in lines}) == len(lines)
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


# -- the card's hash --------------------------------------------------------------------------------


def test_card_hash():
    """One card under one key: one hash; another key: another; without a key: none."""
    first, second = Secret("a" * 32), Secret("b" * 32)
    assert CardHash().of(PAN) == ""
    hashed = CardHash([first]).of(PAN)
    assert hashed == CardHash([first, second]).of(PAN)
    assert hashed != CardHash([second]).of(PAN)
    assert hashed != CardHash([first]).of(Pan("6219861034529007"))
    assert CardHash([second, first]).every(PAN) == (
        CardHash([second]).of(PAN),
        hashed,
    )  # rotated: still found
    assert "1234567893" not in hashed
    assert re.fullmatch(r"[0-9a-f]{8}:[0-9a-f]{64}", hashed)


async def test_same_card(journal):
    """A person finds the other attempts of a card; not those written without a key."""
    keyed = CardHash([Secret("a" * 32)])
    for order, card_hash in (("A", keyed.of(PAN)), ("B", ""), ("C", keyed.of(PAN)), ("D", "")):
        await journal.reserve(new(order, card_hash))
    assert [row["order_id"] for row in journal.same_card(1)] == ["C", "A"]
    assert journal.same_card(2) == []


# -- a person's verdict -----------------------------------------------------------------------------


async def test_resolved_as_paid(journal):
    """Paid: by whom, when, on what evidence; the order stays paid."""
    attempt_id = await bring(journal, S.UNKNOWN)
    assert journal.resolve(attempt_id, Resolution.PAID, by="Sara", evidence="line 12", ref_id="4711")
    row, lines = journal.attempt(attempt_id)
    assert (row["state"], row["resolution"], row["resolved_by"], row["evidence"], row["ref_id"]) == (
        "resolved", "paid", "Sara", "line 12", "4711",
    )  # fmt: skip
    assert row["resolved_at"] == pytest.approx(row["updated_at"]) or row["resolved_at"] <= row["updated_at"]
    assert lines[-1]["note"] == "paid, by Sara, tracking number 4711: line 12"
    assert await journal.standing("A-1") is S.RESOLVED


async def test_resolved_as_not_paid(journal):
    """Not paid: the order may be paid again; later knowledge is a second line, not a correction of the first."""
    attempt_id = await bring(journal, S.UNKNOWN)
    journal.resolve(attempt_id, Resolution.NOT_PAID, by="Sara", evidence="not in the list")
    assert await journal.standing("A-1") is None
    second = await bring(journal, S.PAID)
    held = journal.resolve(
        attempt_id, Resolution.PAID, by="Reza", evidence="a later list", ref_id="4711", seen=S.RESOLVED
    )
    assert not held  # paid twice: the second attempt holds the order
    assert [line["note"][:8] for line in journal.attempt(attempt_id)[1][-2:]] == ["not-paid", "paid, by"]
    assert journal.attempt(second)[0]["holds_order"]


@pytest.mark.parametrize("state", [S.CREATED, S.OTP_SENT, S.SENT])
async def test_what_is_under_way_is_not_resolved(journal, state):
    """A process has it under way, or will be found gone: nobody decides meanwhile."""
    attempt_id = await bring(journal, state)
    with pytest.raises(IllegalStep, match="under way"):
        journal.resolve(attempt_id, Resolution.NOT_PAID, by="Sara", evidence="?", seen=state)


async def test_late_answer_before_the_verdict(journal):
    """What a person saw as unknown has been paid a moment ago: the verdict is not written."""
    attempt_id = await bring(journal, S.UNKNOWN)
    await journal.step(attempt_id, S.PAID, ref_id="1")
    with pytest.raises(IllegalStep, match="has become paid meanwhile"):
        journal.resolve(attempt_id, Resolution.NOT_PAID, by="Sara", evidence="not in the list")
    assert await journal.standing("A-1") is S.PAID


async def test_no_verdict_without_evidence(journal):
    """The database itself wants to know who and why, and a tracking number for what was paid."""
    attempt_id = await bring(journal, S.UNKNOWN)
    for by, evidence, ref_id in (("", "x", "1"), ("x", "", "1"), ("x", "x", "")):
        with pytest.raises(JournalError, match="attempt_resolved_has_evidence"):
            journal.resolve(attempt_id, Resolution.PAID, by=by, evidence=evidence, ref_id=ref_id)
    assert journal.attempt(attempt_id)[0]["state"] == "unknown"


async def test_each(journal, monkeypatch):
    """Read in pages, oldest first; by day."""
    monkeypatch.setattr("ivr_agi.journal.queries.PAGE", 3)
    for number in range(7):
        await journal.reserve(new(f"O{number}"))
    assert [row["order_id"] for row in journal.each()] == [f"O{number}" for number in range(7)]
    today = journal.attempts()[0]["created_at"][:10]
    assert len(list(journal.each(today))) == 7
    assert not list(journal.each("2000", today))


@pytest.fixture
def run():
    """The commands, in this process."""

    def once(*arguments):
        ended = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})
        return ended.exit_code, ended.stdout, ended.stderr

    return once


# -- the commands -----------------------------------------------------------------------------------


@pytest.fixture
async def reviewed(tmp_path):
    """A journal with something of each kind, for the commands."""
    address = f"sqlite:///{tmp_path / 'ivr-agi.db'}"
    opened = Journal(address)
    for state in S:
        await bring(opened, state, f"order-{state}")
    await opened.step(
        await bring(opened, S.SENT, "twenty"), S.DECLINED, code="20", review="charged", holds_order=True
    )
    opened.close()
    return address


@pytest.mark.usefixtures("reviewed")
async def test_review():
    """Unknown and suspicious ones with their age, and how to settle them; 1 while there are any."""
    status, output, _ = await ivr_agi("journal", "review")
    assert status == 1
    assert "order-unknown" in output
    assert "twenty" in output
    assert "may have been charged" in output
    assert "0 min" in output
    assert "journal resolve" in output
    for state in S:
        assert (f"order-{state} " in output) == (state is S.UNKNOWN)


@pytest.mark.usefixtures("reviewed")
def test_resolve(run):
    """Paid with its number; what is missing or in no doubt is refused with a sentence; then all is settled."""
    unknown = str(list(S).index(S.UNKNOWN) + 1)
    for arguments, said in (
        (["--as", "paid", "--by", "Sara", "--evidence", "x"], "--ref"),
        (["--as", "paid", "--ref", "1", "--by", "Sara", "--evidence", " "], "--evidence"),
        (["--as", "paid", "--ref", "1\n2", "--by", "Sara", "--evidence", "x"], "--ref"),
    ):
        status, _, errors = run("journal", "resolve", unknown, *arguments)
        assert (status, said in errors) == (2, True), errors
    paid = str(list(S).index(S.PAID) + 1)
    status, _, errors = run("journal", "resolve", paid, "--as", "not-paid", "--by", "S", "--evidence", "x")
    assert (status, "--overrule" in errors) == (1, True)
    status, _, errors = run("journal", "resolve", "77", "--as", "not-paid", "--by", "S", "--evidence", "x")
    assert (status, "there is no attempt 77" in errors) == (1, True)
    status, output, _ = run(
        *[
            "journal",
            "resolve",
            unknown,
            "--as",
            "paid",
            "--ref",
            "4711",
            "--by",
            "Sara",
            "--evidence",
            "list, line 3",
        ]
    )
    assert (status, "order-unknown is paid" in output) == (0, True)
    _, output, _ = run("journal", "show", unknown)
    assert "paid, by Sara, tracking number 4711: list, line 3" in output
    status, output, _ = run("journal", "resolve", "9", "--as", "not-paid", "--by", "S", "--evidence", "x")
    assert (status, "may be paid again" in output) == (0, True)
    status, output, _ = run("journal", "review")
    assert (status, output.strip()) == (0, "Nothing to look at.")


def test_docs_name_the_states():
    """The states in product order are those of the ledger."""
    words = (Path(__file__).parent.parent / "docs/money.md").read_text(encoding="utf-8")
    assert all(f"`{state}`" in words for state in S)


@pytest.mark.parametrize("option", ["--ref", "--by", "--evidence"])
async def test_no_card_number_in_a_verdict(tmp_path, option):
    """The history is never changed again: what a person writes there may hold no card number."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    opened = Journal(url)
    await bring(opened, S.UNKNOWN)
    opened.close()
    words = {"--ref": "123456", "--by": "Sara", "--evidence": "statement"} | {
        option: "card 6037 9912 3456 7893"
    }
    given = [word for pair in words.items() for word in pair]
    status, _, errors = await ivr_agi("journal", "resolve", "1", "--as", "paid", *given, journal_url=url)
    assert status == 2
    assert errors.startswith(f"{option}: ")
    assert "6037" not in errors
