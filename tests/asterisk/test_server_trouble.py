"""A server that stands still in mid-call, and what bounds the time that it can hold a call.

Asterisk's own limit makes a server let go that still listens. One that is frozen hears nothing; then
Asterisk waits for it, behind the hang-up, too, until the process ends: so the watchdog must end it.
A server that is refused, or killed: test_payment_call.py.
"""

from __future__ import annotations

import asyncio

import pytest
from robot import Call
from scripted import scripted

from ivr_agi.simulator.gateway import Outcome, Rule, sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")
LIMIT = 3  # seconds
LATER = 3.0  # seconds behind the limit
STOPPED = 30.0  # seconds; what it takes at most from the watchdog's kill to the record of the call


def caller(asterisk, url, keys, limit=60):
    """A call to the payment line whose dialplan has this limit."""
    variables = {"IVR_AGI_URL": url, "AMOUNT": "50000", "ORDER": "A-1", "IVR_AGI_LIMIT": str(limit)}
    return Call(asterisk, "s@ivr-agi", {"numbers/50": "1", **keys}, variables=variables)


async def test_silent_server(asterisk):
    """The server accepts and says nothing: at the limit it is told HANGUP, lets go, and the call is lost."""
    clock = asyncio.get_running_loop().time
    lines = []

    async def silent(agi):
        began = clock()
        lines.append(await agi.line())
        assert LIMIT - 0.5 <= clock() - began <= LIMIT + LATER

    async with scripted(silent) as url, caller(asterisk, url, {}, LIMIT) as call:
        record = await call.ended()
    assert lines == ["HANGUP"]
    assert record.ran("h", "Log") == ['ERROR,ivr-agi lost order A-1 id  status "" may have been charged']


async def test_server_frozen_in_mid_call(asterisk, gateway, server):
    """It freezes at the question for the card; the watchdog kills it: out of order, and lost without an id."""
    async with caller(asterisk, server.url, {}) as call:
        await call.heard("enter-card")
        server.freeze()
        await server.kill()  # as systemd's watchdog does
        async with asyncio.timeout(STOPPED):
            record = await call.ended()
    assert record.prompts[-2:] == ["out-of-order", "goodbye"]
    assert record.ran("h", "Log") == ['ERROR,ivr-agi lost order A-1 id  status "" may have been charged']
    assert gateway.requests == []


async def test_server_frozen_while_the_bank_is_asked(asterisk, gateway, server):
    """It freezes when the bank has charged, he hangs up: held until the watchdog kills it, then lost, with its id."""
    gateway.rules.append(Rule(Outcome(wait=asyncio.Event()), service="pay"))
    keys = {"enter-card": CARD, "enter-pin": lambda: gateway.pin_for(CARD) + "#"}
    async with caller(asterisk, server.url, keys) as call:
        async with asyncio.timeout(60):
            await gateway.arrived.wait()
        server.freeze()
        await call.hang_up()
        assert call.record.at_h is None  # Asterisk waits for the server; nothing but its end ends that
        await server.kill()
        async with asyncio.timeout(STOPPED):
            record = await call.ended()
    assert record.at_h["PAYSTATUS"] == ""
    (row,) = await server.journal()
    assert record.ran("h", "Log")[0].startswith(f"ERROR,ivr-agi lost order A-1 id {row['id']} ")
