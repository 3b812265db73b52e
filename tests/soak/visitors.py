"""Whoever else connects: to the line, and is no caller (the kinds of benchmarks/hostile.py); to health and metrics.

They come one by one, all through a soak, and stay for a while at most.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress

from by_path import benchmark
from mixture import reset

KINDS = benchmark("hostile").KINDS
# Some kinds are floods by themselves, which benchmarks/flood.py has.
CROWD = {name: kind.share for name, kind in KINDS.items() if len(kind.says + kind.answers) < 20_000}
PAGES = ("/healthz", "/readyz", "/metrics")
DRIP = 0.1  # seconds between two bytes
HALF, MOST = 0.5, 0.9  # of them


class Visitors:
    """All of them. server: has the ports; stay: seconds that one stays at most.

    came: how many of each kind; answers: what the pages were answered with.
    """

    def __init__(self, server, seed, *, stay):
        self._server, self._stay = server, stay
        self._rng = random.Random(seed)  # noqa: S311 - visits, no keys
        self.came, self.answers = Counter(), Counter()

    async def keep_coming(self, every):
        """One every so many seconds, and as often somebody who looks at a page; until cancelled: then all leave."""
        async with asyncio.TaskGroup() as here:
            while True:
                await asyncio.sleep(self._rng.uniform(0.5, 1.5) * every)
                kind = self._rng.choices(list(CROWD), list(CROWD.values()))[0]
                here.create_task(self._visit(kind))
                here.create_task(self._look(self._rng.choice(PAGES)))

    async def _visit(self, kind):
        if (port := self._server().port) is None:
            return
        self.came[kind] += 1
        with suppress(OSError):  # it goes down just now
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                async with asyncio.timeout(self._rng.random() * self._stay):
                    await self._bother(KINDS[kind], reader, writer)
            except TimeoutError:
                pass
            finally:
                self._leave(writer, at_once=KINDS[kind].then == "reset")

    async def _bother(self, kind, reader, writer):
        def says(words):
            if writer.is_closing() or reader.at_eof():  # the server has had enough
                raise ConnectionResetError
            writer.write(words)

        drip = kind.then == "drip"
        for words in [bytes([byte]) for byte in kind.says] if drip else [kind.says]:
            says(words)
            await asyncio.sleep(DRIP * drip)
        while kind.then != "reset" and await reader.read(2048):
            says(kind.answers)

    def _leave(self, writer, *, at_once):
        if at_once or self._rng.random() < HALF:
            reset(writer)
        writer.close()

    async def _look(self, page):
        """As Prometheus does, or a probe; one of ten goes before the answer has come."""
        if (port := self._server().http_port) is None:
            return
        answer = b"(nothing)"
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {page} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
                if self._rng.random() < MOST:
                    answer = (await reader.read()).partition(b"\r\n")[0].partition(b" ")[2]
            finally:
                writer.close()
        self.answers[f"{page} {answer.decode()}"] += 1
