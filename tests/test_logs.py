"""The log that an admin reads: a line for each step, one for each call, and none that a caller can forge."""

import io
import json
import re
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from line import CARD, open_line

from ivr_agi import flow, logs
from ivr_agi.model import Hangup, Keys
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule

STEP = {"call", "uniqueid", "channel", "order", "state", "event", "ms"}
SUMMARY = {
    *("call", "uniqueid", "channel", "order"),
    *("status", "code", "reason", "ref_id", "attempt", "amount", "card"),
    *("state", "steps", "tries", "pins", "cards", "payments", "language", "seconds", "told"),
}
PATH = ["welcome", "language", "invoice", "order", "amount", "confirm", "mobile", "card", "otp", "pin", "pay"]


def lines(capfd):
    """The log so far, a dictionary for each line."""
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def said(found, message):
    return [line for line in found if line["message"] == message]


@pytest.fixture
def in_json():
    logs.configure("INFO", "json")


@pytest.mark.usefixtures("in_json")
async def test_a_line_for_each_step(line, capfd):
    """Each state once, in the caller's order, with all that finds the call in Asterisk and in the journal."""
    await line.call(line.buyer(), uniqueid="1764000000.7", channel="PJSIP/trunk-7")
    found = lines(capfd)
    steps = said(found, "call.step")
    assert [step["state"] for step in steps] == PATH
    assert [step["event"] for step in steps] == (
        ["ready"] * 5 + ["accepted", "ready", "entered", "pin-sent", "entered", "paid"]
    )
    for step in steps:
        assert step.keys() >= STEP
        assert (step["uniqueid"], step["channel"], step["order"]) == ("1764000000.7", "PJSIP/trunk-7", "A-1")
        assert isinstance(step["ms"], int)
    of_the_call = [line for line in found if line["message"].split(".")[0] in ("call", "otp", "pay")]
    assert len({line["call"] for line in of_the_call}) == 1


@pytest.mark.usefixtures("in_json")
async def test_order_that_we_made(line, capfd):
    """No order in the dialplan: from the moment that one is made, each line has it."""
    ended = await line.call(line.buyer(), "amount=50000")
    found = lines(capfd)
    orders = [step["order"] for step in said(found, "call.step")]
    assert orders == ["", "", ""] + [ended.variables["PAYORDERID"]] * 8
    assert (
        said(found, "pay.answered")[0]["order"] == said(found, "call.ended")[0]["order"] == orders[-1] != ""
    )


@pytest.mark.usefixtures("in_json")
async def test_summary_of_a_paid_call(line, capfd):
    """The last line of a call: all that came of it."""
    ended = await line.call(line.buyer(enter_card=["6037991234567890", CARD]))
    found = lines(capfd)
    (summary,) = said(found, "call.ended")
    assert summary.keys() == SUMMARY | {"message", "level", "timestamp"}
    wanted = {
        "status": "PAID", "code": "", "reason": "", "ref_id": ended.variables["PAYREFID"], "attempt": 1,
        "amount": 50000, "card": "603799******7893", "state": "pay", "steps": 11, "tries": 4, "pins": 1, "cards": 1,
        "payments": 1, "language": "fa", "told": True, "order": "A-1",
    }  # fmt: skip
    assert {name: summary[name] for name in wanted} == wanted
    assert summary["seconds"] >= 0
    of_the_call = [line for line in found if line.get("call") == summary["call"]]
    assert of_the_call[-1] is summary


@pytest.mark.parametrize(
    ("script", "outcome", "query", "wanted"),
    [
        (
            {"enter-pin": HANG_UP},
            None,
            "",
            {"status": "HANGUP", "reason": "hangup", "state": "pin", "steps": 10},
        ),
        (
            {"enter-card": ["", "", ""]},
            None,
            "",
            {"status": "NOINPUT", "state": "card", "attempt": None, "tries": 4},
        ),
        ({}, Outcome(code="61"), "", {"status": "DECLINED", "code": "61", "reason": "too-many-cards"}),
        ({}, Outcome(fault=Fault.CUT_BODY), "", {"status": "UNKNOWN", "attempt": 1, "payments": 1}),
        ({}, None, "amount=0", {"status": "REFUSED", "reason": "bad-amount", "state": "welcome", "steps": 1}),
        ({"confirm-amount": "0"}, None, "", {"status": "OPERATOR", "state": "confirm"}),
    ],
)
@pytest.mark.usefixtures("in_json")
async def test_summary_of_each_ending(tmp_path, capfd, script, outcome, query, wanted):
    """One summary for a call however it ends, with the state that it ended in."""
    async with open_line(tmp_path, max_cards=1) as line:
        if outcome:
            line.gateway.rules.append(Rule(outcome, service="pay"))
        await line.call(line.buyer() | script, query or "amount=50000&order_id=A-1")
    (summary,) = said(lines(capfd), "call.ended")
    assert {name: summary[name] for name in wanted} == wanted


@pytest.mark.usefixtures("in_json")
async def test_a_bug_of_ours(line, capfd, monkeypatch):
    """A bug in a handler: its step is there as `broken`, the traceback names the state, the call has its summary."""

    async def broken(_call, _payment):
        raise RuntimeError("boom")

    monkeypatch.setitem(flow.HANDLERS, flow.State.MOBILE, broken)
    await line.call(line.buyer())
    found = lines(capfd)
    step = said(found, "call.step")[-1]
    assert (step["state"], step["event"]) == ("mobile", "broken")
    assert said(found, "call.broken")[0]["state"] == "mobile"
    assert said(found, "call.ended")[0]["status"] == "FAILED"


@pytest.mark.parametrize("trouble", [RuntimeError("boom"), Hangup("gone")])
@pytest.mark.usefixtures("in_json")
async def test_dialplan_that_cannot_be_told(line, capfd, monkeypatch, trouble):
    """The connection breaks, or we do, while the dialplan is told: the summary is there all the same, and says so."""

    async def fail(*_args):
        raise trouble

    monkeypatch.setattr("ivr_agi.call.Call.tell_dialplan", fail)
    await line.call(line.buyer(confirm_amount="2"))
    (summary,) = said(lines(capfd), "call.ended")
    assert (summary["status"], summary["told"]) == ("CANCELLED", False)


# What an attacker, or a bad trunk, puts where a name should be.
FORGERIES = [
    "\x1b[2J\x1b[31mred",
    "tab\there",
    "bell\a",
    "\u202egnirts",
    "\x9b31m",
    "nul\0",
    "\r2026 [info] forged",
]


@pytest.mark.parametrize("form", ["console", "json"])
async def test_nobody_forges_a_line(line, capfd, form):
    """Controls in what Asterisk says of a call: escaped, one line stays one line, no terminal is commanded."""
    logs.configure("INFO", form)
    for forgery in FORGERIES:
        await line.call(line.buyer(confirm_amount="2"), channel=f"PJSIP/{forgery}x", uniqueid=f"1.{forgery}x")
        await line.call({}, "amount=" + "".join(f"%{byte:02x}" for byte in f"1\n{forgery}".encode()))
    shown = capfd.readouterr().err
    assert len(re.findall(r"call\.ended", shown)) == 2 * len(FORGERIES)
    assert [character for character in shown if not character.isprintable() and character != "\n"] == []
    assert not [line for line in shown.splitlines() if "message" not in line and not line.startswith("20")]


async def test_console(line, capfd):
    """For a person: the same names and values, in one line."""
    logs.configure("INFO", "console")
    await line.call(line.buyer(), uniqueid="1764000000.7")
    shown = capfd.readouterr().err.splitlines()
    (paid,) = [line for line in shown if "call.step" in line and "state=pay" in line]
    assert all(f" {name}=" in paid for name in STEP)
    assert " event=paid " in paid
    (summary,) = [line for line in shown if "call.ended" in line]
    assert all(f" {name}=" in summary for name in SUMMARY)


@pytest.mark.parametrize("before", range(3900, 4001, 7))
def test_a_long_value_is_cut_beside_a_card(before):
    """Wherever the cut falls, no part of a card number stays in front of it."""
    for card in (CARD, "6037 - 9912 - 3456 - 7893"):
        text = "x" * before + card + "y" * 500
        shown = logs.clean(None, "info", {"value": text})["value"]
        assert len(shown) <= logs.MOST_OF_VALUE + 1
        assert not re.search(r"9912|7991|3456", shown)


def test_a_crowd_fills_no_log():
    """Of what a crowd at the door causes a few lines a second are kept, and how many more there were."""
    now = [0.0]
    seldom = logs.Seldom(lambda: now[0])

    def lines(event, count):
        kept = []
        for _ in range(count):
            with suppress(structlog.DropEvent):
                kept.append(seldom(None, "warning", {"event": event}))
        return kept

    assert len(lines("peer.refused", 1000)) == logs.PER_SECOND
    assert len(lines("call.ended", 1000)) == 1000  # what is about money is never left out
    now[0] = 1.5
    assert lines("peer.refused", 2) == [
        {"event": "peer.refused", "more": 1000 - logs.PER_SECOND},
        {"event": "peer.refused"},
    ]


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CARDLIKE = st.text(st.sampled_from("0123456789۰۵٣６ -_.,:/x\n\x1b\u202e"), max_size=80)
SPELT = st.builds(
    "".join, st.lists(st.sampled_from([CARD, "6037 9912-3456 7893", "٦٠٣٧", " ", "a", "1", "\x07"]))
)
VALUES = st.one_of(
    st.text(),
    CARDLIKE,
    SPELT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(flow.Event),
)
LONG = st.builds(
    lambda text, times: text * times,
    st.one_of(st.text(min_size=1, max_size=9), SPELT),
    st.integers(400, 4100),
)


@settings(deadline=None)
@given(st.one_of(VALUES, LONG))
@example("1" * logs.CARD_DIGITS)
@example("۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳")
@example("x" * logs.MOST_OF_VALUE + "y")
def test_harmless_is_what_cleaning_leaves_alone(value):
    """What is let through at a glance is exactly what the whole cleaning would have let through."""
    if logs.is_harmless(value):
        assert logs.cleaned(value, multiline=False) is value


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "order", "exception", "message"]), VALUES))
def test_clean_is_cleaning_each_value(event):
    """However a value is looked at, the line has what the whole cleaning makes of it."""
    whole = {name: logs.cleaned(value, multiline=name == "exception") for name, value in event.items()}
    assert repr(logs.clean(None, "info", dict(event))) == repr(whole)


@pytest.mark.parametrize(
    "value",
    [CARD, "6037 9912 3456 7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳", f"x{CARD}"],
)
def test_no_card_is_harmless(value):
    """No card number is let through at a glance, however it is written."""
    assert not logs.is_harmless(value)
    assert CARD[6:12] not in logs.clean(None, "info", {"value": value})["value"]


def test_keys_show_their_mask():
    """What a caller has keyed, should it reach a log call: its mask, though it is text."""
    assert logs.clean(None, "info", {"value": Keys("12345")}) == {"value": "***"}


LINES = st.fixed_dictionaries(
    {
        "timestamp": st.just("2026-11-28T09:00:00.000001Z"),
        "level": st.sampled_from(["info", "warning", "error"]),
        "message": st.text(),
    },
    optional={"event": VALUES, "state": VALUES, "order": VALUES, "exception": st.text(), "logger": st.text()},
)


@settings(deadline=None)
@given(LINES)
@example({"timestamp": "t", "level": "info", "message": " "})
@example({"timestamp": "t", "level": "info", "message": "", "order": "", "reason": 'a "b"', "detail": "it's"})
def test_console_is_structlogs(event):
    """A line for a person is, to the byte, what structlog's own renderer makes of it."""
    event = logs.clean(None, "info", event)
    theirs = structlog.dev.ConsoleRenderer(
        colors=False, event_key="message", exception_formatter=structlog.dev.plain_traceback
    )
    assert logs.InColumns(colors=False)(None, "info", dict(event)) == theirs(None, "info", dict(event))


@settings(deadline=None)
@given(LINES)
def test_json_is_structlogs(event):
    """A line for a machine is, to the byte, what structlog's own renderer makes of it."""
    event = logs.clean(None, "info", event)
    theirs = structlog.processors.JSONRenderer(ensure_ascii=False)
    assert logs.in_json(None, "info", event) == theirs(None, "info", event)


@settings(deadline=None)
@given(st.datetimes(min_value=EPOCH.replace(tzinfo=None), timezones=st.just(UTC)))
@example(datetime(2026, 11, 28, 9, 0, 0, 0, UTC))
@example(datetime(2026, 11, 28, 9, 0, 0, 7, UTC))
def test_stamp_is_iso_8601(when):
    """The time of a line is, to the byte, what structlog's own stamper would have put."""
    micros = (when - EPOCH) // timedelta(microseconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ivr_agi.logs.time.time_ns", lambda: micros * 1000 + 999)
        stamped = logs.stamp(None, "info", {})
    assert stamped == {"timestamp": when.isoformat().replace("+00:00", "Z")}


KILLED = """
import os, signal, sys
from ivr_agi import logs
import logging, structlog
logs.configure("INFO", sys.argv[1])
structlog.get_logger().info("call.begun", order="first")
logging.getLogger("somebody").warning("second")
structlog.get_logger().info("call.ended", order="third")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_line_outlives_the_process(tmp_path, form):
    """Killed the moment that a line has been logged: it is in the file, whole, and so are those before it."""
    with (tmp_path / "log").open("wb") as kept:
        ended = subprocess.run([sys.executable, "-c", KILLED, form], stderr=kept, check=False)
    assert ended.returncode == -signal.SIGKILL
    shown = (tmp_path / "log").read_text()
    assert shown.endswith("\n")
    first, second, third = shown.splitlines()
    assert "first" in first
    assert "second" in second
    assert "third" in third


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("error", [None, ValueError("boom")], ids=["plain", "exception"])
def test_a_line_is_written_at_once(monkeypatch, form, error):
    """One write for one line, with its end, and nothing kept back: two threads never share a line."""
    written = []

    class Kept(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

        def flush(self):
            written.append("flushed")

    monkeypatch.setattr("sys.stderr", Kept())
    logs.configure("INFO", form)
    structlog.get_logger().error("call.broken", exc_info=error)
    line, flushed = written
    assert line.endswith("\n")
    assert flushed == "flushed"
