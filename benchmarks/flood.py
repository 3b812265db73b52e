"""What a flood costs those who pay: good calls beside 2,000 hostile connections, and without them.

    flood.py [--rounds 3] [--calls 50] [--each 100] [--up 2000] [--each-second 500]
             [--only KIND…] [--without KIND…]

One `ivr-agi serve`, the good calls and the bank's stand-in share one core, the flooder has another. Phases
take turns, so that a machine that slows down slows all of them: `quiet`; `aside`, the same flood against
another, idle server on the flooder's core (what the generator itself costs); `flood`; `strangers`, a flood
from an address that is not in ALLOWED_PEERS. Exits 1 if a good call was not paid, was charged twice, or a
descriptor was not given back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import uvloop
from callers import Bank, Steps, call
from processes import Flooder, Server

PHASES: Final = ("quiet", "aside", "flood", "strangers")
STRANGER, CROWD, CROWD_CALLS = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ALLOWED: Final = "127.0.0.1/32,127.0.0.3/32,127.0.0.4/32"
MAX_CALLS_PER_PEER: Final = 60  # with MAX_CALLS at 200: one peer's calls do not take the others' places
RAMP: Final = 6.0  # seconds: longer than the first ones' environment may take
TARGET: Final = 2.0  # times the quiet p99


@dataclass
class Phase:
    """One turn of one kind, measured."""

    name: str
    steps: Steps = field(default_factory=Steps)
    ended: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0  # the server's, of one core
    starved: float = 0.0  # how much of the time it could have run, and had no core
    rss: float = 0.0  # MB, at its peak
    descriptors: int = 0  # at their peak
    lines: Counter[str] = field(default_factory=Counter)
    flooder: dict[str, object] = field(default_factory=dict)

    def quantile(self, of: float, bank: bool = False) -> float:
        """Milliseconds of a step."""
        steps = sorted(self.steps.bank if bank else self.steps.own)
        return steps[min(len(steps) - 1, int(len(steps) * of))] if steps else float("nan")


class Bench:
    """The server under test, the one aside, the bank, and one phase after another."""

    def __init__(self, asked: argparse.Namespace, server: Server, aside: Server, bank: Bank) -> None:
        self._asked, self._server, self._aside, self._bank = asked, server, aside, bank
        self._orders = 0
        self.paid: list[str] = []

    async def phase(self, name: str) -> Phase:
        """Have the flood up, if it is one, then the good calls."""
        phase = Phase(name)
        if name == "quiet":
            await self._measure(phase)
            return phase
        port = self._aside.port if name == "aside" else self._server.port
        away = name == "strangers"
        arguments = [
            *("--source", STRANGER if away else CROWD, "--caller", STRANGER if away else CROWD_CALLS),
            *("--up", str(self._asked.up), "--each-second", str(self._asked.each_second)),
            *("--only", *self._asked.only, "--without", *self._asked.without),
        ]
        flooder = Flooder(self._asked.cores[-1], port, *arguments)
        async with flooder:
            await asyncio.sleep(RAMP)
            await self._measure(phase)
        phase.flooder = flooder.report
        return phase

    async def _measure(self, phase: Phase) -> None:
        server = self._server
        cpu, starved, log, since = server.cpu(), server.starved(), server.logged(), time.monotonic()
        watching = asyncio.create_task(self._watch(phase))
        left = iter(range(self._asked.each))
        await asyncio.gather(*(self._callers(phase, left) for _ in range(self._asked.calls)))
        watching.cancel()
        phase.seconds = time.monotonic() - since
        phase.cpu = (server.cpu() - cpu) / phase.seconds
        phase.starved = (server.starved() - starved) / phase.seconds
        phase.lines = Counter(server.lines(log, server.logged()))

    async def _callers(self, phase: Phase, left: object) -> None:
        await asyncio.sleep(random.uniform(0, 10 * self._asked.think))  # noqa: S311 - they do not all come at once
        for _ in left:  # type: ignore[attr-defined]  # shared: as many calls as there are, whoever makes them
            self._orders += 1
            order = f"F{self._orders}"
            status = await call(self._server.port, self._bank, order, self._asked.think, phase.steps)
            phase.ended[status] += 1
            if status == "PAID":
                self.paid.append(order)

    async def _watch(self, phase: Phase) -> None:
        while True:
            phase.rss = max(phase.rss, self._server.rss())
            phase.descriptors = max(phase.descriptors, self._server.descriptors())
            await asyncio.sleep(0.2)

    async def settle(self, descriptors: int) -> int:
        """Wait until what the flood held is given back; returns how many descriptors are open then."""
        for _ in range(200):
            if self._server.descriptors() <= descriptors:
                break
            await asyncio.sleep(0.1)
        return self._server.descriptors()

    def charged(self) -> list[str]:
        """Orders of the bank's ledger."""
        root = self._bank.url.partition("/api/")[0]
        with urlopen(f"{root}/simulator/ledger", timeout=10) as answer:  # noqa: S310 - our own stand-in
            return [charge["order_id"] for charge in json.load(answer)]


def show(phase: Phase) -> None:
    """One line for each phase as it ends, and what came of the hostile ones."""
    print(
        f"{phase.name:10} {dict(phase.ended)} in {phase.seconds:.1f} s; step p50 {phase.quantile(0.5):.1f}"
        f" p99 {phase.quantile(0.99):.1f} ms ({len(phase.steps.own)}); with the bank p50"
        f" {phase.quantile(0.5, bank=True):.1f} p99 {phase.quantile(0.99, bank=True):.1f} ms"
        f" ({len(phase.steps.bank)}); server's CPU {phase.cpu:.0%}, without a core {phase.starved:.0%},"
        f" RSS {phase.rss:.0f} MB, {phase.descriptors} descriptors, {sum(phase.lines.values())} lines",
        flush=True,
    )
    if phase.flooder:
        print(f"           {phase.flooder}", flush=True)


def summary(phases: list[Phase]) -> None:
    """Medians over the rounds, and their ratio to the quiet ones'."""
    print(
        "\nmedians            step p50   p99 ms   ratio p50   p99 | with the bank p50   p99 ms   ratio p99"
        " | CPU  no core  lines/s"
    )
    quiet: dict[tuple[float, bool], float] = {}
    p99: dict[str, float] = {}
    for name in PHASES:
        turns = [phase for phase in phases if phase.name == name]
        if not turns:
            continue
        found = {
            (of, bank): statistics.median(turn.quantile(of, bank) for turn in turns)
            for of in (0.5, 0.99) for bank in (False, True)
        }  # fmt: skip
        quiet = quiet or found
        p99[name] = found[0.99, False]
        ratio = {key: found[key] / quiet[key] for key in found}
        lines = statistics.median(sum(turn.lines.values()) / turn.seconds for turn in turns)
        cpu = statistics.median(turn.cpu for turn in turns)
        starved = statistics.median(turn.starved for turn in turns)
        print(
            f"{name:18} {found[0.5, False]:8.2f} {found[0.99, False]:8.1f} {ratio[0.5, False]:11.2f}"
            f" {ratio[0.99, False]:5.2f} | {found[0.5, True]:17.1f} {found[0.99, True]:8.1f}"
            f" {ratio[0.99, True]:11.2f} | {cpu:4.0%} {starved:7.0%} {lines:8.0f}"
            + (" over the target" if ratio[0.99, False] > TARGET else "")
        )
    for name in ("flood", "strangers"):
        if "aside" in p99 and name in p99:
            print(f"p99 of {name} against aside: {p99[name] / p99['aside']:.2f}")


async def run(asked: argparse.Namespace) -> int:
    """Run all phases; returns the exit status."""
    core = asked.cores[0]
    os.sched_setaffinity(0, {core})
    os.setpriority(os.PRIO_PROCESS, 0, asked.nice)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = {"allowed_peers": ALLOWED, "max_calls_per_peer": MAX_CALLS_PER_PEER}
        async with (
            Bank(core) as bank,
            Server("server", folder, core, gateway_url=bank.url, **given) as server,
            Server("aside", folder, asked.cores[-1], gateway_url=bank.url, **given) as aside,
        ):
            return await rounds(asked, Bench(asked, server, aside, bank), server)


async def rounds(asked: argparse.Namespace, bench: Bench, server: Server) -> int:
    """Warm up, then let the phases take turns."""
    await bench.phase("quiet")
    before = await bench.settle(max(server.descriptors(), 0))
    print(f"before: RSS {server.rss():.0f} MB, {before} descriptors", flush=True)
    phases, leaked = [], 0
    for turn in range(asked.rounds):
        for name in asked.phases:
            phases.append(await bench.phase(name))
            show(phases[-1])
        open_now = await bench.settle(before)
        leaked = max(leaked, open_now - before)
        kept = server.rss()
        await server.trim()
        print(
            f"after round {turn + 1}: {open_now} descriptors, RSS {kept:.0f} MB,"
            f" {server.rss():.0f} once malloc gave back what it kept",
            flush=True,
        )
    summary(phases)
    lost = sum((phase.ended for phase in phases), Counter[str]())
    wrong = lost.total() - lost["PAID"]
    charged = Counter(bench.charged())
    twice = sum(count > 1 for count in charged.values()) + len(set(charged) ^ set(bench.paid))
    print(f"good calls: {dict(lost)}; charges that agree with no call: {twice}; descriptors kept: {leaked}")
    return 1 if wrong or twice or leaked > 0 else 0


def main() -> None:
    """Read what is asked, and run."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--calls", type=int, default=50, help="good calls at a time")
    asked.add_argument("--each", type=int, default=100, help="good calls in each phase")
    asked.add_argument("--think", type=float, default=0.2, help="seconds that a caller takes for each sound")
    asked.add_argument("--up", type=int, default=2000, help="hostile connections kept up")
    asked.add_argument("--each-second", type=float, default=500, help="of them renewed, at most")
    asked.add_argument("--only", nargs="*", default=[], metavar="KIND", help="kinds of hostile.py")
    asked.add_argument("--without", nargs="*", default=[], metavar="KIND", help="all kinds but these")
    asked.add_argument(
        "--nice",
        type=int,
        default=0,
        help="of the server, the callers and the bank; below 0 on a busy machine",
    )
    asked.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    told = asked.parse_args()
    told.cores = sorted(os.sched_getaffinity(0))[:2]
    sys.exit(uvloop.run(run(told)))


if __name__ == "__main__":
    main()
