"""The kill test: a server that takes payments is killed, again and again, and in the end the books must agree.

    torture.py --kills 1000 --journal sqlite|postgresql [--seed N] [--servers N] [--broken [HOW]]

Kills at each named point (points.py), and at instants drawn at random over each life, under the load of
people.py, on one journal. Exits 1 if the ledger of the bank, the journal and what callers were told do not
agree, if a server ended by itself, or if a point was not reached. A seed draws the same lives and callers;
what meets what is the machine's own affair, so a run is not repeated to the letter.
"""

# ruff: noqa: S311, T201 - its seeds are no keys, and it is a command

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import audit
import uvloop
from bank import Bank
from nest import SEQUENCE, Nest
from people import People
from points import POINTS
from sabotage import BREAKS

RANDOM = "any instant"
SPAN = 0.8  # seconds, within which a life ends at a random instant; slower machinery needs more to come to anything
PATIENCE = 6.0  # seconds for a point to be reached, then another life
TRIES = 9
AFTER_DEATHS = (
    "recovery-half",
    "recovery-uncommitted",
    "recovery-committed",
)  # somebody must have left something
ON_SIGTERM = ("drain-begun", "drain-finishing", "drain-finished", "leave-uncommitted", "leave-committed")
OFTEN = ("reserve", "otp", "sent", "pay", "settle", "told")  # passed by each payment


@dataclass(frozen=True)
class Death:
    """How one life ended. owner: the name under which it had attempts under way, '' if it came to none."""

    point: str
    owner: str
    again: bool  # it was not killed there: the point was not reached within the patience, or it never started


@dataclass
class Torture:
    """One run, on one journal. servers: at once. at_once: orders under way. given: more for Nest.hatch."""

    url: str
    folder: Path
    seed: int
    servers: int = 1
    at_once: int = 12
    broken: str = ""
    span: float = SPAN
    most: int = 12  # a point that each payment passes kills at one of so many
    lease: float = (
        0.0  # seconds; if given, each life is on a host of its own, and only its beat tells of its death
    )
    callers: dict = field(default_factory=dict)  # more for People
    say: object = lambda *_words: None

    def __post_init__(self):
        self._draws = [random.Random(f"{self.seed}/{slot}") for slot in range(self.servers)]
        self._whims = random.Random(self.seed)  # of those whose turn depends on others
        self._hosts = 0
        self.bank = Bank(SEQUENCE, random.Random(self.seed + 1))
        self.people = People(self.bank, self._a_server, self.seed + 2, **self.callers)
        self.deaths, self.troubles = [], []
        self.outages = 0  # of the database
        self._database_stands = asyncio.Event()
        self._database_stands.set()
        self._up = [None] * self.servers
        self._somebody_is_up = asyncio.Event()

    async def run(self, lives, database=None):
        """Live and die as listed, the last time in peace; then the books. database: killed, too, all the time."""
        async with self.bank, Nest(self.folder, gateway_url=self.bank.url, journal_url=self.url) as nest:
            self._nest = nest
            calling = asyncio.create_task(self.people.keep_calling(self.at_once))
            shaking = asyncio.create_task(self._shake(database)) if database else None
            await asyncio.gather(
                *(self._lives(slot, lives[slot :: self.servers]) for slot in range(self.servers))
            )
            if shaking:
                self._shaken.set()
                await shaking
            await self._in_peace(calling)
            await self._in_peace()
        self.books = audit.Books(self.url)
        return self.troubles + audit.violations(self.books, self.bank, self.people.calls)

    # -- lives ---------------------------------------------------------------------------------------

    async def _a_server(self):
        """The port of a server that takes calls, as soon as there is one."""
        while True:
            ports = [victim.port for victim in self._up if victim and victim.port]
            if ports:
                return self._whims.choice(ports)
            self._somebody_is_up.clear()
            await self._somebody_is_up.wait()

    async def _hatch(self, slot, **fuse):
        self._hosts += 1
        elsewhere = {"host": f"host-{self._hosts}", "lease": self.lease} if self.lease else {}
        victim = self._up[slot] = await self._nest.hatch(broken=self.broken, **fuse, **elsewhere)
        victim.listening = asyncio.create_task(self._announce(victim))
        return victim

    async def _announce(self, victim):
        await victim.settled.wait()
        self._somebody_is_up.set()

    async def _lives(self, slot, points):
        for point in points:
            for _ in range(TRIES):
                if point in AFTER_DEATHS:
                    await self._live(slot, RANDOM, least=self.span / 2)
                if (await self._live(slot, point)).again:
                    continue
                break
            else:
                self.troubles.append(f"the point {point} was not reached in {TRIES} lives")

    async def _live(self, slot, point, *, least=0.0):
        """One life, to its violent end; one that never began because the database was down does not count."""
        while True:
            outages = self.outages
            victim, status = await self._live_and_die(slot, point, least)
            killed = status == -signal.SIGKILL
            if killed or (self.outages == outages and self._database_stands.is_set()):
                break
            await self._database_stands.wait()
        if not killed:
            self.troubles.append(f"a server ended by itself, status {status} (see its log)")
        reached = killed if point == RANDOM else victim.struck == point
        death = Death(point, victim.owner, again=not reached)
        self.deaths.append(death)
        if len(self.deaths) % 50 == 0:
            paid = len(self.bank.charges)
            self.say(f"{len(self.deaths)} kills, {len(self.people.calls)} calls, {paid} charges")
        return death

    async def _live_and_die(self, slot, point, least):
        rng = self._draws[slot]
        if point == RANDOM:
            victim = await self._hatch(slot)
            await asyncio.wait({victim.ended}, timeout=rng.uniform(least, self.span))
        else:
            nth = rng.randint(1, self.most) if point.startswith(OFTEN) else 1
            victim = await self._hatch(slot, point=point, nth=nth)
            if point in ON_SIGTERM:
                await victim.settled.wait()
                await asyncio.sleep(rng.uniform(0.05, self.span / 2))
                victim.signal(signal.SIGTERM)
            await asyncio.wait({victim.ended}, timeout=PATIENCE)
        victim.signal(signal.SIGKILL)
        return victim, await victim.ended

    async def _in_peace(self, calling=None):
        """One life that ends well: the last callers are served, what the dead have left is settled."""
        victims = [await self._hatch(slot) for slot in range(self.servers)]
        if calling:
            self.people.going_on = False
            await asyncio.wait_for(calling, 90)
        elif self.lease or not self.url.startswith("sqlite"):
            await asyncio.sleep(
                0.6 + 3 * self.lease
            )  # a few beats: PostgreSQL may have finished a commit of the dead since
        for victim in victims:
            await victim.settled.wait()
            victim.signal(signal.SIGTERM)
            if (status := await asyncio.wait_for(victim.ended, 90)) != 0:
                self.troubles.append(
                    f"a server did not end well after SIGTERM: status {status} (see its log)"
                )

    async def _shake(self, database):
        """Kill the database, and start it again, all the time."""
        self._shaken = asyncio.Event()
        while not self._shaken.is_set():
            with_luck = asyncio.create_task(self._shaken.wait())
            await asyncio.wait({with_luck}, timeout=self._whims.uniform(2, 8))
            with_luck.cancel()
            self.outages += 1
            self._database_stands.clear()
            await asyncio.to_thread(database.kill)
            await asyncio.sleep(self._whims.uniform(0, 0.5))
            await asyncio.to_thread(database.start)
            self._database_stands.set()

    # -- what was found ------------------------------------------------------------------------------

    def report(self):
        """Lines: where was killed, how often, and what the dead have left."""
        point_of = {death.owner: death.point for death in self.deaths}
        kills = Counter(death.point for death in self.deaths if not death.again)
        left = defaultdict(Counter)
        charged = {decision.mobile for decision in self.bank.decisions if decision.charge}
        for owner, before, row in self.books.recovered():
            counts = left[point_of.get(owner, "?")]
            counts[before] += 1
            counts["charged"] += before == "sent" and row["mobile"] in charged
        columns = ("created", "otp_sent", "sent", "charged")
        yield f"{'killed at':24} {'kills':>6}  left: {' '.join(f'{name:>9}' for name in columns)}"
        for point in (RANDOM, *POINTS, "?"):
            if kills[point] or left[point]:
                counts = " ".join(f"{left[point][name]:>9}" for name in columns)
                yield f"{point:24} {kills[point]:>6}        {counts}"
        told = Counter(call.status or "(nothing)" for call in self.people.calls)
        states = Counter(row["state"] for row in self.books.attempts.values())
        yield f"calls {len(self.people.calls)}: {_counted(told)}"
        yield f"attempts {len(self.books.attempts)}: {_counted(states)}"
        yield f"`pay` requests {len(self.bank.decisions)}, charges {len(self.bank.charges)}, outages {self.outages}"


def _counted(counter):
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


@contextmanager
def journal_on(kind, folder):
    """The address of an empty journal, and the database's process if there is one."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'journal.db'}", None
        return
    sys.path.append(str(Path(__file__).parents[1]))
    from postgres import PostgresServer, prototype  # noqa: PLC0415 - where it is needed, it is there

    with PostgresServer(prototype(folder), on_disk=True) as database:
        yield database.create(), database


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="at random instants")
    parser.add_argument("--each", type=int, default=3, help="kills at each named point")
    parser.add_argument("--journal", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--servers", type=int, default=1, help="on one journal, at once")
    parser.add_argument("--lapse", action="store_true", help="the servers cannot see each other's processes")
    parser.add_argument("--span", type=float, help="seconds within which a life ends")
    parser.add_argument("--outages", action="store_true", help="PostgreSQL is killed, too")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--broken", nargs="?", const="post-first", default="", choices=("", *BREAKS))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ivr-agi-torture-"))
    print(f"seed {given.seed}, {given.journal}", flush=True)
    since = time.monotonic()
    span = given.span or SPAN * given.servers * (2 if given.journal == "postgresql" else 1)

    async def run(url, database):
        torture = Torture(
            url, folder, given.seed, given.servers, broken=given.broken, span=span, lease=1.0 if given.lapse else 0.0,
            say=lambda words: print(f"{time.monotonic() - since:7.0f} s  {words}", flush=True),
        )  # fmt: skip
        lives = [*list(POINTS) * given.each, *[RANDOM] * given.kills]
        random.Random(given.seed).shuffle(lives)
        found = await torture.run(lives, database if given.outages else None)
        print(*torture.report(), sep="\n")
        return found

    with (
        journal_on(given.journal, folder) as (url, database),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(run(url, database))
    print(*found[:50], f"{len(found)} violations, {time.monotonic() - since:.0f} s", sep="\n")
    if found:
        print(f"seed {given.seed}; the journal and the servers' log are in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
