"""What a PostgreSQL database consists of: whether a test has left one as it was given, and can it be given again."""

from __future__ import annotations

from typing import Any, TypeAlias

import sqlalchemy as sa

Schema: TypeAlias = tuple[Any, ...]

# What initdb makes has ids below 16384 (PostgreSQL's manual, "System Catalog Declarations and Initial Contents").
IS_EMPTY = """
SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
AND EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')
AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
"""
# Each thing by its id, so that one made anew is another; what only counts or describes rows is left out.
SCHEMA = """
SELECT 'class', oid::bigint, relname::text, concat(relkind, relpersistence), relchecks + relnatts,
  concat(relhasrules, relhastriggers, relrowsecurity, relowner, relnamespace, reloptions, relacl)
  FROM pg_class WHERE oid >= 16384
UNION ALL SELECT 'column', attrelid::bigint, attname::text, atttypid::text, attnum, concat(attnotnull, attisdropped)
  FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
UNION ALL SELECT 'default', adrelid::bigint, adbin::text, '', adnum, '' FROM pg_attrdef
UNION ALL SELECT 'index', indexrelid::bigint, indexprs::text, indpred::text, 0, concat(indisunique, indisvalid, indkey)
  FROM pg_index WHERE indrelid >= 16384
UNION ALL SELECT 'constraint', oid::bigint, conname::text, conbin::text, 0, concat(contype, convalidated)
  FROM pg_constraint WHERE conrelid >= 16384
UNION ALL SELECT 'trigger', oid::bigint, tgname::text, tgenabled::text, 0, ''
  FROM pg_trigger WHERE tgrelid >= 16384
UNION ALL SELECT 'function', oid::bigint, proname::text, prosrc, 0, '' FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'type', oid::bigint, typname::text, '', 0, '' FROM pg_type WHERE oid >= 16384
UNION ALL SELECT 'schema', oid::bigint, nspname::text, '', 0, concat(nspowner, nspacl)
  FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'
UNION ALL SELECT 'extension', oid::bigint, extname::text, '', 0, '' FROM pg_extension WHERE oid >= 16384
ORDER BY 1, 2, 3, 4, 5, 6
"""
REVISION = "alembic_version"  # the one table of a journal just begun that has a row


def is_empty(connection: sa.Connection) -> bool:
    """Whether a database is as initdb has made it."""
    return bool(connection.exec_driver_sql(IS_EMPTY).scalar_one())


def schema_of(connection: sa.Connection) -> Schema:
    """All that a journal's database has but its rows, and the revision that it says it is; () if it says none."""
    try:
        revision = connection.exec_driver_sql(f"SELECT version_num FROM {REVISION}").all()  # noqa: S608
    except sa.exc.ProgrammingError:  # not even the table
        return ()
    return tuple(map(tuple, [*revision, *connection.exec_driver_sql(SCHEMA)]))


def remove_rows(connection: sa.Connection) -> None:
    """Leave a journal as if it had just begun: without rows, and with ids that count from 1."""
    tables = connection.exec_driver_sql(
        "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> %s",
        (REVISION,),
    ).scalars()
    connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
