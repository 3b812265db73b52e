"""What Asterisk really writes on an AGI connection: the facts that `ivr_agi/agi.py` is built on."""

from __future__ import annotations

import pytest
from robot import Call
from scripted import scripted

pytestmark = pytest.mark.asterisk

DEAD = "511 Command Not Permitted on a dead channel or intercept routine"


async def said(asterisk, script, keys=None, **more):
    """Run a script against one call; returns what became of the call."""
    async with (
        scripted(script) as url,
        Call(asterisk, "s@shop", keys, variables={"IVR_AGI_URL": url}, **more) as call,
    ):
        return await call.ended()


async def test_hang_up_during_a_question(asterisk):
    """The answer comes first, then HANGUP; from then on only variables can be set, and `h` sees them."""
    lines = []

    async def script(agi):
        lines.append(await agi.ask('GET DATA "ivr-agi/enter-card" 5000 16'))
        lines.append(await agi.line())
        lines.append(await agi.ask("CHANNEL STATUS"))
        lines.append(await agi.ask('GET DATA "ivr-agi/enter-card" 5000 16'))
        lines.append(await agi.ask('SET VARIABLE PAYSTATUS "HANGUP"'))

    record = await said(asterisk, script, hang_up_at="enter-card")
    assert lines == ["200 result=-1", "HANGUP", DEAD, DEAD, "200 result=1"]
    assert record.at_h["PAYSTATUS"] == "HANGUP"


async def test_hang_up_during_music(asterisk):
    """A bare HANGUP comes while nothing is being asked."""
    lines = []

    async def script(agi):
        lines.append(await agi.ask("SET MUSIC ON ivr-agi"))
        lines.append(await agi.ask('NOOP "ivr-agi/now"'))
        lines.append(await agi.line())
        lines.append(await agi.ask("SET MUSIC OFF"))

    record = await said(asterisk, script, hang_up_at="now")
    assert lines == ["200 result=0", "200 result=0", "HANGUP", DEAD]
    assert record.music == ["ivr-agi"]


async def test_missing_sound_and_missing_music(asterisk):
    """A missing clip is -1 with the channel up (6); missing music is answered like music."""
    lines = []

    async def script(agi):
        lines.append(await agi.ask('GET DATA "ivr-agi/no-such-clip" 500 1'))
        lines.append(await agi.ask("CHANNEL STATUS"))
        lines.append(await agi.ask('STREAM FILE "ivr-agi/no-such-clip" ""'))
        lines.append(await agi.ask("SET MUSIC ON no-such-class"))

    record = await said(asterisk, script)
    assert lines == ["200 result=-1", "200 result=6", "200 result=-1 endpos=0", "200 result=0"]
    assert record.music == []


async def test_no_digit_is_lost_between_a_message_and_its_question(asterisk):
    """He keys through a message into the question: its key interrupts, the rest is collected."""
    lines = []

    async def script(agi):
        lines.append(await agi.ask('STREAM FILE "ivr-agi/welcome" "0123456789*#"'))
        lines.append(await agi.ask('GET DATA "ivr-agi/silence" 2000 15'))

    await said(asterisk, script, {"welcome": "6037991234567893"})
    assert lines[0].startswith("200 result=54 ")  # ASCII of "6"
    assert lines[1] == "200 result=037991234567893"


async def test_ends_of_a_question(asterisk):
    """`#` ends it and is not told, `*` is a digit, time running out is noted."""
    lines = []

    async def script(agi):
        lines.append(await agi.ask('GET DATA "ivr-agi/enter-pin" 500 16'))
        lines.append(await agi.ask('GET DATA "ivr-agi/enter-card" 500 16'))
        lines.append(await agi.ask('GET DATA "ivr-agi/silence" 500 16'))

    await said(asterisk, script, {"enter-pin": "12*3#", "enter-card": "45"})
    assert lines == ["200 result=12*3", "200 result=45 (timeout)", "200 result= (timeout)"]
