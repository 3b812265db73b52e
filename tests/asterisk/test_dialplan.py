"""The shipped dialplan against servers of every kind: each outcome has its branch, silence is `lost`."""

from __future__ import annotations

import asyncio

import pytest
from robot import Call
from scripted import scripted

from ivr_agi.model import PayStatus

pytestmark = pytest.mark.asterisk

VARIABLES = {"AMOUNT": "50000", "ORDER": "A-1"}


async def ended_with(asterisk, url, **more):
    """Make a call to the whole-call context and return its record."""
    async with Call(asterisk, "s@ivr-agi", variables={"IVR_AGI_URL": url, **VARIABLES}, **more) as call:
        return await call.ended()


async def test_each_status_has_its_branch(asterisk):
    """Whatever the server says, the merchant's `h` gets to the line of that outcome, and to no other."""

    async def one(status):
        async def tell(agi):
            await agi.ask(f'SET VARIABLE PAYSTATUS "{status}"')

        async with scripted(tell) as url:
            return await ended_with(asterisk, url)

    records = await asyncio.gather(*map(one, PayStatus))
    for status, record in zip(PayStatus, records, strict=True):
        (logged,) = record.ran("h", "Log")
        assert logged.partition(",")[2].startswith(f"ivr-agi {status} order A-1")
        assert "Playback" not in [step.application for step in record.steps]


@pytest.mark.parametrize("status", ["", "PAIDISH", "paid"])
async def test_no_status_or_a_strange_one_is_lost(asterisk, status):
    """The server lets go without a word that the dialplan knows: never a success, never a failure."""

    async def tell(agi):
        await agi.ask(f'SET VARIABLE PAYSTATUS "{status}"')

    async with scripted(tell) as url:
        record = await ended_with(asterisk, url, hang_up_at="unknown")

    (logged,) = record.ran("h", "Log")
    assert logged == f'ERROR,ivr-agi lost order A-1 status "{status}" may have been charged'


async def test_agistatus_lies_both_ways(asterisk):
    """SUCCESS when the server was cut off, FAILURE when a clip was missing in a call that was paid."""

    async def cut_off(_agi):
        pass

    async def paid_without_a_clip(agi):
        await agi.ask('STREAM FILE "ivr-agi/no-such-clip" ""')
        await agi.ask('SET VARIABLE PAYSTATUS "PAID"')

    async with scripted(cut_off) as url:
        assert (await ended_with(asterisk, url, hang_up_at="unknown")).at_h["AGISTATUS"] == "SUCCESS"
    async with scripted(paid_without_a_clip) as url:
        record = await ended_with(asterisk, url)
    assert (record.at_h["AGISTATUS"], record.at_h["PAYSTATUS"]) == ("FAILURE", "PAID")
    assert record.ran("h", "Log")[0].startswith("NOTICE,ivr-agi PAID")
