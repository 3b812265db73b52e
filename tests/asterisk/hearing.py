"""What a caller heard, found in the recording of the call by its sound.

Clips are looked for by normalised cross-correlation with the WAV files that are shipped: 1 is the
same sound, at any loudness; two different sentences stay far below. It must never look at logs,
events or file names: what Asterisk says it plays and what reaches the ear are two things.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from rootfs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RATE = 8000  # samples a second, in every file
ALIKE = 0.8  # from here on it is the same sound
EDGE = 0.02  # seconds that two clips in a row may overlap: where one is cut, nobody knows to the sample
QUIET = 1e-6  # of the loudest: below it there is no sound to compare with


@dataclass(frozen=True)
class Heard:
    """One clip in a recording. start, end in seconds; alike is 1 for the very same sound."""

    name: str
    start: float
    end: float
    alike: float


@cache
def clip(name: str, language: str, seconds: float | None = None) -> np.ndarray:
    """The samples of a shipped clip (`enter-card`), or of its first seconds only."""
    samples = _read(REPOSITORY / f"sounds/{language}/ivr-agi/{name}.wav")
    return samples if seconds is None else samples[: round(seconds * RATE)]


def music() -> np.ndarray:
    """The music that is played while the bank is asked; it goes on where it was left, and begins anew."""
    return _read(REPOSITORY / "sounds/moh/ivr-agi/waiting.wav")


class Recording:
    """What was heard in one call."""

    def __init__(self, samples: np.ndarray):
        # The last samples are lost when the call ends; the last clip shall have room, all the same.
        self._samples = np.concatenate((samples, np.zeros(RATE // 10)))
        # The fast transform wants a power of two; what is longer than the clip at hand wraps around unread.
        self._size = 1 << len(self._samples).bit_length()
        self._spectrum = np.fft.rfft(self._samples, self._size)
        self._energy = np.concatenate(([0.0], np.cumsum(self._samples**2)))

    @classmethod
    def of(cls, path: Path, last: float | None = None) -> Recording:
        """Read a recording, or its last seconds only."""
        return cls(_read(path)[-round(last * RATE) if last else 0 :])

    def likeness(self, sound: np.ndarray) -> np.ndarray:
        """How like `sound` the recording is from each sample on: -1 to 1, 1 for the very same."""
        places = len(self._samples) - len(sound) + 1
        if places <= 0:
            return np.zeros(0)
        product = np.fft.irfft(self._spectrum * np.conj(np.fft.rfft(sound, self._size)), self._size)[:places]
        energy = self._energy[len(sound) :] - self._energy[:places]
        scale = np.sqrt(np.maximum(energy, QUIET * self._energy[-1]) * np.sum(sound**2))
        return product / scale

    def heard(self, sounds: dict[str, np.ndarray]) -> list[Heard]:
        """Which of these sounds are in it, in order; where two would overlap, the one more alike."""
        found: list[Heard] = []
        for name, sound in sounds.items():
            alike = self.likeness(sound)
            while alike.size and alike[best := int(np.argmax(alike))] >= ALIKE:
                found.append(Heard(name, best / RATE, (best + len(sound)) / RATE, float(alike[best])))
                room = len(sound) - round(EDGE * RATE)
                alike[max(0, best - room) : best + room] = 0
        kept: list[Heard] = []
        for one in sorted(found, key=lambda heard: (-round(heard.alike, 2), heard.start - heard.end)):
            if all(one.start >= other.end - EDGE or one.end <= other.start + EDGE for other in kept):
                kept.append(one)
        return sorted(kept, key=lambda heard: heard.start)

    def is_music(self, start: float, end: float) -> bool:
        """Whether it is our music, from whatever bar on, that fills these seconds of the recording."""
        part = self._samples[round((start + EDGE) * RATE) : round((end - EDGE) * RATE)]
        return bool(np.max(Recording(music()).likeness(part)) >= ALIKE)

    def names(self, names: Iterable[str], language: str, seconds: float | None = None) -> list[str]:
        """Which of these clips are in it, in order."""
        return [one.name for one in self.heard({name: clip(name, language, seconds) for name in names})]


def _read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (RATE, 1, 2):
            raise ValueError(f"{path} is not 8 kHz, mono, 16 bits")
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float64)
    return samples - samples.mean() if samples.size else samples
