"""How loud a sound is to the ear: LUFS, as broadcasters measure it (ITU-R BS.1770-4).

Each sample passes two filters that weigh its pitch as a listener's head and ear do. The mean power of
blocks of 400 ms, begun every 100 ms, is then averaged over those blocks that count: neither silence nor
pauses do. The recommendation gives the filters for 48 kHz; for any other rate they are made anew from
the analog circuit behind those numbers.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ivr_agi.sounds.audio import Sound

_OFFSET: Final = -0.691  # dB; takes back what the weighting adds at the pitch below
_HELD: Final = 997.0  # Hz
_REFERENCE_RATE: Final = 48_000  # Hz; the rate of the recommendation's own numbers
# Analog circuits, found from the recommendation's two tables of coefficients by undoing the bilinear
# transform: corner in Hz, quality, and for the shelf the gain above it and at the corner.
_SHELF_CORNER: Final = 1681.974450955533
_SHELF_QUALITY: Final = 0.7071752369554196
_SHELF_GAIN: Final = 10 ** (3.999843853973347 / 20)
_SHELF_MIDDLE: Final = _SHELF_GAIN**0.4996667741545416
_PASS_CORNER: Final = 38.13547087602444
_PASS_QUALITY: Final = 0.5003270373238773

_BLOCK: Final = 4  # hops to a block
_HOPS: Final = 10  # a second
_ABSOLUTE_GATE: Final = -70.0  # LUFS
_RELATIVE_GATE: Final = 0.1  # 10 LU below the mean, as power
_HEARD: Final = 300  # 50 dB below the peak: an engine's pause is purer, a "th" is not
_FRAMES: Final = 200  # a second, in which sound is told from silence


class Biquad(NamedTuple):
    """A filter of second order: what is made of the last three samples, less what came out before."""

    b0: float
    b1: float
    b2: float
    a1: float
    a2: float

    def run(self, samples: Iterable[float]) -> list[float]:
        """Return the samples filtered, as many as there were."""
        b0, b1, b2, a1, a2 = self
        z1 = z2 = 0.0
        out: list[float] = []
        append = out.append
        for x in samples:
            y = b0 * x + z1
            z1 = b1 * x - a1 * y + z2
            z2 = b2 * x - a2 * y
            append(y)
        return out


def cascade(first: Biquad, second: Biquad, samples: Iterable[float]) -> list[float]:
    """Return the samples after both filters; in one pass, because most of the time goes here."""
    b0, b1, b2, a1, a2 = first
    d0, d1, d2, c1, c2 = second
    z1 = z2 = s1 = s2 = 0.0
    out: list[float] = []
    append = out.append
    for x in samples:
        y = b0 * x + z1
        z1 = b1 * x - a1 * y + z2
        z2 = b2 * x - a2 * y
        w = d0 * y + s1
        s1 = d1 * y - c1 * w + s2
        s2 = d2 * y - c2 * w
        append(w)
    return out


def warped(frequency: float, rate: int) -> float:
    """Return where the bilinear transform puts a frequency in Hz."""
    return math.tan(math.pi * frequency / rate)


def bilinear(above: Sequence[float], below: Sequence[float], k: float, *, gain: float = 1.0) -> Biquad:
    """Make a digital filter of an analog one, each side as (s squared, s, 1) with s = 1 at the warped `k`."""
    scale = below[0] + below[1] * k + below[2] * k * k
    numbers = (
        gain * (above[0] + above[1] * k + above[2] * k * k) / scale,
        gain * 2 * (above[2] * k * k - above[0]) / scale,
        gain * (above[0] - above[1] * k + above[2] * k * k) / scale,
        2 * (below[2] * k * k - below[0]) / scale,
        (below[0] - below[1] * k + below[2] * k * k) / scale,
    )
    return steady(*numbers)


def steady(*numbers: float) -> Biquad:
    """Return a filter of five numbers without their last bits.

    Mathematical libraries differ in the last bit of a tangent, additions and products do not: with that bit
    cut off the same sound gives the same bytes on every machine.
    """
    return Biquad(*(round(number * 2**44) / 2**44 for number in numbers))


@cache
def k_weighting(rate: int) -> tuple[Biquad, Biquad]:
    """Return the recommendation's two filters for `rate`: a shelf for the head, a high-pass for the ear."""
    # Where the rate is low, the transform presses the shelf down. Held at the pitch of the offset, not at the
    # corner, it weighs that pitch, and the speech around it, alike at every rate.
    k = warped(_SHELF_CORNER, _REFERENCE_RATE) * warped(_HELD, rate) / warped(_HELD, _REFERENCE_RATE)
    shelf = bilinear((_SHELF_GAIN, _SHELF_MIDDLE / _SHELF_QUALITY, 1.0), (1.0, 1 / _SHELF_QUALITY, 1.0), k)
    # The recommendation leaves its high-pass unscaled, so that it lifts everything by some 0.04 dB: kept.
    k = warped(_PASS_CORNER, _REFERENCE_RATE)
    lift = 1 + k / _PASS_QUALITY + k * k
    k = warped(_PASS_CORNER, rate)
    ear = bilinear((1.0, 0.0, 0.0), (1.0, 1 / _PASS_QUALITY, 1.0), k, gain=lift)
    return shelf, ear


def lufs(sound: Sound) -> float:
    """Return the integrated loudness in LUFS; -inf for silence, and for less than -70.

    Measured from where something is first heard to where it is last heard, so that a clip is as loud before
    it is trimmed as after: in a short word the margins' share of the blocks would count for up to 3 LU. If
    less than one block of 400 ms is heard, that is the block.
    """
    return measured(sound.samples, sound.rate)


def measured(samples: Sequence[float], rate: int) -> float:
    """Return the integrated loudness of bare samples, full scale being 32,768; see `lufs`."""
    first, last = heard(samples, rate)
    if not last:
        return -math.inf
    weighted = _weighted(samples[first:last], rate)
    hops = max(len(weighted) * _HOPS // rate, _BLOCK)
    bounds = [min(i * rate // _HOPS, len(weighted)) for i in range(hops + 1)]
    sums = [_energy(weighted[here:there]) for here, there in pairwise(bounds)]
    return _gated(
        [math.fsum(sums[i : i + _BLOCK]) / (bounds[i + _BLOCK] - bounds[i]) for i in range(hops - _BLOCK + 1)]
    )


def _gated(powers: Sequence[float]) -> float:
    floor = 10 ** ((_ABSOLUTE_GATE - _OFFSET) / 10)
    audible = [power for power in powers if power > floor]
    if not audible:
        return -math.inf
    relative = math.fsum(audible) / len(audible) * _RELATIVE_GATE
    counting = [power for power in audible if power > relative]
    return _OFFSET + 10 * math.log10(math.fsum(counting) / len(counting))


def _weighted(samples: Sequence[float], rate: int) -> list[float]:
    return cascade(*k_weighting(rate), samples)


def _energy(samples: Sequence[float]) -> float:
    energy: float = sum(map(mul, samples, samples))
    return energy / 2**30


def heard(samples: Sequence[float], rate: int) -> tuple[int, int]:
    """Return where what is heard begins and ends, as places in `samples`; (0, 0) if nothing is.

    Silence is what stays 50 dB below the loudest sample, judged in steps of 5 ms.
    """
    loud = loud_frames(samples, rate)
    if True not in loud:
        return 0, 0
    frame = rate // _FRAMES
    last = len(loud) - loud[::-1].index(True)
    return loud.index(True) * frame, min(last * frame, len(samples))


def loud_frames(samples: Sequence[float], rate: int) -> list[bool]:
    """Tell for each 5 ms, the last ones cut short, whether something is heard in them."""
    frame = rate // _FRAMES
    peaks = [_peak(samples[i : i + frame]) for i in range(0, len(samples), frame)]
    threshold = max(max(peaks, default=0) / _HEARD, 1)
    return [peak >= threshold for peak in peaks]


def _peak(samples: Sequence[float]) -> float:
    highest, lowest = max(samples), min(samples)
    return max(highest, -lowest)
