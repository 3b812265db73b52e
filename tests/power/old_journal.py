"""A journal of the first release, with an attempt in each state, as a process that is gone has left it."""

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from promises import Promises

import ivr_agi.journal
from ivr_agi.journal import AttemptState

S = AttemptState
WAYS = {
    S.CREATED: [S.CREATED],
    S.OTP_SENT: [S.CREATED, S.OTP_SENT],
    S.SENT: [S.CREATED, S.OTP_SENT, S.SENT],
    S.PAID: [S.CREATED, S.OTP_SENT, S.SENT, S.PAID],
    S.DECLINED: [S.CREATED, S.OTP_SENT, S.SENT, S.DECLINED],
    S.FAILED: [S.CREATED, S.FAILED],
    S.UNKNOWN: [S.CREATED, S.OTP_SENT, S.SENT, S.UNKNOWN],
}
NOW = "2026-01-01T00:00:00.000+00:00"


def make(file, owner):
    """Make it; returns what was promised of its attempts. owner: a process that is gone."""
    _schema_0001(file)
    promises = Promises()
    with contextlib.closing(sqlite3.connect(file)) as raw, raw:
        for attempt, (state, steps) in enumerate(WAYS.items(), 1):
            order = f"old-{state}"
            fields = {"ref_id": "123456789012"} if state is S.PAID else {}
            holds = state not in (S.DECLINED, S.FAILED)
            raw.execute(
                "INSERT INTO attempt (id, order_id, method, amount, card, mobile, state, holds_order, ref_id, owner,"
                " created_at, updated_at) VALUES (?, ?, 'ivr', 50000, '603799******7893', '+989123456789', ?, ?, ?, ?, ?, ?)",
                (attempt, order, state, holds, fields.get("ref_id", ""), owner, NOW, NOW),
            )
            for step in steps:
                raw.execute(
                    "INSERT INTO history (attempt_id, at, state, owner) VALUES (?, ?, ?, ?)",
                    (attempt, NOW, step, owner),
                )
                promises.take({"acked": step, "attempt": attempt, "order": order, **fields})
                if step is S.SENT:
                    promises.take({"posted": attempt})
            if state in (S.PAID, S.DECLINED, S.UNKNOWN):
                promises.take({"heard": state, "attempt": attempt})
    return promises


def _schema_0001(file):
    config = Config()
    config.set_main_option("script_location", str(Path(ivr_agi.journal.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
