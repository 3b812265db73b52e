"""Where two rules meet: a cookie under https, a server that stops, a card for a day, an id of thousands of digits."""

import asyncio
import re

import pytest
from line import CARD, until
from panel.office import open_office

from ivr_agi.panel import desk as desks
from ivr_agi.simulator.gateway import Outcome, Rule


async def test_language_under_https(tmp_path):
    """The switch is remembered behind a proxy, too: the cookie is read by the name under which it was set."""
    async with open_office(tmp_path, panel_url="https://pay.example.com") as office:
        sara = office.browser()
        sara.client.base_url = "https://pay.example.com"
        await sara.sign_in("sara")
        got = await sara.post("/language", language="en", back="/panel/charge")
        assert '<html lang="en" dir="ltr">' in got.text


async def test_no_pin_could_be_sent_while_stopping(office):
    """The server drains while a sale opens, and its PIN is refused: nothing waits for it."""
    release = asyncio.Event()
    office.line.gateway.rules.append(Rule(Outcome(wait=release, code="80"), "otp-v2", times=1))
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    ticket = sara.hidden("ticket")
    beginning = asyncio.create_task(sara.begin(ticket=ticket))
    await until(lambda: "otp-v2" in office.line.services())
    quiet = asyncio.create_task(office.panel.quiet())
    await asyncio.sleep(0)
    release.set()
    await beginning
    await asyncio.wait_for(quiet, 5)
    assert office.panel.desk.find("sara", ticket).stage is desks.Stage.OVER
    assert office.line.attempts()[0]["state"] == "failed"


@pytest.mark.parametrize("name", ["from", "to", "period"])
async def test_a_card_as_a_day(office, name):
    """Typed into a day's field of the statistics it does not come back."""
    mina = await office.signed_in("mina")
    for card in (CARD, " ".join(re.findall("....", CARD))):
        assert card not in (await mina.client.get("/panel/today", params={name: card})).text


@pytest.mark.parametrize("path", ["/payments/{}", "/payments/{}/receipt", "/review/{}"])
async def test_an_id_of_thousands_of_digits(office, path):
    """404 for a stranger and for everybody, not an exception out of the router."""
    for who in (None, "mina"):
        browser = await office.signed_in(who) if who else office.browser()
        got = await browser.client.get("/panel" + path.format("9" * 5000))
        assert got.status_code in (303, 404)
