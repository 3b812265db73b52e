"""Keys as fingers press them: early, fast, slow, once too often, and while the server takes its time."""

from __future__ import annotations

import asyncio
import random

import pytest
from proxy import slowed
from robot import Call
from scripted import scripted

from ivr_agi.simulator.gateway import sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")
CARDS = 100
KEYED_SECONDS = 60.0
LATE = 0.3  # seconds that each command of a slow server takes


def cards(count):
    """Card numbers, the same in each run."""
    chance = random.Random(count)  # noqa: S311 - no secret
    return ["".join(chance.choices("0123456789", k=16)) for _ in range(count)]


def buyer(asterisk, gateway, url, order, card=CARD, **more):
    """A call of somebody who pays 50,000 rials with the card that these keys mean."""
    pin = lambda: gateway.pin_for(CARD) + "#"  # noqa: E731
    keys = {"confirm-amount": "1", "enter-card": card, "enter-pin": pin, **more.pop("keys", {})}
    variables = {"IVR_AGI_URL": url, "AMOUNT": "50000", "ORDER": order} | more.pop("variables", {})
    return Call(asterisk, "s@ivr-agi", keys, variables=variables, hang_up_at="paid", **more)


async def paid(call):
    """Make the call; give the prompts from the question for the card on."""
    async with call:
        record = await call.ended()
    assert record.at_h["PAYSTATUS"] == "PAID"
    return record.prompts[record.prompts.index("enter-card") :]


@pytest.mark.parametrize(("on", "off"), [(50, 50), (400, 400)], ids=["fast", "slow"])
async def test_a_hundred_cards(asterisk, on, off):
    """A hundred callers key a card each, all at once, each key so many milliseconds: not one is misread."""
    read, all_read = {}, asyncio.Event()

    async def ask(agi):
        order = (await agi.ask("GET VARIABLE ORDER")).partition("(")[2].rstrip(")")
        read[order] = await agi.ask('GET DATA "ivr-agi/enter-card" 8000 16')
        if len(read) == CARDS:
            all_read.set()

    keyed = {f"C-{number}": card for number, card in enumerate(cards(CARDS))}
    async with scripted(ask) as url, asterisk.manager(lambda _event: None) as ami:
        for order, card in keyed.items():
            of_the_line = {"IVR_AGI_URL": url, "ORDER": order}
            of_the_hand = {"KEYS": card, "GAP": str(off), "TONE": str(on)}
            await ami.action(
                "Originate",
                Channel="Local/s@shop/n",
                Context="fingers",
                Exten="s",
                Priority="1",
                Async="true",
                Variable=[f"{name}={value}" for name, value in (of_the_line | of_the_hand).items()],
            )
        async with asyncio.timeout(KEYED_SECONDS):
            await all_read.wait()
    assert read == {order: f"200 result={card}" for order, card in keyed.items()}


async def test_barge_in(asterisk, gateway, server):
    """He keys each answer a second into its prompt: all of it is taken, nothing is asked twice."""
    prompts = await paid(buyer(asterisk, gateway, server.url, "A-1", thinks=1.0))
    assert prompts == ["enter-card", "please-wait", "enter-pin", "please-wait", "paid"]


async def test_hash_and_star(asterisk, gateway, server):
    """`#` after the 16th digit is no try; `*` starts the card over, the right one keyed at once behind it."""
    habits = {"hash": CARD + "#", "star": "6037*" + CARD, "late star": CARD[:15] + "*" + CARD}
    calls = [buyer(asterisk, gateway, server.url, order, keys) for order, keys in habits.items()]
    for prompts in await asyncio.gather(*map(paid, calls)):
        assert set(prompts) - {"silence"} == {"enter-card", "please-wait", "enter-pin", "paid"}
    assert {(charge.order_id, charge.pan) for charge in gateway.charges} == {
        (order, CARD) for order in habits
    }


async def test_slow_server(asterisk, gateway, server):
    """Each command comes 300 ms late: of the amount, the card and the PIN that he keys no digit is lost."""
    async with slowed(server.url, LATE) as url:
        call = buyer(
            asterisk, gateway, url, "A-1", keys={"enter-amount": "1234567#"}, variables={"AMOUNT": ""}
        )
        prompts = await paid(call)
    assert prompts == ["enter-card", "please-wait", "enter-pin", "please-wait", "paid"]
    assert [(charge.amount, charge.pan) for charge in gateway.charges] == [(1234567, CARD)]
