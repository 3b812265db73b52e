"""Sound as Asterisk plays it: 8 kHz, one channel, 16 bits; and the way from an engine's voice to that.

Samples are 16-bit integers in an `array("h")`. Pure Python on purpose: numpy is too much for a few
hundred clips, and audioop has left the standard library. The same samples in must give the same bytes
out on every machine, so the heavy sums are whole numbers: no order of adding, no rounding mode.
"""

from __future__ import annotations

import math
import sys
import wave
from array import array
from functools import cache
from operator import mul
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE: Final = 8000
FULL_SCALE: Final = 32767

_CUTOFF: Final = 3600.0  # Hz; a telephone line ends at 3,400
_TRANSITION: Final = 800.0  # Hz; what it lets through above 4,000 folds back to above 3,600 only
_KAISER_BETA: Final = 5.65  # 60 dB
_UNIT: Final = 1 << 16  # fixed point of the filter's taps
_HUM: Final = 120.0  # Hz; below it a telephone carries nothing but trouble


class SoundFormatError(ValueError):
    """A sound file that Asterisk would refuse or play wrongly; the message says why."""


def silence(milliseconds: int) -> array[int]:
    """Return that much of nothing."""
    return array("h", bytes(2 * (RATE * milliseconds // 1000)))


def write(path: Path, samples: array[int]) -> None:
    """Write a classic RIFF file, whole or not at all, readable for everybody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    stored = samples[:]
    if sys.byteorder == "big":
        stored.byteswap()
    with wave.open(str(unfinished), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes(stored.tobytes())
    unfinished.chmod(0o644)
    unfinished.replace(path)


def read(path: Path) -> array[int]:
    """Read a file that Asterisk can play as `.wav`: PCM, 16 bits, one channel, 8 kHz.

    Raises SoundFormatError for any other, cut off ones included.
    """
    head = path.read_bytes()[:22]
    # Python's wave reads the EXTENSIBLE header too, Asterisk does not: look at the format tag itself.
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[20:22] != b"\x01\x00":
        raise SoundFormatError("not a plain PCM WAV file")
    try:
        with wave.open(str(path), "rb") as recording:
            form = recording.getnchannels(), 8 * recording.getsampwidth(), recording.getframerate()
            promised = recording.getnframes()
            frames = recording.readframes(promised)
    except (wave.Error, EOFError) as exception:
        raise SoundFormatError(f"not a whole WAV file: {exception}") from exception
    if form != (1, 16, RATE):
        raise SoundFormatError("{} channel(s), {} bits, {} Hz; Asterisk plays 1, 16 and 8000".format(*form))
    if len(frames) != 2 * promised:
        raise SoundFormatError("cut off: its header promises more than there is")
    samples = array("h", frames)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def duration_ms(samples: Sequence[int]) -> int:
    """Return the length in milliseconds."""
    return round(len(samples) * 1000 / RATE)


def peak(samples: Sequence[int]) -> int:
    """Return the largest swing, 0 to 32,768."""
    return max(max(samples, default=0), -min(samples, default=0))


def level(samples: Sequence[int]) -> float:
    """Return the loudness of what is said, in dB below full scale, pauses not counted.

    The mean power of the 20 ms frames that are no more than 30 dB below the loudest one; -inf for silence.
    """
    frame = RATE // 50
    frames = (samples[i : i + frame] for i in range(0, len(samples), frame))
    powers = [sum(map(mul, part, part)) for part in frames]
    loudest = max(powers, default=0)
    if not loudest:
        return -math.inf
    spoken = [power for power in powers if power * 1000 >= loudest]
    return 10 * math.log10(sum(spoken) / (len(spoken) * frame) / FULL_SCALE**2)


def resample(samples: array[int], rate: int) -> array[int]:
    """Bring a recording from `rate` (above 8 kHz) to 8 kHz, with nothing folded down into the speech."""
    if rate == RATE:
        return samples[:]
    common = math.gcd(rate, RATE)
    up, down = RATE // common, rate // common
    phases = _phases(up, rate)
    width = len(phases[0])
    margin = array("h", bytes(2 * width))
    padded = margin + samples + margin
    start = width - width // 2 + 1
    out = array("h")
    for n in range(len(samples) * up // down):
        whole, phase = divmod(n * down, up)
        place = start + whole
        out.append(_clip(sum(map(mul, phases[phase], padded[place : place + width])) // _UNIT))
    return out


@cache
def _phases(up: int, rate: int) -> list[list[int]]:
    """Return the low-pass, a sinc in a Kaiser window, as taps for each of `up` offsets between samples."""
    width = 2 * math.ceil((60 - 8) / (2.285 * 2 * math.pi * _TRANSITION / rate) / 2)
    phases = []
    for phase in range(up):
        taps = [_tap(i - width // 2 + 1 - phase / up, width, rate) for i in range(width)]
        total = math.fsum(taps)
        phases.append([round(tap / total * _UNIT) for tap in taps])
    return phases


def _tap(offset: float, width: int, rate: int) -> float:
    edge = 1 - (2 * offset / width) ** 2
    if edge <= 0:
        return 0.0
    x = 2 * math.pi * _CUTOFF / rate * offset
    return (math.sin(x) / x if x else 1.0) * _bessel(_KAISER_BETA * math.sqrt(edge))


def _bessel(x: float) -> float:
    """Return the modified Bessel function of the first kind, order zero, by its series."""
    term, total, k = 1.0, 1.0, 0
    while term > total * 1e-12:
        k += 1
        term *= (x / (2 * k)) ** 2
        total += term
    return total


def polish(samples: array[int], target: float, ceiling: float) -> array[int]:
    """Take out hum and offset, bring the speech to `target` dB, and keep every peak below `ceiling` dB."""
    clean = _high_pass(samples)
    now = level(clean)
    if now == -math.inf:
        return clean
    gain = 10 ** ((target - now) / 20)
    top = FULL_SCALE * 10 ** (ceiling / 20)
    return array("h", [round(_rounded_off(sample * gain, top)) for sample in clean])


def _rounded_off(value: float, top: float) -> float:
    """Leave the lower half of the range alone and bend the rest so that it never reaches `top`."""
    knee = top / 2
    over = abs(value) - knee
    if over <= 0:
        return value
    return math.copysign(knee + knee * over / (over + knee), value)


def _high_pass(samples: array[int]) -> array[int]:
    """Second-order Butterworth high-pass."""
    w = math.tan(math.pi * _HUM / RATE)
    scale = 1 / (1 + math.sqrt(2) * w + w * w)
    back1, back2 = 2 * (w * w - 1) * scale, (1 - math.sqrt(2) * w + w * w) * scale
    out = array("h")
    x1 = x2 = y1 = y2 = 0.0
    for x in samples:
        y = (x - 2 * x1 + x2) * scale - back1 * y1 - back2 * y2
        x1, x2, y1, y2 = float(x), x1, y, y1
        out.append(_clip(round(y)))
    return out


def trim(samples: array[int], lead_ms: int, tail_ms: int) -> array[int]:
    """Cut the silence at both ends down to what is asked for (or fill up to it), and fade both ends."""
    frame = RATE // 200
    loud = max(peak(samples) // 300, 1)  # 50 dB below the peak: an engine's pause is purer, a "th" is not
    heard = [i for i in range(0, len(samples), frame) if peak(samples[i : i + frame]) >= loud]
    if not heard:
        return silence(lead_ms + tail_ms)
    lead, tail = RATE * lead_ms // 1000, RATE * tail_ms // 1000
    first, last = heard[0], min(heard[-1] + frame, len(samples))
    body = samples[max(first - lead, 0) : last + tail]
    body = array("h", bytes(2 * max(lead - first, 0))) + body
    body += array("h", bytes(2 * max(lead + (last - first) + tail - len(body), 0)))
    return fade(body, min(lead_ms, 5), min(tail_ms, 15))


def fade(samples: array[int], in_ms: int, out_ms: int) -> array[int]:
    """Let the ends rise from, and fall to, nothing, so that no click is heard."""
    out = samples[:]
    rise, fall = min(RATE * in_ms // 1000, len(out)), min(RATE * out_ms // 1000, len(out))
    for i in range(rise):
        out[i] = out[i] * i // rise
    for i in range(fall):
        out[-1 - i] = out[-1 - i] * i // fall
    return out


def _clip(value: int) -> int:
    return max(-FULL_SCALE - 1, min(FULL_SCALE, value))
