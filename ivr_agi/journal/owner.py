"""Which process has an attempt under way, and whether it still lives.

An attempt in `sent` whose process is gone will never be settled by it: its outcome is unknown.
A process is named by host, boot, pid and start time, so that a pid used again is not mistaken.
On this very host that is proof. Of processes elsewhere (another server, a container that was made
anew) there is only their beat: a number in the journal that goes up while they live. It is judged by
the watcher's own clock, so that no two clocks are ever compared.
"""

from __future__ import annotations

import os
import socket
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


DEAD = "dead"  # in place of a start time


class Fate(Enum):
    """What can be said of a process from here."""

    LIVES = "lives"
    GONE = "gone"
    ELSEWHERE = "elsewhere"  # not ours to see: its beat decides


def this_process() -> str:
    """Name this process: `host/boot/pid/started`."""
    return f"{_host()}/{_boot()}/{os.getpid()}/{_started(os.getpid())}"


def fate(owner: str, *, alone: bool = True) -> Fate:
    """Whether that process lives, as far as this host can tell.

    alone: nobody on another machine can have written that name, so another boot is an earlier one.
    """
    host, _, rest = owner.partition("/")
    if host != _host():
        return Fate.ELSEWHERE
    boot, _, rest = rest.partition("/")
    pid, _, started = rest.partition("/")
    if boot != _boot():
        return Fate.GONE if alone else Fate.ELSEWHERE
    if not pid.isdecimal():
        return Fate.GONE
    if (found := _started(int(pid))) != started and (found or not _exists(int(pid))):
        return Fate.GONE
    return Fate.LIVES


class Watch:
    """Who has not been seen to beat for a time, on the clock of whoever watches."""

    def __init__(self, lease: float) -> None:
        """lease: seconds without a beat after which a process counts as gone."""
        self._lease = lease
        self._looked: float | None = None
        self._seen: dict[str, tuple[int, float]] = {}

    def lapsed(self, beats: Mapping[str, int], now: float) -> set[str]:
        """Those whose beat has not changed for the lease. beats: by name; now: in seconds, of any clock.

        While we could not look, nobody may have been able to beat: that time does not count.
        """
        blind = 0.0 if self._looked is None else max(0.0, now - self._looked - self._lease / 3)
        self._looked = now
        self._seen = {name: (beat, since + blind) for name, (beat, since) in self._seen.items()}
        self._seen = {
            name: seen if (seen := self._seen.get(name, (beat, now)))[0] == beat else (beat, now)
            for name, beat in beats.items()
        }
        return {name for name, (_beat, since) in self._seen.items() if now - since >= self._lease}


def _host() -> str:
    # Two containers may have one name, but not one namespace of process ids.
    return f"{socket.gethostname()[:60]}:{Path('/proc/self/ns/pid').readlink()}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # from field 3 on (proc(5))
    if state == "Z" and not _other_threads(pid):  # dead, and its parent has not looked yet
        return DEAD
    return fields[18]  # field 22: start time in ticks since boot


def _other_threads(pid: int) -> bool:
    """Whether a thread goes on though the first has ended: it may be in the middle of a commit."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # noqa: PTH208 - a count
    except OSError:
        return False


def _exists(pid: int) -> bool:
    """Whether there is such a process, even one that /proc hides from us."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError) as error:
        return isinstance(error, PermissionError)
    return True
