"""THE CALL: its states, which event leads from which to which, and a handler for each, in order.

Read it top to bottom: it is the call as the caller meets it. TRANSITIONS is the only authority; the
runner (`conversation.py`) refuses what it does not have, `ivr-agi flow` prints it, and a test walks
every line of it. A handler says and asks, and returns an event; money moves in `payments.py` alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import outcomes, prompts
from ivr_agi.call import Forged, GaveUp, Question
from ivr_agi.model import (
    BANKS,
    Hangup,
    Language,
    Method,
    Msisdn,
    OtpVerdict,
    Pan,
    PayStatus,
    Pin,
    Verdict,
    name_caller,
)
from ivr_agi.orders import Standing
from ivr_agi.outcomes import Next
from ivr_agi.payments import Refused
from ivr_agi.request import BadRequest, make_order_id, read_amount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ivr_agi.call import Call
    from ivr_agi.session import Payment, Rules

log = structlog.get_logger()


class State(StrEnum):
    """Where the caller is."""

    WELCOME = "welcome"
    LANGUAGE = "language"
    INVOICE = "invoice"
    ORDER = "order"
    AMOUNT = "amount"
    CONFIRM = "confirm"
    MOBILE = "mobile"
    CARD = "card"
    OTP = "otp"
    PIN = "pin"
    PAY = "pay"
    END = "end"


class Event(StrEnum):
    """What happened there."""

    READY = "ready"
    ENTERED = "entered"
    ACCEPTED = "accepted"
    CANCELLED = "cancelled"
    OPERATOR = "operator"
    REFUSED = "refused"  # by our own rules
    PIN_SENT = "pin-sent"
    NEW_PIN = "new-pin"
    NEW_CARD = "new-card"
    PAID = "paid"
    DECLINED = "declined"
    FAILED = "failed"  # certainly not charged
    UNKNOWN = "unknown"
    GAVE_UP = "gave-up"  # no valid answer within the tries
    TOO_LONG = "too-long"
    HANGUP = "hang-up"


S, E = State, Event
MOVES: Final[dict[State, dict[Event, State]]] = {
    S.WELCOME: {E.READY: S.LANGUAGE, E.REFUSED: S.END},
    S.LANGUAGE: {E.READY: S.INVOICE, E.GAVE_UP: S.END},
    S.INVOICE: {E.READY: S.ORDER, E.REFUSED: S.END, E.FAILED: S.END, E.GAVE_UP: S.END},
    S.ORDER: {E.READY: S.AMOUNT, E.REFUSED: S.END},
    S.AMOUNT: {E.READY: S.CONFIRM, E.GAVE_UP: S.END},
    S.CONFIRM: {E.ACCEPTED: S.MOBILE, E.CANCELLED: S.END, E.OPERATOR: S.END, E.GAVE_UP: S.END},
    S.MOBILE: {E.READY: S.CARD, E.GAVE_UP: S.END},
    S.CARD: {E.ENTERED: S.OTP, E.GAVE_UP: S.END},
    S.OTP: {E.PIN_SENT: S.PIN, E.NEW_PIN: S.OTP, E.NEW_CARD: S.CARD, E.REFUSED: S.END, E.FAILED: S.END},
    S.PIN: {E.ENTERED: S.PAY, E.NEW_PIN: S.OTP, E.GAVE_UP: S.END},
    S.PAY: {
        E.PAID: S.END,
        E.DECLINED: S.END,
        E.NEW_PIN: S.OTP,
        E.NEW_CARD: S.CARD,
        E.FAILED: S.END,
        E.UNKNOWN: S.END,
    },
}
# The caller may go at any time, and no call lasts for ever. A `pay` under way is carried through.
ANYWHERE: Final = {E.HANGUP: S.END, E.TOO_LONG: S.END}
TRANSITIONS: Final = {state: moves | ANYWHERE for state, moves in MOVES.items()}


# -- the questions ------------------------------------------------------------------------------------


def _choice(prompt: str, keys: Mapping[str, str]) -> Question[str]:
    return Question(prompt, 1, keys.get, "no-choice", "invalid-choice", "help-choice")


def _read_pan(keys: str) -> Pan | None:
    with suppress(ValueError):
        return Pan(keys)
    return None


CHOOSE_LANGUAGE: Final = _choice("choose-language", {"1": Language.FA, "2": Language.EN})
CONFIRM_AMOUNT: Final = _choice("confirm-amount", {"1": E.ACCEPTED, "2": E.CANCELLED, "0": E.OPERATOR})
ENTER_MOBILE: Final = Question("enter-mobile", 11, Msisdn.parse, "no-mobile", "invalid-mobile", "help-mobile")
ENTER_CARD: Final = Question("enter-card", 16, _read_pan, "no-card", "invalid-card", "help-card")
OTP_FAILED: Final = _choice("otp-failed", {"1": E.NEW_PIN, "2": E.NEW_CARD})
REPEAT_REFERENCE: Final = _choice("repeat-reference", {"1": "again"})


def invoice_number(rules: Rules) -> Question[str]:
    """The merchant's invoice number, ended by `#`; leading zeros are part of it. A card number is none."""

    def read(keys: str) -> str | None:
        of_a_card = len(keys) > 12 and keys[:6] in BANKS  # noqa: PLR2004 - all but a few digits of one
        return keys if len(keys) <= rules.invoice_digits and keys.isdecimal() and not of_a_card else None

    return Question(
        "enter-invoice",
        rules.invoice_digits,
        read,
        "no-invoice",
        "invalid-invoice",
        "help-invoice",
        ended_by_hash=True,
    )


def enter_amount(rules: Rules) -> Question[int]:
    """The amount in rials, ended by `#`."""

    def read(keys: str) -> int | None:
        with suppress(BadRequest):
            return read_amount(keys, rules.amounts)
        return None

    return Question(
        "enter-amount", 13, read, "no-amount", "invalid-amount", "help-amount", ended_by_hash=True
    )


def enter_pin(rules: Rules) -> Question[Pin | Event]:
    """The one-time PIN, ended by `#`; `*#` asks for a new one."""

    def read(keys: str) -> Pin | Event | None:
        if keys == "*":
            return E.NEW_PIN
        return Pin(keys) if rules.pin_min <= len(keys) <= rules.pin_max and keys.isdecimal() else None

    return Question(
        "enter-pin",
        rules.pin_max,
        read,
        "no-pin",
        "invalid-pin",
        "help-pin",
        ended_by_hash=True,
        star_hash=True,
    )


# -- the states, as the caller meets them -------------------------------------------------------------


async def welcome(call: Call, payment: Payment) -> Event:
    """Pick up and greet; a request that cannot be done ends here, before anything is asked."""
    try:
        await call.answer()
    except Forged as forged:
        payment.refusal = BadRequest("bad-environment", str(forged))
        log.error("request.refused", reason=payment.refusal.reason, detail=payment.refusal.detail)
    language = payment.request.language or payment.rules.language
    await call.speak(Language.FA if language == "ask" else Language(language))
    if payment.refusal:
        payment.refuse(payment.refusal)
        return E.REFUSED
    if payment.crowded:
        payment.end("too-many-calls")
        return E.REFUSED
    await call.play("welcome")  # to its end: a key now answers nothing that has been asked
    return E.READY


async def choose_language(call: Call, payment: Payment) -> Event:
    """Ask for the language, if it is to be asked."""
    if (payment.request.language or payment.rules.language) == "ask":
        await call.speak(Language(await call.ask(CHOOSE_LANGUAGE)))
    return E.READY


async def enter_invoice(call: Call, payment: Payment) -> Event:
    """Have an invoice number keyed in, if it is to be asked, and ask the merchant what it stands for."""
    if not payment.request.ask_invoice:
        return E.READY
    if payment.orders is None:
        raise RuntimeError("no endpoint to ask: the request should have been refused")
    try:
        await payment.payments.check_order("", name_caller(payment.caller_id))
    except Refused as refused:  # before he keys an invoice for nothing, and the shop is asked
        payment.end(refused.reason)
        return E.REFUSED
    mobile = payment.request.mobile or Msisdn.parse(payment.caller_id)
    lead: tuple[str, ...] = ()
    for _ in range(payment.rules.tries):
        invoice = await call.ask(invoice_number(payment.rules), *lead)
        async with call.please_wait():
            order = await payment.orders.look_up(invoice, mobile)
        if call.hung_up:
            raise Hangup("the caller has hung up during the look-up")
        if order.standing is Standing.PAYABLE:
            payment.order_id, payment.amount = order.order_id, order.amount
            structlog.contextvars.bind_contextvars(order=payment.order_id)  # each line of the log has it
            return E.READY
        if order.standing is not Standing.NOT_FOUND:
            payment.end(outcomes.NOT_PAYABLE[order.standing])
            return E.FAILED if order.standing is Standing.UNREACHABLE else E.REFUSED
        lead = ("invoice-not-found", "help-invoice")
    payment.end("order-not-found")
    return E.REFUSED


async def check_order(_call: Call, payment: Payment) -> Event:
    """Turn away an order that is paid, being paid or in doubt, and whoever is over a limit.

    An order's id is made where none was given.
    """
    if not payment.order_id:
        payment.order_id = make_order_id(datetime.now(UTC))
        structlog.contextvars.bind_contextvars(order=payment.order_id)  # each line of the log has it
    try:
        await payment.payments.check_order(payment.order_id, name_caller(payment.caller_id))
    except Refused as refused:
        payment.end(refused.reason)
        return E.REFUSED
    return E.READY


async def set_amount(call: Call, payment: Payment) -> Event:
    """Have the amount keyed in, unless the dialplan gave it."""
    payment.amount = payment.amount or await call.ask(enter_amount(payment.rules))
    return E.READY


async def confirm(call: Call, payment: Payment) -> Event:
    """Read the amount back: 1 to pay, 2 to cancel, 0 for a person."""
    amount = prompts.amount(payment.amount, call.language, payment.rules.spoken_unit)
    event = Event(await call.ask(CONFIRM_AMOUNT, "amount-is", *amount))
    if event is not E.ACCEPTED:
        payment.end(event)
    return event


async def set_mobile(call: Call, payment: Payment) -> Event:
    """The dialplan's number, or the caller ID; asked for when that is withheld or no Iranian mobile."""
    payment.mobile = payment.request.mobile or Msisdn.parse(payment.caller_id)
    if payment.mobile is None:
        payment.mobile = await call.ask(ENTER_MOBILE)
    return E.READY


async def enter_card(call: Call, payment: Payment) -> Event:
    """Ask for the card; nothing is sent before it passes the Luhn check and has a known bank."""
    lead, payment.lead = payment.lead, ()
    payment.pan = await call.ask(ENTER_CARD, *lead)
    payment.card = payment.pan.masked
    payment.cards += 1
    return E.ENTERED


async def send_pin(call: Call, payment: Payment) -> Event:
    """Reserve the order, then have the gateway send a one-time PIN."""
    if payment.pan is None or payment.mobile is None:
        raise RuntimeError("no card or no mobile: a state was skipped")
    if payment.attempt is None:
        try:
            payment.attempt = await payment.payments.reserve(
                Method.IVR,
                payment.order_id,
                payment.amount,
                payment.pan,
                payment.mobile,
                payment.call_id,
                name_caller(payment.caller_id),
            )
        except Refused as refused:
            payment.turn_away(refused.reason)
            return E.REFUSED
        payment.attempt_id = payment.attempt.id
        # Told at once: a call lost later can be found in the journal, one lost without it was not charged.
        await call.tell_dialplan("PAYID", str(payment.attempt_id))
    async with call.please_wait():
        now = asyncio.get_running_loop().time()
        if payment.pin_asked_at is not None:
            await call.pause(payment.pin_asked_at + payment.rules.otp_cooldown - now)
        payment.pins += 1
        try:
            answer = await payment.payments.request_pin(payment.attempt, payment.pan)
        except Refused as refused:  # a limit, reached meanwhile
            payment.turn_away(refused.reason)
            return E.REFUSED
        payment.pin_asked_at = asyncio.get_running_loop().time()
    if answer.verdict is OtpVerdict.SENT:
        return E.PIN_SENT
    return await _pin_not_sent(call, payment)


async def _pin_not_sent(call: Call, payment: Payment) -> Event:
    """Offer another try or another card; each try may be an SMS, so both have their caps."""
    event = None
    if payment.pins < payment.rules.max_pins:
        with suppress(GaveUp):
            event = Event(await call.ask(OTP_FAILED))
    if event is E.NEW_CARD and payment.cards < payment.rules.max_cards:
        await payment.release("pin-not-sent")
        return E.NEW_CARD
    if event is E.NEW_PIN:
        return E.NEW_PIN
    payment.end("pin-not-sent")
    return E.FAILED


async def enter_pin_or_ask_again(call: Call, payment: Payment) -> Event:
    """Ask for the PIN from the SMS; `*#` has a new one sent, up to a cap."""
    lead: tuple[str, ...] = ()
    for _ in range(payment.rules.max_pins):
        answer = await call.ask(enter_pin(payment.rules), *lead)
        if isinstance(answer, Pin):
            payment.pin = answer
            return E.ENTERED
        if payment.pins < payment.rules.max_pins:
            await call.play("new-pin")
            return E.NEW_PIN
        lead = ("no-more-pins",)
    raise GaveUp


async def pay(call: Call, payment: Payment) -> Event:
    """Submit once. From here on the payment is carried through, whether the caller stays or not."""
    async with call.please_wait():  # a caller who has gone by now raises Hangup: nothing was sent
        answer = await payment.payments.pay(*payment.submit(), gone=lambda: call.hung_up)
        payment.settle(answer)
        explained = answer.verdict is not Verdict.DECLINED or await payment.explains(answer.code)
    if payment.result and payment.result.status is PayStatus.HANGUP:
        raise Hangup("the caller has hung up before the request left")
    match answer.verdict:
        case Verdict.PAID:
            return E.PAID
        case Verdict.DECLINED:
            if not explained:
                payment.say_no_more()
                return E.DECLINED
            return await _declined(call, payment, answer.code)
        case Verdict.FAILED:
            return E.FAILED
        case Verdict.UNKNOWN:
            return E.UNKNOWN


async def _declined(call: Call, payment: Payment, code: str) -> Event:
    """Go on as outcomes.DECLINES says: a new PIN or another card in the same call, up to a cap."""
    rules, said = payment.rules, payment.result.prompts if payment.result else ()
    more_pins = payment.pins < rules.max_pins and payment.submissions < rules.max_payments
    match outcomes.decline(code).next:
        case Next.NEW_PIN if more_pins:
            await call.play(*said)
            return E.NEW_PIN
        case Next.NEW_CARD if more_pins and payment.cards < rules.max_cards:
            payment.lead = (*said, "another-card")
            return E.NEW_CARD
        case Next.NEW_PIN:
            payment.close("too-many-pins")
        case Next.NEW_CARD:
            payment.close("too-many-cards")
    return E.DECLINED


HANDLERS: Final[dict[State, Callable[[Call, Payment], Awaitable[Event]]]] = {
    S.WELCOME: welcome,
    S.LANGUAGE: choose_language,
    S.INVOICE: enter_invoice,
    S.ORDER: check_order,
    S.AMOUNT: set_amount,
    S.CONFIRM: confirm,
    S.MOBILE: set_mobile,
    S.CARD: enter_card,
    S.OTP: send_pin,
    S.PIN: enter_pin_or_ask_again,
    S.PAY: pay,
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {S.WELCOME.name}"]
    for state, moves in MOVES.items():
        lines += [f"    {state.name} --> {_place(after)}: {event}" for event, after in moves.items()]
    lines += [
        f"    note left of {S.WELCOME.name}",
        f"        {' or '.join(ANYWHERE)} leads from every state to the end",
        "    end note",
    ]
    return "\n".join(lines)


def _place(state: State) -> str:
    return "[*]" if state is S.END else state.name
