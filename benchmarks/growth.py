"""What grows: the cost of a payment beside 10 to 10,000 held calls, and with 1,000 to 1,000,000 attempts in the journal.

    growth.py [--rounds 5] [--rate 20] [--seconds 6] [--held N…] [--rows N…] [--only held rows plans] [--quick]

A trickle of full payments runs beside what is to be measured. `held`: a server for each number, its callers half at the card's and
half at the PIN's question (the order reserved, the SMS sent); they are measured in turns, and at the end all go on, and each must be paid
once. `rows`: a server for each journal (bulk.py fills it; SQLite), and how long it takes to start. `plans`: each statement
of a call as SQLite answers it in the largest journal; what reads more rows as the journal grows is named. Exits 1 unless every
call was paid, and charged once.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bulk
import load
from call import Bench, show, time_start
from load import Line, Load, disk, workplace
from measuring import Row, in_turns, medians, save
from statements import plans

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS: Final = ("held", "rows", "plans")
HELD: Final = (10, 100, 1_000, 10_000)
ROWS: Final = (1_000, 10_000, 100_000, 1_000_000)
QUICK: Final = {"rounds": 1, "rate": 8, "seconds": 2, "held": (10, 50), "rows": (1_000, 10_000)}
PLACES: Final = ("enter-card", "enter-pin")
# Whoever is held is silent for longer than a caller may be; settings that change no cost.
PATIENT: Final = {"digit_timeout": 60, "call_limit": 7200}
SHOWN: Final = (
    "variant", "cpu_ms", "ratio", "added_p50", "added_p99", "step_p50", "step_p99", "commit_ms", "busy", "no_core", "load_wake_p99",
)  # fmt: skip
SILENCE: Final = """
What this does not say: what a call costs Asterisk; how it is when all held callers key at the same moment (`--at-once 0` tries
it; people do not); what a journal in PostgreSQL does; what the panel's pages do with many rows (panel.py). The journal of a
million stands in the system's cache of files, as after some hours of work, not as after a cold start."""


async def measure_held(bench: Bench) -> list[Row]:
    """Payments beside so many held calls, a server for each number; then those go on."""
    given = bench.given
    async with AsyncExitStack() as stack:
        lines: dict[str, Line] = {}
        kept: dict[str, Row] = {}
        for held in given.held:
            name = f"{held} held"
            lines[name] = line = await stack.enter_async_context(bench.line(**PATIENT))
            await bench.load.do("run", server=line.address, calls=4, seconds=1)
            await line.trim()
            rss, cpu = line.rss(), line.cpu()
            found = await bench.load.do("hold", name=name, server=line.address, calls=held, at=PLACES)
            kept[name] = {
                "held": held,
                "MB": line.rss(),
                "kB_per_call": (line.rss() - rss) * 1000 / held,
                "until_held_cpu_ms": (line.cpu() - cpu) * 1000 / held,
            }
            if found["held"] != held:
                bench.troubles.append(f"{name}: only {found['held']}")
            print(f"{name} in {found['seconds']:.0f} s", flush=True)

        async def measure(variant: str) -> Row:
            return kept[variant] | await trickle(bench, lines[variant], variant)

        rows = await in_turns(tuple(lines), measure, given.rounds)
        show("held, medians", beside_first(rows), ("kB_per_call", "MB", *SHOWN))
        ends = [
            {"variant": name, **kept[name], **await let_go(bench, line, name)} for name, line in lines.items()
        ]
    show("held, and then all go on", ends)
    return rows + [row | {"round": 0, "part": "held-ends"} for row in ends]


async def let_go(bench: Bench, line: Line, name: str) -> Row:
    """Let all held calls go on; each must be paid, once."""
    cpu = line.cpu()
    found = await bench.load.do("release", name=name, calls=bench.given.at_once)
    bench.judge(name, found)
    paid = found["status"].get("PAID", 0)
    return {
        "paid": paid,
        "lost": found["calls"] - paid,
        "miscounted": found["miscounted"],
        "seconds": found["seconds"],
        "paid_per_s": found["paid_per_s"],
        "their_cpu_ms": (line.cpu() - cpu) * 1000 / max(1, paid),
        "their_added_p99": found["added"]["p99"],
    }


async def measure_rows(bench: Bench) -> list[Row]:
    """Payments with so many attempts in the journal already, a server for each; and how long each takes to start."""
    given = bench.given
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        lines: dict[str, Line] = {}
        starts: dict[str, str] = {}
        for number in given.rows:
            name = f"{number} rows"
            file = bulk.journal(number, bench.folder / f"{number}.db")
            starts[name] = url = f"sqlite:///{file}"
            await time_start(bench, url)  # the first one reads what the system does not have in memory

        async def begin(variant: str) -> Row:
            return await time_start(bench, starts[variant])

        begun = await in_turns(tuple(starts), begin, given.rounds)
        for name, url in starts.items():
            lines[name] = line = await stack.enter_async_context(bench.line(journal_url=url))
            await bench.load.do("run", server=line.address, calls=4, seconds=1)

        async def measure(variant: str) -> Row:
            return await trickle(bench, lines[variant], variant)

        rows = await in_turns(tuple(lines), measure, given.rounds)
    show("start, medians", medians(begun))
    show("rows, medians", beside_first(rows), SHOWN)
    return rows + [row | {"part": "rows-start"} for row in begun]


async def trickle(bench: Bench, line: Line, what: str) -> Row:
    """Full payments, a few a second."""
    return await bench.under_load(line, what, rate=bench.given.rate, seconds=bench.given.seconds)


def beside_first(rows: Sequence[Row]) -> list[Row]:
    """Medians, and the CPU of a payment beside that of the first variant."""
    found = medians(rows)
    return [{**row, "ratio": row["cpu_ms"] / found[0]["cpu_ms"]} for row in found]


async def show_plans(bench: Bench) -> list[Row]:
    """How SQLite answers what a call asks, in the largest journal."""
    number = max(bench.given.rows)
    file = bulk.journal(number, bench.folder / "plans.db")
    found: list[Row] = [{"variant": f"{number} rows", **row} for row in await plans(f"sqlite:///{file}")]
    show("plans", found, ("when", "statement", "plan", "ms"))
    scans = [row for row in found if row["scan"]]
    print(
        "\n".join(f"SCANS: {row['when']}: {row['statement']}: {row['plan']}" for row in scans)
        or "none scans a table"
    )
    file.unlink()
    return found


MEASURE: Final = {"held": measure_held, "rows": measure_rows, "plans": show_plans}


async def run(given: argparse.Namespace) -> int:
    """Run the parts one after the other; returns the exit status."""
    rows: list[Row] = []
    with workplace() as folder:
        about: dict[str, Any] = disk(folder)
        async with Load(given.cores[-1]) as ends:
            bench = Bench(given, folder, ends, lambda name: f"sqlite:///{folder / name}.db")
            for part in given.only:
                rows += [{"part": part, **row} for row in await MEASURE[part](bench)]
    if not given.quick:
        script = Path(sys.argv[0]).name
        save("growth", rows, command=" ".join(["python", f"benchmarks/{script}", *sys.argv[1:]]), disk=about)
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
    parser.add_argument("--rate", type=float, default=20, help="payments a second, of the trickle")
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--held", type=int, nargs="+", default=HELD)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument(
        "--at-once", type=int, default=64, help="held calls that go on at once; 0: all of them"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--quick", action="store_true", help="a rough look; nothing is saved")
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    given = parser.parse_args()
    given.cores = sorted(os.sched_getaffinity(0))[:2]
    return load.run(run(given))


if __name__ == "__main__":
    sys.exit(main())
