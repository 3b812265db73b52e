"""The metrics of all processes under a supervisor, added up; of one that has died, its counts stay."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, multiprocess
from prometheus_client.registry import Collector

from ivr_agi.workers.place import STATE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

    from ivr_agi.workers.place import Place


def registry(place: Place) -> CollectorRegistry:
    """What the front shows at /metrics."""
    found = CollectorRegistry()
    multiprocess.MultiProcessCollector(found, str(place.metrics))  # type: ignore[no-untyped-call]
    found.register(_Processes(place.folder))
    return found


def state(folder: Path) -> tuple[int, list[int]]:
    """How many workers take calls, and the pids of all processes below."""
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return 0, []
    return found["working"], found["pids"]


class _Processes(Collector):
    """process_cpu_seconds_total and its like: of all of them together, the start of the oldest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for pid in state(self._folder)[1]:
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                so_far = families.setdefault(family.name, family)
                if so_far is not family:
                    least = family.name in ("process_start_time_seconds", "process_max_fds")
                    so_far.samples = [
                        one._replace(value=min(one.value, other.value) if least else one.value + other.value)
                        for one, other in zip(so_far.samples, family.samples, strict=True)
                    ]
        return families.values()
