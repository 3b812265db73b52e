"""The process's memory: no core, no look from outside, and no value in what a crash prints.

The server is killed while a caller is at the bank: card and PIN are in memory then. The control is the very
same server without hardening.py: its core, and its memory, have them.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from canaries import CARD, KEYED, PIN, assert_clean, assert_files_clean, assert_found
from process import environment
from served import serving

from ivr_agi.simulator.gateway import Outcome, Rule

SOFT = ("-c", "from ivr_agi import hardening as h; h.keep_memory_in = lambda: None; import ivr_agi.__main__")
# Reads another process's memory, or traces it; says what it found.
LOOK = """
import ctypes, sys
pid, canary = int(sys.argv[1]), sys.argv[2].encode()
found = []
try:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            try:
                memory.seek(begin)
                if "r" in line.split()[1] and canary in memory.read(end - begin):
                    found.append("memory")
                    break
            except (OSError, OverflowError, ValueError):
                pass
        else:
            found.append("read")
except OSError as error:
    found.append(type(error).__name__)
libc = ctypes.CDLL(None, use_errno=True)
found.append("traced" if libc.ptrace(16, pid, 0, 0) == 0 else "not traced")  # PTRACE_ATTACH
try:
    found.append("environ" if open(f"/proc/{pid}/environ", "rb").read() else "empty")
except OSError as error:
    found.append(type(error).__name__)
print(*found, sep=",")
"""


def nobody():
    """An ordinary user who may run this Python; ourselves, if we are one."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("nobody")
    try:
        tried = subprocess.run(
            [sys.executable, "-c", "import ivr_agi.cli"],
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False, capture_output=True, cwd="/",
        )  # fmt: skip
    except OSError:
        tried = None
    if tried is None or tried.returncode:
        pytest.skip("user nobody cannot run this Python, or not read the package")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


async def at_the_bank(served, order):
    """A caller whose card and PIN are in the server's memory; a task to be cancelled."""
    served.gateway.arrived.clear()
    served.gateway.rules.insert(0, Rule(Outcome(wait=asyncio.Event()), service="pay", order_id=order))
    calling = asyncio.create_task(served.call(query=f"amount=50000&order_id={order}"))
    await served.gateway.arrived.wait()
    return calling


def unlimited():
    """In the child, before it runs: a core of any size."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT])
async def test_no_core(tmp_path, how):
    """Killed as a crash would do it, in a shell that wants cores: none is written, and faulthandler shows no value."""
    async with serving(tmp_path, also={"PYTHONFAULTHANDLER": "1"}, preexec_fn=unlimited) as served:
        calling = await at_the_bank(served, "core")
        served.process.send_signal(how)
        await asyncio.wait_for(served.process.wait(), 20)
        await calling
    assert served.process.returncode == -how
    assert [file.name for file in served.home.iterdir() if "core" in file.name] == []
    assert ("most recent call first" in served.log) == (how is not signal.SIGQUIT)
    assert_clean(served.log, "faulthandler")
    assert_files_clean(served.home)


@pytest.fixture
def cores():
    """Where it can be seen: cores go into the working directory."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    if pattern.startswith(("|", "/")):
        pytest.skip(f"cores do not go into the working directory here: {pattern}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("no core can be written here: its hard limit is 0")


@pytest.mark.usefixtures("cores")
async def test_the_core_sings(tmp_path):
    """The control: the same server without the hardening leaves a core, and both are in it."""
    async with serving(tmp_path, program=SOFT, preexec_fn=unlimited) as served:
        calling = await at_the_bank(served, "core")
        served.process.send_signal(signal.SIGSEGV)
        await asyncio.wait_for(served.process.wait(), 20)
        await calling
        (core,) = [file for file in served.home.iterdir() if "core" in file.name]
        written = core.read_bytes()
        core.unlink()
    assert CARD.encode() in written
    assert PIN.encode() in written


@pytest.mark.parametrize(
    ("program", "wanted"),
    [(None, "PermissionError,not traced,PermissionError"), (SOFT, "memory,traced,environ")],
    ids=["hardened", "control"],
)
async def test_no_look_from_outside(program, wanted):
    """The same user's other programs cannot read its memory or settings, nor trace it; without hardening they can."""
    user = nobody()
    with TemporaryDirectory(prefix="ivr-agi-canary-") as place:  # pytest's own folders let no other user in
        shutil.chown(place, user.get("user", os.geteuid()))
        found = await look(Path(place) / "n", program, user)
    if program is SOFT and "not traced" in found:
        pytest.skip(f"this machine refuses it to everybody: {found}")
    assert found == wanted


async def look(folder, program, user):
    """What another program of the same user sees of a server with a caller at the bank."""

    def lower():  # uvloop has no `user`
        if user:
            os.setgroups([])
            os.setgid(user["group"])
            os.setuid(user["user"])

    async with serving(folder, program=program, owner=user.get("user"), preexec_fn=lower) as served:
        calling = await at_the_bank(served, "look")
        looked = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", LOOK, str(served.process.pid), CARD],
            capture_output=True, text=True, check=True, cwd="/", **user,
        )  # fmt: skip
        served.process.kill()
        await served.process.wait()
        await calling
    return looked.stdout.strip()


CRASH = """
import asyncio, gc, sys, threading
from ivr_agi import cli, logs
from ivr_agi.model import Pan, Pin
typed, pin = sys.stdin.readline().strip(), sys.stdin.readline().strip()
card = Pan(typed)
words = f"bug {card} {card!r} {Pin(pin)}" if len(sys.argv) < 3 else f"bug {pin}"
logs.configure("DEBUG", sys.argv[1])

def bug(typed=typed, pin=pin):
    keys = list(typed)
    raise RuntimeError(words)

class Dropped:
    def __del__(self):
        bug()

async def task():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.call_soon(bug)
    lost = asyncio.create_task(asyncio.to_thread(bug))
    await asyncio.sleep(0.05)
    del lost
    gc.collect()

thread = threading.Thread(target=bug)
thread.start()
thread.join()
Dropped()
import uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(task())
cli.flow.diagram = bug  # unhandled, in a command
sys.argv[1:] = ["flow"]
cli.main()
"""


async def crash(*arguments):
    """What it prints on standard error."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", textwrap.dedent(CRASH), *arguments],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )  # fmt: skip
    output, errors = await process.communicate(f"{CARD}\n{PIN}\n".encode())
    assert process.returncode == 1
    return (output + errors).decode()


@pytest.mark.parametrize("form", ["console", "json"])
async def test_crashes_show_no_values(form):
    """Unhandled in a thread, a task, a callback, a destructor, a command: tracebacks, and no local variable in them."""
    shown = await crash(form)
    assert shown.count("RuntimeError: bug 603799******9617") == 5, shown
    assert "Exception ignored in" in shown
    assert_clean(shown, "a crash")


async def test_the_crash_sings():
    """The control: a message that has the PIN is found."""
    assert_found(await crash("json", "plant"), KEYED[1])
