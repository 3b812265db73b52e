"""The systemd unit: systemd itself takes it, and what it names is there."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from debian import program

from ivr_agi.cli import app
from ivr_agi.cli.serving import SETTLE_SECONDS
from ivr_agi.hardening import CORE_BYTES
from ivr_agi.settings import Settings

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "ivr-agi.service"
PR_SET_MDWE = 65  # prctl(2), Linux 6.3: no memory is ever made executable after it was writable
PR_GET_DUMPABLE = 3
NO_SUCH_LOCK = 77


@pytest.fixture
def unit():
    """The unit's last value for each name, by section."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(UNIT, encoding="utf-8")
    return parser


def installed(tmp_path):
    """The unit as on a machine where the program is."""
    found = Path(sys.executable).parent / "ivr-agi"
    assert found.exists()
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/ivr-agi/bin/ivr-agi", str(found)), "utf-8")
    return copy


def test_systemd_takes_it(tmp_path):
    """`systemd-analyze verify`: not one complaint."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", installed(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_is_found(tmp_path):
    """The same with a misspelt line: systemd complains, so the test above can fail."""
    copy = installed(tmp_path)
    copy.write_text(copy.read_text("utf-8").replace("WatchdogSec=30", "WatchdogSec=often"), "utf-8")
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert "Failed to parse" in done.stderr


def test_it_is_locked_up(tmp_path):
    """`systemd-analyze security`: 1.3 of 10 is left exposed, the number that docs/supply-chain.md gives."""
    done = subprocess.run(
        [
            program("systemd-analyze"),
            "security",
            "--offline=true",
            "--threshold=13",
            "--no-pager",
            installed(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_commands_and_settings_exist(unit):
    """The command that it starts, and each setting that its text names."""
    command = unit["Service"]["ExecStart"].split()[1]
    assert command in {found.name or found.callback.__name__ for found in app.registered_commands}
    text = UNIT.read_text(encoding="utf-8")
    named = set(re.findall(r"IVR_AGI_([A-Z_]+)", text)) | set(
        re.findall(r"\b((?:HTTP|DRAIN|PAY|OTP|CALL)_[A-Z]+|HOST|PORT)\b", text)
    )
    assert {"SEQUENCE", "JOURNAL_URL", "DRAIN_LIMIT", "PAY_TIMEOUT"} <= named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_stopping_takes_longer_than_a_call(unit):
    """Systemd does not kill while a payment may be under way, with the default settings."""
    longest = (
        Settings.model_fields["drain_limit"].default
        + Settings.model_fields["pay_timeout"].default
        + SETTLE_SECONDS
    )
    assert int(unit["Service"]["TimeoutStopSec"]) >= longest


def test_journal_is_in_the_state_directory(unit):
    """The journal lies where the service may write, and only there."""
    service = unit["Service"]
    folder = f"/var/lib/{service['StateDirectory']}"
    assert service["WorkingDirectory"] == folder
    assert service["Environment"] == f"IVR_AGI_JOURNAL_URL=sqlite:///{folder}/ivr-agi.db"
    assert service["ProtectSystem"] == "strict"


def test_other_processes_stay_visible(unit):
    """The journal asks /proc whether an attempt's process lives: what hides processes would settle them wrongly."""
    assert not unit["Service"].keys() & {"ProtectProc", "ProcSubset", "PrivatePIDs"}


def test_no_core_dump(unit):
    """As the program's own limit: 1 byte, which the kernel heeds for a dump through a pipe, too; 0 it does not."""
    assert unit["Service"]["LimitCORE"] == str(CORE_BYTES) == "1"


def test_nothing_writable_is_executable(unit):
    """Each folder that the unit leaves writable is closed to programs, and so is memory that passes for a file."""
    service = unit["Service"]
    closed = set(service["NoExecPaths"].split())
    assert closed >= {"/", "/tmp", "/var/tmp", "/dev/shm", service["WorkingDirectory"]}  # noqa: S108
    opened = service["ExecPaths"].split()
    assert any(service["ExecStart"].startswith(folder + "/") for folder in opened)
    assert not closed & set(opened)
    assert "memfd_create" in service["SystemCallFilter"].removeprefix("~").split()
    assert service["MemoryDenyWriteExecute"] == "yes"


def locked(*command, **options):
    """Run a Python command in a process that may make no memory executable: MemoryDenyWriteExecute, as the kernel has it."""
    # In a child that then becomes the command: the lock cannot be taken off again.
    lock = (
        "import ctypes, os, sys; "
        f"ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) and sys.exit({NO_SUCH_LOCK}); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", lock, *command], capture_output=True, text=True, check=False, **options
    )
    if done.returncode == NO_SUCH_LOCK:
        pytest.skip("this kernel has no PR_SET_MDWE (before Linux 6.3)")
    return done


def test_runs_without_making_code(tmp_path):
    """A whole payment in a process that may make no memory executable."""
    done = locked("-m", "ivr_agi", "demo", "--script", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_memory_is_kept_in_there_too():
    """Neither does prctl(2) through ctypes need such memory: the process is not dumpable afterwards."""
    look = f"import ctypes; print(ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))"
    kept = f"from ivr_agi.hardening import keep_memory_in; keep_memory_in(); {look}"
    assert (locked("-c", look).stdout, locked("-c", kept).stdout) == ("1\n", "0\n")


def test_passwords_in_there_too():
    """Neither does argon2, which is C behind cffi."""
    done = locked("-c", "from ivr_agi.panel.passwords import Passwords; print(Passwords.hashed('x'))")
    assert done.stdout.startswith("$argon2id$"), done.stderr
