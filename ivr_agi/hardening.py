"""What this process does so that its memory stays its own: card numbers are in it for the length of a call.

Called first of all, by every command. Never a reason not to start: where the kernel refuses, the unit's
own limits still stand.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

PR_SET_DUMPABLE: Final = 4  # prctl(2)
# 0 forbids a core file, but not a dump that core_pattern pipes to a program; 1 byte forbids both: core(5).
CORE_BYTES: Final = 1


def keep_memory_in() -> None:
    """No core dump, and no look from outside: PCI DSS 3.3, sensitive data is not kept.

    Not dumpable means, too, that no process of the same user can read /proc/PID/mem, or trace it.
    """
    for bytes_ in (CORE_BYTES, 0):  # 0 where that is the hard limit already
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (bytes_, bytes_))
            break
    with suppress(Exception):  # no libc to be had, or no memory that may be executed
        import ctypes  # noqa: PLC0415 - where it cannot even be imported, we go on

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
