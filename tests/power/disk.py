"""A disk that promises no more than POSIX: what may be on it after the power has gone.

What was written reaches the disk when its file is fsynced, and a name appears or vanishes when its folder
is. Before that each 512-byte sector may be there in any of the versions that it has had since,
each file may have any of the sizes, and each name may have been made or removed or not, whatever the
others did. A sector that a file has grown by and that was never written holds zeros, or anything.
"""

import random

from recording import Kind

SECTOR = 512
PAGE = 4096


def dice(*seed):
    """Dice that fall the same again for the same words."""
    return random.Random("/".join(map(str, seed)))  # noqa: S311 - to be had again, not to be secret


class NotModelledError(Exception):
    """The record has something that this disk does not know: no verdict may be built on it."""


class File:
    """A file's content. versions: the durable one, then one for each change since."""

    def __init__(self, content=b""):
        self.versions = [content]
        self._touched = {}  # sector -> the first version in which it differs from the durable one

    def write(self, offset, body):
        old = self.versions[-1].ljust(offset, b"\0")
        self._change(old[:offset] + body + old[offset + len(body) :], offset, offset + len(body))

    def truncate(self, size):
        old = self.versions[-1]
        self._change(old[:size].ljust(size, b"\0"), min(size, len(old)), max(size, len(old)))

    def sync(self):
        self.versions = self.versions[-1:]
        self._touched = {}

    def _change(self, new, start, end):
        for sector in range(start // SECTOR, -(-end // SECTOR)):
            self._touched.setdefault(sector, len(self.versions))
        self.versions.append(new)

    def some(self, rng, *, unit, garbage):
        """A content that the disk may have. unit: what it writes at once; garbage: in what was never written."""
        durable, size = self.versions[0], len(rng.choice(self.versions))
        content = bytearray(durable.ljust(size, b"\0"))
        written = {}  # unit -> the version that the disk has of it
        for sector, first in self._touched.items():
            start = sector * SECTOR
            if start // unit not in written:
                written[start // unit] = rng.randrange(len(self.versions))
            version = written[start // unit]
            if start < size:
                never = garbage and version < first and start >= len(durable)
                found = rng.randbytes(SECTOR) if never else self.versions[version][start : start + SECTOR]
                content[start : start + SECTOR] = found.ljust(SECTOR, b"\0")
        return bytes(content[:size])


class Disk:
    """One folder on a disk, as a record goes on. files: what is on it, durably, when the record begins."""

    STATES = ("nothing", "everything", "names", "contents")

    def __init__(self, files=None):
        # For each name: what it durably stands for, then what it stood for after each change since.
        self._names = {name: [File(content)] for name, content in (files or {}).items()}
        self._inodes = {}

    def apply(self, event):
        """Go on by one event."""
        match event.kind:
            case Kind.CREATE:
                self._inodes[event.inode] = File()
                self._names.setdefault(event.name, [None]).append(self._inodes[event.inode])
            case Kind.OPEN:
                self._inodes[event.inode] = self._standing(event.name)
            case Kind.WRITE:
                self._inodes[event.inode].write(event.offset, event.body)
            case Kind.TRUNCATE:
                self._inodes[event.inode].truncate(event.offset)
            case Kind.SYNC:
                self._inodes[event.inode].sync()
            case Kind.UNLINK:
                self._standing(event.name)
                self._names[event.name].append(None)
            case Kind.SYNC_FOLDER:
                self._names = {name: found[-1:] for name, found in self._names.items() if found[-1]}
            case Kind.NOT_MODELLED:
                raise NotModelledError(event.name)

    def _standing(self, name):
        file = self._names.get(name, [None])[-1]
        if file is None:
            raise NotModelledError(f"{name} was there, but nobody has made it")
        return file

    def state(self, kind, rng):
        """Files that may be found when the power is back: one of STATES, or any other word for a random one."""
        names = {"nothing": 0, "contents": 0, "everything": -1, "names": -1}.get(kind)
        contents = {"nothing": 0, "names": 0, "everything": -1, "contents": -1}.get(kind)
        unit, garbage = rng.choice((SECTOR, PAGE)), rng.random() < 0.5
        found = {}
        for name, standing in self._names.items():
            file = rng.choice(standing) if names is None else standing[names]
            if file:
                found[name] = (
                    file.some(rng, unit=unit, garbage=garbage)
                    if contents is None
                    else file.versions[contents]
                )
        return found
