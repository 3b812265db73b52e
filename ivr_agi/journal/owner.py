"""Which process has an attempt under way, and whether it still lives.

An attempt in `sent` whose process is gone will never be settled by it: its outcome is unknown.
A process is named by host, boot, pid and start time, so that a pid used again is not mistaken.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """Name this process: `host/boot/pid/started`."""
    return f"{_host()}/{_boot()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether that process is certainly gone; one on another host is not ours to judge."""
    host, _, rest = owner.partition("/")
    if host != _host():
        return False
    boot, _, rest = rest.partition("/")
    pid, _, started = rest.partition("/")
    return boot != _boot() or not pid.isdecimal() or _started(int(pid)) != started


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
    return stat.rpartition(")")[2].split()[19]  # field 22: start time in ticks since boot (proc(5))
