"""What the power-loss tests hold a start to: each promise, kept once and broken once."""

from collections import defaultdict

import pytest
from promises import Promises, Restarted

WAY = {
    "created": ["created"],
    "sent": ["created", "otp_sent", "sent"],
    "paid": ["created", "otp_sent", "sent", "paid"],
    "declined": ["created", "otp_sent", "sent", "declined"],
    "unknown": ["created", "otp_sent", "sent", "unknown"],
}
POSTED, CHARGED = {"posted": 1}, {"charged": 1}


def promised(state, *also, **fields):
    promises = Promises()
    for step in WAY[state]:
        promises.take({"acked": step, "attempt": 1, "order": "A", **(fields if step == state else {})})
    for mark in also:
        promises.take(mark)
    return promises


def heard(verdict):
    return {"heard": verdict, "attempt": 1}


def started(state, history=(), *, order="A", held=True, **fields):
    row = {"order_id": order, "state": state, "ref_id": "", "code": "", **fields}
    return Restarted(
        attempts={1: row}, history=defaultdict(list, {1: [*history, state]}), held={order} if held else set()
    )


SENT = WAY["sent"]


@pytest.mark.parametrize(
    ("promises", "found"),
    [
        (promised("created"), started("failed", ["created"], held=False)),
        (promised("created"), started("unknown", SENT)),  # `sent` was written, and not yet acknowledged
        (promised("sent"), started("unknown", SENT)),
        (
            promised("sent"),
            started("failed", SENT, held=False),
        ),  # gone before `pay`, written, not acknowledged
        (promised("sent", POSTED, CHARGED), started("unknown", SENT)),
        (promised("sent", POSTED, CHARGED, heard("paid")), started("paid", SENT)),
        (promised("sent", POSTED, heard("failed")), started("failed", SENT, held=False)),
        (promised("paid", POSTED, CHARGED, heard("paid"), ref_id="1"), started("paid", SENT, ref_id="1")),
        (promised("unknown", POSTED, heard("unknown"), heard("paid")), started("paid", WAY["unknown"])),
        (
            promised("declined", POSTED, heard("declined"), code="51"),
            started("declined", SENT, code="51", held=False),
        ),
        (promised("declined", POSTED, heard("declined"), code="94"), started("declined", SENT, code="94")),
        (promised("sent", POSTED, {"recovered": {"1": "unknown"}}), started("unknown", SENT)),
    ],
)
def test_kept(promises, found):
    """A start that says what it may say."""
    assert promises.broken(found) == []


@pytest.mark.parametrize(
    ("promises", "found", "sentence"),
    [
        (Promises(), Restarted("the journal does not open"), "the journal does not open"),
        (promised("created"), Restarted(), "attempt 1: its reservation was acknowledged, and it is gone"),
        (
            promised("created"),
            started("failed", ["created"], order="B"),
            "attempt 1: was for order A, and is for B",
        ),
        (
            promised("sent"),
            started("failed", ["created", "otp_sent"]),
            "attempt 1: sent was acknowledged, and is lost",
        ),
        (
            promised("sent", POSTED),
            started("failed", SENT),
            "attempt 1: is failed (acknowledged: sent; posted: True",
        ),
        (promised("sent", POSTED), started("sent", SENT[:-1]), "attempt 1: is sent (acknowledged: sent"),
        (
            promised("sent", POSTED, heard("declined")),
            started("paid", SENT),
            "attempt 1: is paid (acknowledged: sent",
        ),
        (
            promised("paid", ref_id="1"),
            started("unknown", WAY["paid"]),
            "attempt 1: is unknown (acknowledged: paid",
        ),
        (
            promised("paid", ref_id="1"),
            started("paid", SENT),
            "attempt 1: has lost what was acknowledged with paid",
        ),
        (
            promised("sent", POSTED, CHARGED, heard("declined")),
            started("declined", SENT),
            "attempt 1: was charged, and is declined",
        ),
        (
            promised("sent", POSTED),
            started("unknown", SENT, held=False),
            "attempt 1: its order A can be paid again",
        ),
        (
            promised("declined", POSTED, heard("declined"), code="94"),
            started("declined", SENT, code="94", held=False),
            "attempt 1: its order A can be paid again",
        ),
        (
            promised("sent", POSTED, heard("paid"), {"recovered": {"1": "unknown"}}),
            started("paid", SENT),
            "attempt 1: the last start said unknown, this one paid",
        ),
    ],
)
def test_broken(promises, found, sentence):
    """A start that must not be: it is found, and named."""
    assert promises.broken(found)[0].startswith(sentence)


def test_a_mark_that_nobody_knows():
    """A mark that says nothing known is no promise kept in silence."""
    with pytest.raises(ValueError, match="nothing known"):
        Promises().take({"payed": 1})
