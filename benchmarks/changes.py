"""This tree beside an earlier one, in turns: what all that was done for speed has brought.

    changes.py REVISION [--rounds 5] [--quick]

Both serve with today's settings, Python and libraries, under today's load (`call/load`); REVISION is checked out beside.
`results/before-after.json` has the lines of this, and below them those of single changes, as they were measured when they were made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from load import CACHE, Line, Load, cpu_of, run, workplace, wrong_with
from measuring import RESULTS, in_turns, medians, save, table

if TYPE_CHECKING:
    from measuring import Row

ROOT: Final = Path(__file__).parent.parent
# what is measured -> what it is called, and its unit
FIGURES: Final = {
    "start_cpu": ("from exec to listening", "s of processor"),
    "start_wall": ("from exec to listening", "s"),
    "payments_per_s": ("payments a second, 64 calls at a time", "1/s"),
    "cpu_ms": ("processor for a payment, 64 calls at a time", "ms"),
    "added_p50": ("added to the bank's own time, 20 payments/s, p50", "ms"),
    "added_p99": ("added to the bank's own time, 20 payments/s, p99", "ms"),
}


def checked_out(revision: str) -> Path:
    """A tree of that revision, made where it is not there yet."""
    folder = CACHE / "trees" / revision
    if not folder.exists():
        git = ("git", "-C", str(ROOT))
        subprocess.run([*git, "worktree", "prune"], check=True)  # noqa: S603
        subprocess.run([*git, "worktree", "add", "--detach", str(folder), revision], check=True)  # noqa: S603
    return folder


async def measure(tree: Path, folder: Path, load: Load, seconds: float) -> Row:
    """All figures of one tree."""
    os.environ["PYTHONPATH"] = str(tree)
    try:
        since = time.perf_counter()
        line = Line(f"changes{time.monotonic_ns()}", folder, 0, gateway_url=load.gateway)
        async with line:
            row: dict[str, Any] = {
                "start_wall": time.perf_counter() - since,
                "start_cpu": cpu_of(line.pid),
            }
            await load.do("run", server=line.address, calls=64, seconds=1)
            before = cpu_of(line.pid)
            closed = await load.do("run", server=line.address, calls=64, seconds=seconds)
            row["cpu_ms"] = (cpu_of(line.pid) - before) / closed["calls"] * 1000
            row["payments_per_s"] = closed["paid_per_s"]
            opened = await load.do("run", server=line.address, rate=20, calls=1000, seconds=seconds)
            row |= {"added_p50": opened["added"]["p50"], "added_p99": opened["added"]["p99"]}
    finally:
        del os.environ["PYTHONPATH"]
    for found in (closed, opened):
        if wrong := wrong_with(found):
            raise SystemExit(f"{tree}: {wrong}")
    return row


async def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", help="what came before")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a rough look")
    given = parser.parse_args()
    trees = {"before": checked_out(given.revision), "after": ROOT}
    seconds = 2.0 if given.quick else 5.0
    with workplace() as folder:
        async with Load((os.cpu_count() or 2) - 1) as load:
            rows = await in_turns(
                tuple(trees),
                lambda variant: measure(trees[variant], folder, load, seconds),
                1 if given.quick else given.rounds,
            )
    found = {row["variant"]: row for row in medians(rows)}
    lines = [
        {
            "change": f"all since {given.revision}",
            "what": what,
            "unit": unit,
            "before": found["before"][name],
            "after": found["after"][name],
        }
        for name, (what, unit) in FIGURES.items()
    ]
    print(table(lines))
    if not given.quick:
        kept = RESULTS / "before-after.json"
        single = json.loads(kept.read_text())["rows"] if kept.exists() else []
        lines += [row for row in single if not row["change"].startswith("all since")]
        print(save("before-after", lines, command="python " + " ".join(sys.argv)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main()))
