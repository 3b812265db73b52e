"""The server of `wire.py` on this project's own classes, wired as `ivr_agi/server.py` does: no payment, and no door.

    ours.py PORT SCRIPT

One task for each call on uvloop: its environment, the commands of SCRIPT (call.json), and closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop

from ivr_agi.agi import Agi, Wire, parse_environment
from ivr_agi.listener import Listener, open_sockets
from ivr_agi.model import Hangup

log = structlog.get_logger()


class Server:
    """One listening FastAGI server. script: the commands of a call, method and arguments."""

    def __init__(self, script: list[list[Any]]) -> None:
        self._script = [(method, tuple(arguments)) for method, *arguments in script]
        self._connections: dict[asyncio.Task[None], Wire] = {}

    async def start(self, port: int) -> int:
        """Listen as `ivr_agi.server.Server.start` does; returns the port."""
        listener = Listener(await open_sockets("127.0.0.1", port), self._accept)
        await listener.start()
        return listener.port

    def _accept(self, wire: Wire) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(wire))
        self._connections[task] = wire
        task.add_done_callback(self._connections.pop)

    async def _serve(self, wire: Wire) -> None:
        """One call, from the first line of its environment to the closed connection."""
        try:
            structlog.contextvars.bind_contextvars(call=secrets.token_hex(4))
            environment = parse_environment(await wire.environment())
            structlog.contextvars.bind_contextvars(
                uniqueid=environment["uniqueid"], channel=environment["channel"][:80]
            )
            await self._converse(Agi(wire))
        except Hangup as gone:
            log.info("call.lost", peer=wire.peer, why=str(gone))
        except Exception:
            log.exception("call.broken")
        finally:
            wire.close()

    async def _converse(self, agi: Agi) -> None:
        for method, arguments in self._script:
            if method == "stream_file":
                await agi.stream_file(*arguments)
            elif method == "get_data":
                await agi.get_data(*arguments)
            elif method == "set_variable":
                await agi.set_variable(*arguments)
            elif method == "set_music":
                await agi.set_music(arguments[1], on=arguments[0] == "on")
            else:
                await agi.answer()


async def main(script: list[list[Any]]) -> None:
    """Serve until killed. script: the commands of a call, each a method and its arguments."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    server = Server(script)
    print(await server.start(int(sys.argv[1])), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[2]).read_text())))
