"""Our own bugs: each function that a paid call runs through raises once; no secret shows, and no charge is denied.

The call has a wrong card, a wrong PIN and a decline in it before it is paid. `CANARY=all` raises in each
function as it is entered and as it returns, with messages of both kinds; else a part of these.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import pytest
from canaries import CARD, CARD_KEY, PIN, TOKEN, search, spoken
from line import open_line
from raising import Saboteur, recorded
from served import NO_LIMITS

from ivr_agi import journal, logs, payments
from ivr_agi.cardhash import CardHash
from ivr_agi.journal import writer
from ivr_agi.model import Secret
from ivr_agi.simulator.gateway import Outcome, Rule

EVERY = os.environ.get("CANARY") == "all"
# `calls` is what the test itself asks, to see the end. What raises in `add_done_callback` (two assignments) leaves a
# task that asyncio never wakes again: it asks a future for that, and has no way on when it gets an exception.
UNTOUCHED = (".calls", ".add_done_callback")
# What a bug leaves behind, beside the log: coroutines that nobody awaits, a thread that has ended.
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.timeout(600 if EVERY else 120),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """A journal whose thread has ended by a bug is not waited for as long as a slow disk."""
    for module in (journal, writer):
        monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(payments, "LAST_TRIES", 0.2)
    monkeypatch.setattr(payments, "CALLER_WAITS", 0.5)


@asynccontextmanager
async def opened(folder):
    """A line whose gateway always sends the canary for a PIN, and whose journal has the card's keyed hash."""
    folder.mkdir()
    async with open_line(folder, tries=3, call_limit=60, late_limit=0, token=TOKEN, **NO_LIMITS) as line:
        line.payments._card_hash = CardHash([Secret(CARD_KEY)])
        issue = line.gateway._otp

        def canary(fields, order_id, outcome):
            answer = issue(fields, order_id, outcome)
            for issued in line.gateway._issued.values():
                issued.pin = PIN
            return answer

        line.gateway._otp = canary
        yield line


async def troubled_call(line, order, *, declined=True, within=1.5):
    """One call that is paid after a wrong card, a PIN that is too short, and a decline; what the dialplan was told."""
    line.gateway.rules[:] = [Rule(Outcome(code="55"), service="pay", times=1)] if declined else []
    script = line.buyer(enter_card=[f"{CARD[:-1]}1", CARD], enter_pin=["1234#", f"{PIN}#", f"{PIN}#"])
    channel = await line.dial(script, f"token={TOKEN}&amount=50000&order_id={order}")
    over = False
    with suppress(TimeoutError):  # a bug may leave a caller without an answer, or a call counted for ever
        async with asyncio.timeout(within):
            await channel.run()
            while line.server.calls:
                await asyncio.sleep(0.001)
            over = True
    return channel, over


async def functions(folder, shows=lambda _arguments: True):
    """The functions that such a call runs through, by name; those whose arguments `shows` takes for a leak."""
    with recorded(shows) as found:
        async with opened(folder) as line:
            found.clear()
            channel, _ = await troubled_call(line, "A-1", within=60)  # nothing is broken in this one
            assert channel.variables["PAYSTATUS"] == "PAID"
            return {name: code for name, code in found.items() if not name.endswith(UNTOUCHED)}


async def sabotage(tmp_path, capfd, found, at, *, careless):
    """Raise in each of these; returns name -> what is wrong, and the names of those that raised."""
    logs.configure("DEBUG", "json")
    wrong, raised, left = defaultdict(list), set(), list(found.items())
    while left:
        saboteur = Saboteur(at, careless=careless)
        with saboteur.lurking():
            async with opened(tmp_path / f"{at}-{len(left)}") as line:
                fit = True
                while left and fit:
                    name, code = left.pop(0)
                    saboteur.aim(code)
                    # A bug strikes the first time: where money is looked at, that is the `pay` that charges.
                    channel, over = await troubled_call(line, f"B-{len(left)}", declined=careless)
                    saboteur.armed = False
                    raised |= {name} if saboteur.thread else set()
                    # A thread that it has struck is no longer traced: the journal's need a new line.
                    fit = over and saboteur.thread in (None, threading.current_thread())
                    wrong[name] += judged(line, f"B-{len(left)}", channel)
                    wrong[name] += [f"log: {leak}" for leak in search(capfd.readouterr().err)]
    return {name: complaints for name, complaints in wrong.items() if complaints}, raised


def judged(line, order, channel):
    """What is wrong with what came of a call: a charge that was denied, a secret told."""
    told = channel.variables
    status, charges = told.get("PAYSTATUS", ""), [c for c in line.gateway.charges if c.order_id == order]
    if len(charges) > 1:
        yield f"charged {len(charges)} times"
    if status == "PAID" and not charges:
        yield "PAID, and not charged"
    if charges and status not in ("PAID", "UNKNOWN") and (status or not told.get("PAYID")):
        yield f"charged, and told {status!r}, PAYID {told.get('PAYID')!r}"
    with suppress(journal.JournalError):
        rows = line.journal.attempts(order_id=order)
        states = {str(row["state"]) for row in rows}
        if charges and not states & {"paid", "unknown", "sent"}:
            yield f"charged, and in the journal {states}"
        yield from (f"journal: {leak}" for leak in search(repr(rows)))
    yield from (f"told: {leak}" for leak in search(repr(told) + spoken(channel.commands)))


def part(found, step):
    """All of them, or each so-manieth."""
    return found if EVERY else dict(list(found.items())[::step])


@pytest.mark.parametrize("at", ["entry", "exit"])
async def test_a_bug_in_each_function(tmp_path, capfd, at):
    """The message has no secret, the frames have: none shows, and whoever was charged is not told otherwise."""
    found = await functions(tmp_path / "first")
    assert len(found) > 150
    tried = part(found, 8)
    wrong, raised = await sabotage(tmp_path, capfd, tried, at, careless=False)
    assert not wrong
    assert len(raised) > 0.8 * len(tried)  # the rest run as generators, or end otherwise than by a return


# Where a secret is a plain text among a function's arguments: as it comes off the wire, and where it gets its mask.
PLAIN = {
    "agi.Wire.data_received",
    "agi.parse_environment",
    "door.Door.opens",
    "model.Keys.__new__",
    "model.ascii_digits",
    "request._pairs",
    "request.read_request",
}


async def test_arguments_show_masks(tmp_path):
    """In all calls of all functions, repr and str of each argument: masks, and no digits, but in PLAIN."""
    assert set(await functions(tmp_path / "first", search)) == PLAIN


async def test_a_careless_bug_in_each_function(tmp_path, capfd):
    """The message has each argument of the function: none of it shows in the log, but of PLAIN's."""
    found = await functions(tmp_path / "first")
    tried = part(found, 4)
    wrong, raised = await sabotage(tmp_path, capfd, tried, "entry", careless=True)
    assert len(raised) > 0.9 * len(tried)
    assert {name: leaks for name, leaks in wrong.items() if name not in PLAIN} == {}


async def test_the_bugs_canary_sings(tmp_path, capfd):
    """The control: a message with the PIN in it, out of a function of ours, is found in the log."""
    found = await functions(tmp_path / "first")
    tried = {"planted": found["session.Payment.submit"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raising.told", lambda _frame: f"planted {PIN}")
        wrong, raised = await sabotage(tmp_path, capfd, tried, "entry", careless=True)
    assert raised == {"planted"}
    assert wrong == {"planted": ["log: PIN, plain"]}
