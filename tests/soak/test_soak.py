"""The soak in short: one minute, four lives; and whatever it must find is found.

`make soak` has the long form (soak.py). Nothing here is timed.
"""

import random
import signal
from collections import Counter
from types import SimpleNamespace

import pytest
from agreement import disagreements
from leftovers import grown
from soak import Life, Soak
from watched import Reading

LIVES = [Life(4, 6, signal.SIGKILL), Life(0, 3, signal.SIGTERM), Life(0, 3, signal.SIGKILL)]
FRESH = Reading(
    rss=80_000_000,
    sqlite=500_000,
    heap=50_000_000,
    tasks=Counter(serve=1),
    descriptors=Counter({"socket": 6, "journal.db": 1}),
    threads=Counter(MainThread=1, native=4),
)


@pytest.mark.timeout(400)
async def test_a_minute(tmp_path):
    """All sorts of callers, a bank that goes away, restarts: every payment is accounted for, and nothing grows."""
    seed = random.randrange(10**6)  # noqa: S311 - no key
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    soak = Soak(tmp_path, seed, at_once=8, think=0.1, stay=2, away=3, forked=True)
    assert await soak.run(LIVES) == []
    assert soak.restarts == {"SIGKILL": 2, "SIGTERM": 2}
    assert {call.status for call in soak.people.calls} >= {"PAID", "UNKNOWN", "HANGUP", "REFUSED"}
    states = {row["state"] for row in soak.books.attempts.values()}
    assert states == {"paid", "declined", "failed", "unknown"}
    assert soak.bank.charges
    assert soak.outages
    assert {"/healthz 200 OK", "/readyz 200 OK", "/metrics 200 OK"} <= set(soak.visitors.answers)
    assert len(soak.visitors.came) > 1


def readings(**each_call):
    """Six quiet moments, 50 calls apart; each call adds to these."""

    def value(name, calls):
        before, more = getattr(FRESH, name), each_call.get(name, 0)
        if isinstance(more, Counter):
            return before + Counter({key: int(count * calls) for key, count in more.items()})
        return before + more * calls if isinstance(before, int) else before

    names = [name for name in Reading.__dataclass_fields__ if name != "calls"]
    return [
        Reading(**{name: value(name, calls) for name in names}, calls=calls) for calls in range(50, 301, 50)
    ]


def test_what_is_steady_has_not_grown():
    """A cache that fills, SQLite's pages, and a pool of threads that is used for the first time are no leaks."""
    steady = readings(heap=500, rss=2_000, sqlite=1_000, threads=Counter(uvloop=1 / 150))
    assert list(grown(FRESH, steady)) == []


@pytest.mark.parametrize(
    ("leak", "found"),
    [
        ({"heap": 5_000}, "heap"),
        ({"rss": 15_000}, "resident"),
        ({"tasks": Counter(forgotten=1)}, "tasks"),
        ({"tasks": Counter(forgotten=1 / 300)}, "tasks"),
        ({"descriptors": Counter(socket=1 / 300)}, "sockets"),
        ({"descriptors": Counter({"serve.log": 1 / 300})}, "more is open"),
        ({"descriptors": Counter({"journal.db": 1 / 40})}, "more is open"),
        ({"threads": Counter(native=1 / 300)}, "threads"),
        ({"threads": Counter({"journal-read": 1 / 40})}, "threads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_leak_is_found(leak, found):
    """Whatever a call leaves behind, and be it one in three hundred that does."""
    assert any(found in words for words in grown(FRESH, readings(**leak)))


def books(*states, code=""):
    """A journal with one attempt, its states in order."""
    row = {"id": 1, "state": states[-1], "code": code}
    return SimpleNamespace(
        attempts={1: row},
        history={1: [{"state": state} for state in states]},
        of_call={"+989120000000": [row]},
    )


def call(status):
    """A call that has ended, about that attempt."""
    variables = {"PAYSTATUS": status, "PAYID": "1", "PAYCODE": "51"}
    return SimpleNamespace(mobile="+989120000000", habit="pays", status=status, variables=variables)


@pytest.mark.parametrize(
    ("status", "states"),
    [
        ("PAID", ("sent", "paid")),
        ("UNKNOWN", ("sent", "unknown")),
        ("UNKNOWN", ("sent", "unknown", "paid")),
        ("DECLINED", ("sent", "declined")),
        ("HANGUP", ("otp_sent", "failed")),
        ("", ("sent", "paid")),
    ],
)
def test_what_agrees(status, states):
    """What the dialplan was told is what became of the attempt, or was before the bank answered late."""
    assert list(disagreements(books(*states, code="51"), [call(status)])) == []


@pytest.mark.parametrize(
    ("status", "states"),
    [
        ("PAID", ("sent", "unknown")),
        ("UNKNOWN", ("sent", "paid")),
        ("DECLINED", ("sent", "unknown")),
        ("DECLINED", ("otp_sent", "failed")),
        ("HANGUP", ("sent", "paid")),
        ("FAILED", ("sent", "unknown")),
        ("REFUSED", ("sent", "unknown")),
    ],
)
def test_what_does_not_agree(status, states):
    """What the dialplan was told is not in the journal."""
    assert list(disagreements(books(*states), [call(status)]))
