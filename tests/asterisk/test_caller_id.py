"""The caller ID in each form that Iranian trunks deliver it: the bank is told the mobile, or he is asked for it."""

from __future__ import annotations

import asyncio

import pytest
from robot import Call

from ivr_agi.simulator.gateway import sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")
MOBILE = "+989123456789"
FORMS = [
    "09123456789",
    "9123456789",
    "989123456789",
    "%2B989123456789",
    "00989123456789",
    "2109123456789",
    "21989123456789",
    "0000989123456789",
]
NO_MOBILE = [
    "",
    "anonymous",
    "02188776655",
    "2188776655",
    "%2B4915112345678",
    "0912345",
    "x%22%5C%2409123456789",
]
FORGED = [
    "09123456789%0Aagi_request: agi://127.0.0.1/pay?amount=1",  # a line that Asterisk sends, too
    "09123456789%0Aagi_arg_1: mobile=09350000000",
    "09123456789%0A%0Aresult=1",  # the end of the environment
]


async def ends(asterisk, gateway, server, says, number, **more):
    """Make a call with this caller ID, each with an order of its own; give its record."""
    keys = {"numbers/50": "1", "enter-card": CARD, "enter-pin": lambda: gateway.pins[CARD, order] + "#"}
    order = f"N-{number}"
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": order, "SAYS": says}
    async with Call(asterisk, "s@trunk-says", keys, variables=variables, **more) as call:
        return await call.ended()


async def test_mobile_in_each_form(asterisk, gateway, server):
    """09…, 9…, 989…, +98…, 0098…, 2109…: paid without being asked, the bank is told the number as +98…."""
    calls = [ends(asterisk, gateway, server, says, n, hang_up_at="paid") for n, says in enumerate(FORMS)]
    records = await asyncio.gather(*calls)
    assert [record.at_h["PAYSTATUS"] for record in records] == ["PAID"] * len(FORMS)
    assert {record.prompts.count("enter-mobile") for record in records} == {0}
    told = [request.body["merchant_cid"] for request in gateway.requests if request.service == "pay"]
    assert told == [MOBILE] * len(FORMS)


async def test_withheld_or_no_mobile(asterisk, gateway, server):
    """Withheld, a landline, a foreign number, garbage: he is asked for his mobile before the card."""
    calls = [
        ends(asterisk, gateway, server, says, n, hang_up_at="enter-mobile")
        for n, says in enumerate(NO_MOBILE)
    ]
    for record in await asyncio.gather(*calls):
        assert record.prompts[-1] == "enter-mobile"
        assert record.at_h["PAYSTATUS"] == "HANGUP"
    assert gateway.requests == []


async def test_line_break_in_the_number(asterisk, gateway, server):
    """A number with a line break forges what Asterisk tells the server: refused, nothing is asked or sent."""
    calls = [ends(asterisk, gateway, server, says, n) for n, says in enumerate(FORGED)]
    for record in await asyncio.gather(*calls):
        assert (record.at_h["PAYSTATUS"], record.at_h["PAYREASON"]) == ("REFUSED", "bad-environment")
        assert record.prompts[0] == "out-of-order"
        assert "enter-card" not in record.prompts
    assert gateway.requests == []
