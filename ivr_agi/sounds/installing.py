"""Putting the sounds into Asterisk's own folder.

Careful by rule: a file that somebody put there himself, a recording of a real voice say, is left
alone, and nothing is deleted but a file of our own in a form that the set has no more. To know its own
files again, it keeps a list of their checksums beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ivr_agi.prompts.catalogue import LANGUAGES
from ivr_agi.sounds import formats
from ivr_agi.sounds.clips import FOLDER, clips
from ivr_agi.sounds.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE: Final = r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{2,8})*"
LIST: Final = ".installed.json"  # hidden: Asterisk would take it for a song in the folder of the music


@dataclass(frozen=True, slots=True)
class Action:
    """What was done, or would be, with one file; `note` is advice on the music, with no file of its own."""

    verb: Literal["copy", "replace", "remove", "same", "keep", "note"]
    what: str

    def __str__(self) -> str:
        return f"{self.verb:7} {self.what}"


def shipped() -> Path:
    """Return the sounds that come with the program: at the top of a checkout, inside an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_shipped" / "sounds"
    return inside if inside.is_dir() else package.parent / "sounds"


def install(  # noqa: PLR0913 - each a choice of its own
    dest: Path,
    *,
    source: Path | None = None,
    codes: Mapping[str, str] | None = None,
    owner: tuple[int, int] | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> list[Action]:
    """Copy the sounds (by default the shipped ones) into Asterisk's sounds folder `dest`.

    `LANG/ivr-agi` of each language goes there under the same name, the music to `music_folder(dest)`.
    codes: language folders that are called otherwise there, as `{"fa": "pr"}`. owner: user and group that all
    of it is to belong to; by default, if we are root, those of `dest`. Files are made 0644, folders 0755.
    force: overwrite files that are not ours as well. dry_run: only tell.
    A folder in there that is a link is followed; a file that is one is replaced by ours.
    Raises OSError as it comes (no permission, disk full), ValueError for a source that is not whole, and for
    a code that is no language's name, or another language's.
    """
    put = _Put(owner or _owner(dest))
    source = source or shipped()
    _check_codes(codes or {})
    _check_whole(source)
    actions = []
    places = {language: dest / (codes or {}).get(language, language) / FOLDER for language in LANGUAGES}
    places["moh"] = music = music_folder(dest)
    for folder, there in places.items():
        actions += _copy_folder(source / folder / FOLDER, there, force=force, put=None if dry_run else put)
    actions.append(Action("note", f"musiconhold.conf: class ivr-agi, mode=files, directory={music}"))
    return actions


def music_folder(dest: Path) -> Path:
    """Return where the music goes: Asterisk's data folder has `sounds` and `moh` side by side.

    A folder that is not called `sounds` is some other place, and nothing is written beside it.
    """
    return (dest.parent if dest.name == "sounds" else dest) / "moh" / FOLDER


def _copy_folder(here: Path, there: Path, *, force: bool, put: _Put | None) -> list[Action]:
    ours = _read_list(there)
    actions = []
    for path in sorted(path for form in FORMATS for path in here.rglob(f"*.{form}")):
        name = path.relative_to(here).as_posix()
        sound, target = path.read_bytes(), there / name
        before = _checksum(target.read_bytes()) if target.is_file() else None
        after = _checksum(sound)
        if before == after:
            actions.append(Action("same", str(target)))
            if put:
                put.give(target)
        elif before is not None and before != ours.get(name) and not force:
            actions.append(Action("keep", f"{target}: not ours, somebody's own recording"))
            continue
        else:
            actions.append(Action("copy" if before is None else "replace", str(target)))
            if put:
                put.file(target, sound)
        ours[name] = after
    actions += _remove_other_forms(here, there, ours, put)
    if put and actions:
        put.file(there / LIST, (json.dumps(ours, indent=0, sort_keys=True) + "\n").encode())
    return actions


def _remove_other_forms(here: Path, there: Path, ours: dict[str, str], put: _Put | None) -> list[Action]:
    """Remove files of our own, of a form that the set has no more: Asterisk might play their old words."""
    actions = []
    for name in sorted(ours):
        path, stem = there / name, Path(name).with_suffix("")
        if (here / name).is_file() or not any((here / f"{stem}.{form}").is_file() for form in FORMATS):
            continue
        if path.is_file() and _checksum(path.read_bytes()) == ours[name]:
            actions.append(Action("remove", f"{path}: ours, of a form that is not installed any more"))
            if put:
                path.unlink()
        del ours[name]
    return actions


@dataclass(frozen=True, slots=True)
class _Put:
    """Writes files that Asterisk, which is somebody else, can read. owner: user and group; None: ours."""

    owner: tuple[int, int] | None

    def file(self, target: Path, content: bytes) -> None:
        """Write a file, and the folders that it lies in."""
        self._folder(target.parent)
        formats.put(target, content, self.owner)

    def give(self, target: Path) -> None:
        """Give a file that is there already to its owner."""
        if self.owner:
            os.chown(target, *self.owner, follow_symlinks=False)

    def _folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        if self.owner:
            os.chown(folder, *self.owner)


def _check_codes(codes: Mapping[str, str]) -> None:
    """Two languages in one folder would overwrite each other, and a caller hear the wrong one."""
    names = [codes.get(language, language) for language in LANGUAGES]
    if len(set(names)) != len(names):
        raise ValueError(f"{names[0]!r} cannot be the folder of two languages")
    if wrong := [name for name in names if not re.fullmatch(CODE, name)]:
        raise ValueError(f"{wrong[0]!r} is no name of a language, as fa or pr")


def _check_whole(source: Path) -> None:
    if missing := [clip.path() for clip in clips() if not (source / clip.path()).is_file()]:
        raise ValueError(
            f"{source}: {len(missing)} sounds are missing, {missing[0]} first: "
            f"run `ivr-agi sounds build --out {source}`"
        )


def _owner(dest: Path) -> tuple[int, int] | None:
    """Return whose the sounds are to be, where we can choose: those of the folder that they go into."""
    if os.geteuid() != 0:
        return None
    found = next(place for place in (dest, *dest.absolute().parents) if place.is_dir()).stat()
    return found.st_uid, found.st_gid


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_list(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(checksum) for name, checksum in found.items()} if isinstance(found, dict) else {}
