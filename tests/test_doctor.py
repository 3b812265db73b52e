"""`ivr-agi check`: our own side, the journal, the gateway, and the command as a whole."""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from doctoring import as_somebody_else, good_box, listening, only
from line import SEQUENCE
from process import ivr_agi

from ivr_agi import settings
from ivr_agi.doctor import own, reach, storage
from ivr_agi.doctor.findings import Level
from ivr_agi.journal import AttemptState, Journal, NewAttempt

ERROR, WARNING = Level.ERROR, Level.WARNING


# -- the journal ------------------------------------------------------------------------------------


def journal(url, **given):
    """Levels and texts of what is said of the journal, `ok` left out."""
    return [finding for finding in storage.check(url, **given)[0] if finding.level is not Level.OK]


@pytest.fixture
async def file(tmp_path):
    """A journal with one attempt that is in doubt."""
    path = tmp_path / "j.db"
    opened = Journal(f"sqlite:///{path}")
    attempt = await opened.reserve(NewAttempt("A-1", "ivr", 1, "603799******7893", "+989123456789"))
    for state in (AttemptState.OTP_SENT, AttemptState.SENT, AttemptState.UNKNOWN):
        await opened.step(attempt, state)
    opened.close()
    return path


def test_journal_in_doubt(file):
    """Attempts in `unknown` are counted; nothing is added to the journal, or left beside it."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        before = list(database.iterdump())
    beside = sorted(file.parent.iterdir())
    only(journal(f"sqlite:///{file}"), WARNING, str(file), "1 attempt(s)", "journal review")
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert list(database.iterdump()) == before
    assert sorted(file.parent.iterdir()) == beside


def test_journal_not_begun(tmp_path):
    """A journal that is not there yet is not begun by looking."""
    assert journal(f"sqlite:///{tmp_path}/j.db") == []
    assert list(tmp_path.iterdir()) == []


def test_journal_of_another_form(file):
    """One of an older or a later release is said to be one, and is not touched."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    assert "form is 0000" in journal(f"sqlite:///{file}")[0].what
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("0000",)


def test_not_a_journal(tmp_path):
    """A file that is no database; one that is empty; a folder that is not there, or is a file."""
    (tmp_path / "j.db").write_text("no database at all, but long enough to be read as one's header" * 9)
    only(journal(f"sqlite:///{tmp_path}/j.db"), ERROR, str(tmp_path / "j.db"), "not a database")
    (tmp_path / "empty.db").touch()
    only(journal(f"sqlite:///{tmp_path}/empty.db"), WARNING, str(tmp_path / "empty.db"), "no table")
    for folder in ("none", "j.db"):
        only(journal(f"sqlite:///{tmp_path}/{folder}/j.db"), ERROR, "IVR_AGI_JOURNAL_URL", "no folder")
    only(journal("nonsense"), ERROR, "IVR_AGI_JOURNAL_URL", "no database address")


@pytest.mark.parametrize("there", [True, False])
def test_journal_that_cannot_be_written(file, there):
    """The server's user must be able to write the journal and its folder."""
    if not there:
        file.unlink()
    file.parent.chmod(0o555)
    with as_somebody_else():
        (finding,) = journal(f"sqlite:///{file}")
    file.parent.chmod(0o755)
    assert finding.level is ERROR


@pytest.mark.parametrize(
    ("kind", "unsafe"),
    [("ext4", False), ("xfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("tmpfs", True), ("overlay", True)],
)  # fmt: skip
def test_file_systems(tmp_path, kind, unsafe):
    """A journal belongs on a local disk."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nwhere {tmp_path} {kind} rw 0 0\ntmpfs {tmp_path}/other tmpfs rw 0 0\n"
    )
    found = journal(f"sqlite:///{tmp_path}/j.db", mounts=mounts)
    level = ERROR if kind in ("nfs4", "cifs", "fuse.sshfs") else WARNING  # the server would not start there
    assert [(f.level, kind in f.what) for f in found] == ([(level, True)] if unsafe else [])


# -- the gateway ------------------------------------------------------------------------------------


@pytest.fixture
def authority():
    """A certificate authority, and the TLS of a client that knows it."""
    made = trustme.CA()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.configure_trust(trusting)
    return made, trusting


async def gateway(url, **given):
    """What is said of the gateway, from a thread: the server answers meanwhile."""
    return await asyncio.to_thread(lambda: list(reach.check(url, **{"seconds": 3, **given})))


async def test_gateway(authority):
    """A certificate of a known authority; and not one byte of HTTP is sent."""
    ours, trusting = authority
    async with listening(ours.issue_cert("127.0.0.1")) as (port, got):
        (finding,) = await gateway(f"https://127.0.0.1:{port}/api", tls=trusting)
    assert (finding.level, finding.where) == (Level.OK, "IVR_AGI_GATEWAY_URL")
    assert b"".join(got) == b""


@pytest.mark.parametrize(
    ("names", "days", "known", "level", "word"),
    [
        ("127.0.0.1", -1, True, ERROR, "expired"),
        ("127.0.0.1", 3, True, WARNING, "ends in"),
        ("127.0.0.1", 99, False, ERROR, "cannot prove"),
        ("bank.example", 99, True, ERROR, "cannot prove"),
    ],
)
async def test_certificates(authority, names, days, known, level, word):
    """One that has ended, ends soon, is of an unknown authority, or is somebody else's."""
    ours, trusting = authority
    issued = (ours if known else trustme.CA()).issue_cert(
        names, not_after=datetime.now(UTC) + timedelta(days, 60)
    )
    async with listening(issued) as (port, _got):
        only(await gateway(f"https://127.0.0.1:{port}", tls=trusting), level, "IVR_AGI_GATEWAY_URL", word)


def a_free_port():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


async def test_gateway_out_of_reach(authority):
    """Nobody listens; it is no TLS; the name does not resolve."""
    _, trusting = authority
    where = "IVR_AGI_GATEWAY_URL"
    only(await gateway(f"https://127.0.0.1:{a_free_port()}"), ERROR, where, "cannot be reached", "refused")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts and says nothing
        port = mute.getsockname()[1]
        only(
            await gateway(f"https://127.0.0.1:{port}", tls=trusting, seconds=0.2),
            ERROR,
            where,
            "handshake fails",
        )
    only(await gateway("https://bank.invalid/"), ERROR, where, "bank.invalid", "does not resolve")


async def test_plain_gateway():
    """A simulator without TLS is said to be one."""
    async with listening() as (port, got):
        found = await gateway(f"http://127.0.0.1:{port}")
    assert [f.level for f in found] == [WARNING, Level.OK]
    assert b"".join(got) == b""


# -- settings, port, clock --------------------------------------------------------------------------


def test_misspelt_settings(tmp_path, monkeypatch):
    """A misspelt name does nothing, in the environment or in `.env`; there the line is told."""
    env = tmp_path / ".env"
    env.write_text("# mine\nIVR_AGI_SEQENCE=secret\nexport IVR_AGI_PORT=1\nOTHER=1\n")
    monkeypatch.setenv("IVR_AGI_PROT", "4573")
    first, second = own.misspelt(env)
    assert (first.where, second.where) == ("IVR_AGI_PROT", f"{env}:2")
    assert "secret" not in str(second)


def test_secret_for_everybody(tmp_path):
    """A `.env` with the secret that everybody may read."""
    env = tmp_path / ".env"
    env.write_text(f"IVR_AGI_SEQUENCE={SEQUENCE}\n")
    env.chmod(0o644)
    only(list(own.misspelt(env)), WARNING, f"{env}:1", "chmod")
    env.chmod(0o640)
    assert list(own.misspelt(env)) == []


def test_open_to_everybody(monkeypatch):
    """Anybody could speak FastAGI to the server."""
    monkeypatch.setenv("IVR_AGI_ALLOWED_PEERS", "0.0.0.0/0")
    monkeypatch.setenv("IVR_AGI_TOKEN", "t" * 16)
    found = [f for f in own.given(settings.load(sequence=SEQUENCE)) if f.level is not Level.OK]
    only(found, WARNING, "IVR_AGI_ALLOWED_PEERS", "everybody may connect")


@pytest.mark.parametrize(
    ("name", "value", "where", "what"),
    [
        ("ALLOWED_PEERS", "10.0.0.7", "IVR_AGI_TOKEN", "no token is asked"),
        ("LIMIT_CARD", "", "IVR_AGI_LIMIT_CARD", "any number of SMS"),
        ("LIMIT_TOTAL", "", "IVR_AGI_LIMIT_TOTAL", "any number of cards"),
    ],
)
def test_nothing_to_stop_abuse(monkeypatch, name, value, where, what):
    """Other machines without a token, or no limit: a warning that names the setting."""
    monkeypatch.setenv(f"IVR_AGI_{name}", value)
    found = [f for f in own.given(settings.load(sequence=SEQUENCE)) if f.level is not Level.OK]
    only(found, WARNING, where, what)


@pytest.mark.parametrize(
    ("given", "level", "where", "what"),
    [
        ({}, Level.OK, "IVR_AGI_PANEL_SECRET", "there is no merchant's panel"),
        ({"panel_secret": "s" * 32}, Level.OK, "IVR_AGI_PANEL_SECRET", "http://127.0.0.1:8573/panel/"),
        (
            {"panel_secret": "s" * 32, "http_host": "0.0.0.0"},  # noqa: S104
            WARNING,
            "IVR_AGI_PANEL_URL",
            "of this machine alone",
        ),
        ({"panel_secret": "s" * 32, "panel_proxies": "0.0.0.0/0"}, ERROR, "IVR_AGI_PANEL_PROXIES", "anybody"),
    ],
    ids=["none", "here", "open without a name", "everybody is a proxy"],
)
def test_panel(given, level, where, what):
    """Where the panel is, and what is wrong with who may ask."""
    found = list(own.panel(settings.load(_env_file=None, **given)))
    assert [(f.level, f.where) for f in found if what in f.what] == [(level, where)]
    assert all(f.level is Level.OK for f in found if what not in f.what)


def test_clock():
    """A journal written in the future shows that the clock has gone back."""
    only(list(own.clock("2199-01-01T00:00:00.000+00:00")), ERROR, "clock", "2199")
    assert [f.level for f in own.clock("2020-01-01T00:00:00.000+00:00")] == [Level.OK]


def test_port(monkeypatch):
    """Free; taken by another program; by the server itself; not this machine's address; none."""
    assert [f.level for f in own.door("127.0.0.1", a_free_port())] == [Level.OK]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(own, "_listeners", lambda _: {7: b"/usr/bin/nc\0-l"})
        only(list(own.door("127.0.0.1", port)), ERROR, "IVR_AGI_PORT", "taken by nc (process 7)")
        monkeypatch.setattr(
            own, "_listeners", lambda _: {7: b"/usr/bin/python3\0/opt/ivr-agi/bin/ivr-agi\0serve"}
        )
        assert [f.level for f in own.door("127.0.0.1", port)] == [Level.OK]
        monkeypatch.setattr(own, "_listeners", lambda _: {})
        only(list(own.door("127.0.0.1", port)), WARNING, "IVR_AGI_PORT", "as root")
    only(list(own.door("192.0.2.1", 4573)), ERROR, "IVR_AGI_PORT", "cannot listen")
    only(list(own.door("127.0.0.1", 0)), WARNING, "IVR_AGI_PORT", "port 0")


def test_listeners():
    """Who listens is read from /proc."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = own._listeners(taken.getsockname()[1])
    assert found.keys() == {os.getpid()}
    assert Path(sys.executable).name.encode() in found[os.getpid()]


# -- the command ------------------------------------------------------------------------------------


async def test_command_good(authority, tmp_path, monkeypatch):
    """With all in order: exit status 0, and no line says `error`."""
    ours, _ = authority
    box = good_box(tmp_path / "root", prompts=True)
    ours.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with listening(ours.issue_cert("127.0.0.1")) as (port, _got):
        status, output, errors = await ivr_agi(
            "check", "--asterisk-dir", str(box.root), "--json",
            gateway_url=f"https://127.0.0.1:{port}", sequence=SEQUENCE, language="ask",
        )  # fmt: skip
    found = json.loads(output)
    assert [f for f in found if f["level"] == "error"] == []
    assert (status, errors) == (0, "")
    assert all(f.keys() == {"level", "what", "where", "cure"} for f in found)
    assert sum("language" in f["what"] for f in found) == 2


async def test_command_bad(tmp_path):
    """With a leak: exit status 1, a table that names file, line and cure, and no secret in it."""
    box = good_box(tmp_path / "root")
    where = box.add("manager.conf", "[\x1b[31mspy]\nsecret = Ami5ecret\nread = all\n")
    arguments = ("check", "--asterisk-dir", str(box.root), "--no-gateway")
    given = {"sequence": SEQUENCE, "journal_url": "postgresql+psycopg://u:Pa55word@127.0.0.1:1/db"}
    for form in ((), ("--json",)):
        status, output, errors = await ivr_agi(*arguments, *form, **given)
        assert (status, errors) == (1, "")
        assert all(secret not in output for secret in (SEQUENCE, "Ami5ecret", "Pa55word", "\x1b"))
        assert "core.paystar.ir" not in output
    (leak,) = [f for f in json.loads(output) if "spy" in f["what"]]
    assert (leak["level"], leak["where"]) == (
        "error",
        f"{where.rpartition(':')[0]}:{int(where.rpartition(':')[2]) + 2}",
    )


async def test_command_wrong_settings(tmp_path):
    """Wrong settings are findings, too, and Asterisk is looked at all the same."""
    box = good_box(tmp_path / "root")
    status, output, _ = await ivr_agi(
        "check", "--asterisk-dir", str(box.root), "--json", port="nonsense", max_calls=0
    )
    found = json.loads(output)
    assert status == 1
    assert {f["where"] for f in found if f["level"] == "error"} >= {"IVR_AGI_PORT", "IVR_AGI_MAX_CALLS"}
    assert any("the dialplan leads to ivr-agi" in f["what"] for f in found)
