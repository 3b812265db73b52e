"""One path through the model's world, step by step: a machine that sleeps between `sent` and `pay`."""

import pytest
from model.callers import Caller
from model.faults import Fault
from model.service import LEASE, Service
from model.truths import Truths, Violation

from ivr_agi import payments


@pytest.fixture
def service(template):
    """A world of its own."""
    opened = Service(template)
    yield opened
    opened.close()


def sleep_through_it(service):
    """Asleep with `sent` on the disk, a server is taken for gone; a person looks; the order is paid elsewhere; it wakes."""
    truths, world = Truths(service), service.world
    asleep, awake = service.start("there"), service.start("here")
    service.disk.go_wrong(Fault.SLOW_AFTER, times=100)
    service.ring(asleep, Caller())
    assert world.run(120, lambda: bool(service._sent("O-1")))
    service.freeze(asleep)
    service.disk.get_well()
    truths.look()
    world.run(2 * LEASE)
    assert service.resolve(0), "the other server has not called it unknown"
    service.ring(awake, Caller(order=1))
    assert world.run(120, lambda: bool(service.bank.charges))
    truths.look()
    service.thaw(asleep, slept=True)
    world.run(120)
    truths.look()
    truths.look_at_the_end()


def test_a_machine_that_slept_sends_nothing(service):
    """What was to leave is too old when it wakes: one charge, by the call that came later."""
    sleep_through_it(service)
    assert [request.process.host for request in service.bank.requests] == ["here"]


def test_it_would_without_the_fence(service, monkeypatch):
    """The world is one in which the fence is what keeps the second charge away."""
    monkeypatch.setattr(payments, "FENCE", float("inf"))
    with pytest.raises(Violation, match="order O-1 is charged 2 times"):
        sleep_through_it(service)
    assert len(service.bank.requests) == 2
