"""What a call asks of a SQLite journal, statement by statement, and how SQLite answers each.

The journal's own methods are called as a call and the watch over other processes call them; what they hand to SQLite is
heard, and explained. A `SCAN` of a table, or of an index without an end, reads more as the journal grows.
"""

from __future__ import annotations

import re
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from ivr_agi.journal import AttemptState, Journal, NewAttempt, Who
from ivr_agi.journal.tables import metadata
from ivr_agi.limits import Limits, Scope, read_limits

if TYPE_CHECKING:
    from collections.abc import Awaitable

DEFAULTS: Final = {"caller": "100", "card": "30", "order": "30", "total": "1000"}  # failures an hour
TIMES: Final = 5
BIG: Final = set(metadata.tables) - {"process", "pause"}  # of those there is a row for each server; one
Row = dict[str, Any]


async def plans(url: str) -> list[Row]:
    """Each different statement: when it is asked, its plan, its time in ms (the median of some), whether it scans."""
    limits = Limits(
        **{name: read_limits(f"{most} failures/hour", Scope(name)) for name, most in DEFAULTS.items()}
    )
    journal = Journal(url, limits=limits)
    heard: list[tuple[str, str, Any]] = []
    when = ""

    def hear(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            heard.append((when, statement, parameters))

    for engine in (journal._engine, journal._write_engine):  # noqa: SLF001 - to hear what is asked
        sa.event.listen(engine, "before_cursor_execute", hear)
    try:
        for number in range(TIMES):
            for when, step in _call(journal, f"P-{time.time_ns()}-{number}"):  # noqa: B007 - hear() has it
                await step
        when = "start"
        journal.recover()
        when = "every 5 s"
        journal.live(lambda _settled: None, lease=0.4)  # so that it beats at once
        time.sleep(0.5)  # noqa: ASYNC251 - nothing else goes on
        return _explain(journal._engine, heard)  # noqa: SLF001
    finally:
        journal.close()


def _call(journal: Journal, order: str) -> list[tuple[str, Awaitable[Any]]]:
    """The steps of a paid call, in order, and those of one that is declined."""
    card, mobile = "603799******7893", "+989121234567"
    taken: list[int] = []

    async def reserve() -> None:
        taken.append(await journal.reserve(NewAttempt(order, "ivr", 50_000, card, mobile, "1.2", "", mobile)))

    async def step(state: AttemptState, **fields: str) -> None:
        await journal.step(taken[0], state, **fields)

    async def end() -> None:
        await journal.record_call(
            reached="pay", status="PAID", reason="", ms=30_000, language="fa", attempt_id=taken[0]
        )

    async def declines() -> None:
        await journal.declines(taken[0])

    async def one_more() -> None:
        await journal.ask_pin(taken[0], Who(order, mobile, card))

    async def unknown() -> None:
        await journal.count(AttemptState.UNKNOWN)

    return [
        ("order", journal.may_begin(Who(order, mobile))),
        ("reserve", reserve()),
        ("otp_sent", step(AttemptState.OTP_SENT)),
        ("one more PIN", one_more()),
        ("sent", step(AttemptState.SENT)),
        ("paid", step(AttemptState.PAID, ref_id=f"{time.time_ns() % 10**12:012}")),
        ("a decline", declines()),
        ("call ended", end()),
        ("metrics", unknown()),
    ]


def _explain(engine: sa.Engine, heard: list[tuple[str, str, Any]]) -> list[Row]:
    found: dict[str, Row] = {}
    with engine.execution_options(reading=True).connect() as connection:
        for when, statement, parameters in list(heard):
            words = " ".join(statement.split())
            if words in found:
                continue
            given = parameters[0] if isinstance(parameters, list) else parameters
            lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
            plan = "; ".join(str(line[-1]) for line in lines)
            found[words] = {
                "when": when,
                "statement": _short(words),
                "plan": plan,
                "ms": _time(connection, statement, given) if words.startswith("SELECT") else "",
                "scan": bool(BIG & set(re.findall(r"\bSCAN (\w+)", plan))),
            }
    return list(found.values())


def _time(connection: sa.Connection, statement: str, parameters: Any) -> float:
    took = []
    for _ in range(TIMES):
        since = time.perf_counter()
        connection.exec_driver_sql(statement, parameters).all()
        took.append((time.perf_counter() - since) * 1000)
    return round(statistics.median(took), 3)


def _short(statement: str) -> str:
    """Its verb, its table and what it looks for."""
    verb = statement.split(maxsplit=1)[0]
    table = re.search(r"(?:FROM|INTO|UPDATE) (\w+)", statement)
    where = re.search(r" WHERE (.*)", statement)
    text = re.sub(r"\b(?:attempt|history|happening|process|call_record)\.", "", where[1] if where else "")
    return f"{verb} {table[1] if table else ''} {text}"[:110].replace("|", "/").strip()
