"""The demo: gateway simulator, server and phone in one process, nothing real anywhere.

What it runs is the very server that `ivr-agi serve` runs; only the gateway, the telephone and the
journal's folder are stand-ins. `open_line` puts them together, for whoever wants a call without a
telephone. No setting of a real line is used: a demo must not find its way
into a merchant's journal or to a real gateway.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from ivr_agi import settings
from ivr_agi.gateway import Gateway
from ivr_agi.journal import Journal
from ivr_agi.model import Secret
from ivr_agi.payments import Payments
from ivr_agi.server import Server
from ivr_agi.simulator.gateway import CARDS, GatewaySimulator
from ivr_agi.simulator.phone import call, make_phone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Any

    from rich.console import Console

    from ivr_agi.simulator.gateway import Sms

SEQUENCE: Final = "demo"
CARD: Final = next(card for card in CARDS if card.name == "paid").number
HAPPY: Final = ("1", CARD, "pin")  # what --script keys when it is given nothing


@dataclass(frozen=True, slots=True)
class Line:
    """A payment line that has nothing real behind it. url: `agi://…/pay`, the query to be added."""

    url: str
    journal: Journal


@asynccontextmanager
async def open_line(*, language: str, on_sms: Callable[[Sms], None], **given: object) -> AsyncIterator[Line]:
    """Run gateway simulator and server while the block lasts; the journal is gone with it.

    on_sms: called with each one-time PIN sent. given: further settings, as `pay_timeout=1.0`.
    Raises WrongSettings.
    """
    with tempfile.TemporaryDirectory(prefix="ivr-agi-demo-") as folder:
        async with GatewaySimulator(SEQUENCE, on_sms=on_sms) as gateway:
            found = settings.load(
                _env_file=None,
                host="127.0.0.1",
                port=0,
                allowed_peers="127.0.0.0/8",
                gateway_url=gateway.url,
                sequence=SEQUENCE,
                journal_url=f"sqlite:///{Path(folder) / 'demo.db'}",
                language=language,
                persian_code="fa",
                drain_limit=0,
                **given,
            )
            journal = Journal(found.journal_url, limits=found.limits)
            client = Gateway(
                gateway.url, Secret(SEQUENCE), otp_timeout=found.otp_timeout, pay_timeout=found.pay_timeout
            )
            server = Server(found, Payments(journal, client))
            port = await server.start()
            try:
                yield Line(f"agi://127.0.0.1:{port}/pay", journal)
            finally:
                await server.drain()
                journal.close()


async def run(console: Console, digits: Sequence[str] | None, *, amount: str, language: str) -> int:
    """Make one call; returns 0 if the payment succeeded, 1 if not. Raises PhoneError, WrongSettings."""
    phone = make_phone(console, digits, "en" if language == "en" else "fa")
    async with open_line(language=language, on_sms=phone.receive) as line:
        if digits is None:
            console.print(_cards())
        variables = await call(f"{line.url}?amount={amount}", phone)
        phone.screen.end(variables)
        console.print(_rows(line.journal.attempts()))
    return 0 if variables.get("PAYSTATUS") == "PAID" else 1


def _cards() -> Table:
    table = Table("card to key in", "what happens", "", title="Cards to try", title_justify="left")
    for card in CARDS:
        table.add_row(card.number, card.en, card.fa)
    return table


def _rows(attempts: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="The merchant's journal", title_justify="left")
    for column in ("id", "order", "rials", "card", "state", "code", "tracking no."):
        table.add_column(column, overflow="fold")
    for row in reversed(attempts):
        table.add_row(
            str(row["id"]), row["order_id"], f"{row['amount']:,}",
            row["card"], row["state"], row["code"], row["ref_id"],
        )  # fmt: skip
    return table
