"""`sounds check`: each kind of damage that a sounds folder can come to is found, and said in words."""

import json
import shutil
import wave
from array import array

import pytest

from ivr_agi import sounds
from ivr_agi.sounds import audio, checking, formats, manifest
from ivr_agi.sounds.audio import Sound

SHIPPED = sounds.shipped()
MADE = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["clips"]


def good(name):
    """A shipped sound."""
    return formats.read(SHIPPED / f"{name.replace('/', '/ivr-agi/', 1)}.wav")


def louder(sound, factor):
    return Sound(array("h", [max(-32768, min(32767, round(x * factor))) for x in sound.samples]), sound.rate)


def mixed(sound, other):
    return Sound(array("h", [a + b for a, b in zip(sound.samples, other.samples, strict=False)]), sound.rate)


def header(channels=1, rate=8000, width=2):
    def damage(path, _tone):
        with wave.open(str(path), "wb") as recording:
            recording.setnchannels(channels)
            recording.setframerate(rate)
            recording.setsampwidth(width)
            recording.writeframes(bytes(range(1, 241)) * 40)

    return damage


def samples(make):
    """Damage that is another sound in the place of the right one: make(sound, tone)."""

    def damage(path, tone):
        formats.write(path, "wav", make(formats.read(path), tone))

    return damage


def extensible(path, _tone):
    whole = bytearray(path.read_bytes())
    whole[20:22] = b"\xfe\xff"
    path.write_bytes(whole)


def hiss(sound):
    """Noise of the same seed each time, some 25 dB below the speech."""
    state, noise = 1, array("h")
    for _ in sound.samples:
        state = (1103515245 * state + 12345) % 2**31
        noise.append(state % 801 - 400)
    return mixed(sound, Sound(noise))


def muffled(sound):
    """As through a blanket: nothing above some 700 Hz."""
    samples, a, b = array("h"), 0.0, 0.0
    for x in sound.samples:
        a += 0.3 * (x - a)
        b += 0.3 * (a - b)
        samples.append(round(b))
    quiet = Sound(samples)
    for _ in range(2):
        quiet = Sound(
            array(
                "h", [round(sum(quiet.samples[max(i - 5, 0) : i + 1]) / 6) for i in range(len(quiet.samples))]
            )
        )
    return audio.telephone(quiet, -19.5, -1.0)


DAMAGE = {
    "welcome": (lambda path, _tone: path.unlink(), "is missing"),
    "enter-amount": (header(channels=2), "2 channel(s), 16 bits, 8000 Hz"),
    "no-amount": (header(rate=16000), "1 channel(s), 16 bits, 16000 Hz"),
    "invalid-amount": (header(width=3), "1 channel(s), 24 bits, 8000 Hz"),
    "help-amount": (extensible, "not a plain PCM WAV file"),
    "amount-is": (lambda path, _tone: path.write_bytes(b""), "not a plain PCM WAV file"),
    "rial": (lambda path, _tone: path.write_bytes(path.read_bytes()[:30]), "not a whole WAV file"),
    "confirm-amount": (lambda path, _tone: path.write_bytes(path.read_bytes()[:-1000]), "cut off"),
    "no-choice": (samples(lambda _sound, _tone: Sound(array("h"))), "empty"),
    "invalid-choice": (samples(lambda _sound, _tone: audio.silence(1000)), "silent"),
    "help-choice": (samples(lambda _sound, tone: tone(440, loudness=200)), "too faint"),
    "enter-mobile": (samples(lambda sound, _tone: louder(sound, 6)), "clipped"),
    "no-mobile": (samples(lambda sound, _tone: louder(sound, 0.8)), "LUFS, more than 1.5 from -19.5"),
    "invalid-mobile": (samples(lambda sound, _tone: audio.join(audio.silence(300), sound)), "silence before it"),
    "help-mobile": (samples(lambda sound, _tone: audio.join(sound, audio.silence(500))), "silence after it"),
    "enter-card": (
        samples(lambda sound, _tone: Sound(sound.samples[: len(sound.samples) // 4], 8000)),
        "cut short",
    ),
    "no-card": (samples(lambda sound, _tone: audio.join(sound, sound, sound)), "drawn out"),
    "invalid-card": (
        samples(lambda sound, tone: mixed(sound, tone(50, seconds=9, loudness=1600))),
        "hums: too much below",
    ),
    "enter-pin": (samples(lambda sound, _tone: hiss(sound)), "hisses"),
    "no-pin": (samples(lambda sound, _tone: muffled(sound)), "muffled"),
    "paid": (
        lambda path, _tone: shutil.copy(path.with_name("cancelled.wav"), path),
        "not the sound that manifest.json knows by this name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_check_finds_each_kind_of_damage(folder, tone, name):
    """One file is damaged, and just that one is named, with what is wrong."""
    damage, complaint = DAMAGE[name]
    damage(folder / f"fa/ivr-agi/{name}.wav", tone)
    (problem,) = sounds.check(folder, only=[f"fa/{name}"])
    assert problem.startswith(f"fa/ivr-agi/{name}.wav")
    assert complaint in problem


def test_each_is_found_among_others(folder, tone):
    """All that damage at once: each file is named once, in the catalogue's order, and none that is whole."""
    for name, (damage, _) in DAMAGE.items():
        damage(folder / f"fa/ivr-agi/{name}.wav", tone)
    among = [*(f"fa/{name}" for name in DAMAGE), "fa/goodbye", "en/paid", "en/welcome", "numbers/7"]
    problems = sounds.check(folder, only=among)
    assert [line[: line.index(".wav")] for line in problems] == [f"fa/ivr-agi/{name}" for name in DAMAGE]


def test_check_finds_strangers(folder, monkeypatch):
    """A sound that no clip is named after: a slip of the name, perhaps."""
    monkeypatch.setattr(checking, "chosen", lambda _all: [])  # the others are looked at elsewhere
    assert sounds.check(folder) == []
    for name in ("fa/ivr-agi/piad.wav", "en/ivr-agi/paid.ulaw"):
        shutil.copy(folder / "fa/ivr-agi/paid.wav", folder / name)
    assert sounds.check(folder) == [
        "en/ivr-agi/paid.ulaw is not in the catalogue",
        "fa/ivr-agi/piad.wav is not in the catalogue",
    ]


def test_a_click_at_the_end_is_found(folder):
    """A recording that was cut in the middle of a sound."""
    path = folder / "en/ivr-agi/goodbye.wav"
    sound = formats.read(path)
    loud = max(range(len(sound.samples)), key=lambda i: abs(sound.samples[i]))
    formats.write(path, "wav", Sound(sound.samples[: loud + 1], 8000))
    (problem,) = sounds.check(folder, only=["en/goodbye"])
    assert "begins or ends with a click" in problem


def test_a_part_of_a_number_may_not_be_long(folder):
    """The word of a number that takes a second tears the number apart."""
    path = folder / "fa/ivr-agi/numbers/7.wav"
    formats.write(path, "wav", audio.trim(good("fa/busy"), 10, 50))
    (problem,) = sounds.check(folder, only=["fa/numbers/7"])
    assert "for a part of a number" in problem


@pytest.mark.parametrize(
    ("field", "complaint"),
    [("text", "its words have changed"), ("voice", "it is spoken otherwise now")],
)
def test_check_finds_what_is_out_of_date(folder, field, complaint):
    """The words, or the voice, are not those of the file any more; of a voice of one's own only the words."""
    path = folder / "manifest.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["clips"]["en/paid"][field] = "0" * 16
    path.write_text(json.dumps(whole), encoding="utf-8")
    (problem,) = sounds.check(folder, only=["paid"])
    assert problem.startswith(f"en/ivr-agi/paid.wav is out of date, {complaint}")
    path.write_text(json.dumps(whole | {"own": True}), encoding="utf-8")
    assert len(sounds.check(folder, only=["paid"])) == (1 if field == "text" else 0)


def test_check_finds_a_missing_or_broken_manifest(folder):
    for broken in ("{", "[]", '{"clips": []}', '{"forms": ["wav"], "own": false, "clips": {"fa/paid": 1}}'):
        (folder / "manifest.json").write_text(broken, encoding="utf-8")
        (problem,) = sounds.check(folder)
        assert problem.startswith("manifest.json")


def test_check_finds_a_clip_that_the_manifest_does_not_know(folder):
    path = folder / "manifest.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    del whole["clips"]["en/paid"]
    path.write_text(json.dumps(whole), encoding="utf-8")
    (problem,) = sounds.check(folder, only=["en/paid"])
    assert problem.startswith("en/ivr-agi/paid.wav is not in manifest.json")


def test_check_looks_at_each_form_that_there_is_to_be(folder):
    """A folder with .ulaw as well: one that is missing, or is a WAV by another name."""
    found = manifest.read(folder)
    found.forms = ("wav", "ulaw")
    for key, made in found.clips.items():
        language, name = key.split("/", 1)
        path = folder / language / "ivr-agi" / f"{name}.ulaw"
        formats.write(path, "ulaw", formats.read(path.with_suffix(".wav")))
        made.files["ulaw"] = manifest.checksum(path.read_bytes())
    manifest.write(folder, found)
    few = ["fa/paid", "fa/busy"]
    assert sounds.check(folder, only=few) == []
    (folder / "fa/ivr-agi/paid.ulaw").unlink()
    shutil.copy(folder / "fa/ivr-agi/busy.wav", folder / "fa/ivr-agi/busy.ulaw")
    problems = sounds.check(folder, only=few)
    assert "fa/ivr-agi/paid.ulaw is missing" in problems
    assert any(line.startswith("fa/ivr-agi/busy.ulaw: a WAV file by the name of .ulaw") for line in problems)
    assert len(problems) == 2
