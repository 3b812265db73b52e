"""What hardening.py does to a process, on its own: any Python will do, run by a user without privileges."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ivr_agi import hardening

# Holds a secret, says that it is ready, and waits; with an argument it hardens itself before.
HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
if len(sys.argv) > 2:
    import hardening
    hardening.keep_memory_in()
import resource
secret = "-".join(["6037", "9912"])
print(*resource.getrlimit(resource.RLIMIT_CORE), flush=True)
sys.stdin.read()
"""
LOOKER = """
import sys
try:
    open(f"/proc/{sys.argv[1]}/mem", "rb").close()
    open(f"/proc/{sys.argv[1]}/environ", "rb").read()
    print("seen")
except PermissionError:
    print("refused")
"""


@pytest.fixture
def unprivileged():
    """How to run a program as nobody in particular, and a folder that it may read."""
    folder = Path("/tmp") / f"ivr-agi-hardening-{os.getpid()}"  # noqa: S108 - pytest's folders are closed to others
    folder.mkdir(mode=0o755)
    shutil.copy(hardening.__file__, folder / "hardening.py")
    (folder / "hardening.py").chmod(0o644)
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    user = {}
    if not os.geteuid():
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    yield python, folder, user
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("hardened", "seen"), [(["yes"], "refused"), ([], "seen")], ids=["hardened", "control"]
)
def test_no_look_and_no_core(unprivileged, hardened, seen):
    """Another program of the same user is refused its memory; its core may be of one byte, which is none."""
    python, folder, user = unprivileged
    with subprocess.Popen(
        [python, "-I", "-c", HOLDER, folder, *hardened],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", **user,
    ) as holder:  # fmt: skip
        limits = holder.stdout.readline().split()
        looked = subprocess.run(
            [python, "-I", "-c", LOOKER, str(holder.pid)],
            capture_output=True, text=True, check=True, cwd="/", **user,
        )  # fmt: skip
        holder.stdin.close()
    assert looked.stdout.strip() == seen
    if hardened:
        assert limits == ["1", "1"]  # byte: what core_pattern pipes is forbidden, too


def test_hard_limit_of_nothing(monkeypatch):
    """Where no core may be had at all already, that stays, and the start goes on; also without a libc."""
    asked = []

    def refuse(_what, limits):
        asked.append(limits)
        if limits != (0, 0):
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(hardening.resource, "setrlimit", refuse)
    monkeypatch.setitem(sys.modules, "ctypes", None)
    hardening.keep_memory_in()
    assert asked == [(1, 1), (0, 0)]
