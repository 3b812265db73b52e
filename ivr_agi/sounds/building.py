"""The sound files: built from the catalogue, checked, and put where Asterisk looks for them.

A sounds folder holds `LANG/ivr-agi/NAME.wav`, `moh/ivr-agi/waiting.wav`, and `manifest.json`, which
says from which words each file was made: only what changed is spoken anew. Nothing here runs during
a call, and nothing here ever deletes or overwrites a file that this program did not make.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.prompts.catalogue import BILINGUAL, LANGUAGES, SILENCE, Catalogue, catalogue
from ivr_agi.sounds import audio, music, speech
from ivr_agi.sounds.installing import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path


MANIFEST: Final = "manifest.json"
MUSIC: Final = f"moh/{FOLDER}/waiting.wav"
SPEECH_LEVEL: Final = -20.0  # dB below full scale, pauses not counted
CEILING: Final = -3.0  # dB; no peak goes above it

VOICES: Final = {
    "fa": speech.Voice("fa", speed=175, pitch=45, gap=1),
    "en": speech.Voice("en-gb", speed=165, pitch=45, gap=1),
}
_NUMBERS_FASTER: Final = 1.05  # a word said alone is drawn out; inside a number it should not be

_RECIPE: Final = 1  # to be raised when the treatment of the sound changes: everything is then built anew
_SILENCE_MS: Final = 200
_HALVES_APART_MS: Final = 350
_KEY: Final = re.compile(r"[a-z]+/[a-z0-9-]+(?:/[a-z0-9-]+)?")
_SHORTEST_MS: Final = 80
_FAINTEST: Final = 1000  # peak; ordinary speech is above 10,000
_CLIPPED_RUN: Final = 3  # samples at full scale in a row


@dataclass(frozen=True, slots=True)
class _Clip:
    """One file to make: where it goes, and what is said in which voice (nothing: silence or music)."""

    key: str  # as in the manifest: fa/enter-card
    path: str  # below the sounds folder
    parts: tuple[tuple[str, speech.Voice], ...]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]

    @property
    def edges(self) -> tuple[int, int]:
        """Milliseconds of silence before and after: numbers are put together from clips without long gaps."""
        if not self.name.startswith("numbers/"):
            return 30, 100
        return (10, 10) if self.name.endswith("-o") else (10, 50)

    @property
    def digest(self) -> str:
        """Tells whether a file was made from these words, in this voice, in this way."""
        said = [[words, str(voice)] for words, voice in self.parts]
        made_of = [_RECIPE, self.name, said, self.edges, SPEECH_LEVEL, CEILING]
        return hashlib.sha256(json.dumps(made_of, ensure_ascii=False).encode()).hexdigest()[:16]

    def render(self) -> array[int]:
        """Make the sound."""
        if self.path == MUSIC:
            return music.waiting()
        if not self.parts:
            return audio.silence(_SILENCE_MS)
        sound = array("h")
        for words, voice in self.parts:
            rate, spoken = speech.speak(words, voice)
            levelled = audio.polish(audio.resample(spoken, rate), SPEECH_LEVEL, CEILING)
            if sound:
                sound += audio.silence(_HALVES_APART_MS)
            sound += audio.trim(levelled, *self.edges)
        return sound


def build(
    out: Path,
    *,
    only: Collection[str] | None = None,
    force: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Make the sound files in `out` that are missing or whose words have changed; all, if forced.

    only: names of clips (`enter-card`, `numbers/7`) or of single files (`fa/enter-card`); by default
    everything, and then files of clips that the catalogue has no more are removed too, if the manifest
    says that they were made here. progress: called before each file with how many are done, how many
    there are, and which comes. Returns the paths written, below `out`.
    Raises SpeechError if the speech engine is missing or fails, KeyError for an unknown name in `only`.
    """
    wanted = _wanted(catalogue(), only)
    made = _read_manifest(out)
    todo = [
        clip
        for clip in wanted
        if force or made.get(clip.key, {}).get("made_of") != clip.digest or not (out / clip.path).is_file()
    ]
    engine = speech.engine() if any(clip.parts for clip in todo) else ""
    for number, clip in enumerate(todo):
        if progress is not None:
            progress(number, len(todo), clip.key)
        sound = clip.render()
        audio.write(out / clip.path, sound)
        made[clip.key] = {
            "made_of": clip.digest,
            "engine": engine if clip.parts else "ivr-agi",
            "duration_ms": audio.duration_ms(sound),
            "level_db": round(audio.level(sound), 1) if clip.name != SILENCE else None,
        }
    if only is None:
        for key in set(made) - {clip.key for clip in wanted}:
            del made[key]
            (out / _path(*key.split("/", 1))).unlink(missing_ok=True)
    order = [clip.key for clip in _clips(catalogue())]
    _write_manifest(out, {key: made[key] for key in order if key in made})
    return [clip.path for clip in todo]


def check(folder: Path, *, installed: bool = False, codes: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with a sounds folder, a line for each; an empty list if nothing is.

    installed: it is Asterisk's folder, not one that `build` made: there is no manifest, a recording of
    another format in a prompt's place is the admin's own choice, and other files are none of ours.
    codes: folder names that differ from our language codes, as `{"fa": "pr"}`.
    """
    clips = [clip for clip in _clips(catalogue(), codes or {}) if not (installed and clip.path == MUSIC)]
    problems = []
    made = {} if installed else _read_manifest(folder)
    if not installed and not made:
        problems.append(f"{MANIFEST} is missing or no manifest: run `ivr-agi sounds build`")
    for clip in clips:
        path = folder / clip.path
        if not path.is_file():
            if not (installed and any(path.parent.glob(f"{path.stem}.*"))):
                problems.append(f"{clip.path} is missing")
            continue
        if complaint := _complaint(clip, path):
            problems.append(f"{clip.path}: {complaint}")
        if made and made.get(clip.key, {}).get("made_of") != clip.digest:
            problems.append(f"{clip.path} is out of date, its words have changed: run `ivr-agi sounds build`")
    if not installed:
        known = {clip.path for clip in clips}
        found = (path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))
        problems += [f"{path} is not in the catalogue" for path in sorted(found) if path not in known]
    return problems


def _complaint(clip: _Clip, path: Path) -> str:
    try:
        sound = audio.read(path)
    except (audio.SoundFormatError, OSError) as exception:
        return str(exception)
    if audio.duration_ms(sound) < _SHORTEST_MS:
        return "empty, or too short to be heard"
    loudest = audio.peak(sound)
    if clip.name != SILENCE and loudest < _FAINTEST:
        return "silent, or far too faint"
    if loudest < audio.FULL_SCALE:
        return ""
    run = 0
    for sample in sound:
        run = run + 1 if abs(sample) >= audio.FULL_SCALE else 0
        if run >= _CLIPPED_RUN:
            return "clipped: recorded too loud"
    return ""


def _clips(prompts: Catalogue, codes: Mapping[str, str] | None = None) -> list[_Clip]:
    """Return every file of a sounds folder, in the catalogue's order."""
    clips = []
    for language in LANGUAGES:
        for name in prompts.names(language):
            says = LANGUAGES if name == BILINGUAL else () if name == SILENCE else (language,)
            parts = tuple((prompts.words(name, each).spoken, _voice(name, each)) for each in says)
            folder = (codes or {}).get(language, language)
            clips.append(_Clip(key=f"{language}/{name}", path=_path(folder, name), parts=parts))
    return [*clips, _Clip(key="moh/waiting", path=MUSIC, parts=())]


def _voice(name: str, language: str) -> speech.Voice:
    voice = VOICES[language]
    if not name.startswith("numbers/"):
        return voice
    return replace(voice, speed=round(voice.speed * _NUMBERS_FASTER))


def _path(folder: str, name: str) -> str:
    return f"{folder}/{FOLDER}/{name}.wav"


def _wanted(prompts: Catalogue, only: Collection[str] | None) -> list[_Clip]:
    clips = _clips(prompts)
    if only is None:
        return clips
    if unknown := set(only) - {clip.key for clip in clips} - {clip.name for clip in clips}:
        raise KeyError(f"no such prompt: {', '.join(sorted(unknown))}")
    return [clip for clip in clips if clip.key in only or clip.name in only]


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest's clips; none if there is no manifest or it cannot be read as one."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    clips = found.get("clips") if isinstance(found, dict) else None
    if not isinstance(clips, dict):
        return {}
    # A key becomes a path, and a path may be deleted: only what has the form of ours counts.
    return {key: clip for key, clip in clips.items() if _KEY.fullmatch(key) and isinstance(clip, dict)}


def _write_manifest(folder: Path, made: Mapping[str, object]) -> None:
    lines = [f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in made.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text('{"clips": {\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")
