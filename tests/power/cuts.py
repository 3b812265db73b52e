"""Cut the power after each event of a record, and start on each disk that may be left.

Of a row of writes with nothing between them, all may be cut after, or a few that a seed chooses. A disk is
named by its record, the number of events before the cut, and a word (`nothing`, `everything`, `names`,
`contents`, `random-3`); with the seed that makes it the same bytes again: `disk_at`.
"""

import copy
import hashlib
import os
from dataclasses import dataclass, field

from disk import Disk, dice
from promises import Promises, restart
from recording import Kind


@dataclass(frozen=True)
class Failure:
    """A disk on which a promise is broken."""

    cut: int
    state: str
    sentences: tuple[str, ...]


@dataclass
class Tally:
    """What was looked at. states: distinct disks that were started on; checked: disks, the same ones again too."""

    events: int = 0
    cuts: int = 0
    checked: int = 0
    states: int = 0
    failures: list[Failure] = field(default_factory=list)

    def __str__(self):
        return f"{self.events} events, {self.cuts} cuts, {self.checked} disks, {self.states} of them distinct"


class Examination:
    """The cuts of one record. files and promises: of the disk that the record begins on."""

    def __init__(self, events, folder, *, seed, randoms, writes=1.0, files=None, promises=None):
        """randoms: disks at each cut besides the four plain ones; writes: which part of the writes is cut after."""
        self._events = events
        self._folder = folder
        self._seed = seed
        self._kinds = (*Disk.STATES, *(f"random-{number}" for number in range(randoms)))
        self._writes = writes
        self._disk = Disk(files)
        self._promises = copy.deepcopy(promises) if promises else Promises()
        self._known = {}
        self.tally = Tally(len(events))

    async def run(self, *, enough=None):
        """Start on each disk. enough: stop after so many failures. Returns the tally."""
        thinning = dice(self._seed)
        for cut, event in enumerate(self._events, 1):
            self._disk.apply(event)
            if event.kind is Kind.MARK:
                self._promises.take(event.mark())
            if event.kind is Kind.WRITE and thinning.random() > self._writes:
                continue
            self.tally.cuts += 1
            for kind in self._kinds:
                await self._start(cut, kind)
                if enough is not None and len(self.tally.failures) >= enough:
                    return self.tally
        return self.tally

    async def _start(self, cut, kind):
        files = self._disk.state(kind, dice(self._seed, cut, kind))
        name = _digest(files)
        if name not in self._known:
            self._known[name] = await restart(files, self._folder)
            self.tally.states += 1
        self.tally.checked += 1
        if sentences := self._promises.broken(self._known[name]):
            self.tally.failures.append(Failure(cut, kind, tuple(sentences)))


def in_memory():
    """A folder in memory to start on disks in, if there is one: nothing of them has to last."""
    memory = "/dev/shm"  # noqa: S108 - folders of our own are made in it
    return memory if os.access(memory, os.W_OK) else None


def just_before_the_end(events, number, seed):
    """Cuts at which a commit is nearly made, while payments are under way: the way back is still there."""
    begun = next(
        at for at, event in enumerate(events) if event.kind is Kind.MARK and "posted" in event.mark()
    )
    found = [cut for cut, event in enumerate(events) if event.kind is Kind.UNLINK and cut > begun]
    return sorted(dice(seed).sample(found, min(number, len(found))))


def disk_at(events, cut, kind, seed, files=None):
    """A disk as an examination had it, and what was promised by then."""
    disk, promises = Disk(files), Promises()
    for event in events[:cut]:
        disk.apply(event)
        if event.kind is Kind.MARK:
            promises.take(event.mark())
    return disk.state(kind, dice(seed, cut, kind)), promises


def _digest(files):
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(f"{name} {len(content)} ".encode())
        whole.update(content)
    return whole.digest()
