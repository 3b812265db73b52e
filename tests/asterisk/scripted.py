"""An AGI server of a few lines, for what a test wants to see of Asterisk itself, byte by byte.

It must never share code with the product's own wire: it is there to check what that one believes.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LINE_SECONDS = 20.0


class Connection:
    """One AGI connection, behind its environment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    def send(self, command: str) -> None:
        """Write a command, and await nothing."""
        self._writer.write(command.encode() + b"\n")

    async def line(self) -> str:
        """Await the next line, whatever it is."""
        async with asyncio.timeout(LINE_SECONDS):
            return (await self._reader.readline()).decode().rstrip("\n")

    async def ask(self, command: str) -> str:
        """Send a command and return the next line."""
        self.send(command)
        return await self.line()


@asynccontextmanager
async def scripted(script: Callable[[Connection], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve every call by `script`, then close the connection; gives the address for the dialplan.

    What goes wrong in a script is raised when the block ends.
    """
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            while await connection.line():
                pass  # the environment
            await script(connection)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"agi://127.0.0.1:{server.sockets[0].getsockname()[1]}/pay"
        await asyncio.gather(*served)
    finally:
        server.close()
        for task in served:
            task.cancel()
