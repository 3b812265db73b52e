"""Several processes and several servers: what a second one costs and brings, what is lost when one dies, and an upgrade.

    servers.py [--rounds 5] [--quick] [--only PART…] [--calls 64] [--seconds 6]

The load (`call/load`) and PostgreSQL have the last core, the servers share the others: where there are two cores, more servers
bring nothing but their cost, which is what is read there. The bank answers at once; the journal is durable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from load import Line, Load, cpu_of, free_port, postgresql, run, workplace, wrong_with
from measuring import in_turns, medians, save, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from measuring import Row

# name -> servers, workers of each (0: a single process), journal
VARIANTS: Final = {
    "SQLite, 1 process": (1, 0, "sqlite"),
    "SQLite, 1 worker": (1, 1, "sqlite"),
    "SQLite, 2 workers": (1, 2, "sqlite"),
    "SQLite, 4 workers": (1, 4, "sqlite"),
    "PostgreSQL, 1 server": (1, 0, "postgresql"),
    "PostgreSQL, 2 servers": (2, 0, "postgresql"),
    "PostgreSQL, 4 servers": (4, 0, "postgresql"),
    "PostgreSQL, 2 servers of 2 workers": (2, 2, "postgresql"),
}
PARTS: Final = ("throughput", "loss", "upgrade", "reload")
GONE: Final = 5.0  # seconds that a lost server is away


class Servers:
    """Some servers on one journal, and the load that dials all of them as one name."""

    def __init__(self, folder: Path, load: Load, many: int, workers: int, journal: str) -> None:
        self._folder = folder
        self._load = load
        self._cores = max(1, (os.cpu_count() or 2) - 1)
        self._given: dict[str, Any] = {
            "gateway_url": load.gateway,
            "workers": workers,
            "journal_url": journal,
            "drain_limit": 60,
        }
        self._stack = AsyncExitStack()
        self._begun = 0
        self.ports = [free_port() for _ in range(many)]
        self.lines: list[Line] = []

    async def __aenter__(self) -> Self:
        for port in self.ports:
            self.lines.append(await self.begin(port))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def begin(self, port: int) -> Line:
        """Start one more on a port."""
        self._begun += 1
        line = Line(f"server{self._begun}", self._folder, self._begun % self._cores, port=port, **self._given)
        return await self._stack.enter_async_context(line)

    @property
    def addresses(self) -> str:
        """All of them."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def cpu(self) -> float:
        """Seconds of CPU of all their processes so far."""
        return sum(cpu_of(pid) for line in self.lines for pid in (line.pid, *below(line.pid)))

    async def pay(self, calls: int, seconds: float) -> dict[str, Any]:
        """A closed loop of calls."""
        return await self._load.do("run", server=self.addresses, calls=calls, seconds=seconds)


def below(pid: int) -> list[int]:
    """The workers of a supervisor."""
    with open(f"/proc/{pid}/task/{pid}/children") as found:  # noqa: PTH123 - proc(5)
        return [int(child) for child in found.read().split()]


@contextmanager
def journals(folder: Path) -> Iterator[Callable[[str], str]]:
    """Gives the address of a new journal on a kind of database."""
    number = 0

    def new(kind: str) -> str:
        nonlocal number
        number += 1
        return f"sqlite:///{folder / f'journal{number}.db'}" if kind == "sqlite" else database()

    with postgresql((os.cpu_count() or 2) - 1) as database:
        yield new


async def throughput(variant: str, folder: Path, load: Load, new: Callable[[str], str], given: Any) -> Row:
    """Payments a second, and what each costs."""
    many, workers, kind = VARIANTS[variant]
    async with Servers(folder, load, many, workers, new(kind)) as servers:
        await servers.pay(given.calls, 1)
        before = servers.cpu()
        found = await servers.pay(given.calls, given.seconds)
        used = servers.cpu() - before
    if wrong := wrong_with(found):
        raise SystemExit(f"{variant}: {wrong}")
    return {
        "payments_per_s": found["paid_per_s"],
        "cpu_ms_per_payment": used / found["calls"] * 1000,
        "added_p50_ms": found["added"]["p50"],
        "added_p99_ms": found["added"]["p99"],
    }


async def disturbed(
    what: str, folder: Path, load: Load, new: Callable[[str], str], given: argparse.Namespace
) -> Row:
    """Calls while a server is lost, or each is replaced, or the workers of one are; who of them was not paid."""
    many, workers, kind = (1, 2, "sqlite") if what == "reload" else (2, 0, "postgresql")
    async with Servers(folder, load, many, workers, new(kind)) as servers:
        paying = asyncio.create_task(servers.pay(min(given.calls, 16), given.seconds * 3))
        await asyncio.sleep(given.seconds / 2)
        if what == "loss":
            os.kill(servers.lines[0].pid, signal.SIGKILL)
            await asyncio.sleep(GONE)
            servers.lines[0] = await servers.begin(servers.ports[0])
        elif what == "upgrade":
            for place, port in enumerate(servers.ports):
                await servers.lines[place].terminate()
                servers.lines[place] = await servers.begin(port)
        else:
            os.kill(servers.lines[0].pid, signal.SIGHUP)
        found = await paying
    paid = found["status"].get("PAID", 0)
    row = {"calls": found["calls"], "paid": paid, "not_paid": found["calls"] - paid, "wrong": found["wrong"]}
    if what != "loss" and wrong_with(found):
        raise SystemExit(f"{what}: {wrong_with(found)}")
    return row


async def main() -> int:
    """Run what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a rough look")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--calls", type=int, default=64, help="at once")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 3.0
    rows: list[Row] = []
    core = (os.cpu_count() or 2) - 1
    with workplace() as folder, journals(folder) as new:
        async with Load(core) as load:
            if "throughput" in given.only:
                each = await in_turns(
                    tuple(VARIANTS), lambda name: throughput(name, folder, load, new, given), given.rounds
                )
                rows += [{"part": "throughput", **row} for row in medians(each)]
            for what in PARTS[1:]:
                if what in given.only:
                    rows.append(
                        {"part": what, "variant": what, **await disturbed(what, folder, load, new, given)}
                    )
    for part in given.only:
        print(f"\n{part}\n" + table([row for row in rows if row["part"] == part]))
    if not given.quick and set(given.only) == set(PARTS):
        print(save("servers", rows, command="python " + " ".join(sys.argv)))
    print(
        "\nOn two cores this says what a second server costs; what it brings needs a core, or a machine, of its own."
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main()))
