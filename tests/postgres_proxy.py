"""A network in front of a PostgreSQL that tests can freeze, reset and cut, also just as one statement passes.

It speaks no PostgreSQL, but for the five bytes that end an answer. It must never be kinder than a network: what was
lost is lost for both sides.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
SECONDS = 30
# The end of each answer: ReadyForQuery (PostgreSQL's manual, "Message Formats"), in front of a byte of state.
READY_FOR_QUERY = b"Z\0\0\0\5"


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to connections: it can be taken again later."""
    while True:
        port = random.randrange(21000, 32000)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class PostgresProxy:
    """A network in front of a database that can be frozen, reset and cut, for as long as the `with` lasts.

    It runs in a thread of its own, so that blocking code can be tested through it, too. The kernel goes on
    acknowledging while it is frozen: that is a server which hangs; TCP's own time-outs see nothing wrong.

    Open it inside of an async test, or in an async fixture: the test's loop cannot be closed while one of its threads
    waits for an answer that is frozen.
    """

    def __init__(self, address: str) -> None:
        """address: SQLAlchemy's, of the database behind it; `url` is the one through the proxy."""
        behind = sa.make_url(address)
        self._behind = behind.host, behind.port
        self.port = free_port()
        self.url = behind.set(port=self.port).render_as_string(hide_password=False)
        self.held = 0  # pieces that wait for `thaw`
        self._links: set[asyncio.Task[None]] = set()
        self._open = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        self._trap: tuple[bytes, str, Future[None]] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="postgres-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.thaw()
        self.mend()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def freeze(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing pass any more, or nothing in one way; connections stay, new ones are accepted."""
        self._do(self._gate(requests=not requests, answers=not answers))

    def thaw(self) -> None:
        """Let everything pass again, first what waits."""
        self._do(self._gate(requests=True, answers=True))

    def reset(self) -> None:
        """Reset each connection, towards both sides; new ones get in."""
        self._do(self._reset_all())

    def cut(self) -> None:
        """Reset each connection, and refuse new ones until `mend`."""
        self._do(self._cut())

    def mend(self) -> None:
        """Accept connections again."""
        self._listener = self._do(asyncio.start_server(self._accept, "127.0.0.1", self.port))

    def lose(self, needle: bytes) -> Future[None]:
        """The next request with these bytes does not arrive: both sides get a reset. Done when that has happened."""
        return self._do(self._set_trap(needle, "requests"))

    def lose_answer(self, needle: bytes) -> Future[None]:
        """The next request with these bytes arrives and is done, but both sides get a reset in place of the answer."""
        return self._do(self._set_trap(needle, "answers"))

    # -- in the proxy's own thread

    def _do(self, job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(SECONDS)

    async def _gate(self, **is_open: bool) -> None:
        for way, passes in is_open.items():
            gate = self._open[way]
            gate.set() if passes else gate.clear()

    async def _cut(self) -> None:
        self._listener.close()
        await self._reset_all()

    async def _reset_all(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.sleep(0)  # the sockets are closed at the loop's next turn

    async def _set_trap(self, needle: bytes, way: str) -> Future[None]:
        self._trap = needle, way, Future()
        return self._trap[2]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = self._loop.create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        losing: list[Future[None]] = []  # what ends this connection, once it is on its way
        lost: list[Future[None]] = []
        try:
            from_server, to_server = await asyncio.open_connection(*self._behind)
            ends.append(to_server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._requests(reader, to_server, losing, lost))
                both.create_task(self._answers(from_server, writer, losing, lost))
            for end in ends:
                await end.wait_closed()
        except* OSError:
            pass  # whatever has broken one side: the other is told by a reset, too
        finally:
            for end in ends:
                _reset(end)
            for told in lost:
                told.set_result(None)

    async def _requests(
        self, reader: Any, writer: Any, losing: list[Future[None]], lost: list[Future[None]]
    ) -> None:
        while chunk := await self._read(reader, "requests"):
            # What we look for is far shorter than what is written at once: it does not come in two pieces.
            if self._trap and self._trap[0] in chunk:
                _, way, told = self._trap
                self._trap = None
                if way == "requests":
                    lost.append(told)
                    raise ConnectionResetError
                losing.append(told)
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _answers(
        self, reader: Any, writer: Any, losing: list[Future[None]], lost: list[Future[None]]
    ) -> None:
        while chunk := await self._read(reader, "answers"):
            if not losing:
                writer.write(chunk)
                await writer.drain()
            elif chunk[-6:-1] == READY_FOR_QUERY:
                lost.extend(losing)
                raise ConnectionResetError
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, way: str) -> bytes:
        """What comes next, once the way is open; empty at the end."""
        chunk = await reader.read(65536)
        self.held += 1
        try:
            await self._open[way].wait()
        finally:
            self.held -= 1
        return chunk


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.transport.abort()
