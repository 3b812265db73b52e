"""What calls the workers have, for the front: each says it on a socket of its own, masked as it is shown."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ivr_agi.server import LiveCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

PATIENCE: Final = 1.0  # seconds for a worker to answer


async def tell(mouth: Path, calls: Callable[[], Awaitable[Sequence[LiveCall]]]) -> asyncio.Server:
    """Say to whoever connects what calls there are, and close."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(json.dumps([asdict(call) for call in await calls()]).encode())
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, mouth)


async def ask(folder: Path) -> list[LiveCall]:
    """The calls of all workers; those of one that does not answer are left out."""
    mouths = list(folder.glob("*.calls"))  # noqa: ASYNC240 - a few names, in memory
    found = await asyncio.gather(*(_ask(mouth) for mouth in mouths))
    return [call for calls in found for call in calls]


async def _ask(mouth: Path) -> list[LiveCall]:
    with suppress(OSError, TimeoutError, ValueError, TypeError):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(mouth)
            try:
                said = await reader.read(-1)
            finally:
                writer.close()
        return [LiveCall(**call) for call in json.loads(said)]
    return []
