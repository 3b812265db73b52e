"""Callers, and Asterisk's side of their calls: bytes in, bytes out, over a connection in memory.

What a caller does is a `Caller`, drawn by the machine: which order, what he is like, when and how he leaves,
what the bank will do with his payments. A `Line` is his call: it obeys the real server's commands as
Asterisk does, and keeps what he heard and what the dialplan was told.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.agi import Wire

if TYPE_CHECKING:
    from model.bank import Bank, Request
    from model.clockwork import Process, World

DEAD: Final = "511 Command Not Permitted on a dead channel or intercept routine"
PLAYS: Final = 0.6  # seconds that a sound takes
KEYS: Final = 2.0  # seconds to key an answer
WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


class Whim(StrEnum):
    """What a caller is like."""

    STEADY = "steady"
    FUMBLING = "gets each answer wrong once"
    HASTY = "keys before he is asked"
    RESENDS = "wants another PIN"
    RESENDS_ALL = "wants another PIN, and another"
    SILENT = "keys nothing once he has said yes"
    NO_PIN = "never keys a PIN"
    CANCELS = "cancels"
    PERSON = "wants a person"
    WITHHELD = "withholds his number"
    KEYS_AMOUNT = "keys the amount"
    DAWDLES = "takes half a minute for each answer"
    DEAF = "hears nothing of some sounds: they are missing"


class Leaving(StrEnum):
    """How a call breaks off."""

    HANGS_UP = "hangs up"
    UNSAID = "hangs up, and Asterisk says no HANGUP"
    CUT = "the connection to Asterisk is cut"
    MUTE = "Asterisk falls silent"


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. order: how many orders ago, 0 for a new one. leaves: at which command, if at all."""

    order: int = 0
    whim: Whim = Whim.STEADY
    answers: tuple[str, ...] = ("paid",)
    pins: tuple[str, ...] = ("sent",)
    leaves: int = 0
    how: Leaving = Leaving.HANGS_UP


class Line:
    """One call, from Asterisk's side: also the transport that the server's wire writes to."""

    def __init__(
        self, world: World, bank: Bank, process: Process, caller: Caller, *, order: str, serial: int
    ) -> None:
        self.world, self.bank, self.process, self.caller, self.order = world, bank, process, caller, order
        self.uniqueid = f"{1_790_000_000 + serial}.{serial}"
        self.variables: dict[str, str] = {}
        self.heard: list[str] = []
        self.pin = ""
        self.payments: list[Request] = []
        self.pins_asked = 0
        self.dead = False  # the caller has gone
        self.mute = False
        self.closed = False  # the connection is
        self.cut = False  # not by the server
        self.judged = False
        self._serial = serial
        self._cards = 0
        self._commands = 0
        self._asked: Counter[str] = Counter()
        self._pending = 0  # the command under way that a hang-up would end
        self._answers = iter(caller.answers)
        self._pins = iter(caller.pins)

    # -- the call's beginning and end -----------------------------------------------------------

    def dial(self, server: Any) -> None:
        """Connect, and say who is calling."""
        self._wire = Wire(server._accept, self.process.loop)
        self.process.loop.call_soon(self._wire.connection_made, self)
        amount = "" if self.caller.whim is Whim.KEYS_AMOUNT else "amount=50000&"
        caller_id = "anonymous" if self.caller.whim is Whim.WITHHELD else "09123456789"
        self._send(
            f"agi_network: yes\nagi_request: agi://127.0.0.1/pay?{amount}order_id={self.order}\n"
            f"agi_channel: PJSIP/trunk-{self._serial:08x}\nagi_language: fa\nagi_uniqueid: {self.uniqueid}\n"
            f"agi_callerid: {caller_id}\nagi_calleridname: unknown\n"
        )

    def hang_up(self, how: Leaving = Leaving.HANGS_UP) -> None:
        """Leave now."""
        if self.dead or self.closed:
            return
        if how is Leaving.MUTE:
            self.mute = True
        elif how is Leaving.CUT:
            self.cut = self.dead = self.closed = True
            self._to_server(self._wire.connection_lost, None)
        else:
            self.dead = True
            if how is Leaving.HANGS_UP:
                self._send("HANGUP")
            if self._pending:
                self._pending = 0
                self._send("200 result=-1")

    @property
    def told(self) -> str:
        """PAYSTATUS, once the server has let go; '' while it has not, or if it never said."""
        return self.variables.get("PAYSTATUS", "") if self.closed else ""

    # -- a transport, as the server's wire sees it ------------------------------------------------

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return ("127.0.0.1", 40_000) if name == "peername" else None

    def write(self, command: bytes) -> None:
        if self.closed:
            return
        self._commands += 1
        if self._commands == self.caller.leaves:
            self.world.after(PLAYS / 2, lambda: self.hang_up(self.caller.how))
        self._obey([a or b for a, b in WORD.findall(command.decode().replace('""', '" "'))])

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._to_server(self._wire.connection_lost, None)

    abort = close

    def _to_server(self, act: Any, *args: Any) -> None:
        if self.process.alive:
            self.process.loop.call_soon(act, *args)

    def _send(self, text: str) -> None:
        self._to_server(self._wire.data_received, text.encode() + b"\n")

    # -- Asterisk ---------------------------------------------------------------------------------

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["SET", "VARIABLE", name, value]:
                self.variables[name] = value.strip()
                self._answer(0.01, "200 result=1")
            case _ if self.dead:
                self._answer(0.01, DEAD)
            case ["STREAM", "FILE", file, escape, _]:
                self._play(file, escape.strip())
            case ["GET", "DATA", file, timeout, _]:
                self._collect(file, int(timeout) / 1000)
            case ["CHANNEL", "STATUS"]:
                self._answer(0.01, "200 result=6")
            case ["ANSWER"] | ["SET", "MUSIC", *_]:
                self._answer(0.01, "200 result=0")
            case _:
                self.world.mishaps.append(f"Asterisk does not know {words}")

    def _answer(self, seconds: float, text: str, *, ends_with_the_call: bool = False) -> None:
        command = self._commands
        if ends_with_the_call:
            self._pending = command

        def send() -> None:
            if ends_with_the_call:
                if self._pending != command:
                    return
                self._pending = 0
            if not self.closed and not self.mute:
                self._send(text)

        self.world.after(seconds, send)

    def _is_missing(self, file: str) -> bool:
        return self.caller.whim is Whim.DEAF and file in ("ivr-agi/please-wait", "ivr-agi/enter-card")

    def _play(self, file: str, escape: str) -> None:
        if self._is_missing(file):
            self._answer(0.01, "200 result=-1 endpos=0")
            return
        self.heard.append(file.removeprefix("ivr-agi/"))
        key = 0
        if escape and self.caller.whim is Whim.HASTY:
            self._asked["hasty"] += 1
            key = ord("1") if self._asked["hasty"] == 1 else 0
        self._answer(PLAYS, f"200 result={key} endpos=8000", ends_with_the_call=True)

    def _collect(self, file: str, timeout: float) -> None:
        if self._is_missing(file):
            self._answer(0.01, "200 result=-1")
            return
        prompt = file.removeprefix("ivr-agi/")
        self.heard.append(prompt)
        keys = self._keys(prompt)
        if keys:
            seconds = 30.0 if self.caller.whim is Whim.DAWDLES else KEYS
            self._answer(seconds, f"200 result={keys}", ends_with_the_call=True)
        else:
            self._answer(PLAYS + timeout, "200 result= (timeout)", ends_with_the_call=True)

    # -- the caller ---------------------------------------------------------------------------------

    def _keys(self, prompt: str) -> str:  # noqa: PLR0911 - a line for each question
        """What he keys at a question; '' for nothing."""
        self._asked[prompt] += 1
        time, whim = self._asked[prompt], self.caller.whim
        fumbles = whim is Whim.FUMBLING and time == 1
        match prompt:
            case "confirm-amount":
                return {Whim.CANCELS: "2", Whim.PERSON: "0"}.get(whim, "9" if fumbles else "1")
            case "enter-amount":
                return "50000"
            case "enter-mobile":
                return "09123456789"
            case "enter-card" | "beep":
                return "" if whim is Whim.SILENT else self._card(valid=not fumbles)
            case "enter-pin":
                return self._pin_keys(time)
            case "otp-failed":
                return "" if fumbles else "2" if whim is Whim.STEADY and time == 1 else "1"
            case "repeat-reference":
                return "1" if time == 1 else ""
            case _:
                return ""

    def _pin_keys(self, time: int) -> str:
        whim = self.caller.whim
        if whim is Whim.NO_PIN or (whim is Whim.FUMBLING and time == 1):
            return ""
        resends = {Whim.RESENDS: 1, Whim.RESENDS_ALL: 9}.get(whim, 0)
        return "*" if time <= resends or not self.pin else self.pin

    def _card(self, *, valid: bool) -> str:
        """A card that nobody else has, so that the bank knows whose it is."""
        self._cards += 1
        digits = f"603799{self._serial * 10 + self._cards % 10:09d}"
        check = next(c for c in "0123456789" if _luhn(digits + c) == valid)
        if valid:
            self.bank.cards[digits + check] = self
        return digits + check

    # -- what the bank asks ---------------------------------------------------------------------------

    def next_answer(self) -> str:
        return next(self._answers, "paid")

    def next_pin(self) -> str:
        return next(self._pins, "sent")

    def check_told_attempt(self, attempt: int | None) -> None:
        """PAYID is on the channel before anything is asked of the bank."""
        told = self.variables.get("PAYID", "")
        if not told or (attempt is not None and told != str(attempt)):
            self.world.mishaps.append(f"call {self.uniqueid}: PAYID is {told!r} while {attempt} is asked for")


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        twice = int(digit) * (1 + place % 2)
        total += twice - 9 * (twice > 9)
    return total % 10 == 0
