"""Symptoms of docs/troubleshooting.md that only a real Asterisk shows, and that no other test has."""

from __future__ import annotations

import wave

import pytest
from robot import Call
from scripted import scripted
from serving import SEQUENCE, PaymentServer

pytestmark = pytest.mark.asterisk

LINE = "s@ivr-agi"


async def test_missing_persian_clip_is_played_in_english(asterisk):
    """The clip is missing in Persian only: he hears the English one, and nobody is told."""
    english = asterisk.sounds / "en/ivr-agi/goodbye.wav"
    persian = asterisk.sounds / "fa/ivr-agi/goodbye.wav"
    away = persian.with_suffix(".away")
    with wave.open(str(english)) as clip:
        length = clip.getnframes()
    answers = []

    async def script(agi):
        await agi.ask("SET VARIABLE CHANNEL(language) fa")
        answers.append(await agi.ask('STREAM FILE "ivr-agi/goodbye" ""'))

    persian.rename(away)
    try:
        async with scripted(script) as url, Call(asterisk, "s@shop", variables={"IVR_AGI_URL": url}) as call:
            await call.ended()
    finally:
        away.rename(persian)

    code, _, endpos = answers[0].partition(" endpos=")
    assert code == "200 result=0"
    assert length - 160 <= int(endpos) <= length  # its last frame, of 20 ms, may be cut


async def test_server_that_does_not_know_this_asterisk(asterisk, gateway, tmp_path):
    """Asterisk's address is not among ALLOWED_PEERS: he hears "out of order", and the server's log says why."""
    async with PaymentServer(tmp_path, gateway.url, SEQUENCE, allowed_peers="10.0.0.0/8") as server:
        async with Call(asterisk, LINE, variables={"IVR_AGI_URL": server.url, "AMOUNT": "50000"}) as call:
            record = await call.ended()
        (told,) = server.logged("peer.refused")

    assert record.prompts == ["out-of-order", "goodbye"]
    assert (record.at_h["PAYSTATUS"], record.at_h["PAYID"]) == ("", "")
    assert told["peer"] == "127.0.0.1"
    assert "IVR_AGI_ALLOWED_PEERS" in told["cure"]


async def test_own_h_is_not_run_while_paying(asterisk, server):
    """He hangs up in the middle of the subroutine: `h` of the context that called it is not run, ours is, once."""
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": "A-1"}
    async with Call(asterisk, "s@shop-with-h", variables=variables, hang_up_at="confirm-amount") as call:
        record = await call.ended()

    assert record.ran("h", "NoOp") == [""]  # the end of ours
    assert [line.split(" order")[0] for line in record.ran("h", "Log")] == ["NOTICE,ivr-agi HANGUP"]


async def test_server_that_hangs_is_left_by_the_time_limit(asterisk):
    """The server accepts the call and says nothing: a time limit in front of AGI() is all that ends it."""
    lines = []

    async def hang(agi):
        lines.append(await agi.line())

    async with scripted(hang) as url, Call(asterisk, "s@patient", variables={"IVR_AGI_URL": url}) as call:
        record = await call.ended()

    assert lines == ["HANGUP"]
    assert record.ran("s", "AGI") == [url]
