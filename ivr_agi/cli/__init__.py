"""The commands. The only place that reads the environment and wires the parts together.

Each is started for itself, and a server that is restarted is waited for: what only one command needs is
imported by that one.
"""

from __future__ import annotations

import gc

gc.disable()  # what an import makes stays: to look for garbage in it again and again is a seventh of a start

# ruff: noqa: E402 - see above
import asyncio
from contextlib import suppress
from typing import Annotated

import structlog
import typer
import uvloop
from rich.console import Console

from ivr_agi import __version__, flow, hardening, logs, settings
from ivr_agi.cli import journal as journal_commands
from ivr_agi.cli import pause as pause_commands
from ivr_agi.cli import serving
from ivr_agi.cli import sounds as sounds_commands
from ivr_agi.cli import user as user_commands
from ivr_agi.cli.check import check
from ivr_agi.cli.wiring import (
    fail,
    literal_console,
    open_journal,
    open_payments,
    read_settings,
    recover,
    run,
)
from ivr_agi.journal import JournalError

gc.enable()

log = structlog.get_logger()

app = typer.Typer(
    help="Pay a merchant by phone: FastAGI between Asterisk and PayStar's telephone gateway.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a local variable may be a card number
    pretty_exceptions_enable=False,
)
app.add_typer(journal_commands.app, name="journal")
app.add_typer(sounds_commands.app, name="sounds")
app.add_typer(user_commands.app, name="user")
app.command()(check)
app.command()(pause_commands.pause)
app.command()(pause_commands.resume)


def main() -> None:
    """Run `ivr-agi`."""
    hardening.keep_memory_in()
    app()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve(
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=64,
            help="Processes that take calls, under one that watches over them; 0: this one does all."
            " Unless given, IVR_AGI_WORKERS.",
        ),
    ] = None,
) -> None:
    """Run the FastAGI server until SIGTERM or SIGINT, then drain. With workers, SIGHUP starts them anew."""
    found = read_settings(secret=True)
    run(serving.serve(found, found.workers if workers is None else workers))


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
    from ivr_agi import charge  # noqa: PLC0415 - only this command

    found = read_settings(secret=True, quiet=True)
    journal = open_journal(found)
    recover(journal)
    payments = open_payments(found, journal)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            status = charge.charge(
                runner, payments, found, literal_console(), order_id=order, amount=amount, mobile=mobile
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
    from ivr_agi import demo  # noqa: PLC0415 - no other command needs the panel
    from ivr_agi.simulator.phone import PhoneError  # noqa: PLC0415 - nor the phone

    if digits and not script:
        fail("DIGITS… go with --script")
    keyed = (digits or demo.HAPPY) if script else None
    logs.configure("INFO" if verbose else "ERROR", "console")
    try:
        run(demo.run(Console(), keyed, amount=amount, language=language))
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
    from ivr_agi.simulator.phone import PhoneError, run_phone  # noqa: PLC0415 - only this command and `demo`

    if digits and not script:
        fail("DIGITS… go with --script")

    async def ring() -> int:
        variables = await run_phone(url, (digits or []) if script else None, caller_id, Console())
        return 0 if variables.get("PAYSTATUS") == "PAID" else 1

    try:
        run(ring())
    except PhoneError as error:
        fail(str(error))


@app.command()
def simulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8088,
    sequence: Annotated[str | None, typer.Option(help="The only `sequence` accepted; any if absent.")] = None,
) -> None:
    """Run the gateway's stand-in; it prints the one-time PINs that it sends."""
    from ivr_agi.simulator.gateway import run_gateway  # noqa: PLC0415 - only this command and `demo`

    async def stand_in() -> int:
        with suppress(asyncio.CancelledError):
            await run_gateway(host, port, sequence, lambda line: print(line, flush=True))  # noqa: T201 - its output
        return 0

    try:
        run(stand_in())
    except OSError as error:
        fail(f"--host, --port: cannot listen on {host}:{port}: {error.strerror or error}")
    except KeyboardInterrupt:
        raise SystemExit(0) from None
