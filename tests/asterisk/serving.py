"""The real server, `ivr-agi serve`, as a process of its own that a test may kill.

It gets its settings through the environment, as an admin gives them, and its log is read as
JSON. What the journal holds is asked of the `journal` command, never of the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import warm

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCE = "sequence-of-the-tests"  # what the gateway takes us by
START_SECONDS = 20.0
STOP_SECONDS = 20.0


class PaymentServer:
    """One server process: ``async with PaymentServer(folder, gateway_url, sequence) as server``."""

    def __init__(self, folder: Path, gateway_url: str, sequence: str, **settings: str):
        self.log: list[dict[str, Any]] = []
        self.output = ""  # the same, as it came
        self.url = ""  # what the dialplan calls
        given = {
            "port": "0",
            "http_port": "0",
            "gateway_url": gateway_url,
            "sequence": sequence,
            "journal_url": f"sqlite:///{folder}/journal.db",
            "log_level": "INFO",
            "log_format": "json",
            **settings,
        }
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IVR_AGI_")},
            **{f"IVR_AGI_{name.upper()}": value for name, value in given.items()},
        }

    async def __aenter__(self) -> Self:
        self._started = asyncio.Event()  # or ended before it could listen
        self._process = await self._ivr_agi("serve", stderr=warm.PIPE)
        self._reader = asyncio.create_task(self._read())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._started.wait()
        if not self.url:
            if not self._reader.done():
                await self.kill()
            await self._process.wait()
            raise AssertionError(f"the server is not listening:\n{self.output}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
                raise AssertionError(f"the server does not drain:\n{self.output[-3000:]}") from None
        await self._reader

    def freeze(self) -> None:
        """Stop it where it stands: its connections stay open, and nothing is answered; `kill` ends it."""
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """End it as a power cut would: no last word to Asterisk, none to the journal."""
        self._process.kill()
        await self._process.wait()

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Each line of its log with this message."""
        return [line for line in self.log if line.get("message") == message]

    async def journal(self) -> list[dict[str, Any]]:
        """Every attempt, as `ivr-agi journal export` hands it to the merchant."""
        export = await self._ivr_agi("journal", "export", "--format", "json", stdout=warm.PIPE)
        rows, _ = await export.communicate()
        assert export.returncode == 0
        return json.loads(rows)

    async def _ivr_agi(self, *arguments: str, **pipes: int) -> warm.Process:
        # Should the test run be killed, the kernel ends the server, too.
        return await warm.start(
            *arguments, stdin=warm.DEVNULL, cwd=self._folder, env=self._environment, **pipes
        )

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            text = raw.decode()
            self.output += text
            if not text.startswith("{"):
                continue  # a warning of Python's own
            line = json.loads(text)
            self.log.append(line)
            if line["message"] == "server.listening":
                self.url = f"agi://127.0.0.1:{line['port']}/pay"
                self._started.set()
        self._started.set()
