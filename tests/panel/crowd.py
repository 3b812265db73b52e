"""A journal with many payments in it: what a shop has after a year, made in seconds by bulk inserts.

Everything is drawn from a seed, and everything that the database checks holds: one holder an order, states that
follow one another, a tracking number for what is paid, evidence for what is resolved.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from ivr_agi.journal.engine import migrate, open_engine
from ivr_agi.journal.tables import HOLDING, attempt, audit, call_record, history, make_key

BATCH = 10_000
DAYS = 365
BANKS = ("603799", "610433", "589210", "627353", "621986", "502229", "639347", "627412")
CODES = ("51", "51", "51", "55", "55", "55", "61", "54", "14", "57", "75", "78", "90", "91", "80")
REASONS = (
    "hangup",
    "hangup",
    "hangup",
    "no-input",
    "cancelled",
    "pin-not-sent",
    "limit-card",
    "connect-error",
)
CLERKS = ("sara", "omid", "reza", "mina")
# what became of an attempt -> how many of a thousand
MIX = {"paid": 712, "declined": 138, "failed": 130, "unknown": 6, "resolved": 14}
OWNER = "shop:4711:1"


class Payment(NamedTuple):
    """One attempt, what its history has, and the call that it was made in."""

    row: dict
    steps: list[dict]
    call: dict | None


def fill(url, payments=100_000, seed=1, now=None):
    """Fill an empty journal, or a new one, with so many payments of the last year. Returns the moment of the last."""
    engine = open_engine(url)
    migrate(engine)
    draw = random.Random(seed)  # noqa: S311 - a crowd, no secret
    now = now or datetime.now(UTC)
    moments = sorted(now - timedelta(seconds=DAYS * 86_400 * draw.random() ** 1.3) for _ in range(payments))
    with engine.begin() as connection:
        for start in range(0, payments, BATCH):
            batch = [
                _payment(draw, start + place + 1, at)
                for place, at in enumerate(moments[start : start + BATCH])
            ]
            connection.execute(sa.insert(attempt), [each.row for each in batch])
            connection.execute(sa.insert(history), [step for each in batch for step in each.steps])
            calls = [each.call for each in batch if each.call] + [_lost(draw, each) for each in batch[::5]]
            connection.execute(sa.insert(call_record), calls)
            connection.execute(sa.insert(audit), [_entry(draw, each) for each in batch[::7]])
        if engine.dialect.name == "postgresql":  # ids were given: the next one comes after them
            connection.exec_driver_sql("SELECT setval('attempt_id_seq', (SELECT max(id) FROM attempt))")
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()
    return moments[-1]


def add(journal, *rows, **given):
    """Put attempts into a journal, each with its first step and its last, in one transaction. Returns the last's id.

    rows: columns of each, or note: what the last step says; given: of all. What the database asks of a state is
    filled in.
    """

    def write(connection):
        for row in rows or ({},):
            attempt_id = _put(connection, given | row)
        return attempt_id

    return journal.now(write)


def _put(connection, given):
    given = {"created_at": "2026-11-28T09:04:05.123+00:00", "state": "paid", "note": ""} | given
    note, at, state = given.pop("note"), given["created_at"], given["state"]
    row = {
        "order_id": "A-1",
        "method": "ivr",
        "amount": 50_000,
        "card": "603799******7893",
        "mobile": "+989123456789",
        "holds_order": state in HOLDING,
        "ref_id": "123456789012" if state == "paid" else "",
        "owner": OWNER,
        "updated_at": at,
    }
    if state == "resolved":
        row |= {
            "resolution": "not-paid",
            "resolved_by": "reza",
            "resolved_at": at,
            "evidence": "the bank's list",
        }
    row |= given
    row["last_four"] = row["card"][-4:]
    attempt_id = connection.execute(sa.insert(attempt).values(row).returning(attempt.c.id)).scalar_one()
    steps = [
        {"attempt_id": attempt_id, "at": at, "state": each, "note": "", "owner": OWNER, "key": make_key()}
        for each in ["created"] + [state] * (state != "created")
    ]
    steps[-1]["note"] = note
    connection.execute(sa.insert(history), steps)
    return attempt_id


def _payment(draw, attempt_id, begun):
    state = draw.choices(list(MIX), list(MIX.values()))[0]
    method = "web" if draw.random() < 0.2 else "ivr"
    mobile = f"+989{draw.randrange(30_000):05}1234"
    card = f"{draw.choice(BANKS)}******{draw.randrange(10_000):04}"
    ends = begun + timedelta(seconds=draw.randint(25, 140))
    row = {
        "id": attempt_id,
        "order_id": f"F-{attempt_id:06}",
        "method": method,
        "amount": draw.randint(5, 5_000) * 10_000,
        "card": card,
        "last_four": card[-4:],
        "mobile": mobile,
        "caller": mobile if method == "ivr" else "",
        "call": f"{begun.timestamp():.2f}" if method == "ivr" else "",
        "card_hash": f"k1:{card}",
        "state": state,
        "holds_order": state in HOLDING,
        "code": draw.choice(CODES) if state == "declined" else "",
        "ref_id": f"{draw.randrange(10**11, 10**12)}" if state == "paid" else "",
        "review": "charged" if state == "unknown" else "",
        "reason": draw.choice(REASONS) if state == "failed" else "",
        "pins_asked": 1,
        "pins_sent": 1,
        "owner": OWNER,
        "created_at": _text(begun),
        "updated_at": _text(ends),
        "resolution": "",
        "resolved_by": "",
        "resolved_at": "",
        "evidence": "",
    }
    if state == "resolved":
        row |= {
            "resolution": "not-paid",
            "resolved_by": "reza",
            "resolved_at": _text(ends),
            "evidence": "bank",
        }
    call = _call(draw, row, ends) if method == "ivr" else None
    return Payment(row, _steps(draw, row, begun, ends), call)


def _steps(draw, row, begun, ends):
    came = ["created", "otp_sent"]
    if row["state"] != "failed":
        came.append("sent")
    if row["state"] == "resolved":
        came.append("unknown")
    came.append(row["state"])
    times = [begun, begun + timedelta(seconds=2), *[ends] * (len(came) - 2)]
    asked = {"otp_sent": 400, "paid": 2500, "declined": 1800, "unknown": 30_000}
    return [
        {
            "attempt_id": row["id"],
            "at": _text(at),
            "state": state,
            "note": row["reason"],
            "owner": OWNER,
            "key": make_key(),
            "ms": round(asked[state] * draw.uniform(0.5, 3)) if state in asked else None,
        }
        for state, at in zip(came, times, strict=True)
    ]


def _call(draw, row, ends):
    status = {"paid": "PAID", "declined": "DECLINED", "failed": "HANGUP"}.get(row["state"], "UNKNOWN")
    return {
        "ended_at": _text(ends),
        "reached": "pin" if row["state"] == "failed" else "pay",
        "status": status,
        "reason": row["reason"],
        "ms": draw.randint(30_000, 200_000),
        "language": "fa",
        "attempt_id": row["id"],
    }


def _lost(draw, payment):
    """A call that ended before it had a payment."""
    return {
        "ended_at": payment.row["updated_at"],
        "reached": draw.choice(("welcome", "amount", "confirm", "card")),
        "status": "HANGUP",
        "reason": "hangup",
        "ms": draw.randint(2_000, 60_000),
        "language": draw.choice(("fa", "fa", "en")),
        "attempt_id": None,
    }


def _entry(draw, payment):
    return {
        "at": payment.row["created_at"],
        "who": draw.choice(CLERKS),
        "address": "192.0.2.7",
        "action": "charge",
        "attempt_id": payment.row["id"],
        "about": "",
    }


def _text(moment):
    return moment.isoformat(timespec="milliseconds")
