"""What every benchmark shares: the machine in words, rounds side by side, medians, tables and results.

A number of one machine says little; what is kept is the ratio of two that were measured in turns, in one run. Results
go to `results/NAME.json`, from which `charts.py` draws.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

RESULTS: Final = Path(__file__).parent / "results"
PACKAGES: Final = ("uvloop", "pyst2", "httpx", "SQLAlchemy", "structlog", "psycopg", "prometheus-client")

Row = dict[str, Any]


def machine() -> dict[str, str]:
    """Describe where and with what it was measured; every value a string."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    about = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": _said("git", "rev-parse", "--short", "HEAD"),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            about[name] = version(name)
        except PackageNotFoundError:
            continue
    return about


async def in_turns(
    variants: Sequence[str], measure: Callable[[str], Awaitable[Row]], rounds: int = 5
) -> list[Row]:
    """Measure each variant once a round, so that what else the machine does meets all alike.

    measure: gives the figures of one run. Returns one row for each run, `variant` and `round` among its columns.
    """
    rows: list[Row] = []
    for number in range(rounds):
        # Backwards every second time: nobody always comes after the same one.
        for variant in variants if number % 2 == 0 else tuple(reversed(variants)):
            row = {"variant": variant, "round": number, **await measure(variant)}
            rows.append(row)
            print("  ", " ".join(f"{key}={_shown(value)}" for key, value in row.items()), flush=True)
    return rows


def medians(rows: Iterable[Row], by: Sequence[str] = ("variant",)) -> list[Row]:
    """One row for each value of the columns `by`: the median of every number; `runs` says of how many."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in by), []).append(row)
    found = []
    for key, group in groups.items():
        numbers = [
            column
            for column, value in group[0].items()
            if column not in (*by, "round") and isinstance(value, int | float)
        ]
        middle = {
            column: statistics.median(row[column] for row in group if row.get(column) is not None)
            for column in numbers
        }
        found.append({**dict(zip(by, key, strict=True)), **middle, "runs": len(group)})
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as a table in Markdown."""
    columns = columns or list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def save(name: str, rows: Sequence[Row], **about: Any) -> Path:
    """Keep what was measured, with the machine and the command, as results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), **about, "rows": list(rows)}, indent=1) + "\n")
    return file


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits say enough


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "?"
