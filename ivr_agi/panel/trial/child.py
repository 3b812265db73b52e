"""The parent's side of the trial line: starts the process, hears of each SMS, and sees to its end.

The process gets none of our settings and secrets, neither by its environment nor by an open file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping

START_SECONDS: Final = 30.0
END_SECONDS: Final = 5.0  # then it is killed
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME")

Said = dict[str, str]


class ChildError(Exception):
    """The trial line has not come up; the message says why."""


class Child:
    """A running trial line. url: where its FastAGI server takes calls."""

    def __init__(self, process: Process, url: str, on_sms: Callable[[Said], None]) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._hearing = asyncio.create_task(self._hear(on_sms), name="trial-line")

    @classmethod
    async def start(cls, given: Mapping[str, object], on_sms: Callable[[Said], None]) -> Self:
        """Start one. given: settings by name; on_sms: called with `order_id`, `pin`, `text`. ChildError."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ivr_agi.panel.trial"),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,  # its log is nobody's, least of all ours
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
        except OSError as error:
            raise ChildError(error.strerror or str(error)) from None
        try:
            return cls(process, await _address(process, given), on_sms)
        except BaseException:
            await _end(process)
            raise

    @property
    def lost(self) -> bool:
        """Whether it has ended, or will take no more calls."""
        return self._hearing.done() or self._process.returncode is not None

    async def close(self) -> None:
        """End it, and wait until it is gone."""
        await _end(self._process)
        await asyncio.wait((self._hearing,))

    async def _hear(self, on_sms: Callable[[Said], None]) -> None:
        while said := await _next(self._process):
            if "order_id" in said:
                on_sms(said)


async def _address(process: Process, given: Mapping[str, object]) -> str:
    """Hand the settings over and wait for the address. Raises ChildError."""
    try:
        async with asyncio.timeout(START_SECONDS):
            # RuntimeError is uvloop's, for a pipe that is closed: it has ended, and says nothing below.
            with suppress(OSError, RuntimeError):
                if process.stdin:
                    process.stdin.write(f"{json.dumps(dict(given))}\n".encode())
                    await process.stdin.drain()
            said = await _next(process)
    except TimeoutError:
        raise ChildError(f"nothing heard of it within {START_SECONDS:g} s") from None
    if "url" not in said:
        raise ChildError(said.get("trouble", "it ended without a word"))
    return said["url"]


async def _next(process: Process) -> Said:
    """What it says next; nothing at its end."""
    while process.stdout and (line := await process.stdout.readline()):
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict):
                return said
    return {}


async def _end(process: Process) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """What it needs in order to run, and to find the very modules that we run on."""
    ours = str(Path(__file__).resolve().parents[3])
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}
