"""`ivr-agi user`: who may use the merchant's panel.

A password is typed unseen, twice, or comes as a line on standard input; it is never an option, which would be
in everybody's list of processes and in a shell's history.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ivr_agi.cli.wiring import fail, in_journal, literal_console, make_table
from ivr_agi.journal import people
from ivr_agi.journal.tables import timestamp
from ivr_agi.panel.accounts import Role, Unfit, check_name, check_password

if TYPE_CHECKING:
    import sqlalchemy as sa

    from ivr_agi.journal import Journal

app = typer.Typer(help="Who may use the merchant's panel.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="2 to 40 of a-z 0-9 . _ -, a letter first.")]


@app.command("add")
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the user may do, see docs/panel.md.")],
) -> None:
    """Make a user; the password is asked for, unseen, or is a line on standard input."""
    _check(name)
    password = _password(name)

    def do(connection: sa.Connection) -> bool:
        made = people.add(connection, name, role, password)
        if made:
            people.record(connection, _me(), "", "user-added", about=f"{name}: {role}")
        return made

    if not in_journal(lambda journal: journal.now(do)):
        fail(f"there is a user {name} already; `ivr-agi user password {name}` gives a new password", 1)
    literal_console().print(f"{name} may sign in, as {role}.")


@app.command("password")
def password(name: Name) -> None:
    """Give a user a new password; whoever is signed in under the name is signed out."""
    _change(_check(name), "a new password", password=_password(name))
    literal_console().print(f"{name} has a new password.")


@app.command("role")
def role(name: Name, role: Annotated[Role, typer.Argument(help="The new one.")]) -> None:
    """Give a user another role; whoever is signed in under the name is signed out."""
    _change(_check(name), f"role {role}", role=str(role))
    literal_console().print(f"{name} is {role} now.")


@app.command("disable")
def disable(name: Name) -> None:
    """Let a user in no more, from this moment; what he did stays in the audit log."""
    _change(_check(name), "disabled", disabled_at=timestamp())
    literal_console().print(f"{name} may not sign in any more.")


@app.command("enable")
def enable(name: Name) -> None:
    """Let a disabled user in again."""
    _change(_check(name), "enabled", disabled_at="")
    literal_console().print(f"{name} may sign in again.")


@app.command("list")
def list_users() -> None:
    """List the users."""
    table = make_table("name", "role", "made", "password of", "disabled")
    for row in in_journal(lambda journal: journal.now(people.every)):
        table.add_row(row["name"], row["role"], row["created_at"], row["changed_at"], row["disabled_at"])
    literal_console().print(table)


def _change(name: str, what: str, **to: Any) -> None:
    def do(connection: sa.Connection) -> bool:
        changed = people.change(connection, name, **to)
        if changed:
            people.record(connection, _me(), "", "user-changed", about=f"{name}: {what}")
        return changed

    def write(journal: Journal) -> bool:
        return journal.now(do)

    if not in_journal(write):
        fail(f"there is no user {name}; `ivr-agi user list` shows those there are", 1)


def _check(name: str) -> str:
    try:
        return check_name(name)
    except Unfit as unfit:
        fail(f"NAME: {unfit}")


def _password(name: str) -> str:
    if sys.stdin.isatty():
        given = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Once more: ") != given:
            fail("the two are not the same; nothing was changed", 1)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    from ivr_agi.panel.passwords import Passwords  # noqa: PLC0415 - no other command needs argon2

    try:
        return Passwords.hashed(check_password(given, name))
    except Unfit as unfit:
        fail(str(unfit))


def _me() -> str:
    """Who does it, of the machine's own users: `shell:NAME`."""
    try:
        return f"shell:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "shell"
