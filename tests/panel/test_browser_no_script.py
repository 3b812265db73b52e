"""The panel in a browser that runs no script: everything that money hangs on works."""

import asyncio

import pytest
from line import CARD, until
from panel import crowd
from panel.browser import PHONE

from ivr_agi.simulator.outcomes import Outcome, Rule

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_payment_without_script(shop):
    """In; a button clicked again while it works; a PIN too short; "please wait" that refreshes itself; paid; out again."""
    sara = await shop.person(size=PHONE, java_script_enabled=False)
    await sara.sign_in("sara")
    await sara.reads("charge.title")
    await sara.fill_in("A-1", "50000", "09123456789", CARD)
    sent = asyncio.Event()
    shop.gateway.rules.append(Rule(Outcome(wait=sent), service="otp-v2"))
    middle = await sara.middle_of(sara.button("charge.begin"))
    await sara.page.mouse.click(*middle)
    await until(lambda: shop.gateway.requests)
    async with sara.page.expect_request("**/charge"):
        await sara.page.mouse.click(*middle)
    sent.set()
    await sara.sees("charge.pin_lead")
    await sara.pay("123")
    await sara.page.locator("#pin-error").wait_for()
    await sara.labelled("charge.pin").fill(shop.office.pin())
    await sara.page.get_by_role("button", name=sara.say("charge.pay", money="")).dblclick()
    await sara.reads("charge.paid_title")
    assert shop.line.services() == ["otp-v2", "pay"]
    await sara.page.get_by_text(sara.say("base.menu"), exact=True).click()
    await sara.button("base.sign_out").click()
    await sara.reads("entrance.title")


async def test_found_and_resolved_without_script(shop):
    """A payment in doubt is searched for, opened, and settled in two steps."""
    crowd.add(shop.line.journal, {"order_id": "F-1"}, {"order_id": "F-2", "state": "unknown"})
    reza = await shop.person("reza", language="en", java_script_enabled=False)
    await reza.open("/payments")
    await reza.labelled("payments.field_order").fill("F-2")
    await reza.button("payments.search").click()
    await reza.sees("payments.shown_one")
    await reza.page.get_by_role("cell").get_by_role("link").first.click()
    await reza.link("payments.see_review").click()
    await reza.page.get_by_role("link", name=reza.say("review.resolve")).click()
    await reza.labelled("review.verdict").select_option("not-paid")
    await reza.labelled("review.evidence").fill("The bank, by phone")
    await reza.button("review.next").click()
    await reza.button("review.confirm_not-paid").click()
    await reza.sees("review.done_not-paid")
    assert [row["resolution"] for row in shop.line.attempts()] == ["", "not-paid"]
