"""Good calls, many at a time: callers who pay, the bank's stand-in, and a stop-watch at Asterisk's side."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from processes import SEQUENCE, end, start

from ivr_agi.simulator.channel import Keyed, ScriptedHandset, dial

if TYPE_CHECKING:
    from collections.abc import Sequence

CARD: Final = "6037991234567893"
_SMS: Final = re.compile(rb"SMS  order (\S+) .* PIN ([0-9]+)")


class Bank:
    """`ivr-agi simulator` as a process of its own; `pin` is what its SMS says."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._pins: dict[str, asyncio.Future[str]] = defaultdict(
            lambda: asyncio.get_running_loop().create_future()
        )

    async def __aenter__(self) -> Self:
        self._process = await start(
            self._core, *("-m", "ivr_agi", "simulator", "--port", "0", "--sequence", SEQUENCE),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout  # noqa: S101 - it is a pipe
        said = re.search(r"http://\S+", (await self._process.stdout.readline()).decode())
        assert said  # noqa: S101 - its first line is its address
        self.url = said[0]
        self._reading = asyncio.create_task(self._read(self._process.stdout))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await end(self._process)
        await self._reading

    async def _read(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            if sms := _SMS.search(line):
                self._pins[sms[1].decode()].set_result(sms[2].decode())

    async def pin(self, order: str) -> str:
        """The PIN of this order's one SMS, once it is there."""
        return await self._pins[order]


@dataclass
class Steps:
    """Milliseconds from an answer of ours until the server's next command; the bank's steps apart."""

    own: list[float] = field(default_factory=list)
    bank: list[float] = field(default_factory=list)


class Person(ScriptedHandset):
    """A caller who takes a moment to hear and to key: the same on average, drawn anew each time."""

    def __init__(self, order: str, bank: Bank, think: float) -> None:
        async def pin() -> str:
            return await bank.pin(order) + "#"

        super().__init__({"confirm-amount": "1", "enter-card": CARD, "enter-pin": pin})
        self._think = think
        self._music = False
        self._since: float | None = None
        self._banks = False
        self.steps = Steps()

    async def play(self, file: str, escape: str) -> str:
        """Hear it."""
        await asyncio.sleep(random.uniform(0.5, 1.5) * self._think)  # noqa: S311 - no key
        return await super().play(file, escape)

    async def collect(self, file: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Think, and key."""
        await asyncio.sleep(random.uniform(0.5, 1.5) * self._think)  # noqa: S311 - no key
        return await super().collect(file, timeout_ms, max_digits)

    def observe(self, words: Sequence[str]) -> None:
        """Stop the watch: a command has come."""
        if self._since is not None:
            taken = (time.perf_counter() - self._since) * 1000
            (self.steps.bank if self._banks else self.steps.own).append(taken)
            self._since = None
        if words[:2] == ["SET", "MUSIC"]:
            self._music = words[2].upper() == "ON"
        self._command = words[:2]

    def answers(self) -> None:
        """Start the watch: an answer of ours leaves, and the server takes its time."""
        # Music plays while the bank and the journal are at work, and after the two questions they begin.
        asked = self.transcript[-1:] and self.transcript[-1][0] in ("enter-card", "enter-pin", "please-wait")
        self._banks = self._music or bool(asked)
        self._since = time.perf_counter()


async def call(port: int, bank: Bank, order: str, think: float, steps: Steps) -> str:
    """Make one good call; returns its PAYSTATUS, or what happened to it."""
    person = Person(order, bank, think)
    number = f"0912{random.randrange(10**7):07}"  # noqa: S311 - no key
    try:
        async with asyncio.timeout(60):
            url = f"agi://127.0.0.1:{port}/pay?amount=50000&order_id={order}"
            channel = await dial(url, person, caller_id=number)
            send = channel._send  # noqa: SLF001 - where the answer leaves

            def timed(answer: str) -> None:
                send(answer)
                person.answers()

            channel._send = timed  # type: ignore[method-assign]  # noqa: SLF001
            status = (await channel.run()).get("PAYSTATUS", "let go")
    except (OSError, TimeoutError) as error:
        status = type(error).__name__
    steps.own += person.steps.own
    steps.bank += person.steps.bank
    return status
