"""The machine: what may happen in this world, drawn by hypothesis, with the truths looked at after each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from model.bank import ANSWERS, PINS
from model.callers import Caller, Leaving, Whim
from model.faults import Fault
from model.service import HOSTS, Running, Service
from model.truths import Truths

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 60
EXAMPLES = 10  # in one run of hypothesis

mostly_sent = st.sampled_from(["sent"] * 12 + list(PINS))
answers = st.sampled_from(["paid"] * 6 + list(ANSWERS))
callers = st.builds(
    Caller,
    order=st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2, 3, 5, 8]),
    whim=st.sampled_from([Whim.STEADY] * 12 + list(Whim)),
    answers=st.one_of(st.tuples(answers), st.tuples(answers, answers, answers)),
    pins=st.tuples(mostly_sent, mostly_sent),
    leaves=st.sampled_from([0] * 20 + list(range(1, 40))),
    how=st.sampled_from([Leaving.HANGS_UP] * 3 + list(Leaving)),
)
which = st.integers(0, 7)
moments = st.sampled_from(["now", "a payment leaves", "a card is charged", "an answer comes"])


class Calls(RuleBasedStateMachine):
    """Random callers, gateways, hang-ups, restarts, clocks and disks."""

    template: ClassVar[Path]  # an empty journal
    made: ClassVar[int] = 0  # calls, in all worlds

    def __init__(self) -> None:
        super().__init__()
        self.service = Service(self.template)
        self.truths = Truths(self.service)
        self.failed = False

    def _server(self, choice: int) -> Running | None:
        accepting = [running for running in self.service.servers if running.accepting]
        return accepting[choice % len(accepting)] if accepting else self.service.start(HOSTS[0])

    def _any(self, choice: int) -> Running | None:
        servers = self.service.servers
        return servers[choice % len(servers)] if servers else None

    def _ring(self, choice: int, come: list[Caller]) -> None:
        for place, caller in enumerate(come):
            if running := self._server(choice + place):
                self.service.ring(running, caller)
                type(self).made += 1

    def _until(self, moment: str) -> None:
        """The moments at which most can go wrong."""
        bank = self.service.bank
        counted = {
            "a payment leaves": lambda: len(bank.requests),
            "a card is charged": lambda: len(bank.charges),
            "an answer comes": lambda: bank.answered,
        }
        if count := counted.get(moment):
            before = count()
            self.service.world.run(60, lambda: count() > before)

    # -- what may happen ------------------------------------------------------------------------------

    @rule(choice=which, come=st.lists(callers, min_size=6, max_size=14), seconds=st.sampled_from([1, 20, 60]))
    def calls(self, choice: int, come: list[Caller], seconds: int) -> None:
        self._ring(choice, come)
        self.service.world.run(seconds)

    @rule(choice=which, come=st.lists(callers, min_size=1, max_size=6))
    def calls_at_this_moment(self, choice: int, come: list[Caller]) -> None:
        self._ring(choice, come)

    @rule(seconds=st.sampled_from([0.1, 1, 5, 20, 60, 150, 400, 700]))
    def time_passes(self, seconds: float) -> None:
        self.service.world.run(seconds)

    @rule(turns=st.integers(1, 40))
    def a_moment(self, turns: int) -> None:
        for _ in range(turns):
            self.service.world.turn()

    @rule(moment=moments)
    def until(self, moment: str) -> None:
        self._until(moment)

    @rule(choice=which, how=st.sampled_from(Leaving))
    def somebody_leaves(self, choice: int, how: Leaving) -> None:
        lines = [line for line in self.service.lines[-30:] if not line.closed]
        if lines:
            lines[choice % len(lines)].hang_up(how)

    @rule(choice=which, moment=moments)
    def kill(self, choice: int, moment: str) -> None:
        self._until(moment)
        if running := self._any(choice):
            self.service.kill(running)

    @rule(host=st.sampled_from(HOSTS))
    def another_server(self, host: str) -> None:
        if len(self.service.servers) < 3:
            self.service.start(host)

    @rule(choice=which)
    def restart(self, choice: int) -> None:
        running = self._any(choice)
        if running and running.accepting and not running.process.frozen:
            self.service.drain(running)
            self.service.start(running.process.host)

    @rule(choice=which, slept=st.booleans(), seconds=st.sampled_from([0, 10, 30, 100, 700]))
    def freeze(self, choice: int, slept: bool, seconds: int) -> None:
        running = self._any(choice)
        if running and not running.process.frozen:
            self.service.freeze(running)
            self.service.world.run(seconds)
        elif running:
            self.service.thaw(running, slept=slept)

    @rule(moment=moments, fault=st.sampled_from(Fault), times=st.sampled_from([1, 1, 1, 2, 5, 100]))
    def the_disk_goes_wrong(self, moment: str, fault: Fault, times: int) -> None:
        self._until(moment)
        self.service.disk.go_wrong(fault, times)

    @rule()
    def the_disk_gets_well(self) -> None:
        self.service.disk.get_well()

    @rule(seconds=st.sampled_from([-7200, -1, 1, 7200]))
    def the_wall_clock_is_set(self, seconds: int) -> None:
        self.service.wall += seconds

    @rule(choice=which)
    def a_person_looks(self, choice: int) -> None:
        self.service.resolve(choice)

    # -- what must be true ----------------------------------------------------------------------------

    @invariant()
    def truths_hold(self) -> None:
        try:
            self.truths.look()
        except BaseException:
            self.failed = True
            raise

    def teardown(self) -> None:
        try:
            if not self.failed:
                self.truths.look_at_the_end()
        finally:
            self.service.close()


def run(template: Path, number: int, calls: int, *, shrink: bool = True, examples: int = EXAMPLES) -> int:
    """Run the machine until so many calls were made; returns how many. number: the seed."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    options: Any = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=phases,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )

    class Drawn(Calls):
        pass

    Drawn.template, Drawn.made = template, 0
    while Drawn.made < calls:
        run_state_machine_as_test(seed(number + Drawn.made)(Drawn), settings=options)
    return Drawn.made
