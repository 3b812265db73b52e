"""A payment taken at the desk, in a real browser: once, whatever is clicked, and shown as it is."""

import asyncio

import pytest
from line import CARD, sample_card, until
from panel.browser import PHONE
from panel.looking import Look

from ivr_agi.panel import figures
from ivr_agi.simulator.outcomes import Outcome, Rule

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_paid(shop):
    """Order, amount, mobile, card; the PIN; paid: the page has the tracking number of the one charge."""
    sara = await shop.person("sara", language="en")
    await sara.begin()
    await sara.sees("charge.pin_lead")
    await sara.pay(shop.office.pin())
    await sara.reads("charge.paid_title")
    (charge,) = shop.gateway.charges
    assert await sara.page.locator(".tile b").inner_text() == charge.ref_id


async def test_paid_in_persian(shop):
    """Whoever types Persian digits, blanks and commas, on a phone, pays as well; the amount is said in toman, too."""
    sara = await shop.person("sara", size=PHONE)
    await sara.open("/charge")
    await sara.fill_in("A-1", "۵۰٬۰۰۰", "۰۹۱۲۳۴۵۶۷۸۹", "۶۰۳۷ ۹۹۱۲ ۳۴۵۶ ۷۸۹۳")
    await sara.sees("charge.toman", toman="۵٬۰۰۰")
    await sara.button("charge.begin").click()
    await sara.sees("charge.pin_lead")
    look = Look(sara)
    await look.at_this("PIN")
    await sara.pay(shop.office.pin().translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")))
    await sara.reads("charge.paid_title")
    await look.at_this("paid")
    look.is_well()
    (charge,) = shop.gateway.charges
    assert await sara.page.locator(".tile b").inner_text() == figures.digits(charge.ref_id, "fa")


async def test_declined_then_another_card(shop):
    """51: said as such; "another card" has the order, not the card; the second card pays."""
    poor = sample_card("51")
    sara = await shop.person("sara", language="en")
    await sara.begin(card=poor)
    await sara.pay(shop.office.pin(poor))
    await sara.reads("charge.declined_title")
    await sara.sees("charge.next_new_card")
    await sara.link("charge.another_card").click()
    await sara.reads("charge.title")
    assert await sara.labelled("charge.order_id").input_value() == "A-1"
    assert await sara.labelled("charge.card").input_value() == ""
    await sara.labelled("charge.card").fill(CARD)
    await sara.button("charge.begin").click()
    await sara.pay(shop.office.pin())
    await sara.reads("charge.paid_title")
    assert [row["state"] for row in shop.line.attempts()] == ["declined", "paid"]


async def test_wrong_pin_then_a_new_one(shop_with):
    """A wrong PIN: a new one may be had, but only after the cool-down; with that it is paid."""
    shop = await shop_with(otp_cooldown=2.0)
    sara = await shop.person("sara")
    await sara.begin()
    first = shop.office.pin()
    assert await sara.button("charge.resend").is_disabled()
    await sara.pay("000000" if first != "000000" else "111111")
    await sara.reads("charge.declined_title")
    await sara.sees("charge.next_new_pin")
    await Look(sara).at_one("declined")
    await sara.button("charge.resend").click()  # waits until it may be pressed
    await sara.reads("charge.pin_title")
    assert shop.office.pin() != first
    assert await sara.labelled("charge.pin").input_value() == ""
    await sara.pay(shop.office.pin())
    await sara.reads("charge.paid_title")
    assert len(shop.gateway.charges) == 1


async def test_unknown(shop):
    """Charged, and the answer was cut: never "not paid", but what is to be done; and the order is held."""
    cut = sample_card("cut")
    sara = await shop.person("sara")
    await sara.begin(card=cut)
    await sara.pay(shop.office.pin(cut))
    await sara.reads("charge.unknown_title")
    await sara.sees("charge.unknown_do_1")
    await Look(sara).at_one("unknown")
    await sara.begin()
    await sara.sees("charge.refused_under-review")
    assert len(shop.gateway.charges) == 1


async def test_cancelled(shop):
    """Let go of before the PIN: nothing is charged, and the order is free."""
    sara = await shop.person("sara")
    await sara.begin()
    await sara.button("charge.cancel").click()
    await sara.reads("charge.cancelled_title")
    await sara.sees("charge.refused_sale")
    (row,) = shop.line.attempts()
    assert (row["state"], row["holds_order"]) == ("failed", False)


async def test_what_is_wrong_with_a_form(shop):
    """Each field says what is wrong with it; the rest stays; the card number never comes back."""
    sara = await shop.person("sara", language="en")
    await sara.open("/charge")
    await sara.fill_in("A-1", "5", "12345", "6037991234567890")
    await sara.button("charge.begin").click()
    await sara.sees("charge.bad_mobile")
    await sara.sees("charge.bad_card")
    await Look(sara).at_one("a form with faults")
    assert await sara.labelled("charge.amount").get_attribute("aria-invalid") == "true"
    assert await sara.labelled("charge.order_id").input_value() == "A-1"
    assert await sara.labelled("charge.card").input_value() == ""
    assert shop.gateway.requests == []


# -- once, whatever is clicked ------------------------------------------------------------------------------


async def test_clicked_twice(shop):
    """A second click while the PIN is being sent sends nothing; a double click on "pay" charges once."""
    sent = asyncio.Event()
    shop.gateway.rules.append(Rule(Outcome(wait=sent), service="otp-v2"))
    sara = await shop.person("sara")
    posted = []
    sara.page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    await sara.open("/charge")
    await sara.fill_in("A-1", "50000", "09123456789", CARD)
    middle = await sara.middle_of(sara.button("charge.begin"))
    await sara.page.mouse.click(*middle)
    await until(lambda: shop.gateway.requests)
    await sara.page.mouse.click(*middle)
    sent.set()
    await sara.reads("charge.pin_title")
    assert len(posted) == 1
    await sara.labelled("charge.pin").fill(shop.office.pin())
    await sara.page.get_by_role("button", name=sara.say("charge.pay", money="")).dblclick()
    await sara.reads("charge.paid_title")
    assert shop.line.services() == ["otp-v2", "pay"]
    assert len(shop.gateway.charges) == 1


async def test_reloaded_at_each_step(shop):
    """F5 on the form, at the PIN, while the bank is asked and after: one PIN, one charge."""
    answered = asyncio.Event()
    shop.gateway.rules.append(Rule(Outcome(wait=answered), service="pay"))
    sara = await shop.person("sara")
    await sara.begin()
    for _ in range(2):
        await sara.page.reload()
        await sara.reads("charge.pin_title")
    await sara.pay(shop.office.pin())
    await sara.reads("charge.paying_title")
    await sara.page.reload()
    await sara.reads("charge.paying_title")
    answered.set()
    await sara.reads("charge.paid_title")
    await sara.page.reload()
    await sara.reads("charge.paid_title")
    assert shop.line.services() == ["otp-v2", "pay"]


async def test_back_after_paid(shop):
    """Back to the PIN, and to the form sent anew: it stays at one charge, and no page has card or PIN."""
    sara = await shop.person("sara")
    await sara.begin()
    pin = shop.office.pin()
    await sara.pay(pin)
    await sara.reads("charge.paid_title")
    for turn in (sara.page.go_back, sara.page.go_back, sara.page.go_forward, sara.page.go_forward):
        await turn()
        await sara.heading.wait_for()
        filled = await sara.page.locator("input:not([type=hidden])").evaluate_all(
            "all => all.map((each) => each.value)"
        )
        assert CARD not in filled
        assert pin not in filled
        assert CARD not in await sara.page.content()
    assert shop.line.services() == ["otp-v2", "pay"]


async def test_two_operators_at_one_order(shop):
    """At the same moment: one has it, the other is told; one charge."""
    sara, omid = [await shop.person(name) for name in ("sara", "omid")]
    for person in (sara, omid):
        await person.open("/charge")
        await person.fill_in("A-1", "50000", "09123456789", CARD)
    await asyncio.gather(*[person.button("charge.begin").click() for person in (sara, omid)])
    await asyncio.gather(*[person.heading.wait_for() for person in (sara, omid)])
    await until(lambda: shop.line.services() == ["otp-v2"])
    has, has_not = (sara, omid) if "/charge/" in sara.page.url else (omid, sara)
    await has_not.sees("charge.refused_order-busy")
    await has.pay(shop.office.pin())
    await has.reads("charge.paid_title")
    await has_not.labelled("charge.card").fill(CARD)
    await has_not.button("charge.begin").click()
    await has_not.sees("charge.refused_already-paid")
    assert len(shop.gateway.charges) == 1
