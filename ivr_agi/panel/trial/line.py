"""The trial line as a process of its own: server, simulator and a journal in a temporary folder.

Its parent, the panel, writes one line of JSON to its standard input (settings that shape a call) and keeps
that open; it reads lines of JSON from its standard output: the line's address, then each SMS. When the input
closes, also because the parent was killed, the line ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import uvloop

from ivr_agi import hardening, logs
from ivr_agi.rehearsal import open_line

if TYPE_CHECKING:
    from ivr_agi.simulator.gateway import Sms

GOODBYE_SECONDS: Final = 2.0  # for a `pay` under way: no money hangs on it


def main() -> None:
    """Run the line until standard input closes, or SIGTERM or SIGINT comes."""
    hardening.keep_memory_in()
    logs.configure("ERROR", "json")  # on standard error: the standard output is the parent's
    status = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(json.loads(sys.stdin.readline())))
        except asyncio.CancelledError:
            pass  # the goodbye has taken too long
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
            _tell({"trouble": f"{type(error).__name__}: {error}"})
            status = 1
    # A thread may still wait for an answer of the simulator's, and nobody waits for that.
    os._exit(status)


async def _serve(given: dict[str, Any]) -> None:
    async with open_line(language=given.pop("language", "fa"), on_sms=_tell_sms, **given) as line:
        _tell({"url": line.url})
        await _end()
        serving = asyncio.current_task()
        if serving:
            asyncio.get_running_loop().call_later(GOODBYE_SECONDS, serving.cancel)


async def _end() -> None:
    """Wait until the parent lets go."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    waiting = [asyncio.create_task(reader.read()), asyncio.create_task(ended.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _tell_sms(sms: Sms) -> None:
    _tell({"order_id": sms.order_id, "pin": sms.pin, "text": sms.text})


def _tell(line: dict[str, str]) -> None:
    with suppress(OSError):  # the parent has gone: its end of the input says so, too
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
