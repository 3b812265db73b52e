"""The same call on aioagi's application, on uvloop: in_aioagi.py PORT SCRIPT.

aioagi 1.2.0 wants aiohttp below 3.5, which takes names from Python that 3.10 and 3.11 no longer have. They are lent to
it here; nothing else of it is changed.
"""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import uvloop

asyncio.coroutine = types.coroutine  # type: ignore[attr-defined]
asyncio.coroutines._DEBUG = False  # type: ignore[attr-defined]  # noqa: SLF001
for name in ("Mapping", "MutableMapping", "Sequence", "MutableSequence", "Set", "Iterable", "Sized"):
    setattr(collections, name, getattr(collections.abc, name))

from aioagi import runner  # noqa: E402
from aioagi.app import AGIApplication  # noqa: E402

BACKLOG = 4096  # calls that wait to be accepted; its own is 128


async def main(script: list[list[Any]]) -> None:
    """Serve until killed. script: the commands of a call, each a method and its arguments."""
    logging.disable(logging.INFO)

    async def pay(request: Any) -> None:
        agi = request.agi
        for method, *arguments in script:
            await getattr(agi, method)(*arguments)

    app = AGIApplication()
    app.router.add_route("*", "/pay", pay)
    running = runner.AppRunner(app)
    await running.setup()
    await runner.get_site(running, host="127.0.0.1", port=int(sys.argv[1]), backlog=BACKLOG)
    print(sys.argv[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[2]).read_text())))
