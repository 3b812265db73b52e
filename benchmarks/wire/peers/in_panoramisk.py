"""The same call on panoramisk's FastAGI application, on uvloop: in_panoramisk.py PORT SCRIPT."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop
from panoramisk import fast_agi

BACKLOG = 4096  # calls that wait to be accepted; its examples leave it at 100


def word(method: str, *arguments: Any) -> str:
    """Panoramisk takes commands as text: it has no methods for them."""
    match method:
        case "set_variable":
            return f'SET VARIABLE "{arguments[0]}" "{arguments[1]}"'
        case "stream_file":
            return f'STREAM FILE "{arguments[0]}" "{arguments[1]}" 0'
        case "get_data":
            return f'GET DATA "{arguments[0]}" {arguments[1]} {arguments[2]}'
        case "set_music":
            return f'SET MUSIC {arguments[0]} "{arguments[1]}"'
    return "ANSWER"


async def main(script: list[list[Any]]) -> None:
    """Serve until killed. script: the commands of a call, each a method and its arguments."""

    async def pay(request: fast_agi.Request) -> None:
        for method, *arguments in script:
            answer = await request.send_command(word(method, *arguments))
            if answer.get("status_code") != 200:  # noqa: PLR2004 - AGI's "done"
                raise RuntimeError(answer)

    app = fast_agi.Application()
    app.add_route("pay", pay)
    server = await asyncio.start_server(app.handler, "127.0.0.1", int(sys.argv[1]), backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[2]).read_text())))
