"""What must not grow while a server lives: told from its readings at quiet moments, from the first one on.

`grown` gives a sentence for each thing that has. Connections and tasks that have ended leave nothing behind:
these are compared exactly. Memory is judged by its slope over the calls, since a heap breathes.
"""

import os
from collections import Counter
from statistics import linear_regression

from ivr_agi.journal import READERS

A_CALL = 200  # bytes that one may add
# Bytes by which it may rise beyond that: caches fill, a heap breathes. What a call leaks shows all the same: 5 kB
# are half a megabyte after a hundred calls.
BREATH = {"heap": 200_000, "resident": 2_000_000}
# What is begun or opened when it is needed for the first time, or for a moment: no more than so many of each.
KEPT = Counter(
    {
        "journal-read": READERS,
        "uvloop": min(32, (os.cpu_count() or 1) + 4),  # the loop's pool of threads, which words /metrics
        "native": 4,  # libuv's pool, which looks names up
        "journal.db": 5,  # SQLAlchemy's pool
        # in each of SQLite's commits, and a process says every few seconds that it lives
        "journal.db-journal": 1,
        "folder": 1,
    }
)


def rise(readings, name):
    """Bytes added, by least squares, and over how many calls. The first quarter is warm-up."""
    settled = readings[len(readings) // 4 :]
    calls = [reading.calls for reading in settled]
    slope = linear_regression(calls, [getattr(reading, name) for reading in settled]).slope
    return slope * (calls[-1] - calls[0]), calls[-1] - calls[0]


def grown(fresh, readings):
    """Sentences. fresh: read before the first call; readings: at quiet moments since."""
    first = readings[0]
    for reading in readings:
        at = f"after {reading.calls} calls"
        if more := reading.tasks - fresh.tasks:
            yield f"{at} there are tasks that nobody waits for: {dict(more)}"
        if (more := reading.descriptors["socket"] - fresh.descriptors["socket"]) > 0:
            yield f"{at} {more} sockets are open still"
        if more := reading.descriptors - (first.descriptors | KEPT):
            yield f"{at} more is open than after {first.calls}: {dict(more)}"
        if more := reading.threads - (first.threads | KEPT):
            yield f"{at} more threads run than after {first.calls}: {dict(more)}"
    for name, breath in BREATH.items():
        added, calls = rise(readings, name)
        if added > breath + A_CALL * calls:
            yield f"{name} grows by {added:,.0f} bytes over {calls} calls, {added / calls:,.0f} each"
