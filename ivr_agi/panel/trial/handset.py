"""The telephone that stands in the browser: what is played there, and which of its keys count.

A handset of the simulator's, with Asterisk's rules for keys: only what a command listens for is heard, and a
key between two commands is lost. What is keyed goes to the command that asked, and into no event, log or
message. A number that could be somebody's real card stops here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ivr_agi import prompts
from ivr_agi.prompts.catalogue import BILINGUAL
from ivr_agi.simulator.handset import KEYS, PREFIX, Gone, Keyed, prompt_name, take
from ivr_agi.simulator.outcomes import CARDS
from ivr_agi.simulator.screen import Kind, wording

if TYPE_CHECKING:
    from ivr_agi.panel.trial.shelf import Shelf

PATIENCE: Final = 5.0  # seconds beyond a file's length for a browser that does not say it has been played
CARD_DIGITS: Final = 16
BIN_DIGITS: Final = 6  # the bank's; all that a card may have in common with the test cards
LONGEST_NUMBER: Final = 13  # digits of anything that is keyed and is no card
FALLBACK: Final = "en"  # where Asterisk looks for what the channel's language does not have
NOT_A_TEST_CARD: Final = "not-a-test-card"

_PLAYED: Final = ""
_TEST_CARDS: Final = tuple(card.number for card in CARDS)

Tell = Callable[..., int]  # (kind, **more) -> the event's number


class BrowserHandset:
    """One caller at a browser.

    tell: takes each event, and returns its number. `play` and `collect` wait for `played(number)`, or for a
    key by `press`; `observe` notices music, language and variables. missing: files that cannot be played.
    """

    def __init__(self, tell: Tell, shelf: Shelf, language: str) -> None:
        self.language = language
        self.missing: Collection[str] = _Missing(self, shelf)
        self._tell = tell
        self._shelf = shelf
        self._playing = 0  # the event that is being played; 0: none
        self._listening = ""  # the keys that count now
        self._signals: asyncio.Queue[str] = asyncio.Queue()  # keys, and _PLAYED
        self._answer = ""  # digits of an answer that goes on over several commands, after the last star

    def press(self, key: str) -> None:
        """A key has been pressed. Unless it is listened for, it is lost."""
        if key and key in self._listening:
            self._signals.put_nowait(key)

    def played(self, number: int) -> None:
        """The browser has played what the event of this number asked for."""
        if number == self._playing:
            self._playing = 0
            self._signals.put_nowait(_PLAYED)

    async def play(self, file: str, escape: str) -> str:
        """Have a file played to its end, or up to a key that is among `escape`."""
        with self._begin("play", file, escape) as longest:
            key = await self._signal(longest)
        if key:
            self._tell("stop")
            self._answer = key
            self._tell("keyed", count=1)
        return key

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Have a question played and take keys: each has the whole time limit anew, as Asterisk does."""
        name, patience = prompt_name(file), timeout_ms / 1000
        if name != prompts.SILENCE:
            self._answer = ""
        # The only question that takes so many digits: those before the silence, and those that it takes.
        card = len(self._answer) + max_digits == CARD_DIGITS
        hidden = card or file == name or Kind.of(name) is not Kind.PLAIN
        keys = ""
        more = {"hidden": hidden, "kept": len(self._answer)}
        with self._begin("collect", file, "".join(sorted(KEYS)), **more) as longest:
            key = await self._signal(longest)
            if key:
                self._tell("stop")
            else:
                key = await self._signal(patience)
            while key:
                keys += key
                self._watch(key, card=card)
                if not take(keys, max_digits)[0].timed_out:
                    break
                key = await self._signal(patience)
        self._tell("keyed", count=len(keys))
        return take(keys, max_digits)[0]

    def observe(self, words: Sequence[str]) -> None:
        """Notice what a caller would, and what the dialplan is told."""
        match [word.upper() for word in words[:3]]:
            case ["SET", "MUSIC", on_off]:
                self._tell("music", on=on_off == "ON")
            case ["SET", "VARIABLE", "CHANNEL(LANGUAGE)"] if words[3:]:
                if self.language != words[3]:
                    self.language = words[3]
                    self._tell("language", language=self.language)
            case ["SET", "VARIABLE", _] if words[3:]:
                self._tell("variable", name=words[2], value=words[3])
            case ["STREAM", "FILE", _] | ["GET", "DATA", _] if words[2].startswith(PREFIX):
                name = prompt_name(words[2])
                if self._shelf.find(name, self.language) is None:
                    self._tell("missing", name=name, language=self.language)

    @contextmanager
    def _begin(self, kind: str, file: str, keys: str, **more: object) -> Iterator[float]:
        """Ask the browser to play a file while the block listens for keys; yields how long it may take."""
        name = prompt_name(file)
        language = next((each for each in (self.language, FALLBACK) if self._shelf.find(name, each)), "")
        path = self._shelf.find(name, language)
        self._signals = asyncio.Queue()
        self._listening = keys
        self._playing = self._tell(kind, name=name, language=language, words=_words(name), keys=keys, **more)
        try:
            yield PATIENCE + (self._shelf.seconds(path) if path else 0.0)
        finally:
            self._listening, self._playing = "", 0

    async def _signal(self, seconds: float) -> str:
        """The next key; "" if the file has ended, or nothing comes in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._signals.get()
        except TimeoutError:
            return _PLAYED
        finally:
            self._playing = 0

    def _watch(self, key: str, *, card: bool) -> None:
        """Hang up on a number that may be a card and is none of the simulator's. Raises Gone."""
        if key in "*#":
            self._answer = ""
            return
        self._answer += key
        harmless = BIN_DIGITS if card else LONGEST_NUMBER
        if len(self._answer) > harmless and not any(c.startswith(self._answer) for c in _TEST_CARDS):
            self._answer = ""
            self._tell("trouble", why=NOT_A_TEST_CARD)
            raise Gone


class _Missing(Collection[str]):
    """The files that a channel must take for missing, as they are asked for."""

    def __init__(self, handset: BrowserHandset, shelf: Shelf) -> None:
        self._handset = handset
        self._shelf = shelf

    def __contains__(self, file: object) -> bool:
        if not isinstance(file, str) or not file.startswith(PREFIX):
            return False  # Asterisk's own, as `beep`
        languages = (self._handset.language, FALLBACK)
        return not any(self._shelf.find(prompt_name(file), language) for language in languages)

    def __iter__(self) -> Iterator[str]:
        return (f"{PREFIX}{name}" for name in prompts.names() if f"{PREFIX}{name}" in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _words(name: str) -> dict[str, str]:
    """What a clip says, by language; the bilingual one says both in each."""
    said = {language: wording(name, language) for language in prompts.LANGUAGES}
    if name == BILINGUAL:
        return dict.fromkeys(said, " ".join(said.values()))
    return {language: text for language, text in said.items() if text}
