"""The kill test in short: each named point, some instants at random, and each way of breaking it is found.

`make torture` has the long form (torture.py).
"""

import random

import pytest
from points import POINTS
from sabotage import BREAKS
from torture import RANDOM, Torture

# How a mistake shows for certain: where the server dies, what the bank does, who calls.
PAYS = {"habits": {"pays": 1}}
SHOWN_BY = {
    "post-first": ("pay-left", PAYS | {"plans": {"paid-slowly": 1}}),
    "forget-sent": ("told", PAYS | {"plans": {"paid": 1}}),
    "recover-as-failed": ("pay-left", PAYS | {"plans": {"paid-slowly": 1}}),
    "unknown-as-failed": (RANDOM, PAYS | {"plans": {"charged-reset": 1}}),
    "tell-before-writing": ("told", PAYS | {"plans": {"paid": 1}, "family": {1: 1}}),
    "post-again": (RANDOM, PAYS | {"plans": {"charged-reset": 1}}),
    "hold-nothing": (RANDOM, PAYS | {"plans": {"paid-slowly": 1}, "family": {3: 1}}),
}


@pytest.fixture
def torture(tmp_path):
    """A torture on a journal of its own; drawn anew each time, the seed is shown when it fails."""

    def make(url="", **given):
        seed = random.randrange(10**6)  # noqa: S311 - no key
        print(f"seed {seed}")  # noqa: T201 - shown when it fails
        return Torture(url or f"sqlite:///{tmp_path / 'journal.db'}", tmp_path, seed, most=3, **given)

    return make


@pytest.mark.parametrize("half", [0, 1])
async def test_each_named_point(torture, half):
    """Killed once at each point: nothing charged is missing or called failed, and nothing is charged twice."""
    points = list(POINTS)[half::2]
    run = torture(at_once=5)
    assert await run.run(points) == []
    assert {death.point for death in run.deaths if not death.again} >= set(points)
    assert run.bank.charges
    assert list(run.books.recovered())


async def test_random_instants(torture):
    """The same at instants that nobody has chosen."""
    run = torture()
    assert await run.run([RANDOM] * 15) == []
    assert run.bank.charges


async def test_random_instants_on_postgresql(torture, postgres_url):
    """The same on PostgreSQL, where a commit may be finished after its server has died."""
    run = torture(postgres_url, span=1.6)
    assert await run.run([RANDOM] * 8) == []
    assert run.bank.charges
    assert list(run.books.recovered())


async def test_two_servers_one_killed_while_the_other_goes_on(torture, postgres_url):
    """Who cannot see a process of the other's host settles what it has left once its beat has stopped."""
    run = torture(postgres_url, servers=2, lease=1.0, span=1.6)
    assert await run.run([RANDOM, "pay-left", RANDOM, "sent-committed"]) == []
    assert run.bank.charges


@pytest.mark.parametrize("broken", BREAKS)
async def test_what_is_broken_on_purpose_is_found(torture, broken):
    """Each mistake that costs money shows in the books."""
    point, callers = SHOWN_BY[broken]
    run = torture(broken=broken, callers=callers, at_once=6)
    assert await run.run([point, point])
    assert not run.troubles, "found by the books, not by a server that does not run"
