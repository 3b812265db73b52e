"""The panel's trial line: it starts the process when somebody calls, and ends it when nobody does any more.

What a browser may do to a call goes through `Trial`, by the call's id and the user whose it is.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import structlog

from ivr_agi import sounds
from ivr_agi.model import ascii_digits, holds_card
from ivr_agi.panel.trial.call import TrialCall
from ivr_agi.panel.trial.child import Child, ChildError
from ivr_agi.panel.trial.shelf import Shelf
from ivr_agi.request import ORDER_ID_LENGTH
from ivr_agi.simulator.channel import dial
from ivr_agi.simulator.handset import KEYS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Mapping
    from pathlib import Path

    from ivr_agi.panel.trial.call import Event
    from ivr_agi.panel.trial.child import Said

log = structlog.get_logger()

AT_ONCE: Final = 4  # calls
IDLE_LIMIT: Final = 300.0  # seconds after the last call; then the process is let go
DROPPED_LIMIT: Final = 15.0  # seconds without an event stream; then the call hangs up
KEPT: Final = 60.0  # seconds for which the events of a call that has ended can still be read
BEYOND_LIMIT: Final = 30.0  # seconds that the server has, after its own limit, to end a call
CALL_LIMIT: Final = 900.0
QUICKER: Final = {"pay_timeout": 20.0, "late_limit": 0.0}  # the bank that never answers is given up sooner

# The settings that a caller can notice; the merchant's own are copied, and no other.
SHAPES: Final = (
    "tries", "max_unanswered", "digit_timeout", "call_limit", "spoken_unit", "declines_explained",
    "amount_min", "amount_max", "amount_step", "pin_min", "pin_max", "otp_cooldown",
    "max_pins", "max_cards", "max_payments",
)  # fmt: skip


class TrialError(Exception):
    """A call that does not come about. why: a word of ours, as `bad-amount`, that the page has a text for."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NoSuchCall(TrialError):  # noqa: N818 - an answer, not an error
    """No call of this user's has this id."""

    def __init__(self) -> None:
        super().__init__("no-such-call")


def shape_of(settings: object) -> dict[str, object]:
    """Return, by name, those settings of a real line that a trial line is to have, too."""
    return {name: getattr(settings, name) for name in SHAPES}


class Trial:
    """The trial line of one panel.

    given: settings by name, as `shape_of` returns them; folder: the sounds, by default the shipped ones.
    """

    def __init__(
        self,
        given: Mapping[str, object] | None = None,
        folder: Path | None = None,
        *,
        dropped_limit: float = DROPPED_LIMIT,
        idle_limit: float = IDLE_LIMIT,
    ) -> None:
        self.shelf = Shelf(folder or sounds.shipped())
        self._given = {**QUICKER, **(given or {})}
        self._dropped_limit = dropped_limit
        self._idle_limit = idle_limit
        self._calls: dict[str, TrialCall] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def start(self, owner: str, caller_id: str, amount: str, order_id: str, language: str) -> str:
        """Make a call for a user; returns its id. The rest is as the form has it. Raises TrialError.

        caller_id "": withheld; amount: rials, or "ask"; order_id "": one is made; language: fa, en or ask.
        """
        caller_id, amount = (ascii_digits(text.strip()) for text in (caller_id, amount))
        order_id = order_id.strip() or f"TRIAL-{secrets.token_hex(4)}"
        _check(caller_id, amount, order_id, language)
        if self._closed:
            raise TrialError("not-started")
        if sum(not call.ended for call in self._calls.values()) >= AT_ONCE:
            raise TrialError("too-many-calls")
        spoken = "en" if language == "en" else "fa"
        call = TrialCall(owner, order_id, self.shelf, spoken, dropped_limit=self._dropped_limit)
        self._calls[call.id] = call
        try:
            await self._dial(call, caller_id, amount, language)
        except (ChildError, OSError) as error:
            log.error("trial.not_started", why=str(error))
            raise TrialError("not-started") from None
        finally:
            if call.channel is None:
                del self._calls[call.id]
        return call.id

    def press(self, owner: str, call_id: str, key: str) -> None:
        """Press a key; a call that has ended takes none. Raises NoSuchCall, TrialError for what is no key."""
        if key not in KEYS:
            raise TrialError("bad-key")
        self._call(owner, call_id).handset.press(key)

    def played(self, owner: str, call_id: str, number: int) -> None:
        """The browser has played the file of event `number`. Raises NoSuchCall."""
        self._call(owner, call_id).handset.played(number)

    def hang_up(self, owner: str, call_id: str) -> None:
        """Put the receiver down. Raises NoSuchCall."""
        if channel := self._call(owner, call_id).channel:
            channel.hang_up()

    def events(self, owner: str, call_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The call's events beyond the number `after`, as they come: see TrialCall.events. NoSuchCall."""
        return self._call(owner, call_id).events(after)

    async def close(self) -> None:
        """Hang up every call, and end the process."""
        self._closed = True
        if self._idle:
            self._idle.cancel()
        for call in self._calls.values():
            if call.channel:
                call.channel.hang_up()
        async with self._starting:
            await self._let_go()
        while self._running:  # their connections are closed now
            await asyncio.wait(self._running)

    def _call(self, owner: str, call_id: str) -> TrialCall:
        call = self._calls.get(call_id)
        if call is None or call.owner != owner:
            raise NoSuchCall
        return call

    async def _dial(self, call: TrialCall, caller_id: str, amount: str, language: str) -> None:
        if self._idle:
            self._idle.cancel()
        async with self._starting:
            if self._child is None or self._child.lost:
                await self._let_go()
                self._child = await Child.start(self._given, self._pass_on)
            url = self._child.url
        query = f"amount={amount or 'ask'}&order_id={quote(call.order_id, safe='')}&language={language}"
        missing, spoken = call.handset.missing, call.handset.language
        call.channel = await dial(
            f"{url}?{query}", call.handset, caller_id=caller_id, language=spoken, missing=missing
        )
        limit = self._given.get("call_limit", CALL_LIMIT)
        longest = BEYOND_LIMIT + (float(limit) if isinstance(limit, int | float) else CALL_LIMIT)
        self._keep(call.run(call.channel, longest)).add_done_callback(lambda _: self._after(call))

    def _after(self, call: TrialCall) -> None:
        """A call has ended."""
        loop = asyncio.get_running_loop()
        loop.call_later(KEPT, self._calls.pop, call.id, None)
        if not self._closed and all(each.ended for each in self._calls.values()):
            self._idle = loop.call_later(self._idle_limit, lambda: self._keep(self._let_go_if_idle()))

    def _keep(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="trial")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _let_go_if_idle(self) -> None:
        async with self._starting:
            if all(call.ended for call in self._calls.values()):
                await self._let_go()

    async def _let_go(self) -> None:
        child, self._child = self._child, None
        if child:
            await child.close()

    def _pass_on(self, sms: Said) -> None:
        for call in self._calls.values():
            if call.order_id == sms["order_id"] and not call.ended:
                call.tell("sms", text=sms["text"])


def _check(caller_id: str, amount: str, order_id: str, language: str) -> None:
    """Turn away what could make no call, or has a card number in it. The line itself judges the rest."""
    wrong = {
        "bad-caller": not re.fullmatch(r"(\+?[0-9]{1,15})?", caller_id),
        "bad-amount": not re.fullmatch(r"(ask|[0-9]{1,13})?", amount),
        "bad-order": not order_id.isprintable() or len(order_id) > ORDER_ID_LENGTH or holds_card(order_id),
        "bad-language": language not in ("fa", "en", "ask"),
    }
    for why, is_wrong in wrong.items():
        if is_wrong:
            raise TrialError(why)
