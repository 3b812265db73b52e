"""A telephone line: 300 to 3,400 Hz and G.711 mu-law, with noise or without some of its packets."""

from __future__ import annotations

import argparse
import hashlib
import math
import re
from array import array
from typing import TYPE_CHECKING, Final

import numpy as np
from recogniser import WINDOW

from ivr_agi.sounds import formats
from ivr_agi.sounds.audio import RATE, Sound

if TYPE_CHECKING:
    from recogniser import Samples

BAND: Final = (300.0, 3400.0)  # Hz
PACKET: Final = RATE // 50  # samples in 20 ms


def line(samples: Samples, condition: str, seed: str) -> Samples:
    """Send them through a telephone line: `line`, `noise10` (dB below speech) or `loss3` (% of packets)."""
    chance = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    kind, amount = condition_of(condition)
    through = _band(samples)
    if kind == "noise":
        noise = _band(_falling(chance.standard_normal(int(WINDOW * RATE))))[: len(samples)]
        through += noise * math.sqrt(_speech(through) / np.mean(noise**2) / 10 ** (amount / 10))
    pcm = array("h", (int(x) for x in np.clip(np.rint(through * 32768), -32768, 32767)))
    through = np.array(formats.decode("ulaw", formats.encode("ulaw", Sound(pcm, RATE))).samples) / 32768
    if kind == "loss":  # and nothing put in its place: telephones do better
        lost = chance.random(int(WINDOW * RATE) // PACKET + 1) < amount / 100
        through[np.repeat(lost, PACKET)[: len(through)]] = 0
    return through


def condition_of(text: str) -> tuple[str, float]:
    """Return what goes wrong on a line, and how much of it; ArgumentTypeError for what is no condition."""
    if not (found := re.fullmatch(r"(line)|(noise|loss)(\d+)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is none of line, noiseDB, lossPERCENT")
    return found[1] or found[2], float(found[3] or 0)


def _band(samples: Samples) -> Samples:
    """24 dB/octave outside the band, without delay."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    hertz[0] = 1e-9
    gain = 1 / np.sqrt((1 + (BAND[0] / hertz) ** 8) * (1 + (hertz / BAND[1]) ** 8))
    return np.fft.irfft(spectrum * gain, len(samples))


def _falling(noise: Samples) -> Samples:
    """Make white noise fall towards the highs, as that of rooms and streets does."""
    turn = np.exp(-1j * np.linspace(0, np.pi, len(noise) // 2 + 1))
    return np.fft.irfft(np.fft.rfft(noise) / (1 - 0.7 * turn), len(noise))


def _speech(samples: Samples) -> float:
    """Return the mean power of the packets that somebody speaks in."""
    power = (samples[: len(samples) // PACKET * PACKET].reshape(-1, PACKET) ** 2).mean(axis=1)
    return float(power[power > power.max() / 1000].mean())
