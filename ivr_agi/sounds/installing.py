"""Putting the sounds into Asterisk's own folder.

Careful by rule: nothing is ever deleted, and a file that somebody put there himself, a recording of
a real voice say, is left alone. To know its own files again, it keeps a list of their checksums
beside them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ivr_agi.prompts.catalogue import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = "ivr-agi"
LIST: Final = ".installed.json"  # hidden: Asterisk would take it for a song in the folder of the music


@dataclass(frozen=True, slots=True)
class Action:
    """What was done, or would be, with one file; `note` is advice on the music, with no file of its own."""

    verb: Literal["copy", "update", "same", "keep", "note"]
    what: str

    def __str__(self) -> str:
        return f"{self.verb:6} {self.what}"


def shipped() -> Path:
    """Return the sounds that come with the program: at the top of a checkout, inside an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_shipped" / "sounds"
    return inside if inside.is_dir() else package.parent / "sounds"


def install(
    dest: Path,
    *,
    source: Path | None = None,
    codes: Mapping[str, str] | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> list[Action]:
    """Copy the sounds (by default the shipped ones) into Asterisk's sounds folder `dest`.

    `LANG/ivr-agi` of each language goes there under the same name, the music to `music_folder(dest)`.
    codes: language folders that are called otherwise there, as `{"fa": "pr"}`. force: overwrite files that
    are not ours as well. dry_run: only tell. Raises OSError as it comes (no permission, disk full).
    """
    source = source or shipped()
    actions = []
    places = {language: dest / (codes or {}).get(language, language) / FOLDER for language in LANGUAGES}
    places["moh"] = music = music_folder(dest)
    for folder, there in places.items():
        actions += _copy_folder(source / folder / FOLDER, there, force=force, dry_run=dry_run)
    actions.append(Action("note", f"musiconhold.conf: class ivr-agi, mode=files, directory={music}"))
    return actions


def music_folder(dest: Path) -> Path:
    """Return where the music goes: Asterisk's data folder has `sounds` and `moh` side by side.

    A folder that is not called `sounds` is some other place, and nothing is written beside it.
    """
    return (dest.parent if dest.name == "sounds" else dest) / "moh" / FOLDER


def _copy_folder(here: Path, there: Path, *, force: bool, dry_run: bool) -> list[Action]:
    ours = _read_list(there)
    actions = []
    for path in sorted(here.rglob("*.wav")):
        name = path.relative_to(here).as_posix()
        sound, target = path.read_bytes(), there / name
        before = _checksum(target.read_bytes()) if target.is_file() else None
        after = _checksum(sound)
        if before == after:
            actions.append(Action("same", str(target)))
        elif before is not None and before != ours.get(name) and not force:
            actions.append(Action("keep", f"{target}: not ours, somebody's own recording"))
            continue
        else:
            actions.append(Action("copy" if before is None else "update", str(target)))
            if not dry_run:
                _put(target, sound)
        ours[name] = after
    if not dry_run and actions:
        _put(there / LIST, (json.dumps(ours, indent=0, sort_keys=True) + "\n").encode())
    return actions


def _put(target: Path, content: bytes) -> None:
    """Write whole or not at all: Asterisk may be playing the old file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.new")
    unfinished.write_bytes(content)
    unfinished.chmod(0o644)
    unfinished.replace(target)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_list(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(checksum) for name, checksum in found.items()} if isinstance(found, dict) else {}
