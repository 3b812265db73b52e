"""What the caller hears, by its sound: the call is recorded at his ear and compared with the clips shipped."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hearing import RATE, Recording, clip
from robot import Call
from serving import SEQUENCE, PaymentServer

from ivr_agi import prompts
from ivr_agi.outcomes import DECLINES
from ivr_agi.simulator.gateway import Outcome, Rule, sample_card

pytestmark = pytest.mark.asterisk

ENOUGH = 1.5  # seconds of an interrupted prompt by which it is known
SENTENCES = {code: decline.prompt for code, decline in DECLINES.items()} | {"odd-code": "error-other"}
LONGEST = 16.0  # seconds; the last sentence and a bit


@pytest.fixture(params=prompts.LANGUAGES)
async def spoken(request, tmp_path, gateway):
    """A server for each language, and the language."""
    settings = {"language": request.param, "otp_cooldown": "0"}
    async with PaymentServer(tmp_path, gateway.url, SEQUENCE, **settings) as running:
        yield running, request.param
    print(running.output)  # noqa: T201 - shown beside a test that fails


def buyer(asterisk, gateway, server, card, order, **more):
    """A call of somebody who pays 50,000 rials with this card."""
    keys = {"enter-card": card, "enter-pin": lambda: gateway.pin_for(card) + "#", **more.pop("keys")}
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": order}
    return Call(asterisk, "s@ivr-agi", keys, variables=variables, **more)


async def test_every_word_of_a_paid_call(asterisk, gateway, spoken):
    """From welcome to goodbye he hears each clip, music while the bank is asked, and his tracking number."""
    server, language = spoken
    gateway.rules.append(Rule(Outcome(delay=1.5)))  # a bank that answers at once leaves no time for music
    keys = {"confirm-amount": "1", "repeat-reference": "2"}
    async with buyer(
        asterisk, gateway, server, sample_card("paid"), "A-1", keys=keys, thinks=ENOUGH + 0.5
    ) as call:
        record = await call.ended()

    assert record.at_h["PAYSTATUS"] == "PAID"
    recording = Recording.of(await call.recorded())
    sounds = {name: clip(name, language, ENOUGH) for name in prompts.names(language)}
    del sounds[prompts.SILENCE]
    heard = recording.heard(sounds)
    reference = [part for part in prompts.reference(gateway.charges[0].ref_id) if part != prompts.SILENCE]
    assert [one.name for one in heard] == [
        *("welcome", "amount-is", *prompts.amount(50000, language), "confirm-amount", "enter-card"),
        *("please-wait", "enter-pin", "please-wait"),
        *("paid", "tracking-number", *reference, "repeat-reference", "goodbye"),
    ]
    for waiting, after in pairwise(heard):
        if waiting.name == "please-wait":
            said = waiting.start + len(clip("please-wait", language)) / RATE
            assert after.start - said > 1
            assert recording.is_music(said, after.start)


async def test_every_code_of_the_bank_has_its_sentence(asterisk, gateway, spoken):
    """Declined with each code, and with one that nobody knows: he hears the whole sentence for it, no other."""
    server, language = spoken

    async def declined(code):
        sentence, card = SENTENCES[code], sample_card(code)
        keys = {"numbers/50": "1"}
        async with buyer(
            asterisk, gateway, server, card, f"D-{code}", keys=keys, hang_up_after=sentence
        ) as call:
            await call.ended()
        return Recording.of(await call.recorded(), last=LONGEST).names(SENTENCES.values(), language)

    heard = await asyncio.gather(*map(declined, SENTENCES))
    assert dict(zip(SENTENCES, heard, strict=True)) == {code: [name] for code, name in SENTENCES.items()}
    assert gateway.charges == []
