"""What is counted: each thing that happens to a call, and nothing of whom it happens to."""

import asyncio
import math

import pytest
from line import CARD, MOBILE, SEQUENCE, open_line

from ivr_agi import flow, metrics, outcomes
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule
from ivr_agi.web import Health, health


def value(name, **labels):
    return metrics.REGISTRY.get_sample_value(f"ivr_agi_{name}", labels) or 0


class Counting:
    """How much each sample has grown since this was made."""

    def __init__(self):
        self._before = self._all()

    @staticmethod
    def _all():
        return {
            (sample.name.removeprefix("ivr_agi_"), *sample.labels.values()): sample.value
            for family in metrics.REGISTRY.collect()
            for sample in family.samples
            if sample.name.startswith("ivr_agi_") and not sample.name.endswith(("_bucket", "_sum"))
        }

    def grown(self, *wanted):
        """The samples of these metrics that differ, with the difference."""
        after = self._all()
        return {
            key: count - self._before.get(key, 0)
            for key, count in after.items()
            if key[0] in wanted and count != self._before.get(key, 0)
        }


async def test_paid(line):
    """A paid call: its status, the gateway's answers, each question at its first try, the commits."""
    counting = Counting()
    await line.call(line.buyer())
    assert counting.grown("calls_ended_total", "gateway_seconds_count", "pin_requests_total") == {
        ("calls_ended_total", "PAID", ""): 1,
        ("gateway_seconds_count", "otp-v2", "sent"): 1,
        ("gateway_seconds_count", "pay", "paid"): 1,
        ("pin_requests_total", "sent"): 1,
    }
    assert counting.grown("question_answers_total") == {
        ("question_answers_total", question, "1"): 1
        for question in ("confirm-amount", "enter-card", "enter-pin")
    }
    assert counting.grown("journal_commit_seconds_count") == {("journal_commit_seconds_count",): 4}
    assert counting.grown("call_seconds_count") == {("call_seconds_count",): 1}
    assert not counting.grown("drops_total", "journal_failures_total", "connections_refused_total")


async def test_tries(line):
    """A card at the second try, a PIN never: counted as that, and the caller as lost."""
    counting = Counting()
    await line.call(line.buyer(enter_card=["6037991234567890", CARD], enter_pin=["", "", ""]))
    assert counting.grown("question_answers_total", "drops_total") == {
        ("question_answers_total", "confirm-amount", "1"): 1,
        ("question_answers_total", "enter-card", "2"): 1,
        ("question_answers_total", "enter-pin", "gave-up"): 1,
        ("drops_total", "pin", "gave-up"): 1,
    }


@pytest.mark.parametrize(
    ("place", "state"), [("confirm-amount", "confirm"), ("enter-card", "card"), ("enter-pin", "pin")]
)
async def test_drops(line, place, state):
    """A hang-up is counted where it came."""
    counting = Counting()
    await line.call(line.buyer() | {place: HANG_UP})
    assert counting.grown("drops_total") == {("drops_total", state, "hang-up"): 1}
    assert counting.grown("calls_ended_total") == {("calls_ended_total", "HANGUP", ""): 1}


@pytest.mark.parametrize(
    ("code", "counted"), [(code, code) for code in outcomes.DECLINES] + [("907", "other"), (CARD, "other")]
)
async def test_codes(tmp_path, code, counted):
    """Declined: by the bank's code; one that is in no table is `other`, however many there are."""
    async with open_line(tmp_path, max_payments=1) as line:
        line.gateway.rules.append(Rule(Outcome(code=code), service="pay"))
        counting = Counting()
        await line.call(line.buyer())
    assert counting.grown("calls_ended_total") == {("calls_ended_total", "DECLINED", counted): 1}


async def test_gateway_and_unknown(line, monkeypatch):
    """An answer that is lost: unknown at the gateway, unknown at the end, and one payment open in the journal."""
    monkeypatch.setattr(health, "COUNT_EVERY", 0.0)
    line.gateway.rules.append(Rule(Outcome(fault=Fault.RESET_AFTER_READ), service="pay"))
    counting = Counting()
    await line.call(line.buyer())
    assert counting.grown("calls_ended_total", "gateway_seconds_count") == {
        ("calls_ended_total", "UNKNOWN", ""): 1,
        ("gateway_seconds_count", "otp-v2", "sent"): 1,
        ("gateway_seconds_count", "pay", "unknown"): 1,
    }
    await Health(line.journal, lambda: True).refresh()
    assert value("payments_unknown") == 1


async def test_count_of_unknown_is_cheap(line, monkeypatch):
    """It is counted once in a while, not at each request."""
    counted = 0
    count = line.journal.count

    async def watch(state):
        nonlocal counted
        counted += 1
        return await count(state)

    monkeypatch.setattr(line.journal, "count", watch)
    seen = Health(line.journal, lambda: True)
    for _ in range(5):
        await seen.refresh()
    assert counted == 1
    assert not math.isnan(value("payments_unknown"))


async def test_pin_that_is_not_sent(line):
    """Each request for a PIN by its verdict."""
    line.gateway.rules.append(Rule(Outcome(fault=Fault.RESET_AFTER_READ), service="otp-v2"))
    counting = Counting()
    await line.call(line.buyer(otp_failed=["9"] * 3))
    assert counting.grown("pin_requests_total") == {("pin_requests_total", "unclear"): 1}


async def test_missing_sound(line):
    """A sound that Asterisk does not have."""
    counting = Counting()
    await line.call(line.buyer(), missing={"ivr-agi/welcome"})
    assert counting.grown("sounds_missing_total") == {("sounds_missing_total", "fa"): 1}


async def test_refused_connections(tmp_path):
    """Connections that became no call, by why."""
    counting = Counting()
    async with open_line(tmp_path, allowed_peers="10.0.0.0/8") as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        await reader.read()
        writer.close()
    async with open_line(tmp_path) as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert counting.grown("connections_refused_total") == {
        ("connections_refused_total", "peer"): 1,
        ("connections_refused_total", "environment"): 1,
    }
    assert value("calls_in_progress") == 0


async def test_journal_failures(line):
    """A journal that cannot be written is counted, and so is the call that it cost."""
    with line.journal._engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
    counting = Counting()
    await line.call(line.buyer())
    assert counting.grown("journal_failures_total", "calls_ended_total") == {
        ("journal_failures_total",): 1,
        ("calls_ended_total", "FAILED", ""): 1,
    }


async def test_a_bug_of_ours(line, monkeypatch):
    """A bug in the gateway's client: timed as `broken`, and the call is counted as what it was told."""

    async def broken(*_args, **_fields):
        raise RuntimeError("boom")

    monkeypatch.setattr(line.payments._gateway, "request_pin", broken)
    counting = Counting()
    await line.call(line.buyer())
    assert counting.grown("calls_ended_total", "gateway_seconds_count") == {
        ("calls_ended_total", "FAILED", ""): 1,
        ("gateway_seconds_count", "otp-v2", "broken"): 1,
    }


async def test_labels_hold_words_of_ours(line):
    """After calls of every kind no label holds a card, an order, a number, or a word that is not ours."""
    line.gateway.rules.append(Rule(Outcome(code="Kx7"), service="pay"))
    await line.call(line.buyer(), "amount=50000&order_id=canary-order")
    await line.call(line.buyer(), "amount=canary", caller_id=MOBILE)
    await line.call(line.buyer(enter_mobile=MOBILE), "amount=50000", caller_id="canary")
    ours = {
        "part": {"listening", "journal"},
        "status": {status.value for status in flow.PayStatus},
        "code": {"", "other", *outcomes.DECLINES},
        "reason": {"peer", "full", "environment", "crowd"},
        "scope": {"caller", "card", "order", "total"},
        "question": {
            question.prompt for question in vars(flow).values() if isinstance(question, flow.Question)
        }
        | {"enter-amount", "enter-invoice", "enter-pin"},
        "answered": {*"123456789", "gave-up"},
        "state": set(flow.State),
        "how": {"hang-up", "gave-up", "too-long"},
        "language": {"fa", "en"},
        "service": {"otp-v2", "pay"},
        "outcome": {"delivered", "failed", "given_up"},
        "verdict": {*flow.Verdict, *flow.OtpVerdict, "broken"},
    }
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            for name, label in sample.labels.items():
                if name not in ("le", "version", "python"):
                    assert label in ours[name], f"{sample.name}: {name}={label}"
                assert SEQUENCE not in label


def test_what_can_be_counted_stands_at_zero():
    """The first decline, refusal or failure shows as an increase: its sample is there from the start."""
    names = {
        (sample.name, *sample.labels.values())
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
    }
    assert {("ivr_agi_calls_ended_total", "DECLINED", code) for code in outcomes.DECLINES} <= names
    assert ("ivr_agi_calls_ended_total", "UNKNOWN", "") in names
    assert ("ivr_agi_gateway_seconds_count", "pay", "unknown") in names
    assert ("ivr_agi_journal_failures_total",) in names
