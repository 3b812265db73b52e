"""Open the journal's database, so that what is committed stays committed.

SQLite is opened with `journal_mode=DELETE, synchronous=EXTRA` and one writer at a time; what the
database then says of itself is read back, and anything less is refused, as is a disk of another
machine. The file is made once, by the first start: one that is gone later, or another in its place,
is an error, never a new journal. PostgreSQL gets `synchronous_commit=on` and must have `fsync` on.
Statements are never echoed, and their values never appear in errors.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.config import Config

# The newest of `migrations/versions`. Known without Alembic, which takes a tenth of a start to import: it is
# there to bring a schema up to date, and most that are opened are.
HEAD: Final = "0004"

BUSY_MS: Final = 5000  # another process may be writing
# PERSIST: a commit is the head of the journal file overwritten with zeros, and synced before the lock is let
# go: as durable as DELETE, whose folder must be synced, too, and done in two thirds of the time.
PRAGMAS = {"journal_mode": "persist", "synchronous": 3, "foreign_keys": 1}

MOUNTS: Final = Path("/proc/mounts")
# File systems of another machine, by the beginning of their names: SQLite's locks cannot be trusted there.
REMOTE: Final = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.sshfs")

# libpq's: seconds for a connection; milliseconds without an acknowledgement after which it counts as lost.
POSTGRESQL: Final = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "ivr-agi",
    "options": "-c synchronous_commit=on -c lock_timeout=5s -c statement_timeout=10s"
    " -c idle_in_transaction_session_timeout=30s"
    # A snapshot older than a lock would not see what the one before us has written.
    " -c default_transaction_isolation=read\\ committed",
}


class JournalError(Exception):
    """The journal cannot be used, or a commit has failed; the message names it and the cure."""


def open_engine(url: str, *, create: bool = True, mounts: Path = MOUNTS) -> sa.Engine:
    """Make the engine for a journal address. Raises JournalError for what we cannot keep money on."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise JournalError(
            "IVR_AGI_JOURNAL_URL is no database address (sqlite:///FILE or postgresql+psycopg://…)"
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed)
    forgetful = (parsed.database or ":memory:").startswith((":memory:", "file:")) or parsed.query
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or forgetful or not parsed.database:
        raise JournalError("IVR_AGI_JOURNAL_URL: a SQLite file or PostgreSQL, nothing that forgets")
    file = Path(parsed.database)
    if not file.parent.is_dir():
        raise JournalError(f"IVR_AGI_JOURNAL_URL: there is no folder {file.parent}; make it first")
    if not create and not file.is_file():
        raise JournalError(f"IVR_AGI_JOURNAL_URL: there is no journal {file.resolve()}")
    kind = file_system(file.parent.resolve(), mounts)
    if kind.startswith(REMOTE):
        raise JournalError(
            f"IVR_AGI_JOURNAL_URL: {file.parent.resolve()} is on {kind}, a disk of another machine, where"
            " SQLite's locks do not hold; use a local disk, or PostgreSQL"
        )
    return _sqlite(parsed, file)


def _postgresql(url: sa.URL) -> sa.Engine:
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise JournalError("IVR_AGI_JOURNAL_URL: PostgreSQL is postgresql+psycopg://…")
    given = url.query.get("options", "")  # ours come last, and count
    options = f"{given if isinstance(given, str) else ' '.join(given)} {POSTGRESQL['options']}".strip()
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
            hide_parameters=True,
            connect_args=POSTGRESQL | {"options": options},
        )
    except ImportError:
        raise JournalError("PostgreSQL needs the extra: pip install 'ivr-agi[postgres]'") from None
    sa.event.listen(engine, "connect", _examine_postgresql)
    return engine


def _examine_postgresql(connection: Any, _record: object) -> None:
    for name in ("synchronous_commit", "fsync", "full_page_writes"):
        found = connection.execute(f"SHOW {name}").fetchone()[0]
        if found != "on":
            connection.close()
            raise JournalError(f"PostgreSQL has {name}={found}: a payment committed could be lost; set it on")
    connection.rollback()


def _sqlite(url: sa.URL, file: Path) -> sa.Engine:
    """An engine whose first connection may make the file; from then on it must be that very file."""
    identity = _identity(file)

    def connect() -> sqlite3.Connection:
        nonlocal identity
        if identity and _identity(file) != identity:
            raise sqlite3.OperationalError(_ANOTHER)
        mode = "rw" if identity else "rwc"  # none yet: the first start makes it
        opened = sqlite3.connect(
            f"file:{quote(str(file))}?mode={mode}", uri=True, check_same_thread=False, timeout=BUSY_MS / 1000
        )
        identity = identity or _identity(file)  # and each transaction looks again
        return opened

    def begin(connection: sa.Connection) -> None:
        if _identity(file) != identity:
            raise sa.exc.OperationalError(None, None, sqlite3.OperationalError(_ANOTHER))
        options = connection.get_execution_options()
        if options.get("migrating"):  # a table that others point at is made anew
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        # A writer takes its turn at once: one that began as a reader could not wait for it.
        connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")

    engine = sa.create_engine(url, hide_parameters=True, creator=connect)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", begin)
    return engine


_ANOTHER: Final = "the journal's file has been removed, or another put in its place; put it back and restart"


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver's guess
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    for name, wanted in PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={wanted}")
        found = cursor.execute(f"PRAGMA {name}").fetchone()[0]
        if found != wanted:
            connection.close()
            raise JournalError(f"SQLite refuses {name}={wanted} (it says {found}): use a local disk")
    cursor.close()


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """The kind of file system that a folder is on, as /proc/mounts has it; empty if that does not say."""
    best, kind = -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for _, point, name, *_ in (line.split(" ") for line in lines if line.count(" ") > 1):
        place = Path(point.replace("\\040", " "))
        if folder.is_relative_to(place) and len(place.parts) >= best:  # the last one mounted there counts
            best, kind = len(place.parts), name
    return kind


def migrate(engine: sa.Engine) -> None:
    """Bring the schema up to date. Raises JournalError naming the cause."""
    try:
        there, ours = revisions(engine)
        if there != ours:
            _upgrade(engine)
    except sa.exc.SQLAlchemyError as error:
        raise JournalError(f"the journal {engine.url!r} cannot be opened: {cause(error)}") from None


def _upgrade(engine: sa.Engine) -> None:
    from alembic import command  # noqa: PLC0415 - see HEAD
    from alembic.util import CommandError  # noqa: PLC0415

    config = _migrations()
    try:
        with engine.execution_options(migrating=True).connect() as connection:
            with connection.begin():
                _take_turns(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                _check_references(connection)
            connection.invalidate()  # its foreign keys are off
    except CommandError as error:  # its schema is of a later release
        raise JournalError(f"the journal {engine.url!r} is not this release's: {error}") from None


def _take_turns(connection: sa.Connection) -> None:
    """Servers that start together upgrade one after the other; SQLite's begin sees to that by itself."""
    if connection.dialect.name == "postgresql":
        # A long history takes its time; nobody is on the line yet.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10min'")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4573)")


def _check_references(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise JournalError(
            "the upgrade of the journal has lost a reference; nothing was changed: report this"
        )


def revisions(engine: sa.Engine) -> tuple[str, str]:
    """The schema's revision (empty: none yet), and that of this release. Changes nothing.

    A schema that says that it is of several has them all, separated by commas; no release has one like that.
    """
    with engine.connect().execution_options(reading=True) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return "", HEAD
        there = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    return ", ".join(there), HEAD


def _migrations() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see HEAD

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def cause(error: sa.exc.SQLAlchemyError) -> str:
    """The driver's own words on what went wrong; values are hidden by the engine."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def rows(connection: sa.Connection, query: sa.Select[Any], **given: object) -> list[dict[str, Any]]:
    """Run a query; rows as plain dictionaries. given: its parameters."""
    return [dict(row) for row in connection.execute(query, given).mappings()]
