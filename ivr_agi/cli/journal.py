"""`ivr-agi journal`: what became of each payment, and what a person has found out about it."""

from __future__ import annotations

import csv
import getpass
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ivr_agi import reviewing
from ivr_agi.cli.notify import notify
from ivr_agi.cli.reconcile import reconcile
from ivr_agi.cli.wiring import fail, in_journal, literal_console, make_table
from ivr_agi.export import EXPORTED, FREE_TEXT, no_formula
from ivr_agi.journal import AttemptState, IllegalStep, Journal, Resolution

if TYPE_CHECKING:
    from typing import Any

app = typer.Typer(
    help="Look into the journal of payments, and settle what is in doubt.", no_args_is_help=True
)
app.command("reconcile")(reconcile)
app.command("notify")(notify)


@app.command("list")
def list_attempts(
    order: Annotated[str | None, typer.Option(help="Only this order.")] = None,
    state: Annotated[AttemptState | None, typer.Option(help="Only attempts in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    same_card: Annotated[
        int | None, typer.Option(metavar="ID", help="Those of this attempt's card, by its keyed hash.")
    ] = None,
) -> None:
    """List attempts, newest first."""
    table = make_table(
        "id", "order", "state", "rials", "card", "tracking no.", "code", "reason", "mobile", "updated"
    )

    def read(journal: Journal) -> list[dict[str, Any]]:
        if same_card is None:
            return journal.attempts(order_id=order, state=state, limit=limit)
        return journal.same_card(same_card)[:limit]

    for row in in_journal(read):
        table.add_row(
            str(row["id"]), row["order_id"], row["state"], f"{row['amount']:,}", row["card"], row["ref_id"],
            row["code"], row["reason"], row["mobile"], row["updated_at"],
        )  # fmt: skip
    literal_console().print(table)


@app.command("show")
def show(attempt_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Show one attempt and its history, step by step."""
    found = in_journal(lambda journal: journal.attempt(attempt_id))
    if found is None:
        fail(f"there is no attempt {attempt_id}; `ivr-agi journal list` shows those there are", 1)
    row, steps = found
    fields = make_table("field", "value")
    for name, value in row.items():
        fields.add_row(name, str(value))
    history = make_table("at", "state", "note", "process")
    for step in steps:
        history.add_row(step["at"], step["state"], step["note"], step["owner"])
    console = literal_console()
    console.print(fields)
    console.print(history)


@app.command("review")
def review() -> None:
    """List unknown and suspicious payments, oldest first, with their age. Exits 1 if there are any."""
    now = datetime.now(UTC)
    found = in_journal(lambda journal: reviewing.waiting(journal, now))
    if not found:
        literal_console().print("Nothing to look at.")
        return
    table = make_table("id", "age", "order", "state", "why", "rials", "card", "mobile", "code", "begun")
    for row in found:
        table.add_row(
            str(row["id"]), age(now, row["updated_at"]), row["order_id"], row["state"], _why(row),
            f"{row['amount']:,}", row["card"], row["mobile"], row["code"], row["created_at"],
        )  # fmt: skip
    console = literal_console()
    console.print(table)
    console.print(
        "Ask the bank, or match its list (`ivr-agi journal reconcile FILE.csv`), then for each:\n"
        '  ivr-agi journal resolve ID --as paid --ref NUMBER --by NAME --evidence "…"\n'
        '  ivr-agi journal resolve ID --as not-paid --by NAME --evidence "…"'
    )
    raise SystemExit(1)


@app.command("resolve")
def resolve(
    attempt_id: Annotated[int, typer.Argument(metavar="ID")],
    verdict: Annotated[Resolution, typer.Option("--as", help="What was found out.")],
    evidence: Annotated[str, typer.Option(help="What shows it: a statement's line, a letter, a call.")],
    ref: Annotated[str, typer.Option(help="The bank's tracking number; needed for paid.")] = "",
    by: Annotated[str, typer.Option(help="Who found it out.")] = "",
    overrule: Annotated[
        bool,
        typer.Option(
            "--overrule", help="Also what is in no doubt: the bank's own answer, an earlier verdict."
        ),
    ] = False,
) -> None:
    """Record what became of a payment: paid (its order stays paid) or not (it may be paid again)."""
    by = by.strip() or getpass.getuser()
    ref, evidence = ref.strip(), evidence.strip()
    try:
        reviewing.check(verdict, ref=ref, by=by, evidence=evidence)
    except reviewing.Unfit as unfit:
        fail(_unfit(unfit))
    try:
        holds, row = in_journal(
            lambda journal: reviewing.resolve(
                journal, attempt_id, verdict, ref=ref, by=by, evidence=evidence, overrule=overrule
            )
        )
    except reviewing.NoDoubt as sure:
        fail(f"{sure}; --overrule if you know better", 1)
    except IllegalStep as illegal:
        fail(str(illegal), 1)
    order = row.get("order_id", "")
    if verdict is Resolution.NOT_PAID:
        literal_console().print(f"Attempt {attempt_id}: not paid. Order {order} may be paid again.")
    elif holds:
        literal_console().print(f"Attempt {attempt_id}: paid, tracking number {ref}. Order {order} is paid.")
    else:
        literal_console().print(
            f"Attempt {attempt_id}: paid, tracking number {ref}. Another attempt holds order {order}: it may"
            f" have been paid twice. See `ivr-agi journal list --order {order}`, and refund one."
        )


@app.command("export")
def export(form: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv") -> None:
    """Write all attempts to standard output, oldest first: CSV, or JSON as an array of objects."""
    if form not in ("csv", "json"):
        fail("--format: csv or json")
    rows = [
        {name: row[name] for name in EXPORTED} for row in in_journal(lambda journal: list(journal.each()))
    ]
    if form == "json":
        json.dump(rows, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        writer = csv.DictWriter(sys.stdout, EXPORTED)
        writer.writeheader()
        writer.writerows(row | {name: no_formula(row[name]) for name in FREE_TEXT} for row in rows)


def age(now: datetime, since: str) -> str:
    """How long ago, in the two greatest units: `3 d 4 h`."""
    minutes = max(0, int((now - datetime.fromisoformat(since)).total_seconds()) // 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _why(row: dict[str, Any]) -> str:
    """What is suspicious about an attempt, in a few words."""
    words = {
        reviewing.STUCK_WHY: "not settled: does its process live?",
        "charged": "may have been charged",
        "merchant": "the merchant's set-up",
        "check": "the bank's system",
    }
    why = reviewing.why(row)
    return words.get(why, why)


def _unfit(unfit: reviewing.Unfit) -> str:
    """What is wrong with an option of `resolve`."""
    if unfit.missing and unfit.field == "ref":
        return "--ref: the bank's tracking number is needed for a payment that was paid"
    if unfit.missing:
        return "--evidence: say what shows it; nothing is resolved without"
    return (
        f"--{unfit.field}: at most {unfit.most} printable characters, and no card number: it is kept for ever"
    )
