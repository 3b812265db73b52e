"""Draws docs/benchmarks/*.svg from benchmarks/results/*.json, and puts the tables into the README beside them.

    charts.py [--results DIR] [--out DIR]

What has not been measured is left out, and named. The same results give the same files, byte for byte, with one version of matplotlib.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from measuring import RESULTS, medians
from tables import Result, block, parts, put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

PAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
SIZE: Final = (9.0, 4.8)  # inches, of every picture
ROOM: Final = 12  # pairs of bars that one picture has room for
BARE: Final = "bare epoll"
# Okabe and Ito's: told apart by those who do not see red or green, and on white
OURS, OTHER, THIRD, PALE = "#0072b2", "#d55e00", "#009e73", "#a6a6a6"
STYLE: Final[Any] = {  # its names are matplotlib's own
    "svg.hashsalt": "ivr-agi",  # else the names within are drawn by lot
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.facecolor": "white",
}


def shown(value: float) -> str:
    """Three digits at most, or the whole of a whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004


def sheet(title: str, columns: int = 1, rows: int = 1, height: float = SIZE[1], **how: Any) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """A picture with its title and so many diagrams."""
    figure = Figure(figsize=(SIZE[0], height), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    drawn = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(drawn.flat)


def bars(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float | None]], colours: Sequence[str]) -> None:  # fmt: skip
    """Lying bars, a group for each name, the first on top; the value beside each. None: not measured."""
    thick = 0.8 / len(series)
    for place, (label, values) in enumerate(series.items()):
        heights = [row + (place - (len(series) - 1) / 2) * thick for row in range(len(names))]
        axes.barh(
            heights, [value or 0.0 for value in values], thick * 0.92, color=colours[place], label=label
        )
        for height, value in zip(heights, values, strict=True):
            words = "-" if value is None else shown(value)
            axes.annotate(
                words, (value or 0.0, height), (2, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.16)  # for the values


def wire(result: Result) -> Figure:
    """Calls a second, CPU of a command and memory of a held call, of each server."""
    rows = result["rows"]
    names = list(dict.fromkeys(row["server"] for row in rows))
    levels = sorted({int(row["calls"]) for row in rows if row["how"] == "load"})
    held = sorted({int(row["calls"]) for row in rows if row["how"] == "held"})

    def of(how: str, calls: int, column: str) -> list[float | None]:
        found = {
            row["server"]: row[column] for row in rows if row["how"] == how and int(row["calls"]) == calls
        }
        return [found.get(name) for name in names]

    figure, (speed, cpu, memory) = sheet(
        "The AGI wire alone, one core for each server: a call of 25 commands", 3, sharey=True
    )
    colours = [PALE, OURS, OTHER, THIRD]
    labels = [f"{name}\n(not a server)" if name == BARE else name for name in names]
    at = {calls: f"{calls:,} at once" for calls in levels}
    bars(speed, labels, {at[n]: of("load", n, "calls_per_second") for n in levels}, colours)
    speed.set(title="throughput: more is better", xlabel="calls a second")
    bars(cpu, labels, {at[n]: of("load", n, "server_us_per_command") for n in levels}, colours)
    cpu.set(title="CPU: less is better", xlabel="µs of CPU a command")
    if held:
        known = [colours[levels.index(n)] if n in levels else THIRD for n in held]
        bars(memory, labels, {f"{n:,}": of("held", n, "kb_per_call") for n in held}, known)
    memory.set(title="memory: less is better", xlabel="kB a call held")
    figure.legend(*speed.get_legend_handles_labels(), loc="outside lower center", ncols=len(levels))
    return figure


def call(result: Result) -> Figure:
    """What we add to the bank's time, and payments a second of a core."""
    of = {row["variant"]: row for row in parts(result["rows"]).get("load", [])}
    journal = {"postgresql": "PostgreSQL"}.get(result.get("journal", ""), "SQLite")
    figure, (added, speed) = sheet(f"A whole payment, the journal in {journal}, on disk", 2)
    ways = {
        "closed": "64 at once, bank 0 s",
        "open-0s": "as they come, bank 0 s",
        "open-3s": "as they come, bank 3 s",
    }
    here = [way for way in ways if way in of]
    spans = {
        f"added {place}": [of[way][f"added_{place}"] for way in here if way != "closed"]
        for place in ("p50", "p99")
    }
    bars(added, [ways[way] for way in here if way != "closed"], spans, [OURS, OTHER])
    added.set(title="what we add to a call, beside the bank: less is better", xlabel="milliseconds")
    figure.legend(*added.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    bars(speed, [ways[way] for way in here], {"a core": [of[way]["per_core"] for way in here]}, [OURS, OTHER])
    speed.set(title="what one core could do: more is better", xlabel="payments a second and core")
    return figure


def growth(result: Result) -> Figure:
    """CPU of a payment and memory of a call against held calls; CPU of a payment against rows."""
    of = parts([row for row in result["rows"] if row["part"] != "plans"])
    figure, (held, memory, rows) = sheet("What a payment costs as the rest grows: flat is the aim", 3)
    beside = of.get("held", [])
    line(held, [row["held"] for row in beside], [row["cpu_ms"] for row in beside], OURS)
    held.set(title="a payment, beside held calls", xlabel="calls held", ylabel="ms of CPU a payment")
    line(memory, [row["held"] for row in beside], [row["kB_per_call"] for row in beside], THIRD)
    memory.set(title="a held call's memory", xlabel="calls held", ylabel="kB a call")
    many = of.get("rows", [])
    line(rows, [int(row["variant"].split()[0]) for row in many], [row["cpu_ms"] for row in many], OURS)
    rows.set(
        title="a payment, by the journal's size",
        xlabel="attempts in the journal",
        ylabel="ms of CPU a payment",
    )
    return figure


def line(axes: Axes, along: Sequence[float], values: Sequence[float], colour: str) -> None:
    """A line over a logarithmic axis, from zero, with the value at each point."""
    axes.plot(along, values, "o-", color=colour)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(along, [f"{value:,}" for value in along], fontsize=8)
    for here, value in zip(along, values, strict=True):
        axes.annotate(
            shown(value), (here, value), (0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_ylim(0, max(values, default=1) * 1.3)
    axes.margins(x=0.12)


def servers(result: Result) -> Figure:
    """Payments a second and CPU of each, by how many servers and workers there are."""
    rows = [row for row in result["rows"] if row["part"] == "throughput"]
    names = [row["variant"] for row in rows]
    figure, (speed, cpu) = sheet("Several processes and servers on one journal", 2, sharey=True)
    bars(speed, names, {"": [row["payments_per_s"] for row in rows]}, [OURS])
    speed.set(title="throughput: more is better", xlabel="payments a second")
    bars(cpu, names, {"": [row["cpu_ms_per_payment"] for row in rows]}, [OTHER])
    cpu.set(title="CPU of all servers together: less is better", xlabel="ms of CPU a payment")
    return figure


def asterisk(result: Result) -> Figure:
    """CPU of Asterisk and of ours for the same calls, and the ratio of both."""
    rows = medians(result["rows"], ("calls",))
    calls = [row["calls"] for row in rows]
    figure, (axes,) = sheet("CPU of a real Asterisk and of ours, for the same calls")
    axes.plot(calls, [row["asterisk_cpu"] for row in rows], "o-", color=OTHER, label="Asterisk")
    axes.plot(calls, [row["ours_cpu"] for row in rows], "o-", color=OURS, label="ours")
    axes.set(xlabel="calls at once", ylabel="% of one core", xlim=(0, None), ylim=(0, 105))
    beside = axes.twinx()
    ratios = [row["ratio_percent"] for row in rows]
    beside.plot(calls, ratios, "s--", color=THIRD, label="ours of Asterisk's (right)")
    for here, value in zip(calls, ratios, strict=True):
        beside.annotate(
            f"{value:.1f} %", (here, value), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    beside.set(ylabel="ours, % of Asterisk's CPU", ylim=(0, max(ratios, default=10) * 2))
    beside.grid(visible=False)
    beside.spines["right"].set_visible(True)
    lines = [*axes.get_lines(), *beside.get_lines()]
    figure.legend(lines, [str(one.get_label()) for one in lines], loc="outside lower center", ncols=3)
    return figure


def soak(result: Result) -> Figure:
    """Memory, descriptors and tasks over the time; a line for each life of the server."""
    rows = result["rows"]
    figure, (memory, files, tasks) = sheet(
        "What the server held, at each quiet moment; a line breaks where it was restarted", 1, 3, sharex=True
    )
    series = (
        (memory, "rss", 1e6, OURS, "RSS"),
        (memory, "heap", 1e6, OTHER, "heap"),
        (memory, "sqlite", 1e6, THIRD, "SQLite"),
        (files, "fds", 1, OURS, "descriptors"),
        (tasks, "tasks", 1, OURS, "tasks"),
        (tasks, "threads", 1, OTHER, "threads"),
    )
    for axes, column, unit, colour, label in series:
        for number, life in enumerate(dict.fromkeys(row["life"] for row in rows)):
            some = [row for row in rows if row["life"] == life]
            axes.plot(
                [row["minute"] for row in some],
                [row[column] / unit for row in some],
                "." if len(some) == 1 else "-",  # a mark for each would make a large file
                color=colour,
                label=label if not number else None,
            )
    for axes, words in ((memory, "MB"), (files, "descriptors"), (tasks, "tasks, threads")):
        axes.set_ylabel(words)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    for axes in (memory, tasks):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    tasks.set_xlabel("minutes")
    figure.align_ylabels([memory, files, tasks])
    return figure


def changes(result: Result) -> Figure:
    """Before and after each change; the longer bar of a pair is the whole."""
    rows = result["rows"]
    height = max(SIZE[1], SIZE[1] * len(rows) / ROOM)
    figure, (axes,) = sheet("Before and after each change", height=height)
    for place, row in enumerate(rows):
        most = max(row["before"], row["after"]) or 1
        for which, off, colour in (("before", -0.2, PALE), ("after", 0.2, OURS)):
            share = row[which] / most * 100
            axes.barh(place + off, share, 0.36, color=colour, label=which if not place else None)
            words = f"{shown(row[which])} {row['unit']}"
            axes.annotate(
                words, (share, place + off), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks(
        range(len(rows)), [textwrap.fill(f"{row['change']}: {row['what']}", 42) for row in rows], fontsize=7
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel="% of the larger of the two", xlim=(0, 122), xticks=range(0, 101, 20))
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


# name -> how it is drawn, and what is seen in it for those who do not see it
CHARTS: Final[dict[str, tuple[Callable[[Result], Figure], str]]] = {
    "wire": (wire, "Calls a second, CPU of a command and memory of a held call, for each FastAGI server"),
    "call": (call, "Milliseconds that we add to a payment, and payments a second of one core"),
    "call-postgresql": (call, "The same with the journal in PostgreSQL"),
    "growth": (growth, "CPU of a payment and memory of a call, against held calls and rows of the journal"),
    "servers": (servers, "Payments a second and CPU of a payment, for one and several servers"),
    "asterisk": (asterisk, "CPU of Asterisk and of ours against calls at once, and the ratio of both"),
    "soak": (soak, "Memory, descriptors, tasks and threads of the server over the soak's minutes"),
    "before-after": (changes, "What each change brought: two bars each, before and after"),
}


def main() -> None:
    """Draw what has been measured."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    asked.add_argument(
        "--out", type=Path, default=PAGES, help="folder of the pictures and of their README.md"
    )
    given = asked.parse_args()
    page = given.out / "README.md"
    text = page.read_text(encoding="utf-8")
    with mpl.rc_context(STYLE):
        for name, (draw, seen) in CHARTS.items():
            file = given.results / f"{name}.json"
            if not file.exists():
                print(f"{name}: not measured yet")
                continue
            result = json.loads(file.read_text(encoding="utf-8"))
            picture = given.out / f"{name}.svg"
            # without a date or matplotlib's version: what is the same stays the same
            said = {"Date": None, "Creator": None, "Title": seen}
            draw(result).savefig(picture, format="svg", metadata=said)
            text = put(text, name, block(name, picture.name, seen, result))
            print(f"{name}: {picture}, {picture.stat().st_size / 1000:.0f} kB")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
