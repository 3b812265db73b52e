"""The same line called over SIP: pjsip, RTP, RFC 4733 digits, BYE; the caller is SIPp."""

from __future__ import annotations

import asyncio

import pytest
from sip import SipCall, need_sipp

from ivr_agi.simulator.gateway import Outcome, Rule, sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")


@pytest.fixture(autouse=True)
def _sipp():
    need_sipp()


def caller(asterisk, gateway, server, order, card=CARD, **more):
    """A SIP call of somebody who pays 50,000 rials with this card."""
    pin = lambda: gateway.pin_for(card) + "#"  # noqa: E731
    keys = {"numbers/50": "1", "enter-card": card, "enter-pin": pin} | more.pop("keys", {})
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": order}
    return SipCall(asterisk, "s@ivr-agi", keys, variables=variables, **more)


async def test_paid_declined_and_cancelled(asterisk, gateway, server):
    """Three callers: one pays, one's card has no money, one keys 2; each merchant is told so."""
    poor = sample_card("51")
    calls = [
        caller(asterisk, gateway, server, "paid", hang_up_at="goodbye", keys={"repeat-reference": "2"}),
        caller(asterisk, gateway, server, "declined", poor, hang_up_at="another-card"),
        caller(asterisk, gateway, server, "cancelled", keys={"numbers/50": "2"}),
    ]

    async def told(call):
        async with call:
            return (await call.ended()).at_h

    paid, declined, cancelled = await asyncio.gather(*map(told, calls))
    (charge,) = gateway.charges
    assert (paid["PAYSTATUS"], paid["PAYREFID"]) == ("PAID", charge.ref_id)
    assert (charge.order_id, charge.pan, charge.amount) == ("paid", CARD, 50000)
    assert {r.body["merchant_cid"] for r in gateway.requests if r.service == "pay"} == {"+989123456789"}
    assert (declined["PAYSTATUS"], declined["PAYCODE"]) == ("DECLINED", "51")
    assert cancelled["PAYSTATUS"] == "CANCELLED"


async def test_hang_up_at_each_step(asterisk, gateway, server):
    """BYE at each question, and while the bank is asked for the PIN's SMS: nothing is charged, HANGUP."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="otp-v2", order_id="otp"))

    async def left_at(step, question):
        keys = {"numbers/50": ""} if step == "confirm" else {}
        async with caller(asterisk, gateway, server, step, hang_up_at=question, keys=keys) as call:
            if step == "otp":
                await call.heard("SET MUSIC")
                await call.hang_up()
                answer.set()
            return (await call.ended()).at_h["PAYSTATUS"]

    steps = {"confirm": "confirm-amount", "card": "enter-card", "otp": "", "pin": "enter-pin"}
    assert await asyncio.gather(*map(left_at, steps, steps.values())) == ["HANGUP"] * 4
    assert gateway.charges == []
    assert {r.body["order_id"]: r.service for r in gateway.requests} == {"otp": "otp-v2", "pin": "otp-v2"}


async def test_hang_up_while_the_bank_is_asked_to_pay(asterisk, gateway, server):
    """BYE in the music behind the PIN: the payment is carried through, and `h` is told PAID."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with caller(asterisk, gateway, server, "A-1") as call:
        async with asyncio.timeout(60):
            await gateway.arrived.wait()
        await call.hang_up()
        answer.set()
        at_h = (await call.ended()).at_h

    assert (at_h["PAYSTATUS"], at_h["PAYREFID"]) == ("PAID", gateway.charges[0].ref_id)
    assert [row["state"] for row in await server.journal()] == ["paid"]
