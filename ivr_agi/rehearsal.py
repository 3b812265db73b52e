"""A payment line that has nothing real behind it: gateway simulator, server and journal in one process.

It is the very server that `ivr-agi serve` runs; only the gateway and the journal's folder are stand-ins. For
whoever wants a call without a telephone: the demo, the preview, the panel's trial phone. No setting of a real
line decides where it writes or whom it asks: a rehearsal must find its way neither into a merchant's journal
nor to a real gateway.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ivr_agi import settings
from ivr_agi.gateway import Gateway
from ivr_agi.journal import Journal
from ivr_agi.model import Secret
from ivr_agi.payments import Payments
from ivr_agi.server import Server
from ivr_agi.simulator.gateway import GatewaySimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ivr_agi.settings import Settings
    from ivr_agi.simulator.gateway import Sms

SEQUENCE: Final = "demo"


@dataclass(frozen=True, slots=True)
class Line:
    """The line. url: `agi://…/pay`, the query to be added."""

    url: str
    settings: Settings
    journal: Journal
    payments: Payments
    server: Server


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
            payments = Payments(journal, client)
            server = Server(found, payments)
            port = await server.start()
            try:
                yield Line(f"agi://127.0.0.1:{port}/pay", found, journal, payments, server)
            finally:
                await server.drain()
                journal.close()
