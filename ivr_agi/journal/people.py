"""Who may use the panel, who is signed in, and who did what: each function on a connection.

A password is here as argon2id has it, a session as a hash of what its cookie has: whoever reads the journal
can sign in by neither. The audit log is append-only; the database itself holds that (migration 0004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal.engine import rows
from ivr_agi.journal.tables import account, audit, session, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ABOUT: Final = 2000  # characters of what an entry of the audit log says


@dataclass(frozen=True, slots=True)
class Account:
    """One user. disabled_at: '' while he may sign in."""

    id: int
    name: str
    role: str
    password: str
    changed_at: str
    disabled_at: str


@dataclass(frozen=True, slots=True)
class Session:
    """One that is signed in. seen_at: the last request, to within a minute."""

    key: str
    account: Account
    begun_at: str
    seen_at: str


def _account(row: Any) -> Account:
    return Account(row.id, row.name, row.role, row.password, row.changed_at, row.disabled_at)


# -- accounts ---------------------------------------------------------------------------------------------


def find(connection: sa.Connection, name: str) -> Account | None:
    """The account of that name, None if there is none."""
    row = connection.execute(sa.select(account).where(account.c.name == name)).one_or_none()
    return None if row is None else _account(row)


def every(connection: sa.Connection) -> list[dict[str, Any]]:
    """All accounts, by name, without their passwords."""
    shown = [column for column in account.c if column.name not in ("password", "id")]
    return rows(connection, sa.select(*shown).order_by(account.c.name))


def add(connection: sa.Connection, name: str, role: str, password: str) -> bool:
    """Make an account; False if there is one of that name."""
    if find(connection, name) is not None:
        return False
    now = timestamp()
    values = {"name": name, "role": role, "password": password, "created_at": now, "changed_at": now}
    connection.execute(sa.insert(account).values(values))
    return True


def change(connection: sa.Connection, name: str, **to: str) -> bool:
    """Change role, password or disabled_at of an account; False if there is none.

    Whoever is signed in with it is so no longer.
    """
    found = find(connection, name)
    if found is None:
        return False
    if "password" in to:
        to["changed_at"] = timestamp()
    connection.execute(sa.update(account).where(account.c.id == found.id).values(to))
    ended = sa.update(session).where(session.c.account_id == found.id, session.c.ended_at == "")
    connection.execute(ended.values(ended_at=timestamp()))
    return True


def rehash(connection: sa.Connection, account_id: int, password: str) -> None:
    """Keep the same password under newer parameters; sessions stay."""
    connection.execute(sa.update(account).where(account.c.id == account_id).values(password=password))


# -- sessions ---------------------------------------------------------------------------------------------


def begin(connection: sa.Connection, key: str, account_id: int, forget_before: str) -> None:
    """Sign in. forget_before: sessions begun before it are over, and are forgotten."""
    connection.execute(sa.delete(session).where(session.c.begun_at < forget_before))
    now = timestamp()
    values = {"key": key, "account_id": account_id, "begun_at": now, "seen_at": now}
    connection.execute(sa.insert(session).values(values))


def current(connection: sa.Connection, key: str, begun_since: str, seen_since: str) -> Session | None:
    """The session of that key, if it is not over."""
    query = (
        sa.select(account, session.c.key, session.c.begun_at, session.c.seen_at)
        .join(session, session.c.account_id == account.c.id)
        .where(
            session.c.key == key,
            session.c.ended_at == "",
            session.c.begun_at >= begun_since,
            session.c.seen_at >= seen_since,
            account.c.disabled_at == "",
        )
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Session(row.key, _account(row), row.begun_at, row.seen_at)


def see(connection: sa.Connection, key: str) -> None:
    """It has been used just now."""
    connection.execute(sa.update(session).where(session.c.key == key).values(seen_at=timestamp()))


def end(connection: sa.Connection, key: str) -> None:
    """Sign out."""
    ended = sa.update(session).where(session.c.key == key, session.c.ended_at == "")
    connection.execute(ended.values(ended_at=timestamp()))


# -- the audit log ----------------------------------------------------------------------------------------


def record(  # noqa: PLR0913 - what an entry consists of
    connection: sa.Connection,
    who: str,
    address: str,
    action: str,
    *,
    attempt_id: int | None = None,
    about: str = "",
) -> None:
    """Add an entry."""
    values = {
        "at": timestamp(),
        "who": who[:40],
        "address": address[:45],
        "action": action,
        "attempt_id": attempt_id,
        "about": about[:MOST_ABOUT],
    }
    connection.execute(sa.insert(audit).values(values))


def count(connection: sa.Connection, action: str, since: str, **by: str) -> int:
    """How many entries of an action there are since then; by: who, or address."""
    query = sa.select(sa.func.count()).select_from(audit).where(audit.c.action == action, audit.c.at >= since)
    for name, value in by.items():
        query = query.where(audit.c[name] == value)
    return int(connection.execute(query).scalar_one())


def entries(
    connection: sa.Connection,
    *,
    before: int | None = None,
    attempt_id: int | None = None,
    actions: Sequence[str] = (),
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Entries, newest first. before: an id that they are older than."""
    query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if attempt_id is not None:
        query = query.where(audit.c.attempt_id == attempt_id)
    if actions:
        query = query.where(audit.c.action.in_(actions))
    return rows(connection, query)
