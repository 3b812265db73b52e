"""Sound in memory, and the way from anyone's recording to what a telephone carries.

Samples are 16-bit integers in an `array("h")`. Pure Python on purpose: numpy is too much for a few
hundred clips, and audioop has left the standard library. The same samples in give the same bytes out on
every machine: the long sums are whole numbers, and what comes from a mathematical library, which may
differ in the last bit, is rounded before it is used.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import mul, sub
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds.loudness import Biquad, bilinear, cascade, heard, loud_frames, measured, steady, warped

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE: Final = 8000
FULL_SCALE: Final = 32767
SLOWEST: Final = 4000  # Hz; the lowest rate that speech can be kept in

# Resampling: a sinc in a Kaiser window, 72 dB deep. The pass ends at 80 % of the highest frequency that the
# lower rate can have (at 8 kHz: 3,200 Hz), the stop begins with that frequency itself: nothing folds.
_CUTOFF: Final = 0.9
_TRANSITION: Final = 0.2
_DEPTH: Final = 72.0  # dB
_KAISER_BETA: Final = 0.1102 * (_DEPTH - 8.7)
_UNIT: Final = 1 << 16  # fixed point of the filter's taps
_FINEST: Final = 2048  # filters between two samples at most; rates that need more get the nearest

_HUM: Final = 120.0  # Hz; below it a telephone carries nothing but trouble
_PRESENCE: Final = 1500.0  # Hz; where the lift has half its height in dB
_LOWEST_VOICE: Final = 65.0  # Hz
_CONSONANTS: Final = 2000.0  # Hz
_ROUNDS: Final = 16  # tries to meet the loudness in spite of the limiter
_NEAR_ENOUGH: Final = 0.02  # LU
_ASKED_FOR_MORE: Final = 1.4  # times what is missing: the limiter takes some of each decibel added
_MOST_LIMITED: Final = 12.0  # dB; beyond it a voice is squashed, not louder
_KNEE: Final = 0.8  # of the ceiling; lower ones were measured to bend more of the voice


class SoundFormatError(ValueError):
    """A sound file that cannot be used, or that Asterisk would refuse or play wrongly; says why."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel of 16-bit samples, `rate` of them a second."""

    samples: array[int]
    rate: int = RATE

    @property
    def duration_ms(self) -> int:
        """The length in milliseconds."""
        return round(len(self.samples) * 1000 / self.rate)

    @property
    def peak(self) -> int:
        """The largest swing, 0 to 32,768."""
        return max(max(self.samples, default=0), -min(self.samples, default=0))


def silence(milliseconds: int, rate: int = RATE) -> Sound:
    """Return that much of nothing."""
    return Sound(_nothing(rate * milliseconds // 1000), rate)


def join(*sounds: Sound) -> Sound:
    """Return the sounds one after the other; ValueError if there is none, or their rates differ."""
    rates = {sound.rate for sound in sounds}
    if len(rates) != 1:
        raise ValueError(f"sounds of one rate are joined, not of {sorted(rates) or 'none'}")
    samples = array("h")
    for sound in sounds:
        samples += sound.samples
    return Sound(samples, rates.pop())


def resample(sound: Sound, rate: int) -> Sound:
    """Bring a sound to another rate, up or down, with nothing folded into the speech.

    Any whole number of samples a second from 4,000 on; ValueError below.
    """
    if min(rate, sound.rate) < SLOWEST:
        raise ValueError(f"a rate is at least {SLOWEST} Hz")
    if rate == sound.rate:
        return Sound(sound.samples[:], rate)
    common = math.gcd(rate, sound.rate)
    up, down = rate // common, sound.rate // common
    phases = min(up, _FINEST)
    width = _width(sound.rate, min(rate, sound.rate))
    padded = _nothing(width) + sound.samples + _nothing(width + 1)
    start = width - width // 2 + 1
    out = array("h")
    for n in range((len(sound.samples) * up + down // 2) // down):
        whole, part = divmod(n * down, up)
        step = (part * phases + up // 2) // up
        place = start + whole
        taps = _taps(step, phases, sound.rate, min(rate, sound.rate))
        out.append(_clip((sum(map(mul, taps, padded[place : place + width])) + _UNIT // 2) // _UNIT))
    return Sound(out, rate)


def _width(rate: int, lower: int) -> int:
    transition = math.pi * _TRANSITION * lower / rate  # radians a sample
    return 2 * math.ceil((_DEPTH - 8) / (2.285 * transition) / 2)


@cache
def _taps(step: int, phases: int, rate: int, lower: int) -> list[int]:
    """Return the low-pass as seen from `step` of `phases` between two samples."""
    width = _width(rate, lower)
    cutoff = math.pi * _CUTOFF * lower / rate
    taps = [_tap(i - width // 2 + 1 - step / phases, width, cutoff) for i in range(width)]
    total = math.fsum(taps)
    return [round(tap / total * _UNIT) for tap in taps]


def _tap(offset: float, width: int, cutoff: float) -> float:
    edge = 1 - (2 * offset / width) ** 2
    if edge <= 0:
        return 0.0
    x = cutoff * offset
    return (math.sin(x) / x if x else 1.0) * _bessel(_KAISER_BETA * math.sqrt(edge))


def _bessel(x: float) -> float:
    """Return the modified Bessel function of the first kind, order zero, by its series."""
    term, total, k = 1.0, 1.0, 0
    while term > total * 1e-12:
        k += 1
        term *= (x / (2 * k)) ** 2
        total += term
    return total


def telephone(sound: Sound, target_lufs: float, ceiling_db: float, presence_db: float = 0.0) -> Sound:
    """Make a recording fit for a telephone: no hum or offset, `target_lufs` loud, no peak at `ceiling_db`.

    presence_db: lifts what is above 1 to 2 kHz by as much, for a voice that sounds dull on the line.
    Peaks are bent to stay below the ceiling (dB, full scale being 0); the loudness is met all the same,
    unless that would take more than 12 dB. Silence stays silence.
    """
    clean = _high_pass(sound)
    if presence_db:
        clean = _lift(presence_db, sound.rate).run(clean)
    top = math.floor(FULL_SCALE * 10 ** (ceiling_db / 20))
    now = measured(clean, sound.rate)
    if now == -math.inf:
        return Sound(_rounded(clean), sound.rate)
    gain = target_lufs - now
    most, nearest = gain + _MOST_LIMITED, math.inf
    for _ in range(_ROUNDS):
        factor = round(10 ** (gain / 20) * 2**20) / 2**20
        tried = _limited([x * factor for x in clean], top)
        missing = target_lufs - measured(tried, sound.rate)
        # The nearest, not the last: where a gate opens the loudness jumps, and no gain may give the target.
        if abs(missing) < nearest:
            nearest, levelled = abs(missing), tried
        if nearest < _NEAR_ENOUGH or (missing > 0 and gain == most):
            break
        gain = min(gain + missing * _ASKED_FOR_MORE, most)
    return Sound(levelled, sound.rate)


def _limited(samples: Sequence[float], top: int) -> array[int]:
    """Leave alone what is below 80 % of `top`, and bend the rest so that it never gets there."""
    knee = top * _KNEE
    room = top - knee
    out = array("h")
    for x in samples:
        over = abs(x) - knee
        out.append(round(x if over <= 0 else math.copysign(knee + room * over / (over + room), x)))
    return out


def _high_pass(sound: Sound) -> list[float]:
    """Take out what is below 120 Hz, 12 dB an octave; an offset is gone from the first sample on."""
    first = sound.samples[0] if sound.samples else 0
    k = warped(_HUM, sound.rate)
    passing = bilinear((1.0, 0.0, 0.0), (1.0, math.sqrt(2), 1.0), k)
    return passing.run([x - first for x in sound.samples])


def _lift(height_db: float, rate: int) -> Biquad:
    """Return a shelf of first order: nothing at the bottom, `height_db` at the top."""
    half, k = 10 ** (height_db / 40), warped(_PRESENCE, rate)
    scale = 1 / half + k
    return steady((half + k) / scale, (k - half) / scale, 0.0, (k - 1 / half) / scale, 0.0)


def trim(sound: Sound, lead_ms: int, tail_ms: int) -> Sound:
    """Cut the silence at both ends down to what is asked for (or fill up to it), and fade both ends."""
    first, last = heard(sound.samples, sound.rate)
    if not last:
        return silence(lead_ms + tail_ms, sound.rate)
    lead, tail = sound.rate * lead_ms // 1000, sound.rate * tail_ms // 1000
    body = _nothing(max(lead - first, 0)) + sound.samples[max(first - lead, 0) : last + tail]
    body += _nothing(lead + (last - first) + tail - len(body))
    return fade(Sound(body, sound.rate), min(lead_ms, 5), min(tail_ms, 15))


def fade(sound: Sound, in_ms: int, out_ms: int) -> Sound:
    """Let the ends rise from, and fall to, nothing, so that no click is heard."""
    out = sound.samples[:]
    rise, fall = (min(sound.rate * ms // 1000, len(out)) for ms in (in_ms, out_ms))
    for i in range(rise):
        out[i] = out[i] * i // rise
    for i in range(fall):
        out[-1 - i] = out[-1 - i] * i // fall
    return Sound(out, sound.rate)


def margins(sound: Sound) -> tuple[int, int]:
    """Return the milliseconds of silence before and after what is heard; all of it, and 0, if nothing is."""
    first, last = heard(sound.samples, sound.rate)
    if not last:
        return sound.duration_ms, 0
    return round(first * 1000 / sound.rate), round((len(sound.samples) - last) * 1000 / sound.rate)


def gaps(sound: Sound) -> list[int]:
    """Return the lengths, in steps of 5 ms, of each silence between what is first and last heard."""
    runs = [(loud, sum(1 for _ in run)) for loud, run in groupby(loud_frames(sound.samples, sound.rate))]
    return [5 * length for loud, length in runs[1:-1] if not loud]


def largest_step(sound: Sound) -> int:
    """Return the largest jump from one sample to the next, 0 to 65,535: a click is one."""
    return max(map(abs, map(sub, sound.samples[1:], sound.samples)), default=0)


def out_of_band_db(sound: Sound) -> float:
    """Return the power below 65 Hz (no voice, but the mains' hum), in dB of the whole; -inf for silence."""
    return _share_db(_butterworth((0.0, 0.0, 1.0), _LOWEST_VOICE, sound.rate), sound)


def muffled_db(sound: Sound) -> float:
    """Return the power above 2,000 Hz, where consonants differ, in dB of the whole; -inf for silence."""
    return _share_db(_butterworth((1.0, 0.0, 0.0), _CONSONANTS, sound.rate), sound)


def noise_db(sound: Sound) -> float:
    """Return the power of the quietest moments, in dB of the whole: hiss or hum; -inf for silence.

    Of all steps of 10 ms the quietest twentieth is passed over, as the ends are faded; the next one is taken.
    In a word that has neither pauses nor margins it says nothing.
    """
    frame = sound.rate // 100
    samples = sound.samples
    powers = sorted(_power(samples[i : i + frame]) for i in range(0, len(samples) - frame + 1, frame))
    whole = _power(samples) if samples else 0.0
    return _db(powers[len(powers) // 20] / whole) if powers and whole else -math.inf


def _share_db(filters: tuple[Biquad, Biquad], sound: Sound) -> float:
    whole = _power(sound.samples) if sound.samples else 0.0
    if not whole:
        return -math.inf
    return _db(_power(cascade(*filters, sound.samples)) / whole)


def _butterworth(above: tuple[float, float, float], corner: float, rate: int) -> tuple[Biquad, Biquad]:
    """Return a filter of fourth order: 24 dB an octave."""
    k = warped(corner, rate)
    near, far = (bilinear(above, (1.0, 2 * math.cos(math.pi * part / 8), 1.0), k) for part in (1, 3))
    return near, far


def _power(samples: Sequence[float]) -> float:
    energy: float = sum(map(mul, samples, samples))
    return energy / len(samples)


def _db(ratio: float) -> float:
    return 10 * math.log10(ratio) if ratio else -math.inf


def _nothing(count: int) -> array[int]:
    return array("h", bytes(2 * max(count, 0)))


def _rounded(samples: Sequence[float]) -> array[int]:
    return array("h", [_clip(round(x)) for x in samples])


def _clip(value: int) -> int:
    return max(-FULL_SCALE - 1, min(FULL_SCALE, value))
