"""The door, the frame, and the small pages of the panel, in a real browser."""

import asyncio

import pytest
from line import CARD, Thinking, until
from panel.browser import PHONE
from panel.office import PASSWORD

from ivr_agi.panel.guard import SESSION_COOKIE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_in_and_out(shop):
    """A wrong password is said; the right one leads in; the way out ends the session, also for a copy of the cookie."""
    sara = await shop.person(size=PHONE)
    await sara.sign_in("sara", "not the password 1")
    await sara.sees("entrance.wrong")
    assert await sara.labelled("entrance.name").input_value() == "sara"
    assert await sara.labelled("entrance.password").input_value() == ""
    await sara.labelled("entrance.password").fill(PASSWORD)
    await sara.button("entrance.sign_in").click()
    await sara.reads("charge.title")
    (copy,) = [each for each in await sara.context.cookies() if each["name"] == SESSION_COOKIE]
    await sara.page.get_by_text(sara.say("base.menu"), exact=True).click()
    await sara.button("base.sign_out").click()
    await sara.reads("entrance.title")
    await sara.context.add_cookies([copy])
    await sara.open("/charge")
    await sara.reads("entrance.title")


async def test_language(shop):
    """The switch turns the page round where one is, and stays."""
    mina = await shop.person("mina")
    await mina.open("/audit")
    for language in ("en", "fa"):
        await mina.button("base.other_language").click()
        mina.language = language
        await mina.reads("audit.title")
        assert await mina.page.locator("html").evaluate("it => [it.lang, it.dir]") == [
            language,
            {"fa": "rtl", "en": "ltr"}[language],
        ]
    await mina.open("/live")
    await mina.reads("live.title")


async def test_not_for_this_role(shop):
    """What an operator may not do is not in the navigation, and its address leads to a page that says so."""
    sara = await shop.person("sara")
    got = await sara.open("/audit")
    assert got.status == 403
    await sara.sees("trouble.role")
    assert await sara.page.get_by_role("link", name=sara.say("audit.section")).count() == 0
    await sara.link("trouble.home").click()
    await sara.reads("charge.title")


async def test_signed_out_meanwhile(shop):
    """A form of somebody whose session is over is refused, with the way back in; nothing is sent."""
    sara = await shop.person("sara")
    await sara.open("/charge")
    await sara.fill_in("A-1", "50000", "09123456789", CARD)
    await sara.context.clear_cookies()
    await sara.button("charge.begin").click()
    await sara.sees("trouble.signed_out")
    assert shop.gateway.requests == []


# -- calls in progress --------------------------------------------------------------------------------------


async def test_live_calls(shop):
    """A call comes, is asked for its card, and goes: the page shows each by itself, with masks only."""
    reza = await shop.person("reza", size=PHONE)
    await reza.open("/live")
    await reza.sees("live.none")
    pin = Thinking("")
    channel = await shop.line.dial(shop.line.buyer(enter_pin=pin), "amount=50000&order_id=L-1")
    calling = asyncio.create_task(channel.run())
    await pin.asked.wait()
    await reza.page.get_by_role("cell", name="L-1").wait_for()
    await reza.page.get_by_text(reza.say("live.state_pin"), exact=True).first.wait_for()
    shown = await reza.page.content()
    assert CARD not in shown
    assert "9123456789" not in shown
    channel.hang_up()
    pin.go_on.set()
    await calling
    await reza.sees("live.none")
    await until(lambda: shop.office.panel.watchers.count == 1)


# -- who did what -------------------------------------------------------------------------------------------


async def test_audit_log(shop):
    """Who signed in and who began a payment stands there, with the address; the payment is linked."""
    sara, mina = await shop.person("sara"), await shop.person("mina", language="en")
    await sara.begin()
    await sara.sees("charge.pin_lead")
    await mina.open("/audit")
    row = mina.page.get_by_role("row").filter(has_text=mina.say("audit.action_charge"))
    assert await row.get_by_text("sara", exact=True).count() == 1
    assert await row.get_by_text("127.0.0.1", exact=True).count() == 1
    (attempt,) = shop.line.attempts()
    assert (await row.get_by_role("link").get_attribute("href")).endswith(f"/payments/{attempt['id']}")
