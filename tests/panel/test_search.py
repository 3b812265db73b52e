"""Payments are found by whatever is known of them, and never by reading all that was ever paid."""

import itertools
import json
from contextlib import contextmanager

import pytest
from panel import crowd
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable

from ivr_agi.journal import Journal, search
from ivr_agi.journal.engine import open_engine
from ivr_agi.journal.search import Filter

# what is asked for -> the index that answers it on SQLite; the rarer match comes first
ALONE = {
    "order": ({"order": "F-000200"}, "attempt_by_order"),
    "order-in-persian": ({"order": "F-۰۰۰۲۰۰"}, "attempt_by_order"),
    "ref": ({"ref_id": "123456789012"}, "attempt_by_ref"),
    "mobile": ({"mobile": "+989012341234"}, "attempt_by_mobile"),
    "last-four": ({"last_four": "0042"}, "attempt_by_last_four"),
    "review": ({"state": "review"}, "attempt_in_doubt"),
    "open": ({"state": "open"}, "attempt_by_state"),
    "unknown": ({"state": "unknown"}, "attempt_by_state"),
    "resolved": ({"state": "resolved"}, "attempt_by_state"),
    "sent": ({"state": "sent"}, "attempt_by_state"),
    "web": ({"method": "web"}, "attempt_by_method"),
    "paid": ({"state": "paid"}, "attempt_by_state"),
    "declined": ({"state": "declined"}, "attempt_by_state"),
}
PARTIAL = {"attempt_in_doubt"}  # has no more than what is in doubt
DAYS = {"first": "2026-06-01T00:00:00.000+00:00", "last": "2026-06-30T00:00:00.000+00:00"}
ENDED = ("2026-06-20T10:00:00.000+00:00", 77)


def questions():
    """Every filter alone and with each other one, each with and without days, on the first page and on a later one."""
    asked = {name: (given, index) for name, (given, index) in ALONE.items()} | {
        "nothing": ({}, "attempt_by_day")
    }
    for (one, (first, index)), (other, (second, _)) in itertools.combinations(ALONE.items(), 2):
        if not first.keys() & second.keys():
            asked[f"{one}+{other}"] = (first | second, index)
    for name, (given, index) in asked.items():
        for days, before in itertools.product(({}, DAYS), (None, ENDED)):
            part = f"{name}{'+days' if days else ''}{'+before' if before else ''}"
            yield part, Filter(**given, **days), before, index


class Explain(Executable, ClauseElement):
    """The plan of a query, with its values bound as they are when it runs."""

    inherit_cache = False

    def __init__(self, query):
        self.query = query


@compiles(Explain, "sqlite")
def _of_sqlite(element, compiler, **how):
    return f"EXPLAIN QUERY PLAN {compiler.process(element.query, **how)}"


@compiles(Explain, "postgresql")
def _of_postgresql(element, compiler, **how):
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **how)}"


@contextmanager
def reading(url):
    """A connection that reads."""
    engine = open_engine(url)
    with engine.connect().execution_options(reading=True) as connection:
        yield connection
    engine.dispose()


def test_each_by_its_index_on_sqlite(tmp_path):
    """SQLite, which has counted nothing, looks each filter up in its index, and reads a whole one for no filter alone."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    Journal(url).close()
    wrong = []
    with reading(url) as connection:
        for name, wanted, before, index in questions():
            plan = [row[3] for row in connection.execute(Explain(search.query(wanted, before, 51)))]
            # All payments, or all in doubt, are an index of their own: read from its end on until the page is full.
            all_of_it = before is None and not wanted.first and (wanted == Filter() or index in PARTIAL)
            verb = "SCAN" if all_of_it else "SEARCH"
            reads = [line for line in plan if "attempt" in line]
            if len(reads) != 1 or not reads[0].startswith(f"{verb} attempt USING INDEX {index}"):
                wrong.append((name, plan))
        for given, index in ALONE.values():
            plan = [row[3] for row in connection.execute(Explain(search.count_query(Filter(**given))))]
            if len(plan) != 1 or f" {index} " not in f"{plan[0]} ":
                wrong.append((given, plan))
    assert wrong == []


def test_card_by_its_index(tmp_path):
    """Attempts of one card are looked up by its hash, on SQLite."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    Journal(url).close()
    with reading(url) as connection:
        (plan,) = connection.execute(Explain(search.of_card_query("k1:1", 20)))
    assert plan[3].startswith("SEARCH attempt USING INDEX attempt_by_card")


# A year's payments, made by the database itself: every tenth from the panel, 2 % in doubt, 1 % resolved.
YEAR = """
INSERT INTO attempt (order_id, method, amount, card, last_four, mobile, state, holds_order, ref_id, review, owner,
  created_at, updated_at, card_hash, resolution, resolved_by, resolved_at, evidence)
SELECT 'F-' || lpad(n::text, 6, '0'), CASE WHEN mod(n, 10) = 0 THEN 'web' ELSE 'ivr' END, 50000,
  '603799******' || lpad((mod(n, 9973))::text, 4, '0'), lpad((mod(n, 9973))::text, 4, '0'),
  '+989' || lpad((mod(n, 4999))::text, 5, '0') || '1234', state, state IN ('unknown', 'paid'),
  CASE state WHEN 'paid' THEN (100000000000 + n)::text ELSE '' END,
  CASE state WHEN 'unknown' THEN 'charged' ELSE '' END, 'shop:1',
  to_char(timestamp '2025-12-01' + n * interval '25 minutes', 'YYYY-MM-DD"T"HH24:MI:SS".000+00:00"'), '', 'k1:' || mod(n, 4001),
  CASE state WHEN 'resolved' THEN 'not-paid' ELSE '' END, CASE state WHEN 'resolved' THEN 'reza' ELSE '' END,
  CASE state WHEN 'resolved' THEN '2026-11-01' ELSE '' END, CASE state WHEN 'resolved' THEN 'list' ELSE '' END
FROM (SELECT n, CASE WHEN mod(n, 50) = 0 THEN 'unknown' WHEN mod(n, 100) = 1 THEN 'resolved' WHEN mod(n, 6) = 2 THEN 'declined'
  WHEN mod(n, 7) = 3 THEN 'failed' ELSE 'paid' END AS state FROM generate_series(1, 20000) AS n) AS drawn
"""


def test_no_scan_on_postgresql(postgres_url):
    """PostgreSQL, with 20,000 payments counted, reads the table for none of them, and no whole index for a filter."""
    Journal(postgres_url).close()
    engine = open_engine(postgres_url)
    wrong = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(YEAR)
        connection.exec_driver_sql("VACUUM ANALYZE attempt")
        for name, wanted, before, _index in questions():
            (plan,) = connection.execute(Explain(search.query(wanted, before, 51))).scalars()
            # Of what most payments are, the newest are found soonest by going back in time.
            bare = wanted in (Filter(), Filter(state="paid")) and before is None
            wrong += [(name, node) for node in nodes(plan[0]["Plan"]) if not bare and reads_all(node)]
        (plan,) = connection.execute(Explain(search.of_card_query("k1:7", 20))).scalars()
        wrong += [("card", node) for node in nodes(plan[0]["Plan"]) if reads_all(node)]
    engine.dispose()
    assert wrong == [], json.dumps(wrong, indent=1)


def nodes(plan):
    """A plan and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def reads_all(node):
    """Whether a node of a plan reads all of the table, or of an index that has all of it."""
    if node["Node Type"] == "Seq Scan":
        return True
    if "Index Name" not in node:
        return False
    return "Index Cond" not in node and node["Index Name"] not in PARTIAL


@pytest.fixture
def year(journal_url):
    """A journal with 400 payments, and one under way; all of its attempts."""
    crowd.fill(journal_url, 400, seed=3)
    journal = Journal(journal_url)
    crowd.add(journal, order_id="open", state="otp_sent")
    crowd.add(journal, order_id="odd", state="paid", review="check", ref_id="۱۲۳")
    yield journal, journal.attempts()
    journal.close()


def matches(row, wanted):
    """The same in Python."""
    states = {"open": ("created", "otp_sent", "sent")}.get(wanted.state, (wanted.state,))
    in_doubt = row["review"] != "" or row["state"] == "unknown"
    return (
        wanted.order in ("", row["order_id"])
        and wanted.mobile in ("", row["mobile"])
        and wanted.ref_id in ("", row["ref_id"])
        and wanted.last_four in ("", row["last_four"])
        and wanted.method in ("", row["method"])
        and (not wanted.first or row["created_at"] >= wanted.first)
        and (not wanted.last or row["created_at"] < wanted.last)
        and (in_doubt if wanted.state == "review" else not wanted.state or row["state"] in states)
    )


def test_finds(year):
    """Each filter and each two of them find what they should, newest first, and count it."""
    journal, rows = year
    rows = sorted(rows, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    some = rows[150]
    paid = next(row for row in rows[100:] if row["state"] == "paid")
    day = {"first": rows[300]["created_at"], "last": rows[20]["created_at"]}
    given = [
        {"order": some["order_id"]},
        {"mobile": some["mobile"]},
        {"last_four": some["last_four"]},
        {"ref_id": paid["ref_id"]},
        {"method": "web"},
        day,
        {"last": rows[20]["created_at"]},
        *({"state": state} for state in search.STATES),
    ]
    found = 0
    for one, other in itertools.product(given, given):
        if one.keys() & other.keys() and one is not other:
            continue
        wanted = Filter(**(one | other))
        expected = [row for row in rows if matches(row, wanted)]
        assert journal._read(lambda c, wanted=wanted: search.find(c, wanted, limit=1000)) == expected
        assert journal._read(lambda c, wanted=wanted: search.count(c, wanted)) == len(expected)
        found += bool(expected)
    assert found > 60


def test_digits_of_any_script(year):
    """An order, a tracking number are found whichever digits they were written with, and are asked for with."""
    journal, _ = year
    for text in ("F-000200", "F-۰۰۰۲۰۰", "F-٠٠٠٢٠٠"):
        (row,) = journal._read(lambda c, text=text: search.find(c, Filter(order=text)))
        assert row["order_id"] == "F-000200"
    for text in ("123", "۱۲۳"):
        (row,) = journal._read(lambda c, text=text: search.find(c, Filter(ref_id=text)))
        assert row["order_id"] == "odd"


def test_pages(year):
    """Page by page everything comes once, also where many have the same time and others come meanwhile."""
    journal, _ = year
    same = [{"order_id": f"same-{number}"} for number in range(30)]
    crowd.add(journal, *same, created_at="2027-01-01T00:00:00.000+00:00")
    expected = [row["id"] for row in journal._read(lambda c: search.find(c, Filter(), limit=1000))]
    seen, before = [], None
    while page := journal._read(lambda c, before=before: search.find(c, Filter(), before, 13)):
        seen += [row["id"] for row in page]
        before = (page[-1]["created_at"], page[-1]["id"])
        if len(seen) < 50:
            crowd.add(journal, order_id=f"new-{len(seen)}", created_at="2027-01-02T00:00:00.000+00:00")
    assert seen == expected
