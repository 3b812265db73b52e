"""What strace has seen of a folder, to compare a record with: recorder.c must miss nothing."""

import re
from collections import Counter

from recording import Kind

# A call that has succeeded: `pwrite64(5</x/j.db>, ..., 4096, 0) = 4096`.
CALL = re.compile(r"^(?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>\d+)")
# What changes nothing of what is on the disk.
HARMLESS = {
    "access", "close", "faccessat", "faccessat2", "fchmod", "fchown", "fchown32", "fcntl", "flock", "fstat", "fstat64",
    "getcwd", "getdents64", "lseek", "lstat", "newfstatat", "pread64", "read", "readlink", "readlinkat", "stat",
    "stat64", "statx",
}  # fmt: skip
KINDS = {
    "write": {Kind.WRITE},
    "pwrite64": {Kind.WRITE},
    "ftruncate": {Kind.TRUNCATE},
    "fsync": {Kind.SYNC, Kind.SYNC_FOLDER},
    "fdatasync": {Kind.SYNC, Kind.SYNC_FOLDER},
    "unlink": {Kind.UNLINK},
    "unlinkat": {Kind.UNLINK},
}
OPENED = {Kind.CREATE, Kind.OPEN}


def command(prefix):
    """How to run a program under it: one file for each thread, descriptors with their paths."""
    return ["strace", "-ff", "-y", "-s", "0", "-e", "trace=file,desc", "-o", str(prefix)]


def seen(prefix, folder):
    """The calls on a folder's files, counted by name; opening for writing is `open`."""
    counted = Counter()
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        for line in file.read_text(errors="replace").splitlines():
            found = CALL.match(line)
            if not found or not re.search(rf'[<"]{re.escape(str(folder))}(/|>)', found["arguments"]):
                continue
            name = found["call"]
            if name in ("open", "openat", "openat2", "creat"):
                name = "open" if re.search("O_RDWR|O_WRONLY|O_CREAT", found["arguments"]) else "read"
            counted[name] += 1
    return counted


def differences(events, counted):
    """Sentences, one for each call that the record has not, or has more often than it was made."""
    recorded = Counter(event.kind for event in events)
    said = [
        f"{name}: {number} calls that nobody records" for name, number in counted.items() if _is_strange(name)
    ]
    groups = {frozenset(kinds) for kinds in KINDS.values()} | {frozenset(OPENED)}
    for kinds in groups:
        names = [name for name, found in ({"open": OPENED} | KINDS).items() if found == kinds]
        made, known = sum(counted[name] for name in names), sum(recorded[kind] for kind in kinds)
        if made != known:
            said.append(f"{'/'.join(names)}: {made} calls, {known} in the record")
    return said


def _is_strange(name):
    return name not in HARMLESS and name not in KINDS and name != "open"
