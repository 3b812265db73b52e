"""`manifest.json` of a sounds folder: from which words, by which voice, each file was made.

By it a build knows what has changed, and a check which file is out of date, or another one than was made.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.sounds import formats
from ivr_agi.sounds.formats import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "manifest.json"
_KEY: Final = re.compile(r"[a-z]+/[a-z0-9-]+(?:/[a-z0-9-]+)?")


@dataclass(frozen=True, slots=True)
class Made:
    """How one clip was made.

    text: checksum of its words as written. voice: checksum of all else that its sound depends on, the
    way the words are spelt out for a machine among it. engine: its name and version, for people.
    level: LUFS, None for silence. files: form -> checksum of the file.
    recorded: checksum of a person's recording -> checksum of the words that it was first used for.
    """

    text: str
    voice: str
    engine: str
    duration_ms: int
    level: float | None
    files: dict[str, str]
    recorded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, found: dict[str, Any]) -> Made:
        """Raises TypeError, KeyError or AttributeError for what is none."""
        level = found["level"]
        return cls(
            text=str(found["text"]),
            voice=str(found["voice"]),
            engine=str(found["engine"]),
            duration_ms=int(found["duration_ms"]),
            level=None if level is None else float(level),
            files={str(form): str(checksum) for form, checksum in found["files"].items()},
            recorded={str(who): str(words) for who, words in found.get("recorded", {}).items()},
        )

    def line(self) -> str:
        """The entry as one line of the file."""
        fields = asdict(self)
        if not self.recorded:
            del fields["recorded"]
        return json.dumps(fields)


@dataclass(slots=True)
class Manifest:
    """forms: those that each clip is there in. own: made with other voices than the shipped ones."""

    forms: tuple[str, ...] = ("wav",)
    own: bool = False
    clips: dict[str, Made] = field(default_factory=dict)


def checksum(content: object) -> str:
    """Return sixteen hex digits: of bytes as they are, of anything else as JSON."""
    if not isinstance(content, bytes):
        content = json.dumps(content, ensure_ascii=False).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def read(folder: Path) -> Manifest:
    """Return a folder's manifest; one without any clip if there is none or it cannot be read as one."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        forms = tuple(form for form in FORMATS if form in found["forms"])
        # A key becomes a path, and a path may be deleted: only what has the form of ours counts.
        clips = {key: Made.read(clip) for key, clip in found["clips"].items() if _KEY.fullmatch(key)}
        return Manifest(forms or ("wav",), bool(found["own"]), clips)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Manifest()


def write(folder: Path, manifest: Manifest) -> None:
    """Write it, a line for each clip."""
    lines = ",\n".join(f"  {json.dumps(key)}: {made.line()}" for key, made in manifest.clips.items())
    head = f'"forms": {json.dumps(manifest.forms)},\n"own": {json.dumps(manifest.own)},\n'
    formats.put(folder / NAME, f'{{{head}"clips": {{\n{lines}\n}}}}\n'.encode())
