"""`journal reconcile`: whole lists, in both scripts and calendars, against a journal on disk."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import typer
from line import CARD
from settling import section
from typer.testing import CliRunner

from ivr_agi.cli.reconcile import reconcile
from ivr_agi.journal import AttemptState, IllegalStep, Journal, JournalError, NewAttempt, Resolution, steps

S = AttemptState
LISTS = Path(__file__).parent / "settlements"
# The same payments, as different hands write them down.
ENGLISH = [
    *["--column", "order=Merchant order", "--column", "amount=Paid (IRR)", "--column", "date=Time"],
    *["--paid-status", "done"],
]
OPTIONS = {"paystar": [], "bank": ["--toman"], "english": ENGLISH, "spreadsheet": []}
LINES = {  # where the same payment stands in each of them
    "paystar": {"A-1002": 6, "A-1005": 7, "A-1008": (10, 11), "W-1": 13, "A-1012": 14},
    "bank": {"A-1002": 3, "A-1005": 4, "A-1008": (7, 8), "W-1": 10, "A-1012": 11},
    "english": {"A-1002": 3, "A-1005": 4, "A-1008": (7, 8), "W-1": 10, "A-1012": 11},
    "spreadsheet": {"A-1002": 3, "A-1005": 4, "A-1008": (6, 7), "W-1": 9, "A-1012": 10},
}
UNKNOWN = [(S.OTP_SENT, {}), (S.SENT, {}), (S.UNKNOWN, {"review": "charged"})]
DECLINED = [(S.OTP_SENT, {}), (S.SENT, {}), (S.DECLINED, {"code": "51"})]
MELLI, MELLAT = "603799******7893", "610433******1234"


def paid(ref):
    return [(S.OTP_SENT, {}), (S.SENT, {}), (S.PAID, {"ref_id": ref})]


ATTEMPTS = [  # order, rials, card, begun (UTC), steps; numbered from 1
    ("A-1001", 50_000, MELLI, "2024-11-24T05:44:00.000+00:00", paid("700001")),
    ("A-1002", 120_000, MELLI, "2024-11-24T06:30:00.000+00:00", UNKNOWN),
    ("A-1003", 75_000, MELLI, "2024-11-24T07:00:00.000+00:00", UNKNOWN),
    ("A-1004", 20_000, MELLI, "2024-11-24T08:00:00.000+00:00", paid("700004")),
    ("A-1005", 30_000, MELLAT, "2024-11-24T08:09:00.000+00:00", DECLINED),
    ("A-1006", 90_000, MELLI, "2024-11-25T04:29:00.000+00:00", UNKNOWN),
    ("A-1007", 40_000, MELLAT, "2024-11-25T05:59:00.000+00:00", DECLINED),
    ("A-1008", 60_000, MELLI, "2024-11-25T08:29:00.000+00:00", UNKNOWN),
    ("سفارش ۹", 80_000, MELLAT, "2024-11-26T09:29:00.000+00:00", paid("700009")),
    ("A-1010", 10_000, MELLI, "2024-10-02T09:00:00.000+00:00", UNKNOWN),
    ("A-1011", 10_000, MELLI, "2024-11-26T10:00:00.000+00:00", [(S.OTP_SENT, {})]),
    ("A-1013", 5_000, MELLI, "2024-11-27T18:00:00.000+00:00", paid("700013")),
]


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The journal's address, with ATTEMPTS in it."""
    return keep(tmp_path, monkeypatch, ATTEMPTS)


def keep(tmp_path, monkeypatch, attempts):
    """Write attempts, each at its own time, into a journal."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    monkeypatch.setenv("IVR_AGI_JOURNAL_URL", url)

    async def write():
        journal = Journal(url)
        for order, amount, card, begun, done in attempts:
            with pytest.MonkeyPatch.context() as clock:
                clock.setattr(steps, "timestamp", lambda now=begun: now)
                number = await journal.reserve(NewAttempt(order, "ivr", amount, card, "+989123456789"))
                for state, fields in done:
                    await journal.step(number, state, **fields)
        journal.close()

    asyncio.run(write())
    return url


def run(*arguments):
    """Run the command: exit status and what it says."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reconcile)
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert CARD not in ended.output
    return ended.exit_code, ended.output


def run_list(name, *arguments):
    return run(LISTS / f"{name}.csv", *OPTIONS[name], *arguments)


def rows(url):
    """What the journal says, by attempt."""
    journal = Journal(url, create=False)
    try:
        return {row["id"]: row for row in journal.each()}
    finally:
        journal.close()


def counted(output):
    """The table of the summary: class -> entries."""
    table = output[output.index("class ") :].split("\n\n")[0].splitlines()[1:]
    return {cells[0]: int(cells[1].replace(",", "")) for cells in map(str.split, table)}


COUNTS = {
    "contradicted": 1,
    "twice": 1,
    "different": 1,
    "unknown_paid": 1,
    "paid_missing": 1,
    "unknown_missing": 1,
    "paid_elsewhere": 1,
    "unreadable": 1,
    "under_way": 1,
    "at_edge": 1,
    "not_paid": 1,
    "matched": 2,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_reports(url, name):
    """Four hands, one result; nothing is changed in the journal by looking."""
    before = rows(url)
    status, output = run_list(name)
    assert (status, counted(output)) == (1, COUNTS)
    assert rows(url) == before
    sums = {
        cells[0]: cells[3::2]
        for cells in map(str.split, output.splitlines())
        if cells[:1] and len(cells) == 6
    }
    assert (sums["matched"], sums["twice"]) == (["130,000", "130,000"], ["120,000", "60,000"])
    assert sums["not_paid"] == ["0", "40,000"]
    assert max(map(len, output.splitlines())) <= 100
    lines = LINES[name]
    assert f"line {lines['A-1005']}: 30,000 rial" in section(output, "CONTRADICTED")
    assert "attempt 5: 30,000 rial" in section(output, "CONTRADICTED")
    assert "declined (code 51)" in section(output, "CONTRADICTED")
    for number in lines["A-1008"]:
        assert f"line {number}: 60,000 rial" in section(output, "TWICE")
    assert "order A-1008 is in the list 2 times" in section(output, "TWICE")
    assert "amount: 900,000 in line" in section(output, "DIFFERENT")
    assert "tracking no. 700004" in section(output, "PAID MISSING")
    assert "attempt 3: 75,000 rial" in section(output, "UNKNOWN MISSING")
    assert f"line {lines['W-1']}: 15,000 rial" in section(output, "PAID ELSEWHERE")
    assert f"line {lines['A-1012']}: no amount that can be read for certain" in section(output, "UNREADABLE")
    assert "Attempts still under way here: 11\n" in output
    assert "outside of the period, not covered by this list: 1\n" in output
    assert "2024-11-24 (1403/09/04) to 2024-11-26 (1403/09/06)" in output


@pytest.mark.parametrize("name", OPTIONS)
def test_applies_what_is_certain(url, name):
    """--apply --by resolves the certain one as paid, with its line as evidence, and no other; once."""
    before = rows(url)
    status, output = run_list(name, "--apply", "--by", "Sara")
    assert status == 1
    after = rows(url)
    assert {number for number in after if after[number] != before[number]} == {2}
    assert (after[2]["state"], after[2]["resolution"], after[2]["ref_id"].lstrip("0")) == (
        "resolved",
        "paid",
        "700002",
    )
    assert (after[2]["resolved_by"], after[2]["evidence"]) == (
        "Sara",
        f"{name}.csv line {LINES[name]['A-1002']}",
    )
    assert "RESOLVED NOW AS PAID, by Sara (1)" in output
    assert "UNKNOWN PAID" not in output
    status, output = run_list(name, "--apply", "--by", "Sara")
    assert (status, rows(url)) == (1, after)
    assert counted(output) == COUNTS | {"unknown_paid": 0, "matched": 3}


def test_apply_needs_a_name(url):
    """Nothing is decided without a person."""
    before = rows(url)
    for by in ([], ["--by", " "], ["--by", "x" * 81]):
        status, output = run_list("paystar", "--apply", *by)
        assert (status, "--by" in output) == (2, True)
    assert rows(url) == before


def test_command_settles_it(tmp_path, monkeypatch):
    """The command that is printed is what the shell understands, however hostile the list's words are."""
    keep(tmp_path, monkeypatch, ATTEMPTS)
    path = tmp_path / "my list $(id).csv"
    path.write_text("order,amount,ref,date\nA-1002,120000,7`id`'2;\\,1403/09/04\n", encoding="utf-8")
    _, output = run(path)
    command = section(output, "UNKNOWN PAID").split("certain\n", 1)[1]
    program = command.strip().removeprefix("ivr-agi ")
    asked = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {program}"], capture_output=True, text=True, check=True
    )
    assert asked.stdout.splitlines() == [
        *["journal", "resolve", "2", "--as", "paid", "--ref", "7`id`'2;\\", "--by", "NAME"],
        *["--evidence", "my list $(id).csv line 2"],
    ]


# -- nothing to look at -----------------------------------------------------------------------------

WHOLE = "order,amount,ref,date\nA-1001,50000,700001,2024-11-24\n"


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A journal with one paid attempt, and the list that has it."""
    keep(tmp_path, monkeypatch, ATTEMPTS[:1])
    path = tmp_path / "list.csv"
    path.write_text(WHOLE, encoding="utf-8")
    return path


def test_nothing_to_look_at(one):
    """All matched: 0, and a word that it is so."""
    status, output = run(one)
    assert (status, output.splitlines()[-1]) == (0, "Nothing to look at.")


def test_all_applied(tmp_path, monkeypatch):
    """All that was to look at was certain, and is resolved: 0."""
    keep(tmp_path, monkeypatch, ATTEMPTS[1:2])
    path = tmp_path / "list.csv"
    path.write_text("order,amount,ref,date\nA-1002,120000,700002,2024-11-24\n", encoding="utf-8")
    status, output = run(path)
    assert (status, "certain\n" in output) == (1, True)
    status, output = run(path, "--apply", "--by", "Sara")
    assert (status, "RESOLVED NOW AS PAID" in output, "UNKNOWN PAID" in output) == (0, True, False)


def test_report_file(one, tmp_path):
    """--report writes the summary there, and says so; never over the list itself."""
    path = tmp_path / "summary.txt"
    status, output = run(one, "--report", path)
    assert (status, output) == (0, f"The summary is in {path}\n")
    assert path.read_text(encoding="utf-8") == run(one)[1]
    assert run(one, "--report", one)[0] == 2
    assert one.read_text(encoding="utf-8") == WHOLE
    status, output = run(one, "--report", tmp_path / "nowhere" / "x")
    assert (status, "--report" in output) == (2, True)


# -- the period -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("url")
def test_period_given_in_either_calendar():
    """--from and --to, Jalali or Gregorian, the last day included: what is missing is missing from those days."""
    _, output = run_list("spreadsheet", "--from", "۱۴۰۳/۰۷/۱۱", "--to", "2024-11-24")
    assert "2024-10-02 (1403/07/11) to 2024-11-24 (1403/09/04)" in output
    assert counted(output)["unknown_missing"] == 2
    assert "not covered" not in output
    _, output = run_list("spreadsheet", "--from", "2024-11-25")
    assert counted(output)["unknown_missing"] == 0
    assert "outside of the period, not covered by this list: 2\n" in output


@pytest.mark.usefixtures("url")
def test_lines_beyond_the_period_find_their_attempts():
    """A list that reaches beyond --to, or settles an attempt of weeks before: found, not "elsewhere"."""
    _, output = run_list("spreadsheet", "--from", "2024-11-01", "--to", "2024-11-02")
    assert counted(output)["paid_elsewhere"] == 1
    assert counted(output)["matched"] == 2
    _, output = run_list("spreadsheet", "--from", "2024-12-20", "--to", "2024-12-21")
    assert counted(output)["matched"] == 2


def test_settled_weeks_later(one):
    """The list has the day of the settlement, weeks after the attempt: found all the same."""
    one.write_text(WHOLE.replace("2024-11-24", "2024-12-27"), encoding="utf-8")
    assert run(one)[0] == 0


def test_list_without_dates(one):
    """Without dates the days must be said."""
    one.write_text("order,amount,ref\nA-1001,50000,700001\n", encoding="utf-8")
    status, output = run(one)
    assert (status, "--from and --to" in output) == (2, True)
    assert run(one, "--from", "1403/09/04", "--to", "1403/09/04")[0] == 0


# -- what cannot be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--column", "order"], "--column: NAME=HEADING"),
        (["--column", "ref=a", "--column", "ref=b"], "each name once"),
        (["--column", "sum=x"], "column 'sum': the columns are"),
        (["--column", "card=کارت"], "no heading for: card. Headings found: «order», «amount», «ref», «date»"),
        (["--from", "1403/13/01"], "--from: there is no such day"),
        (["--to", "24/11/2024"], "--to: no date that can be read"),
        (["--from", "2024-12-01", "--to", "2024-11-01"], "the period ends before it begins"),
    ],
)
def test_wrong_options(one, arguments, said):
    """What is wrong is named, with 2."""
    status, output = run(one, *arguments)
    assert (status, said in output) == (2, True)


def test_list_that_is_not_there(one, tmp_path):
    """No file, and no CSV file."""
    assert run(tmp_path / "none.csv")[0] == 2
    one.write_bytes(b"PK\x03\x04")
    status, output = run(one)
    assert (status, "save it as CSV" in output) == (2, True)


def test_journal_that_is_not_there(one, tmp_path, monkeypatch):
    """No journal: said, and none begun."""
    monkeypatch.setenv("IVR_AGI_JOURNAL_URL", f"sqlite:///{tmp_path / 'other.db'}")
    status, output = run(one)
    assert (status, "there is no journal" in output) == (2, True)
    assert not (tmp_path / "other.db").exists()


# -- while applying ---------------------------------------------------------------------------------

TWO = "order,amount,ref,date\nA-1002,120000,700002,2024-11-24\nA-1003,75000,700003,2024-11-24\n"


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A journal with two unknown attempts, and the list that has both as paid."""
    keep(tmp_path, monkeypatch, ATTEMPTS[1:3])
    path = tmp_path / "list.csv"
    path.write_text(TWO, encoding="utf-8")
    return path


def test_settled_meanwhile(two, monkeypatch):
    """A late answer settles an attempt after it was read: it is left as it is, the other is resolved."""
    resolved, look = [], Journal.attempt

    def late(journal, number):
        row, history = look(journal, number)
        return (row | {"state": "paid"} if number == 1 else row), history

    monkeypatch.setattr(Journal, "attempt", late)
    resolve = Journal.resolve
    monkeypatch.setattr(
        Journal, "resolve", lambda journal, number, *rest, **more: resolved.append(number) or resolve(journal, number, *rest, **more)
    )  # fmt: skip
    status, output = run(two, "--apply", "--by", "Sara")
    assert (status, resolved) == (1, [2])
    assert "! not resolved: it is no longer unknown" in output
    assert "(1)\n  attempt 2, order A-1003" in output


@pytest.mark.parametrize(
    ("answers", "said", "resolved"),
    [
        ([IllegalStep("it cannot"), True], "! not resolved: it cannot", 1),
        (
            [JournalError("disk full")],
            "! not known to be resolved, and nothing after it was tried: disk full",
            0,
        ),
        ([False, True], "! resolved as paid; another attempt holds the order: paid twice?", 2),
    ],
)
def test_journal_refuses(two, monkeypatch, answers, said, resolved):
    """What the journal says to each is told; a journal that fails is not asked again."""
    given = iter(answers)

    def resolve(_journal, _number, resolution, **_rest):
        assert resolution is Resolution.PAID
        answer = next(given)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Journal, "resolve", resolve)
    status, output = run(two, "--apply", "--by", "Sara")
    assert (status, said in output) == (1, True)
    assert (f"RESOLVED NOW AS PAID, by Sara ({resolved})" in output) == bool(resolved)
    assert list(given) == []


def test_report_that_cannot_be_written_is_told(two, tmp_path, monkeypatch):
    """The disk is full after the resolving: what was resolved is told on the terminal, with 2."""

    def full(*_args, **_rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    status, output = run(two, "--apply", "--by", "Sara", "--report", tmp_path / "s.txt")
    assert status == 2
    assert "RESOLVED NOW AS PAID, by Sara (2)" in output
    assert "No space left on device" in output
