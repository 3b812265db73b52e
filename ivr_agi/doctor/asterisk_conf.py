r"""Asterisk's `.conf` files, read as Asterisk reads them, each value with the file and line it stands in.

Sections, templates `(!)`, inheritance `(a,b)`, additions `(+)`, `=`, `=>` and `+=`, comments `;` and
`;-- … --;`, `\;`, `#include` and `#tryinclude` with patterns. `#exec` is noted and never run. A missing
file reads as an empty one; what Asterisk itself would stumble over is kept in `Conf.problems`.

Source: main/config.c, and what Asterisk 22.10.1 made of the cases in tests/test_asterisk_conf.py.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ETC: Final = "etc/asterisk"
TRUE: Final = frozenset({"yes", "true", "y", "t", "1", "on"})  # ast_true()

FALSE: Final = frozenset({"no", "false", "n", "f", "0", "off"})  # ast_false()

_DEEPEST: Final = 10  # Asterisk's own limit of files that include each other
_MOST_LINKS: Final = 40
_HEADER: Final = re.compile(r"\[(?P<name>[^\]]*)\](?:\((?P<options>[^)]*)\))?")
_DIRECTIVE: Final = re.compile(r"#(?P<word>\S+)\s*(?P<argument>.*)")


@dataclass(frozen=True, slots=True)
class Value:
    """One line `name = value`."""

    name: str
    value: str
    where: str  # file:line

    @property
    def true(self) -> bool:
        """Whether Asterisk takes it for a yes."""
        return self.value.casefold() in TRUE


@dataclass(slots=True)
class Section:
    """One `[name]` with its lines, inherited ones first, as Asterisk applies them."""

    name: str
    where: str
    template: bool = False
    values: list[Value] = field(default_factory=list)

    def last(self, name: str) -> Value | None:
        """The value that counts where a name is given several times."""
        return next((v for v in reversed(self.values) if v.name.casefold() == name.casefold()), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that Asterisk would not read, or that cannot be read here."""

    what: str
    where: str
    fatal: bool  # Asterisk refuses the whole file


@dataclass(slots=True)
class Conf:
    """One configuration file with all that it includes."""

    path: Path
    files: list[Path] = field(default_factory=list)  # those that were there
    sections: list[Section] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def named(self, name: str) -> list[Section]:
        """The sections of a name that are no templates."""
        return [s for s in self.sections if not s.template and s.name.casefold() == name.casefold()]

    def values(self, section: str) -> Iterator[Value]:
        """The lines of all sections of a name, in order."""
        for found in self.named(section):
            yield from found.values

    def last(self, section: str, name: str) -> Value | None:
        """The value that counts for a name in a section; None if it is not given."""
        given = [v for v in self.values(section) if v.name.casefold() == name.casefold()]
        return given[-1] if given else None


class Tree:
    """The files of one Asterisk: this machine's, or those below another root (a chroot, a volume)."""

    def __init__(self, folder: Path) -> None:
        """Take an `/etc/asterisk`, or a root that contains one. Raises OSError: none, or not to be seen."""
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links out of the root
        if (folder / ETC).is_dir():
            self.root, self.etc = folder, folder / ETC
        elif folder.is_dir() and any(folder.glob("*.conf")):
            self.etc = folder
            self.root = folder.parents[1] if folder.as_posix().endswith(f"/{ETC}") else Path("/")
        else:
            raise FileNotFoundError(folder)

    def inside(self, path: str) -> Path:
        """Where an absolute path of that Asterisk's is here."""
        if path.startswith(f"/{ETC}/"):
            return self.etc / path.removeprefix(f"/{ETC}/")
        return self.root / path.lstrip("/")

    def followed(self, path: Path) -> Path:
        """Follow a path's links within the root: to a chroot, an absolute link means its own root."""
        if self.root == Path("/"):
            return path
        done, todo = self.root, list(path.relative_to(self.root).parts)
        for _ in range(_MOST_LINKS * 10):
            if not todo:
                break
            done = Path(os.path.normpath(done / todo.pop(0)))
            if not done.is_relative_to(self.root):
                done = self.root
            if done.is_symlink():
                aim = done.readlink()
                parts = aim.parts[1:] if aim.is_absolute() else aim.parts
                done, todo = (self.root if aim.is_absolute() else done.parent), [*parts, *todo]
        return done.joinpath(*todo)

    def read(self, name: str) -> Conf:
        """Read a file of `/etc/asterisk` with all that it includes; a missing one is empty.

        Raises OSError for one that is there and may not be read.
        """
        conf = Conf(self.etc / name)
        _Reader(self, conf).read(self.etc / name, None, 1)
        return conf


class _Reader:
    """Fills a Conf from the file and what it includes."""

    def __init__(self, tree: Tree, conf: Conf) -> None:
        self._tree = tree
        self._conf = conf

    def read(self, path: Path, section: Section | None, level: int) -> bool:
        """Read one file; section: the one that its first lines belong to. False if there is none."""
        try:
            text = self._tree.followed(path).read_text(encoding="utf-8-sig", errors="replace")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return False
        self._conf.files.append(path)
        depth = 0
        for number, line in enumerate(text.split("\n"), 1):
            kept, depth = _without_comments(line, depth)
            kept = kept.strip()
            where = f"{path}:{number}"
            if kept.startswith("["):
                section = self._header(kept, where, section)
            elif kept.startswith("#"):
                self._directive(kept, where, section, level)
            elif kept and section is None:
                self._problem("a line before the first section", where, fatal=True)
            elif kept and section is not None:
                _assign(section, kept, where)
        return True

    def _header(self, line: str, where: str, before: Section | None) -> Section | None:
        found = _HEADER.match(line)
        if not found:
            self._problem("a section's name without its closing bracket", where, fatal=True)
            return before
        section = Section(found["name"], where)
        for option in filter(None, (part.strip() for part in (found["options"] or "").split(","))):
            if option == "!":
                section.template = True
            elif option.startswith("+"):
                if (added_to := self._known(section.name)) is None:
                    self._problem(
                        f"[{section.name}](+): there is no [{section.name}] above", where, fatal=True
                    )
                else:
                    return added_to
            elif (parent := self._known(option)) is None:
                self._problem(f"[{section.name}]({option}): there is no [{option}] above", where, fatal=True)
            else:
                section.values += parent.values
        self._conf.sections.append(section)
        return section

    def _known(self, name: str) -> Section | None:
        return next((s for s in self._conf.sections if s.name.casefold() == name.casefold()), None)

    def _directive(self, line: str, where: str, section: Section | None, level: int) -> None:
        found = _DIRECTIVE.match(line)
        word = found["word"].casefold() if found else ""
        target = _unquoted(found["argument"].strip()) if found else ""
        if word == "exec":
            self._problem("#exec: what that program writes is not seen by this check", where, fatal=False)
        elif word not in ("include", "tryinclude"):
            self._problem(f"unknown directive #{word}", where, fatal=False)
        elif level >= _DEEPEST:
            self._problem("files include each other too deeply", where, fatal=True)
        elif not self._include(target, section, level) and word == "include":
            self._problem(f"#include {target}: there is no such file", where, fatal=True)

    def _include(self, target: str, section: Section | None, level: int) -> bool:
        # Asterisk takes a relative name from its configuration folder, wherever the line stands.
        if not target:
            return False
        full = self._tree.inside(target) if target.startswith("/") else self._tree.etc / target
        paths = [full]
        if glob.has_magic(target):
            paths = [Path(name) for name in sorted(glob.glob(str(full)))]  # noqa: PTH207 - the pattern has folders
        return any([self.read(path, section, level + 1) for path in paths])  # noqa: C419 - all are to be read

    def _problem(self, what: str, where: str, *, fatal: bool) -> None:
        self._conf.problems.append(Problem(what, where, fatal))


def _without_comments(line: str, depth: int) -> tuple[str, int]:
    """What remains of a line; depth: how many `;--` are open before it, and after it."""
    kept, start, at = [], 0, 0
    while (found := line.find(";", at)) >= 0:
        if found > at and line[found - 1] == "\\":
            line = line[: found - 1] + line[found:]
            at = found
        elif line.startswith("--", found + 1) and not line.startswith("-", found + 3):
            if not depth:
                kept.append(line[start:found])
            depth, at = depth + 1, found + 3
        elif depth and found >= at + 2 and line[found - 2 : found] == "--":
            depth, at = depth - 1, found + 1
            start = at
        elif depth:
            at = found + 1
        else:
            return "".join((*kept, line[start:found])), 0
    if not depth:
        kept.append(line[start:])
    return "".join(kept), depth


def _assign(section: Section, line: str, where: str) -> None:
    name, equals, value = line.removeprefix("\\").partition("=")
    if not equals:
        return  # Asterisk says so in its log, and goes on
    if name.endswith("+"):
        name = name[:-1].strip()
        earlier = section.last(name)
        section.values.append(Value(name, ((earlier.value if earlier else "") + value).strip(), where))
        if earlier:
            section.values = [v for v in section.values if v is not earlier]
        return
    section.values.append(Value(name.strip(), value.removeprefix(">").strip(), where))


def _unquoted(argument: str) -> str:
    if argument.startswith('"'):
        return argument[1:].partition('"')[0]
    if argument.startswith("<"):
        return argument[1:].partition(">")[0]
    return argument
