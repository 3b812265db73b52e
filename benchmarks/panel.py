"""How long the panel's pages take over a year of a busy shop's payments, and by which index each question is answered.

    panel.py [--payments 100000] [--requests 30] [--journal FILE] [--only PATH…]

A SQLite journal is filled in a temporary folder (--journal keeps it, and takes it as it is the next time), and the panel asked
in this process, as its web server asks it: what is measured is the server's time, from a request to the last byte of
its answer. Then the exports, and for how long they hold up the loop that also has the calls. Exits 1 if a page's p95
is over 200 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
import tempfile
import time
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
import uvloop

HERE: Final = Path(__file__).parent
# The tests' office and crowd are `panel`, as this file is: theirs is the one to find.
sys.path[:] = [
    str(HERE.parent / "tests"),
    *(each for each in sys.path if Path(each or ".").resolve() != HERE),
]

from panel import crowd  # noqa: E402
from panel.office import Browser, open_office  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST: Final = 200.0  # milliseconds, at the 95th percentile
# path -> whose page it is. In braces: something of a payment in that state, or of the middle of all.
PAGES: Final = {
    "/charge": "sara",
    "/payments": "sara",
    "/payments?before={middle}": "sara",
    "/payments?order={order}": "sara",
    "/payments?mobile={mobile}": "sara",
    "/payments?ref={ref}": "sara",
    "/payments?last_four={last_four}": "sara",
    "/payments?from={from_day}&to={to_day}": "sara",
    "/payments?state=paid": "sara",
    "/payments?state=unknown": "sara",
    "/payments?state=open": "sara",
    "/payments?state=review": "sara",
    "/payments?method=web": "sara",
    "/payments?method=ivr&state=resolved": "sara",
    "/payments?method=web&state=declined&from={from_day}": "sara",
    "/payments?order=none&state=paid&method=web": "sara",
    "/payments/{paid}": "sara",
    "/payments/{unknown}": "reza",
    "/payments/{paid}/receipt": "sara",
    "/review": "reza",
    "/settlement": "reza",
    "/today": "reza",
    "/today?period=30-days": "reza",
    "/today?from=2026-01-01&to=2026-11-28": "reza",
    "/live": "sara",
    "/phone": "sara",
    "/audit": "mina",
}
EXPORTS: Final = ("/payments.csv", "/payments.xlsx?from={half_day}")


class Timed:
    """An ASGI application with a watch. took: milliseconds of each request; worked: of them, the processor's."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.took: list[float] = []
        self.worked: list[float] = []
        self.bytes = 0  # of the last answer
        self.keeps = (
            True  # whether whoever asks gets what is answered: a large file would cost him time on our loop
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, and remember how long it took."""

        async def counted(message: Any) -> None:
            self.bytes += len(message.get("body", b""))
            await send(message if self.keeps or "body" not in message else message | {"body": b""})

        self.bytes = 0
        since, worked = time.perf_counter(), time.process_time()
        await self._app(scope, receive, counted)
        self.took.append((time.perf_counter() - since) * 1000)
        self.worked.append((time.process_time() - worked) * 1000)


def quantile(took: Sequence[float], of: float) -> float:
    """That of a few measurements."""
    return sorted(took)[min(len(took) - 1, int(len(took) * of))]


@contextmanager
def heard(engine: sa.Engine) -> Any:
    """What is asked of a database meanwhile: statement -> the last values."""
    asked: dict[str, Any] = {}

    def hear(_connection: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            asked[statement] = values

    sa.event.listen(engine, "before_cursor_execute", hear)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_cursor_execute", hear)


def plans(engine: sa.Engine, asked: dict[str, Any]) -> list[str]:
    """How SQLite answers each question, its own words."""
    found = []
    with engine.connect().execution_options(reading=True) as connection:
        for statement, values in asked.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            found.append("; ".join(row[3] for row in plan))
    return found


def fill_in(engine: sa.Engine) -> dict[str, str]:
    """What stands in the braces of PAGES."""

    def one(where: str) -> Any:
        return connection.exec_driver_sql(f"SELECT * FROM attempt {where} LIMIT 1").mappings().one()  # noqa: S608

    with engine.connect().execution_options(reading=True) as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM attempt").scalar_one()
        middle, paid = one(f"WHERE id = {count // 2}"), one("WHERE state = 'paid' ORDER BY id DESC")
        unknown = one("WHERE state = 'unknown' ORDER BY id DESC")
        half = one(f"WHERE id = {max(1, count - 49_000)}")
    return {
        "middle": middle["id"], "order": middle["order_id"], "mobile": middle["mobile"].replace("+98", "0"),
        "last_four": middle["last_four"], "from_day": middle["created_at"][:10], "to_day": paid["created_at"][:10],
        "ref": paid["ref_id"], "paid": paid["id"], "unknown": unknown["id"], "half_day": half["created_at"][:10],
    }  # fmt: skip


async def measure(browser: Browser, app: Timed, path: str, requests: int) -> tuple[list[float], float, int]:
    """Open a page so many times: its times, the processor's, its bytes. Raises RuntimeError if it is none."""
    took, worked = [], []
    for number in range(requests + 2):  # the first ones read templates, words and the file
        got = await browser.get(path)
        if got.status_code != 200:  # noqa: PLR2004 - OK
            raise RuntimeError(f"{path}: {got.status_code}")
        if number > 1:
            took.append(app.took[-1])
            worked.append(app.worked[-1])
    return took, quantile(worked, 0.5), app.bytes


async def watch() -> tuple[array[float], array[float]]:
    """For how long others had the loop, and worked in it, in milliseconds; each turn until cancelled."""
    waits, turns = array("d"), array("d")  # nothing for the garbage collector to look through
    since, worked = time.perf_counter(), time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now, work = time.perf_counter(), time.thread_time()
            waits.append((now - since) * 1000)
            turns.append((work - worked) * 1000)
            since, worked = now, work
    except asyncio.CancelledError:
        return waits, turns


async def measure_export(browser: Browser, app: Timed, path: str) -> None:
    """Take a file, and say how long that took and how long at most it held up the loop."""
    app.keeps = False
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    since, worked = time.perf_counter(), time.process_time()
    got = await browser.get(path)
    seconds, work = time.perf_counter() - since, time.process_time() - worked
    watching.cancel()
    waits, turns = await watching
    print(
        f"{path:60} {got.status_code}  {seconds:.1f} s, {work:.1f} s of them on a core  {app.bytes / 1e6:.1f} MB\n"
        f"    others waited for their turn on the loop {quantile(waits, 0.999):.1f} ms (p99.9), {max(waits):.1f} ms at most;"
        f" the longest piece of work in it was {max(turns):.1f} ms"
    )


async def run(given: argparse.Namespace, folder: Path) -> int:
    """Fill, measure, print. Returns the exit status."""
    file = folder / "journal.db"
    if given.journal and given.journal.exists():
        shutil.copy(given.journal, file)
    else:
        since = time.perf_counter()
        crowd.fill(f"sqlite:///{file}", given.payments)
        print(f"{given.payments:,} payments put in, in {time.perf_counter() - since:.0f} s")
        if given.journal:
            shutil.copy(file, given.journal)
    async with open_office(folder) as office:
        engine = office.line.journal._engine  # noqa: SLF001 - to hear what is asked
        known = fill_in(engine)
        office.app = app = Timed(office.app)
        browsers = {name: await office.signed_in(name) for name in ("sara", "reza", "mina")}
        slow = await pages(given, engine, app, browsers, known)
        for path in EXPORTS:
            if not given.only or any(part in path for part in given.only):
                await measure_export(browsers["reza"], app, path.format(**known))
    print(f"\n{len(slow)} pages over {MOST:g} ms at the 95th percentile: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


async def pages(
    given: argparse.Namespace,
    engine: sa.Engine,
    app: Timed,
    browsers: dict[str, Browser],
    known: dict[str, str],
) -> list[str]:
    """Measure PAGES, and print how each of their questions is answered. Returns those that are too slow."""
    slow = []
    print(f"{'page':60} {'p50':>7} {'p95':>7} {'max':>7} {'core':>7}   kB")
    for path, name in PAGES.items():
        if given.only and not any(part in path for part in given.only):
            continue
        full = path.format(**known)
        with heard(engine) as asked:
            took, work, size = await measure(browsers[name], app, full, given.requests)
        p95 = quantile(took, 0.95)
        times = f"{quantile(took, 0.5):7.1f} {p95:7.1f} {max(took):7.1f} {work:7.1f}"
        print(f"{full:60} {times} {size / 1000:4.0f}{'  TOO SLOW' if p95 > MOST else ''}")
        for plan in plans(engine, asked):
            if not re.match(r"SEARCH (session|account)", plan):  # who is signed in: the same for every page
                print(f"    {plan}")
        if p95 > MOST:
            slow.append(path)
    return slow


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payments", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--journal", type=Path, help="a filled journal, made if it is not there; only read")
    parser.add_argument("--only", nargs="*", default=[], help="pages with this in their path")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ivr-agi-") as folder:
        return uvloop.run(run(given, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
