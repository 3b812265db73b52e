"""A whole payment line for tests: server, journal and gateway simulator, on loopback, in one process.

`await line.call({...})` is one caller who keys what the script says; what comes back is what he
heard and what the dialplan was told. Sockets are real and hidden here.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ivr_agi import settings
from ivr_agi.cli import wiring
from ivr_agi.journal import Journal
from ivr_agi.simulator.channel import Channel, ScriptedHandset, dial
from ivr_agi.simulator.gateway import GatewaySimulator, sample_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ivr_agi.payments import Payments
    from ivr_agi.server import Server

SEQUENCE = "acd54b56ddd651a5cc3v"
CARD = "6037991234567893"
MOBILE = "09123456789"


class Thinking:
    """An answer that the caller thinks over: `asked` when the question is put, keyed once he may `go_on`."""

    def __init__(self, keys: str) -> None:
        self.keys = keys
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> str:
        self.asked.set()
        await self.go_on.wait()
        return self.keys


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for what no event tells: another process's row, a line of the log. seconds: at most so long."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Ended:
    """One call after its end: the dialplan's variables, what was heard, and the channel itself."""

    variables: dict[str, str]
    heard: list[str]
    channel: Channel
    handset: ScriptedHandset

    @property
    def status(self) -> str:
        return self.variables.get("PAYSTATUS", "")

    @property
    def reason(self) -> str:
        return self.variables.get("PAYREASON", "")


@dataclass
class Line:
    """The line under test."""

    server: Server
    port: int
    gateway: GatewaySimulator
    journal: Journal
    payments: Payments
    channels: list[Channel] = field(default_factory=list)

    def pin(self, card: str = CARD) -> Callable[[], str]:
        """The keys of the last one-time PIN that this card was sent, ended by `#`."""
        return lambda: self.gateway.pin_for(card) + "#"

    def buyer(self, card: str = CARD, **also: Any) -> dict[str, Any]:
        """A caller who pays: 1, card, PIN; `also` changes or adds answers (`enter_pin=…` is `enter-pin`)."""
        script = {"confirm-amount": "1", "enter-card": card, "enter-pin": [self.pin(card), ...]}
        return script | {name.replace("_", "-"): answer for name, answer in also.items()}

    async def dial(
        self, script: dict[str, Any], query: str = "amount=50000&order_id=A-1", **options: Any
    ) -> Channel:
        """Begin a call; run it with `channel.run()`."""
        url = f"agi://127.0.0.1:{self.port}/pay" + (f"?{query}" if query else "")
        channel = await dial(url, ScriptedHandset(script), **options)
        self.channels.append(channel)
        return channel

    async def call(
        self, script: dict[str, Any], query: str = "amount=50000&order_id=A-1", **options: Any
    ) -> Ended:
        """One whole call."""
        channel = await self.dial(script, query, **options)
        variables = await channel.run()
        heard = [sound.removeprefix("ivr-agi/") for sound in channel.heard]
        return Ended(variables, heard, channel, channel._handset)

    def services(self) -> list[str]:
        """Which services of the gateway were called, in order."""
        return [request.service for request in self.gateway.requests]

    def attempts(self) -> list[dict[str, Any]]:
        """The journal's attempts, oldest first."""
        return self.journal.attempts()[::-1]


@cache
def empty_journal() -> bytes:
    """A journal's file just begun. Made once: all the migrations take longer than most tests."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "journal.db"
        Journal(f"sqlite:///{file}").close()
        return file.read_bytes()


def journal_of(folder: Path) -> str:
    """Where a folder's journal is kept: in a file, begun here; `--journal=postgresql` puts another answer here."""
    file = folder / "journal.db"
    if not file.exists():
        file.write_bytes(empty_journal())
    return f"sqlite:///{file}"


@asynccontextmanager
async def open_line(
    folder: Path, *, gateway_url: str = "", journal_url: str = "", **given: Any
) -> AsyncIterator[Line]:
    """Open a line whose journal is `folder`'s, if none is given; settings by name."""
    given = {"otp_cooldown": 0.0, "port": 0, "drain_limit": 0, **given}
    async with GatewaySimulator(SEQUENCE) as gateway:
        found = settings.load(
            _env_file=None,
            gateway_url=gateway_url or gateway.url,
            sequence=SEQUENCE,
            journal_url=journal_url or journal_of(folder),
            **given,
        )
        journal = wiring.open_journal(found)
        payments = wiring.open_payments(found, journal)
        server = wiring.open_server(found, payments)
        port = await server.start()
        try:
            yield Line(server, port, gateway, journal, payments)
        finally:
            await server.drain()
            journal.close()


__all__ = [
    "CARD",
    "MOBILE",
    "SEQUENCE",
    "Ended",
    "Line",
    "Thinking",
    "empty_journal",
    "open_line",
    "sample_card",
    "until",
]
