"""Whether the sounds are all there, can be played, are good to hear, and say what the script says.

No ear is needed: each bound below tells a mumbled, cut, humming or wrong recording from a good one, and
was set by measuring the shipped voices and damaged copies of them (docs/voice.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ivr_agi.prompts.catalogue import SILENCE
from ivr_agi.sounds import audio, formats, installing, loudness, manifest
from ivr_agi.sounds.building import LEVEL, planned
from ivr_agi.sounds.clips import MUSIC, NUMBERS, Clip, chosen, clips
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.manifest import checksum

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from ivr_agi.sounds.audio import Sound
    from ivr_agi.sounds.manifest import Made, Manifest

TOLERANCE: Final = 1.5  # LU
FAINTEST: Final = 1000  # peak; ordinary speech is above 10,000
CLIPPED_RUN: Final = 3  # samples at full scale in a row
SHORTEST_MS: Final = 80
LONGEST_MS: Final = 20_000
LONGEST_NUMBER_MS: Final = 900
LETTER_MS: Final = (30, 200)  # that a letter takes to be said, least and most, in a sentence
LEAD_MS: Final = 80
TAIL_MS: Final = 250
NUMBER_EDGE_MS: Final = 70
CLICK: Final = 300  # the first and the last sample: more is heard as a click
HUM_DB: Final = -26.0  # power below 65 Hz
MUFFLED_DB: Final = -25.0  # power above 2,000 Hz
NOISE_DB: Final = -40.0  # power of the quietest moments


def check(
    folder: Path,
    *,
    only: Collection[str] | None = None,
    installed: bool = False,
    codes: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what is wrong with a sounds folder, a line for each; an empty list if nothing is.

    only: names or keys of clips, as for build; KeyError for an unknown one. installed: it is Asterisk's
    folder, not one that `build` made: there is no manifest, a recording of another format in a prompt's place
    is the admin's own choice, how it sounds, too, and other files are none of ours. codes: folder names that
    differ from our language codes, as `{"fa": "pr"}`.
    """
    if installed:
        wanted = {clip.key for clip in chosen(only)} - {MUSIC}
        return [line for clip in clips(codes) if clip.key in wanted for line in _installed(folder, clip)]
    made = manifest.read(folder)
    if not made.clips:
        return [f"{manifest.NAME} is missing or no manifest: {_cure(folder)}"]
    problems = []
    for clip in chosen(only):
        for form in made.forms:
            complaint = next(_complaints(folder, clip, form, made), "")
            problems += [f"{clip.path(form)}{complaint}"] if complaint else []
    return problems if only is not None else problems + strangers(folder, made.forms)


def strangers(folder: Path, forms: tuple[str, ...]) -> list[str]:
    """Return a line for each sound in a folder that no clip of the catalogue is named after."""
    known = {clip.path(form) for clip in clips() for form in forms}
    found = (
        path.relative_to(folder).as_posix() for form in formats.FORMATS for path in folder.rglob(f"*.{form}")
    )
    return [f"{path} is not in the catalogue" for path in sorted(found) if path not in known]


def _installed(folder: Path, clip: Clip) -> Iterator[str]:
    path = folder / clip.path()
    if not path.is_file():
        if not any(path.parent.glob(f"{path.stem}.*")):
            yield f"{clip.path()} is missing"
        return
    try:
        complaint = next(_playable(clip, formats.read(path)), "")
    except (audio.SoundFormatError, OSError) as error:
        complaint = str(error)
    if complaint:
        yield f"{clip.path()}: {complaint}"


def _complaints(folder: Path, clip: Clip, form: str, found: Manifest) -> Iterator[str]:
    """Say what is wrong with one file, the gravest first."""
    path, made = folder / clip.path(form), found.clips.get(clip.key)
    if not path.is_file():
        yield " is missing"
        return
    try:
        sound = formats.read(path)
    except (audio.SoundFormatError, OSError, ImportError) as error:
        yield f": {error}"
        return
    for complaint in _playable(clip, sound):
        yield f": {complaint}"
    if made is None or made.files.get(form) is None:
        yield f" is not in {manifest.NAME}: {_cure(folder)}"
        return
    if stale := _out_of_date(clip, made, own=found.own):
        yield f" is out of date, {stale}: {_cure(folder)}"
    if clip.name != SILENCE and clip.key != MUSIC:
        for complaint in _audible(clip, sound):
            yield f": {complaint}"
    if checksum(path.read_bytes()) != made.files[form]:
        cure = _cure(folder, f" --force {clip.key}")
        yield f": not the sound that {manifest.NAME} knows by this name: {cure}"


def _cure(folder: Path, more: str = "") -> str:
    out = "" if folder.resolve() == installing.shipped().resolve() else f" --out {folder}"
    return f"run `ivr-agi sounds build{out}{more}`"


def _out_of_date(clip: Clip, made: Made, *, own: bool) -> str:
    """Tell what has changed since a clip was made; of an own voice no more than the words can be known."""
    if made.text != clip.text:
        return "its words have changed"
    try:
        return "" if own or made.voice == planned(clip).voice else "it is spoken otherwise now"
    except SpeechError:  # a model that is not installed here
        return ""


def _playable(clip: Clip, sound: Sound) -> Iterator[str]:
    """What no caller can be served with, whoever's recording it is."""
    if sound.duration_ms < SHORTEST_MS:
        yield "empty, or too short to be heard"
    if clip.name != SILENCE and sound.peak < FAINTEST:
        yield "silent, or far too faint"
    if sound.peak >= audio.FULL_SCALE:
        run = 0
        for sample in sound.samples:
            run = run + 1 if abs(sample) >= audio.FULL_SCALE else 0
            if run >= CLIPPED_RUN:
                yield "clipped: recorded too loud"
                return


def _audible(clip: Clip, sound: Sound) -> Iterator[str]:
    """What is not good to hear."""
    level = loudness.lufs(sound)
    if abs(level - LEVEL) > TOLERANCE:
        yield f"{level:.1f} LUFS, more than {TOLERANCE} from {LEVEL}: louder or softer than the rest"
    lead, tail = audio.margins(sound)
    most_lead, most_tail = (NUMBER_EDGE_MS,) * 2 if clip.name.startswith(NUMBERS) else (LEAD_MS, TAIL_MS)
    if lead > most_lead:
        yield f"{lead} ms of silence before it; at most {most_lead}"
    if tail > most_tail:
        yield f"{tail} ms of silence after it; at most {most_tail}"
    yield from _length(clip, sound.duration_ms - lead - tail)
    if audio.out_of_band_db(sound) > HUM_DB:
        yield "hums: too much below what a telephone carries"
    if audio.muffled_db(sound) < MUFFLED_DB:
        yield "muffled: nothing above 2,000 Hz, where consonants are"
    # A clip that the next one joins without a pause has no quiet moment to be judged by.
    if not clip.name.endswith("-o") and audio.noise_db(sound) > NOISE_DB:
        yield "hisses or hums: its pauses are not quiet"
    if max(abs(sound.samples[0]), abs(sound.samples[-1])) > CLICK:
        yield "begins or ends with a click: cut in the middle of a sound"


def _length(clip: Clip, spoken_ms: int) -> Iterator[str]:
    letters = sum(sum(map(str.isalpha, said.shown)) for _, said in clip.parts)
    if clip.name.startswith(NUMBERS):
        if spoken_ms > LONGEST_NUMBER_MS:
            yield f"{spoken_ms} ms; at most {LONGEST_NUMBER_MS} for a part of a number"
        return
    least, most = (letters * ms for ms in LETTER_MS)
    if not min(least, LONGEST_MS) <= spoken_ms <= max(min(most, LONGEST_MS), LETTER_MS[1] * 6):
        yield f"{spoken_ms} ms for {letters} letters: cut short, drawn out, or other words"
