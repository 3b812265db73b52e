"""The soak: a server lives for long among all sorts of callers, is restarted now and then, and nothing may grow.

    soak.py --minutes 60 --calls 20 [--seed N]

Proven at each quiet moment, and in the end: every payment is accounted for (the torture's audit), what the
dialplans were told is what the journal says, and a process holds no more than it did after its warm-up: memory,
descriptors, threads, tasks. Exits 1 otherwise. A seed draws the same callers; what meets what is the machine's
own affair.
"""

# ruff: noqa: S311, T201 - its seeds are no keys, and it is a command

import argparse
import asyncio
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
# In front: the model has a bank of its own.
sys.path[:0] = [str(folder) for folder in (HERE, HERE.parent, HERE.parent / "torture")]

import audit  # noqa: E402 - from a folder that was named just now
import bank as banks  # noqa: E402
import leftovers  # noqa: E402
import uvloop  # noqa: E402
from agreement import disagreements  # noqa: E402
from bank import Bank  # noqa: E402
from by_path import benchmark  # noqa: E402
from line import journal_of  # noqa: E402
from mixture import CUT_OFF, Mixture  # noqa: E402
from nest import SEQUENCE, SETTINGS  # noqa: E402
from receiver import SHARED, Shop  # noqa: E402
from visitors import Visitors  # noqa: E402
from watched import Watched  # noqa: E402

measuring = benchmark("measuring")

DRAIN = 60  # seconds
FINE = ("200 OK", "(nothing)", "/readyz 503 Service Unavailable")  # the last while it drains
PATIENCE = 300  # seconds for the last callers to come to their ends
AWAY = (0.3, 1.5)  # seconds that the bank is away, from and to


@dataclass(frozen=True)
class Life:
    """One life of the server: so many stretches of so many seconds, each with a quiet moment at its end.

    Then, or at once if there are none, it ends by this signal while it is busy.
    """

    stretches: int
    seconds: float
    ends_by: int


def plan(minutes):
    """Two long lives, and between them many short ones, ended by SIGKILL and SIGTERM in turns."""
    seconds = minutes * 60
    long = Life(max(4, round(minutes)), 0.4 * seconds / max(4, round(minutes)), signal.SIGKILL)
    short = max(3.0, min(15.0, seconds / 40))
    shorts = [
        Life(0, short, (signal.SIGTERM, signal.SIGKILL)[turn % 2])
        for turn in range(round(0.15 * seconds / short))
    ]
    return [long, *shorts, Life(long.stretches, long.seconds, signal.SIGTERM)]


@dataclass
class Soak:
    """One run. at_once: orders under way; think: seconds for each sound and answer; every: seconds between visitors."""

    folder: Path
    seed: int
    at_once: int = 20
    think: float = 0.3
    every: float = 0.5
    stay: float = 12.0  # seconds of a visitor
    away: float = 12.0  # seconds on average until the bank goes away again, within a stretch
    forked: bool = False
    say: object = lambda *_words: None

    def __post_init__(self):
        self.url = journal_of(self.folder)
        self.log = self.folder / "serve.log"
        self._rng = random.Random(self.seed)
        self.bank = Bank(SEQUENCE, random.Random(self.seed + 1))
        self.people = Mixture(self.bank, self._a_port, self.seed + 2, think=self.think)
        self.visitors = Visitors(lambda: self._up, self.seed + 3, stay=self.stay)
        self.troubles, self.rows, self.restarts = [], [], Counter()
        self.outages = 0
        self._calling = None
        self._is_up = asyncio.Event()

    async def run(self, lives):
        """Live as listed, and once more in peace; returns sentences, one for each thing that is wrong."""
        self._since = time.monotonic()
        async with Shop() as shop, self._a_bank():
            shop.got = deque(maxlen=100)  # the journal knows what was told
            self._settings = SETTINGS | {
                "journal_url": self.url,
                "gateway_url": self.bank.url,
                "webhook_url": shop.url,
                "webhook_secret": SHARED,
                "drain_limit": DRAIN,
            }
            try:
                for number, life in enumerate(lives):
                    await self._live(number, life)
                await self._live_in_peace()
            finally:
                self._up.kill()
                if self._calling is not None:
                    self._calling.cancel()
            self._complain(*(f"the shop was told what is no notice: {why}" for why in shop.wrong))
        self._look_at_the_books()
        self._look_at_the_log()
        self._complain(*(f"answered: {page}" for page in self.visitors.answers if not page.endswith(FINE)))
        return self.troubles

    # -- lives -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _a_bank(self):
        """It has a port that nobody else gets while it is away."""
        with socket.socket() as place:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(("127.0.0.1", 0))
            self._bank_port = place.getsockname()[1]
            await self.bank.start(port=self._bank_port)
            try:
                yield
            finally:
                await self.bank.stop()

    async def _a_port(self):
        """The server's, as soon as it is up."""
        while self._up.port is None:
            self._is_up.clear()
            await self._is_up.wait()
        return self._up.port

    async def _start(self):
        self._up = Watched(self.log, forked=self.forked, **self._settings)
        await self._up.start()
        self._is_up.set()
        return self._up

    async def _live(self, number, life):
        server = await self._start()
        if life.stretches:
            await self._be_quiet()
            await self._stretches(server, number, life)
        begun = self._begin()
        async with self._beside(self.visitors.keep_coming(self.every)):
            await asyncio.sleep(begun + (2.0 if life.stretches else life.seconds))
        await self._end(server, life.ends_by)

    @asynccontextmanager
    async def _beside(self, *others):
        """What goes on meanwhile; whatever fails there fails here."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(other) for other in others]
            yield
            for task in tasks:
                task.cancel()

    async def _stretches(self, server, number, life):
        """Calls and visitors, then nobody, in turns; what the server holds is read while nobody is there."""
        fresh, readings = await server.read_in_peace(), []
        before = len(self.people.calls)
        for _ in range(life.stretches):
            self._begin()
            async with self._beside(self.visitors.keep_coming(self.every), self._disturb_the_bank()):
                await asyncio.sleep(life.seconds)
            await self._be_quiet()
            reading = await server.read_in_peace(fresh, len(self.people.calls) - before)
            readings.append(reading)
            self._note(number, reading)
            self._look_at_the_books()
            self._look_at_the_told(self.people.calls[before:], "was cut off by nobody")
        self.troubles += [f"life {number}: {words}" for words in leftovers.grown(fresh, readings)]

    def _begin(self):
        """Have people call, if they do not yet; seconds until the line is busy."""
        if self._calling is None:
            self.people.going_on = True
            self._calling = asyncio.create_task(self.people.keep_calling(self.at_once))
            return 5 * self.think
        return 0.0

    async def _be_quiet(self):
        """Until nobody calls any more."""
        if self._calling is not None:
            self.people.going_on = False
            await asyncio.wait_for(self._calling, PATIENCE)
            self._calling = None

    async def _end(self, server, number):
        under_way = self.people.served()
        status = await server.end(number)
        self.restarts[signal.Signals(number).name] += 1
        if status != (0 if number == signal.SIGTERM else -number):
            self.troubles.append(f"a server ended by itself, status {status} (see its log)")
        if number == signal.SIGTERM:
            self._look_at_the_told(under_way, "was under way at SIGTERM")

    async def _live_in_peace(self):
        """The last callers are served, what the dead have left is settled; then nobody is left."""
        server = await self._start()
        await self._be_quiet()
        await self._end(server, signal.SIGTERM)

    async def _disturb_the_bank(self):
        """It goes away now and then: what is under way is dropped, nobody can connect."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self.away)
            self.outages += 1
            try:
                self.bank._http._server.close()
                await asyncio.sleep(0)  # whoever is in by now is served: only who is served is dropped
                await self.bank.stop()
                await asyncio.sleep(self._rng.uniform(*AWAY))
            finally:
                await asyncio.shield(self.bank.start(port=self._bank_port))

    # -- what was found ----------------------------------------------------------------------------------

    def _look_at_the_told(self, calls, why):
        """Each of these calls has its PAYSTATUS, whether the caller hung up or not."""
        for told in calls:
            if not told.status and told.habit not in CUT_OFF:
                self._complain(f"call {told.mobile} ({told.habit}) {why}, and was told nothing")

    def _complain(self, *found):
        self.troubles += [words for words in found if words not in self.troubles]

    def _look_at_the_books(self):
        """Every payment is accounted for."""
        self.books = audit.Books(self.url)
        self._complain(*audit.violations(self.books, self.bank, self.people.calls))
        self._complain(*disagreements(self.books, self.people.calls))

    def _look_at_the_log(self):
        """No bug of ours, and no card."""
        self.logged = Counter()
        for line in self.log.read_bytes().splitlines():
            with suppress(ValueError):  # cut by SIGKILL
                said = json.loads(line)
                self.logged[said["message"]] += 1
                if "exception" in said or said["level"] == "critical":
                    self.troubles.append(f"logged: {said}")
                if banks.PAN in str(said) or banks.OTHER_PAN in str(said):
                    self.troubles.append(f"a card number in the log: {said['message']}")

    def _note(self, number, reading):
        row = {
            "minute": round((time.monotonic() - self._since) / 60, 2),
            "life": number,
            "calls": reading.calls,
            "rss": reading.rss,
            "sqlite": reading.sqlite,
            "heap": reading.heap,
            "fds": reading.descriptors.total(),
            "tasks": reading.tasks.total(),
            "threads": reading.threads.total(),
        }
        self.rows.append(row)
        self.say(" ".join(f"{name}={value}" for name, value in row.items()))

    def sums(self):
        """What became of it all: numbers by name."""
        notices = [row for rows in self.books.notices.values() for row in rows]
        return {
            "calls": len(self.people.calls),
            "told": Counter(call.status or "(nothing)" for call in self.people.calls),
            "attempts": Counter(row["state"] for row in self.books.attempts.values()),
            "pay requests": len(self.bank.decisions),
            "charges": len(self.bank.charges),
            "notices": Counter("delivered" if row["delivered_at"] else "not yet" for row in notices),
            "restarts": self.restarts,
            "the bank was away": self.outages,
            "no callers": self.visitors.came,
            "pages": self.visitors.answers,
        }

    def report(self):
        """Lines: a table of the readings, and what became of it all."""
        yield measuring.table(self.rows)
        yield ""
        rows = [
            {"what": name, "how many": _counted(count) if isinstance(count, Counter) else count}
            for name, count in self.sums().items()
        ]
        yield measuring.table(rows)


def _counted(counter):
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--calls", type=int, default=20, help="at once")
    parser.add_argument("--think", type=float, default=0.3, help="seconds for each sound and answer")
    parser.add_argument("--save", action="store_true", help="in benchmarks/results/soak.json")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ivr-agi-soak-"))
    print(f"seed {given.seed}", flush=True)
    soak = Soak(folder, given.seed, given.calls, given.think, say=lambda words: print(words, flush=True))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(soak.run(plan(given.minutes)))
    print(*soak.report(), sep="\n")
    print(*found[:50], f"{len(found)} troubles", sep="\n")
    if given.save:
        command = f"python tests/soak/soak.py --minutes {given.minutes:g} --calls {given.calls} --think {given.think:g}"
        measuring.save("soak", soak.rows, command=command, seed=given.seed, found=found, **soak.sums())
    if found:
        print(f"seed {given.seed}; the journal and the server's log are in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
