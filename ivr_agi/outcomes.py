"""What follows from each verdict: what the caller hears, what comes next, what the dialplan is told.

Data only. To change what a bank code leads to, change its line in DECLINES; to change how a call
ends, its line in ENDINGS. The sentences themselves are in `prompts/catalogue.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ivr_agi.model import PayStatus


class Next(StrEnum):
    """What the caller may do after a decline."""

    END = "end"
    NEW_CARD = "another card"
    NEW_PIN = "a new PIN"


class Review(StrEnum):
    """What a person should look at afterwards; '' for nothing."""

    NONE = ""
    MERCHANT = "merchant"  # the merchant's own set-up is at fault
    CHECK = "check"
    CHARGED = "charged"  # may have been charged: the order stays held until a person has looked


@dataclass(frozen=True, slots=True)
class Decline:
    """One bank code: the prompt, the caller's next step, the merchant's."""

    prompt: str
    next: Next
    review: Review = Review.NONE


# gateway-api.md §3: the bank's code -> what we do about it.
DECLINES: Final[dict[str, Decline]] = {
    "3": Decline("error-3", Next.END, Review.MERCHANT),  # merchant invalid
    "5": Decline("error-5", Next.END),  # transaction invalid
    "13": Decline("error-13", Next.END, Review.MERCHANT),  # amount invalid
    "14": Decline("error-14", Next.NEW_CARD),  # card invalid
    "20": Decline("error-20", Next.END, Review.CHARGED),  # invalid response
    "21": Decline("error-21", Next.END),  # transaction invalid
    "42": Decline("error-42", Next.NEW_CARD),  # the card's account invalid
    "51": Decline("error-51", Next.NEW_CARD),  # insufficient funds
    "54": Decline("error-54", Next.NEW_CARD),  # card expired
    "55": Decline("error-55", Next.NEW_PIN),  # wrong PIN
    "57": Decline("error-57", Next.NEW_CARD),  # holder not permitted
    "61": Decline("error-61", Next.NEW_CARD),  # limit reached
    "62": Decline("error-62", Next.NEW_CARD),  # card restricted
    "63": Decline("error-63", Next.END, Review.MERCHANT),  # terminal invalid
    "75": Decline("error-75", Next.NEW_CARD),  # too many PIN tries
    "78": Decline("error-78", Next.NEW_CARD),  # card inactive
    "80": Decline("error-80", Next.END, Review.CHECK),  # system error
    "90": Decline("error-90", Next.END),  # end-of-day running: later
    "91": Decline("error-91", Next.END, Review.CHECK),  # issuer not in operation: later, or another card
    "94": Decline("error-94", Next.END, Review.CHARGED),  # duplicate: an earlier try may have been charged
}
OTHER_DECLINE: Final = Decline("error-other", Next.END, Review.CHECK)


def decline(code: str) -> Decline:
    """The policy for a bank code, also for one that the table does not have."""
    return DECLINES.get(code, OTHER_DECLINE)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ends: PAYSTATUS, and the prompts that the caller hears."""

    status: PayStatus
    prompts: tuple[str, ...]


# PAYREASON -> the ending. Paid, declined and unknown are not here: they carry more than a word.
ENDINGS: Final[dict[str, Ending]] = {
    # The caller's own
    "hangup": Ending(PayStatus.HANGUP, ()),
    "cancelled": Ending(PayStatus.CANCELLED, ("cancelled",)),
    "operator": Ending(PayStatus.OPERATOR, ("operator",)),
    "no-input": Ending(PayStatus.NOINPUT, ("gave-up",)),
    "call-too-long": Ending(PayStatus.NOINPUT, ("gave-up",)),
    # Our rules
    "already-paid": Ending(PayStatus.REFUSED, ("already-paid",)),
    "order-busy": Ending(PayStatus.REFUSED, ("order-busy",)),
    "under-review": Ending(PayStatus.REFUSED, ("under-review",)),
    "order-not-found": Ending(PayStatus.REFUSED, ("order-not-found",)),
    "order-closed": Ending(PayStatus.REFUSED, ("order-closed",)),
    "limit-caller": Ending(PayStatus.REFUSED, ("over-limit", "try-later")),
    "limit-card": Ending(PayStatus.REFUSED, ("over-limit", "try-later")),
    "limit-order": Ending(PayStatus.REFUSED, ("over-limit", "try-later")),
    "limit-total": Ending(PayStatus.REFUSED, ("over-limit", "try-later")),
    "too-many-calls": Ending(PayStatus.REFUSED, ("over-limit", "try-later")),
    "paused": Ending(PayStatus.REFUSED, ("paused", "try-later")),
    # Technical, certainly not charged
    "order-lookup-failed": Ending(PayStatus.FAILED, ("order-lookup-failed", "try-later")),
    "pin-not-sent": Ending(PayStatus.FAILED, ("failed",)),
    "out-of-order": Ending(PayStatus.FAILED, ("out-of-order",)),
    "shutting-down": Ending(PayStatus.FAILED, ("out-of-order",)),
    "not-recorded": Ending(PayStatus.FAILED, ("out-of-order",)),
}
# Those that say nothing of the order: a decline earlier in the call is still how it ended.
NOT_NOW: Final = frozenset({"limit-caller", "limit-card", "limit-order", "limit-total", "paused"})
# How an invoice stands with the merchant (orders.Standing), if it is not to be paid -> PAYREASON.
NOT_PAYABLE: Final = {"paid": "already-paid", "closed": "order-closed", "unreachable": "order-lookup-failed"}
# What the dialplan asked for is wrong (request.BadRequest's words): the admin's to mend.
BAD_REQUEST: Final = Ending(PayStatus.REFUSED, ("out-of-order",))
# `pay` failed for certain: not one byte left, or the gateway refused the request itself.
PAY_FAILED: Final = Ending(PayStatus.FAILED, ("failed",))
