"""`ivr-agi serve`, that says on request what it holds: on SIGUSR1 it writes a line of JSON to standard output.

Before that it collects its garbage, and has malloc give back what it keeps, to tell that from a leak. It
must never change anything else: what runs is `ivr_agi.cli.main`.
"""

import asyncio
import ctypes
import gc
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

libc = ctypes.CDLL(None)
PROC = Path("/proc/self")


class Mallinfo(ctypes.Structure):
    """mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


def given_out():
    """Bytes that malloc and Python's own allocator have given out, freed memory not among them."""
    libc.mallinfo2.restype = Mallinfo
    malloc = libc.mallinfo2()
    with TemporaryFile() as told:
        errors = os.dup(2)  # which Python's allocator says it on
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(errors, 2)
            os.close(errors)
        told.seek(0)
        small = re.search(rb"bytes in allocated blocks\s*=\s*([\d,]+)", told.read())[1]
    return malloc.uordblks + malloc.hblkhd + int(small.replace(b",", b""))


def sqlite_holds():
    """Bytes that SQLite has of these: pages of the journal, as many as it may keep."""
    used = ctypes.CDLL(sys.modules["_sqlite3"].__file__).sqlite3_memory_used
    used.restype = ctypes.c_int64
    return used()


def threads():
    """Python's by name, without their numbers; and those that Python does not know."""
    known = Counter(re.split(r"[_-]\d", thread.name)[0] for thread in threading.enumerate())
    return known | Counter(native=len(os.listdir(PROC / "task")) - known.total())  # noqa: PTH208


def descriptors():
    """The kind of each that is open, or its file's name."""
    for entry in os.listdir(PROC / "fd"):  # noqa: PTH208 - iterdir would stat each
        with suppress(FileNotFoundError):  # the list's own
            place = (PROC / "fd" / entry).readlink()
            yield "folder" if place.is_dir() else place.name.partition(":")[0]


def tell(*_signal):
    """Say it."""
    gc.collect()
    libc.malloc_trim(0)
    sqlite = sqlite_holds()
    said = {
        "rss": int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "sqlite": sqlite,
        "heap": given_out() - sqlite,
        "tasks": Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks()),
        "descriptors": Counter(descriptors()),
        "threads": threads(),
    }
    os.write(1, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    sys.argv = ["ivr-agi", "serve"]
    from ivr_agi.cli import main

    main()
