"""What a person at a terminal sees of a card and a PIN that he types: nothing but the mask.

The simulator is the bank and the payer's phone: an SMS shows its PIN, as it must. It is the one exception,
and the tests name it.
"""

from __future__ import annotations

import re

import pytest
from canaries import (
    CARD,
    CARD_KEY,
    KEYED,
    PIN,
    SEQUENCE,
    TOKEN,
    assert_clean,
    assert_files_clean,
    assert_found,
    search,
)
from process import Terminal, ivr_agi
from served import fix_pin, serving

from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule

CHARGE = ("charge", "--order", "A-1", "--amount", "50000", "--mobile", "09123456789")
SMS = re.compile(r"(?:رمز پویا|PIN):? *([0-9]{6})")


@pytest.fixture
async def gateway():
    async with GatewaySimulator(SEQUENCE) as simulator:
        fix_pin(simulator)
        yield simulator


def given(gateway, **also):
    return {
        "gateway_url": gateway.url, "sequence": SEQUENCE, "card_keys": CARD_KEY, "otp_cooldown": 0,
        "log_level": "DEBUG", "pay_timeout": 0.5, "late_limit": 0, **also,
    }  # fmt: skip


CHARGES = {
    "paid": (f"{CARD}\n{PIN}\n", Outcome(), 0),
    "declined": (f"{CARD}\n{PIN}\n", Outcome(code="51"), 1),
    "silence": (f"{CARD}\n{PIN}\n", Outcome(fault=Fault.SILENCE), 3),
    "no bank's": (f"{CARD[:-1]}1\n{PIN}\n", Outcome(), 1),
    "PIN too long": (f"{CARD}\n{PIN}{PIN}\n", Outcome(), 1),
    "PIN for a card": (f"{PIN}\n{CARD}\n", Outcome(), 1),
    "echo": (
        f"{CARD}\n{PIN}\n",
        Outcome(body=f'{{"status": 0, "errors": ["{CARD} {PIN} {SEQUENCE}"]}}'.encode()),
        1,
    ),
}


@pytest.mark.parametrize(("typed", "outcome", "status"), CHARGES.values(), ids=CHARGES)
async def test_charge(gateway, tmp_path, typed, outcome, status):
    """From a pipe: output, errors and the journal are clean."""
    gateway.rules.append(Rule(outcome, service="pay"))
    found, output, errors = await ivr_agi(*CHARGE, stdin=typed, **given(gateway))
    assert found == status
    assert_clean(output + errors, "charge")
    assert_files_clean(tmp_path)


async def test_charge_at_a_terminal(gateway, tmp_path):
    """Typed at a terminal: not echoed, and nothing of it comes out of the terminal's other end."""
    async with Terminal(*CHARGE, **given(gateway)) as terminal:
        await terminal.until(b"Card number (unseen): ")
        terminal.type(CARD)
        await terminal.until(b"new one): ")
        terminal.type(PIN)
        await terminal.until(b"Tracking number")
        assert await terminal.process.wait() == 0
    shown = terminal.shown
    assert_clean(shown, "the terminal")
    assert_files_clean(tmp_path)
    assert_found(shown + CARD.encode() + PIN.encode(), *KEYED)


async def test_phone(tmp_path):
    """`ivr-agi phone` shows a card masked and a PIN as dots, whatever is keyed where."""
    async with serving(tmp_path) as served:
        for keyed in (
            ["1", CARD, PIN],
            ["1", f"{CARD[:-1]}1", CARD, "1234", PIN],
            ["1", PIN, CARD, CARD, PIN],
        ):
            url = f"agi://127.0.0.1:{served.agi}/pay?token={TOKEN}&amount=50000"
            _, output, errors = await ivr_agi("phone", url, "--script", *keyed)
            assert "603799******9617" in output
            assert_clean(output + errors, "the phone", *KEYED)
            assert "•" in output


async def test_phone_hides_the_token(tmp_path):
    """The address that it dials is shown without its token."""
    async with serving(tmp_path) as served:
        url = f"agi://127.0.0.1:{served.agi}/pay?token={TOKEN}&amount=50000"
        _, output, errors = await ivr_agi("phone", url, "--script", "2")
        assert_clean(output + errors, "the phone")


async def test_demo(tmp_path):
    """`demo --script`: the card is masked; the PIN is in its SMS, the stand-in's own, and nowhere else."""
    status, output, errors = await ivr_agi(
        "demo", "--script", "--verbose", "1", CARD, "pin", TMPDIR=str(tmp_path)
    )
    assert status == 0
    pins = SMS.findall(output)
    assert len(pins) == 1
    rest = SMS.sub("", output) + errors
    assert pins[0] not in rest
    assert_clean(rest, "the demo", KEYED[0])
    assert "call.step" in errors
    assert search(output + CARD, KEYED[0])
