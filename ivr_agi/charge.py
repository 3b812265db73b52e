"""A payment by an operator in the terminal: method 2.2 of the gateway (`ivr=0`, `invoice_id`).

The same payments, journal and verdicts as by phone. Card and PIN are typed unseen and are in
nobody's shell history: they are never options. Exit status: 0 paid, 1 not paid, 3 unknown.
"""

from __future__ import annotations

import asyncio
import getpass
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from ivr_agi import outcomes, prompts
from ivr_agi.model import Method, Msisdn, OtpVerdict, Pan, Pin, Verdict
from ivr_agi.payments import JournalError, Refused
from ivr_agi.request import BadRequest, make_order_id, read_amount, read_order_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ivr_agi.model import PayAnswer
    from ivr_agi.payments import Attempt, Payments
    from ivr_agi.settings import Settings

PAID: Final = 0
NOT_PAID: Final = 1
UNKNOWN: Final = 3
STATUS: Final = {
    Verdict.PAID: PAID,
    Verdict.DECLINED: NOT_PAID,
    Verdict.FAILED: NOT_PAID,
    Verdict.UNKNOWN: UNKNOWN,
}
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The charge ends before `pay`; the message says why."""


def charge(  # noqa: PLR0913 - what may be given on the command line
    runner: asyncio.Runner,
    payments: Payments,
    settings: Settings,
    console: Console,
    *,
    order_id: str | None,
    amount: str | None,
    mobile: str | None,
) -> int:
    """Take one payment; returns the exit status."""
    attempt: Attempt | None = None
    ready = False
    try:
        order_id = read_order_id(order_id) if order_id else make_order_id(datetime.now(UTC))
        rials = read_amount(amount or _ask("Amount in rials"), settings.amounts)
        payer = _read_mobile(mobile or _ask("Payer's mobile number"))
        runner.run(payments.check_order(order_id))
        pan = _ask_secret("Card number (unseen)", Pan)
        attempt = runner.run(payments.reserve(Method.WEB, order_id, rials, pan, payer))
        console.print(f"Attempt {attempt.id}: order {order_id}, {rials:,} rials, card {pan.masked}")
        pin = _have_pin(runner, payments, settings, console, attempt, pan)
        ready = True
    except Refused as refused:
        said = _say(*outcomes.ENDINGS[refused.reason].prompts)
        console.print(f"Refused: {refused.reason}. {said}")
    except (Stopped, BadRequest, JournalError) as stopped:
        console.print(f"Not paid: {stopped}. Nothing was charged.")
    except (KeyboardInterrupt, EOFError):
        console.print("Stopped. Nothing was charged.")
    if attempt is None:
        return NOT_PAID
    if not ready:
        runner.run(payments.abandon(attempt, "cancelled"))
        return NOT_PAID
    status = UNKNOWN  # whatever goes wrong from here on, a script must not take it for "not paid"
    with suppress(Exception, SystemExit):  # a terminal that has gone is no reason to say otherwise
        answer = runner.run(_carry_through(payments, console, attempt, pan, pin))
        status = STATUS[answer.verdict]
        _report(console, attempt, answer)
    with suppress(Exception, SystemExit):
        if status == UNKNOWN:
            console.print("Listening for a late answer; an interrupt ends that.")
    runner.run(_listen(payments))
    return status


async def _carry_through(
    payments: Payments, console: Console, attempt: Attempt, pan: Pan, pin: Pin
) -> PayAnswer:
    """Pay; from here on nothing short of a kill stops it, or its outcome would be lost to the operator."""

    def say() -> None:
        with suppress(Exception, SystemExit):
            console.print("The payment has been sent and is carried through; please wait.")

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, say)
    return await payments.pay(attempt, pan, pin)


async def _listen(payments: Payments) -> None:
    """Stay until a late answer has come and all is written, or somebody interrupts."""
    interrupted = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    waiting = {asyncio.create_task(payments.quiet()), asyncio.create_task(interrupted.wait())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await payments.finish()


def _have_pin(  # noqa: PLR0913 - one step of charge()
    runner: asyncio.Runner,
    payments: Payments,
    settings: Settings,
    console: Console,
    attempt: Attempt,
    pan: Pan,
) -> Pin:
    """Have the PIN sent, and typed; an empty line has a new one sent, up to the cap."""
    asked_at = time.monotonic() - settings.otp_cooldown
    for _ in range(settings.max_pins):
        time.sleep(max(0.0, asked_at + settings.otp_cooldown - time.monotonic()))
        asked_at = time.monotonic()
        answer = runner.run(payments.request_pin(attempt, pan))
        if answer.verdict is not OtpVerdict.SENT:
            raise Stopped(f"the one-time PIN could not be sent ({answer.verdict}: {answer.detail})")
        console.print("The payer has been sent a one-time PIN.")
        pin = _ask_secret("PIN (unseen; empty for a new one)", lambda text: Pin(text) if text else None)
        if pin is not None:
            return pin
    raise Stopped("no more PINs are sent for one attempt")


def _report(console: Console, attempt: Attempt, answer: PayAnswer) -> None:
    match answer.verdict:
        case Verdict.PAID:
            console.print(f"Paid. Tracking number: {answer.ref_id}")
        case Verdict.DECLINED:
            said = _say(outcomes.decline(answer.code).prompt)
            console.print(f"Declined, code {answer.code or 'none'}. {said}")
        case Verdict.FAILED:
            console.print(f"Failed ({answer.detail}): certainly not charged.")
        case Verdict.UNKNOWN:
            console.print(
                f"Unknown ({answer.detail}): it may have been charged."
                f" Do not pay order {attempt.order_id} again; attempt {attempt.id} is kept for review."
            )


def _say(*names: str) -> str:
    """What a caller would hear, for the operator to read."""
    return " ".join(prompts.text(name, "en") for name in names)


def _read_mobile(text: str) -> Msisdn:
    mobile = Msisdn.parse(text)
    if mobile is None:
        raise Stopped("no Iranian mobile number")
    return mobile


def _ask(question: str) -> str:
    if sys.stdin.isatty():
        return input(f"{question}: ").strip()
    return _line(question)


def _ask_secret(question: str, read: Callable[[str], T]) -> T:
    typed = getpass.getpass(f"{question}: ") if sys.stdin.isatty() else _line(question)
    try:
        return read("".join(typed.split()))
    except ValueError as error:
        raise Stopped(str(error)) from None


def _line(question: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise Stopped(f"{question}: nothing on standard input")
    return line.strip()
