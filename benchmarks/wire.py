"""Calls a second, CPU per command, step times and memory of our AGI classes, beside other FastAGI servers.

    wire.py [--rounds 5] [--calls 100 1000 5000] [--seconds 1.5] [--only SERVER…] [--quick] [--ceiling] [--nice N]

Every server plays the same call of 25 commands (`wire/call.json`), on core 0. `wire/load` plays Asterisk's side on core 1,
in Go on one epoll, and reads what the server used. Each measurement has a server process of its own; servers take turns.
Needs Debian's golang-go, and at the first time the network: the Python peers go into `.cache/bench/peers`. Exits 1 if a call
ended badly with our server, Go's or the bare loop, or a server played another call; never for a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shlex
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measuring import Row, in_turns, medians, save, table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HERE: Final = Path(__file__).resolve().parent / "wire"
ROOT: Final = HERE.parents[1]
CACHE: Final = ROOT / ".cache" / "bench"
CALL: Final = HERE / "call.json"
PEERS: Final = CACHE / "peers" / "bin" / "python"
LOAD: Final = CACHE / "wire-load"
SERVER_CORE, LOAD_CORE = 0, 1
HELD: Final = 12  # the command at which calls are held: GET DATA of a PIN, where callers take their time
PACED: Final = (1000, 2000)  # calls at once, commands a second: a rate that every server bears
TWICE: Final = 2  # what failed so often, or takes longer than SLOW, is not tried once more
PATIENCE: Final = 120.0  # seconds that one run may take
SLOW: Final = 10.0  # seconds of one run
QUIET: Final = 0.05  # of the time the generator may be kept from its core; then the machine is not ours
OURS, GO, BARE = "ours", "Go", "bare epoll"
SERVERS: Final[dict[str, tuple[str, ...]]] = {
    OURS: (sys.executable, str(HERE / "ours.py")),
    GO: (str(CACHE / "wire-goserver"),),
    "panoramisk": (str(PEERS), str(HERE / "peers" / "in_panoramisk.py")),
    "aioagi": (str(PEERS), str(HERE / "peers" / "in_aioagi.py")),
    "pystrix": (str(PEERS), str(HERE / "peers" / "in_pystrix.py")),
    "pyst2 in threads": (str(PEERS), str(HERE / "peers" / "in_threads.py")),
    BARE: (str(LOAD), "--serve", "--script", str(CALL), "--port"),
}


def build() -> dict[str, str]:
    """Build the Go programs and the peers' environment. Returns package -> why it cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    settings = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOCACHE": str(CACHE / "go")}
    for name, folder in (("wire-load", "load"), ("wire-goserver", "peers/goserver")):
        command = ("go", "build", "-o", str(CACHE / name), ".")
        try:
            subprocess.run(command, cwd=HERE / folder, env=os.environ | settings, check=True)  # noqa: S603
        except FileNotFoundError:
            sys.exit("Go is missing: tools/debian-packages golang-go")
    if not PEERS.exists():
        subprocess.run((sys.executable, "-m", "venv", str(PEERS.parents[1])), check=True)  # noqa: S603
    missing: dict[str, str] = {}
    wanted_all, had = (HERE / "peers" / "requirements.txt").read_text(), CACHE / "peers" / "had.txt"
    if had.exists() and had.read_text() == wanted_all:
        return missing
    for wanted in wanted_all.split():
        pip = (str(PEERS), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted)
        said = subprocess.run(pip, capture_output=True, text=True, check=False)  # noqa: S603
        if said.returncode:
            missing[wanted] = (said.stderr.strip().splitlines() or ["?"])[-1]
    if not missing:
        had.write_text(wanted_all)
    return missing


async def spawn(core: int, *command: str, **pipes: Any) -> asyncio.subprocess.Process:
    """Start a program on one core, as urgent as we are."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & ours or ours)  # a child inherits it
    try:
        settings = os.environ | {"GOMAXPROCS": "1", "PYTHONPATH": str(ROOT)}
        return await asyncio.create_subprocess_exec(*command, env=settings, **pipes)
    finally:
        os.sched_setaffinity(0, ours)


@asynccontextmanager
async def serving(name: str, log: Path) -> AsyncIterator[tuple[int, int]]:
    """Run a server; gives its port and its process id. What it complains of goes to the log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (str(port),) if name == BARE else (str(port), str(CALL))
    with log.open("ab") as file:
        server = await spawn(
            SERVER_CORE, *SERVERS[name], *arguments, stdout=asyncio.subprocess.PIPE, stderr=file
        )
    try:
        async with asyncio.timeout(30):
            if not await server.stdout.readline():  # type: ignore[union-attr]
                raise RuntimeError(f"{name} does not start: see {log}")
        yield port, server.pid
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def load(port: int, pid: int, *arguments: str) -> Row:
    """Run the generator; its report."""
    command = (str(LOAD), "--port", str(port), "--pid", str(pid), "--script", str(CALL))
    running = await spawn(
        LOAD_CORE, *command, "--core", str(SERVER_CORE), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            told, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    report: Row = json.loads(told)
    return report


def plays(lines: list[str]) -> bool:
    """Whether these were the commands of call.json, whatever the quoting."""
    wanted = []
    for method, *arguments in json.loads(CALL.read_text()):
        offset = ["0"] if method == "stream_file" else []
        wanted.append([*method.upper().split("_"), *map(str, arguments), *offset])
    said = [shlex.split(line.replace('""', '"')) for line in lines]
    return [[word.lower() for word in line] for line in said] == [
        [word.lower() for word in line] for line in wanted
    ]


class Bench:
    """One measurement after another. wrong: what no time excuses; failures: what a server could not do, and why."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._log = CACHE / "wire.log"
        self.wrong: list[str] = []
        self.failures: dict[str, list[str]] = {}
        self._slow: Counter[str] = Counter()

    async def measure(self, variant: str) -> Row:
        """One run of `server/how/calls`: `load`, `paced` or `held`."""
        server, how, calls = variant.split("/")
        row: Row = {"server": server, "how": how, "calls": calls}
        failed = self.failures.setdefault(variant, [])
        if len(failed) >= TWICE or self._slow[variant] >= TWICE:
            return row
        since = time.monotonic()
        try:
            async with serving(server, self._log) as (port, pid):
                report = await load(port, pid, "--calls", calls, *self._arguments(how, int(calls)))
        except (RuntimeError, TimeoutError) as error:
            report = {"given_up": str(error) or f"no report within {PATIENCE:g} s"}
        self._slow[variant] += time.monotonic() - since > SLOW
        first, bad = report.pop("first_call", None) or [], report.pop("bad", None) or {}
        report.pop("calls", None)
        if (why := report.pop("given_up", None)) or bad:
            failed.append(", ".join([why or "calls ended badly", *(f"{bad[each]} {each}" for each in bad)]))
            if server in (OURS, GO, BARE):
                self.wrong.append(f"{variant}: {failed[-1]}")
            if bad or "kb_per_call" not in report:  # the memory was read before some did not end in time
                return row
        if server != BARE and how == "held" and not plays(first):
            self.wrong.append(f"{server} plays another call: {first}")
        return row | report

    def _arguments(self, how: str, calls: int) -> tuple[str, ...]:
        ramp, seconds = str(self._given.ramp), str(self._given.seconds)
        if how == "held":
            return ("--hold", str(HELD), "--ramp", ramp, "--settle", "0.5")
        think = str(round(1000 * PACED[0] / PACED[1])) if how == "paced" else "0"
        # The more calls, the longer until each has had its turn once.
        warm = 0.5 if calls <= 1000 else 1.5  # noqa: PLR2004
        return ("--seconds", seconds, "--warm", str(warm), "--ramp", ramp, "--think", think)


def variants(given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """What is measured in every round, and what in three at most: memory, and steps at a moderate rate, vary little."""
    servers = [name for name in SERVERS if not given.only or name in given.only]
    if given.ceiling:
        return [f"{BARE}/load/{calls}" for calls in given.calls], []
    timed = [f"{name}/load/{n}" for n in given.calls for name in servers if name != BARE]
    if BARE in servers:
        timed.append(f"{BARE}/load/{1000 if 1000 in given.calls else given.calls[0]}")  # noqa: PLR2004
    real = [name for name in servers if name != BARE]
    many = [n for n in given.calls if n >= 1000] or given.calls[:1]  # noqa: PLR2004
    thrice = [f"{name}/paced/{PACED[0]}" for name in real if not given.quick]
    return timed, thrice + [f"{name}/held/{n}" for n in many for name in real]


LOAD_COLUMNS: Final = {
    "server": "server", "calls": "calls at once", "calls_per_second": "calls/s", "to Go": "to Go's", "ours to it": "ours to it",
    "server_us_per_command": "CPU µs/command", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "first_p50_ms": "first p50",
    "first_p99_ms": "first p99", "in_progress": "in progress", "talking": "in conversation", "server_core_busy": "its core busy", "generator_idle": "generator idle",
    "runs": "runs",
}  # fmt: skip
PACED_COLUMNS: Final = {
    "server": "server", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "first_p50_ms": "first p50", "first_p99_ms": "first p99",
    "server_us_per_command": "CPU µs/command", "server_cpu": "of a core", "runs": "runs",
}  # fmt: skip
HELD_COLUMNS: Final = {
    "server": "server", "calls": "calls held", "kb_per_call": "kB a call", "ours to it": "ours to it", "rss_before_kb": "RSS before",
    "rss_held_kb": "held", "rss_after_kb": "after", "runs": "runs",
}  # fmt: skip


def compare(rows: Sequence[Row], column: str) -> None:
    """Put ratios beside a column, to the row of Go and of ours with as many calls."""
    of = {(row["server"], row["calls"]): row[column] for row in rows}
    for row in rows:
        mine = row[column] or float("nan")
        go, ours = (of.get((name, row["calls"]), float("nan")) for name in (GO, OURS))
        row["to Go"], row["ours to it"] = mine / (go or float("nan")), ours / mine


def show(rows: Sequence[Row], how: str, columns: dict[str, str], by: str) -> None:
    """Print one table: the medians of one kind of measurement."""
    some = [row for row in rows if row["how"] == how]
    if not some:
        return
    compare(some, by)
    renamed = [{columns[column]: row.get(column, "") for column in columns} for row in some]
    print(f"\n{how}\n\n{table(renamed)}")


def tell(bench: Bench, rows: Sequence[Row]) -> None:
    """Print everything, and what the numbers do not say."""
    show(rows, "load", LOAD_COLUMNS, "calls_per_second")
    show(rows, "paced", PACED_COLUMNS, "p99_ms")
    show(rows, "held", HELD_COLUMNS, "kb_per_call")
    for variant, why in bench.failures.items():
        if why:
            print(f"\n{variant} failed {len(why)} times: {why[-1]}")
    bare = next((row for row in rows if row["server"] == BARE and row["how"] == "load"), None)
    named = [row for row in rows if row["how"] == "load" and row["server"] != BARE]
    if bare and named:
        fastest = max(named, key=lambda row: float(row["calls_per_second"]))
        print(
            f"\nThe generator makes {bare['calls_per_second']:,.0f} calls/s of a bare epoll loop, the fastest server ({fastest['server']})"
            f" {fastest['calls_per_second']:,.0f}; beside it it was idle for {fastest['generator_idle']:.0%} of the time, and"
            f" needed {fastest['generator_us_per_command']:.1f} µs a command, the server {fastest['server_us_per_command']:.1f}."
        )
    starved = [row["generator_starved"] for row in rows if row["how"] != "held"]
    if starved and max(starved) > QUIET:
        print(
            f"\nNot a quiet machine: the generator waited for its core for up to {max(starved):.0%} of the time."
        )
    print(
        "\nNot in these numbers: a caller who takes seconds for each command, audio, the journal, the bank. A call here is as fast as"
        "\nthe server can word it, so that p50 and p99 under load say little more than calls at once / commands a second; what a"
        "\ncaller would notice is in `paced`. Loopback has no losses. One core: more is more processes, of any of them."
    )


async def run(given: argparse.Namespace) -> int:
    """Measure in turns, print, save. Returns the exit status."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    missing = build()
    os.setpriority(os.PRIO_PROCESS, 0, given.nice)  # children inherit it
    for package, why in missing.items():
        print(f"{package} cannot be had: {why}")
    bench, since = Bench(given), time.monotonic()
    timed, thrice = variants(given)
    rows = await in_turns(timed, bench.measure, given.rounds)
    rows += await in_turns(thrice, bench.measure, min(given.rounds, 3))
    complete = [row for row in rows if len(row) > 5]  # noqa: PLR2004 - the others failed
    middle = medians(complete, ("server", "how", "calls"))
    tell(bench, middle)
    if not (given.quick or given.only or given.ceiling):
        failures = {variant: why for variant, why in bench.failures.items() if why}
        command = "python benchmarks/wire.py " + " ".join(sys.argv[1:])
        save("wire", middle, command=command.strip(), failures=failures, missing=missing)
    print(f"\n{time.monotonic() - since:.0f} s; " + ("; ".join(bench.wrong) or "every call ended well"))
    return 1 if bench.wrong else 0


def main() -> None:
    """Read what is asked, and run."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--calls", type=int, nargs="+", default=[100, 1000, 5000], help="at once")
    asked.add_argument("--seconds", type=float, default=1.5, help="of each measurement, after its warm-up")
    asked.add_argument(
        "--ramp", type=float, default=30, help="seconds to have all calls up; then it is given up"
    )
    asked.add_argument(
        "--nice", type=int, default=0, help="of server and generator; below 0 on a busy machine"
    )
    asked.add_argument("--only", nargs="*", default=[], metavar="SERVER", help=", ".join(SERVERS))
    asked.add_argument(
        "--quick", action="store_true", help="one short round with 200 calls: to see that it runs"
    )
    asked.add_argument("--ceiling", action="store_true", help="only the generator against a bare epoll loop")
    given = asked.parse_args()
    if given.quick:
        given.rounds, given.calls, given.seconds = 1, [200], 0.5
    sys.exit(asyncio.run(run(given)))


if __name__ == "__main__":
    main()
