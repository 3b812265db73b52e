"""The sound files: those that come with the program, and the tools that make, check and install them."""

import json
import math
import os
import shutil
import struct
import wave
from array import array
from itertools import pairwise

import pytest

from ivr_agi import prompts, sounds
from ivr_agi.sounds import audio, building, music, speech

SHIPPED = sounds.shipped()
FILES = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.wav"))
MANIFEST = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["clips"]


@pytest.fixture
def engine():
    """The speech engine. Without it a test may be skipped on a desk, but not in CI."""
    try:
        return speech.engine()
    except speech.SpeechError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped sounds, to be damaged."""
    return shutil.copytree(SHIPPED, tmp_path / "sounds")


def tone(pitch, rate, seconds=1.0, loudness=10_000):
    return array(
        "h",
        [round(loudness * math.sin(2 * math.pi * pitch * i / rate)) for i in range(round(rate * seconds))],
    )


# -- what is shipped ----------------------------------------------------------------------------------


def test_shipped_sounds_are_complete_and_in_step_with_the_catalogue():
    assert sounds.check(SHIPPED) == []


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


def test_manifest_tells_length_and_level_of_each_file():
    assert len(MANIFEST) == len(FILES)
    for key, entry in MANIFEST.items():
        folder, name = key.split("/", 1)
        sound = audio.read(SHIPPED / folder / "ivr-agi" / f"{name}.wav")
        assert audio.duration_ms(sound) == entry["duration_ms"]
        if name != "silence":
            assert round(audio.level(sound), 1) == pytest.approx(entry["level_db"], abs=0.1)


def test_speech_is_equally_loud_and_the_music_softer():
    levels = {key: entry["level_db"] for key, entry in MANIFEST.items() if not key.endswith("/silence")}
    waiting = levels.pop("moh/waiting")
    assert max(levels.values()) - min(levels.values()) < 2
    assert waiting == pytest.approx(sum(levels.values()) / len(levels) - 8, abs=1)


def test_prompts_are_short_and_numbers_shorter():
    lengths = {key: entry["duration_ms"] for key, entry in MANIFEST.items() if not key.startswith("moh/")}
    assert max(lengths.values()) < 15_000
    assert max(length for key, length in lengths.items() if "/numbers/" in key) < 800


def test_choice_of_language_is_one_recording_for_both():
    persian, english = (SHIPPED / each / "ivr-agi" / "choose-language.wav" for each in prompts.LANGUAGES)
    assert persian.read_bytes() == english.read_bytes()


def test_music_has_no_seam():
    """Where the end meets the beginning the step is no larger than elsewhere."""
    sound = audio.read(SHIPPED / "moh" / "ivr-agi" / "waiting.wav")
    largest = max(abs(b - a) for a, b in pairwise(sound))
    assert abs(sound[0] - sound[-1]) <= largest
    assert 20_000 <= audio.duration_ms(sound) <= 30_000
    assert max(abs(a - b) for a, b in zip(sound, music.waiting(), strict=True)) <= 1


# -- making them --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("engine")
def test_two_builds_are_the_same_to_the_byte(tmp_path):
    few = ["no-card", "choose-language", "numbers/20-o", "silence"]
    paths = sounds.build(tmp_path / "one", only=few)
    assert sounds.build(tmp_path / "two", only=few) == paths
    assert len(paths) == 7
    for path in [*paths, "manifest.json"]:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_build_here_gives_what_is_shipped(tmp_path, engine):
    """By the same engine; another version speaks a little differently."""
    for path in sounds.build(tmp_path, only=["fa/enter-card", "en/goodbye"]):
        key = path.replace("/ivr-agi/", "/").removesuffix(".wav")
        if MANIFEST[key]["engine"] != engine:
            pytest.skip(f"shipped: {MANIFEST[key]['engine']}; here: {engine}")
        pairs = zip(audio.read(tmp_path / path), audio.read(SHIPPED / path), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 2, "mathematical libraries may differ in the last bit"


@pytest.mark.usefixtures("engine")
def test_build_speaks_only_what_changed(tmp_path):
    seen = []
    few = ["fa/welcome", "en/goodbye"]
    sounds.build(tmp_path, only=few, progress=lambda done, total, key: seen.append((done, total, key)))
    assert seen == [(0, 2, "fa/welcome"), (1, 2, "en/goodbye")]
    assert sounds.build(tmp_path, only=few) == []
    (tmp_path / "en/ivr-agi/goodbye.wav").unlink()
    assert sounds.build(tmp_path, only=few) == ["en/ivr-agi/goodbye.wav"]
    assert len(sounds.build(tmp_path, only=few, force=True)) == 2


def test_build_needs_no_engine_when_nothing_has_changed(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert sounds.build(folder) == []
    assert (folder / "manifest.json").read_bytes() == (SHIPPED / "manifest.json").read_bytes()


def test_build_removes_what_it_made_for_a_prompt_that_is_gone(folder):
    manifest = folder / "manifest.json"
    clips = json.loads(manifest.read_text(encoding="utf-8"))["clips"]
    clips["fa/old"] = clips["fa/welcome"]
    clips["../outside"] = clips["fa/welcome"]
    manifest.write_text(json.dumps({"clips": clips}), encoding="utf-8")
    shutil.copy(folder / "fa/ivr-agi/welcome.wav", folder / "fa/ivr-agi/old.wav")
    shutil.copy(folder / "fa/ivr-agi/welcome.wav", folder / "fa/ivr-agi/mine.wav")
    sounds.build(folder)
    assert not (folder / "fa/ivr-agi/old.wav").exists()
    assert (folder / "fa/ivr-agi/mine.wav").exists()


def test_a_missing_engine_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(speech.SpeechError, match="apt-get install espeak-ng"):
        sounds.build(tmp_path, only=["welcome"])


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo no voice >&2; exit 1", "no voice"),
        ("exit 0", "no sound"),
        ("echo nonsense", "no sound"),
    ],
)
def test_an_engine_that_fails_is_not_taken_for_silence(tmp_path, monkeypatch, script, complaint):
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(speech.SpeechError, match=complaint):
        speech.speak("سلام", building.VOICES["fa"])


def test_build_of_an_unknown_prompt_is_refused(tmp_path):
    with pytest.raises(KeyError, match="welcom"):
        sounds.build(tmp_path, only=["welcom"])


@pytest.mark.parametrize(("pitch", "kept"), [(300, True), (3000, True), (4600, False), (7000, False)])
def test_resampling_keeps_speech_and_folds_nothing_down(pitch, kept):
    level = audio.level(audio.resample(tone(pitch, 22050), 22050)[400:-400])
    original = audio.level(tone(pitch, 8000))
    assert level == pytest.approx(original, abs=0.2) if kept else level < original - 55


def test_polish_brings_faint_and_loud_to_one_level():
    for loudness in (500, 30_000):
        sound = audio.polish(tone(440, 8000, loudness=loudness), building.SPEECH_LEVEL, building.CEILING)
        assert audio.level(sound) == pytest.approx(building.SPEECH_LEVEL, abs=0.5)
        assert audio.peak(sound) <= audio.FULL_SCALE * 10 ** (building.CEILING / 20)


def test_polish_takes_out_an_offset():
    shifted = array("h", [sample + 2000 for sample in tone(440, 8000)])
    sound = audio.polish(shifted, building.SPEECH_LEVEL, building.CEILING)[2000:]
    assert abs(sum(sound) / len(sound)) < 20


def test_trim_leaves_the_margins_that_are_asked_for():
    sound = audio.silence(500) + tone(440, 8000, seconds=0.5) + audio.silence(700)
    assert audio.duration_ms(audio.trim(sound, 30, 100)) == pytest.approx(630, abs=10)
    bare = audio.trim(tone(440, 8000, seconds=0.5), 30, 100)
    assert audio.duration_ms(bare) == 630
    assert bare[0] == bare[-1] == 0
    assert audio.peak(audio.trim(audio.silence(500), 30, 100)) == 0


def test_trim_keeps_a_faint_consonant():
    """The "th" of thirty is 40 dB fainter than its vowel."""
    faint = tone(3000, 8000, seconds=0.08, loudness=80)
    sound = audio.trim(audio.silence(500) + faint + tone(440, 8000, seconds=0.5), 10, 50)
    assert audio.duration_ms(sound) == pytest.approx(640, abs=10)


# -- checking them ------------------------------------------------------------------------------------


def _header(channels=1, rate=8000, width=2):
    def damage(path):
        with wave.open(str(path), "wb") as recording:
            recording.setnchannels(channels)
            recording.setframerate(rate)
            recording.setsampwidth(width)
            recording.writeframes(bytes(range(1, 241)) * 40)

    return damage


def _samples(sound):
    return lambda path: audio.write(path, sound)


def _extensible(path):
    whole = bytearray(path.read_bytes())
    whole[20:22] = b"\xfe\xff"
    path.write_bytes(whole)


DAMAGE = {
    "welcome": (lambda path: path.unlink(), "is missing"),
    "enter-amount": (_header(channels=2), "2 channel(s), 16 bits, 8000 Hz"),
    "no-amount": (_header(rate=16000), "1 channel(s), 16 bits, 16000 Hz"),
    "invalid-amount": (_header(width=3), "1 channel(s), 24 bits, 8000 Hz"),
    "help-amount": (_extensible, "not a plain PCM WAV file"),
    "amount-is": (lambda path: path.write_bytes(b""), "not a plain PCM WAV file"),
    "rial": (lambda path: path.write_bytes(path.read_bytes()[:30]), "not a whole WAV file"),
    "confirm-amount": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "cut off"),
    "no-choice": (_samples(array("h")), "empty"),
    "invalid-choice": (_samples(audio.silence(1000)), "silent"),
    "help-choice": (_samples(tone(440, 8000, loudness=200)), "too faint"),
    "enter-mobile": (_samples(array("h", [32767, 32767, 32767, 0] * 1000)), "clipped"),
}


def test_check_finds_each_kind_of_damage(folder):
    for name, (damage, _) in DAMAGE.items():
        damage(folder / "fa/ivr-agi" / f"{name}.wav")
    problems = sounds.check(folder)
    for (name, (_, complaint)), problem in zip(DAMAGE.items(), problems, strict=True):
        assert problem.startswith(f"fa/ivr-agi/{name}.wav")
        assert complaint in problem


def test_check_finds_words_that_changed_since(folder):
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(
        text.replace(MANIFEST["en/paid"]["made_of"], "0" * 16), encoding="utf-8"
    )
    (problem,) = sounds.check(folder)
    assert problem.startswith("en/ivr-agi/paid.wav is out of date")


def test_check_finds_a_missing_or_broken_manifest(folder):
    for broken in ("{", "[]", '{"clips": []}'):
        (folder / "manifest.json").write_text(broken, encoding="utf-8")
        (problem,) = sounds.check(folder)
        assert problem.startswith("manifest.json")


def test_check_finds_strangers(folder):
    shutil.copy(folder / "fa/ivr-agi/paid.wav", folder / "fa/ivr-agi/piad.wav")
    assert sounds.check(folder) == ["fa/ivr-agi/piad.wav is not in the catalogue"]


# -- installing them ----------------------------------------------------------------------------------


def verbs(actions):
    return {action.verb for action in actions}


def test_install_puts_them_where_asterisk_looks(tmp_path):
    actions = sounds.install(tmp_path)
    assert verbs(actions) == {"copy", "note"}
    assert str(tmp_path / "moh" / "ivr-agi") in str(actions[-1])
    assert sounds.check(tmp_path, installed=True) == []
    for path in FILES:
        assert (tmp_path / path).read_bytes() == (SHIPPED / path).read_bytes()
        assert (tmp_path / path).stat().st_mode & 0o444 == 0o444, "Asterisk runs as somebody else"
    assert verbs(sounds.install(tmp_path)) == {"same", "note"}


def test_install_puts_the_music_beside_asterisks_sounds(tmp_path):
    actions = sounds.install(tmp_path / "sounds")
    assert str(tmp_path / "moh" / "ivr-agi") in str(actions[-1])
    assert (tmp_path / "moh/ivr-agi/waiting.wav").is_file()
    assert not (tmp_path / "sounds/moh").exists()


def test_install_only_tells_when_asked_to(tmp_path):
    assert verbs(sounds.install(tmp_path / "sounds", dry_run=True)) == {"copy", "note"}
    assert list(tmp_path.iterdir()) == []


def test_install_uses_the_languages_codes_of_the_place(tmp_path):
    sounds.install(tmp_path, codes={"fa": "pr"})
    assert (tmp_path / "pr/ivr-agi/welcome.wav").is_file()
    assert not (tmp_path / "fa").exists()
    assert sounds.check(tmp_path, installed=True, codes={"fa": "pr"}) == []


def test_install_leaves_other_peoples_files_alone(tmp_path, folder):
    """A recording of the merchant's own stays, whether it was there before or came later."""
    place = tmp_path / "asterisk"
    early, late, other = (place / "fa/ivr-agi" / f"{name}.wav" for name in ("welcome", "paid", "queue"))
    early.parent.mkdir(parents=True)
    early.write_bytes(b"a real voice")
    other.write_bytes(b"something else")
    actions = sounds.install(place)
    assert [action.what for action in actions if action.verb == "keep"] == [
        f"{early}: not ours, somebody's own recording"
    ]
    late.write_bytes(b"a real voice too")
    audio.write(folder / "en/ivr-agi/goodbye.wav", tone(440, 8000))
    actions = sounds.install(place, source=folder)
    assert {action.what for action in actions if action.verb == "update"} == {
        str(place / "en/ivr-agi/goodbye.wav")
    }
    assert (early.read_bytes(), late.read_bytes()) == (b"a real voice", b"a real voice too")
    sounds.install(place, force=True)
    assert early.read_bytes() == (SHIPPED / "fa/ivr-agi/welcome.wav").read_bytes()
    assert other.read_bytes() == b"something else"


def test_check_accepts_a_recording_of_another_format_in_asterisks_folder(tmp_path):
    sounds.install(tmp_path)
    (tmp_path / "fa/ivr-agi/welcome.wav").rename(tmp_path / "fa/ivr-agi/welcome.ulaw")
    assert sounds.check(tmp_path, installed=True) == []
    (tmp_path / "fa/ivr-agi/welcome.ulaw").unlink()
    assert sounds.check(tmp_path, installed=True) == ["fa/ivr-agi/welcome.wav is missing"]
