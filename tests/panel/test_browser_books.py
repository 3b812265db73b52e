"""The pages of those who answer for the money, in a real browser: payments, review, settlement, figures."""

import csv
import io
import re
import zipfile
from datetime import UTC, datetime

import pytest
from line import CARD
from panel.browser import DESK, PHONE, open_day

from ivr_agi.panel import figures

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = pytest.mark.parametrize(
    ("language", "size"), [("fa", PHONE), ("en", DESK)], ids=["fa-phone", "en-desk"]
)


def rows(person):
    """The rows of a table's body."""
    return person.page.locator("tbody tr")


@PLACES
async def test_searched(shop, language, size):
    """By order, without a reload; by day and state, in the address, so that it can be opened again."""
    await open_day(shop.line)
    reza = await shop.person("reza", language=language, size=size)
    await reza.open("/payments")
    await rows(reza).nth(4).wait_for()
    await reza.labelled("payments.field_order").fill("F-1403")
    await reza.button("payments.search").click()
    await reza.sees("payments.shown_one")
    assert await rows(reza).count() == 1
    assert "F-1403" in reza.page.url
    await reza.open("/payments?state=unknown")
    assert await rows(reza).count() == 1
    await reza.page.get_by_text("F-1404").wait_for()


async def test_a_card_is_not_searched_for(shop):
    """Whoever keys a whole card number into the search is told so before it is in any address."""
    reza = await shop.person("reza", language="en")
    await reza.open("/payments")
    asked = []
    reza.page.on("request", lambda request: asked.append(request.url))
    await reza.labelled("payments.field_order").fill(CARD)
    await reza.button("payments.search").click()
    assert not await reza.labelled("payments.field_order").evaluate("it => it.validity.valid")
    assert asked == []


@PLACES
async def test_a_payment_and_its_receipt(shop, language, size):
    """From the list to a payment's page, with its history, and on to the receipt, which is printed by its button."""
    await open_day(shop.line)
    sara = await shop.person("sara", language=language, size=size)
    await sara.open("/payments?order=F-1400")
    number = shop.line.attempts()[0]["id"]
    await rows(sara).get_by_role("link", name=figures.digits(str(number), language), exact=True).click()
    await sara.reads("payments.payment", number=figures.digits(str(number), language))
    assert await sara.page.locator("ol.steps li").count() >= 4
    await sara.link("payments.see_receipt").click()
    await sara.reads("payments.receipt")
    ref_id = shop.line.attempts()[0]["ref_id"]
    await sara.page.get_by_text(figures.digits(ref_id, language), exact=True).wait_for()
    await sara.page.evaluate("window.print = () => { window.printed = true; }")
    await sara.button("payments.print").click()
    assert await sara.page.evaluate("window.printed")


async def test_exported(shop):
    """What was found, as CSV and as Excel: the downloads have its rows, and are in the audit log."""
    await open_day(shop.line)
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
    assert len(table) == 4
    assert CARD not in files[0].read_text(encoding="utf-8-sig")
    with zipfile.ZipFile(files[1]) as workbook:
        texts = "".join(workbook.read(each).decode() for each in workbook.namelist() if each.endswith(".xml"))
    assert "F-1402" in texts
    assert CARD not in texts
    mina = await shop.person("mina", language="en")
    await mina.open("/audit")
    assert await mina.page.get_by_role("cell", name=mina.say("audit.action_export"), exact=True).count() == 2


@PLACES
async def test_reviewed_and_resolved(shop, language, size):
    """What is in doubt stands in the review; its form asks for what is missing, then shows what it does, then does it."""
    await open_day(shop.line)
    reza = await shop.person("reza", language=language, size=size)
    await reza.open("/review")
    await reza.page.get_by_role("link", name=reza.say("review.resolve")).click()
    await reza.labelled("review.verdict").select_option(reza.say("review.verdict_paid"))
    await reza.labelled("review.evidence").fill("صورت‌حساب بانک، سطر ۱۲")
    await reza.button("review.next").click()
    await reza.sees("review.ref_missing")
    await reza.page.get_by_label(reza.say("review.ref"), exact=True).fill("123456789012")
    await reza.button("review.next").click()
    await reza.sees("review.confirm_title")
    assert shop.line.attempts()[4]["state"] == "unknown"
    await reza.button("review.confirm_paid").dblclick()
    await reza.sees("review.done_paid")
    row = shop.line.attempts()[4]
    assert (row["state"], row["resolution"], row["resolved_by"]) == ("resolved", "paid", "reza")
    await reza.open("/review")
    await reza.sees("review.none")


@PLACES
async def test_a_settlement_list(shop, language, size):
    """Uploaded, matched, and what is certain recorded by one button."""
    await open_day(shop.line)
    (cut,) = [charge for charge in shop.gateway.charges if charge.order_id == "F-1404"]
    today = datetime.now(UTC).date().isoformat()
    text = "order,amount,rrn,date,status\n" + "".join(
        f"{charge.order_id},{charge.amount},{charge.ref_id},{today},paid\n" for charge in shop.gateway.charges
    )
    reza = await shop.person("reza", language=language, size=size)
    await reza.open("/settlement")
    await reza.labelled("settlement.file").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    await reza.button("settlement.send").click()
    await reza.sees("settlement.result_title")
    await reza.button("settlement.apply", count=figures.number(1, language)).dblclick()
    await reza.sees("settlement.resolved", count=figures.number(1, language), by="\u2068reza\u2069")
    row = shop.line.attempts()[4]
    assert (row["state"], row["resolution"], row["ref_id"]) == ("resolved", "paid", cut.ref_id)


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


@PLACES
async def test_figures(shop, language, size):
    """Today's sums are the journal's; another period has its own; a figure's table opens beneath the picture."""
    await open_day(shop.line)
    reza = await shop.person("reza", language=language, size=size)
    await reza.open("/today")
    tile = reza.page.locator(".tile").filter(has_text=reza.say("today.paid_rials"))
    assert await tile.locator("b").inner_text() == figures.money(125_000 * 6, language)
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
