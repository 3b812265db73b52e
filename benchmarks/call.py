"""The whole product under load: the flow, the journal on disk, the gateway's client, logging as shipped.

    call.py [--rounds 5] [--rate 75] [--calls 64] [--seconds 10] [--journal sqlite|postgresql] [--only PART…] [--quick]

A real `ivr-agi serve` on one core; on another the Go program `call/load`, which is Asterisk with its callers and
the gateway's stand-in. Parts: `load` (payments a second; what we add beside the bank), `memory` (of a call in
progress), `start` (from exec until it listens), `drain` (SIGTERM with calls under way), `fsync` (counted by strace, where there
is one). Exits 1 unless every call was paid, and charged once.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import load
from load import Line, Load, cpu_of, disk, flat, free_port, postgresql, workplace, wrong_with
from measuring import Row, in_turns, medians, save, table
from processes import SEQUENCE, SERVE, end, environment, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARTS: Final = ("load", "memory", "start", "drain", "fsync")
BANK: Final = 3000  # milliseconds: what a bank takes
QUICK: Final = {"rounds": 1, "rate": 10, "calls": 16, "seconds": 1, "held": 50, "drained": 20}
SPANS: Final = ("card_to_otp", "otp_to_command", "pin_to_pay", "pay_to_command")
SILENCE: Final = """
What this does not say: how Asterisk keeps up, which plays the sounds and has the RTP (Asterisk's side here answers at once,
and every sound is empty); what TLS to the real gateway costs (the stand-in is http on loopback); how it is with people, who take a
minute for a call: so many in progress are growth.py's. p99 of a run has some 7 payments beyond it: see `runs` for how often.
The server's CPU has the kernel's share of it in it (loopback, disk); PostgreSQL's own is on the load's core, and not counted."""


class Bench:
    """What all parts share: where they work, what they ask of a server, and what went wrong."""

    def __init__(
        self, given: argparse.Namespace, folder: Path, load: Load, address: Callable[[str], str]
    ) -> None:
        """address: the journal's, new or by its name."""
        self.given, self.folder, self.load, self._address = given, folder, load, address
        self.troubles: list[str] = []
        self._numbers = iter(range(10**6))

    def line(self, **also: object) -> Line:
        """A server with a journal of its own."""
        name = f"line{next(self._numbers)}"
        given = {"gateway_url": self.load.gateway, "journal_url": self._address(name), **also}
        return Line(name, self.folder, self.given.cores[0], **given)

    def journal(self, name: str) -> str:
        """The address of a journal."""
        return self._address(name)

    def judge(self, what: str, found: dict[str, Any]) -> None:
        """Remember it if a call did not end well."""
        if trouble := wrong_with(found):
            self.troubles.append(f"{what}: {trouble}")

    async def under_load(self, line: Line, what: str, **how: object) -> Row:
        """Have calls made, and say what they cost the server."""
        before, cpu, starved = await line.counters(), line.cpu(), line.starved()
        found = await self.load.do("run", server=line.address, **how)
        cpu, starved = line.cpu() - cpu, line.starved() - starved
        after = await line.counters()
        self.judge(what, found)
        paid = found["status"].get("PAID", 0)
        each = max(1, paid)
        steps, waited, commits = (
            after[name] - before[name]
            for name in (
                "ivr_agi_journal_commit_seconds_count",
                "ivr_agi_journal_commit_seconds_sum",
                "ivr_agi_journal_commits_total",
            )
        )
        return {
            "payments": paid,
            "paid_per_s": found["paid_per_s"],
            "cpu_ms": cpu * 1000 / each,
            "per_core": paid / cpu if cpu else 0.0,
            "busy": cpu / found["seconds"],
            "no_core": starved / found["seconds"],
            **flat(found, *SPANS, "added", "added_in_all", "step", "first_command"),
            "steps_per_commit": steps / max(1, commits),
            "commits_per_payment": commits / each,
            "commit_ms": waited * 1000 / max(1, steps),
            "commands": found["commands_per_call"],
            "at_once": found["generator"]["most_at_once"],
            "load_busy": found["generator"]["share"],
            "load_wake_p99": found["generator"]["wake"]["p99"],
            "load_late_p99": found["generator"]["late"]["p99"],
        }


async def measure_load(bench: Bench) -> list[Row]:
    """Closed loop, and open loop at a rate with each of the bank's times, against one server."""
    given = bench.given
    seconds = {"seconds": given.seconds}
    ways: dict[str, dict[str, object]] = {
        "closed": {"calls": given.calls, **seconds},
        "open-0s": {"rate": given.rate, **seconds},
        "open-3s": {"rate": given.rate, "delay_ms": BANK, **seconds},
    }
    async with bench.line() as line:
        await bench.load.do("run", server=line.address, calls=8, seconds=1)  # what is first done once

        async def measure(variant: str) -> Row:
            return await bench.under_load(line, variant, **ways[variant])

        rows = await in_turns(tuple(ways), measure, given.rounds)
    show(
        "load, medians",
        medians(rows),
        ("variant", "paid_per_s", "cpu_ms", "per_core", "busy", "no_core", "at_once", "commands", "runs"),
    )
    print("\nmilliseconds that we add:\n")
    found = medians(rows)
    columns = [f"{span}_{place}" for span in (*SPANS, "step") for place in ("p50", "p99")]
    print(table(found, ("variant", *columns)))
    print("\nthe journal, and the load itself:\n")
    names = (
        "steps_per_commit",
        "commits_per_payment",
        "commit_ms",
        "load_busy",
        "load_wake_p99",
        "load_late_p99",
    )
    print(table(found, ("variant", *names)))
    return rows


async def measure_memory(bench: Bench) -> list[Row]:
    """What a call in progress holds: while the card is asked for, and while the bank is."""
    held = bench.given.held

    async def measure(variant: str) -> Row:
        async with bench.line() as line:
            await bench.load.do("run", server=line.address, calls=8, seconds=1)
            await line.trim()
            rss = line.rss()
            found = await bench.load.do("hold", name=variant, server=line.address, calls=held, at=[variant])
            grown = line.rss() - rss
            done = await bench.load.do("release", name=variant, calls=64)
            bench.judge(f"held at {variant}", done)
            await line.trim()
            kept = line.rss() - rss
        return {"held": found["held"], "kB_per_call": grown * 1000 / held, "idle_MB": rss, "kept_MB": kept}

    rows = await in_turns(("enter-card", "pay"), measure, min(bench.given.rounds, 3))
    show("memory, medians", medians(rows))
    return rows


async def measure_start(bench: Bench) -> list[Row]:
    """From exec until somebody can connect, with a journal that is there and one that is made; warm caches."""
    there = bench.journal("there")
    numbers = iter(range(10**6))

    async def measure(variant: str) -> Row:
        url = there if variant == "there" else bench.journal(f"new{next(numbers)}")
        return await time_start(bench, url)

    await time_start(bench, there)
    rows = await in_turns(("there", "new"), measure, bench.given.rounds)
    show("start, medians", medians(rows))
    return rows


async def time_start(bench: Bench, url: str) -> Row:
    """Milliseconds from exec until it listens, and how much of it a core worked."""
    port = free_port()
    given = environment(
        port=port,
        http_port=0,
        sequence=SEQUENCE,
        gateway_url=bench.load.gateway,
        log_format="json",
        journal_url=url,
    )
    said = bench.folder / "start.log"
    with said.open("wb") as log:
        since = time.perf_counter()
        process = await start(bench.given.cores[0], "-c", SERVE, stderr=log, env=given)
    try:
        while process.returncode is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return {"ms": (time.perf_counter() - since) * 1000, "cpu_ms": cpu_of(process.pid) * 1000}
            await asyncio.sleep(0.002)
    finally:
        await end(process)
    raise RuntimeError(f"it does not start: {said.read_text()}")


async def measure_drain(bench: Bench) -> list[Row]:
    """SIGTERM with calls under way, most of them in the bank's 3 s: whoever has begun is brought to his end."""

    async def measure(_variant: str) -> Row:
        line = bench.line(drain_limit=300)
        async with line:
            how = {"rate": bench.given.drained * 1000 / BANK, "seconds": 60, "delay_ms": BANK}
            running = asyncio.create_task(bench.load.do("run", server=line.address, **how))
            await asyncio.sleep(BANK / 1000 + 2)
            took = await line.terminate()
            found = await running
        # Whoever came too late was never a call: refused by the kernel, or still in its queue.
        late = found["refused"] + found["unanswered"]
        bench.judge("drain", found | {"calls": found["calls"] - late})
        return {
            "under_way": line.draining(),
            "paid": found["status"].get("PAID", 0),
            "lost": found["calls"] - late - found["status"].get("PAID", 0),
            "refused": found["refused"],
            "unanswered": found["unanswered"],
            "seconds": took,
        }

    rows = await in_turns(("drain",), measure, min(bench.given.rounds, 2))
    show("drain, medians", medians(rows))
    return rows


async def count_syncs(bench: Bench) -> list[Row]:
    """How often the disk is waited for, by strace; no times are taken from this run."""
    strace = shutil.which("strace")
    if not strace or bench.given.journal != "sqlite":
        print("\nfsync: not counted (no strace, or the journal is PostgreSQL's)")
        return []
    counted = bench.folder / "strace"
    async with bench.line() as line:
        await bench.load.do("run", server=line.address, calls=8, seconds=1)
        tracing = await asyncio.create_subprocess_exec(
            strace, "-f", "-c", "-o", str(counted), "-e", "trace=fsync,fdatasync", "-p", str(line.pid),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert tracing.stderr  # noqa: S101 - it is a pipe
        said = await tracing.stderr.readline()
        row = await bench.under_load(
            line, "fsync", calls=bench.given.calls, seconds=min(3, bench.given.seconds)
        )
        with suppress(ProcessLookupError):
            tracing.send_signal(signal.SIGINT)
        await tracing.wait()
    text = counted.read_text() if counted.exists() else ""
    syncs = sum(
        int(calls)
        for calls in re.findall(r"^\s*\S+\s+\S+\s+\S+\s+(\d+)\s.*\bf(?:data)?sync$", text, re.MULTILINE)
    )
    if not syncs:
        print(f"\nfsync: not counted ({said.decode().strip()})")
        return []
    commits = row["commits_per_payment"] * row["payments"]
    found = {
        "variant": "closed",
        "syncs_per_commit": syncs / max(1, commits),
        "commits_per_sync": commits / syncs,
        "syncs_per_payment": syncs / max(1, row["payments"]),
        "steps_per_commit": row["steps_per_commit"],
        "commits_per_payment": row["commits_per_payment"],
    }
    show("fsync", [found])
    return [found]


MEASURE: Final = {
    "load": measure_load,
    "memory": measure_memory,
    "start": measure_start,
    "drain": measure_drain,
    "fsync": count_syncs,
}


def show(title: str, rows: list[Row], columns: tuple[str, ...] | None = None) -> None:
    """Print a table under its title."""
    print(f"\n## {title}\n\n{table(rows, columns)}\n", flush=True)


async def run(given: argparse.Namespace) -> int:
    """Run the parts one after the other; returns the exit status."""
    rows: list[Row] = []
    with ExitStack() as undoing:
        folder = undoing.enter_context(workplace())
        if given.journal == "postgresql":
            create = undoing.enter_context(postgresql(given.cores[-1]))
            address: Callable[[str], str] = functools.cache(lambda _name: create())
        else:
            address = lambda name: f"sqlite:///{folder / name}.db"  # noqa: E731
        about = disk(folder)
        print(" ".join(f"{name}: {value}" for name, value in about.items()), flush=True)
        async with Load(given.cores[-1]) as ends:
            bench = Bench(given, folder, ends, address)
            for part in given.only:
                rows += [{"part": part, **row} for row in await MEASURE[part](bench)]
    name = "call" if given.journal == "sqlite" else "call-postgresql"
    if not given.quick:
        save(name, rows, command=" ".join(["python", *sys.argv]), journal=given.journal, disk=about)
    print(SILENCE)
    for trouble in bench.troubles:
        print(f"NOT WELL: {trouble}")
    return 1 if bench.troubles else 0


def main() -> int:
    """Read what is asked, and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=75, help="calls a second, open loop: half of 150")
    parser.add_argument("--calls", type=int, default=64, help="at once, closed loop")
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--held", type=int, default=1000, help="calls, for their memory")
    parser.add_argument("--drained", type=int, default=100, help="calls under way when SIGTERM comes, about")
    parser.add_argument("--journal", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--quick", action="store_true", help="a rough look; nothing is saved")
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    given = parser.parse_args()
    given.cores = sorted(os.sched_getaffinity(0))[:2]
    return load.run(run(given))


if __name__ == "__main__":
    sys.exit(main())
