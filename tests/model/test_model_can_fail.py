"""The model test can fail: each rule that keeps the money safe is broken on purpose, and the machine finds it."""

import asyncio
import shutil
import sqlite3
from contextlib import suppress

import pytest
import sqlalchemy as sa
import structlog
from model.machine import run
from model.truths import Violation

from ivr_agi import gateway
from ivr_agi.call import Call
from ivr_agi.gateway import Gateway
from ivr_agi.journal import AttemptState, Journal, lease, steps
from ivr_agi.journal.steps import Scribe
from ivr_agi.journal.tables import attempt
from ivr_agi.model import PayAnswer, Verdict
from ivr_agi.payments import Payments, Refused
from ivr_agi.session import Payment

ENOUGH = 8_000  # calls; most need a few hundred
# An outcome is reported wrongly, in one way or another.
WRONG = ("charged, and", "charged:", "before the bank knows", "the bank said", "journal.contradicted")


def found(template, number, *words):
    """Run the machine, which must find it. words: any of them says what was found."""
    with pytest.raises(Violation) as violation:
        run(template, number, ENOUGH, shrink=False)
    assert any(word in str(violation.value) for word in words), violation.value


def test_pay_before_sent(template, settled_number, monkeypatch):
    """`sent` is written while `pay` is on its way, and not before."""
    step, writing = Journal.step, set()

    async def in_its_own_time(self, attempt_id, state, *args, **fields):
        if state is not AttemptState.SENT:
            return await step(self, attempt_id, state, *args, **fields)
        task = asyncio.create_task(step(self, attempt_id, state, *args, **fields))
        writing.add(task)
        task.add_done_callback(writing.discard)
        return None

    monkeypatch.setattr(Journal, "step", in_its_own_time)
    found(template, settled_number, "not one attempt of its order is `sent`")


def test_unknown_called_failed(template, settled_number, monkeypatch):
    """An answer that is not clear counts as failed."""
    read_pay = gateway.read_pay

    def hopeful(exchange, secrets):
        answer = read_pay(exchange, secrets)
        unknown = answer.verdict is Verdict.UNKNOWN
        return PayAnswer(Verdict.FAILED, detail=answer.detail) if unknown else answer

    monkeypatch.setattr(gateway, "read_pay", hopeful)
    found(template, settled_number, *WRONG)


def test_what_the_dead_have_sent_called_failed(template, settled_number, monkeypatch):
    """Recovery lets go of a payment that had left."""

    def settle(connection, scribe, row):
        fields = {"reason": "process-gone"}
        state, key = AttemptState.FAILED, steps.make_key()
        scribe.step(connection, row["id"], state, fields=fields, key=key, of=row["owner"])
        return state

    monkeypatch.setattr(lease, "_settle", settle)
    found(template, settled_number, *WRONG)


def test_orders_held_in_memory(template, settled_number, monkeypatch, tmp_path):
    """Each server remembers its own orders, and the journal's index is gone."""
    forgetful = shutil.copy(template, tmp_path / "without-index.db")
    with sqlite3.connect(forgetful) as connection:
        connection.execute("DROP INDEX attempt_one_per_order")
    connection.close()
    reserve = Payments.reserve

    async def remembered(self, method, order_id, *args):
        held = self.__dict__.setdefault("held", set())
        if order_id in held:
            raise Refused("order-busy")
        held.add(order_id)
        return await reserve(self, method, order_id, *args)

    def unguarded(self, connection, new, key, *, again):
        del again
        now = steps.timestamp()
        fields = {**new.row, "state": "created", "holds_order": True, "owner": self.owner}
        added = sa.insert(attempt).values(**fields, created_at=now, updated_at=now)
        attempt_id = connection.execute(added).inserted_primary_key[0]
        self._remember(connection, attempt_id, AttemptState.CREATED, "", now, key)
        return attempt_id

    async def unchecked(_self, _order_id, _caller):
        pass

    monkeypatch.setattr(Payments, "check_order", unchecked)
    monkeypatch.setattr(Payments, "reserve", remembered)
    monkeypatch.setattr(Scribe, "reserve", unguarded)
    found(forgetful, settled_number, "held more than once", "is charged 2 times", "not one attempt")


def test_pay_tried_again(template, settled_number, monkeypatch):
    """`pay` is sent once more when its answer is not clear."""
    once = Gateway.pay

    async def twice(self, *args, **options):
        answer = await once(self, *args, **options)
        return await once(self, *args, **options) if answer.verdict is Verdict.UNKNOWN else answer

    monkeypatch.setattr(Gateway, "pay", twice)
    found(template, settled_number, "a second `pay` leaves")


def test_told_of_an_answer_before(template, settled_number, monkeypatch):
    """PAYSTATUS is what the bank said to the first `pay` of the call."""
    settle = Payment.settle

    def first_only(self, answer):
        if self.submissions < 2:
            settle(self, answer)

    monkeypatch.setattr(Payment, "settle", first_only)
    found(template, settled_number, *WRONG, "heard of a payment")


def test_late_answers_thrown_away(template, settled_number, monkeypatch):
    """What comes after the time limit is not listened to."""
    monkeypatch.setattr(Payments, "_settle_late", lambda *_args: None)
    found(template, settled_number, *WRONG)


def test_time_limit_called_failed(template, settled_number, monkeypatch):
    """No answer within the time limit counts as failed, and a late one comes too late."""
    read_pay = gateway.read_pay

    def impatient(exchange, secrets):
        timeout = exchange.trouble == "timeout"
        return PayAnswer(Verdict.FAILED, detail="timeout") if timeout else read_pay(exchange, secrets)

    monkeypatch.setattr(gateway, "read_pay", impatient)
    found(template, settled_number, *WRONG)


def test_an_outcome_written_once(template, settled_number, monkeypatch):
    """An outcome that the journal does not take at once is given up."""

    async def once(self, _what, write, _about):
        del self
        with suppress(Exception):  # that is the sabotage
            await write(False)

    monkeypatch.setattr(Payments, "_try_and_try", once)
    found(template, settled_number, "held by nobody", "not written", *WRONG)


def test_a_pin_in_the_log(template, settled_number, monkeypatch):
    """A PIN is logged once, in clear."""
    submit = Payments._submit

    async def talkative(self, attempt, pan, pin, gone):
        structlog.get_logger().info("pay.begins", with_=pin.reveal())
        return await submit(self, attempt, pan, pin, gone)

    monkeypatch.setattr(Payments, "_submit", talkative)
    found(template, settled_number, "in the log")


def test_a_card_in_the_journal(template, settled_number, monkeypatch):
    """A card number is kept in clear."""
    note = Payments.request_pin

    async def careless(self, attempt, pan):
        await self._journal.note(attempt.id, f"card {pan.reveal()}")
        return await note(self, attempt, pan)

    monkeypatch.setattr(Payments, "request_pin", careless)
    found(template, settled_number, "in the journal")


def test_payid_never_told(template, settled_number, monkeypatch):
    """PAYID is not on the channel while the bank is asked."""
    tell = Call.tell_dialplan

    async def all_but(self, name, value):
        if name != "PAYID":
            await tell(self, name, value)

    monkeypatch.setattr(Call, "tell_dialplan", all_but)
    found(template, settled_number, "PAYID is ''")
