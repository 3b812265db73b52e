"""One call's payment so far: what is known, what was tried, and how the call will end.

The card number and the PIN live here, in a running call's memory and nowhere else, and only until
they are used. How the call ends is set before the caller hears it, so that a hang-up in the
middle of a sentence changes nothing about what the dialplan is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ivr_agi import outcomes, prompts
from ivr_agi.model import PayAnswer, PayStatus, Verdict
from ivr_agi.request import BadRequest, PayRequest

if TYPE_CHECKING:
    from ivr_agi.model import Msisdn, Pan, Pin
    from ivr_agi.orders import Orders
    from ivr_agi.payments import Attempt, Payments


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that shape a call: seconds, rials, counts (settings.py describes each)."""

    language: str
    pin_min: int
    pin_max: int
    otp_cooldown: float
    max_pins: int
    max_cards: int
    max_payments: int
    amounts: range
    tries: int
    invoice_digits: int
    declines_explained: int
    spoken_unit: str


@dataclass(frozen=True, slots=True)
class Result:
    """How the call ends: what the dialplan is told, and the prompts that the caller hears."""

    status: PayStatus
    reason: str = ""
    ref_id: str = ""
    code: str = ""
    prompts: tuple[str, ...] = ()


BROKEN: Final = Result(PayStatus.FAILED, "out-of-order")  # a call that came to no end of its own


@dataclass(slots=True, eq=False)
class Payment:
    """The payment of one call. caller_id as Asterisk gave it; call_id is Asterisk's unique id."""

    payments: Payments
    rules: Rules
    caller_id: str = ""
    call_id: str = ""
    request: PayRequest = field(default_factory=PayRequest)
    orders: Orders | None = None  # the merchant's endpoint, for a request that leaves the order to the caller
    refusal: BadRequest | None = None  # what the dialplan asked for cannot be done
    crowded: bool = False  # this caller has too many calls already

    order_id: str = ""
    amount: int = 0  # rials; 0 until known
    mobile: Msisdn | None = None
    pan: Pan | None = None
    pin: Pin | None = None
    card: str = ""  # masked
    lead: tuple[str, ...] = ()  # clips to be said in front of the next question

    attempt: Attempt | None = None  # open: it holds the order, and no `pay` has left for it
    attempt_id: int | None = None  # the last one, open or settled
    pins: int = 0  # one-time PINs asked for in this call
    pin_asked_at: float | None = None  # loop time; None when a new one needs no cool-down
    cards: int = 0
    submissions: int = 0
    state: str = ""  # the one that the call is in, or was in last
    reached: str = ""  # the furthest one
    furthest: int = -1  # its place
    steps: int = 0  # states visited
    result: Result | None = None

    def enter(self, state: str, place: int) -> None:
        """The call is in this state now. place: how far along it is, in the order a caller meets them."""
        self.state, self.steps = state, self.steps + 1
        if place > self.furthest:
            self.reached, self.furthest = state, place

    def end(self, reason: str) -> None:
        """Set how the call ends, by a word of outcomes.ENDINGS."""
        ending = outcomes.ENDINGS[reason]
        self.result = Result(ending.status, reason, prompts=ending.prompts)

    def turn_away(self, reason: str) -> None:
        """Our own rules let it go no further. Of a limit or a pause, what the bank has said before stands."""
        said = self.result
        if said is not None and said.status is PayStatus.DECLINED and reason in outcomes.NOT_NOW:
            self.result = replace(said, reason=reason, prompts=outcomes.ENDINGS[reason].prompts)
        else:
            self.end(reason)

    def refuse(self, refusal: BadRequest) -> None:
        """End because of what the dialplan asked for."""
        self.result = Result(
            outcomes.BAD_REQUEST.status, refusal.reason, prompts=outcomes.BAD_REQUEST.prompts
        )

    def leave(self, reason: str) -> None:
        """The caller has gone or given up. What the bank has said before that still stands."""
        if self.result is None:
            self.end(reason)
        elif self.result.status is PayStatus.DECLINED:
            self.result = replace(self.result, reason=reason, prompts=outcomes.ENDINGS[reason].prompts)

    def broken(self, reason: str) -> None:
        """A failure of ours ends the call; once `pay` may have left, its outcome is in doubt."""
        if self.result is None or self.result.status is PayStatus.DECLINED:
            self.end(reason)

    def submit(self) -> tuple[Attempt, Pan, Pin]:
        """Take what `pay` needs, and expect the worst until its answer is known."""
        if self.attempt is None or self.pan is None or self.pin is None:
            raise RuntimeError("nothing to submit: a state was skipped")
        taken = self.attempt, self.pan, self.pin
        self.attempt = self.pin = self.pin_asked_at = None
        self.submissions += 1
        self.settle(PayAnswer(Verdict.UNKNOWN, detail="internal-error"))
        return taken

    def settle(self, answer: PayAnswer) -> None:
        """Set the result that an answer of the gateway means."""
        match answer.verdict:
            case Verdict.PAID:
                # Which card it was is told where there is a choice: after another one was declined.
                which = ("card-is", *prompts.card_ending(self.card)) if self.cards > 1 else ()
                self.result = Result(PayStatus.PAID, ref_id=answer.ref_id, prompts=("paid", *which))
            case Verdict.DECLINED:
                self.result = Result(
                    PayStatus.DECLINED, code=answer.code, prompts=_decline_prompts(answer.code)
                )
            case Verdict.FAILED if answer.detail in outcomes.ENDINGS:
                self.end(answer.detail)
            case Verdict.FAILED:
                self.result = Result(
                    outcomes.PAY_FAILED.status, answer.detail, prompts=outcomes.PAY_FAILED.prompts
                )
            case Verdict.UNKNOWN:
                reference = prompts.reference(str(self.attempt_id)) if self.attempt_id else ()
                self.result = Result(
                    PayStatus.UNKNOWN, answer.detail, prompts=("unknown", "reference-is", *reference)
                )

    def close(self, reason: str) -> None:
        """A decline that ends the call because of a cap: say so, and tell why."""
        if self.result is not None:
            closing = ("too-many-cards",) if reason == "too-many-cards" else ()
            self.result = replace(self.result, reason=reason, prompts=(*self.result.prompts, *closing))

    async def explains(self, code: str) -> bool:
        """Whether the reason of the last decline is told.

        What tells something of the card may be kept back; what tells him not to pay again, never.
        """
        if self.attempt_id is None or outcomes.decline(code).review is not outcomes.Review.NONE:
            return True
        return await self.payments.explains(self.attempt_id, self.rules.declines_explained)

    def say_no_more(self) -> None:
        """A decline whose reason the caller is not told: the line answers no questions about cards."""
        if self.result is not None:
            self.result = replace(self.result, reason="not-explained", prompts=("declined",))

    async def release(self, reason: str) -> None:
        """Let go of an open attempt: no `pay` has left for it, its order may be paid again."""
        if self.attempt is not None:
            attempt, self.attempt = self.attempt, None
            await self.payments.abandon(attempt, reason)

    def variables(self) -> dict[str, str]:
        """The channel variables of product.md; PAYSTATUS last, since the dialplan judges by it."""
        result = self.result or BROKEN
        return {
            "PAYREFID": result.ref_id,
            "PAYCODE": result.code,
            "PAYREASON": result.reason,
            "PAYORDERID": self.order_id,
            "PAYAMOUNT": str(self.amount) if self.amount else "",
            "PAYCARD": self.card,
            "PAYID": "" if self.attempt_id is None else str(self.attempt_id),
            "PAYSTATUS": result.status,
        }

    def summary(self) -> dict[str, object]:
        """The call in one line of the log, once it has ended; of card and caller no more than the mask."""
        result = self.result or BROKEN
        return {
            "status": result.status,
            "code": result.code,
            "reason": result.reason,
            "ref_id": result.ref_id,
            "attempt": self.attempt_id,
            "amount": self.amount,
            "card": self.card,
            "state": self.state,  # the last one
            "steps": self.steps,
            "pins": self.pins,
            "cards": self.cards,
            "payments": self.submissions,
        }


def _decline_prompts(code: str) -> tuple[str, ...]:
    """The sentence for a code; one that the table does not have is read out."""
    prompt = outcomes.decline(code).prompt
    if code in outcomes.DECLINES or not code.isdecimal():
        return (prompt,)
    return (prompt, "code-is", *prompts.digits(code))
