"""A payment's durable steps: reserve the order, ask for a PIN, submit once, settle.

The order of writes is what keeps the promises. An order is reserved in the journal before
anything is asked of the gateway; `sent` is on disk before `pay` leaves; and whatever comes back
is written before anybody is told. Nothing here is ever posted twice, and once `pay` has begun it
is carried through, whoever has hung up or given up waiting. What the journal does not take at once
is owed to it, and tried again until it does.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import metrics, outcomes
from ivr_agi.cardhash import CardHash
from ivr_agi.journal import (
    AttemptState,
    IllegalStep,
    JournalError,
    NewAttempt,
    OrderHeld,
    OverLimit,
    Paused,
    Refusal,
    Resolution,
    Who,
    make_key,
)
from ivr_agi.model import MASKED, OtpAnswer, OtpVerdict, PayAnswer, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ivr_agi.gateway import Gateway
    from ivr_agi.journal import Journal
    from ivr_agi.model import Method, Msisdn, Pan, Pin

__all__ = ["Attempt", "JournalError", "Payments", "Refused"]

log = structlog.get_logger()

SETTLE_WAITS: Final = (0.1, 0.5, 1, 2, 4, 8, 16, 30)  # seconds between tries to write; the last one again
CALLER_WAITS: Final = 20.0  # seconds that a caller waits for an outcome to be written
COUNT_WAITS: Final = 2.0  # and for a count of declines
LAST_TRIES: Final = 60.0  # seconds for what is still owed when the server stops
FENCE: Final = 20.0  # seconds between asking for `sent` to be written and the request's leaving

# The state that holds an order -> PAYREASON of the call that is turned away.
HELD_BECAUSE: Final[dict[AttemptState, str]] = {
    AttemptState.CREATED: "order-busy",
    AttemptState.OTP_SENT: "order-busy",
    AttemptState.SENT: "order-busy",
    AttemptState.PAID: "already-paid",
    AttemptState.RESOLVED: "already-paid",
    AttemptState.UNKNOWN: "under-review",
    AttemptState.DECLINED: "under-review",
}


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """No payment now. reason: the word for PAYREASON (outcomes.ENDINGS)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _refused(refusal: Refusal) -> Refused:
    """What the caller is told of a refusal of the journal's; what the admin, is logged."""
    match refusal:
        case OrderHeld():
            return Refused(HELD_BECAUSE[refusal.state])
        case OverLimit():
            metrics.over_limit.labels(refusal.scope).inc()
            name = f"IVR_AGI_LIMIT_{refusal.scope.upper()}"
            log.warning("limit.reached", limit=str(refusal.limit), of=refusal.scope, cure=f"{name} sets it")
            return Refused(f"limit-{refusal.scope}")
        case Paused():
            return Refused("paused")
    raise refusal


@dataclass(slots=True)
class Attempt:
    """An attempt under way. id: the journal's. amount in rials.

    counted: whether the PIN that is asked for next has been counted already.
    """

    id: int
    method: Method
    order_id: str
    amount: int
    mobile: Msisdn
    who: Who
    counted: bool = True


def clock() -> float:
    """Seconds that go on while the machine sleeps, or this process is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ms_since(when: float) -> int:
    """Milliseconds since then, by time.perf_counter."""
    return round((time.perf_counter() - when) * 1000)


class Payments:
    """What may be done with money, by phone and from the panel alike."""

    def __init__(self, journal: Journal, gateway: Gateway, card_hash: CardHash | None = None) -> None:
        """card_hash: how an attempt's card is remembered; not at all unless given."""
        self._journal = journal
        self._gateway = gateway
        self._card_hash = card_hash or CardHash()
        self._under_way: set[asyncio.Task[PayAnswer]] = set()
        self._owed: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()  # ended, and being remembered
        self._closed = False

    async def check_order(self, order_id: str, caller: str = "") -> None:
        """Raise Refused if the order is paid, being paid or in doubt, or a limit is reached.

        Either may be '': not known yet, or withheld. Raises JournalError when out of order.
        """
        self._check_journal()
        try:
            await self._journal.may_begin(Who(order_id, caller))
        except Refusal as refusal:
            raise _refused(refusal) from None

    async def reserve(  # noqa: PLR0913 - what an attempt consists of
        self,
        method: Method,
        order_id: str,
        amount: int,
        pan: Pan,
        mobile: Msisdn,
        call: str = "",
        caller: str = "",
    ) -> Attempt:
        """Reserve the order for this attempt. caller: name_caller's; the mobile where that is withheld.

        Raises Refused, JournalError.
        """
        key = make_key()
        caller = caller or mobile
        new = NewAttempt(
            order_id,
            method,
            amount,
            pan.masked,
            mobile,
            call,
            self._card_hash.of(pan),
            caller,
            self._card_hash.every(pan),
        )
        try:
            attempt_id = await self._journal.reserve(new, key=key)
        except Refusal as refusal:
            raise _refused(refusal) from None
        except JournalError:
            # It may have been begun all the same, and would hold the order.
            self._owe(
                "withdrawal", lambda _again: self._journal.withdraw(key, "not-recorded"), order=order_id
            )
            raise
        return Attempt(attempt_id, method, order_id, amount, mobile, new.who)

    async def request_pin(self, attempt: Attempt, pan: Pan) -> OtpAnswer:
        """Have a one-time PIN sent; may be repeated within an attempt. Raises Refused, JournalError."""
        self._check_journal()
        if not attempt.counted:
            try:
                await self._journal.ask_pin(attempt.id, attempt.who)
            except Refusal as refusal:
                raise _refused(refusal) from None
        attempt.counted = False
        since = time.perf_counter()
        asked = self._gateway.request_pin(pan, attempt.amount, attempt.order_id)
        answer = await metrics.timed("otp-v2", asked)
        ms = _ms_since(since)
        if answer.verdict is OtpVerdict.SENT:
            await self._journal.step(attempt.id, AttemptState.OTP_SENT, ms=ms)
        elif answer.verdict is OtpVerdict.UNCLEAR:
            await self._journal.note(attempt.id, f"otp-v2 {answer.verdict}: {answer.detail}", ms=ms)
        else:
            left = answer.verdict is OtpVerdict.REFUSED
            note = f"otp-v2 {answer.verdict}: {answer.detail}"
            await self._journal.pin_not_sent(attempt.id, note, left=left, ms=ms)
        log.info("otp.answered", attempt=attempt.id, verdict=answer.verdict, detail=answer.detail)
        return answer

    async def explains(self, attempt_id: int, most: int) -> bool:
        """Whether its decline's reason is told: not once so many of that caller or card have been, today.

        most: 0 for no such number. Where the journal does not answer, nothing is told.
        """
        if not most:
            return True
        try:
            async with asyncio.timeout(COUNT_WAITS):
                return await self._journal.declines(attempt_id) <= most
        except (JournalError, TimeoutError):
            return False

    def remember_call(self, **call: Any) -> None:
        """Have a call that has ended remembered. Nothing hangs on it, and nobody waits for it."""

        async def write() -> None:
            with suppress(JournalError):
                await self._journal.record_call(**call)

        task = asyncio.create_task(write(), name="call-record")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def abandon(self, attempt: Attempt, reason: str) -> None:
        """Let go of an attempt for which no `pay` has left; its order may be paid again."""
        key = make_key()

        async def let_go(again: bool) -> None:
            await self._journal.step(attempt.id, AttemptState.FAILED, key=key, again=again, reason=reason)

        try:
            await let_go(again=False)
        except JournalError as error:
            # Not charged; the order stays held until this is written, or the next start clears it.
            log.error("journal.failed", attempt=attempt.id, wanted="failed", error=str(error))
            self._owe("failed", lambda _again: let_go(again=True), attempt=attempt.id)
        except IllegalStep as error:
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

    async def quiet(self) -> None:
        """Wait until nothing is under way, nothing owed, and no late answer listened for."""
        while self._under_way or self._owed:
            await asyncio.wait(self._under_way | self._owed)
        await self._gateway.listened()
        if self._owed:
            await self.quiet()

    async def finish(self) -> None:
        """Wait until every `pay` under way is settled; each is bounded by its own time limit.

        Late answers are no longer listened for, and what the journal still does not take is given up
        with a line in the log that has it all.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._gateway.close()
        if self._calls:
            await asyncio.wait(self._calls)  # the journal's own patience bounds it
        if self._owed:
            _, lost = await asyncio.wait(self._owed, timeout=LAST_TRIES)
            for task in lost:
                task.cancel()
            if lost:
                log.critical(
                    "journal.owed_for_ever",
                    writes=len(lost),
                    cure="the journal says `sent`, and `unknown` from the next start on: settle each by its"
                    " last line journal.outcome_not_written",
                )
                await asyncio.wait(lost)

    def _check_journal(self) -> None:
        """Begin nothing while the journal is out of order. Raises JournalError."""
        if trouble := self._journal.trouble:
            raise JournalError(f"the journal is out of order, and no payment begins: {trouble}")

    async def _submit(self, attempt: Attempt, pan: Pan, pin: Pin, gone: Callable[[], bool]) -> PayAnswer:
        since = clock()
        try:
            await self._journal.step(attempt.id, AttemptState.SENT)
        except (JournalError, IllegalStep) as error:
            log.error("journal.failed", attempt=attempt.id, wanted="sent", error=str(error))
            await self.abandon(attempt, "not-recorded")
            return PayAnswer(Verdict.FAILED, detail="not-recorded")
        if word := self._hindrance(gone, since):
            answer = PayAnswer(Verdict.FAILED, detail=word)
            await self._settle(attempt, answer)
            return answer
        asked_at = time.perf_counter()
        try:
            asked = self._gateway.pay(
                attempt.method,
                pan,
                pin,
                attempt.amount,
                attempt.order_id,
                attempt.mobile,
                late=partial(self._settle_late, attempt),
            )
            answer = await metrics.timed("pay", asked)
        except Exception as error:  # noqa: BLE001 - a bug of ours after `sent`: in doubt, never lost
            log.error("pay.broken", attempt=attempt.id, error=type(error).__name__)
            answer = PayAnswer(Verdict.UNKNOWN, detail="internal-error")
        await self._settle(attempt, answer, _ms_since(asked_at))
        log.info(
            "pay.answered",
            attempt=attempt.id,
            verdict=answer.verdict,
            code=answer.code,
            detail=answer.detail,
        )
        return answer

    def _hindrance(self, gone: Callable[[], bool], since: float) -> str:
        """Why the request must not leave although `sent` is written; '' for nothing."""
        if gone():
            return "hangup"
        if self._closed:
            return "shutting-down"
        # Stopped for long between the two, another server may have taken us for gone, a person may have
        # looked and let the order be paid again.
        return "not-recorded" if clock() - since > FENCE else ""

    async def _settle(self, attempt: Attempt, answer: PayAnswer, ms: int | None = None) -> None:
        """Write the outcome down. It is owed until it is written; the caller waits only so long."""
        await asyncio.wait({self._owe_outcome(attempt, answer, ms=ms)}, timeout=CALLER_WAITS)

    def _settle_late(self, attempt: Attempt, answer: PayAnswer) -> None:
        """An answer after our time limit: it still settles what was called unknown."""
        metrics.late_answers.labels(answer.verdict).inc()
        log.warning(
            "pay.late", attempt=attempt.id, verdict=answer.verdict, code=answer.code, detail=answer.detail
        )
        if answer.verdict is Verdict.UNKNOWN:
            key, line = make_key(), f"late, and unclear: {answer.detail}"
            self._owe("note", lambda again: self._journal.note(attempt.id, line, key=key, again=again))
        else:
            self._owe_outcome(attempt, answer, "late")

    def _owe_outcome(
        self, attempt: Attempt, answer: PayAnswer, note: str = "", ms: int | None = None
    ) -> asyncio.Task[None]:
        return self._owe(
            answer.verdict,
            partial(self._write_outcome, attempt, answer, make_key(), note, ms),
            attempt=attempt.id,
            order=attempt.order_id,
            verdict=answer.verdict,
            ref_id=answer.ref_id,
            code=answer.code,
        )

    async def _write_outcome(  # noqa: PLR0913 - what an outcome consists of
        self, attempt: Attempt, answer: PayAnswer, key: str, note: str, ms: int | None, again: bool
    ) -> None:
        review = outcomes.Review.NONE
        if answer.verdict is Verdict.UNKNOWN:
            review = outcomes.Review.CHARGED
        elif answer.verdict is Verdict.DECLINED:
            review = outcomes.decline(answer.code).review
        elif answer.ref_id == MASKED:  # paid; its number cannot be told from a secret that was repeated
            review = outcomes.Review.CHECK
        try:
            await self._journal.step(
                attempt.id,
                AttemptState(answer.verdict),
                # Should it be the note that cannot be stored, it is left out the second time.
                ": ".join(filter(None, (note, "" if again else answer.detail))),
                holds_order=True if review is outcomes.Review.CHARGED else None,
                key=key,
                again=again,
                ms=ms,
                code=answer.code,
                ref_id=answer.ref_id,
                review=review,
                reason=answer.detail[:80] if answer.verdict in (Verdict.FAILED, Verdict.UNKNOWN) else "",
            )
        except IllegalStep as error:
            await self._contradicted(attempt, answer, key, str(error), again=again)

    async def _contradicted(
        self, attempt: Attempt, answer: PayAnswer, key: str, error: str, *, again: bool
    ) -> None:
        """An outcome for an attempt that has one already: nothing is overwritten, a person must look."""
        row = await self._journal.get(attempt.id) or {}
        paid = answer.verdict is Verdict.PAID
        agrees = row.get("state") == answer.verdict or (
            row.get("state") == AttemptState.RESOLVED and (row["resolution"] == Resolution.PAID) == paid
        )
        words = f"the gateway said {answer.verdict} {answer.code or answer.ref_id}".rstrip()
        review = "" if agrees else outcomes.Review.CHARGED
        await self._journal.note(attempt.id, words, review=review, key=key, again=again)
        if not agrees:
            log.critical(
                "journal.contradicted",
                attempt=attempt.id,
                order=attempt.order_id,
                verdict=answer.verdict,
                ref_id=answer.ref_id,
                code=answer.code,
                error=error,
                cure=f"ask the bank, then `ivr-agi journal resolve {attempt.id}`",
            )

    def _owe(
        self, what: str, write: Callable[[bool], Awaitable[None]], **about: object
    ) -> asyncio.Task[None]:
        """Have something written, by whatever number of tries. write: is told whether it was tried before."""
        task = asyncio.create_task(self._try_and_try(what, write, about), name=f"owed-{what}")
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)
        return task

    async def _try_and_try(
        self, what: str, write: Callable[[bool], Awaitable[None]], about: dict[str, object]
    ) -> None:
        tries = 0
        while True:
            try:
                return await write(tries > 0)
            except IllegalStep:
                return None
            except Exception as error:  # noqa: BLE001 - whatever it is, what is owed must not be lost to it
                wait = SETTLE_WAITS[min(tries, len(SETTLE_WAITS) - 1)]
                log.critical(
                    "journal.outcome_not_written",
                    wanted=what,
                    **about,
                    error=str(error) if isinstance(error, JournalError) else type(error).__name__,
                    again_in=wait,
                    cure="see to the journal's disk or database; if it stays so, the journal says `sent`, and"
                    " `unknown` from the next start on: settle it by this line",
                )
            tries += 1
            await asyncio.sleep(wait)
