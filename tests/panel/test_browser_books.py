"""The pages of those who answer for the money, in a real browser: receipts, exports, review, settlement, figures."""

import csv
import io
import zipfile

import pytest
from line import CARD
from panel import crowd
from panel.browser import PHONE, open_day

from ivr_agi.panel import figures

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_payment_and_its_receipt(shop):
    """From the list to a payment's page, with its history, and on to the receipt, which is printed by its button."""
    await shop.line.call(shop.line.buyer())
    sara = await shop.person("sara", size=PHONE)
    await sara.open("/payments")
    number = figures.digits("1", "fa")
    await sara.page.get_by_role("cell").get_by_role("link", name=number, exact=True).click()
    await sara.reads("payments.payment", number=number)
    assert await sara.page.locator("ol.steps li").count() == 4
    await sara.link("payments.see_receipt").click()
    await sara.reads("payments.receipt")
    (row,) = shop.line.attempts()
    await sara.page.get_by_text(figures.digits(row["ref_id"], "fa"), exact=True).wait_for()
    await sara.page.evaluate("() => { window.print = () => { window.printed = true; }; }")
    await sara.button("payments.print").click()
    assert await sara.page.evaluate("window.printed")


async def test_exported(shop):
    """What was found, as CSV and as Excel: the downloads have its rows, and are in the audit log."""
    crowd.add(
        shop.line.journal, {"order_id": "F-1"}, {"order_id": "F-2"}, {"order_id": "F-3", "state": "declined"}
    )
    reza = await shop.person("reza", language="en")
    await reza.open("/payments?state=paid")
    files = []
    for name in ("CSV", "Excel"):
        async with reza.page.expect_download() as begun:
            await reza.page.get_by_role("link", name=name, exact=True).click()
        download = await begun.value
        files.append(await download.path())
        assert download.suggested_filename.endswith({"CSV": ".csv", "Excel": ".xlsx"}[name])
    table = list(csv.reader(io.StringIO(files[0].read_text(encoding="utf-8-sig"))))
    assert len(table) == 3
    assert CARD not in files[0].read_text(encoding="utf-8-sig")
    with zipfile.ZipFile(files[1]) as workbook:
        texts = "".join(workbook.read(each).decode() for each in workbook.namelist() if each.endswith(".xml"))
    assert "F-2" in texts
    assert "F-3" not in texts
    assert CARD not in texts
    mina = await shop.person("mina", language="en")
    await mina.open("/audit")
    assert await mina.page.get_by_role("cell", name=mina.say("audit.action_export"), exact=True).count() == 2


async def test_reviewed_and_resolved(shop):
    """What is in doubt stands in the review; its form asks for what is missing, then shows what it does, then does it."""
    crowd.add(shop.line.journal, {"state": "unknown"})
    reza = await shop.person("reza", size=PHONE)
    await reza.open("/review")
    await reza.page.get_by_role("link", name=reza.say("review.resolve")).click()
    await reza.labelled("review.verdict").select_option(reza.say("review.verdict_paid"))
    await reza.labelled("review.evidence").fill("صورت‌حساب بانک، سطر ۱۲")
    await reza.button("review.next").click()
    await reza.sees("review.ref_missing")
    await reza.page.get_by_label(reza.say("review.ref"), exact=True).fill("123456789012")
    await reza.button("review.next").click()
    await reza.sees("review.confirm_title")
    assert shop.line.attempts()[0]["state"] == "unknown"
    await reza.button("review.confirm_paid").dblclick()
    await reza.sees("review.done_paid")
    (row,) = shop.line.attempts()
    assert (row["state"], row["resolution"], row["resolved_by"]) == ("resolved", "paid", "reza")
    await reza.open("/review")
    await reza.sees("review.none")


async def test_a_settlement_list(shop):
    """Uploaded, matched, and what is certain recorded by one button."""
    crowd.add(
        shop.line.journal, {"order_id": "F-1"}, {"order_id": "F-2", "state": "unknown", "amount": 70_000}
    )
    text = "order,amount,rrn,date,status\nF-2,70000,240000000002,2026-11-28,paid\nF-9,5000,240000000009,2026-11-28,paid\n"
    reza = await shop.person("reza", language="en")
    await reza.open("/settlement")
    await reza.labelled("settlement.file").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    await reza.button("settlement.send").click()
    await reza.sees("settlement.result_title")
    await reza.button("settlement.apply", count="1").dblclick()
    await reza.sees("settlement.resolved", count="1", by="\u2068reza\u2069")
    row = shop.line.attempts()[1]
    assert (row["state"], row["resolution"], row["ref_id"]) == ("resolved", "paid", "240000000002")


async def test_a_list_that_cannot_be_read(shop):
    """Said in the page's language, with what to do."""
    reza = await shop.person("reza")
    await reza.open("/settlement")
    await reza.labelled("settlement.file").set_input_files(
        {"name": "list.xlsx", "mimeType": "application/zip", "buffer": b"PK\x03\x04 and so on"}
    )
    await reza.button("settlement.send").click()
    await reza.sees("settlement.unreadable")
    await reza.sees("settlement.note_spreadsheet")


async def test_figures(shop):
    """Today's sums are the journal's; another period has its own; a figure's table opens beneath the picture."""
    await open_day(shop.line)
    reza = await shop.person("reza", size=PHONE)
    await reza.open("/today")
    tile = reza.page.locator(".tile").filter(has_text=reza.say("today.paid_rials"))
    assert await tile.locator("b").inner_text() == figures.money(125_000 * 6, "fa")
    await reza.page.locator("svg").first.wait_for()
    details = reza.page.locator("details").filter(has_text=reza.say("today.figures")).first
    await details.locator("summary").click()
    await details.locator("table").wait_for()
    await reza.link("today.period_yesterday").click()
    await reza.sees("today.nothing")
    await reza.page.get_by_text(reza.say("today.other_period")).click()
    await reza.labelled("today.from").fill("1405/01/01")
    await reza.labelled("today.to").fill("1405/01/0")
    await reza.button("today.show").click()
    await reza.sees("today.no_day")
