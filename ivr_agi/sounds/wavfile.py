"""Anyone's WAV file, as one channel of 16-bit samples.

Studios, telephones and converters write WAV in many ways; this reads those that a voice comes in. A file is
somebody else's: no number in its header is believed before there are bytes to match it, and whatever
cannot be read ends in a SoundFormatError that says what to do.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds.audio import FULL_SCALE, SLOWEST, Sound, SoundFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LARGEST: Final = 64 << 20  # bytes; four minutes of two channels in studio quality
_FASTEST: Final = 384_000  # Hz
_MOST_CHANNELS: Final = 32

_FIELDS: Final = struct.Struct("<HHIIHH")  # tag, channels, rate, bytes a second, bytes a frame, bits a sample
_MOST_CHUNKS: Final = 1000

_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_WIDTHS: Final = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64), _ALAW: (8,), _ULAW: (8,)}  # bits
_NAMES: Final = {
    2: "Microsoft ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x50: "MPEG",
    0x55: "MP3",
    0xFF: "AAC",
}
_SINGLE: Final = 4  # bytes
_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")  # makes a format tag a GUID
# The size of the sound where a program writes to a pipe and cannot come back to fill it in: nothing, all
# ones, or near the largest that fits in 31 or 32 bits (SoX, eSpeak NG: 0x7FFFF000 and the like).
_UNKNOWN_SIZE: Final = 0x7FFF_0000

_CURE: Final = "convert it: ffmpeg -i OLD NEW.wav"
_OTHERS: Final = (  # place, bytes, what it is
    (0, b"ID3", "MP3"),
    *((0, bytes((0xFF, second)), "MP3") for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg (Vorbis or Opus)"),
    (0, b"RIFX", "RIFX, a WAV with its bytes the other way round"),
    (0, b"RF64", "RF64, a WAV for more than 4 GB"),
    (0, b"BW64", "BW64, a WAV for more than 4 GB"),
    (0, b"riff", "Wave64"),
    (0, b"FORM", "AIFF"),
    (0, b".snd", "Sun audio"),
    (0, b"caff", "Apple's CAF"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (4, b"ftyp", "MP4 (m4a)"),
)


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate: int
    width: int  # bytes a sample


def read_any(path: Path) -> Sound:
    """Read PCM of 8 to 32 bits, float, mu-law or A-law, of any rate, its channels mixed down to one.

    Raises SoundFormatError for anything else, OSError as it comes.
    """
    if path.exists() and not path.is_file():
        raise SoundFormatError("not a file")  # a pipe would be waited for without end
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise SoundFormatError(f"larger than {LARGEST >> 20} MB: that is no sentence")
    return parse(raw)


def parse(raw: bytes) -> Sound:
    """Return the sound in the bytes of a WAV file; SoundFormatError as `read_any` has it."""
    _must_be_wav(raw)
    form = None
    for name, body, promised in _chunks(raw):
        if name == b"fmt ":
            form = _format(body)
        elif name == b"data":
            if form is None:
                raise SoundFormatError("its sound comes before the format of it")
            if promised > len(body):
                raise SoundFormatError(
                    f"cut off: {promised} bytes of sound are promised, {len(body)} are there"
                )
            return _sound(body, form)
    raise SoundFormatError("cut off: there is no sound in it" if form else "cut off within its header")


def _must_be_wav(raw: bytes) -> None:
    if raw[:4] == b"RIFF" and raw[8:12] == b"WAVE":
        return
    found = next((name for place, magic, name in _OTHERS if raw.startswith(magic, place)), "")
    if found:
        raise SoundFormatError(f"not a WAV file but {found}; {_CURE}")
    raise SoundFormatError("not a WAV file" if raw else "empty")


def _chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield name, content and promised length of each chunk; a length that nobody knew is what is there."""
    view, place = memoryview(raw), 12
    whole = len(raw) - 8 == int.from_bytes(raw[4:8], "little")
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(raw):
            return
        name, size = struct.unpack_from("<4sI", raw, place)
        place += 8
        if name == b"data" and (size >= _UNKNOWN_SIZE or (size == 0 and not whole)):
            size = len(raw) - place
        yield name, view[place : place + size], size
        place += size + size % 2
    raise SoundFormatError(f"more than {_MOST_CHUNKS} chunks, and no sound yet")


def _format(body: memoryview) -> _Format:
    if len(body) < _FIELDS.size:
        raise SoundFormatError("cut off within its header")
    tag, channels, rate, _, frame, bits = _FIELDS.unpack_from(body)
    if tag == _EXTENSIBLE:
        if body[26:40] != _GUID_TAIL:
            raise SoundFormatError(f"an extended WAV of an unknown kind; {_CURE}")
        tag = int.from_bytes(body[24:26], "little")
    if tag not in _WIDTHS:
        raise SoundFormatError(f"a WAV with {_NAMES.get(tag, f'format {tag:#x}')} in it; {_CURE}")
    if not 1 <= channels <= _MOST_CHANNELS:
        raise SoundFormatError(f"{channels} channels; 1 to {_MOST_CHANNELS} can be read")
    if not SLOWEST <= rate <= _FASTEST:
        raise SoundFormatError(f"{rate} Hz; {SLOWEST} to {_FASTEST} can be read")
    width = (bits + 7) // 8  # 12 or 20 bits lie at the upper end of whole bytes
    if 8 * width not in _WIDTHS[tag] or frame != width * channels:
        raise SoundFormatError(f"{bits} bits in {frame} bytes for {channels} channel(s); {_CURE}")
    return _Format(tag, channels, rate, width)


def _sound(body: memoryview, form: _Format) -> Sound:
    frame = form.width * form.channels
    raw = bytes(body[: len(body) // frame * frame])
    if not raw:
        raise SoundFormatError("there is no sound in it")
    samples = _samples(raw, form)
    return Sound(_mixed([samples[i :: form.channels] for i in range(form.channels)]), form.rate)


def _samples(raw: bytes, form: _Format) -> array[int]:
    """Return all channels' samples as 16 bits."""
    if form.tag == _FLOAT:
        floats = array("f" if form.width == _SINGLE else "d", raw)
        if sys.byteorder == "big":
            floats.byteswap()
        return array("h", map(_from_float, floats))
    if form.tag in (_ULAW, _ALAW):
        return expanded(raw, ULAW if form.tag == _ULAW else ALAW)
    # Of longer samples the two upper bytes are taken: what lies below is 96 dB down.
    upper = bytearray(len(raw) // form.width * 2)
    if form.width == 1:
        upper[1::2] = raw.translate(_UNSIGNED)
    else:
        upper[0::2] = raw[form.width - 2 :: form.width]
        upper[1::2] = raw[form.width - 1 :: form.width]
    return native(bytes(upper))


def expanded(raw: bytes, table: Sequence[int]) -> array[int]:
    """Return samples from code words, by a table of 256."""
    both = bytearray(2 * len(raw))
    both[0::2] = raw.translate(bytes(sample & 0xFF for sample in table))
    both[1::2] = raw.translate(bytes(sample >> 8 & 0xFF for sample in table))
    return native(bytes(both))


def native(raw: bytes) -> array[int]:
    """Return samples from the bytes of a file, the lower first, or cut to that: the same both ways."""
    samples = array("h", raw)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _from_float(value: float) -> int:
    if math.isnan(value):
        return 0
    return round(max(-1.0, min(1.0, value)) * FULL_SCALE)


def _mixed(channels: Sequence[array[int]]) -> array[int]:
    """Return the mean of the channels, or the first of them that is loud if they cancel each other out."""
    if len(channels) == 1:
        return channels[0]
    mixed = array("h", (sum(frame) // len(channels) for frame in zip(*channels, strict=True)))
    powers = [_power(channel) for channel in channels]
    # What is equal on two channels, and silent on the others, keeps at least 1 / (number of channels)**2.
    if _power(mixed) * len(channels) ** 2 * 4 >= max(powers):
        return mixed
    return next(channel for channel, power in zip(channels, powers, strict=True) if 2 * power >= max(powers))


def _power(samples: array[int]) -> int:
    return sum(map(mul, samples, samples))


def _from_ulaw(byte: int) -> int:
    """Return what a code word stands for, G.711 mu-law: inverted; sign, segment, place in the segment."""
    word = byte ^ 0xFF
    size = ((((word & 0x0F) << 3) + ULAW_BIAS) << (word >> 4 & 7)) - ULAW_BIAS
    return -size if word & 0x80 else size


def _from_alaw(byte: int) -> int:
    """Return what a code word stands for, G.711 A-law: every other bit inverted; sign, segment, place."""
    word = byte ^ 0x55
    segment, size = word >> 4 & 7, (word & 0x0F) << 4 | 8
    if segment:
        size = (size + 0x100) << (segment - 1)
    return size if word & 0x80 else -size


ULAW_BIAS: Final = 33 << 2  # added, so that each segment is twice as long as the one below it
ULAW: Final = tuple(_from_ulaw(byte) for byte in range(256))
ALAW: Final = tuple(_from_alaw(byte) for byte in range(256))
_UNSIGNED: Final = bytes(byte ^ 0x80 for byte in range(256))  # 8 bits alone are written from 0 to 255
