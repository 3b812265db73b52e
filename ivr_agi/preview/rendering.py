"""A recorded call as sound: the very files joined, keys as the tones they make, and a transcript in step.

Nothing is spoken anew and nothing is treated: what a file is, is what is heard.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from ivr_agi import prompts
from ivr_agi.preview.recording import Clip, Music, Pause, Tones
from ivr_agi.prompts.catalogue import BILINGUAL, LANGUAGES
from ivr_agi.sounds.audio import FULL_SCALE, RATE, Sound, fade, join, silence
from ivr_agi.sounds.clips import FOLDER
from ivr_agi.sounds.formats import read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ivr_agi.preview.recording import Moment

MUSIC: Final = ("waiting", "moh")  # as a clip of a language of its own
TONE_MS: Final = 100
BETWEEN_TONES_MS: Final = 80
TONE_LEVEL: Final = -20.0  # dB below full scale, both frequencies together

# ITU-T Q.23: each key is the frequency of its row and that of its column, in Hz.
_ROWS: Final = {697: "123", 770: "456", 852: "789", 941: "*0#"}
_COLUMNS: Final = (1209, 1336, 1477)
FREQUENCIES: Final = {
    key: (row, column) for row, keys in _ROWS.items() for key, column in zip(keys, _COLUMNS, strict=True)
}


class PreviewError(Exception):
    """No preview can be made; the message names the thing and the cure."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the transcript. at_ms: from the beginning of the call; language: of the words, or "".

    kind: `heard`, `keyed`, `music` or `unanswered`; name: the prompt's, "" for several clips of a number.
    """

    at_ms: int
    kind: str
    words: str
    language: str = ""
    name: str = ""


class Shelf:
    """The sound files of one folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, Sound] = {}

    def clip(self, name: str, language: str) -> Sound:
        """Return a prompt or clip. Raises PreviewError if it is missing, or nothing that can be played."""
        path = path_of(name, language)
        if path not in self._read:
            self._read[path] = self._load(path)
        return self._read[path]

    def _load(self, path: str) -> Sound:
        try:
            sound = read(self.folder / path)
        except FileNotFoundError:
            raise PreviewError(
                f"{self.folder / path} is missing: run `ivr-agi sounds build`, "
                "or name a complete folder with --sounds"
            ) from None
        except (ValueError, OSError) as error:
            raise PreviewError(f"{self.folder / path}: {error}") from None
        return sound


def path_of(name: str, language: str) -> str:
    """Return where a clip lies in a sounds folder."""
    return f"{language}/{FOLDER}/{name}.wav"


def render(moments: Iterable[Moment], shelf: Shelf) -> tuple[Sound, list[Line]]:
    """Return a call as one sound, and its transcript. Raises PreviewError for a file that is not there."""
    parts: list[Sound] = []
    lines: list[Line] = []
    samples = 0
    for moment in moments:
        _write_down(moment, samples * 1000 // RATE, lines)
        part = _sound(moment, shelf)
        parts.append(part)
        samples += len(part.samples)
    return join(*parts), lines


def _sound(moment: Moment, shelf: Shelf) -> Sound:
    match moment:
        case Clip(name, language, cut_ms):
            return _first(shelf.clip(name, language), cut_ms)
        case Tones(keys):
            return dial(keys)
        case Music(ms):
            return _first(shelf.clip(*MUSIC), ms)
        case Pause(ms):
            return silence(ms)


def _first(sound: Sound, ms: int | None) -> Sound:
    return sound if ms is None else Sound(sound.samples[: RATE * ms // 1000], RATE)


def dial(keys: str) -> Sound:
    """Return the tones of keys, each with the silence after it."""
    return join(*(part for key in keys for part in (tone(key), silence(BETWEEN_TONES_MS))))


@cache
def tone(key: str) -> Sound:
    """Return the tone of one key: two sines of equal strength, without a click. KeyError for no key."""
    strength = FULL_SCALE * 10 ** (TONE_LEVEL / 20)  # peak of each: their powers, of a half each, add up
    turns = [2 * math.pi * frequency / RATE for frequency in FREQUENCIES[key]]
    samples = array(
        "h",
        [round(strength * sum(math.sin(turn * i) for turn in turns)) for i in range(RATE * TONE_MS // 1000)],
    )
    return fade(Sound(samples, RATE), 2, 2)


def _write_down(moment: Moment, at_ms: int, lines: list[Line]) -> None:
    match moment:
        case Clip(name=prompts.SILENCE):
            pass
        case Clip(name, language) if name.startswith("numbers/"):
            last = lines[-1] if lines else None
            if last and (last.kind, last.name, last.language) == ("heard", "", language):
                lines[-1] = Line(last.at_ms, "heard", f"{last.words} {words(name, language)}", language)
            else:
                lines.append(Line(at_ms, "heard", words(name, language), language))
        case Clip(name, language):
            lines.append(Line(at_ms, "heard", words(name, language), language, name))
        case Tones(shown=shown):
            lines.append(Line(at_ms, "keyed", shown))
        case Music():
            lines.append(Line(at_ms, "music", ""))
        case Pause(unanswered=True):
            lines.append(Line(at_ms, "unanswered", ""))
        case Pause():
            pass


def words(name: str, language: str) -> str:
    """Return what a clip says, as written; the bilingual one in both languages."""
    said = LANGUAGES if name == BILINGUAL else (language,)
    return " ".join(prompts.text(name, each) for each in said)
