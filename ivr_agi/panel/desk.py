"""Payments that operators have under way: from the card to the outcome, one `Sale` each.

The card number is here, in memory, from the form to the outcome of `pay`, and nowhere else; a sale that is
left alone is let go of, card and all. However often a form is sent, by a double click, a reload or two
tabs: a ticket begins one sale, and a sale that waits for its PIN is submitted once. Who has a sale under
way may close the browser: what was sent is carried through, as in a call.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import outcomes
from ivr_agi.model import Method, OtpVerdict, PayAnswer, Verdict
from ivr_agi.outcomes import Next
from ivr_agi.payments import JournalError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ivr_agi.model import Msisdn, OtpAnswer, Pan, Pin
    from ivr_agi.payments import Attempt, Payments
    from ivr_agi.settings import Settings

log = structlog.get_logger()

KEPT: Final = 3600.0  # seconds for which the outcome of a sale can be seen under its own address
MOMENT: Final = 1.5  # seconds
MOST: Final = 500  # sales remembered
MOST_OPEN: Final = 20  # of one operator


class Stage(StrEnum):
    """How far a sale has come."""

    OPENING = "opening"
    PIN = "pin"  # waits for the PIN, or for a PIN to be sent
    PAYING = "paying"
    AGAIN = "again"  # declined, and the same card may have a new PIN
    OVER = "over"


@dataclass(eq=False)
class Sale:
    """One payment at the desk. amount in rials; asked_at, ends_at: the loop's time."""

    ticket: str
    owner: str
    order_id: str
    amount: int
    mobile: Msisdn
    card: str  # masked
    pan: Pan | None = field(repr=False)
    order_is_made: bool = False  # none was given
    stage: Stage = Stage.OPENING
    attempt: Attempt | None = None
    attempt_id: int | None = None
    pins: int = 0
    submissions: int = 0
    asked_at: float = 0.0
    ends_at: float = 0.0
    pin_sent: bool = False
    otp: OtpAnswer | None = None
    answer: PayAnswer | None = None
    explained: bool = True
    refusal: str = ""  # a word of outcomes.ENDINGS: why it went no further
    opening: asyncio.Task[None] | None = None
    paying: asyncio.Task[None] | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def agrees_with(self, other: Sale) -> bool:
        """Whether it is the same payment that is asked for: of the order it may not be known yet."""
        ours, theirs = (
            (sale.amount, sale.mobile, sale.card, "" if sale.order_is_made else sale.order_id)
            for sale in (self, other)
        )
        return ours == theirs


class Reused(Exception):  # noqa: N818 - an answer, not a fault
    """This ticket has begun another payment: an old form was filled in anew."""


class Full(Exception):  # noqa: N818 - an answer, not a fault
    """This operator has too many sales open."""


class Desk:
    """All sales of one server."""

    def __init__(self, payments: Payments, settings: Settings) -> None:
        self._payments = payments
        self._settings = settings
        self._sales: dict[tuple[str, str], Sale] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Sale, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()  # a sale is over, a step done
        self._closing = False

    def find(self, owner: str, ticket: str) -> Sale | None:
        """A sale of this operator's; None if it is not known here, or not any more."""
        return self._sales.get((owner, ticket))

    async def check_order(self, order_id: str) -> None:
        """Raise Refused if that order is paid, being paid or in doubt; JournalError."""
        await self._payments.check_order(order_id)

    async def begin(  # noqa: PLR0913 - what a sale consists of
        self,
        owner: str,
        ticket: str,
        order_id: str,
        amount: int,
        mobile: Msisdn,
        pan: Pan,
        begun: Callable[[int], Coroutine[object, object, None]],
        *,
        order_is_made: bool = False,
    ) -> Sale:
        """Reserve the order and have a PIN sent; a ticket that is known is the sale that it began.

        begun: told the attempt's id before a PIN is asked for. Raises Refused, JournalError, Full, Reused: no
        PIN was asked for.
        """
        sale = Sale(ticket, owner, order_id, amount, mobile, pan.masked, pan, order_is_made)
        if (known := self.find(owner, ticket)) and known.opening:
            if not known.agrees_with(sale):
                raise Reused
            await asyncio.shield(known.opening)
            return known
        if self._closing:
            raise Refused("shutting-down")
        if (
            sum(sale.owner == owner and sale.stage is not Stage.OVER for sale in self._sales.values())
            >= MOST_OPEN
        ):
            raise Full
        self._keep(sale)
        sale.opening = self._run(self._open(sale, begun))
        await asyncio.shield(sale.opening)
        return sale

    async def send_pin(self, sale: Sale) -> float:
        """Have one more PIN sent; returns 0, or the seconds to wait before that is possible.

        Raises Refused while the server comes to its end; JournalError.
        """
        async with sale.busy:
            if sale.stage not in (Stage.PIN, Stage.AGAIN):
                return 0.0
            if self._closing:
                raise Refused("shutting-down")
            wait = sale.asked_at + self._settings.otp_cooldown - self._now()
            if wait > 0:
                return wait
            await self._carry_through(self._ask_again(sale))
            return 0.0

    def submit(self, sale: Sale, pin: Pin) -> bool:
        """Pay, once, whoever waits for it; returns whether this was what began it."""
        if sale.stage is not Stage.PIN or not sale.pin_sent or sale.busy.locked():
            return False
        if sale.attempt is None or sale.pan is None:
            raise RuntimeError("waits for a PIN, and has no attempt")
        attempt, sale.attempt, sale.stage = sale.attempt, None, Stage.PAYING
        sale.answer = None
        sale.submissions += 1
        sale.paying = self._run(self._pay(sale, attempt, sale.pan, pin))
        return True

    async def outcome(self, sale: Sale) -> None:
        """Wait a moment for the bank: most answers come within it, and need no page that says to wait."""
        if sale.paying:
            await asyncio.wait({sale.paying}, timeout=MOMENT)

    async def cancel(self, sale: Sale, reason: str = "cancelled") -> None:
        """Let go of a sale for which nothing has been sent."""
        async with sale.busy:
            if sale.stage in (Stage.PIN, Stage.AGAIN, Stage.OPENING):
                attempt, sale.attempt = sale.attempt, None
                if sale.stage is not Stage.AGAIN:
                    sale.refusal = reason
                self._end(sale)
                if attempt is not None:
                    await self._payments.abandon(attempt, reason)

    def more_pins(self, sale: Sale) -> bool:
        """Whether the sale may have one more PIN."""
        return sale.pins < self._settings.max_pins

    def wait(self, sale: Sale) -> float:
        """Seconds until one more PIN may be asked for."""
        return max(0.0, sale.asked_at + self._settings.otp_cooldown - self._now())

    def left(self, sale: Sale) -> float:
        """Seconds until the sale is let go of."""
        return max(0.0, sale.ends_at - self._now())

    async def quiet(self) -> None:
        """Wait until no sale is open; no new one begins."""
        self._closing = True
        for sale in tuple(self._sales.values()):
            if sale.stage is Stage.AGAIN or (sale.stage is Stage.PIN and not sale.pin_sent):
                await self.cancel(sale, "shutting-down")  # no PIN can be sent for it any more
        while self._tasks or any(sale.stage is not Stage.OVER for sale in self._sales.values()):
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Let go of every sale for which nothing was sent, and forget all cards."""
        self._closing = True
        for sale in tuple(self._sales.values()):
            with suppress(JournalError):
                await self.cancel(sale, "shutting-down")
        while self._tasks:
            await asyncio.wait(self._tasks)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._sales.clear()

    # -- the steps ------------------------------------------------------------------------------------

    async def _open(self, sale: Sale, begun: Callable[[int], Coroutine[object, object, None]]) -> None:
        async with sale.busy:
            try:
                await self._payments.check_order(sale.order_id, sale.mobile)
                await begun(await self._reserve(sale))
                await self._request_pin(sale)
            except Exception:  # whatever it is, it came to nothing, and the form may be sent again
                await self._let_go(sale, "not-recorded")
                self._forget(sale)
                raise

    async def _reserve(self, sale: Sale) -> int:
        """Have the order held; returns the attempt's id. Raises Refused, JournalError."""
        if sale.pan is None:
            raise RuntimeError("no card: the sale is over")
        sale.attempt = await self._payments.reserve(
            Method.WEB, sale.order_id, sale.amount, sale.pan, sale.mobile
        )
        sale.attempt_id = sale.attempt.id
        sale.pin_sent = False
        return sale.attempt.id

    async def _request_pin(self, sale: Sale) -> None:
        """Have a PIN sent for the attempt that is open. What refuses it ends the sale."""
        if sale.attempt is None or sale.pan is None:
            raise RuntimeError("no attempt: a step was skipped")
        sale.pins += 1
        try:
            sale.otp = await self._payments.request_pin(sale.attempt, sale.pan)
        except Refused as refused:
            sale.refusal = refused.reason
            await self._let_go(sale, refused.reason)
            self._end(sale)
            return
        except (
            Exception
        ):  # the journal, or a bug of ours: no `pay` has left, and the order is not held for it
            await self._let_go(sale, "not-recorded")
            sale.refusal = "not-recorded"
            self._end(sale)
            raise
        sale.asked_at = self._now()
        sale.pin_sent = sale.pin_sent or sale.otp.verdict is OtpVerdict.SENT
        if not sale.pin_sent and (self._closing or not self.more_pins(sale)):
            sale.refusal = "shutting-down" if self._closing else "pin-not-sent"
            await self._let_go(sale, sale.refusal)
            self._end(sale)
            return
        sale.stage = Stage.PIN

    async def _ask_again(self, sale: Sale) -> None:
        if not self.more_pins(sale):
            return
        if sale.stage is Stage.AGAIN:
            try:
                await self._reserve(sale)
            except Refused as refused:
                sale.refusal = refused.reason
                self._end(sale)
                return
        await self._request_pin(sale)

    async def _pay(self, sale: Sale, attempt: Attempt, pan: Pan, pin: Pin) -> None:
        answer = PayAnswer(Verdict.UNKNOWN, detail="internal-error")
        try:
            answer = await self._payments.pay(attempt, pan, pin)
            sale.explained = await self._is_explained(attempt.id, answer)
        except Exception:  # a bug of ours: in doubt, and said so
            log.exception("panel.broken", attempt=attempt.id)
        finally:
            sale.answer = answer
            again = (
                answer.verdict is Verdict.DECLINED
                and sale.explained
                and self._may_try_again(sale, answer.code)
            )
            if again and not self._closing:
                sale.stage = Stage.AGAIN
                # The limit may have passed while the bank was asked.
                self._after(sale, max(self.left(sale), self._settings.pay_timeout), self._overdue)
            else:
                self._end(sale)

    def _may_try_again(self, sale: Sale, code: str) -> bool:
        return (
            outcomes.decline(code).next is Next.NEW_PIN
            and self.more_pins(sale)
            and sale.submissions < self._settings.max_payments
        )

    async def _is_explained(self, attempt_id: int, answer: PayAnswer) -> bool:
        """What tells something of a card may be kept back, as in a call; what says not to pay again, not."""
        if answer.verdict is not Verdict.DECLINED:
            return True
        if outcomes.decline(answer.code).review is not outcomes.Review.NONE:
            return True
        return await self._payments.explains(attempt_id, self._settings.declines_explained)

    async def _let_go(self, sale: Sale, reason: str) -> None:
        attempt, sale.attempt = sale.attempt, None
        if attempt is not None:
            await self._payments.abandon(attempt, reason)

    # -- what is remembered ---------------------------------------------------------------------------

    def _keep(self, sale: Sale) -> None:
        over = [key for key, other in self._sales.items() if other.stage is Stage.OVER]
        for key in over[: max(0, len(self._sales) + 1 - MOST)]:
            self._forget(self._sales[key])
        self._sales[sale.owner, sale.ticket] = sale
        sale.ends_at = self._now() + self._settings.call_limit
        self._after(sale, self._settings.call_limit, self._overdue)

    def _overdue(self, sale: Sale) -> None:
        """Left alone: the order is free again. What is being paid ends by itself, and sets its own limit."""
        self._run(self.cancel(sale, "no-input"))

    def _end(self, sale: Sale) -> None:
        sale.pan, sale.stage = None, Stage.OVER
        self._changed.set()
        self._after(sale, KEPT, self._forget)

    def _forget(self, sale: Sale) -> None:
        sale.pan = None
        self._changed.set()
        self._sales.pop((sale.owner, sale.ticket), None)
        if timer := self._timers.pop(sale, None):
            timer.cancel()

    def _after(self, sale: Sale, seconds: float, do: Callable[[Sale], None]) -> None:
        if timer := self._timers.pop(sale, None):
            timer.cancel()
        self._timers[sale] = asyncio.get_running_loop().call_later(seconds, do, sale)

    def _run(self, step: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(step, name="desk")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    async def _carry_through(self, step: Coroutine[object, object, None]) -> None:
        """Do a step to its end, also when the browser that asked for it is gone. Raises what it raises."""
        await asyncio.shield(self._run(step))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
