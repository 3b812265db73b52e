"""Build the recorder (recorder.c), run a program under it, and read its record.

The record is one list: what was done to the files of a folder, by whichever thread, and between it the
marks that the program set. Nothing here judges it, and a record with anything in it that disk.py does
not model is refused there, never passed over.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

HERE = Path(__file__).parent
HEAD = struct.Struct("<cQqII")  # kind, inode, offset or size, length of the name, of the body


class Kind(Enum):
    """What an event is; the letters are recorder.c's."""

    CREATE = b"C"
    OPEN = b"O"  # for writing, of a file that was there
    WRITE = b"W"
    TRUNCATE = b"T"
    SYNC = b"S"  # fsync or fdatasync of a file
    SYNC_FOLDER = b"D"
    UNLINK = b"U"
    MARK = b"M"
    NOT_MODELLED = b"X"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the record. offset: of a write; the new size, of a truncation."""

    kind: Kind
    inode: int
    offset: int
    name: str
    body: bytes

    def mark(self):
        """What a mark says."""
        return json.loads(self.body)


def read(record):
    """The events of a record, in order."""
    text, at = record.read_bytes(), 0
    events = []
    while at < len(text):
        kind, inode, offset, name, body = HEAD.unpack_from(text, at)
        start = at + HEAD.size
        at = start + name + body
        events.append(
            Event(Kind(kind), inode, offset, text[start : start + name].decode(), text[start + name : at])
        )
    return events


def build(compiler, folder):
    """Compile the recorder; returns the library."""
    library = folder / "recorder.so"
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
    _run([compiler, *flags, "-o", str(library), str(HERE / "recorder.c"), "-ldl", "-pthread"])
    return library


def record(library, *arguments, under=()):
    """Run payers.py with the recorder loaded. under: a command to run it by."""
    _run(
        [*under, sys.executable, str(HERE / "payers.py"), *map(str, arguments)],
        {**os.environ, "LD_PRELOAD": str(library)},
    )


def _run(command, environment=None):
    done = subprocess.run(  # noqa: PLW1510 - the exception of ours has the output
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} has failed ({done.returncode}):\n{done.stdout}")


class Recorder:
    """The recorder, from inside of the program that it is loaded into."""

    def __init__(self):
        self._library = ctypes.CDLL(None)  # raises AttributeError below if it is not loaded

    def begin(self, folder, record):
        """From now on, what is done to the files of a folder is recorded."""
        if not self._library.recorder_begin(str(folder).encode(), str(record).encode()):
            raise RuntimeError(f"the record {record} cannot be made")

    def mark(self, **words):
        """Say something, at this place of the record."""
        self._library.recorder_mark(json.dumps(words).encode())

    def end(self):
        """The record is whole."""
        self._library.recorder_end()
