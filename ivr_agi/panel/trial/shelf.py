"""The sound files that a browser is given, and how long each one plays.

A file is found by a name of the catalogue, never by a path that somebody has sent.
"""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Final

from ivr_agi import prompts
from ivr_agi.sounds.clips import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

MUSIC: Final = ("moh", "waiting")  # a folder beside those of the languages, and the clip in it


class Shelf:
    """A folder of sounds. folder: as `sounds.shipped()` has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds: dict[Path, float] = {}

    def find(self, name: str, language: str) -> Path | None:
        """Return the file of a prompt, clip, or the music (`waiting` of `moh`); None if there is none."""
        if not (prompts.exists(name, language) or (language, name) == MUSIC):
            return None
        path = self._folder / language / FOLDER / f"{name}.wav"
        return path if path.is_file() else None

    def seconds(self, path: Path) -> float:
        """Return how long a file plays; 0 for one that is no sound: then nothing is waited for."""
        if path not in self._seconds:
            self._seconds[path] = _seconds(path)
        return self._seconds[path]


def _seconds(path: Path) -> float:
    try:
        with wave.open(str(path)) as sound:
            return float(sound.getnframes() / sound.getframerate())
    except (OSError, EOFError, wave.Error, ZeroDivisionError):
        return 0.0
