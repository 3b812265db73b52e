"""Payments as files: all that is shown, every column, nothing that runs; written while others have the loop."""

import asyncio
import csv
import io
import itertools
import re
import zipfile
from datetime import date, timedelta
from xml.etree import ElementTree as ET

import pytest
from panel import crowd
from panel.test_payments import HOSTILE, in_english

from ivr_agi.export import EXPORTED, no_formula
from ivr_agi.journal import JournalError, people
from ivr_agi.journal.search import Filter
from ivr_agi.panel import showing
from ivr_agi.panel.pages import exports
from ivr_agi.panel.sheet import COLUMNS

SPREADSHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture
async def office(office):
    """The office with 30 payments of a crowd, and hostile ones; reza reads English."""
    given = {
        "state": "resolved",
        "resolution": "paid",
        "ref_id": "1",
        "created_at": "2026-11-20T20:29:59.000+00:00",
    }
    crowd.add(office.line.journal, *({"order_id": order, "evidence": order} for order in HOSTILE), **given)
    crowd.add(office.line.journal, *({"order_id": f"F-{number}", "method": "web"} for number in range(30)))
    crowd.add(office.line.journal, order_id="D-1", state="declined", code="51", review="check")
    office.reza = await in_english(office, "reza")
    return office


def read_csv(got):
    """The rows of a CSV as Excel and Python read it."""
    assert got.content.startswith(b"\xef\xbb\xbf")
    assert got.content.count(b"\r\n") == got.content.count(b"\n")
    return list(csv.DictReader(io.StringIO(got.content.decode("utf-8-sig"), newline="")))


def read_sheet(got):
    """The cells of a workbook's only sheet, row by row, as (kind, text); and the sheet itself."""
    with zipfile.ZipFile(io.BytesIO(got.content)) as book:
        assert book.testzip() is None
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - our own
    rows = []
    for row in sheet.iter(f"{SPREADSHEET}row"):
        cells = {}
        for cell in row:
            column = re.match("[A-Z]+", cell.get("r"))[0]
            assert [part.tag for part in cell] in (
                [f"{SPREADSHEET}v"],
                [f"{SPREADSHEET}is"],
            )  # and no formula
            cells[ord(column) - 65] = (cell.get("t", "n"), "".join(cell.itertext()))
        rows.append(cells)
    return rows, sheet


def entries(office):
    return office.line.journal._read(lambda c: people.entries(c, actions=["export"]))


async def test_csv(office):
    """Every payment with every column, newest first, as the journal has it; what would run in Excel does not."""
    got = await office.reza.get("/payments.csv")
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="payments-\d{4}-\d\d-\d\d\.csv"', got.headers["content-disposition"]
    )
    rows = read_csv(got)
    kept = office.line.journal.attempts()
    assert [row["id"] for row in rows] == [str(row["id"]) for row in kept]
    assert tuple(rows[0]) == EXPORTED
    for row, true in zip(rows, kept, strict=True):
        for name in EXPORTED:
            assert row[name] in (str(true[name]), f"'{true[name]}")
        assert not any(value.startswith(("=", "@", "-", "\t")) for value in row.values())
    assert [row["order_id"] for row in rows][-len(HOSTILE) :] == [
        no_formula(order) for order in HOSTILE[::-1]
    ]
    assert rows[-2]["order_id"] == "'=cmd|'/C calc'!A0"


async def test_csv_of_many_pages(office, monkeypatch):
    """Read in pages of 7, none is left out and none comes twice, nor what comes meanwhile; only what is found."""
    monkeypatch.setattr(exports, "PAGE", 7)
    record, numbers = exports.record, itertools.count()

    async def meanwhile(*given, **more):
        late = {"order_id": f"late-{next(numbers)}", "created_at": "2099-01-01T00:00:00.000+00:00"}
        crowd.add(office.line.journal, late, method="web")
        await record(*given, **more)

    monkeypatch.setattr(exports, "record", meanwhile)
    rows = read_csv(await office.reza.get("/payments.csv", params={"method": "web"}))
    assert [row["order_id"] for row in rows] == [f"F-{number}" for number in range(29, -1, -1)]
    assert len(read_csv(await office.reza.get("/payments.csv"))) == 37
    assert read_csv(await office.reza.get("/payments.csv", params={"order": "none"})) == []


@pytest.mark.parametrize("language", showing.LANGUAGES)
async def test_excel(office, language):
    """Headings and states in the page's language; amounts and days are numbers, all else text; nothing runs."""
    await office.reza.post("/language", language=language, back="/panel/payments")
    got = await office.reza.get("/payments.xlsx")
    assert got.headers["content-type"] == exports.EXCEL
    assert got.headers["content-disposition"].endswith('.xlsx"')
    rows, sheet = read_sheet(got)
    headings = [showing.say(f"payments.{name}", language) for name in COLUMNS]
    assert [text for _, text in rows[0].values()] == headings
    view = next(sheet.iter(f"{SPREADSHEET}sheetView"))
    assert (view.get("rightToLeft") == "1") == (language == "fa")
    assert next(view.iter(f"{SPREADSHEET}pane")).attrib["state"] == "frozen"
    widths = [int(each.get("max")) - int(each.get("min")) + 1 for each in sheet.iter(f"{SPREADSHEET}col")]
    assert sum(widths) == len(COLUMNS)
    place = {name: column for column, name in enumerate(COLUMNS)}
    kept = office.line.journal.attempts()
    assert [float(row[0][1]) for row in rows[1:]] == [row["id"] for row in kept]
    for row, true in zip(rows[1:], kept, strict=True):
        assert row[place["order"]] == ("inlineStr", true["order_id"])
        assert row[place["amount_rials"]] == ("n", str(true["amount"]))
        assert row[place["mobile"]] == ("inlineStr", "+989123456789")
        assert row[place["card_mask"]][1] == "603799******7893"
    last, declined = rows[-1], rows[1]
    assert last[place["day_jalali"]] == ("inlineStr", "1405/08/29")
    assert date(1899, 12, 30) + timedelta(days=int(last[place["day_gregorian"]][1])) == date(2026, 11, 20)
    assert round(float(last[place["time"]][1]) * 86400) == 23 * 3600 + 59 * 60 + 59
    assert last[place["state"]][1] == showing.say("states.resolved_paid", language)
    assert declined[place["code"]] == ("inlineStr", "51")
    assert declined[place["reason"]][1] == showing.caller_hears(("error-51",), language)


async def test_in_turns(office, monkeypatch):
    """While a file is written the others on the loop have their turn after each bit of work."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    most = []
    for bit in (-1, 1e9):  # after each row; after none
        monkeypatch.setattr(exports, "BIT", bit)
        turns = 0
        task = asyncio.create_task(others())
        journal = Still(office.line.journal.attempts())
        assert len([row async for row in exports._rows(journal, Filter(), None)]) == 36
        task.cancel()
        most.append(turns)
    assert most[0] > 30
    assert most[1] < 3


class Still:
    """A journal that has one page, at once."""

    def __init__(self, rows):
        self.rows = rows

    async def look(self, _job):
        return self.rows


async def test_too_many_for_excel(office, monkeypatch):
    """More than Excel is to have: no part of them, but a sentence that names CSV, and the page with the filter."""
    monkeypatch.setattr(exports, "MOST_IN_EXCEL", 30)
    got = await office.reza.get("/payments.xlsx")
    assert got.status_code == 422
    assert "at most 30 rows, and this search has 36. Narrow it down, or take CSV" in got.text
    assert entries(office) == []
    got = await office.reza.get("/payments.xlsx", params={"method": "web"})
    assert len(read_sheet(got)[0]) == 31


async def test_one_at_a_time(office, monkeypatch):
    """While one Excel file is made another one is refused, not queued; afterwards it is not."""
    counting, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(*_given):
        counting.set()
        await go_on.wait()

    monkeypatch.setattr(exports, "record", waiting)
    monkeypatch.setattr(exports, "_record", waiting)
    first = asyncio.create_task(office.reza.client.get("/panel/payments.xlsx"))
    await counting.wait()
    async with asyncio.timeout(20):  # who queues waits for ever
        got = await office.reza.get("/payments.xlsx")
    assert (got.status_code, "Another Excel file is being made" in got.text) == (429, True)
    go_on.set()
    assert (await first).status_code == 200
    assert (await office.reza.get("/payments.xlsx")).status_code == 200


async def test_audited(office):
    """Who took what, how many, before a byte of it left; without the audit log there is no file."""
    await office.reza.get("/payments.csv")
    given = {"method": "web", "state": "paid", "from": "1405/08/01", "mobile": "0912 345 6789"}
    await office.reza.get("/payments.xlsx", params=given)
    second, first = entries(office)
    assert (first["who"], first["about"]) == ("reza", "CSV; all payments; 36 rows")
    assert (
        second["about"]
        == "Excel; Mobile: 0912 345 6789, From day: 2026-10-23, State: Paid, How: From the panel; 30 rows"
    )
    mina = await in_english(office, "mina")
    log = (await mina.get("/audit")).text
    assert "exported" in log
    assert second["about"] in log


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_no_file_without_its_entry(office, monkeypatch, kind):
    """Where the entry cannot be written nothing leaves."""

    async def broken(*_given, **_more):
        raise JournalError("the disk is full")

    monkeypatch.setattr(exports, "record", broken)
    got = await office.reza.get(f"/payments.{kind}")
    assert got.status_code == 503
    assert "F-1" not in got.text


async def test_broken_off(office, monkeypatch, logged):
    """A journal that fails in the middle breaks the file off, and the log says so; it does not end as if it were whole."""
    monkeypatch.setattr(exports, "PAGE", 7)
    journal, looks = office.line.journal, 0

    class Failing:
        async def look(self, job):
            nonlocal looks
            looks += 1
            if looks == 3:
                raise JournalError("gone")
            return await journal.look(job)

    pieces = aiter(exports._csv(Failing(), Filter(), None))
    assert (await anext(pieces)).startswith("\ufeffid,")
    assert (await anext(pieces)).count("\n") == 7
    with pytest.raises(JournalError):
        await anext(pieces)
    assert [entry["rows"] for entry in logged if entry["event"] == "panel.export_broken"] == [14]


async def test_who_may(office):
    """The accountant and the admin; an operator may not, and sees no button for it."""
    sara = await in_english(office, "sara")
    for kind in ("csv", "xlsx"):
        assert (await sara.get(f"/payments.{kind}")).status_code == 403
    assert "payments.csv" not in (await sara.get("/payments")).text
    assert entries(office) == []
    for name in ("reza", "mina"):
        browser = await office.signed_in(name)
        got = await browser.get("/payments", params={"method": "web"})
        for kind in ("csv", "xlsx"):
            assert f'href="/panel/payments.{kind}?method=web" download' in got.text
            assert (await browser.get(f"/payments.{kind}")).status_code == 200


async def test_wrong_filter(office):
    """A filter that cannot be read is said at its field; it is not left out, and there is no file."""
    for kind in ("csv", "xlsx"):
        got = await office.reza.get(f"/payments.{kind}", params={"from": "1405/13/01"})
        assert got.status_code == 422
        assert 'id="from-error"' in got.text
    assert entries(office) == []
