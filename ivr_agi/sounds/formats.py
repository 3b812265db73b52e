"""The sound files that Asterisk plays, and the way between them and samples.

`.wav` and `.wav16` are PCM, 16 bits, one channel, of 8 and 16 kHz, and tell Asterisk nothing else: it
refuses any other. `.ulaw` (G.711, 8 kHz) and `.g722` (G.722, 64 kbit/s, 16 kHz) have no header at all.
"""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from pathlib import Path
from typing import Any, Final

from ivr_agi.sounds.audio import Sound, SoundFormatError, resample
from ivr_agi.sounds.wavfile import ULAW, ULAW_BIAS, expanded, native

FORMATS: Final = {
    "wav": 8000,
    "wav16": 16000,
    "g722": 16000,
    "ulaw": 8000,
}  # Hz of the samples it is made from

_HEAD: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FIELDS: Final = struct.Struct("<HIIHH")  # channels, rate, bytes a second, bytes a sample, bits a sample
_SIZE: Final = struct.Struct("<I")
_G722_BITS: Final = 64_000  # a second
_LOUDEST: Final = 8158 << 2  # G.711 mu-law; what is louder has the same code word


def encode(form: str, sound: Sound) -> bytes:
    """Return the file of that form, `sound` brought to its rate; KeyError for a form that is none of ours."""
    samples = resample(sound, FORMATS[form]).samples
    if form == "ulaw":
        return bytes(_TO_ULAW[(sample >> 2) + 8192] for sample in samples)
    if form == "g722":
        # A byte holds two samples.
        encoded: bytes = _g722().encode(samples + array("h", [0] * (len(samples) % 2)))
        return encoded
    rate, size = FORMATS[form], 2 * len(samples)
    head = (b"RIFF", _HEAD.size - 8 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size)
    return _HEAD.pack(*head) + native(samples.tobytes()).tobytes()


def decode(form: str, raw: bytes) -> Sound:
    """Return the sound in a file of that form; KeyError for a form that is none of ours.

    Raises SoundFormatError for what Asterisk would refuse or play wrongly, cut off files included.
    """
    rate = FORMATS[form]
    if form in ("wav", "wav16"):
        return Sound(_pcm(raw, rate), rate)
    if not raw:
        raise SoundFormatError("empty")
    if raw[:4] == b"RIFF":
        raise SoundFormatError(f"a WAV file by the name of .{form}, which has no header: it would crackle")
    if form == "ulaw":
        return Sound(expanded(raw, ULAW), rate)
    return Sound(array("h", _g722().decode(raw)), rate)


def write(path: Path, form: str, sound: Sound) -> None:
    """Write a file of that form, as put() does."""
    put(path, encode(form, sound))


def put(path: Path, content: bytes, owner: tuple[int, int] | None = None) -> None:
    """Write a file whole or not at all, readable for everybody: Asterisk is somebody else.

    owner: user and group that it is to belong to. No link that lies in the way is followed. Raises OSError,
    naming the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            if owner:
                os.fchown(file.fileno(), *owner)
        Path(unfinished).replace(path)
    except OSError as error:
        Path(unfinished).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def read(path: Path) -> Sound:
    """Return the sound in a file of the form that its suffix names; SoundFormatError also for any other."""
    form = path.suffix.removeprefix(".")
    if form not in FORMATS:
        raise SoundFormatError(f"{path.suffix or 'no suffix'}: none of .{', .'.join(FORMATS)}")
    return decode(form, path.read_bytes())


def _pcm(raw: bytes, rate: int) -> array[int]:
    """Read as Asterisk's own reader does: a plain header, other chunks skipped by their bare length."""
    if raw[:4] != b"RIFF" or raw[8:16] != b"WAVEfmt " or raw[20:22] != b"\x01\x00":
        raise SoundFormatError("not a plain PCM WAV file")
    if len(raw) < _HEAD.size:
        raise SoundFormatError("not a whole WAV file: its header is cut off")
    channels, found, _, _, bits = _FIELDS.unpack_from(raw, 22)
    if (channels, bits, found) != (1, 16, rate):
        form = f"{channels} channel(s), {bits} bits, {found} Hz"
        raise SoundFormatError(f"{form}; Asterisk plays 1, 16 and {rate}")
    place = 20 + _SIZE.unpack_from(raw, 16)[0]
    while raw[place : place + 4] != b"data":
        if place + 8 > len(raw):
            raise SoundFormatError("not a whole WAV file: no sound where Asterisk looks for it")
        # An odd length has a byte of padding behind it, which Asterisk takes for the next chunk's name.
        place += 8 + _SIZE.unpack_from(raw, place + 4)[0]
    sound = raw[place + 8 :]
    if len(raw) < place + 8 or len(sound) < (size := _SIZE.unpack_from(raw, place + 4)[0]) or size % 2:
        raise SoundFormatError("cut off: its header promises more than there is")
    return native(sound[:size])


def _g722() -> Any:
    try:
        from G722 import G722  # noqa: PLC0415 - an extra: only who wants this form needs it
    except ImportError as missing:
        raise ImportError("G.722 needs one package more: pip install 'ivr-agi[g722]'") from missing
    return G722(FORMATS["g722"], _G722_BITS)


def _to_ulaw(sample: int) -> int:
    size = min(abs(sample), _LOUDEST) + ULAW_BIAS
    segment = size.bit_length() - 8
    return (((segment << 4) | (size >> (segment + 3) & 0x0F)) | (0x80 if sample < 0 else 0)) ^ 0xFF


_TO_ULAW: Final = bytes(_to_ulaw(step << 2) for step in range(-8192, 8192))
