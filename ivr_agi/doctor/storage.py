"""The journal: there, on a disk that keeps what it is given, of this release's form, and not in doubt.

It is opened as the server opens it, and a commit that changes nothing is made: no row is written, and a
journal that is not there yet is not begun.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ivr_agi.doctor.findings import Finding, error, ok, warning
from ivr_agi.journal import AttemptState, JournalError
from ivr_agi.journal.engine import MOUNTS, cause, file_system, migrate, open_engine, revisions
from ivr_agi.journal.tables import attempt, pause

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING: Final = "IVR_AGI_JOURNAL_URL"
SLOW: Final = 1.0  # seconds for a commit; each payment makes four, and the caller waits

# File systems that lie about what is on disk, or forget, by the beginning of their names.
UNSAFE: Final = {
    "nfs": "of another machine: SQLite's locks cannot be trusted there",
    "cifs": "of another machine: SQLite's locks cannot be trusted there",
    "smb": "of another machine: SQLite's locks cannot be trusted there",
    "9p": "of another machine: SQLite's locks cannot be trusted there",
    "fuse": "of a program's making: it may report as written what is not",
    "tmpfs": "in memory: gone at the next start of this machine",
    "ramfs": "in memory: gone at the next start of this machine",
    "overlay": "a container's own: gone with the container",
}


def check(url: str, *, mounts: Path = MOUNTS) -> tuple[list[Finding], str]:
    """What there is to say of the journal, and its latest time stamp (ISO 8601; empty if there is none)."""
    found: list[Finding] = []
    newest = ""
    try:
        engine = open_engine(url, mounts=mounts)
    except JournalError as trouble:
        return [error(str(trouble).removeprefix(f"{SETTING}: "), SETTING, _cure(url))], ""
    except OSError as trouble:
        return [error(f"the journal's folder cannot be seen: {trouble.strerror}", SETTING, _cure(url))], ""
    try:
        file = Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None
        if file:
            found += _disk(file.parent.resolve(), mounts)
        if file and not file.exists():
            found.append(_beginning(file))
        else:
            newest = _examine(engine, str(file.resolve()) if file else SETTING, found)
    except JournalError as trouble:
        found.append(error(str(trouble), SETTING, _cure(url)))
    except sa.exc.SQLAlchemyError as trouble:
        found.append(error(f"the journal cannot be used: {cause(trouble)}", _place(engine), _cure(url)))
    except OSError as trouble:
        found.append(error(f"the journal cannot be written: {trouble.strerror}", _place(engine), _cure(url)))
    finally:
        engine.dispose()
    return found, newest


def _place(engine: sa.Engine) -> str:
    return str(Path(engine.url.database or "").absolute()) if engine.dialect.name == "sqlite" else SETTING


def _cure(url: str) -> str:
    if not url.startswith("sqlite"):
        return f"see that PostgreSQL runs, and that {SETTING} has its address, user and password"
    return f"{SETTING}=sqlite:////var/lib/ivr-agi/ivr-agi.db: a local folder that the server's user may write"


def _disk(folder: Path, mounts: Path) -> Iterator[Finding]:
    kind = file_system(folder, mounts)
    if nature := next((what for name, what in UNSAFE.items() if kind.startswith(name)), ""):
        yield warning(
            f"the journal's folder is on {kind}, {nature}",
            str(folder),
            "keep it on a local disk (or PostgreSQL)",
        )
    else:
        yield ok(f"the journal's folder is on a local disk ({kind or 'of unknown kind'})", str(folder))


def _beginning(file: Path) -> Finding:
    """Try in a folder of its own whether a journal could be begun here; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix=".ivr-agi-check-", dir=file.parent) as folder:
        engine = open_engine(f"sqlite:///{folder}/probe.db")
        try:
            migrate(engine)
        finally:
            engine.dispose()
    return ok("no journal yet; the first start of the server begins it", str(file.absolute()))


def _examine(engine: sa.Engine, where: str, found: list[Finding]) -> str:
    """Look into a journal that is there. Returns its latest time stamp."""
    there, ours = revisions(engine)
    began = time.monotonic()
    durable = _commit(engine)
    took = time.monotonic() - began
    if took > SLOW:
        found.append(
            warning(
                f"a commit takes {took:.1f} s; the caller waits for each",
                where,
                "a faster disk, or one less busy",
            )
        )
    else:
        found.append(ok(f"the journal takes a commit ({took * 1000:.0f} ms, {durable})", where))
    if not there:
        found.append(
            warning(
                "the journal has no table yet",
                where,
                "none, if it is new: the next start of the server makes them",
            )
        )
        return ""
    if there != ours:
        found.append(
            warning(
                f"the journal's form is {there}, this release's is {ours}",
                where,
                "back it up; the next start of the server brings an older one up to date."
                " If it is of a later release, run that release",
            )
        )
    else:
        found.append(ok(f"the journal is of this release's form ({ours})", where))
    with engine.connect().execution_options(reading=True) as connection:
        unknown = connection.execute(
            sa.select(sa.func.count()).where(attempt.c.state == AttemptState.UNKNOWN)
        ).scalar_one()
        newest = connection.execute(sa.select(sa.func.max(attempt.c.updated_at))).scalar()
        paused = connection.execute(sa.select(pause)).one_or_none() if there == ours else None
    if paused:
        why = f": {paused.reason}" if paused.reason else ""
        found.append(
            warning(
                f"no payment begins since {paused.since}, by {paused.by}{why}",
                where,
                "`ivr-agi resume` ends it",
            )
        )
    if unknown:
        found.append(
            warning(
                f"{unknown} attempt(s) in state unknown: each may have been charged, and its order is held",
                where,
                "ivr-agi journal review",
            )
        )
    else:
        found.append(ok("no payment is in doubt", where))
    return newest or ""


def _commit(engine: sa.Engine) -> str:
    """Commit a write that changes nothing; what the database says of its durability."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            connection.exec_driver_sql(f"PRAGMA user_version={version}")  # SQLite writes it, whatever it was
            return f"journal_mode={mode}, synchronous={synchronous}"
        connection.exec_driver_sql("SELECT pg_current_xact_id()")  # makes the commit a real one
        return "synchronous_commit=" + str(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())
