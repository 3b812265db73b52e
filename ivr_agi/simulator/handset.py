"""What the caller does with his phone: the protocol that a channel asks, and a caller that follows a script.

The script is for tests: it says what is keyed at which prompt, takes no time, and keeps a record. It
applies Asterisk's rules for keys itself (`#` ends, the most digits end, `*` is a digit), and must never
answer a question in a way that fingers on a real phone could not.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import EllipsisType
from typing import Final, Protocol

PREFIX: Final = "ivr-agi/"  # the folder of this product's prompts
KEYS: Final = frozenset("0123456789*#")


class Gone(Exception):  # noqa: N818 - an end, not an error
    """Raised by a handset: the caller has put the receiver down."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """What a caller keyed at one question: digits (`*` included, `#` not), and whether time ran out."""

    digits: str = field(repr=False)
    timed_out: bool


class Handset(Protocol):
    """What the caller does. Any method may raise `Gone`; the first two are cancelled by a hang-up."""

    async def play(self, file: str, escape: str) -> str:
        """Hear `file` to its end (return `""`) or up to a key that is among `escape` (return that key)."""

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Hear `file` and key up to `max_digits` digits, ended early by `#` or by the time limit."""

    def observe(self, words: Sequence[str]) -> None:
        """Notice a command, cut into words, before it is obeyed: music, language, variables."""


def prompt_name(file: str) -> str:
    """Return the name of a prompt as the catalogue has it, without this product's folder."""
    return file.removeprefix(PREFIX)


def take(keys: str, max_digits: int) -> tuple[Keyed, str]:
    """Return what one `GET DATA` makes of the keys pressed, and the keys left over.

    It ends at `#`, which is not returned, or at `max_digits`; otherwise the time limit ends it.
    """
    for place, key in enumerate(keys):
        if key == "#":
            return Keyed(keys[:place], timed_out=False), keys[place + 1 :]
        if place + 1 == max_digits:
            return Keyed(keys[:max_digits], timed_out=False), keys[max_digits:]
    return Keyed(keys, timed_out=True), ""


class _Act(Enum):
    HANG_UP = "hang up"


HANG_UP: Final = _Act.HANG_UP

Act = str | _Act
Answer = Act | Callable[[], Act | Awaitable[Act]]
Script = Mapping[str, Answer | Sequence[Answer | EllipsisType]]


class ScriptedHandset:
    """A caller who keys at each prompt what the script says, at once.

    script: prompt name (without `ivr-agi/`) -> an answer, given once, or a list of answers, one each time;
    a list that ends in `...` repeats its last answer. An answer is keys (`"1"`, `"6037…*"`, `"12345#"`, the
    stray `"#"`), or `HANG_UP`, or a function, also async, that returns one. Without one nothing is keyed.
    keeps_keys: keys beyond what a question takes wait for the next one, even across commands. Asterisk
    keeps some and loses some of them; False loses them all.

    asked: prompts that were questions. transcript: (prompt or file, keys returned), in order.
    """

    def __init__(self, script: Script | None = None, *, keeps_keys: bool = True) -> None:
        self.asked: list[str] = []
        self.transcript: list[tuple[str, str]] = []
        self._answers = {name: _as_list(answers) for name, answers in (script or {}).items()}
        self._keeps_keys = keeps_keys
        self._waiting = ""

    async def play(self, file: str, escape: str) -> str:
        """Hear a file; the first key of the script's answer that may interrupt it does."""
        keys = self._waiting + await self._answer(file)
        place = next((place for place, key in enumerate(keys) if key in escape), None)
        key = "" if place is None else keys[place]
        # A file that no key may interrupt leaves the keys alone: they wait for the next question.
        left = keys if place is None else keys[place + 1 :]
        self._waiting = left if self._keeps_keys else ""
        self.transcript.append((prompt_name(file), key))
        return key

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:  # noqa: ARG002 - waits for nothing
        """Answer a question: with keys still waiting, then with the script's."""
        self.asked.append(prompt_name(file))
        keyed, left = take(self._waiting, max_digits)
        if keyed.timed_out:
            keyed, left = take(self._waiting + await self._answer(file), max_digits)
        self._waiting = left if self._keeps_keys else ""
        self.transcript.append((prompt_name(file), keyed.digits))
        return keyed

    def observe(self, words: Sequence[str]) -> None:
        """Nothing to notice: the channel itself keeps the record."""

    async def _answer(self, file: str) -> str:
        answers = self._answers.get(prompt_name(file), [])
        if not answers:
            return ""
        answer = answers[0]
        if answers[1:] != [...]:
            del answers[0]
        if callable(answer):
            made = answer()
            answer = await made if inspect.isawaitable(made) else made
        if answer is HANG_UP:
            raise Gone
        if not (isinstance(answer, str) and set(answer) <= KEYS):
            raise ValueError(f"no phone has such keys: the script's answer to {prompt_name(file)}")
        return answer


def _as_list(answers: Answer | Sequence[Answer | EllipsisType]) -> list[Answer | EllipsisType]:
    if isinstance(answers, str) or not isinstance(answers, Sequence):
        return [answers]
    return list(answers)
