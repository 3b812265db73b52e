"""No card number, PIN or `sequence` leaves memory: the types that hold them, the log's nets, the end of a call.

That none gets out of a running server, whatever happens, is shown by tests/canary.
"""

import copy
import json
import pickle

import pytest
import structlog
from line import CARD, SEQUENCE

from ivr_agi import logs, server
from ivr_agi.model import Pan, Pin, Secret, mask_digits

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
    structlog.get_logger().info("x", name=f"a\nb {CARD}", apart="6037 9912-3456 7893", other=7)
    line = capfd.readouterr().err
    assert json.loads(line) | {"timestamp": ""} == {
        "message": "x",
        "name": "a\\nb 603799******7893",
        "apart": "603799******7893",
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
