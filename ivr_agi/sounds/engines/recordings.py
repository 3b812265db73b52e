"""People's voices: a folder of WAV files, of whatever rate and form, one for each clip.

A file is named as the sheet for the speaker (docs/script.md) names the clip: `fa/enter-card.wav`,
`fa/numbers/20-o.wav`; capital letters and `_` for `-` do not matter. What has no file is left to the
next voice.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds import wavfile
from ivr_agi.sounds.audio import SoundFormatError
from ivr_agi.sounds.engines import SpeechError

if TYPE_CHECKING:
    from pathlib import Path

    from ivr_agi.prompts.catalogue import Words
    from ivr_agi.sounds.audio import Sound


# What a studio may deliver; a form that cannot be read is an error by name, and not passed over.
_AUDIO: Final = frozenset(
    {
        ".wav",
        ".wave",
        ".mp3",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".aif",
        ".aiff",
        ".m4a",
        ".mp4",
        ".aac",
        ".wma",
    }
)


class Recordings:
    """folder: with a folder for each language in it. files: `fa/enter-card` and so on -> the recording."""

    def __init__(self, folder: Path) -> None:
        """Look what there is. Raises SpeechError for no such folder, or two files for one clip."""
        self.folder = folder
        self.files = _files(folder)

    def can_say(self, language: str, name: str) -> bool:
        """Tell whether there is a recording of it."""
        return f"{language}/{name}" in self.files

    def words(self, said: Words) -> str:
        """Go by the words as written: they are what the speaker had before him."""
        return said.shown

    def fingerprint(self, language: str, name: str) -> str:
        """Depend on the file's content, whatever its place."""
        content = self.files[f"{language}/{name}"].read_bytes()
        return f"recording {hashlib.sha256(content).hexdigest()[:16]}"

    def version(self) -> str:
        """Return `recording`."""
        return "recording"

    def speak(self, language: str, name: str, _said: Words) -> Sound:
        """Return the recording."""
        path = self.files[f"{language}/{name}"]
        try:
            return wavfile.read_any(path)
        except (SoundFormatError, OSError) as error:
            raise SpeechError(f"{path}: {error}") from error


def _files(folder: Path) -> dict[str, Path]:
    """Two files for one clip are an error: nobody could tell which of them callers are to hear."""
    if not folder.is_dir():
        raise SpeechError(f"{folder}: no such folder of recordings")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _AUDIO or not path.is_file():
            continue
        key = path.relative_to(folder).with_suffix("").as_posix().lower().replace("_", "-").replace(" ", "-")
        if key in found:
            raise SpeechError(f"{found[key]} and {path} are both for {key}: keep one of them")
        found[key] = path
    _tell_apart(found)
    return found


def _tell_apart(found: dict[str, Path]) -> None:
    """One take under two names is a slip that nobody else could find: "paid" for "unknown", perhaps."""
    takes: dict[bytes, Path] = {}
    for path in found.values():
        take = hashlib.sha256(path.read_bytes()).digest()
        if take in takes:
            raise SpeechError(f"{takes[take]} and {path} are the same recording: one of them has other words")
        takes[take] = path
