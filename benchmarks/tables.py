"""Results as tables in Markdown, each set with its machine, date, versions and command; put into a page between its markers.

A page says where: `<!-- begin NAME -->` and `<!-- end NAME -->`, each a line of its own.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from measuring import PACKAGES, Row, medians, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Result = dict[str, Any]
WIRE_LOAD: Final = {
    "server": "server", "calls": "calls at once", "calls_per_second": "calls/s", "ours to it": "ours to it",
    "server_us_per_command": "CPU µs a command", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "first_p50_ms": "first p50", "first_p99_ms": "first p99",
    "talking": "in conversation", "generator_idle": "generator idle", "runs": "runs",
}  # fmt: skip
WIRE_PACED: Final = {
    "server": "server", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "first_p50_ms": "first p50", "first_p99_ms": "first p99",
    "server_us_per_command": "CPU µs a command", "runs": "runs",
}  # fmt: skip
WIRE_HELD: Final = {
    "server": "server", "calls": "calls held", "kb_per_call": "kB a call", "ours to it": "ours to it", "runs": "runs",
}  # fmt: skip
COST: Final = {
    "cpu_ms": "CPU ms a payment", "added_p50": "added p50 ms", "added_p99": "added p99 ms", "step_p50": "step p50 ms", "step_p99": "step p99 ms",
}  # fmt: skip
LOAD: Final = {
    "variant": "load", "paid_per_s": "payments/s", "per_core": "payments/s a core", **COST, "commits_per_payment": "commits a payment",
    "load_busy": "load's core", "runs": "runs",
}  # fmt: skip
SPANS: Final = {
    "variant": "load",
    **{f"{span}_{place}": f"{span} {place}" for span in ("card_to_otp", "otp_to_command", "pin_to_pay", "pay_to_command") for place in ("p50", "p99")},
}  # fmt: skip
MEMORY: Final = {"variant": "held at", "held": "calls", "kB_per_call": "kB a call", "idle_MB": "RSS idle MB", "runs": "runs"}  # fmt: skip
START: Final = {"variant": "journal", "ms": "ms to listening", "cpu_ms": "of CPU", "runs": "runs"}
DRAIN: Final = {
    "under_way": "calls under way", "paid": "paid", "lost": "lost", "refused": "refused", "unanswered": "unanswered", "seconds": "seconds", "runs": "runs",
}  # fmt: skip
FSYNC: Final = {"syncs_per_commit": "syncs a commit", "syncs_per_payment": "syncs a payment", "commits_per_payment": "commits a payment"}  # fmt: skip
ENDS: Final = {
    "held": "held", "paid": "paid", "lost": "lost", "miscounted": "miscounted", "paid_per_s": "payments/s", "their_cpu_ms": "CPU ms each",
}  # fmt: skip
THROUGHPUT: Final = {
    "variant": "servers", "payments_per_s": "payments/s", "cpu_ms_per_payment": "CPU ms a payment", "added_p50_ms": "added p50 ms",
    "added_p99_ms": "added p99 ms", "runs": "runs",
}  # fmt: skip
DISTURBED: Final = {"variant": "what", "calls": "calls", "paid": "paid", "not_paid": "not paid", "wrong": "requests of no caller"}  # fmt: skip
LEVELS: Final = {
    "calls": "calls at once", "calls_per_min": "calls a minute", "paid": "paid", "not_paid": "not paid", "asterisk_cpu": "Asterisk, % of a core",
    "ours_cpu": "ours", "ratio_percent": "ours of Asterisk's, %", "asterisk_s_per_call": "Asterisk s a call", "ours_s_per_call": "ours s a call",
    "rtp_gap_p99_ms": "RTP gap p99 ms", "step_p50_ms": "step p50 ms", "step_p99_ms": "step p99 ms", "strangers_cpu": "strangers %",
}  # fmt: skip
SOAK: Final = {
    "life": "life", "minute": "minute", "calls": "calls of it", "rss": "RSS MB", "heap": "heap MB", "sqlite": "SQLite MB", "fds": "descriptors",
    "tasks": "tasks", "threads": "threads",
}  # fmt: skip
CHANGES: Final = {"change": "change", "what": "what", "unit": "unit", "before": "before", "after": "after", "after / before": "after / before"}  # fmt: skip


def parts(rows: Sequence[Row], by: Sequence[str] = ("part", "variant")) -> dict[str, list[Row]]:
    """Medians of the runs, by the part of the benchmark; numbers alone."""
    found: dict[str, list[Row]] = {}
    for part in dict.fromkeys(row["part"] for row in rows):
        found[part] = medians((row for row in rows if row["part"] == part), by)
    return found


def picked(title: str, rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """A table of some columns under their own names; empty if there are no rows."""
    if not rows:
        return ""
    renamed = [{name: _plain(row.get(column, "")) for column, name in columns.items()} for row in rows]
    return f"{title}\n\n{table(renamed)}"


def _plain(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def wire(result: Result) -> list[str]:
    """Of wire.json."""
    by_calls = sorted(result["rows"], key=lambda row: int(row["calls"]))
    kinds = (("load", WIRE_LOAD), ("paced", WIRE_PACED), ("held", WIRE_HELD))
    found = [
        picked(f"`{how}`:", [row for row in by_calls if row["how"] == how], columns) for how, columns in kinds
    ]
    failed = [f"- {variant}: {why[-1]}" for variant, why in result.get("failures", {}).items() if why]
    failed += [f"- {package} could not be had: {why}" for package, why in result.get("missing", {}).items()]
    return [*found, *(["Not done:\n\n" + "\n".join(failed)] if failed else [])]


def call(result: Result) -> list[str]:
    """Of call.json and call-postgresql.json."""
    of = parts(result["rows"])
    return [
        picked("`load`:", of.get("load", []), LOAD),
        picked("`load`, milliseconds that we add:", of.get("load", []), SPANS),
        picked("`memory`:", of.get("memory", []), MEMORY),
        picked("`start`:", of.get("start", []), START),
        picked("`drain`:", of.get("drain", []), DRAIN),
        picked("`fsync`:", of.get("fsync", []), FSYNC),
    ]


def growth(result: Result) -> list[str]:
    """Of growth.json."""
    of = parts([row for row in result["rows"] if row["part"] != "plans"])
    plans = [row for row in result["rows"] if row["part"] == "plans"]
    scans = [f"- {row['when']}: `{row['statement']}`" for row in plans if row["scan"]]
    told = f"`plans`: of {len(plans)} statements {len(scans) or 'none'} read all of a table that grows."
    return [
        picked(
            "`held`:",
            of.get("held", []),
            {"held": "calls held", "kB_per_call": "kB a call", **COST, "runs": "runs"},
        ),
        picked("`held`, and then all go on:", of.get("held-ends", []), ENDS),
        picked("`rows`:", of.get("rows", []), {"variant": "in the journal", **COST, "runs": "runs"}),
        picked("`rows`, starting:", of.get("rows-start", []), START),
        "\n\n".join([told, *(["\n".join(scans)] if scans else [])]) if plans else "",
    ]


def servers(result: Result) -> list[str]:
    """Of servers.json."""
    paid = [row for row in result["rows"] if row["part"] == "throughput"]
    others = [row for row in result["rows"] if row["part"] != "throughput"]
    return [
        picked("`throughput`:", paid, THROUGHPUT),
        picked("`loss`, `upgrade`, `reload`:", others, DISTURBED),
    ]


def asterisk(result: Result) -> list[str]:
    """Of asterisk.json."""
    signs = [f"- {row['calls']} calls: {row['signs']}" for row in result["rows"] if row.get("signs")]
    found = [picked("Each level:", medians(result["rows"], ("calls",)), LEVELS)]
    return [*found, "Signs of a limit:\n\n" + "\n".join(dict.fromkeys(signs)) if signs else ""]


def soak(result: Result) -> list[str]:
    """Of soak.json: the first and the last quiet moment of each long life, and what became of it all."""
    ends: list[Row] = []
    for life in dict.fromkeys(row["life"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["life"] == life]
        if len(rows) > 2:  # noqa: PLR2004 - a short life says nothing of growth
            ends += [
                row | {name: row[name] / 1e6 for name in ("rss", "heap", "sqlite")}
                for row in (rows[0], rows[-1])
            ]
    sums = {
        "seed": result.get("seed"),
        "callers": result.get("calls"),
        "told": result.get("told"),
        "attempts": result.get("attempts"),
        "`pay` requests": result.get("pay requests"),
        "charges": result.get("charges"),
        "notices": result.get("notices"),
        "restarts": result.get("restarts"),
        "times that the bank was away": result.get("the bank was away"),
        "troubles found": len(result.get("found", [])),
    }
    rows = [{"what": name, "how many": _counted(value)} for name, value in sums.items() if value is not None]
    return [
        picked("First and last quiet moment of each long life:", ends, SOAK),
        f"What became of it:\n\n{table(rows)}",
    ]


def _counted(value: object) -> object:
    return ", ".join(f"{name} {count}" for name, count in value.items()) if isinstance(value, dict) else value


def changes(result: Result) -> list[str]:
    """Of before-after.json."""
    ratios = [
        row | {"after / before": row["after"] / row["before"] if row["before"] else None}
        for row in result["rows"]
    ]
    return [picked("Before and after:", ratios, CHANGES)]


TABLES: Final[dict[str, Callable[[Result], list[str]]]] = {
    "wire": wire,
    "call": call,
    "call-postgresql": call,
    "growth": growth,
    "servers": servers,
    "asterisk": asterisk,
    "soak": soak,
    "before-after": changes,
}


def about(result: Result) -> str:
    """Where, when and with what it was measured, in one paragraph."""
    machine = result.get("machine", {})
    versions = [f"{name} {machine[name]}" for name in ("python", *PACKAGES) if name in machine]
    said = {
        "": machine.get("date"),
        "commit ": machine.get("commit"),
        "on ": machine.get("cpu"),
        " ": machine.get("memory"),
        "kernel ": machine.get("kernel"),
        "load average when it ended ": machine.get("load"),
        "journal on ": ", fdatasync of 4 kB ".join(result.get("disk", {}).values()),
    }
    words = [(word + value).strip() for word, value in said.items() if value]
    lines = ["Measured " + ", ".join(words) + "; " + ", ".join(versions) + "."] if words else []
    if command := result.get("command"):
        # whoever ran it may have named the program by its whole path, which is nobody's business
        lines.append("`" + re.sub(r"\S*/((?:benchmarks|tests)/)", r"\1", command).strip() + "`")
    return "\n".join(lines)


def block(name: str, picture: str, seen: str, result: Result) -> str:
    """What stands in the page for one benchmark: the picture with what is seen in it, where it was measured, the tables."""
    told = [f"![{seen}]({picture})", about(result), *TABLES[name](result)]
    return "\n\n".join(part for part in told if part)


def put(page: str, name: str, text: str) -> str:
    """A page with this between the markers of that name. ValueError: it has no such markers."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.partition(f"{begin}\n")
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no {begin} … {end} in the page")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
