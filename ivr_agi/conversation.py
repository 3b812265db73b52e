"""One conversation: the flow's states run through, the dialplan told, the caller bidden goodbye.

Here, and nowhere else, the ends that a caller makes (hang-up, giving up) and our own bugs are
caught. Whatever happens, the dialplan is told PAYSTATUS while there is anybody to tell, and before
the caller hears how it went.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import flow, metrics, prompts
from ivr_agi.agi import CommandRefused
from ivr_agi.call import GaveUp, NoSound
from ivr_agi.flow import TRANSITIONS, Event, State
from ivr_agi.model import Hangup, PayStatus
from ivr_agi.payments import JournalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ivr_agi.call import Call
    from ivr_agi.session import Payment

log = structlog.get_logger()

PLACES: Final = {state: place for place, state in enumerate(State)}  # in the order a caller meets them
LOST: Final = frozenset({*flow.ANYWHERE, Event.GAVE_UP})  # a caller whom we did not lead to an end


class ForbiddenTransition(Exception):  # noqa: N818 - named for what it is
    """A handler returned an event that TRANSITIONS does not have for its state: a bug of ours."""


async def converse(call: Call, payment: Payment) -> None:
    """Lead one call from its beginning to its end; the dialplan is told whatever happens."""
    clock = asyncio.get_running_loop().time
    since = clock()
    try:
        await run(call, payment)
    except JournalError as error:
        log.error("journal.failed", state=payment.state, error=str(error))
        payment.broken("not-recorded")
    except CommandRefused as refused:  # Asterisk is of another kind than we know, or is none
        log.error("agi.refused", state=payment.state, error=str(refused))
        payment.broken("out-of-order")
    except Exception:
        log.exception("call.broken", state=payment.state)
        payment.broken("out-of-order")
    payment.pan = payment.pin = None
    call.take_your_time()
    variables = payment.variables()
    await payment.release(variables["PAYREASON"] or "not-finished")
    told = False
    try:
        told = await tell(call, variables)
        await say_goodbye(call, payment)
    except Hangup:
        pass  # the dialplan has been told, or nobody is left to tell
    except (GaveUp, NoSound, CommandRefused) as error:
        log.warning("call.end_not_heard", why=type(error).__name__)
    finally:
        seconds = clock() - since
        summary = payment.summary() | {"tries": call.tried, "language": call.language, "told": told}
        log.info("call.ended", **summary, seconds=round(seconds, 1))
        metrics.call_ended(variables["PAYSTATUS"], variables["PAYCODE"], seconds)
        payment.payments.remember_call(
            reached=payment.reached,
            status=variables["PAYSTATUS"],
            reason=variables["PAYREASON"][:80],
            ms=round(seconds * 1000),
            language=call.language,
            attempt_id=payment.attempt_id,
        )


async def tell(call: Call, variables: Mapping[str, str]) -> bool:
    """Set each variable, also when Asterisk refuses another; returns whether it took them all."""
    told = True
    for name, value in variables.items():
        try:
            await call.tell_dialplan(name, value)
        except CommandRefused as refused:
            log.error("agi.refused", variable=name, error=str(refused))
            told = False
    return told


async def run(call: Call, payment: Payment) -> None:
    """Go from state to state by TRANSITIONS until END. Raises ForbiddenTransition."""
    clock = asyncio.get_running_loop().time
    steps = log.bind()  # as it is configured now, once for all steps
    state = State.WELCOME
    while state is not State.END:
        since = clock()
        payment.enter(state, PLACES[state])
        event: Event | None = None
        try:
            event = await flow.HANDLERS[state](call, payment)
        except Hangup:
            event = Event.HANGUP
            payment.leave("hangup")
        except GaveUp as end:
            event = Event.TOO_LONG if end.reason == "call-too-long" else Event.GAVE_UP
            payment.leave(end.reason)
        finally:
            ms = round((clock() - since) * 1000)
            steps.info("call.step", state=state, _event=event or "broken", ms=ms)
        if event not in TRANSITIONS[state]:
            raise ForbiddenTransition(f"{event} in state {state}")
        if event in LOST:
            metrics.drops.labels(state, event).inc()
        state = TRANSITIONS[state][event]


async def say_goodbye(call: Call, payment: Payment) -> None:
    """Tell the caller how it ended; a tracking number digit by digit, again if wanted."""
    result = payment.result
    if result is None or result.status is PayStatus.HANGUP:
        return
    await call.play(*result.prompts)
    if result.status is PayStatus.PAID and result.ref_id.isascii() and result.ref_id.isdigit():
        again: str | None = "again"
        for _ in range(3):
            if again:
                again = await call.offer(
                    flow.REPEAT_REFERENCE, "tracking-number", *prompts.reference(result.ref_id)
                )
    if result.status is not PayStatus.OPERATOR:
        await call.play("goodbye")
