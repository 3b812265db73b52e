"""The shipped dialplan against servers of every kind: each outcome has its branch, silence is `lost`."""

from __future__ import annotations

import asyncio

import pytest
from harness import free_port
from robot import Call
from scripted import scripted

from ivr_agi.model import PayStatus

pytestmark = pytest.mark.asterisk

VARIABLES = {"AMOUNT": "50000", "ORDER": "A-1"}
PERSON, BUSY = "Local/s@person/n", "Local/s@busy/n"  # of conf/extensions.conf
NOBODY = ""


async def ended_with(asterisk, url, **more):
    """Make a call to the whole-call context and return its record."""
    variables = {"IVR_AGI_URL": url, **VARIABLES, **more.pop("variables", {})}
    async with Call(asterisk, "s@ivr-agi", variables=variables, **more) as call:
        return await call.ended()


async def nothing(_agi):
    """A server that lets go at once."""


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
        # The server has said all there is to say; only who waits for a person, and none is set, hears more.
        assert record.prompts == (["goodbye"] if status is PayStatus.OPERATOR else [])


@pytest.mark.parametrize("status", ["", "PAIDISH", "paid"])
async def test_no_status_or_a_strange_one_is_lost(asterisk, status):
    """The server lets go without a word that the dialplan knows: never a success, never a failure."""

    async def tell(agi):
        await agi.ask('SET VARIABLE PAYID "7"')
        await agi.ask(f'SET VARIABLE PAYSTATUS "{status}"')

    async with scripted(tell) as url:
        record = await ended_with(asterisk, url, hang_up_at="unknown", variables={"IVR_AGI_OPERATOR": PERSON})

    assert record.prompts == ["unknown"]
    assert record.ran("s", "Dial") == []
    (logged,) = record.ran("h", "Log")
    assert logged == f'ERROR,ivr-agi lost order A-1 id 7 status "{status}" may have been charged'


@pytest.mark.parametrize(
    ("operator", "heard", "dialled"),
    [(PERSON, [], "ANSWER"), (BUSY, ["goodbye"], "BUSY"), (NOBODY, ["goodbye"], None)],
)
async def test_asked_for_a_person(asterisk, operator, heard, dialled):
    """He asks for a person and gets one; where none is set or free, a goodbye. Recorded once, either way."""

    async def tell(agi):
        await agi.ask('SET VARIABLE PAYSTATUS "OPERATOR"')

    async with scripted(tell) as url:
        record = await ended_with(asterisk, url, variables={"IVR_AGI_OPERATOR": operator})

    assert record.prompts == heard
    assert record.at_h.get("DIALSTATUS") == dialled
    (logged,) = record.ran("h", "Log")
    assert logged.startswith("NOTICE,ivr-agi OPERATOR order A-1")


@pytest.mark.parametrize(
    ("operator", "heard"), [(PERSON, ["out-of-order"]), (NOBODY, ["out-of-order", "goodbye"])]
)
async def test_refused_connection_goes_to_a_person(asterisk, operator, heard):
    """Nobody listens: no attempt can have begun, a person takes over; the record still says the worst."""
    url = f"agi://127.0.0.1:{free_port()}/pay"
    record = await ended_with(asterisk, url, variables={"IVR_AGI_OPERATOR": operator})

    assert (record.at_h["AGISTATUS"], record.at_h["PAYID"]) == ("FAILURE", "")
    assert record.prompts == heard
    assert len(record.ran("s", "Dial")) == (operator == PERSON)
    assert record.ran("h", "Log") == ['ERROR,ivr-agi lost order A-1 id  status "" may have been charged']


async def test_server_lost_before_an_attempt_goes_to_a_person(asterisk):
    """The server goes away before it tells PAYID: like a refused connection, whatever AGISTATUS says."""
    async with scripted(nothing) as url:
        record = await ended_with(asterisk, url, variables={"IVR_AGI_OPERATOR": PERSON})

    assert record.at_h["AGISTATUS"] == "SUCCESS"
    assert record.at_h["DIALSTATUS"] == "ANSWER"


@pytest.mark.parametrize(("wanted", "spoken"), [({}, "fa"), ({"IVR_AGI_LINE_LANGUAGE": "en"}, "en")])
async def test_language_of_the_line(asterisk, wanted, spoken):
    """Before the server has said a word the line speaks Persian, or what IVR_AGI_LINE_LANGUAGE says."""
    async with scripted(nothing) as url:
        record = await ended_with(asterisk, url, variables=wanted, hang_up_at="out-of-order")

    assert f"CHANNEL(language)={spoken}" in record.ran("s", "Set")


async def test_options_of_the_channel_do_not_cut_the_server_off(asterisk):
    """A dialplan has set AGIEXITONHANGUP and AGISIGHUP before: the server still learns of the hang-up, and ends its work."""
    lines = []

    async def paying(agi):
        await agi.ask("SET MUSIC ON ivr-agi")
        await agi.ask('NOOP "ivr-agi/now"')
        lines.append(await agi.line())
        lines.append(await agi.ask('SET VARIABLE PAYSTATUS "PAID"'))

    inherited = {"AGIEXITONHANGUP": "yes", "AGISIGHUP": "no"}
    async with scripted(paying) as url:
        record = await ended_with(asterisk, url, variables=inherited, hang_up_at="now")

    assert lines == ["HANGUP", "200 result=1"]
    assert record.at_h["PAYSTATUS"] == "PAID"


async def test_recordings_are_stopped_before_the_card(asterisk):
    """StopMixMonitor() is run before AGI(), and a switchboard without that application goes on."""

    async def card(agi):
        await agi.ask('SET VARIABLE PAYSTATUS "HANGUP"')

    async with scripted(card) as url:
        record = await ended_with(asterisk, url)

    applications = [step.application for step in record.steps]
    assert applications.index("TryExec") < applications.index("AGI")
    assert record.ran("s", "TryExec") == ["StopMixMonitor()"]
    assert record.at_h["TRYSTATUS"] == "SUCCESS"


async def test_nothing_of_an_earlier_payment_is_left(asterisk):
    """A second payment on one channel whose server never speaks: no old PAID, no old number."""
    old = dict.fromkeys(("PAYSTATUS", "PAYREFID", "PAYCODE", "PAYREASON", "PAYID", "PAYCARD"), "old")
    async with scripted(nothing) as url:
        record = await ended_with(asterisk, url, variables=old, hang_up_at="out-of-order")

    assert {name: record.at_h[name] for name in old} == dict.fromkeys(old, "")


async def test_agistatus_lies_both_ways(asterisk):
    """SUCCESS when the server was cut off, FAILURE when a clip was missing in a call that was paid."""

    async def paid_without_a_clip(agi):
        await agi.ask('STREAM FILE "ivr-agi/no-such-clip" ""')
        await agi.ask('SET VARIABLE PAYSTATUS "PAID"')

    async with scripted(nothing) as url:
        assert (await ended_with(asterisk, url, hang_up_at="out-of-order")).at_h["AGISTATUS"] == "SUCCESS"
    async with scripted(paid_without_a_clip) as url:
        record = await ended_with(asterisk, url)
    assert (record.at_h["AGISTATUS"], record.at_h["PAYSTATUS"]) == ("FAILURE", "PAID")
    assert record.ran("h", "Log")[0].startswith("NOTICE,ivr-agi PAID")
