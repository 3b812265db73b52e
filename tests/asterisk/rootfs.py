"""The Debian tree with a real Asterisk in it, which the tests run in a chroot.

Made once with mmdebstrap (half a minute), kept in the repository's ``.cache`` and shared by
every run; nothing is ever written into it afterwards. It must never be seen half made: it is
built under another name and renamed when it is whole.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from pathlib import Path

# Debian 12 and 13 have no asterisk; forky has Asterisk 22. With bullseye the same tests run
# against Asterisk 16, an old one that is still in the field.
SUITE = os.environ.get("ASTERISK_SUITE", "forky")
REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "asterisk"
BUILD_SECONDS = 600  # a slow mirror; a good one takes 25


class NoAsterisk(Exception):  # noqa: N818 - a state of this machine, no fault of the code
    """This machine can run no Asterisk; the text says why, and what would cure it."""


def rootfs() -> Path:
    """Return the tree, made first if need be; raise `NoAsterisk` where that cannot be done."""
    _check_privileges()
    tree = CACHE / f"{SUITE}-{platform.machine()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel workers: the first one makes it, the others wait
        if not tree.exists():
            _make(tree)
    return tree


def _check_privileges() -> None:
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise NoAsterisk("a chroot with Asterisk needs Linux and root")
    for tool in ("unshare", "setpriv", "chroot", "mount"):
        if shutil.which(tool) is None:
            raise NoAsterisk(f"no {tool} on this machine (Debian: apt-get install util-linux mount)")
    probe = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "mount", "--bind", "/proc", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        raise NoAsterisk(
            f"mounting is not allowed here (a container without SYS_ADMIN?): {probe.stderr.strip()}"
        )


def _make(tree: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        _install_mmdebstrap()
    for stale in CACHE.glob(f"{tree.name}.part-*"):  # of a run that was killed; we hold the lock
        shutil.rmtree(stale)
    part = tree.with_name(f"{tree.name}.part-{os.getpid()}")
    _run(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--include=asterisk",
            '--aptopt=Apt::Install-Recommends "false"',
            '--aptopt=Acquire::Check-Valid-Until "false"',
            SUITE,
            str(part),
        ]
    )
    if not (part / "usr/sbin/asterisk").exists():
        raise NoAsterisk(f"mmdebstrap made {part}, but there is no asterisk in it")
    part.rename(tree)


def _install_mmdebstrap() -> None:
    if shutil.which("apt-get") is None:
        raise NoAsterisk("no mmdebstrap, and no apt-get to install it with")
    _run(["apt-get", "update"])
    # Ubuntu does not have Debian's keys unless asked; on Debian they are there.
    _run(["apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAsterisk(f"`{command[0]}` was not done after {BUILD_SECONDS} s") from None
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-12:])
        raise NoAsterisk(f"`{' '.join(command)}` failed ({done.returncode}):\n{last}")


if __name__ == "__main__":
    print(rootfs())  # noqa: T201 - run by hand, to make it ahead of the tests
