"""The sounds that come with the program, as they are committed."""

import json
import struct
from itertools import pairwise

import pytest

from ivr_agi import prompts, sounds
from ivr_agi.sounds import audio, checking, clips, formats, loudness, music
from ivr_agi.sounds.script import sheet

SHIPPED = sounds.shipped()
FILES = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.wav"))
MANIFEST = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["clips"]
SPOKEN = [clip for clip in clips.clips() if clip.name != prompts.SILENCE and clip.key != clips.MUSIC]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def heard():
    """Each shipped sound, by key."""
    return {clip.key: formats.read(SHIPPED / clip.path()) for clip in clips.clips()}


def test_shipped_sounds_are_in_order(heard, monkeypatch):
    """`ivr-agi sounds check` finds nothing: complete, in step with the script, good to hear; the manifest tells the levels that it measures."""
    measured, lufs = {}, loudness.lufs

    def listening(sound):
        """Each is measured once: it takes most of the time."""
        key = sound.rate, sound.samples.tobytes()
        if key not in measured:
            measured[key] = lufs(sound)
        return measured[key]

    monkeypatch.setattr(loudness, "lufs", listening)
    assert sounds.check(SHIPPED) == []
    for key, entry in MANIFEST.items():
        if entry["level"] is not None:
            assert listening(heard[key]) == pytest.approx(entry["level"], abs=0.1)


def test_shipped_sounds_are_small_enough_to_be_shipped():
    assert sum((SHIPPED / path).stat().st_size for path in FILES) < 15 * MEGABYTE


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_every_prompt_and_clip_has_its_file(language):
    there = {name for name in FILES if name.startswith(f"{language}/")}
    assert there == {f"{language}/ivr-agi/{name}.wav" for name in prompts.names(language)}


@pytest.mark.parametrize("path", FILES)
def test_shipped_files_have_the_form_that_asterisk_plays(path):
    """Byte by byte: RIFF, a 16-byte PCM header, one channel, 8 kHz, 16 bits, and as long as it says."""
    whole = (SHIPPED / path).read_bytes()
    head = struct.unpack("<4sI4s4sIHHIIHH4sI", whole[:44])
    size = len(whole)
    assert head == (b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", size - 44)


def test_manifest_tells_length_of_each_file(heard):
    assert len(MANIFEST) == len(FILES)
    for key, entry in MANIFEST.items():
        assert heard[key].duration_ms == entry["duration_ms"]


def test_speech_is_equally_loud_and_the_music_softer():
    levels = {key: entry["level"] for key, entry in MANIFEST.items() if entry["level"] is not None}
    waiting = levels.pop("moh/waiting")
    assert max(levels.values()) - min(levels.values()) <= 2 * checking.TOLERANCE
    assert waiting == pytest.approx(-27.5, abs=0.5)


def test_choice_of_language_is_one_recording_for_both():
    persian, english = (SHIPPED / each / "ivr-agi" / "choose-language.wav" for each in prompts.LANGUAGES)
    assert persian.read_bytes() == english.read_bytes()


def test_music_has_no_seam(heard):
    """Where the end meets the beginning the step is no larger than elsewhere."""
    sound = heard["moh/waiting"]
    largest = max(abs(b - a) for a, b in pairwise(sound.samples))
    assert abs(sound.samples[0] - sound.samples[-1]) <= largest
    assert 20_000 <= sound.duration_ms <= 30_000
    assert max(abs(a - b) for a, b in zip(sound.samples, music.waiting().samples, strict=True)) <= 1


def test_the_sheet_for_a_speaker_is_in_step():
    """docs/script.md is what `ivr-agi sounds script` prints, with every clip of the catalogue."""
    written = (SHIPPED.parent / "docs/script.md").read_text(encoding="utf-8")
    assert written == sheet(SHIPPED)
    for clip in SPOKEN:
        assert f"| `{clip.key}` |" in written
        for language, words in clip.parts:
            assert language != clip.folder or words.shown in written


# -- how numbers sound, put together -------------------------------------------------------------------

AMOUNTS = [0, 7, 21, 115, 999, 1_001, 50_000, 123_456, 1_250_500, 987_654_321, 20_000_017_003, 10**12]


def _joined(heard, names, language):
    return audio.join(*(heard[f"{language}/{name}"] for name in names))


@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize("rials", AMOUNTS)
def test_numbers_have_no_gaps_and_no_clicks(heard, rials, language):
    """Clips one after the other: no pause over 120 ms inside a number, no jump where two clips meet."""
    names = prompts.amount(rials, language)
    parts = [heard[f"{language}/{name}"] for name in names]
    assert max(audio.gaps(_joined(heard, names, language)), default=0) <= 120
    for before, after in pairwise(parts):
        assert abs(before.samples[-1] - after.samples[0]) <= 30
        assert max(abs(sample) for sample in (*before.samples[-8:], *after.samples[:8])) <= 300


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_digits_to_write_down_have_a_pause_between_groups(heard, language):
    """Inside a group the digits follow each other; between two groups there is time to write."""
    names = prompts.reference("518731527699")
    gaps = audio.gaps(_joined(heard, names, language))
    assert sum(gap >= 200 for gap in gaps) == 3
    assert all(gap <= 120 for gap in gaps if gap < 200)
