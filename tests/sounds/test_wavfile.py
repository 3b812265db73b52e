"""Anyone's WAV: each way of writing the same tone is read as that tone; whatever is broken is refused in words."""

import math
import os
import struct
import sys
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr_agi.sounds import wavfile
from ivr_agi.sounds.audio import Sound, SoundFormatError

TONE = [round(20_000 * math.sin(i / 5)) for i in range(400)]
PCM, FLOAT, ALAW, ULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(tag=PCM, channels=1, rate=8000, bits=16, frame=None, more=b""):
    frame = channels * ((bits + 7) // 8) if frame is None else frame
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits) + more)


def wav(*chunks, magic=b"RIFF", size=None):
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def pcm(samples, width=2):
    """Samples of 16 bits, written with as many bytes as asked for; 8 bits are unsigned."""
    if width == 1:
        return bytes((sample >> 8) + 128 for sample in samples)
    return b"".join((sample << 8 * (width - 2)).to_bytes(width, "little", signed=True) for sample in samples)


def extended(tag, bits, valid=None, tail=TAIL):
    return fmt(EXTENSIBLE, 1, 8000, bits, more=struct.pack("<HHIH", 22, valid or bits, 4, tag) + tail)


def g711(samples, table):
    values = np.array(table)
    return bytes(int(abs(values - sample).argmin()) for sample in samples)


FLOATS = [sample / 32767 for sample in TONE]
WAYS = {  # a file, and how far its samples may be off
    "8 bits": (wav(fmt(bits=8), chunk(b"data", pcm(TONE, 1))), 255),
    "16 bits": (wav(fmt(), chunk(b"data", pcm(TONE))), 0),
    "24 bits": (wav(fmt(bits=24), chunk(b"data", pcm(TONE, 3))), 0),
    "32 bits": (wav(fmt(bits=32), chunk(b"data", pcm(TONE, 4))), 0),
    "12 bits": (wav(fmt(bits=12), chunk(b"data", pcm([s & ~15 for s in TONE]))), 15),
    "20 bits": (wav(fmt(bits=20), chunk(b"data", pcm(TONE, 3))), 0),
    "float 32": (wav(fmt(FLOAT, bits=32), chunk(b"data", struct.pack("<400f", *FLOATS))), 0),
    "float 64": (wav(fmt(FLOAT, bits=64), chunk(b"data", struct.pack("<400d", *FLOATS))), 0),
    "A-law": (wav(fmt(ALAW, bits=8), chunk(b"data", g711(TONE, wavfile.ALAW))), 512),
    "mu-law": (wav(fmt(ULAW, bits=8), chunk(b"data", g711(TONE, wavfile.ULAW))), 512),
    "extended": (wav(extended(PCM, 16), chunk(b"data", pcm(TONE))), 0),
    "extended 24 of 32": (wav(extended(PCM, 32, 24), chunk(b"data", pcm(TONE, 4))), 0),
    "extended float": (wav(extended(FLOAT, 32), chunk(b"data", struct.pack("<400f", *FLOATS))), 0),
    "longer fmt": (wav(fmt(more=b"\0\0"), chunk(b"data", pcm(TONE))), 0),
    "LIST before": (wav(chunk(b"LIST", b"INFOISFT\x04\0\0\0sox\0"), fmt(), chunk(b"data", pcm(TONE))), 0),
    "odd chunk": (wav(fmt(), chunk(b"fact", b"odd"), chunk(b"data", pcm(TONE))), 0),
    "chunk behind": (wav(fmt(), chunk(b"data", pcm(TONE)), chunk(b"id3 ", b"ID3 title")), 0),
    "odd last byte": (wav(fmt(), chunk(b"data", pcm(TONE) + b"\x7f")), 0),
    "pipe, 0": (wav(fmt(), chunk(b"data", pcm(TONE), 0), size=0), 0),
    "pipe, all ones": (wav(fmt(), chunk(b"data", pcm(TONE), 0xFFFFFFFF), size=0xFFFFFFFF), 0),
    "pipe, eSpeak NG": (wav(fmt(), chunk(b"data", pcm(TONE), 0x7FFFF000), size=0x7FFFF024), 0),
    "wrong whole size": (wav(fmt(), chunk(b"data", pcm(TONE)), size=7), 0),
    "stereo": (wav(fmt(channels=2), chunk(b"data", pcm([s for s in TONE for _ in "lr"]))), 0),
    "opposite": (wav(fmt(channels=2), chunk(b"data", pcm([s for t in TONE for s in (t, -t)]))), 0),
    "nearly opposite": (
        wav(fmt(channels=2), chunk(b"data", pcm([s for t in TONE for s in (t, -t * 9 // 10)]))),
        0,
    ),
    "silent, then opposite": (
        wav(fmt(channels=3), chunk(b"data", pcm([s for t in TONE for s in (0, t, -t)]))),
        0,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_writing_gives_the_same_sound(way, tmp_path):
    raw, off = WAYS[way]
    path = tmp_path / "voice.wav"
    path.write_bytes(raw)
    sound = wavfile.read_any(path)
    assert sound.rate == 8000
    assert max(abs(a - b) for a, b in zip(sound.samples, TONE, strict=True)) <= off


@pytest.mark.parametrize("rate", [4000, 11025, 44100, 48000, 96000, 384000])
def test_any_rate_is_kept(rate):
    assert wavfile.parse(wav(fmt(rate=rate), chunk(b"data", pcm(TONE)))) == Sound(array("h", TONE), rate)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_a_voice_on_one_channel_is_kept(channels):
    """Mixed with silence it is softer, and all there."""
    frames = [sample if channel == 1 else 0 for sample in TONE for channel in range(channels)]
    sound = wavfile.parse(wav(fmt(channels=channels), chunk(b"data", pcm(frames))))
    assert list(sound.samples) == [sample // channels for sample in TONE]


def test_floats_that_are_no_numbers_or_too_loud_are_tamed():
    values = [math.nan, math.inf, -math.inf, 2.5, -1e30, 0.5]
    sound = wavfile.parse(wav(fmt(FLOAT, bits=32), chunk(b"data", struct.pack("<6f", *values))))
    assert list(sound.samples) == [0, 32767, -32767, 32767, -32767, 16384]


def test_code_words_of_g711_mean_what_the_standard_says():
    """Its tables' corners, both laws, both signs: scaled from 13 and 14 bits to 16."""
    corners = {0x00: -32124, 0x0F: -16764, 0x10: -15996, 0x7F: 0, 0x80: 32124, 0xEF: 132, 0xFE: 8, 0xFF: 0}
    assert {word: wavfile.ULAW[word] for word in corners} == corners
    corners = {0x2A: -32256, 0xAA: 32256, 0x55: -8, 0xD5: 8, 0x54: -24, 0xD4: 24, 0xC5: 264}
    assert {word: wavfile.ALAW[word] for word in corners} == corners


@pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")
def test_code_words_of_g711_mean_what_python_says():
    audioop = pytest.importorskip("audioop", reason="left the standard library with Python 3.13")
    words = bytes(range(256))
    assert wavfile.expanded(words, wavfile.ULAW).tobytes() == audioop.ulaw2lin(words, 2)
    assert wavfile.expanded(words, wavfile.ALAW).tobytes() == audioop.alaw2lin(words, 2)


def test_another_byte_order_reads_the_same_file(monkeypatch):
    """Seen from a machine that puts the upper byte first, a file's bytes are turned round."""
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    turned = wavfile.parse(wav(fmt(), chunk(b"data", pcm(TONE)))).samples
    turned.byteswap()
    assert list(turned) == TONE


SOUND = chunk(b"data", pcm(TONE))
BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"not a sound", "not a WAV file"),
    "another RIFF": (b"RIFF\0\0\0\0AVI LIST", "not a WAV file"),
    "only RIFF": (b"RIFF\0\0", "not a WAV file"),
    "no fmt": (wav(), "cut off within its header"),
    "cut fmt": (wav(fmt())[:30], "cut off within its header"),
    "no data": (wav(fmt()), "no sound in it"),
    "data first": (wav(SOUND, fmt()), "comes before the format"),
    "empty data": (wav(fmt(), chunk(b"data", b"")), "no sound in it"),
    "empty data, LIST": (wav(fmt(), chunk(b"data", b""), chunk(b"LIST", b"INFO" * 9)), "no sound in it"),
    "half a sample": (wav(fmt(), chunk(b"data", b"x", 0xFFFFFFFF))[:45], "no sound in it"),
    "cut data": (wav(fmt(), SOUND)[:-100], "800 bytes of sound are promised, 700 are there"),
    "no channels": (wav(fmt(channels=0, frame=2), SOUND), "0 channels"),
    "many channels": (wav(fmt(channels=65535, frame=2), SOUND), "65535 channels"),
    "no rate": (wav(fmt(rate=0), SOUND), "0 Hz"),
    "absurd rate": (wav(fmt(rate=4_000_000_000, frame=0), SOUND), "4000000000 Hz"),
    "no bits": (wav(fmt(bits=0, frame=2), SOUND), "0 bits"),
    "many bits": (wav(fmt(bits=40), SOUND), "40 bits"),
    "wrong frame": (wav(fmt(frame=4), SOUND), "16 bits in 4 bytes for 1 channel"),
    "16 bits of float": (wav(fmt(FLOAT, bits=16), SOUND), "16 bits"),
    "ADPCM": (wav(fmt(0x11, bits=4), SOUND), "IMA ADPCM"),
    "GSM": (wav(fmt(0x31, bits=0), SOUND), "GSM 6.10"),
    "MP3 inside": (wav(fmt(0x55, bits=0), SOUND), "MP3"),
    "unknown inside": (wav(fmt(0x1234), SOUND), "0x1234"),
    "unknown extended": (wav(extended(PCM, 16, tail=bytes(14)), SOUND), "unknown kind"),
    "short extended": (wav(fmt(EXTENSIBLE), SOUND), "unknown kind"),
    "many chunks": (wav(chunk(b"junk", b"") * 2000, fmt(), SOUND), "1000 chunks"),
    "RIFX": (wav(fmt(), SOUND, magic=b"RIFX"), "RIFX"),
    "RF64": (wav(fmt(), SOUND, magic=b"RF64"), "RF64"),
    "BW64": (wav(fmt(), SOUND, magic=b"BW64"), "BW64"),
    "ID3": (b"ID3\x04" + bytes(50), "MP3"),
    "MP3": (b"\xff\xfb\x90\x64" + bytes(50), "MP3"),
    "FLAC": (b"fLaC" + bytes(50), "FLAC"),
    "Ogg": (b"OggS" + bytes(50), "Ogg"),
    "AIFF": (b"FORM\0\0\0\x40AIFF", "AIFF"),
    "MP4": (b"\0\0\0\x20ftypM4A ", "MP4"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_whatever_cannot_be_read_is_refused_with_the_reason(kind, tmp_path):
    raw, complaint = BROKEN[kind]
    path = tmp_path / "voice.wav"
    path.write_bytes(raw)
    with pytest.raises(SoundFormatError, match=complaint):
        wavfile.read_any(path)


@pytest.mark.parametrize("kind", ["MP3", "FLAC", "RF64", "ADPCM", "unknown extended"])
def test_another_kind_of_file_is_refused_with_the_cure(kind):
    with pytest.raises(SoundFormatError, match=r"ffmpeg -i OLD NEW\.wav"):
        wavfile.parse(BROKEN[kind][0])


def test_a_pipe_or_a_folder_is_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(SoundFormatError, match="not a file"):
            wavfile.read_any(path)


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        wavfile.read_any(tmp_path / "none.wav")


def test_a_file_far_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(wavfile, "LARGEST", 1000)
    path = tmp_path / "voice.wav"
    path.write_bytes(wav(fmt(), SOUND).ljust(1001, b"\0"))
    with pytest.raises(SoundFormatError, match="larger than"):
        wavfile.read_any(path)
    path.write_bytes(wav(fmt(), SOUND))
    assert wavfile.read_any(path).samples


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([raw for raw, _ in [*WAYS.values(), *BROKEN.values()]]),
    st.lists(st.tuples(st.integers(0, 100), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(0, 1000),
)
def test_a_mangled_file_is_a_sound_or_refused(raw, changes, length):
    """Bytes of the header overwritten, the end cut: a sound that is no longer than the file, or SoundFormatError."""
    mangled = bytearray(raw[:length])
    for place, new in changes:
        mangled[place : place + len(new)] = new
    try:
        sound = wavfile.parse(bytes(mangled))
    except SoundFormatError:
        return
    assert 1 <= len(sound.samples) <= len(mangled)
    assert 4000 <= sound.rate <= 384_000
