"""The callers of the torture: they pay, change their minds, hang up, and call again when they were cut off.

Each call has a caller ID of its own, so that the bank's ledger, the journal and what the caller was told can
be joined call by call. They must know nothing of the server but its address.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

import bank as banks

from ivr_agi.simulator.channel import HANG_UP, ScriptedHandset, dial

AMOUNT = 50_000
HABITS = {  # what somebody does, and how often
    "pays": 60,
    "thinks": 12,
    "mistypes-the-pin": 5,
    "asks-for-a-new-pin": 5,
    "cancels": 2,
    "keys-nothing": 2,
    "leaves-at-the-card": 3,
    "leaves-at-the-pin": 4,
    "leaves-while-paying": 10,
    "leaves-at-the-outcome": 4,
}
PLANS = {name: weight for name, (weight, _otp, _pay) in banks.PLANS.items()}
FAMILY = {1: 85, 2: 11, 3: 4}  # who call for one order at once
CALLS = 4  # that somebody makes for one order, at most


@dataclass
class Told:
    """One call: who rang, for what, and the channel's variables when it was over."""

    mobile: str
    order: str
    habit: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def status(self):
        return self.variables.get("PAYSTATUS", "")


class People:
    """Everybody who calls. server: an async function that gives the port of a server that is up.

    plans, habits: names and weights, where not everything is wanted; family: weights of 1, 2, … callers an order.
    """

    def __init__(self, bank, server, seed, *, plans=PLANS, habits=HABITS, family=FAMILY):
        self._bank, self._server = bank, server
        self._plans, self._habits, self._family = plans, habits, family
        self._rng = random.Random(seed)  # noqa: S311 - callers, no keys
        self._orders = 0
        self.calls = []
        self.going_on = True

    async def keep_calling(self, at_once):
        """So many orders under way at any time, until `going_on` is False; then the last ones end."""
        await asyncio.gather(*(self._queue() for _ in range(at_once)))

    async def _queue(self):
        while self.going_on:
            self._orders += 1
            order = f"T-{self._orders}"
            self._bank.plan(order, self._draw(self._plans))
            people = self._draw(self._family)
            await asyncio.gather(*(self.insist(order) for _ in range(people)))

    def _draw(self, weights):
        return self._rng.choices(list(weights), list(weights.values()))[0]

    async def insist(self, order):
        """Call until it is paid, or clear that it makes no sense to call again."""
        for _ in range(CALLS):
            told = await self.call(order, self._draw(self._habits))
            settled = (
                told.status in ("PAID", "CANCELLED") or told.variables.get("PAYREASON") == "already-paid"
            )
            stays_away = (
                told.status == "UNKNOWN" and self._rng.random() < 0.5
            )  # the others call, as people do
            if settled or stays_away or not self.going_on:
                return
            await self._moment()

    async def call(self, order, habit):
        """One call, to whatever end."""
        told = Told(f"+98912{len(self.calls):07}", order, habit)
        self.calls.append(told)
        line = []
        handset = ScriptedHandset(self._script(order, habit, line))
        while not line:
            with suppress(OSError):  # it has just been killed
                url = f"agi://127.0.0.1:{await self._server()}/pay?amount={AMOUNT}&order_id={order}"
                line.append(await dial(url, handset, caller_id="0" + told.mobile[3:]))
        told.variables = line[0].variables
        await line[0].run()
        return told

    async def _moment(self):
        await asyncio.sleep(self._rng.random() * 0.02)

    def _script(self, order, habit, line):
        """What somebody of this habit keys. line: has the channel, once there is one."""
        cards, rng = [], self._rng

        async def card():
            await self._moment()
            cards.append((banks.PAN, banks.OTHER_PAN)[len(cards) % 2])
            return cards[-1]

        async def pin():
            await asyncio.sleep(rng.random() * (0.3 if habit == "thinks" else 0.02))
            return self._bank.pin_of(cards[-1], order) + "#"

        async def pin_and_go():
            asyncio.get_running_loop().call_later(rng.random() * 0.15, line[0].hang_up)
            return await pin()

        script = {
            "confirm-amount": "1",
            "enter-card": [card, ...],
            "enter-pin": [pin, ...],
            "otp-failed": ["1", "2", ...],
        }
        return script | {
            "mistypes-the-pin": {"enter-pin": ["98765#", pin, ...]},
            "asks-for-a-new-pin": {"enter-pin": ["*#", pin, ...]},
            "cancels": {"confirm-amount": "2"},
            "keys-nothing": {"confirm-amount": ["", ...]},
            "leaves-at-the-card": {"enter-card": HANG_UP},
            "leaves-at-the-pin": {"enter-pin": HANG_UP},
            "leaves-while-paying": {"enter-pin": [pin_and_go, ...]},
            "leaves-at-the-outcome": {
                "paid": HANG_UP,
                "unknown": HANG_UP,
                "another-card": HANG_UP,
                "failed": HANG_UP,
            },
        }.get(habit, {})
