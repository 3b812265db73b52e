"""`ivr-agi journal`: what became of each payment."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table

from ivr_agi.cli.wiring import fail, literal_console, open_journal, read_settings
from ivr_agi.journal import AttemptState, Journal, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

app = typer.Typer(help="Look into the journal of payments.", no_args_is_help=True)

# What a merchant or a spreadsheet gets of an attempt, in this order.
EXPORTED = (
    "id", "order_id", "state", "amount", "card", "ref_id", "code", "reason", "review", "mobile",
    "method", "pins_sent", "call", "created_at", "updated_at",
)  # fmt: skip
FREE_TEXT = ("order_id", "ref_id", "reason")  # somebody else's words, unlike the mobile number's `+`


def look(read: Callable[[Journal], T]) -> T:
    """Read from the journal, which must be there."""
    journal = open_journal(read_settings(quiet=True), create=False)
    try:
        return read(journal)
    except JournalError as error:
        fail(str(error))
    finally:
        journal.close()


@app.command("list")
def list_attempts(
    order: Annotated[str | None, typer.Option(help="Only this order.")] = None,
    state: Annotated[AttemptState | None, typer.Option(help="Only attempts in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List attempts, newest first."""
    table = _table(
        "id", "order", "state", "rials", "card", "tracking no.", "code", "reason", "mobile", "updated"
    )
    for row in look(lambda journal: journal.attempts(order_id=order, state=state, limit=limit)):
        table.add_row(
            str(row["id"]), row["order_id"], row["state"], f"{row['amount']:,}", row["card"], row["ref_id"],
            row["code"], row["reason"], row["mobile"], row["updated_at"],
        )  # fmt: skip
    literal_console().print(table)


@app.command("show")
def show(attempt_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Show one attempt and its history, step by step."""
    found = look(lambda journal: journal.attempt(attempt_id))
    if found is None:
        fail(f"there is no attempt {attempt_id}; `ivr-agi journal list` shows those there are", 1)
    row, steps = found
    fields = _table("field", "value")
    for name, value in row.items():
        fields.add_row(name, str(value))
    history = _table("at", "state", "note", "process")
    for step in steps:
        history.add_row(step["at"], step["state"], step["note"], step["owner"])
    console = literal_console()
    console.print(fields)
    console.print(history)


@app.command("export")
def export(form: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv") -> None:
    """Write all attempts to standard output, oldest first: CSV, or JSON as an array of objects."""
    if form not in ("csv", "json"):
        fail("--format: csv or json")
    rows = [
        {name: row[name] for name in EXPORTED} for row in reversed(look(lambda journal: journal.attempts()))
    ]
    if form == "json":
        json.dump(rows, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        writer = csv.DictWriter(sys.stdout, EXPORTED)
        writer.writeheader()
        writer.writerows(row | {name: _no_formula(row[name]) for name in FREE_TEXT} for row in rows)


def _no_formula(text: str) -> str:
    """Keep a spreadsheet from running what somebody chose as an order id."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
