"""The commands. The only place that reads the environment and wires the parts together."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import structlog
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ivr_agi import __version__, charge, demo, flow, logs, settings
from ivr_agi.gateway import Gateway
from ivr_agi.journal import AttemptState, Journal, JournalError
from ivr_agi.model import Secret
from ivr_agi.payments import Payments
from ivr_agi.prompts import sounds
from ivr_agi.server import Server
from ivr_agi.simulator.gateway import run_gateway
from ivr_agi.simulator.phone import PhoneError, run_phone

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
sounds_app = typer.Typer(help="Build, check and install the sound files.", no_args_is_help=True)
app.add_typer(sounds_app, name="sounds")

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
            why = error.strerror or error
            fail(f"IVR_AGI_HOST, IVR_AGI_PORT: cannot listen on {found.host}:{found.port}: {why}")
        await stop.wait()
        await server.drain()
    finally:
        journal.close()
    return 0


@app.command(name="flow")
def print_flow() -> None:
    """Print the call's states as a Mermaid diagram, from the table that runs the calls."""
    typer.echo(flow.diagram())


@app.command(name="charge")
def take_charge(
    order: Annotated[str | None, typer.Option(help="The merchant's order; made if absent.")] = None,
    amount: Annotated[str | None, typer.Option(help="Whole rials; asked if absent.")] = None,
    mobile: Annotated[str | None, typer.Option(help="The payer's mobile; asked if absent.")] = None,
) -> None:
    """Take a payment in the terminal (method 2.2); card and PIN are typed unseen."""
    found = _settings(secret=True)
    journal = _journal(found)
    payments = Payments(journal, _gateway(found))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            status = charge.charge(
                runner, payments, found, Console(), order_id=order, amount=amount, mobile=mobile
            )
        finally:
            journal.close()
    raise SystemExit(status)


# -- without Asterisk, without credentials ---------------------------------------------------------------

Digits = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DIGITS…", help="With --script: what is keyed, an answer each; `pin` is the SMS's PIN."
    ),
]
Scripted = Annotated[
    bool, typer.Option("--script", help="Key DIGITS… unattended instead of the keyboard's keys.")
]


@app.command(name="demo")
def run_demo(
    digits: Digits = None,
    script: Scripted = False,
    amount: Annotated[str, typer.Option(help="Rials, or `ask`.")] = "50000",
    language: Annotated[str, typer.Option(help="fa, en or ask.")] = "fa",
    verbose: Annotated[bool, typer.Option(help="Show the server's log, too.")] = False,
) -> None:
    """Pay by the keyboard: gateway simulator, server and phone in one; exits 0 if the payment succeeded."""
    if digits and not script:
        fail("DIGITS… go with --script")
    keyed = (digits or demo.HAPPY) if script else None
    logs.configure("INFO" if verbose else "ERROR", "console")
    try:
        _run(demo.run(Console(), keyed, amount=amount, language=language))
    except (PhoneError, settings.WrongSettings, JournalError) as error:
        fail(str(error))


@app.command()
def phone(
    url: Annotated[str, typer.Argument(metavar="URL", help="agi://host:port/pay?amount=…")],
    digits: Digits = None,
    script: Scripted = False,
    caller_id: Annotated[str, typer.Option(help="The caller's number; empty: withheld.")] = "09123456789",
) -> None:
    """Play Asterisk's side of one call against any FastAGI server, with the terminal as the phone."""
    if digits and not script:
        fail("DIGITS… go with --script")

    async def ring() -> int:
        variables = await run_phone(url, (digits or []) if script else None, caller_id, Console())
        return 0 if variables.get("PAYSTATUS") == "PAID" else 1

    try:
        _run(ring())
    except PhoneError as error:
        fail(str(error))


@app.command()
def simulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8088,
    sequence: Annotated[str | None, typer.Option(help="The only `sequence` accepted; any if absent.")] = None,
) -> None:
    """Run the gateway's stand-in; it prints the one-time PINs that it sends."""

    async def stand_in() -> int:
        with suppress(asyncio.CancelledError):
            await run_gateway(host, port, sequence, lambda line: print(line, flush=True))  # noqa: T201 - its output
        return 0

    try:
        _run(stand_in())
    except OSError as error:
        fail(f"--host, --port: cannot listen on {host}:{port}: {error.strerror or error}")
    except KeyboardInterrupt:
        raise SystemExit(0) from None


# -- the sounds -----------------------------------------------------------------------------------------


@sounds_app.command("build")
def sounds_build(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Prompts or clips; all if absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to build in.")] = None,
    force: Annotated[bool, typer.Option(help="Also what has not changed.")] = False,
) -> None:
    """Make the sound files of prompts whose words have changed, with espeak-ng."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sounds")
        try:
            written = sounds.build(
                out or sounds.shipped(),
                only=only or None,
                force=force,
                progress=lambda done, total, name: bar.update(
                    task, completed=done, total=total, description=name
                ),
            )
        except (sounds.SpeechError, KeyError, OSError) as error:
            fail(str(error))
    typer.echo(f"{len(written)} files written")


@sounds_app.command("check")
def sounds_check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The shipped sounds if absent.")
    ] = None,
    installed: Annotated[bool, typer.Option(help="DIR is Asterisk's own sounds folder.")] = False,
) -> None:
    """Say what is missing, out of date or not playable; exits 1 if anything is."""
    problems = sounds.check(folder or sounds.shipped(), installed=installed)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise SystemExit(1)
    typer.echo("all sounds are there and in order")


@sounds_app.command("install")
def sounds_install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Asterisk's sounds folder.")],
    persian: Annotated[
        str, typer.Option(help="Name of the Persian folder there (`pr` with some sound sets).")
    ] = "fa",
    force: Annotated[bool, typer.Option(help="Replace recordings that are not ours, too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
) -> None:
    """Copy the sounds into Asterisk's sounds folder; nothing is ever deleted."""
    try:
        actions = sounds.install(folder, codes={"fa": persian}, force=force, dry_run=dry_run)
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}")
    for action in actions:
        if action.verb != "same":
            typer.echo(str(action))


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
