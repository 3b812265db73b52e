"""Payments at once through the product's own Payments, on a journal whose folder is being recorded.

`payers.py pay FOLDER SEED ROUNDS ARRANGEMENT…` pays, on one new journal for each arrangement, in FOLDER/NAME,
with its record beside it in FOLDER/NAME.record. `payers.py start FOLDER…` starts on journals that are there,
of this release or an earlier one, and records that. It runs with recorder.c loaded (recording.py). Its journals
may be looked at once the process has ended: its attempts are under way as long as it lives.

The bank is a stand-in with one rule for each order. Never more than a stand-in: whom it charges, and when a
request has reached it, is said in the record before anything else happens.
"""

import asyncio
import itertools
import sys
from pathlib import Path

import uvloop
from disk import dice
from recording import Recorder

from ivr_agi.journal import AttemptState, Journal, engine
from ivr_agi.model import Method, Msisdn, OtpAnswer, OtpVerdict, Pan, PayAnswer, Pin, Verdict
from ivr_agi.payments import Payments

S = AttemptState
CARD = Pan("6037997599457893")
PIN = Pin("12345")
MOBILE = Msisdn("+989123456789")

PAID = PayAnswer(Verdict.PAID, ref_id="123456789012")
IN_DOUBT = PayAnswer(Verdict.UNKNOWN, detail="timeout")
# What may become of one payment: the bank's answers to its requests, one after the other.
PLANS = {
    "paid": [PAID],
    "declined": [PayAnswer(Verdict.DECLINED, code="51")],
    "declined-then-paid": [PayAnswer(Verdict.DECLINED, code="55"), PAID],
    "declined-in-doubt": [PayAnswer(Verdict.DECLINED, code="94")],
    "refused-by-http": [PayAnswer(Verdict.FAILED, detail="http-422")],
    "unknown": [IN_DOUBT],
    "unknown-charged": [IN_DOUBT],
    "unknown-then-paid-late": [IN_DOUBT],
    "broken-client": [],
    "gone-before-pay": [],
    "gone-before-the-pin": [],
    "no-pin": [],
}
CHARGED = {"paid", "unknown-charged", "unknown-then-paid-late", "broken-client"}

# How a journal is kept -> what is changed of the product's own pragmas. `ours` changes nothing.
ARRANGEMENTS = {
    "ours": {},
    "full": {"journal_mode": "delete", "synchronous": 2},
    "normal": {"journal_mode": "delete", "synchronous": 1},
    "off": {"synchronous": 0},
    "posted-first": {},
}
recorder = Recorder()


class Witness(Journal):
    """The journal, and a mark in the record for each write that it has acknowledged."""

    async def reserve(self, new, **also):
        attempt = await super().reserve(new, **also)
        recorder.mark(acked=S.CREATED, attempt=attempt, order=new.order_id)
        return attempt

    async def step(self, attempt, state, note="", **also):
        await super().step(attempt, state, note, **also)
        words = {name: also[name] for name in ("ref_id", "code") if also.get(name)}
        recorder.mark(acked=state, attempt=attempt, **words)


class Hasty(Witness):
    """Breaks the order on purpose: says that `sent` is written when it is only about to be."""

    def __init__(self, url):
        super().__init__(url)
        self._writing = {}

    async def step(self, attempt, state, note="", **also):
        if state is S.SENT:
            self._writing[attempt] = asyncio.ensure_future(super().step(attempt, state, note, **also))
            return
        if attempt in self._writing:
            await self._writing[attempt]
        await super().step(attempt, state, note, **also)


class Bank:
    """The gateway's place."""

    def __init__(self, rng):
        self._rng = rng
        self._answers = {}
        self._late = []
        self.attempts = {}  # order -> the attempt that pays it now

    async def request_pin(self, _pan, _amount, order, **_also):
        await self._a_moment()
        wanted = OtpVerdict.REFUSED if order.startswith("no-pin.") else OtpVerdict.SENT
        return OtpAnswer(wanted, "no such card" if wanted is OtpVerdict.REFUSED else "")

    async def pay(self, _method, _pan, _pin, _amount, order, _mobile, *, late=None, **_also):
        attempt = self.attempts[order]
        recorder.mark(posted=attempt)
        plan = order.partition(".")[0]
        answers = self._answers.setdefault(order, iter(PLANS[plan]))
        answer = next(answers, None)
        if plan in CHARGED or answer is PAID:
            recorder.mark(charged=attempt)
        await self._a_moment()
        if answer is None:
            recorder.mark(heard=Verdict.UNKNOWN, attempt=attempt)
            raise ValueError("a bug in the client")
        recorder.mark(heard=answer.verdict, attempt=attempt)
        if plan == "unknown-then-paid-late" and late:
            self._late.append((attempt, late))
        return answer

    async def answer_late(self):
        """What has not come in time, comes."""
        for attempt, late in self._late:
            recorder.mark(heard=Verdict.PAID, attempt=attempt)
            late(PAID)
        self._late.clear()

    async def listened(self):
        pass

    async def close(self):
        pass

    async def _a_moment(self):
        """As long as others may take their turn."""
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)


async def pay(payments, bank, order):
    """One order, paid as often as its plan has it."""
    plan = order.partition(".")[0]
    for _ in range(max(1, len(PLANS[plan]))):
        attempt = await payments.reserve(Method.IVR, order, 50000, CARD, MOBILE)
        bank.attempts[order] = attempt.id
        answer = await payments.request_pin(attempt, CARD)
        if answer.verdict is OtpVerdict.REFUSED or plan == "gone-before-the-pin":
            await payments.abandon(attempt, "hangup")
            return
        await payments.pay(attempt, CARD, PIN, gone=lambda: plan == "gone-before-pay")


async def pay_all(journal, seed, rounds):
    """Each plan once in each round: all of them at once, by threes, one by one, and so on."""
    rng = dice(seed)
    bank = Bank(rng)
    payments = Payments(journal, bank)
    for turn, at_once in zip(range(rounds), itertools.cycle((len(PLANS), 3, 1)), strict=False):
        orders = [f"{plan}.{turn}" for plan in PLANS]
        rng.shuffle(orders)
        for group in (orders[first : first + at_once] for first in range(0, len(orders), at_once)):
            await asyncio.gather(*(pay(payments, bank, order) for order in group))
            await bank.answer_late()
    payments.close()
    await payments.finish()


def pay_on(folder, name, seed, rounds):
    """Pay on a new journal, kept as the arrangement has it."""
    ours = engine.PRAGMAS
    engine.PRAGMAS = ours | ARRANGEMENTS[name]
    (folder / name).mkdir()
    recorder.begin(folder / name, folder / f"{name}.record")
    journal = (Hasty if name == "posted-first" else Witness)(f"sqlite:///{folder / name / 'j.db'}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(pay_all(journal, seed, rounds))
    journal.close()
    recorder.end()
    engine.PRAGMAS = ours


def start_on(folder):
    """Open the journal that is there, and settle what was left."""
    recorder.begin(folder, folder.with_suffix(".record"))
    journal = Journal(f"sqlite:///{folder / 'j.db'}")
    journal.recover()
    recorder.mark(recovered={row["id"]: row["state"] for row in journal.attempts()})
    journal.close()
    recorder.end()


def main(what, *arguments):
    match what:
        case "pay":
            folder, seed, rounds, *names = arguments
            for name in names:
                pay_on(Path(folder), name, int(seed), int(rounds))
        case "start":
            for folder in arguments:
                start_on(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
