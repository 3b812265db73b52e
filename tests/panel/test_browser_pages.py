"""Every page of the panel as people see it: in both languages, on a desk and on a phone, light and dark.

A page must fit both screens, be in its language, run nothing that its policy forbids, and have no serious fault of
accessibility by axe-core: in Persian by all rules of WCAG, in English by those that a screen's size and colours have a
say in, on the other screen.
"""

import asyncio

import pytest
from line import Thinking
from panel.browser import open_day
from panel.looking import Look
from starlette.routing import Route

from ivr_agi.panel import showing

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Pages by the route that they are of; `sale` and `settlement_result` come about below.
PAGES = {
    "login": "/login",
    "charge": "/charge",
    "payments": "/payments",
    "payment": "/payments/5",
    "receipt": "/payments/1/receipt",
    "review": "/review",
    "review_one": "/review/5",
    "settlement": "/settlement",
    "today": "/today",
    "live": "/live",
    "phone": "/phone",
    "audit": "/audit",
}
NO_PAGES = {"home", "live_events", "phone_events", "phone_sound", "payments_csv", "payments_xlsx", None}


@pytest.mark.parametrize("language", ["fa", "en"])
async def test_every_page(shop, language):
    """All of them, as the one who may see all; none is wrong in any way."""
    await open_day(shop.line)
    mina = await shop.person("mina", language=language)
    look = Look(mina)
    thinking = Thinking("")
    channel = await shop.line.dial(shop.line.buyer(enter_pin=thinking), "amount=70000&order_id=F-1407")
    calling = asyncio.create_task(channel.run())
    await thinking.asked.wait()
    for path in PAGES.values():
        if path != "/login":
            await look.at(path)
    channel.hang_up()
    thinking.go_on.set()
    await calling
    await look.at("/no-such-page")
    await look.at("/today?period=last-month")
    await look.at("/payments?order=nothing-of-this-name")
    listed = "order,amount,rrn,date,status\nF-1404,2450000,240000000002,2026-11-28,paid\nF-9,5,x,1,odd\n"
    await mina.open("/settlement")
    await mina.labelled("settlement.file").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": listed.encode()}
    )
    await mina.button("settlement.send").click()
    await mina.sees("settlement.result_title")
    await look.at_this("settlement_result")
    await mina.context.clear_cookies()
    if language != "fa":
        await mina.keep(showing.LANGUAGE_COOKIE, language)
    await look.at("/login")
    look.is_well()


async def test_no_page_is_forgotten(shop):
    """Each address that answers a GET is looked at here, or is said to be no page."""
    routes = [each for each in shop.office.panel._app.routes if isinstance(each, Route)]
    pages = {each.name for each in routes if "GET" in each.methods}
    assert pages - NO_PAGES == {*PAGES, "sale", "settlement_result"}
