"""What must be true when the power is back, and what the product makes of the disk that it finds.

Promises come from the marks of a record (payers.py sets them): what was acknowledged, what had left for the
bank, what the bank said, whom it charged. `restart` lets the product open what the disk has, and
`Promises.broken` compares.
"""

import asyncio
import contextlib
import shutil
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field

from ivr_agi.journal import AttemptState, Journal, NewAttempt, OrderHeld

S = AttemptState
ENDED = {S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN}
MASK, MOBILE = "603799******7893", "+989123456789"
MAYBE_CHARGED = {"20", "94"}  # gateway-api.md §3: declined, but the order stays held


@dataclass
class Restarted:
    """What the product has found on a disk. trouble: why it could not be opened, or is damaged."""

    trouble: str = ""
    attempts: dict = field(default_factory=dict)  # id -> the row
    history: dict = field(default_factory=lambda: defaultdict(list))  # id -> its states, oldest first
    held: set = field(default_factory=set)  # orders for which no other attempt may begin


async def restart(files, folder):
    """Start on a disk: open the journal, settle what was left, try to pay each order anew."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = Restarted()
    try:
        await _open(folder, found)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server would not start
        found.trouble = f"the journal does not open: {type(error).__name__}: {error}"
    shutil.rmtree(folder)
    return found


async def _open(folder, found):
    journal = Journal(f"sqlite:///{folder / 'j.db'}")
    try:
        journal.recover()
        found.attempts = {row["id"]: row for row in journal.attempts()}
        orders = list({row["order_id"] for row in found.attempts.values()})
        answers = await asyncio.gather(
            *(journal.reserve(NewAttempt(order, "ivr", 50000, MASK, MOBILE)) for order in orders),
            return_exceptions=True,
        )
        found.held = {order for order, answer in zip(orders, answers, strict=True) if _is_held(answer)}
    finally:
        journal.close()
    with contextlib.closing(sqlite3.connect(folder / "j.db")) as raw:
        found.trouble = "; ".join(
            str(row[0]) for row in raw.execute("PRAGMA integrity_check") if row[0] != "ok"
        ) + "; ".join(f"a reference of {row[0]} is broken" for row in raw.execute("PRAGMA foreign_key_check"))
        for attempt, state in raw.execute("SELECT attempt_id, state FROM history ORDER BY id"):
            found.history[attempt].append(state)


def _is_held(answer):
    if isinstance(answer, Exception) and not isinstance(answer, OrderHeld):
        raise answer
    return isinstance(answer, OrderHeld)


@dataclass
class Attempt:
    """What is promised of one attempt."""

    order: str
    acked: list = field(default_factory=list)  # marks of its steps, oldest first
    posted: bool = False
    heard: set = field(default_factory=set)  # verdicts that the bank has given
    charged: bool = False
    settled: str = ""  # what an earlier start has told of it


class Promises:
    """All that has been promised up to a place in a record."""

    def __init__(self):
        self.attempts = {}

    def take(self, mark):
        """Add what a mark says."""
        match mark:
            case {"acked": "created", "attempt": attempt, "order": order}:
                self.attempts[attempt] = Attempt(order, [mark])
            case {"acked": _, "attempt": attempt}:
                self.attempts[attempt].acked.append(mark)
            case {"posted": attempt}:
                self.attempts[attempt].posted = True
            case {"charged": attempt}:
                self.attempts[attempt].charged = True
            case {"heard": verdict, "attempt": attempt}:
                self.attempts[attempt].heard.add(verdict)
            case {"recovered": states}:
                for attempt, state in states.items():
                    self.attempts.setdefault(int(attempt), Attempt("")).settled = state
            case _:
                raise ValueError(f"a mark that says nothing known: {mark}")

    def broken(self, found):
        """Sentences, one for each promise that is not kept; none if all are."""
        if found.trouble:
            return [found.trouble]
        return [
            f"attempt {attempt}: {words}"
            for attempt, promised in self.attempts.items()
            for words in self._broken(promised, found.attempts.get(attempt), found, attempt)
        ]

    def _broken(self, promised, row, found, attempt):
        if row is None:
            yield "its reservation was acknowledged, and it is gone"
            return
        state, last = S(row["state"]), promised.acked[-1] if promised.acked else {"acked": ""}
        if promised.order and row["order_id"] != promised.order:
            yield f"was for order {promised.order}, and is for {row['order_id']}"
        steps = iter(found.history[attempt])
        yield from (
            f"{mark['acked']} was acknowledged, and is lost ({', '.join(found.history[attempt])})"
            for mark in promised.acked
            if mark["acked"] not in steps
        )
        if state not in _allowed(promised):
            yield (
                f"is {state} (acknowledged: {last['acked']}; posted: {promised.posted};"
                f" the bank said: {sorted(promised.heard) or 'nothing'})"
            )
        if state == last["acked"] and any(row[name] != last.get(name, "") for name in ("ref_id", "code")):
            yield f"has lost what was acknowledged with {state}"
        if promised.charged and state not in (S.PAID, S.UNKNOWN):
            yield f"was charged, and is {state}"
        if promised.settled and state != promised.settled:
            yield f"the last start said {promised.settled}, this one {state}"
        holds = state in (S.PAID, S.UNKNOWN) or (state is S.DECLINED and row["code"] in MAYBE_CHARGED)
        if (holds or promised.charged) and row["order_id"] not in found.held:
            yield f"its order {row['order_id']} can be paid again"


def _allowed(promised):
    """The states that an attempt may be in after a start."""
    last = promised.acked[-1]["acked"] if promised.acked else ""
    if last in (S.PAID, S.DECLINED, S.FAILED):
        return {last}
    # Nobody has answered for it yet: unknown, unless the answer has been written and not yet acknowledged.
    # Only what has certainly not left may be called failed.
    return (
        {S.UNKNOWN}
        | promised.heard
        | (ENDED if not promised.acked else set())
        | (set() if promised.posted else {S.FAILED})
    )
