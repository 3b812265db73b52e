"""`ivr-agi pause` and `resume`: no new payments on any server of this journal, until further notice."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from ivr_agi.cli.wiring import in_journal
from ivr_agi.model import holds_card

if TYPE_CHECKING:
    from ivr_agi.journal import Journal


def pause(
    reason: Annotated[str, typer.Option(help="Why, for your colleagues: it is shown by `check`.")] = "",
) -> None:
    """Take no new payments: callers hear a sentence; what is under way ends well. Holds across restarts."""
    if not reason.isprintable() or holds_card(reason):
        raise typer.BadParameter("one line of printable text, no card number", param_hint="--reason")

    def do(journal: Journal) -> str:
        if journal.pause(_me(), reason):
            return "Paused: no payment begins. `ivr-agi resume` ends it."
        found = journal.paused() or {}
        why = f": {found['reason']}" if found.get("reason") else ""
        return f"Paused already, since {found.get('since')} by {found.get('by')}{why}."

    typer.echo(in_journal(do))


def resume() -> None:
    """Take payments again."""
    ended = in_journal(lambda journal: journal.resume())
    typer.echo("Payments are taken again." if ended else "There was no pause: payments are taken.")


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
