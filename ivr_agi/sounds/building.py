"""Making the sound files: each clip spoken by its voice, brought to one level, trimmed, and written.

Only what has changed is made anew: the words, the voice, the treatment. Nothing is deleted or
overwritten that this program did not make, but for the file of the very name that is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds import audio, formats, installing, loudness, manifest, music, voices
from ivr_agi.sounds.clips import FOLDER, HALVES_APART_MS, MUSIC, chosen, clips
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.recordings import Recordings
from ivr_agi.sounds.manifest import Made, Manifest, checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from ivr_agi.sounds.audio import Sound
    from ivr_agi.sounds.clips import Clip
    from ivr_agi.sounds.voices import Voice, Voices

LEVEL: Final = -19.5  # LUFS
CEILING: Final = -3.0  # dB; no peak goes above it
SILENCE_MS: Final = 200

_RECIPE: Final = 2  # to be raised when the treatment of the sound changes: everything is then built anew


@dataclass(slots=True)
class Built:
    """What a build has done. written: paths below the folder. notes: what a person should know."""

    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A clip and who speaks it: one voice for each language that it is said in."""

    clip: Clip
    by: tuple[Voice, ...]
    recorded: dict[str, str]

    @property
    def voice(self) -> str:
        """Checksum of all that its sound depends on, but for the version of an engine."""
        prints = [
            [voice.engine.fingerprint(language, self.clip.name), voice.engine.words(words), voice.presence]
            for (language, words), voice in zip(self.clip.parts, self.by, strict=True)
        ]
        return checksum([_RECIPE, self.clip.name, prints, self.clip.edges, LEVEL, CEILING])

    def engine(self) -> str:
        return " and ".join(dict.fromkeys(voice.engine.version() for voice in self.by)) or "ivr-agi"


def build(  # noqa: PLR0913 - a build has these choices
    out: Path,
    *,
    only: Collection[str] | None = None,
    force: bool = False,
    by: Voices | None = None,
    forms: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Built:
    """Make the sound files in `out` that are missing or out of date; all, if forced.

    What the shipped sounds have just so is copied from them, if it is not forced.

    only: names of clips (`enter-card`, `numbers/7`) or of single ones (`fa/enter-card`); by default
    everything, and then files of clips that the catalogue has no more are removed too, if the manifest
    says that they were made here. by: the shipped voices by default. forms: beside .wav; those that the
    folder has by default. progress: called before each clip with how many are done, how many there are, and
    which comes.
    Raises SpeechError if an engine is missing or fails, KeyError for an unknown name in `only`.
    """
    by = by or voices.shipped()
    found = manifest.read(out)
    wanted = found.forms if forms is None else tuple(dict.fromkeys(("wav", *forms)))
    built = Built()
    plans = [_plan(clip, by, found.clips.get(clip.key), built) for clip in chosen(only)]
    todo = [plan for plan in plans if force or not _is_made(plan, out, found, wanted)]
    kept = [] if force else [plan for plan in todo if _is_a_recording(plan, found)]
    if kept:
        todo = [plan for plan in todo if plan not in kept]
        built.notes.append(
            f"{len(kept)} recordings stay as they are, {kept[0].clip.key} first: name their folder with "
            "--recordings to make them anew, or have them spoken with --force"
        )
    if not found.clips and (out / manifest.NAME).exists():
        built.notes.append(f"{manifest.NAME} could not be read: recordings are taken to have today's words")
    source = installing.shipped()
    ready = Manifest() if force else manifest.read(source)
    # A missing engine is told before any work; for what is shipped just so, none is needed.
    engines = {plan.clip.key: plan.engine() for plan in todo if not _is_made(plan, source, ready, wanted)}
    found.own = by.own or bool(kept) or (only is not None and found.own)
    for number, plan in enumerate(todo):
        if progress is not None:
            progress(number, len(todo), plan.clip.key)
        if plan.clip.key in engines:
            found.clips[plan.clip.key] = _make(plan, out, wanted, engines[plan.clip.key])
        else:
            found.clips[plan.clip.key] = _copy(plan, out, wanted, source, ready)
        built.written += [plan.clip.path(form) for form in wanted]
        _remember(out, found, wanted)  # what is done is done, whatever becomes of the next one
    _remove_old(out, found, wanted, every=only is None)
    _remember(out, found, wanted)
    known = {clip.key for clip in clips() if clip.parts}
    built.notes += [f"{path}: none of what is spoken has that name" for path in by.strangers(known)]
    return built


def _remember(out: Path, found: Manifest, forms: tuple[str, ...]) -> None:
    order = dict.fromkeys([*(clip.key for clip in clips() if clip.key in found.clips), *found.clips])
    manifest.write(out, Manifest(forms, found.own, {key: found.clips[key] for key in order}))


def planned(clip: Clip) -> _Plan:
    """Return how the shipped voices would speak a clip."""
    return _plan(clip, voices.shipped(), None, Built())


def _plan(clip: Clip, by: Voices, made: Made | None, built: Built) -> _Plan:
    """Choose who speaks each part; one recorded with other words is passed over, and said so."""
    recorded = dict(made.recorded) if made else {}
    speakers = []
    for language, words in clip.parts:
        for voice in by.of(language, clip.name):
            if not isinstance(voice.engine, Recordings):
                break
            which = checksum(voice.engine.fingerprint(language, clip.name))
            now = checksum(words.shown)
            if recorded.setdefault(which, now) == now:
                break
            built.notes.append(f"{clip.key}: recorded with other words than there are now; record it anew")
        else:
            raise SpeechError(f"{clip.key}: none of the voices in {language} can say it")
        speakers.append(voice)
    return _Plan(clip, tuple(speakers), recorded)


def _is_made(plan: _Plan, out: Path, found: Manifest, wanted: Sequence[str]) -> bool:
    made = found.clips.get(plan.clip.key)
    return (
        made is not None
        and (made.text, made.voice) == (plan.clip.text, plan.voice)
        and all(form in made.files and (out / plan.clip.path(form)).is_file() for form in wanted)
    )


def _is_a_recording(plan: _Plan, found: Manifest) -> bool:
    """Tell whether somebody's voice says just these words, and is not at hand now: it is not to be lost."""
    made = found.clips.get(plan.clip.key)
    at_hand = any(isinstance(voice.engine, Recordings) for voice in plan.by)
    return made is not None and "recording" in made.engine and made.text == plan.clip.text and not at_hand


def _make(plan: _Plan, out: Path, forms: Sequence[str], engine: str) -> Made:
    sounds = {rate: _render(plan, rate) for rate in sorted({formats.FORMATS[form] for form in forms})}
    files = {}
    for form in forms:
        formats.write(out / plan.clip.path(form), form, sounds[formats.FORMATS[form]])
        files[form] = checksum((out / plan.clip.path(form)).read_bytes())
    sound = sounds[audio.RATE]
    level = round(loudness.lufs(sound), 1) if sound.peak else None
    return Made(plan.clip.text, plan.voice, engine, sound.duration_ms, level, files, plan.recorded)


def _copy(plan: _Plan, out: Path, forms: Sequence[str], source: Path, ready: Manifest) -> Made:
    for form in forms:
        formats.put(out / plan.clip.path(form), (source / plan.clip.path(form)).read_bytes())
    made = ready.clips[plan.clip.key]
    return replace(made, files={form: made.files[form] for form in forms}, recorded=plan.recorded)


def _render(plan: _Plan, rate: int) -> Sound:
    clip = plan.clip
    if clip.key == MUSIC:
        return audio.resample(music.waiting(), rate)
    parts: list[Sound] = []
    for (language, words), voice in zip(clip.parts, plan.by, strict=True):
        spoken = audio.resample(voice.engine.speak(language, clip.name, words), rate)
        levelled = audio.telephone(spoken, LEVEL, CEILING, voice.presence)
        parts += [audio.silence(HALVES_APART_MS, rate)] if parts else []
        parts.append(audio.trim(levelled, *clip.edges))
    return audio.join(*parts) if parts else audio.silence(SILENCE_MS, rate)


def _remove_old(out: Path, found: Manifest, forms: Sequence[str], *, every: bool) -> None:
    """Remove what was made here in forms, and with `every` for clips, that there are no more."""
    known = {clip.key for clip in clips()}
    for key, made in list(found.clips.items()):
        if key not in known and not every:
            continue
        kept = {form: sum_ for form, sum_ in made.files.items() if key in known and form in forms}
        folder, name = key.split("/", 1)
        for form in (set(made.files) - set(kept)) & set(formats.FORMATS):
            path = out / folder / FOLDER / f"{name}.{form}"
            if path.is_file() and checksum(path.read_bytes()) == made.files[form]:  # still what was made here
                path.unlink()
        found.clips[key] = replace(made, files=kept)
        if not kept:
            del found.clips[key]
