"""No card number, PIN or `sequence` leaves memory: canaries through every outcome, at DEBUG."""

import asyncio
import copy
import io
import json
import pickle

import pytest
import structlog
from line import CARD, SEQUENCE, open_line

from ivr_agi import logs, outcomes, server
from ivr_agi.model import Pan, Pin, Secret, mask_digits
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule

PIN = "90817264"


@pytest.mark.parametrize(
    ("secret", "canary"), [(Pan(CARD), CARD), (Pin(PIN), PIN), (Secret(SEQUENCE), SEQUENCE)]
)
def test_secrets_do_not_show(secret, canary):
    """However a secret is printed, a mask comes out."""
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>30}",
        f"{secret!r}",
        "{}".format(secret),  # noqa: UP032 - another way to print
        repr([secret]),
        repr({"x": secret}),
    ]
    assert not [text for text in shown if canary in text]
    assert secret.reveal() == canary
    with pytest.raises(TypeError):
        json.dumps(secret)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be pickled"):
            leave(secret)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize(
    ("kind", "bad"), [(Pan, "6037991234567890"), (Pan, "4111111111111111"), (Pin, "1234")]
)
def test_error_does_not_quote_the_digits(kind, bad):
    """A refused card number is no less a card number."""
    with pytest.raises(ValueError, match=r"not a card|has 5 to 12") as error:
        kind(bad)
    assert bad not in str(error.value)


@pytest.mark.parametrize(
    "text", ["6037991234567893", "6037 9912 3456 7893", "6037-9912-3456-7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳"]
)
def test_mask_digits(text):
    """A card number inside somebody else's words is masked, however it is written."""
    assert mask_digits(f"card {text}.") == "card [masked]."


def test_log_masks_and_escapes(capfd):
    """The second net: a card number that reaches a log call is masked, a control character escaped."""
    logs.configure("DEBUG", "json")
    structlog.get_logger().info("x", name=f"a\nb {CARD}", other=7)
    line = capfd.readouterr().err
    assert json.loads(line) | {"timestamp": ""} == {
        "message": "x",
        "name": "a\\nb 603799******7893",
        "other": 7,
        "level": "info",
        "timestamp": "",
    }


@pytest.mark.parametrize("form", ["console", "json"])
def test_traceback_has_no_locals(capfd, form):
    """A traceback in the log shows lines of code, not the values of the variables in them."""
    logs.configure("DEBUG", form)

    def broken(typed):
        assert typed
        raise RuntimeError("boom")

    try:
        broken("".join(reversed(PIN)))
    except RuntimeError:
        structlog.get_logger().exception("x")
    shown = capfd.readouterr().err
    assert "RuntimeError: boom" in shown
    assert PIN[::-1] not in shown


OUTCOMES = {
    "paid": Outcome(),
    **{f"code {code}": Outcome(code=code) for code in outcomes.DECLINES},
    "other code": Outcome(code="907"),
    "card in errors": Outcome(
        body=json.dumps({"status": 0, "errors": [f"card {CARD} pin {PIN} {SEQUENCE}"]}).encode()
    ),
    "card in refID": Outcome(body=json.dumps({"status": 1, "data": {"refID": f"R{CARD}"}}).encode()),
    "reset": Outcome(fault=Fault.RESET_AFTER_READ),
    "cut": Outcome(fault=Fault.CUT_BODY),
    "html": Outcome(status=502, body=f"<html>{CARD}</html>".encode()),
    "silence": Outcome(fault=Fault.SILENCE),
    "403": Outcome(status=403, body=b""),
}


def forms(canary):
    """The forms in which a number may hide."""
    spaced = [" ".join(canary[place : place + 4] for place in range(0, len(canary), 4))]
    return {canary, canary[::-1], *spaced, spaced[0].replace(" ", "-")}


def assert_clean(text, where):
    found = [form for canary in (CARD, PIN, SEQUENCE) for form in forms(canary) if form in text]
    around = [text[max(0, text.index(form) - 300) :][:400] for form in found]
    if found:
        pytest.fail(f"{where} shows a secret: {around}")


@pytest.mark.parametrize("form", ["console", "json"])
async def test_canaries(tmp_path, capfd, form):
    """Card, PIN and sequence through every outcome, at DEBUG, with hang-ups and bugs: in no log, no file, no variable."""
    logs.configure("DEBUG", form)
    told = io.StringIO()
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    async with open_line(tmp_path, pay_timeout=0.3, max_pins=2) as line:
        issue = line.gateway._otp

        def same_pin(fields, order_id, outcome):
            answer = issue(fields, order_id, outcome)
            for issued in line.gateway._issued.values():
                issued.pin = PIN
            return answer

        line.gateway._otp = same_pin
        scripts = [line.buyer(enter_card=[CARD], enter_pin=[f"{PIN}#"])] * len(OUTCOMES)
        for number, (outcome, script) in enumerate(zip(OUTCOMES.values(), scripts, strict=True)):
            line.gateway.rules[:] = [Rule(outcome, service="pay")]
            ended = await line.call(script, f"amount=50000&order_id=O{number}")
            told.write(repr(ended.variables))
        line.gateway.rules.clear()
        for number, place in enumerate(["enter-card", "enter-pin", "please-wait", "paid"]):
            ended = await line.call(
                line.buyer(enter_pin=[f"{PIN}#"]) | {place: HANG_UP}, f"amount=50000&order_id=H{number}"
            )
            told.write(repr(ended.variables))

        async def broken(*_args, **_fields):
            raise RuntimeError(f"bug with {Pan(CARD)}")

        for part, method in (
            (line.payments._gateway, "pay"),
            (line.payments._gateway, "request_pin"),
            (line.payments, "reserve"),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(part, method, broken)
                ended = await line.call(line.buyer(enter_pin=[f"{PIN}#"]), f"amount=50000&order_id=B{method}")
                told.write(repr(ended.variables))
        wrong = await line.call(
            line.buyer(enter_card=["6037991234567890", CARD], enter_pin=["1234#", f"{PIN}#"]),
            "amount=50000&order_id=W",
        )
        assert wrong.status == "PAID"
        told.write(
            repr(line.journal.attempts()) + repr([line.journal.attempt(row["id"]) for row in line.attempts()])
        )
    loop.set_debug(False)
    output = capfd.readouterr()
    assert "call.step" in output.err
    assert_clean(output.err + output.out, "the log")
    assert_clean(told.getvalue(), "the dialplan or the journal")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes().decode("latin-1"), path.name)


async def test_the_canary_sings(capfd):
    """The search would find a leak: a PIN logged on purpose is found."""
    logs.configure("DEBUG", "json")
    structlog.get_logger().debug("planted", pin=PIN)
    with pytest.raises(pytest.fail.Exception, match="shows a secret"):
        assert_clean(capfd.readouterr().err, "the log")


async def test_secrets_are_dropped_after_use(line, monkeypatch):
    """When the call is over, its payment holds neither card nor PIN."""
    kept = []
    original = server.converse

    async def keep(call, payment):
        kept.append(payment)
        await original(call, payment)

    monkeypatch.setattr(server, "converse", keep)
    await line.call(line.buyer())
    assert (kept[0].pan, kept[0].pin) == (None, None)


def test_sample_card_of_the_document_is_refused():
    """The document's own sample fails the Luhn check; it is not to be copied."""
    with pytest.raises(ValueError, match="not a card number"):
        Pan("5022000012340000")
