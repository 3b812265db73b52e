"""The commands. The only place that reads the environment and wires the parts together."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import structlog
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from ivr_agi import __version__, flow, logs, settings
from ivr_agi.gateway import Gateway
from ivr_agi.journal import AttemptState, Journal, JournalError
from ivr_agi.model import Secret
from ivr_agi.payments import Payments
from ivr_agi.server import Server

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ivr_agi.settings import Settings

log = structlog.get_logger()

app = typer.Typer(
    help="Pay a merchant by phone: FastAGI between Asterisk and PayStar's telephone gateway.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a local variable may be a card number
    pretty_exceptions_enable=False,
)
journal_app = typer.Typer(help="Look into the journal of payments.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")

# What a merchant or a spreadsheet gets of an attempt, in this order.
EXPORTED = (
    "id", "order_id", "state", "amount", "card", "ref_id", "code", "reason", "review", "mobile",
    "method", "pins_sent", "call", "created_at", "updated_at",
)  # fmt: skip


def main() -> None:
    """Run `ivr-agi`."""
    app()


def fail(message: str, status: int = 2) -> NoReturn:
    """End with a line on standard error that names the thing and the cure."""
    typer.echo(message, err=True)
    raise SystemExit(status)


def _settings(*, secret: bool = False) -> Settings:
    try:
        found = settings.load()
    except settings.WrongSettings as wrong:
        fail(str(wrong))
    if secret and not found.sequence.get_secret_value():
        fail(
            "IVR_AGI_SEQUENCE: not set; it is the telephone gateway's identifier in PayStar's panel"
            " (`ivr-agi demo` works without one)"
        )
    logs.configure(found.log_level, found.log_format)
    for name in settings.unknown_names():
        log.warning("settings.unknown", name=name, cure="a misspelt name? .env.example lists them all")
    return found


def _journal(found: Settings) -> Journal:
    try:
        return Journal(found.journal_url)
    except JournalError as error:
        fail(str(error))


def _gateway(found: Settings) -> Gateway:
    return Gateway(
        found.gateway_url,
        Secret(found.sequence.get_secret_value()),
        otp_timeout=found.otp_timeout,
        pay_timeout=found.pay_timeout,
    )


def _run(program: Coroutine[Any, Any, int]) -> NoReturn:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(program))


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve() -> None:
    """Run the FastAGI server until SIGTERM or SIGINT, then drain."""
    found = _settings(secret=True)
    journal = _journal(found)
    _run(_serve(found, journal))


async def _serve(found: Settings, journal: Journal) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        for state, count in journal.recover().items():
            log.warning("journal.recovered", state=state, attempts=count, cure="`ivr-agi journal list`")
        server = Server(found, Payments(journal, _gateway(found)))
        try:
            await server.start()
        except OSError as error:
            fail(
                f"IVR_AGI_HOST, IVR_AGI_PORT: cannot listen on {found.host}:{found.port}: {error.strerror or error}"
            )
        await stop.wait()
        await server.drain()
    finally:
        journal.close()
    return 0


@app.command(name="flow")
def print_flow() -> None:
    """Print the call's states as a Mermaid diagram, from the table that runs the calls."""
    typer.echo(flow.diagram())


# -- the journal ----------------------------------------------------------------------------------------


@journal_app.command("list")
def journal_list(
    order: Annotated[str | None, typer.Option(help="Only this order.")] = None,
    state: Annotated[AttemptState | None, typer.Option(help="Only attempts in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """List attempts, newest first."""
    table = Table(
        "id", "order", "state", "rials", "card", "tracking no.", "code", "reason", "mobile", "updated"
    )
    for row in _journal(_settings()).attempts(order_id=order, state=state, limit=limit):
        table.add_row(
            str(row["id"]), row["order_id"], row["state"], f"{row['amount']:,}", row["card"], row["ref_id"],
            row["code"], row["reason"], row["mobile"], row["updated_at"],
        )  # fmt: skip
    Console().print(table)


@journal_app.command("show")
def journal_show(attempt_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Show one attempt and its history, step by step."""
    found = _journal(_settings()).attempt(attempt_id)
    if found is None:
        fail(f"there is no attempt {attempt_id}; `ivr-agi journal list` shows those there are", 1)
    row, steps = found
    console = Console()
    fields = Table(show_header=False)
    for name, value in row.items():
        fields.add_row(name, str(value))
    console.print(fields)
    history = Table("at", "state", "note", "process")
    for step in steps:
        history.add_row(step["at"], step["state"], step["note"], step["owner"])
    console.print(history)


@journal_app.command("export")
def journal_export(
    form: Annotated[str, typer.Option("--format", help="csv or json.")] = "csv",
) -> None:
    """Write all attempts to standard output, oldest first: CSV, or JSON as an array of objects."""
    if form not in ("csv", "json"):
        fail("--format: csv or json")
    rows = [{name: row[name] for name in EXPORTED} for row in reversed(_journal(_settings()).attempts())]
    if form == "json":
        json.dump(rows, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
    else:
        writer = csv.DictWriter(sys.stdout, EXPORTED)
        writer.writeheader()
        writer.writerows(rows)
