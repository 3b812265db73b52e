"""Music on hold of our own making, so that nobody has to ask whose it is.

A slow broken chord, each note struck softly and left to ring, in the middle of what a telephone
carries. The end rings over into the beginning: played again and again there is no seam.
"""

from __future__ import annotations

import cmath
import math
from array import array
from typing import Final

from ivr_agi.sounds import loudness
from ivr_agi.sounds.audio import FULL_SCALE, RATE, Sound

LEVEL: Final = -27.5  # LUFS: 8 below the speech

_BEAT: Final = RATE * 3 // 8  # samples from note to note
_RING: Final = RATE * 3  # samples that a note is heard
_ATTACK: Final = RATE // 100  # samples that it takes to rise: struck, but with a felt hammer
_TONIC: Final = 349.23  # Hz, F4
# Four notes a bar, in semitones from the tonic, played up and down: F d B-flat C, F a B-flat C7.
_BARS: Final = (
    (0, 4, 7, 12),
    (-3, 0, 4, 9),
    (-7, -3, 0, 5),
    (-5, -1, 2, 7),
    (0, 7, 12, 16),
    (-8, 4, 7, 11),
    (-7, 5, 9, 12),
    (-5, 2, 5, 11),
)
_ORDER: Final = (0, 1, 2, 3, 2, 1, 2, 1)
# Multiple of the pitch, strength, decay a second.
_PARTIALS: Final = ((1, 1.0, 1.5), (2, 0.35, 2.5), (3, 0.1, 4.0))


def waiting() -> Sound:
    """Return the 24 seconds that are played while the bank is asked."""
    mix = [0.0] * (_BEAT * len(_ORDER) * len(_BARS))
    for bar, chord in enumerate(_BARS):
        for beat, note in enumerate(_ORDER):
            accent = 1.0 if beat == 0 else 0.7
            _strike(mix, (bar * len(_ORDER) + beat) * _BEAT, _TONIC * 2 ** (chord[note] / 12), accent)
    loudest = max(map(abs, mix))
    rough = array("h", [round(value / loudest * FULL_SCALE) for value in mix])
    gain = 10 ** ((LEVEL - loudness.lufs(Sound(rough))) / 20)
    return Sound(array("h", [round(value * gain) for value in rough]))


def _strike(mix: list[float], start: int, pitch: float, accent: float) -> None:
    """Add one note; what rings beyond the end rings at the beginning."""
    for multiple, strength, decay in _PARTIALS:
        turn = cmath.exp(complex(-decay, 2 * math.pi * pitch * multiple) / RATE)
        swing = complex(accent * strength)
        for i in range(_RING):
            swing *= turn
            mix[(start + i) % len(mix)] += swing.imag * min(i / _ATTACK, 1.0, (_RING - i) / RATE)
