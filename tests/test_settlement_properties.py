"""A settlement list beside our attempts: whatever they are, nothing is lost between them, and nothing is guessed."""

from collections import Counter
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from settling import CARD, NOON, OTHER_CARD, TEHRAN, attempt, line

from ivr_agi.settlement.judging import DAY
from ivr_agi.settlement.letters import order_key, ref_key
from ivr_agi.settlement.matching import match, touching
from ivr_agi.settlement.reading import Settled, Standing, Unreadable

ORDERS = st.sampled_from(["A", "B", "C", "D"])
REFS = st.sampled_from(["", "1", "01", "2", "3"])
AMOUNTS = st.sampled_from([1000, 2000])
MOMENTS = st.sampled_from([NOON + days * DAY for days in (-20, -2, -1, 0, 1, 2, 20)])
STATES = st.sampled_from(
    [(state, "") for state in ("created", "otp_sent", "sent", "paid", "declined", "failed", "unknown")]
    + [("unknown", "")] * 4
    + [("resolved", "paid"), ("resolved", "not-paid")]
)
LINES = st.lists(
    st.one_of(
        st.builds(
            lambda order, ref, amount, at, card, standing: line(
                0, order, ref, amount, at=at, card=card, standing=standing
            ),
            ORDERS,
            REFS,
            AMOUNTS,
            st.one_of(MOMENTS, st.none()),
            st.sampled_from(["", "************7893", "************1234"]),
            st.sampled_from([Standing.PAID, Standing.PAID, Standing.NOT_PAID, Standing.RETURNED]),
        ),
        st.builds(lambda order, ref: Unreadable(0, "x", order, ref), st.one_of(ORDERS, st.just("")), REFS),
    ),
    max_size=5,
)
ATTEMPTS = st.lists(
    st.builds(
        lambda order, stands, ref, amount, at, card: attempt(
            0, order, stands[0], resolution=stands[1], ref=ref, amount=amount, at=at, card=card
        ),
        ORDERS,
        STATES,
        REFS,
        AMOUNTS,
        MOMENTS,
        st.sampled_from([CARD, OTHER_CARD]),
    ),
    max_size=6,
)


def numbered(lines, attempts):
    """The same, each with a number of its own."""
    for number, one in enumerate(attempts, 1):
        one["id"] = number
    return [
        line(number, one.order_id, one.ref_id, one.amount, at=one.at, card=one.card, standing=one.standing)
        if isinstance(one, Settled)
        else Unreadable(number, one.reason, one.order_id, one.ref_id)
        for number, one in enumerate(lines, 2)
    ], attempts


@settings(max_examples=500, deadline=None)
@given(LINES, ATTEMPTS)
def test_everything_is_in_exactly_one_class(lines, attempts):
    """Each line once; each attempt of the period or named by a line once; no other but unknown ones counted."""
    lines, attempts = numbered(lines, attempts)
    found = match(lines, attempts)
    assert Counter(one.line for entry in found.entries for one in entry.lines) == Counter(
        one.line for one in lines
    )
    placed = Counter(one["id"] for entry in found.entries for one in entry.attempts)
    assert set(placed.values()) <= {1}
    named = touching([one for one in lines if isinstance(one, Settled)])
    for one in attempts:
        day = datetime.fromisoformat(one["created_at"]).astimezone(TEHRAN).date()
        if named(one) or (found.period and found.period.holds(day)):
            assert one["id"] in placed
    left = [one for one in attempts if one["id"] not in placed and one["state"] == "unknown"]
    assert found.not_covered == len(left)


@settings(max_examples=1000, deadline=None)
@given(LINES, ATTEMPTS)
def test_certain_is_certain(lines, attempts):
    """Said once more, without groups: the only paid line and the only attempt that may belong to each other."""
    lines, attempts = numbered(lines, attempts)
    for entry in match(lines, attempts).certain:
        (paid,), (one,) = entry.lines, entry.attempts
        assert (one["state"], paid.standing, paid.amount) == ("unknown", Standing.PAID, one["amount"])
        assert paid.order_id == one["order_id"] or ref_key(paid.ref_id) == ref_key(one["ref_id"])
        assert not paid.card or paid.card[-4:] == one["card"][-4:]
        assert paid.order_id in ("", one["order_id"])
        for other in lines:
            assert other is paid or not same_name(other, paid)
        for other in attempts:
            if other is not one and other["order_id"] == one["order_id"]:
                assert (
                    other["state"] == "failed"
                    or other["amount"] != paid.amount
                    or (paid.card and paid.card[-4:] != other["card"][-4:])
                    or (other["ref_id"] and ref_key(other["ref_id"]) != ref_key(paid.ref_id))
                    or (paid.at and paid.at.isoformat() < other["created_at"])
                )


def same_name(one, other):
    """Whether two lines share an order or a tracking number."""
    orders = {order_key(one.order_id)} & {order_key(other.order_id)} - {""}
    return orders or {ref_key(one.ref_id)} & {ref_key(other.ref_id)} - {""}
