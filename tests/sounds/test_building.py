"""Making the sound files: only what has changed, the same each time, from machine voices and from people's."""

import json
import os
import shutil
import sys
import wave

import pytest

from ivr_agi import sounds
from ivr_agi.prompts.catalogue import Catalogue, Words
from ivr_agi.sounds import audio, building, formats, loudness, manifest, voices
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.espeak import Espeak
from ivr_agi.sounds.engines.piper import Piper
from ivr_agi.sounds.engines.recordings import Recordings
from ivr_agi.sounds.voices import Voice, Voices, VoicesError

SHIPPED = sounds.shipped()
FEW = ["no-card", "choose-language", "numbers/20-o", "silence"]
MADE = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["clips"]
ESPEAK = Voices({"fa": (Voice(Espeak("fa", 175, 45, 1)),), "en": (Voice(Espeak("en-gb", 165, 45, 1)),)})


def studio(folder, name, sound):
    """A recording in a folder of recordings."""
    path = folder / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(sound.rate)
        recording.writeframes(sound.samples.tobytes() if sys.byteorder == "little" else b"")
    return path


# -- espeak-ng -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("engine")
def test_two_builds_are_the_same_to_the_byte(tmp_path):
    paths = sounds.build(tmp_path / "one", only=FEW, by=ESPEAK).written
    assert sounds.build(tmp_path / "two", only=FEW, by=ESPEAK).written == paths
    assert len(paths) == 7
    for path in [*paths, "manifest.json"]:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_build_here_gives_what_is_shipped(tmp_path, engine):
    """By the same engine; another version speaks a little differently."""
    for path in sounds.build(tmp_path, only=["fa/enter-card", "fa/numbers/9"], force=True).written:
        key = path.replace("/ivr-agi/", "/").removesuffix(".wav")
        if MADE[key]["engine"] != engine:
            pytest.skip(f"shipped: {MADE[key]['engine']}; here: {engine}")
        pairs = zip(formats.read(tmp_path / path).samples, formats.read(SHIPPED / path).samples, strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 2, "mathematical libraries may differ in the last bit"


@pytest.mark.usefixtures("engine")
def test_build_speaks_only_what_changed(tmp_path):
    seen = []
    few = ["fa/busy", "en/goodbye"]

    def build(**more):
        return sounds.build(tmp_path, only=few, by=ESPEAK, **more).written

    build(progress=lambda done, total, key: seen.append((done, total, key)))
    assert seen == [(0, 2, "fa/busy"), (1, 2, "en/goodbye")]
    assert build() == []
    (tmp_path / "en/ivr-agi/goodbye.wav").unlink()
    assert build() == ["en/ivr-agi/goodbye.wav"]
    assert len(build(force=True)) == 2


@pytest.mark.usefixtures("engine")
def test_another_voice_or_another_word_is_a_change(tmp_path, monkeypatch):
    """A clip is spoken anew if its speed, its spelling for the engine, or its words are others."""
    only = ["fa/goodbye"]
    sounds.build(tmp_path, only=only, by=ESPEAK)
    slower = ESPEAK.preferring("fa", Voice(Espeak("fa", 150, 45, 1), clips="good*"))
    assert len(sounds.build(tmp_path, only=only, by=slower).written) == 1
    assert sounds.build(tmp_path, only=only, by=slower).written == []
    changed = Words(shown="خدا نگهدار شما.", spoken="خدا نگهدارِ شما.")
    monkeypatch.setattr(Catalogue, "words", lambda _catalogue, _name, _language: changed)
    assert len(sounds.build(tmp_path, only=only, by=slower).written) == 1


def test_build_needs_no_engine_when_nothing_has_changed(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert sounds.build(folder).written == []
    assert (folder / "manifest.json").read_bytes() == (SHIPPED / "manifest.json").read_bytes()


def test_what_is_shipped_is_copied_and_not_spoken(tmp_path, monkeypatch, tone):
    """A merchant with three recordings needs no engine: all the rest comes from the shipped sounds."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for pitch, name in enumerate(("fa/welcome", "fa/paid", "en/paid"), 400):
        studio(tmp_path / "studio", name, tone(pitch, 44_100, 3.0))
    out = tmp_path / "out"
    built = sounds.build(out, by=voices.shipped().recorded(tmp_path / "studio"))
    assert len(built.written) == len(MADE)
    made = manifest.read(out)
    recorded = {key for key, clip in made.clips.items() if clip.engine == "recording"}
    assert recorded == {"fa/welcome", "fa/paid", "en/paid"}
    assert (out / "fa/ivr-agi/unknown.wav").read_bytes() == (SHIPPED / "fa/ivr-agi/unknown.wav").read_bytes()
    assert sounds.check(out, only=["unknown", "numbers/7", "silence", "moh/waiting"]) == []
    assert sounds.build(out, by=voices.shipped().recorded(tmp_path / "studio")).written == []
    with pytest.raises(SpeechError, match="espeak-ng is not installed"):
        sounds.build(out, only=["fa/busy"], force=True)  # this is spoken, whatever is shipped


def test_build_removes_what_it_made_for_a_prompt_that_is_gone(folder):
    path = folder / "manifest.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    welcome = whole["clips"]["fa/welcome"]
    whole["clips"] |= dict.fromkeys(["fa/old", "fa/changed", "../outside", "fa/x/../../outside"], welcome)
    path.write_text(json.dumps(whole), encoding="utf-8")
    shutil.copy(folder / "fa/ivr-agi/welcome.wav", folder / "fa/ivr-agi/old.wav")
    for kept in ("mine", "changed"):
        shutil.copy(folder / "fa/ivr-agi/busy.wav", folder / f"fa/ivr-agi/{kept}.wav")
    shutil.copy(folder / "fa/ivr-agi/welcome.wav", folder / "outside.wav")
    sounds.build(folder, only=["fa/busy"])  # of a part, it says nothing of the rest
    assert (folder / "fa/ivr-agi/old.wav").exists()
    sounds.build(folder)
    assert (folder / "outside.wav").exists()
    assert (folder / "fa/ivr-agi/changed.wav").exists()
    assert not (folder / "fa/ivr-agi/old.wav").exists()
    assert (folder / "fa/ivr-agi/mine.wav").exists()
    assert path.read_bytes() == (SHIPPED / "manifest.json").read_bytes()


@pytest.mark.usefixtures("engine")
def test_other_formats_on_request(tmp_path):
    """Each sound in each form at the rate that the form has, as long and as loud; a form given up goes."""
    only = ["fa/goodbye", "silence"]
    forms = ("wav16", "g722", "ulaw")
    paths = sounds.build(tmp_path, only=only, by=ESPEAK, forms=forms).written
    assert len(paths) == 3 * 4
    narrow = formats.read(tmp_path / "fa/ivr-agi/goodbye.wav")
    for form in forms:
        sound = formats.read(tmp_path / f"fa/ivr-agi/goodbye.{form}")
        assert sound.rate == formats.FORMATS[form]
        assert sound.duration_ms == pytest.approx(narrow.duration_ms, abs=12)
        assert loudness.lufs(sound) == pytest.approx(building.LEVEL, abs=1)
    assert sounds.build(tmp_path, only=only, by=ESPEAK).written == []
    assert manifest.read(tmp_path).forms == ("wav", *forms)
    kept = sounds.build(tmp_path, only=only, by=ESPEAK, forms=("ulaw",))
    assert kept.written == []
    assert {path.suffix for path in tmp_path.rglob("goodbye.*")} == {".wav", ".ulaw"}


def test_a_missing_engine_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SpeechError, match="apt-get install espeak-ng"):
        sounds.build(tmp_path, only=["fa/welcome"], by=ESPEAK)


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
    with pytest.raises(SpeechError, match=complaint):
        Espeak("fa", 175, 45, 1).speak("fa", "welcome", Words("سلام", "سلام"))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("voice", "missing"), [("farsi", "farsi"), ("fa+nobody", "nobody")])
def test_a_voice_that_the_engine_does_not_have_is_refused(tmp_path, voice, missing):
    """It would read the text letter by letter, in English, and say nothing of it."""
    with pytest.raises(SpeechError, match=f"no voice '{missing}'"):
        sounds.build(tmp_path, only=["fa/goodbye"], by=ESPEAK.preferring("fa", Voice(Espeak(voice, 1, 1, 1))))
    assert Espeak("fa+f2", 1, 1, 1).version().startswith("eSpeak NG")


@pytest.mark.usefixtures("engine")
def test_what_is_done_is_done_when_the_next_one_fails(tmp_path):
    """A build that breaks off keeps, and knows, what it has made."""

    class Broken(Espeak):
        def speak(self, *_said):
            raise SpeechError("reset")

    broken = ESPEAK.preferring("en", Voice(Broken("en-gb", 165, 45, 1)))
    with pytest.raises(SpeechError, match="reset"):
        sounds.build(tmp_path, only=["fa/goodbye", "en/goodbye"], by=broken)
    assert list(manifest.read(tmp_path).clips) == ["fa/goodbye"]
    assert sounds.build(tmp_path, only=["fa/goodbye"], by=ESPEAK).written == []


def test_build_of_an_unknown_prompt_is_refused(tmp_path):
    with pytest.raises(KeyError, match="welcom"):
        sounds.build(tmp_path, only=["welcom"])


# -- recordings ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("engine")
def test_recordings_are_levelled_trimmed_and_named(tmp_path, tone):
    """A faint one at 48 kHz with a second of nothing around it ends like any other; the rest is spoken."""
    spoken = audio.join(audio.silence(1000, 48_000), tone(400, 48_000, 1.2, 900), audio.silence(900, 48_000))
    studio(tmp_path / "studio", "fa/Enter_Card", spoken)
    by = ESPEAK.recorded(tmp_path / "studio")
    built = sounds.build(tmp_path / "out", only=["fa/enter-card", "fa/goodbye"], by=by)
    assert len(built.written) == 2
    assert not built.notes
    made = manifest.read(tmp_path / "out")
    assert made.own
    assert made.clips["fa/enter-card"].engine == "recording"
    assert made.clips["fa/goodbye"].engine.startswith("eSpeak NG")
    sound = formats.read(tmp_path / "out/fa/ivr-agi/enter-card.wav")
    assert audio.margins(sound) == (30, 100)
    assert sound.duration_ms == pytest.approx(1330, abs=20)
    assert loudness.lufs(sound) == pytest.approx(building.LEVEL, abs=0.5)


@pytest.mark.usefixtures("engine")
def test_each_half_of_a_bilingual_prompt_may_be_recorded(tmp_path, tone):
    studio(tmp_path / "studio", "fa/choose-language", tone(400, 44_100))
    by = ESPEAK.recorded(tmp_path / "studio")
    sounds.build(tmp_path / "out", only=["choose-language"], by=by)
    made = manifest.read(tmp_path / "out").clips
    assert {made[f"{each}/choose-language"].engine.partition(" and ")[0] for each in ("fa", "en")} == {
        "recording"
    }
    both = [(tmp_path / f"out/{each}/ivr-agi/choose-language.wav").read_bytes() for each in ("fa", "en")]
    assert both[0] == both[1]


@pytest.mark.usefixtures("engine")
def test_a_recording_of_old_words_is_not_used(tmp_path, tone, monkeypatch):
    """The script has changed since: the caller hears the right words by the machine, the merchant is told."""
    first = studio(tmp_path / "studio", "fa/goodbye", tone(400, 44_100))
    only = ["fa/goodbye"]

    def build():
        by = ESPEAK.recorded(tmp_path / "studio")
        built = sounds.build(tmp_path / "out", only=only, by=by)
        return built, manifest.read(tmp_path / "out").clips["fa/goodbye"].engine

    assert build()[1] == "recording"
    changed = Words("به امید دیدار.", "به امیدِ دیدار.")
    monkeypatch.setattr(Catalogue, "words", lambda _catalogue, _name, _language: changed)
    for _ in range(2):  # and it is not forgotten by the next build
        built, engine = build()
        assert engine.startswith("eSpeak NG")
        assert "fa/goodbye: recorded with other words" in built.notes[0]
    studio(tmp_path / "studio", "fa/goodbye", tone(500, 44_100))
    assert first.is_file()
    assert build()[1] == "recording"


def test_a_recording_that_is_no_clips_name_is_told(tmp_path, tone):
    names = {"fa/wellcome": 400, "moh/waiting": 500}
    paths = [studio(tmp_path / "studio", name, tone(pitch, 44_100)) for name, pitch in names.items()]
    built = sounds.build(tmp_path / "out", only=["silence"], by=ESPEAK.recorded(tmp_path / "studio"))
    assert built.notes == [f"{path}: none of what is spoken has that name" for path in paths]


@pytest.mark.usefixtures("engine")
def test_a_recording_is_not_lost_by_a_later_build(tmp_path, tone):
    """Built once from a studio's folder, then without it: the voice stays, and its set stays somebody's own."""
    studio(tmp_path / "studio", "fa/goodbye", tone(400, 44_100))
    out, few = tmp_path / "out", ["fa/goodbye", "fa/busy"]
    sounds.build(out, only=few, by=ESPEAK.recorded(tmp_path / "studio"))
    before = (out / "fa/ivr-agi/goodbye.wav").read_bytes()
    for only in (few, ["fa/busy"]):
        built = sounds.build(out, only=only, by=ESPEAK)
        assert built.written == []
        assert manifest.read(out).own
    assert (out / "fa/ivr-agi/goodbye.wav").read_bytes() == before
    assert (
        "1 recordings stay as they are, fa/goodbye first" in sounds.build(out, only=few, by=ESPEAK).notes[0]
    )
    assert len(sounds.build(out, only=few, by=ESPEAK, force=True).written) == 2
    assert manifest.read(out).clips["fa/goodbye"].engine.startswith("eSpeak NG")


def test_one_recording_under_two_names_is_refused(tmp_path, tone):
    """The slip that nobody could find afterwards: what is said of an unknown payment, in the place of "paid"."""
    for name in ("fa/paid", "fa/unknown"):
        studio(tmp_path, name, tone(400, 44_100))
    with pytest.raises(SpeechError, match="are the same recording"):
        Recordings(tmp_path)


def test_two_recordings_for_one_clip_are_refused(tmp_path, tone):
    for name in ("fa/enter-card", "fa/Enter_Card"):
        studio(tmp_path, name, tone(400, 44_100))
    with pytest.raises(SpeechError, match="both for fa/enter-card"):
        Recordings(tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_a_recording_that_cannot_be_read_is_named(tmp_path, suffix):
    path = tmp_path / f"fa/goodbye.{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"ID3 something")
    with pytest.raises(SpeechError, match=rf"goodbye\.{suffix}: .*MP3"):
        sounds.build(tmp_path / "out", only=["fa/goodbye"], by=ESPEAK.recorded(tmp_path))


def test_no_folder_of_recordings(tmp_path):
    with pytest.raises(SpeechError, match="no such folder"):
        ESPEAK.recorded(tmp_path / "nowhere")


# -- voices --------------------------------------------------------------------------------------------


def test_shipped_voices_can_say_everything():
    """Each language has a voice for each clip, and it is none of anybody's own."""
    shipped = voices.shipped()
    assert not shipped.own
    for clip in building.clips():
        for language, _ in clip.parts:
            assert next(shipped.of(language, clip.name))


def test_voices_of_a_file(tmp_path, tone):
    """The first entry that fits, and has it, speaks; paths are relative to the file."""
    studio(tmp_path / "studio", "fa/paid", tone(400, 44_100))
    file = tmp_path / "voices.toml"
    file.write_text(
        '[[fa]]\nengine = "recordings"\nfolder = "studio"\n'
        '[[fa]]\nclips = "numbers/*"\nengine = "espeak-ng"\nvoice = "fa"\nspeed = 190\npitch = 40\ngap = 0\n'
        '[[fa]]\nengine = "piper"\nmodel = "own.onnx"\npace = 1\npresence = 3\n'
        '[[en]]\nengine = "espeak-ng"\nvoice = "en-us"\nspeed = 150\npitch = 40\ngap = 0\n',
        encoding="utf-8",
    )
    found = voices.read(file)
    assert found.own
    assert isinstance(next(found.of("fa", "paid")).engine, Recordings)
    assert next(found.of("fa", "numbers/7")).engine == Espeak("fa", 190, 40, 0)
    assert next(found.of("fa", "unknown")) == Voice(Piper(str(tmp_path / "own.onnx"), pace=1.0), "*", 3.0)
    assert next(found.of("en", "paid")).engine == Espeak("en-us", 150, 40, 0)
    assert isinstance(next(found.only("espeak-ng").of("fa", "numbers/7")).engine, Espeak)
    with pytest.raises(VoicesError, match="no voice of recordings for en"):
        found.only("recordings")
    with pytest.raises(VoicesError, match="espeak-ng, "):
        found.only("festival")


GOOD = '[[en]]\nengine = "espeak-ng"\nvoice = "en-us"\nspeed = 150\npitch = 40\ngap = 0\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[fa", "no TOML"),
        (GOOD, r"\[\[fa\]\] and \[\[en\]\]"),
        (GOOD + '[fa]\nengine = "espeak-ng"', r"\[\[fa\]\] and \[\[en\]\]"),
        (GOOD + "[[fa]]\nspeed = 1", r"\[\[fa\]\] number 1: engine is None"),
        (GOOD + '[[fa]]\nengine = "festival"', "it is one of espeak-ng, "),
        (GOOD + '[[fa]]\nengine = "espeak-ng"\nvoice = "fa"', "needs voice, speed, pitch, gap"),
        (GOOD + '[[fa]]\nengine = "espeak-ng"\nspeed = "fast"', "speed is 'fast', not of type int"),
        (GOOD + '[[fa]]\nengine = "espeak-ng"\nspede = 1', "'spede' is no setting of espeak-ng"),
        (GOOD + '[[fa]]\nengine = "espeak-ng"\nmodel = "x"', "'model' is no setting of espeak-ng"),
    ],
)
def test_a_faulty_file_of_voices_is_refused(text, complaint, tmp_path):
    with pytest.raises(VoicesError, match=complaint):
        voices.parse(text, tmp_path)


# -- Piper ---------------------------------------------------------------------------------------------


def test_a_piper_voice_is_two_files(tmp_path):
    (tmp_path / "fa.onnx").write_bytes(b"model")
    with pytest.raises(SpeechError, match=r"fa\.onnx\.json beside it"):
        Piper(str(tmp_path / "fa.onnx")).version()
    with pytest.raises(SpeechError, match=r"neither an \.onnx file nor an installed package"):
        Piper("no_such_package_of_a_voice").version()


def test_another_model_than_was_meant_is_refused(tmp_path):
    """A checksum in voices.toml holds the voice: a model that was exchanged is told, not spoken with."""
    (tmp_path / "fa.onnx").write_bytes(b"model")
    (tmp_path / "fa.onnx.json").write_bytes(b"{}")
    before = Piper(str(tmp_path / "fa.onnx")).fingerprint("fa", "paid")
    assert Piper(str(tmp_path / "fa.onnx")).version() == "Piper fa"
    with pytest.raises(SpeechError, match="its checksum is"):
        Piper(str(tmp_path / "fa.onnx"), checksum="0" * 16).version()
    assert before.startswith("piper ")
    assert Piper("wherever.onnx", checksum="0" * 16).fingerprint("fa", "paid") != before
