"""What can be said to a caller, and asked of one.

A question is a loop here, so that the call's states in `flow.py` need none: its tries, its own
word for nothing keyed and for a wrong answer, more help from the second time on, stray `#`, `*` to
start over. Each answer is collected by one GET DATA, because Asterisk loses keys between two
commands; a digit that interrupts what is said in front of a question is the answer's first.
Answers are never logged.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

from ivr_agi import metrics
from ivr_agi.agi import BadEnvironment, CommandRefused, Keyed, MissingSound
from ivr_agi.model import Hangup, Keys, Language

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ivr_agi.agi import Agi

log = structlog.get_logger()
T = TypeVar("T")

FOLDER: Final = "ivr-agi/"  # under sounds/LANG of Asterisk
SILENCE: Final = "silence"
DIGITS: Final = "0123456789"
STRAYS: Final = 6  # stray `#` and `*` at one question; then it is as if nothing was keyed


def now() -> float:
    """The loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class GaveUp(Exception):  # noqa: N818 - the caller's end, not an error
    """No valid answer within the tries, or the call has lasted too long. reason: for PAYREASON."""

    def __init__(self, reason: str = "no-input") -> None:
        super().__init__(reason)
        self.reason = reason


class Forged(Exception):  # noqa: N818
    """Asterisk's own account of the call has been forged by a caller ID with line breaks."""


class NoSound(Exception):  # noqa: N818
    """Asterisk can play none of our sounds, nor its own beep: nobody can be asked anything."""


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A question answered by digits.

    digits: how many end the answer; with `ended_by_hash`, the most that make sense before `#`.
    read: the value of an answer, or None if it is not valid. star_hash: `*#` is an answer ("*").
    """

    prompt: str
    digits: int
    read: Callable[[str], T | None]
    nothing: str
    wrong: str
    help: str
    ended_by_hash: bool = False
    star_hash: bool = False


class Call:
    """One caller on the line. overdue: loop time at which the call has lasted too long."""

    def __init__(  # noqa: PLR0913 - settings, each by its name
        self,
        agi: Agi,
        *,
        tries: int,
        max_unanswered: int,
        digit_timeout: float,
        music_class: str,
        language_codes: Mapping[str, str],
        overdue: float,
    ) -> None:
        """digit_timeout in seconds. max_unanswered: at all questions. language_codes: Asterisk's names."""
        self._agi = agi
        self._tries = tries
        self._unanswered_left = max_unanswered
        self._timeout_ms = round(digit_timeout * 1000)
        self._music_class = music_class
        self._language_codes = language_codes
        self._overdue = overdue
        self.language = Language.FA
        self.tried = 0  # answers waited for, at all questions

    @property
    def hung_up(self) -> bool:
        """Whether the caller has gone."""
        return self._agi.hung_up.is_set()

    async def answer(self) -> None:
        """Pick up. Raises Forged."""
        try:
            await self._agi.answer()
        except BadEnvironment as bad:
            raise Forged(str(bad)) from None

    async def speak(self, language: Language) -> None:
        """Choose the language of what is played from now on."""
        self.language = language
        await self._agi.set_variable("CHANNEL(language)", self._language_codes[language])

    async def tell_dialplan(self, name: str, value: str) -> None:
        """Set a channel variable; works after a hang-up, too."""
        await self._agi.set_variable(name, value)

    async def play(self, *clips: str, keys: str = "") -> str:
        """Play clips one after the other; returns the key among `keys` that interrupted, or ''."""
        for clip in clips:
            self._watch_the_clock()
            try:
                if key := await self._agi.stream_file(FOLDER + clip, keys):
                    return key
            except MissingSound:
                self._miss(clip)
        return ""

    async def ask(self, question: Question[T], *lead: str) -> T:
        """Ask until the answer is valid; `lead` is said before it. Raises GaveUp, Hangup."""
        said: tuple[str, ...] = lead
        for attempt in range(1, self._tries + 1):
            self.tried += 1
            keys = await self._collect(question, said)
            if keys:
                value = question.read(keys)
                if value is not None:
                    metrics.answered(question.prompt, str(attempt)).inc()
                    return value
            word = question.wrong if keys else question.nothing
            said = (word, question.help)
            log.info("question.unanswered", question=question.prompt, attempt=attempt, heard=bool(keys))
            self._unanswered_left -= 1
            if self._unanswered_left <= 0:
                break
        metrics.answered(question.prompt, metrics.GAVE_UP).inc()
        await self.play(word)
        raise GaveUp

    async def offer(self, question: Question[T], *lead: str) -> T | None:
        """Ask once, and take silence or a wrong key for no."""
        keys = await self._collect(question, lead)
        return question.read(keys) if keys else None

    @asynccontextmanager
    async def please_wait(self) -> AsyncIterator[None]:
        """Say "please wait", then play music while the block runs: never dead air."""
        await self.play("please-wait")
        await self._music(on=True)
        try:
            yield
        finally:
            if not self.hung_up:
                with suppress(Hangup):  # noticed by the next command; the block's result comes first
                    await self._music(on=False)

    async def pause(self, seconds: float) -> None:
        """Let time pass; raises Hangup as soon as the caller goes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._agi.hung_up.wait()
                raise Hangup("the caller has hung up")

    async def _music(self, *, on: bool) -> None:
        with suppress(CommandRefused):  # no music is no reason to lose a payment
            await self._agi.set_music(self._music_class, on=on)

    async def _collect(self, question: Question[T], lead: tuple[str, ...]) -> Keys:
        """The keys of one answer; '' when nothing was keyed."""
        # The first clip is heard out: a key pressed once too often for the answer before is thrown away
        # with it, and confirms nothing. From then on a digit is the first of this answer.
        await self.play(*lead[:1])
        typed = Keys(await self.play(*lead[1:], keys=DIGITS))
        prompt = SILENCE if typed else question.prompt
        for _ in range(STRAYS):
            room = self._room(question, typed)
            keyed = await self._get_data(prompt, room) if room else Keyed(Keys(), timed_out=False)
            typed = Keys(typed + keyed.keys)
            full = not keyed.timed_out and len(keyed.keys) >= room
            hashed = not keyed.timed_out and not full
            _before, star, last = typed.rpartition("*")
            answer = Keys(last)
            if question.star_hash and star and not answer and hashed:
                return Keys("*")
            if answer and not (star and full and len(answer) < question.digits):
                return answer
            if not answer and not star and not hashed:
                return Keys()  # silence
            # A stray `#`, or `*`: what was keyed so far counts no more.
            typed = answer
            prompt = SILENCE if answer else question.prompt
        return Keys()

    @staticmethod
    def _room(question: Question[T], typed: str) -> int:
        """How many keys GET DATA may take: those that are missing, or as many as may precede `#`."""
        if question.ended_by_hash:
            return 2 * question.digits + 1  # a whole wrong one, a star, and a whole right one
        return question.digits - len(typed.rpartition("*")[2])

    async def _get_data(self, prompt: str, room: int) -> Keyed:
        """GET DATA; a missing prompt is asked by a beep, so that the call goes on."""
        self._watch_the_clock()
        for sound in (FOLDER + prompt, "beep", FOLDER + SILENCE):
            try:
                keyed = await self._agi.get_data(sound, self._timeout_ms, room)
            except MissingSound:
                self._miss(sound)
            else:
                return keyed
        raise NoSound(prompt)

    def take_your_time(self) -> None:
        """The end of a call is said whole, however long the call has lasted."""
        self._overdue = math.inf

    def _miss(self, sound: str) -> None:
        metrics.sounds_missing.labels(self.language).inc()
        log.error(
            "sound.missing",
            sound=sound.removeprefix(FOLDER),
            language=self.language,
            cure="run `ivr-agi sounds install DIR` with Asterisk's sounds folder",
        )

    def _watch_the_clock(self) -> None:
        if now() > self._overdue:
            raise GaveUp("call-too-long")
