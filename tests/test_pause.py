"""`ivr-agi pause` and `resume`: no new payments, and what is under way ends well."""

import asyncio

from line import CARD, Thinking, open_line
from process import Serving, ivr_agi
from prometheus_client import generate_latest

from ivr_agi import metrics
from ivr_agi.simulator.gateway import GatewaySimulator, Outcome, Rule
from ivr_agi.web import Health


async def test_calls_hear_a_sentence(line):
    """Paused: the caller is told before he keys anything, REFUSED and why; nothing is sent or written."""
    line.journal.pause("sara", "the bank's maintenance")
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("REFUSED", "paused")
    assert ended.heard == ["welcome", "paused", "try-later", "goodbye"]
    assert not line.gateway.requests
    assert not line.attempts()
    line.journal.resume()
    assert (await line.call(line.buyer())).status == "PAID"


async def test_what_is_under_way_ends_well(line):
    """Paused while one caller keys his PIN and another his card: the first pays, the second is told."""
    pin, card = Thinking(""), Thinking(CARD)
    first = asyncio.create_task(line.call(line.buyer(enter_pin=[pin])))
    second = asyncio.create_task(line.call(line.buyer(enter_card=[card]), "amount=50000&order_id=B"))
    await pin.asked.wait()
    await card.asked.wait()
    line.journal.pause("sara", "")
    pin.keys = line.pin()()
    pin.go_on.set()
    card.go_on.set()
    assert (await first).status == "PAID"
    ended = await second
    assert (ended.status, ended.reason) == ("REFUSED", "paused")
    assert line.services() == ["otp-v2", "pay"]


async def test_a_new_pin_is_under_way_too(line):
    """Paused while a caller waits for an SMS that does not come: he has a new one sent, and pays."""
    again, pin = Thinking("*#"), Thinking("")
    calling = asyncio.create_task(line.call(line.buyer(enter_pin=[again, pin])))
    await again.asked.wait()
    line.journal.pause("sara", "")
    again.go_on.set()
    await pin.asked.wait()
    pin.keys = line.pin()()
    pin.go_on.set()
    assert (await calling).status == "PAID"


async def test_payment_under_way(line):
    """Paused while the bank is asked: the answer is taken and told as ever."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    paying = asyncio.create_task(line.call(line.buyer()))
    await line.gateway.arrived.wait()
    line.journal.pause("sara", "")
    answer.set()
    assert (await paying).status == "PAID"


async def test_commands(tmp_path):
    """By the commands, on a running server; it holds across a restart; each says what is so already."""
    async with GatewaySimulator() as gateway:
        given = {"journal_url": f"sqlite:///{tmp_path / 'j.db'}", "gateway_url": gateway.url}
        async with Serving(**given) as serving:
            assert (await ivr_agi("pause", "--reason", "a fraud", **given))[0] == 0
            status, output, _ = await ivr_agi("pause", **given)
            assert status == 0
            assert output.startswith("Paused already, since 20")
            assert output.endswith(": a fraud.\n")
            assert (await serving.call(gateway))["PAYREASON"] == "paused"
        async with Serving(**given) as serving:
            assert (await serving.call(gateway))["PAYREASON"] == "paused"
            assert "Payments are taken again" in (await ivr_agi("resume", **given))[1]
            assert "There was no pause" in (await ivr_agi("resume", **given))[1]
            assert (await serving.call(gateway))["PAYSTATUS"] == "PAID"


async def test_operators_too(tmp_path):
    """`ivr-agi charge` is no way around it."""
    async with GatewaySimulator() as gateway:
        given = {
            "journal_url": f"sqlite:///{tmp_path / 'j.db'}",
            "gateway_url": gateway.url,
            "sequence": "s" * 9,
        }
        await ivr_agi(
            "charge", "--order", "A", "--amount", "5000", "--mobile", "09123456789", stdin="", **given
        )
        await ivr_agi("pause", **given)
        status, output, _ = await ivr_agi(
            "charge",
            "--order",
            "A",
            "--amount",
            "5000",
            "--mobile",
            "09123456789",
            stdin=f"{CARD}\n",
            **given,
        )
        assert status == 1
        assert output.startswith("Refused: paused.")
        assert not gateway.requests


async def test_reason_is_one_line(tmp_path):
    """A reason with control characters would forge lines where it is shown."""
    status, _, errors = await ivr_agi(
        "pause", "--reason", "a\nb", journal_url=f"sqlite:///{tmp_path / 'j.db'}"
    )
    assert status == 2
    assert "--reason" in errors


async def test_gauge(tmp_path):
    """`ivr_agi_paused` tells the watcher."""
    async with open_line(tmp_path) as line:
        for paused in (False, True):
            if paused:
                line.journal.pause("sara", "")
            await Health(line.journal, lambda: True).refresh()
            assert f"ivr_agi_paused {paused:.1f}" in generate_latest(metrics.REGISTRY).decode()
