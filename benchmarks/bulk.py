"""Journals of any size, made by SQL alone: a million payments in well under a minute.

SQLite only. The schema is the product's own (its migrations make it); indexes and triggers are taken away while
the rows go in, and put back to the letter. A journal once made stays in `.cache/bench` for each revision of the
schema; what a benchmark writes to is a copy.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from load import CACHE

from ivr_agi.journal.engine import migrate, open_engine, revisions

if TYPE_CHECKING:
    from pathlib import Path

YEAR: Final = 365 * 86_400  # seconds that the payments are spread over
LATELY: Final = 2 * 86_400  # for so long the product keeps what limits count
OWNER: Final = "shop:4711:1"  # a process that nothing is under way of
# A number from 0 to 999 for each row, as if drawn: i is the row.
_LOT: Final = "((i * 7919 + i / 1000 * 104729) % 1000)"
_TIME: Final = "%Y-%m-%dT%H:%M:%f+00:00"  # as tables.timestamp has it

# 71 % paid, 14 % declined, 13 % failed, the rest in doubt or resolved: as tests/panel/crowd.py has it.
_ATTEMPTS: Final = f"""
WITH RECURSIVE
  series(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < :rows),
  lots AS (SELECT i, {_LOT} AS lot, (i * 2654435761) % 4294967296 AS hash FROM series),
  kinds AS (
    SELECT i, hash, lot,
      CASE WHEN lot < 712 THEN 'paid' WHEN lot < 850 THEN 'declined' WHEN lot < 980 THEN 'failed'
           WHEN lot < 986 THEN 'unknown' ELSE 'resolved' END AS state,
      :now - :year * (1.0 - 1.0 * i / :rows) AS begun,
      printf('%s******%04d', substr('603799610433589210627353621986502229639347627412', 1 + hash % 8 * 6, 6),
             hash / 8 % 10000) AS card,
      printf('+98912%07d', hash / 64 % 10000000) AS mobile
    FROM lots)
INSERT INTO attempt (id, order_id, method, amount, card, last_four, mobile, caller, call, state, holds_order, code,
  ref_id, review, reason, pins_sent, pins_asked, owner, created_at, updated_at, resolution, resolved_by, resolved_at,
  evidence)
SELECT i, printf('F-%07d', i), iif(hash % 5 = 0, 'web', 'ivr'), (5 + hash % 4995) * 10000, card, substr(card, -4), mobile,
  iif(hash % 5 = 0, '', mobile), iif(hash % 5 = 0, '', printf('%.2f', begun)), state,
  state IN ('paid', 'unknown'), iif(state = 'declined', substr('515561541457', 1 + hash % 6 * 2, 2), ''),
  iif(state = 'paid', printf('%012d', 100000000000 + hash * 209 % 900000000000), ''),
  iif(state = 'unknown', 'charged', ''), iif(state = 'failed', 'hangup', ''), 1, 1, :owner,
  strftime(:form, begun, 'unixepoch'), strftime(:form, begun + 25 + hash % 115, 'unixepoch'),
  iif(state = 'resolved', 'not-paid', ''), iif(state = 'resolved', 'reza', ''),
  iif(state = 'resolved', strftime(:form, begun + 86400, 'unixepoch'), ''), iif(state = 'resolved', 'the bank''s list', '')
FROM kinds
"""  # noqa: S608 - all of it is ours

# Keys as the product draws them: at random, so that each new one goes to a place of its own in their index.
_HISTORY: Final = """
WITH steps(place, step) AS (VALUES (1, 'created'), (2, 'otp_sent'), (3, 'sent'), (4, 'end'))
INSERT INTO history (attempt_id, at, state, note, owner, key, ms)
SELECT attempt.id, iif(place < 3, created_at, updated_at), iif(step = 'end', state, step), iif(step = 'end', reason, ''),
  owner, lower(hex(randomblob(16))),
  CASE step WHEN 'otp_sent' THEN 200 + attempt.id % 1000 WHEN 'end' THEN 900 + attempt.id % 5000 END
FROM attempt CROSS JOIN steps
WHERE step <> 'sent' OR state <> 'failed'
"""
_CALLS: Final = """
INSERT INTO call_record (ended_at, reached, status, reason, ms, language, attempt_id)
SELECT updated_at, iif(state = 'failed', 'pin', 'pay'),
  CASE state WHEN 'paid' THEN 'PAID' WHEN 'declined' THEN 'DECLINED' WHEN 'failed' THEN 'HANGUP' ELSE 'UNKNOWN' END,
  reason, 30000 + id * 7919 % 170000, iif(id % 3 = 0, 'en', 'fa'), id
FROM attempt WHERE method = 'ivr'
"""
_LOST: Final = """
INSERT INTO call_record (ended_at, reached, status, reason, ms, language)
SELECT updated_at, 'confirm', 'HANGUP', 'hangup', 2000 + id * 7919 % 58000, 'fa' FROM attempt WHERE id % 5 = 0
"""
_AUDIT: Final = """
INSERT INTO audit (at, who, address, action, attempt_id)
SELECT created_at, 'sara', '192.0.2.7', 'charge', id FROM attempt WHERE id % 7 = 0
"""
# The last two days once more, as they stand to this very moment: a journal may have been made long ago.
_HAPPENING: Final = """
INSERT INTO happening (what, at, order_id, caller, card, card_hash)
SELECT what, strftime(:form, :now - :year * (1.0 - 1.0 * id / :rows), 'unixepoch'), order_id, caller, card, card_hash
FROM attempt, (SELECT 'pins' AS what, '' AS of UNION ALL VALUES ('failures', 'failed'), ('failures', 'declined'),
  ('declines', 'declined'))
WHERE id > :rows * (1.0 - 1.0 * :lately / :year) AND of IN ('', state)
"""


def journal(rows: int, place: Path) -> Path:
    """A journal with so many attempts of the last year, with all that hangs on them, at this place."""
    kept = made(rows)
    shutil.copy(kept, place)
    with sqlite3.connect(place) as connection:
        connection.execute("PRAGMA cache_size = -1000000")
        connection.execute("DELETE FROM happening")
        connection.execute(_HAPPENING, _given(rows))
    connection.close()
    with place.open("rb") as written:  # what it costs to write all this is not the server's
        os.fsync(written.fileno())
    return place


def made(rows: int) -> Path:
    """The one that is kept; made where there is none of this revision."""
    CACHE.mkdir(parents=True, exist_ok=True)
    new = CACHE / "journal-new.db"
    new.unlink(missing_ok=True)
    engine = open_engine(f"sqlite:///{new}")
    migrate(engine)
    kept = CACHE / f"journal-{revisions(engine)[1]}-{rows}.db"
    engine.dispose()
    if not kept.exists():
        since = time.perf_counter()
        fill(new, rows)
        new.rename(kept)
        size = kept.stat().st_size / 1e6
        print(
            f"{rows:,} attempts made in {time.perf_counter() - since:.0f} s, {size:,.0f} MB: {kept}",
            flush=True,
        )
    new.unlink(missing_ok=True)
    return kept


def fill(file: Path, rows: int) -> None:
    """Put so many attempts into an empty journal, in one transaction."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2000000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    query = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    away = connection.execute(query).fetchall()
    for kind, name, _sql in away:
        connection.execute(f"DROP {kind} {name}")
    connection.execute(_ATTEMPTS, _given(rows) | {"owner": OWNER})
    for statement in (_HISTORY, _CALLS, _LOST, _AUDIT):
        connection.execute(statement)
    for _kind, _name, sql in away:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()


def _given(rows: int) -> dict[str, object]:
    return {"rows": rows, "now": time.time(), "year": YEAR, "lately": LATELY, "form": _TIME}
