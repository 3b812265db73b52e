"""A slow way between Asterisk and the server: each command reaches Asterisk only after a while.

What the server sees and says is not changed by one byte.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def slowed(url: str, seconds: float) -> AsyncIterator[str]:
    """Hand calls on to the server at `url`, each of its commands late; gives the address for the dialplan."""
    before, port, after = re.fullmatch(r"(agi://[^:]+:)([0-9]+)(/.*)", url).groups()
    calls: set[asyncio.Task[None]] = set()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                await asyncio.sleep(late)
                writer.write(line)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", int(port))
        await asyncio.gather(hand_on(reader, to_server, 0), hand_on(from_server, writer, seconds))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        calls.add(task)
        task.add_done_callback(calls.discard)

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"{before}{proxy.sockets[0].getsockname()[1]}{after}"
        async with asyncio.timeout(20):
            await asyncio.gather(*calls)
    finally:
        proxy.close()
        for task in calls:
            task.cancel()
