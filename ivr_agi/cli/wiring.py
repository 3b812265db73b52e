"""What the commands share: reading the settings, and putting the parts together by them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import structlog
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from ivr_agi import logs, settings
from ivr_agi.cardhash import CardHash
from ivr_agi.gateway import Gateway
from ivr_agi.journal import AttemptState, Journal, JournalError, people
from ivr_agi.model import Secret
from ivr_agi.orders import Orders
from ivr_agi.payments import Payments
from ivr_agi.server import Server
from ivr_agi.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pydantic import SecretStr

    from ivr_agi.panel.app import Panel
    from ivr_agi.settings import Settings
    from ivr_agi.web import Web
    from ivr_agi.workers.place import Place

log = structlog.get_logger()
T = TypeVar("T")


def fail(message: str, status: int = 2) -> NoReturn:
    """End with a line on standard error that names the thing and the cure."""
    typer.echo(message, err=True)
    raise SystemExit(status)


def run(program: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a program on the server's loop and exit with its status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(program))


def read_settings(*, secret: bool = False, quiet: bool = False) -> Settings:
    """Read the settings and set the log up by them.

    secret: `sequence` is needed. quiet: a person is looking on; only what went wrong is logged.
    """
    try:
        found = settings.load()
    except settings.WrongSettings as wrong:
        fail(str(wrong))
    if secret and not found.sequence.get_secret_value():
        fail(
            "IVR_AGI_SEQUENCE: not set; it is the telephone gateway's identifier in PayStar's panel"
            " (`ivr-agi demo` works without one)"
        )
    logs.configure("ERROR" if quiet else found.log_level, found.log_format)
    for name in settings.unknown_names():
        log.warning("settings.unknown", name=name, cure="a misspelt name? .env.example lists them all")
    return found


def open_journal(found: Settings, *, create: bool = True) -> Journal:
    """Open the journal. create: False where an absent one is a mistake."""
    try:
        return Journal(found.journal_url, create=create, notices=bool(found.webhook_url), limits=found.limits)
    except JournalError as error:
        fail(str(error))


def in_journal(work: Callable[[Journal], T], found: Settings | None = None) -> T:
    """Do something with the journal, which must be there. found: read for it unless given."""
    journal = open_journal(found or read_settings(quiet=True), create=False)
    try:
        return work(journal)
    except JournalError as error:
        fail(str(error))
    finally:
        journal.close()


def recover(journal: Journal) -> None:
    """Settle what dead processes left, now and from now on."""
    try:
        tell_recovered(journal.recover())
        journal.live(tell_recovered)
    except JournalError as error:
        fail(str(error))


def tell_recovered(settled: dict[AttemptState, int]) -> None:
    """Say in the log what was settled."""
    for state, count in settled.items():
        cure = f"`ivr-agi journal list --state {state}`"
        log.warning("journal.recovered", state=state, attempts=count, cure=cure)
    in_doubt = settled.get(AttemptState.UNKNOWN, 0)
    if in_doubt:
        log.error("journal.in_doubt", attempts=in_doubt, cure="ask the bank whether these were paid")


def open_gateway(found: Settings) -> Gateway:
    """Make the gateway's client."""
    return Gateway(
        found.gateway_url,
        Secret(found.sequence.get_secret_value()),
        otp_timeout=found.otp_timeout,
        pay_timeout=found.pay_timeout,
        late_limit=found.late_limit,
    )


def open_payments(found: Settings, journal: Journal) -> Payments:
    """Put together what may be done with money."""
    return Payments(journal, open_gateway(found), CardHash(_secrets(found.card_keys)))


def open_server(found: Settings, payments: Payments, place: Place | None = None) -> Server:
    """Make the listener, with the door's tokens and the merchant's orders. place: among others'."""
    roll = None
    if place and not place.front:
        from ivr_agi.workers.roll import SharedRoll  # noqa: PLC0415 - where a server is alone, it is not needed

        if found.max_calls > place.calls:
            log.warning("settings.later", name="MAX_CALLS", cure="it cannot grow by a reload: restart")
            found = found.model_copy(update={"max_calls": place.calls})
        roll = SharedRoll(place.roll, place.slot, place.calls)
    return Server(found, payments, open_orders(found), _secrets(found.token), roll)


def open_panel(
    found: Settings, journal: Journal, payments: Payments, server: Server, place: Place | None = None
) -> Panel | None:
    """Make the merchant's panel, if there is to be one. place: that of the front, for several servers."""
    if not settings.split_secrets(found.panel_secret):
        return None
    from ivr_agi.panel.app import Panel  # noqa: PLC0415 - none of it is needed without
    from ivr_agi.workers import live  # noqa: PLC0415

    calls = partial(live.ask, place.folder) if place else server.live
    return Panel(found, journal, payments, calls)


def open_web(
    found: Settings, journal: Journal, server: Server, panel: Panel | None, place: Place | None = None
) -> Web:
    """Make the HTTP side. place: that of the front, for several servers."""
    from ivr_agi.web import Health, Web  # noqa: PLC0415 - the line listens first

    if place is None:
        return Web(found.http_host, found.http_port, Health(journal, lambda: server.accepting), panel)
    from ivr_agi.workers import tally  # noqa: PLC0415 - where a server is alone, it is not needed

    folder = place.folder
    health = Health(journal, lambda: tally.state(folder)[0] > 0)
    return Web(
        found.http_host,
        found.http_port,
        health,
        panel,
        registry=tally.registry(place),
        sockets=place.take_sockets(),
    )


async def tell_panel(found: Settings, port: int, journal: Journal) -> None:
    """Say in the log where the panel is, and what is missing before anybody can sign in."""
    log.info("panel.ready", url=f"{found.panel_url or f'http://127.0.0.1:{port}'}/panel/")
    with suppress(JournalError):  # whatever it is, the line is more important
        if await journal.look(people.every):
            return
        log.warning("panel.no_user", cure="`ivr-agi user add NAME --role admin`")


def open_orders(found: Settings) -> Orders | None:
    """Make the client of the merchant's order endpoint, if there is one."""
    if not found.orders_url:
        return None
    return Orders(
        found.orders_url,
        _secrets(found.orders_secret),
        timeout=found.orders_timeout,
        amounts=found.amounts,
    )


def open_webhook(found: Settings, journal: Journal) -> Webhook | None:
    """Make the sender of outcomes to the merchant, if he wants to be told."""
    if not found.webhook_url:
        return None
    return Webhook(journal, found.webhook_url, _secrets(found.webhook_secret), days=found.webhook_days)


def _secrets(setting: SecretStr) -> list[Secret]:
    return [Secret(part) for part in settings.split_secrets(setting)]


def literal_console() -> Console:
    """A console that shows what it is given: an order id is no markup. Wide where nobody sees it fold."""
    wide = None if sys.stdout.isatty() else 200
    return Console(markup=False, emoji=False, highlight=False, width=wide)


def make_table(*columns: str) -> Table:
    """A table that folds what is too wide for it, and cuts nothing."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
