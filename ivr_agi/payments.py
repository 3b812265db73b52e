"""A payment's durable steps: reserve the order, ask for a PIN, submit once, settle.

The order of writes is what keeps the promises. An order is reserved in the journal before
anything is asked of the gateway; `sent` is on disk before `pay` leaves; and whatever comes back
is written before anybody is told. Nothing here is ever posted twice, and once `pay` has begun it
is carried through, whoever has hung up or given up waiting.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import metrics, outcomes
from ivr_agi.journal import AttemptState, IllegalStep, JournalError, NewAttempt, OrderHeld
from ivr_agi.model import OtpAnswer, OtpVerdict, PayAnswer, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from ivr_agi.gateway import Gateway
    from ivr_agi.journal import Journal
    from ivr_agi.model import Method, Msisdn, Pan, Pin

__all__ = ["Attempt", "JournalError", "Payments", "Refused"]

log = structlog.get_logger()

SETTLE_WAITS: Final = (0.1, 0.5, 1, 2, 4, 8, 16)  # seconds between tries to write an outcome down

# The state that holds an order -> PAYREASON of the call that is turned away.
HELD_BECAUSE: Final[dict[AttemptState, str]] = {
    AttemptState.CREATED: "order-busy",
    AttemptState.OTP_SENT: "order-busy",
    AttemptState.SENT: "order-busy",
    AttemptState.PAID: "already-paid",
    AttemptState.UNKNOWN: "under-review",
    AttemptState.DECLINED: "under-review",
}


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The order is not to be paid now. reason: the word for PAYREASON (outcomes.ENDINGS)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt under way. id: the journal's. amount in rials."""

    id: int
    method: Method
    order_id: str
    amount: int
    mobile: Msisdn


class Payments:
    """What may be done with money, by phone and from the panel alike."""

    def __init__(self, journal: Journal, gateway: Gateway) -> None:
        self._journal = journal
        self._gateway = gateway
        self._under_way: set[asyncio.Task[PayAnswer]] = set()
        self._closed = False

    async def check_order(self, order_id: str) -> None:
        """Raise Refused if the order is paid, being paid or in doubt; JournalError."""
        state = await self._journal.standing(order_id)
        if state is not None:
            raise Refused(HELD_BECAUSE[state])

    async def reserve(  # noqa: PLR0913 - what an attempt consists of
        self, method: Method, order_id: str, amount: int, pan: Pan, mobile: Msisdn, call: str = ""
    ) -> Attempt:
        """Reserve the order for this attempt. Raises Refused, JournalError."""
        try:
            attempt_id = await self._journal.reserve(
                NewAttempt(order_id, method, amount, pan.masked, mobile, call)
            )
        except OrderHeld as held:
            raise Refused(HELD_BECAUSE[held.state]) from None
        return Attempt(attempt_id, method, order_id, amount, mobile)

    async def request_pin(self, attempt: Attempt, pan: Pan) -> OtpAnswer:
        """Have a one-time PIN sent; may be repeated within an attempt. Raises JournalError."""
        asked = self._gateway.request_pin(pan, attempt.amount, attempt.order_id)
        answer = await metrics.timed("otp-v2", asked)
        if answer.verdict is OtpVerdict.SENT:
            await self._journal.step(attempt.id, AttemptState.OTP_SENT)
        else:
            await self._journal.note(attempt.id, f"otp-v2 {answer.verdict}: {answer.detail}")
        log.info("otp.answered", attempt=attempt.id, verdict=answer.verdict, detail=answer.detail)
        return answer

    async def abandon(self, attempt: Attempt, reason: str) -> None:
        """Let go of an attempt for which no `pay` has left; its order may be paid again."""
        try:
            await self._journal.step(attempt.id, AttemptState.FAILED, reason=reason)
        except (JournalError, IllegalStep) as error:
            # Not charged; the order stays held until the next start clears it.
            log.error("journal.failed", attempt=attempt.id, wanted="failed", error=str(error))

    async def pay(
        self, attempt: Attempt, pan: Pan, pin: Pin, gone: Callable[[], bool] = lambda: False
    ) -> PayAnswer:
        """Submit once and settle. Carried through even when the caller of this is cancelled.

        gone: whether the payer has left; asked for the last time right before the request leaves.
        Failed with detail `hangup`, `shutting-down` or `not-recorded`: not one byte has left.
        """
        task = asyncio.create_task(self._submit(attempt, pan, pin, gone), name=f"pay-{attempt.id}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def close(self) -> None:
        """Let no new `pay` leave; those under way go on."""
        self._closed = True

    async def finish(self) -> None:
        """Wait until every `pay` under way is settled; each is bounded by its own time limit."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _submit(self, attempt: Attempt, pan: Pan, pin: Pin, gone: Callable[[], bool]) -> PayAnswer:
        try:
            await self._journal.step(attempt.id, AttemptState.SENT)
        except (JournalError, IllegalStep) as error:
            log.error("journal.failed", attempt=attempt.id, wanted="sent", error=str(error))
            await self.abandon(attempt, "not-recorded")
            return PayAnswer(Verdict.FAILED, detail="not-recorded")
        if gone() or self._closed:
            answer = PayAnswer(Verdict.FAILED, detail="hangup" if gone() else "shutting-down")
            await self._settle(attempt, answer)
            return answer
        try:
            asked = self._gateway.pay(
                attempt.method, pan, pin, attempt.amount, attempt.order_id, attempt.mobile
            )
            answer = await metrics.timed("pay", asked)
        except Exception as error:  # noqa: BLE001 - a bug of ours after `sent`: in doubt, never lost
            log.error("pay.broken", attempt=attempt.id, error=type(error).__name__)
            answer = PayAnswer(Verdict.UNKNOWN, detail="internal-error")
        await self._settle(attempt, answer)
        log.info(
            "pay.answered",
            attempt=attempt.id,
            verdict=answer.verdict,
            code=answer.code,
            detail=answer.detail,
        )
        return answer

    async def _settle(self, attempt: Attempt, answer: PayAnswer) -> None:
        """Write the outcome down; a failing journal is tried again, for it is the only memory."""
        state = AttemptState(answer.verdict)
        review = outcomes.Review.NONE
        if answer.verdict is Verdict.UNKNOWN:
            review = outcomes.Review.CHARGED
        elif answer.verdict is Verdict.DECLINED:
            review = outcomes.decline(answer.code).review
        reason = answer.detail[:80] if answer.verdict in (Verdict.FAILED, Verdict.UNKNOWN) else ""
        note = answer.detail
        for wait in (*SETTLE_WAITS, None):
            try:
                await self._journal.step(
                    attempt.id,
                    state,
                    note,
                    holds_order=True if review is outcomes.Review.CHARGED else None,
                    code=answer.code,
                    ref_id=answer.ref_id,
                    review=review,
                    reason=reason,
                )
            except IllegalStep as error:
                log.critical(
                    "journal.illegal_step", attempt=attempt.id, verdict=answer.verdict, error=str(error)
                )
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the outcome must not be lost to it
                note = ""  # should it be the note that cannot be stored
                log.critical(
                    "journal.outcome_not_written",
                    attempt=attempt.id,
                    order=attempt.order_id,
                    verdict=answer.verdict,
                    ref_id=answer.ref_id,
                    code=answer.code,
                    error=str(error) if isinstance(error, JournalError) else type(error).__name__,
                    again_in=wait,
                    cure="after the last try the journal says `sent`, and `unknown` from the next start on:"
                    " settle it by this line",
                )
                if wait is None:
                    return
                await asyncio.sleep(wait)
            else:
                return
