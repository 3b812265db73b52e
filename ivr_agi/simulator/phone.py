"""The terminal phone: a caller at a terminal, or a script in his place, on a real FastAGI call.

It plays Asterisk's side (`channel.py`), shows each prompt as text, and keys what the person types or the
script says. It must never keep a PIN or a card number longer than the question that asked for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from rich.live import Live

from ivr_agi.simulator.channel import AGI_PORT, dial
from ivr_agi.simulator.handset import Gone, Handset, Keyed, prompt_name, take
from ivr_agi.simulator.keypad import SKIP, Keypad, PipedScript, Script
from ivr_agi.simulator.screen import Kind, Screen, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from ivr_agi.simulator.gateway import Sms

TICK: Final = 0.25  # seconds between two looks at the clock
READING: Final = 0.06  # seconds a letter takes to be read in comfort
SHORTEST: Final = 0.4  # seconds that the shortest clip takes


class PhoneError(Exception):
    """No call came about; the message says where and what to do."""


class Phone(Handset, Protocol):
    """A handset with a screen, which can get an SMS."""

    screen: Screen

    def receive(self, sms: Sms) -> None:
        """Get a message: `on_sms` of the gateway simulator."""

    def in_hand(self, hang_up: Callable[[], None]) -> contextlib.AbstractContextManager[object]:
        """Hold the phone during a call; `hang_up` ends it."""


class ScriptedPhone:
    """A phone that keys answers prepared beforehand, one a question, and waits for nothing.

    An answer with more keys than a question takes leaves the rest to the next question; one with fewer is
    ended by `#`. When there are no more, only the PIN of the last SMS is keyed, at `enter-pin`.
    """

    def __init__(self, screen: Screen, script: Script | PipedScript) -> None:
        self.screen = screen
        self._script = script
        self._pin = ""
        self._left = ""

    def receive(self, sms: Sms) -> None:
        """Show the message and remember its PIN."""
        self._pin = sms.pin
        self.screen.sms(sms)

    def in_hand(self, _hang_up: Callable[[], None]) -> contextlib.AbstractContextManager[object]:
        """Nothing to take up."""
        return contextlib.nullcontext()

    async def play(self, file: str, _escape: str) -> str:
        """Show the prompt; a script interrupts none."""
        self.screen.prompt(file)
        return ""

    async def collect(self, file: str, _timeout_ms: int, max_digits: int) -> Keyed:
        """Show the question, and key its answer."""
        self.screen.prompt(file, question=True)
        prompt = prompt_name(file)
        keys, self._left = self._left or await self._answer(prompt), ""
        if keys and len(keys) < max_digits and "#" not in keys:
            keys += "#"
        keyed, self._left = take(keys, max_digits)
        self.screen.keyed(keys.removesuffix(self._left), Kind.of(prompt))
        return keyed

    def observe(self, words: Sequence[str]) -> None:
        """Show what a caller would notice."""
        self.screen.observe(words)

    async def _answer(self, prompt: str) -> str:
        answer = await self._script.answer()
        if answer == "h":
            self.screen.hung_up()
            raise Gone
        if answer == "pin" or (answer is None and prompt == "enter-pin"):
            return self._pin
        return answer or ""


class TerminalPhone:
    """A phone whose keys are the terminal's. pace: of reading; 1 is comfortable, 0 takes no time."""

    def __init__(self, screen: Screen, keypad: Keypad, pace: float = 1.0) -> None:
        self.screen = screen
        self._keypad = keypad
        self._pace = pace

    def receive(self, sms: Sms) -> None:
        """Show the message."""
        self.screen.sms(sms)

    def in_hand(self, hang_up: Callable[[], None]) -> contextlib.AbstractContextManager[object]:
        """Take the terminal's keys."""
        self.screen.hint("keys: 0-9 * #   Enter is #   space skips what is playing   h hangs up")
        return self._keypad.in_hand(hang_up)

    async def play(self, file: str, escape: str) -> str:
        """Show the prompt for as long as it takes to read; keys that may not interrupt it are lost."""
        self.screen.prompt(file)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._reading(file)
        while (left := until - loop.time()) > 0:
            key = await self._keypad.key(left)
            if key == SKIP:
                break
            if key and key in escape:
                self.screen.keyed(key, Kind.SECRET)  # it may be the first of a PIN
                return key
        return ""

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Show the question and take keys, each with the whole time limit anew, as Asterisk does."""
        self.screen.prompt(file, question=True)
        kind, loop, patience = Kind.of(prompt_name(file)), asyncio.get_running_loop(), timeout_ms / 1000
        keys = line = ""
        until = loop.time() + self._reading(file) + patience
        with Live(console=self.screen.console, transient=True, auto_refresh=False) as live:
            while (keyed := take(keys, max_digits)[0]).timed_out and (left := until - loop.time()) > 0:
                typing = self.screen.typing(keys, kind, left)
                if typing.plain != line:
                    line = typing.plain
                    live.update(typing, refresh=True)
                key = await self._keypad.key(min(TICK, left))
                if key and key != SKIP:
                    keys += key
                    until = loop.time() + patience
        self.screen.keyed(keys, kind)
        return keyed

    def observe(self, words: Sequence[str]) -> None:
        """Show what a caller would notice."""
        self.screen.observe(words)

    def _reading(self, file: str) -> float:
        text = wording(prompt_name(file), self.screen.language)
        return self._pace * max(SHORTEST, READING * len(text))


def make_phone(console: Console, digits: Sequence[str] | None = None, language: str = "fa") -> Phone:
    """Return the phone that fits: a script if digits are given, the terminal's keys, or lines from a pipe.

    Raises PhoneError if the digits have what no phone can key.
    """
    screen = Screen(console, language)
    if digits is not None:
        try:
            return ScriptedPhone(screen, Script(digits))
        except ValueError as error:
            raise PhoneError(str(error)) from None
    if sys.stdin.isatty():
        return TerminalPhone(screen, Keypad(sys.stdin))
    return ScriptedPhone(screen, PipedScript(sys.stdin))


async def call(
    url: str, phone: Phone, *, caller_id: str = "09123456789", language: str = "fa"
) -> dict[str, str]:
    """Make one call; return the channel's variables. Raises PhoneError if no call comes about."""
    try:
        channel = await dial(url, phone, caller_id=caller_id, language=language)
    except ValueError as error:
        raise PhoneError(str(error)) from None
    except OSError as error:
        raise PhoneError(
            f"no FastAGI server at {_place(url)} ({error.strerror or error}): "
            "start one with `ivr-agi serve`, or correct the address"
        ) from None
    screen = phone.screen
    screen.begin(url, caller_id)

    def hang_up() -> None:
        if not channel.dead:
            screen.hung_up()
            channel.hang_up()

    with phone.in_hand(hang_up), _interrupted_by(hang_up):
        variables = await channel.run()
    if not (channel.commands or channel.dead):
        raise PhoneError(
            f"{_place(url)} took the call and let go without a word: "
            "see the server's log, and whether IVR_AGI_ALLOWED_PEERS has this machine"
        )
    return variables


async def run_phone(
    url: str,
    digits: Sequence[str] | None,
    caller_id: str,
    console: Console,
    *,
    language: str = "fa",
) -> dict[str, str]:
    """Make one call at the terminal and show how it ended; return the channel's variables."""
    phone = make_phone(console, digits, language)
    variables = await call(url, phone, caller_id=caller_id, language=language)
    phone.screen.end(variables)
    return variables


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or AGI_PORT}"


@contextlib.contextmanager
def _interrupted_by(hang_up: Callable[[], None]) -> Iterator[None]:
    """Take Ctrl-C for hanging up; a second one interrupts the program as ever."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)

    def restore() -> None:
        if loop.remove_signal_handler(signal.SIGINT):
            signal.signal(signal.SIGINT, before)

    def interrupt() -> None:
        restore()
        hang_up()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        restore()
