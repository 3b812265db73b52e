"""`ivr-agi journal notify`: what the merchant has not been told yet, and sending it again.

It sends nothing itself: the running server does, within seconds.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ivr_agi.cli.wiring import fail, in_journal, literal_console, make_table, read_settings

if TYPE_CHECKING:
    from ivr_agi.journal import Journal


def notify(
    every: Annotated[bool, typer.Option("--all", help="List what was delivered, too.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, help="At most so many: the oldest, with --all the newest.")
    ] = 200,
    resend: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Have this one sent (again), delivered or not; may be repeated."),
    ] = None,
    resend_given_up: Annotated[
        bool, typer.Option("--resend-given-up", help="Have all that were given up sent.")
    ] = False,
) -> None:
    """List what the merchant has not been told yet, with the last trouble; have it sent again."""
    found = read_settings(quiet=True)
    if resend or resend_given_up:
        in_journal(lambda journal: _resend(journal, resend or [], given_up=resend_given_up), found)
    else:
        rows = in_journal(lambda journal: journal.notices(every=every, limit=limit + 1), found)
        _list(rows, limit, every=every)
    if not found.webhook_url:
        literal_console().print("IVR_AGI_WEBHOOK_URL is not set here: nothing is sent until a server has it.")


def _resend(journal: Journal, keys: list[str], *, given_up: bool) -> None:
    for key in keys:
        if not journal.resend_notice(key):
            fail(f"there is no notice {key}; `ivr-agi journal notify --all` shows those there are", 1)
    count = len(keys) + (journal.resend_given_up() if given_up else 0)
    literal_console().print(f"{count} to be sent again, by the server, within seconds.")


def _list(rows: list[dict[str, Any]], limit: int, *, every: bool) -> None:
    if not rows:
        literal_console().print("There is none." if every else "Everything has been told.")
        return
    table = make_table("event", "order", "payment", "type", "written", "tries", "last trouble", "next")
    for row in rows[:limit]:
        table.add_row(
            row["key"], row["order_id"], str(row["attempt_id"]), row["kind"], row["created_at"],
            str(row["tries"]), row["trouble"], _next(row),
        )  # fmt: skip
    literal_console().print(table)
    if len(rows) > limit:
        literal_console().print("There are more: --limit.")


def _next(row: dict[str, Any]) -> str:
    """What will happen to it."""
    if row["delivered_at"]:
        return f"delivered {row['delivered_at']}"
    if row["given_up_at"]:
        return f"given up {row['given_up_at']}"
    if row["due_at"] <= time.time():
        return "now"
    return datetime.fromtimestamp(row["due_at"], UTC).isoformat(timespec="seconds")
