"""The demo: gateway simulator, server and phone in one process, and the merchant's panel beside them.

At the keyboard, the panel can be looked at while the call is on and after it; its one user is made for the
demo and gone with it.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from rich.panel import Panel as Box
from rich.table import Table
from rich.text import Text

from ivr_agi.journal import people
from ivr_agi.panel.accounts import Role
from ivr_agi.panel.app import Panel
from ivr_agi.panel.passwords import Passwords
from ivr_agi.rehearsal import open_line
from ivr_agi.simulator.gateway import CARDS
from ivr_agi.simulator.phone import call, make_phone
from ivr_agi.web import Health, Web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

    from rich.console import Console

    from ivr_agi.rehearsal import Line
    from ivr_agi.simulator.phone import Phone

CARD: Final = next(card for card in CARDS if card.name == "paid").number
HAPPY: Final = ("1", CARD, "pin")  # what --script keys when it is given nothing
USER: Final = "demo"


async def run(console: Console, digits: Sequence[str] | None, *, amount: str, language: str) -> int:
    """Make one call; returns 0 if the payment succeeded, 1 if not. Raises PhoneError, WrongSettings."""
    phone = make_phone(console, digits, "en" if language == "en" else "fa")
    given = {"panel_secret": secrets.token_hex(32), "merchant_name": "فروشگاه نمونه"}
    async with open_line(language=language, on_sms=phone.receive, **given) as line:
        if digits is not None:
            return await _call(console, phone, line, amount)
        async with _office(line) as (address, password):
            console.print(_cards())
            console.print(_welcome(address, password))
            status = await _call(console, phone, line, amount)
            if sys.stdin.isatty():
                console.print(f"The panel stays open at {address}. Enter ends the demo.")
                await asyncio.to_thread(sys.stdin.readline)
            return status


async def _call(console: Console, phone: Phone, line: Line, amount: str) -> int:
    variables = await call(f"{line.url}?amount={amount}", phone)
    phone.screen.end(variables)
    console.print(_rows(line.journal.attempts()))
    return 0 if variables.get("PAYSTATUS") == "PAID" else 1


@asynccontextmanager
async def _office(line: Line) -> AsyncIterator[tuple[str, str]]:
    """Open the merchant's panel on a free port, with one user: its address, his password."""
    password = f"demo-{secrets.token_hex(4)}"
    kept = await asyncio.to_thread(Passwords.hashed, password)
    await line.journal.write(partial(people.add, name=USER, role=Role.ADMIN, password=kept))
    panel = Panel(line.settings, line.journal, line.payments, line.server.live)
    web = Web("127.0.0.1", 0, Health(line.journal, lambda: line.server.accepting), panel)
    port = await web.start()
    try:
        yield f"http://127.0.0.1:{port}/panel/", password
    finally:
        await panel.close()
        await web.stop()


def _welcome(address: str, password: str) -> Box:
    lines = f"{address}\nuser {USER}, password {password}\nOne-time PINs of its payments appear here, too."
    return Box(Text(lines), title="The merchant's panel", title_align="left", expand=False)


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
