"""Who says what: the voices of `voices.toml`, or of a file of the user's own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.prompts.catalogue import LANGUAGES
from ivr_agi.sounds.engines.espeak import Espeak
from ivr_agi.sounds.engines.kokoro import Kokoro
from ivr_agi.sounds.engines.piper import Piper
from ivr_agi.sounds.engines.recordings import Recordings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ivr_agi.sounds.engines import Engine

# engine -> its class, and the settings that an entry of the file may have: name -> type
ENGINES: Final[dict[str, tuple[type, dict[str, type]]]] = {
    "espeak-ng": (Espeak, {"voice": str, "speed": int, "pitch": int, "gap": int}),
    "piper": (Piper, {"model": str, "checksum": str, "speaker": int, "pace": float}),
    "kokoro": (Kokoro, {"model": str, "voice": str, "accent": str, "pace": float, "checksum": str}),
    "recordings": (Recordings, {"folder": Path}),
}


class VoicesError(ValueError):
    """A file of voices is wrong; the message names the place."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One entry: an engine, the clips that it speaks, and how its sound is treated.

    presence: dB (audio.telephone).
    """

    engine: Engine
    clips: str = "*"
    presence: float = 0.0


@dataclass(frozen=True, slots=True)
class Voices:
    """The voices of each language, the one to be tried first in front. own: not those that are shipped."""

    entries: dict[str, tuple[Voice, ...]]
    own: bool = False

    def of(self, language: str, name: str) -> Iterator[Voice]:
        """Give the voices that can speak a clip, the best first."""
        for voice in self.entries[language]:
            if fnmatchcase(name, voice.clips) and voice.engine.can_say(language, name):
                yield voice

    def preferring(self, language: str, voice: Voice) -> Voices:
        """Return these voices with one more in front."""
        entries = self.entries | {language: (voice, *self.entries[language])}
        return replace(self, entries=entries, own=True)

    def only(self, engine: str) -> Voices:
        """Return of these voices those of one engine; VoicesError if a language is left without."""
        if engine not in ENGINES:
            raise VoicesError(f"{engine!r} is no engine; there are {', '.join(ENGINES)}")
        kind = ENGINES[engine][0]
        left = {
            language: tuple(voice for voice in entries if isinstance(voice.engine, kind))
            for language, entries in self.entries.items()
        }
        if missing := [language for language, entries in left.items() if not entries]:
            raise VoicesError(f"no voice of {engine} for {' and '.join(missing)}")
        return replace(self, entries=left, own=True)

    def recorded(self, folder: Path) -> Voices:
        """Return these voices behind the recordings of a folder, which count wherever there is one."""
        found, recordings = self, Voice(Recordings(folder))
        for language in LANGUAGES:
            found = found.preferring(language, recordings)
        return found

    def strangers(self, known: set[str]) -> list[Path]:
        """Return the recordings that are named after no clip; known: `fa/enter-card` and so on."""
        found = {
            path
            for entries in self.entries.values()
            for voice in entries
            if isinstance(voice.engine, Recordings)
            for key, path in voice.engine.files.items()
            if key not in known
        }
        return sorted(found)


def shipped() -> Voices:
    """Return the voices of the sounds that come with the program."""
    text = resources.files(__package__).joinpath("voices.toml").read_text(encoding="utf-8")
    return parse(text, Path())


def read(path: Path) -> Voices:
    """Return the voices of a file of the user's own; OSError, VoicesError."""
    return replace(parse(path.read_text(encoding="utf-8"), path.parent), own=True)


def parse(text: str, folder: Path) -> Voices:
    """Read and check voices; paths in them are relative to `folder`. Raises VoicesError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise VoicesError(f"no TOML: {error}") from error
    if set(tables) != set(LANGUAGES) or not all(isinstance(entries, list) for entries in tables.values()):
        raise VoicesError(f"has to have [[{']] and [['.join(LANGUAGES)}]], and nothing else")
    return Voices(
        {
            language: tuple(
                _voice(f"[[{language}]] number {place}", fields, folder)
                for place, fields in enumerate(entries, 1)
            )
            for language, entries in tables.items()
        }
    )


def _voice(where: str, fields: dict[str, Any], folder: Path) -> Voice:
    name = fields.get("engine")
    if not isinstance(name, str) or name not in ENGINES:
        raise VoicesError(f"{where}: engine is {name!r}; it is one of {', '.join(ENGINES)}")
    kind, settings = ENGINES[name]
    general = {"engine": str, "clips": str, "presence": float}
    taken: dict[str, Any] = {}
    for field, value in fields.items():
        wanted = (general | settings).get(field)
        if wanted is None:
            raise VoicesError(f"{where}: {field!r} is no setting of {name}")
        taken[field] = _value(f"{where}: {field}", value, wanted, folder)
    own = {field: value for field, value in taken.items() if field in settings}
    try:
        engine = kind(**own)
    except TypeError:
        raise VoicesError(f"{where}: {name} needs {', '.join(settings)}") from None
    return Voice(engine, taken.get("clips", "*"), taken.get("presence", 0.0))


def _value(where: str, value: object, wanted: type, folder: Path) -> object:
    if wanted is Path and isinstance(value, str):
        return folder / value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise VoicesError(f"{where} is {value!r}, not of type {wanted.__name__}")
    if wanted is str and str(value).endswith((".onnx", ".bin")):
        return str(folder / str(value))
    return value
