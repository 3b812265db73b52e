"""The four forms that Asterisk plays, there and back; and what it would refuse or play wrongly."""

import math
import os
import random
import stat
import struct
import sys
import wave
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr_agi.sounds import audio, formats
from ivr_agi.sounds.audio import Sound, SoundFormatError
from ivr_agi.sounds.formats import FORMATS
from ivr_agi.sounds.loudness import lufs


def edited(raw, place, new):
    return raw[:place] + new + raw[place + len(new) :]


def test_the_forms_and_their_rates_are_asterisks():
    assert FORMATS == {"wav": 8000, "wav16": 16000, "g722": 16000, "ulaw": 8000}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rate", [8000, 22050])
def test_what_is_written_is_read_back(form, rate, tone, tmp_path):
    """Of whatever rate it was made: as long, as loud, and at the form's own rate."""
    if form == "g722":
        pytest.importorskip("G722")
    sound = tone(1000, rate, 0.5)
    path = tmp_path / f"deep/er/x.{form}"
    formats.write(path, form, sound)
    back = formats.read(path)
    assert (back.rate, back.duration_ms) == (FORMATS[form], 500)
    assert lufs(back) == pytest.approx(lufs(sound), abs=0.2)


@pytest.mark.parametrize("form", ["wav", "wav16"])
def test_pcm_keeps_each_sample(form):
    drawn = random.Random(1)  # noqa: S311 - no secret
    samples = array("h", [-32768, 32767, 0, *(drawn.randint(-32768, 32767) for _ in range(500))])
    sound = Sound(samples, FORMATS[form])
    assert formats.decode(form, formats.encode(form, sound)) == sound


@pytest.mark.parametrize("form", ["wav", "wav16"])
def test_header_is_the_plainest(form, tone, tmp_path):
    """Byte by byte: RIFF, a 16-byte PCM header, one channel, 16 bits, as long as it says; Python's reader agrees."""
    rate = FORMATS[form]
    raw = formats.encode(form, tone(440, rate, 0.1))
    size = len(raw)
    assert struct.unpack("<4sI4s4sIHHIIHH4sI", raw[:44]) == (
        *(b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size - 44),
    )
    path = tmp_path / "x.wav"
    path.write_bytes(raw)
    with wave.open(str(path)) as recording:
        assert recording.getparams()[:4] == (1, 2, rate, rate // 10)


def test_bytes_are_those_of_any_machine(monkeypatch):
    """The lower byte comes first, also where the machine has it last."""
    raw = formats.encode("wav", Sound(array("h", [0x0102])))
    assert raw[44:] == (b"\x02\x01" if sys.byteorder == "little" else raw[44:])
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert formats.encode("wav", Sound(array("h", [0x0201])))[44:] == raw[44:]
    assert formats.decode("wav", raw).samples == array("h", [0x0201])


# -- G.711 --------------------------------------------------------------------------------------------


def test_ulaw_is_the_standards():
    """Zero, the ends, and the first step of either sign."""
    samples = [0, 8, -8, 32767, -32768, 32124, -32124, 132, 1000, -1000]
    encoded = formats.encode("ulaw", Sound(array("h", samples)))
    assert encoded.hex(" ") == "ff fe 7e 80 00 80 00 ef ce 4e"


@pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")
def test_ulaw_is_pythons():
    audioop = pytest.importorskip("audioop", reason="left the standard library with Python 3.13")
    samples = array("h", range(-32768, 32768))
    ours, theirs = formats.encode("ulaw", Sound(samples)), audioop.lin2ulaw(samples.tobytes(), 2)
    differing = [place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    assert differing == []


def test_ulaw_is_never_far_off():
    """By a 32nd of the sample at most, or by the smallest step."""
    samples = array("h", range(-32000, 32001, 7))
    back = formats.decode("ulaw", formats.encode("ulaw", Sound(samples))).samples
    assert max(abs(got - was) - abs(was) / 32 for was, got in zip(samples, back, strict=True)) <= 8


def test_ulaw_twice_is_ulaw_once():
    """Each code word but the negative zero comes back as itself."""
    words = bytes(word for word in range(256) if word != 0x7F)
    assert formats.encode("ulaw", formats.decode("ulaw", words)) == words


# -- G.722 --------------------------------------------------------------------------------------------


@pytest.fixture
def g722():
    return pytest.importorskip("G722", reason="pip install 'ivr-agi[g722]'")


@pytest.mark.usefixtures("g722")
@pytest.mark.parametrize("samples", [1, 2, 1601, 1602])
def test_g722_has_a_byte_for_two_samples(samples):
    sound = Sound(array("h", [1000] * samples), 16000)
    assert len(formats.encode("g722", sound)) == (samples + 1) // 2


@pytest.mark.usefixtures("g722")
def test_g722_carries_what_a_telephone_does_not(tone):
    """A tone of 5 kHz comes through."""
    back = formats.decode("g722", formats.encode("g722", tone(5000, 16000)))
    spectrum = np.abs(np.fft.rfft(np.array(back.samples, dtype=float)))
    assert np.fft.rfftfreq(len(back.samples), 1 / 16000)[spectrum.argmax()] == pytest.approx(5000, abs=5)
    assert lufs(back) == pytest.approx(lufs(tone(5000, 16000)), abs=0.3)


@pytest.mark.usefixtures("g722")
def test_g722_twice_gives_the_same_bytes(tone):
    """The codec remembers nothing from one file to the next."""
    assert formats.encode("g722", tone(440)) == formats.encode("g722", tone(440))


@pytest.mark.parametrize("job", ["encode", "decode"])
def test_without_its_package_g722_says_what_to_install(job, monkeypatch, tone):
    monkeypatch.setitem(sys.modules, "G722", None)
    with pytest.raises(ImportError, match=r"pip install 'ivr-agi\[g722\]'"):
        formats.encode("g722", tone(440)) if job == "encode" else formats.decode("g722", b"1234")


# -- refused ------------------------------------------------------------------------------------------

GOOD = formats.encode("wav", Sound(array("h", range(1000))))
REFUSED = {
    "empty": (b"", "not a plain PCM WAV file"),
    "cut header": (GOOD[:30], "not a whole WAV file"),
    "cut header, nearly whole": (GOOD[:43], "not a whole WAV file"),
    "cut off": (GOOD[:-2], "cut off"),
    "half a sample": (edited(GOOD, 40, struct.pack("<I", 1999)), "cut off"),
    "EXTENSIBLE": (edited(GOOD, 20, b"\xfe\xff"), "not a plain PCM WAV file"),
    "stereo": (edited(GOOD, 22, b"\2"), r"2 channel\(s\), 16 bits, 8000 Hz"),
    "16 kHz": (edited(GOOD, 24, struct.pack("<I", 16000)), r"1 channel\(s\), 16 bits, 16000 Hz"),
    "24 bits": (edited(GOOD, 34, b"\x18"), r"1 channel\(s\), 24 bits, 8000 Hz"),
    "fmt not first": (GOOD[:12] + b"LIST\4\0\0\0INFO" + GOOD[12:], "not a plain PCM WAV file"),
    "odd chunk": (GOOD[:36] + b"note\3\0\0\0odd\0" + GOOD[36:], "where Asterisk looks"),
    "no data": (GOOD[:36] + b"junk" + GOOD[40:], "where Asterisk looks"),
    "endless chunk": (GOOD[:36] + b"junk\xff\xff\xff\xff" + GOOD[36:], "where Asterisk looks"),
    "pipe": (edited(GOOD, 40, b"\xff\xff\xff\xff"), "cut off"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_pcm_that_asterisk_refuses_is_refused(kind):
    raw, complaint = REFUSED[kind]
    with pytest.raises(SoundFormatError, match=complaint):
        formats.decode("wav", raw)


def test_wav16_is_16_khz_and_nothing_else():
    with pytest.raises(SoundFormatError, match=r"8000 Hz; Asterisk plays 1, 16 and 16000"):
        formats.decode("wav16", GOOD)


@pytest.mark.parametrize(
    "raw",
    [
        GOOD[:36] + b"LIST\4\0\0\0INFO" + GOOD[36:],
        edited(GOOD, 16, b"\x12")[:36] + b"\0\0" + GOOD[36:],
        GOOD + b"LIST\4\0\0\0INFO",
    ],
    ids=["even chunk before", "longer fmt", "chunk behind"],
)
def test_pcm_that_asterisk_plays_is_read(raw):
    assert list(formats.decode("wav", raw).samples) == list(range(1000))


@pytest.mark.parametrize("form", ["ulaw", "g722"])
@pytest.mark.parametrize(("raw", "complaint"), [(b"", "empty"), (GOOD, "no header")], ids=["empty", "RIFF"])
def test_a_form_without_a_header_is_no_wav(form, raw, complaint):
    with pytest.raises(SoundFormatError, match=complaint):
        formats.decode(form, raw)


@pytest.mark.parametrize("name", ["x.mp3", "x", "x.WAV", "x.sln16"])
def test_another_suffix_is_refused(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(GOOD)
    with pytest.raises(SoundFormatError, match="none of"):
        formats.read(path)


def test_an_unknown_form_is_a_mistake_of_ours(tone):
    with pytest.raises(KeyError):
        formats.encode("mp3", tone(440))
    with pytest.raises(KeyError):
        formats.decode("mp3", GOOD)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=1, max_size=4)), max_size=3), st.integers(0, 60)
)
def test_a_mangled_file_is_a_sound_or_refused(changes, length):
    raw = GOOD[:length] if length < 50 else GOOD
    for place, new in changes:
        raw = edited(raw, place, new)
    try:
        sound = formats.decode("wav", raw)
    except SoundFormatError:
        return
    assert len(sound.samples) <= len(raw) // 2


# -- writing ------------------------------------------------------------------------------------------


def test_a_written_file_can_be_read_by_asterisk(tone, tmp_path):
    """It runs as somebody else, whatever the umask here is."""
    before = os.umask(0o077)
    try:
        formats.write(tmp_path / "x.wav", "wav", tone(440))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.wav").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_a_write_that_fails_leaves_the_old_file(tone, tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    formats.write(path, "wav", tone(440))
    old = path.read_bytes()

    def full(*_file_and_mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"):
        formats.write(path, "wav", tone(550))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    assert audio.largest_step(formats.read(path)) < 10000 * 2 * math.pi * 450 / 8000
