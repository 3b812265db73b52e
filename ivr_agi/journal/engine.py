"""Open the journal's database, so that what is committed stays committed.

SQLite is opened with `journal_mode=DELETE, synchronous=EXTRA` and one writer at a time; what the
database then says of itself is read back, and anything less is refused. PostgreSQL gets
`synchronous_commit=on`. Statements are never echoed, and their values never appear in errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

BUSY_MS = 5000  # another process may be writing
PRAGMAS = {"journal_mode": "delete", "synchronous": 3, "foreign_keys": 1}


class JournalError(Exception):
    """The journal cannot be used, or a commit has failed; the message names it and the cure."""


def open_engine(url: str, *, create: bool = True) -> sa.Engine:
    """Make the engine for a journal address. Raises JournalError for what we cannot keep money on."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise JournalError(
            "IVR_AGI_JOURNAL_URL is no database address (sqlite:///FILE or postgresql+psycopg://…)"
        ) from None
    if parsed.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(
                parsed, hide_parameters=True, connect_args={"options": "-c synchronous_commit=on"}
            )
        except ImportError:
            raise JournalError("PostgreSQL needs the extra: pip install 'ivr-agi[postgres]'") from None
    forgetful = (parsed.database or ":memory:").startswith((":memory:", "file:")) or parsed.query
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or forgetful or not parsed.database:
        raise JournalError("IVR_AGI_JOURNAL_URL: a SQLite file or PostgreSQL, nothing that forgets")
    folder = Path(parsed.database).parent
    if not folder.is_dir():
        raise JournalError(f"IVR_AGI_JOURNAL_URL: there is no folder {folder}; make it first")
    if not create and not Path(parsed.database).is_file():
        raise JournalError(f"IVR_AGI_JOURNAL_URL: there is no journal {Path(parsed.database).resolve()}")
    engine = sa.create_engine(parsed, hide_parameters=True)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


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


def _begin(connection: sa.Connection) -> None:
    # A writer takes its turn at once: one that began as a reader could not wait for it.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def migrate(engine: sa.Engine) -> None:
    """Bring the schema up to date. Raises JournalError naming the cause."""
    config = _migrations()
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.SQLAlchemyError as error:
        raise JournalError(f"the journal {engine.url!r} cannot be opened: {cause(error)}") from None
    except CommandError as error:  # its schema is of a later release
        raise JournalError(f"the journal {engine.url!r} is not this release's: {error}") from None


def revisions(engine: sa.Engine) -> tuple[str, str]:
    """The schema's revision (empty: none yet), and that of this release. Changes nothing."""
    with engine.connect().execution_options(reading=True) as connection:
        there = MigrationContext.configure(connection).get_current_revision() or ""
    return there, ScriptDirectory.from_config(_migrations()).get_current_head() or ""


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def cause(error: sa.exc.SQLAlchemyError) -> str:
    """The driver's own words on what went wrong; values are hidden by the engine."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def rows(connection: sa.Connection, query: sa.Select[Any]) -> Iterable[dict[str, Any]]:
    """Run a query; rows as plain dictionaries."""
    return [dict(row) for row in connection.execute(query).mappings()]
