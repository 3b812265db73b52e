"""A phone that shows nothing and remembers everything: what is played, in which language, what is keyed.

It is a handset of the simulator's, so that what it notes is what the server did, in that order. Waiting
costs it no time; how long it would have been is noted instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ivr_agi.preview.callers import NUMBERS
from ivr_agi.simulator.gateway import CARDS
from ivr_agi.simulator.handset import Keyed, prompt_name, take
from ivr_agi.simulator.screen import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.preview.callers import Caller
    from ivr_agi.simulator.gateway import Sms

THINKING_MS: Final = 800  # from the end of a question to the first key
UNANSWERED_MS: Final = 3000  # of a time limit that runs out; longer in a call
MUSIC_MS: Final = 3000  # of each wait; as long as it takes, in a call

CHOICES: Final = {"fa": "1", "en": "2"}
_BEFORE_CHECK_DIGIT: Final = 15
_LONGEST_NUMBER: Final = 13  # digits of anything that is keyed and no card
_TEST_CARDS: Final = frozenset(card.number[:_BEFORE_CHECK_DIGIT] for card in CARDS)


@dataclass(frozen=True, slots=True)
class Clip:
    """A file that was played. name: as in the catalogue; cut_ms: where a key has cut it, if one has."""

    name: str
    language: str
    cut_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Tones:
    """Keys that were pressed, `#` included. shown: the same, with a card masked and a PIN hidden.

    Raises ValueError, without the digits in its message, for a card that is none of the simulator's.
    """

    keys: str = field(repr=False)
    shown: str

    def __post_init__(self) -> None:
        digits = "".join(key for key in self.keys if key.isdecimal())
        if len(digits) > _LONGEST_NUMBER and digits[:_BEFORE_CHECK_DIGIT] not in _TEST_CARDS:
            raise ValueError("only the simulator's cards are keyed in a preview")


@dataclass(frozen=True, slots=True)
class Music:
    """Music on hold."""

    ms: int = MUSIC_MS


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is heard. unanswered: a time limit runs out."""

    ms: int
    unanswered: bool = False


Moment = Clip | Tones | Music | Pause


class RecordingHandset:
    """The phone of one caller. moments: what happened, in order."""

    def __init__(self, caller: Caller, *, amount: int, language: str) -> None:
        """language: the one the caller speaks, `fa` or `en`; the channel's is noticed."""
        self.moments: list[Moment] = []
        self._caller = caller
        self._words = {"amount": str(amount), "choice": CHOICES[language], "pin": ""}
        self._language = language
        self._asked: dict[str, int] = {}
        self._left = ""

    def receive(self, sms: Sms) -> None:
        """Get the message with the one-time PIN."""
        self._words["pin"] = sms.pin

    async def play(self, file: str, escape: str) -> str:
        """Hear a file out, or up to the key that this caller presses there."""
        name = prompt_name(file)
        keys = self._answer(name) if escape else ""
        if not keys or keys[0] not in escape:
            self.moments.append(Clip(name, self._language))
            return ""
        self._key(name, keys[0], Kind.of(name))
        self._left = keys[1:]
        return keys[0]

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Hear a question and answer it."""
        name = prompt_name(file)
        keys, self._left = self._left or self._answer(name), ""
        keyed, self._left = take(keys, max_digits)
        if pressed := keys.removesuffix(self._left):
            self._key(name, pressed, Kind.of(name))
        else:
            self.moments.append(Clip(name, self._language))
        if keyed.timed_out:
            self.moments.append(Pause(min(timeout_ms, UNANSWERED_MS), unanswered=True))
        return keyed

    def observe(self, words: Sequence[str]) -> None:
        """Notice music and a change of language."""
        match [word.upper() for word in words[:3]]:
            case ["SET", "MUSIC", "ON"]:
                self.moments.append(Music())
            case ["SET", "VARIABLE", "CHANNEL(LANGUAGE)"] if words[3:]:
                self._language = words[3]

    def _key(self, name: str, keys: str, kind: Kind) -> None:
        cut = self._caller.cuts.get(_plain(name))
        self.moments.append(Clip(name, self._language, cut))
        if cut is None:
            self.moments.append(Pause(THINKING_MS))
        self.moments.append(Tones(keys, kind.afterwards(keys)))

    def _answer(self, name: str) -> str:
        name = _plain(name)
        answers = self._caller.answers.get(name, ("",))
        time = self._asked.get(name, 0)
        self._asked[name] = time + 1
        return answers[min(time, len(answers) - 1)].format_map(self._words)


def _plain(name: str) -> str:
    return NUMBERS if name.startswith("numbers/") else name
