"""Keys for the terminal phone: one by one from a terminal, or as lines from a pipe.

It must never echo what is typed, and must leave the terminal as it found it, however the call ends.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import termios
import threading
import tty
from typing import TYPE_CHECKING, Final, Self, TextIO

from ivr_agi.simulator.handset import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SKIP: Final = " "
_HANG_UP: Final = frozenset("hH\x03\x04")  # Ctrl-C and Ctrl-D, too
_ENTER: Final = frozenset("\r\n")
_PERSIAN: Final = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")


class Keypad:
    """A terminal's keys: digits (Persian ones, too), `*`, `#` (or Enter), space to skip, `h` to hang up."""

    def __init__(self, terminal: TextIO) -> None:
        self._fd = terminal.fileno()
        self._keys: asyncio.Queue[str] = asyncio.Queue()
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore").decode
        self._hang_up: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def in_hand(self, hang_up: Callable[[], None]) -> Iterator[Self]:
        """Read key by key, unechoed; `hang_up` is called at once, whatever is going on."""
        self._hang_up = hang_up
        loop = asyncio.get_running_loop()
        before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        loop.add_reader(self._fd, self._read)
        try:
            yield self
        finally:
            loop.remove_reader(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)

    async def key(self, seconds: float) -> str:
        """Return the next key, or `""` if none comes in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._keys.get()
        return ""

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the terminal itself has gone
            if came := os.read(self._fd, 1024):
                for letter in self._decode(came).translate(_PERSIAN):
                    self._press(letter)
                return
        asyncio.get_running_loop().remove_reader(self._fd)
        self._hang_up()

    def _press(self, letter: str) -> None:
        if letter in _HANG_UP:
            self._hang_up()
        elif letter in _ENTER:
            self._keys.put_nowait("#")
        elif letter in KEYS or letter == SKIP:
            self._keys.put_nowait(letter)


class Script:
    """Answers prepared beforehand: a list, or the lines of a pipe as they come; None at the end.

    An answer is keys, or a word: `pin` (also `otp`) for the PIN of the last SMS, `h` to hang up. Several
    answers in one text are separated by blanks or commas. ValueError for anything else, before the call.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._answers = [answer for text in texts for answer in _answers(text)]

    async def answer(self) -> str | None:
        """Return the next answer."""
        return self._answers.pop(0) if self._answers else None


class PipedScript:
    """Answers from a stream that is no terminal, line by line as they come."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._answers: list[str] = []
        self._reading = False
        self._ended = False

    async def answer(self) -> str | None:
        """Return the next answer, waiting for its line."""
        if not self._reading:
            self._reading = True
            # A thread of our own: one of the loop's would keep the program alive until the pipe closes.
            threading.Thread(target=self._pump, args=(asyncio.get_running_loop(),), daemon=True).start()
        while not self._answers and not self._ended:
            line = await self._lines.get()
            self._ended = line is None
            self._answers = _answers(line or "")
        return self._answers.pop(0) if self._answers else None

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # the call is over, the loop or the stream closed
            for line in self._stream:
                loop.call_soon_threadsafe(self._lines.put_nowait, line)
            loop.call_soon_threadsafe(self._lines.put_nowait, None)


def _answers(text: str) -> list[str]:
    answers = [answer for answer in re.split(r"[\s,]+", text.lower().translate(_PERSIAN)) if answer]
    if not all(answer in {"pin", "otp", "h"} or set(answer) <= KEYS for answer in answers):
        raise ValueError("a phone has the keys 0 to 9, * and #; other answers are the words pin and h")
    return ["pin" if answer == "otp" else answer for answer in answers]
