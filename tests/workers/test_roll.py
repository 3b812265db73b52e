"""The roll that workers share says of all calls together what a server's own roll says of its."""

import random
from dataclasses import dataclass

import pytest

from ivr_agi.door import OwnRoll
from ivr_agi.workers import roll

SLOTS, CALLS = 4, 5


@dataclass(eq=False)
class Wire:
    """A call, as a thing that is itself alone."""

    worker: int


@pytest.fixture
def file(tmp_path):
    """A roll for a few workers of a few calls."""
    roll.make(tmp_path / "roll", SLOTS, CALLS, bytes(range(16)))
    return tmp_path / "roll"


@pytest.mark.parametrize("seed", range(20))
def test_all_together_are_one(file, seed):
    """Calls come and go in any order, at any worker: each counts as if all were in one process."""
    chance = random.Random(seed)  # noqa: S311 - no key
    workers = [roll.SharedRoll(file, slot, CALLS) for slot in range(SLOTS)]
    one, calls = OwnRoll(), []
    peers, callers = ["10.0.0.1", "10.0.0.2"], ["", "+989120000001", "+989120000002"]
    for _ in range(300):
        worker = chance.randrange(SLOTS)
        if calls and (chance.random() < 0.4 or len([c for c in calls if c.worker == worker]) == CALLS):
            call = calls.pop(chance.randrange(len(calls)))
            for each in (one, workers[call.worker]):
                each.leave(call)
        else:
            call, peer, caller = Wire(worker), chance.choice(peers), chance.choice(callers)
            calls.append(call)
            for each in (one, workers[worker]):
                each.enter(call, peer)
                if caller or chance.random() < 0.5:
                    each.name(call, caller)
        for seen in workers:
            assert seen.total == one.total == len(calls)
            assert [seen.of_peer(peer) for peer in peers] == [one.of_peer(peer) for peer in peers]
            assert [seen.of_caller(c) for c in callers[1:]] == [one.of_caller(c) for c in callers[1:]]


def test_one_that_is_gone_counts_no_more(file):
    """Its part is cleared; those of the others stand, and its place can be taken anew."""
    gone, other = roll.SharedRoll(file, 0, CALLS), roll.SharedRoll(file, 1, CALLS)
    for worker in (gone, other):
        worker.enter(call := Wire(0), "10.0.0.1")
        worker.name(call, "+989120000001")
    roll.clear(file, 0, CALLS)
    assert (other.total, other.of_peer("10.0.0.1"), other.of_caller("+989120000001")) == (1, 1, 1)
    anew = roll.SharedRoll(file, 0, CALLS)
    anew.enter(Wire(0), "10.0.0.1")
    assert (other.total, other.of_peer("10.0.0.1"), other.of_caller("+989120000001")) == (2, 2, 1)


def test_no_number_is_in_the_file(file):
    """Whoever reads it learns no caller's number: what stands there is made with a key of this run."""
    worker = roll.SharedRoll(file, 0, CALLS)
    worker.enter(call := Wire(0), "10.0.0.1")
    worker.name(call, "+989123456789")
    found = file.read_bytes()
    assert b"9123456789" not in found
    assert b"10.0.0.1" not in found
    roll.make(file, SLOTS, CALLS, bytes(16))
    again = roll.SharedRoll(file, 0, CALLS)
    again.enter(call, "10.0.0.1")
    again.name(call, "+989123456789")
    assert file.read_bytes()[16:] != found[16:]
