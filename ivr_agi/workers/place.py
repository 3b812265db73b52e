"""What a process below is given: its number, its part, the sockets it listens on, the folder of all."""

from __future__ import annotations

import ctypes
import json
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ivr_agi.metrics import SLOT

if TYPE_CHECKING:
    from collections.abc import Mapping

FRONT: Final = "front"
VARIABLE: Final = "_IVR_AGI_PLACE"
ROLL: Final = "roll"
METRICS: Final = "metrics"
STATE: Final = "state.json"  # how the workers are, as the supervisor says it
PR_SET_PDEATHSIG: Final = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Place:
    """A process's place under the supervisor.

    slot: a number that no other living process has. front: HTTP and panel, and no call; else calls, no HTTP.
    descriptors: of the sockets that it listens on. calls: the most that the roll has room for.
    """

    slot: int
    front: bool
    folder: Path
    descriptors: tuple[int, ...]
    calls: int

    @property
    def name(self) -> str:
        """What the log calls it."""
        return FRONT if self.front else f"{self.slot}"

    @property
    def variables(self) -> dict[str, str]:
        """What its environment has of it, the variables of prometheus_client and sd_notify(3) among them."""
        return {
            VARIABLE: json.dumps([self.slot, self.front, str(self.folder), self.descriptors, self.calls]),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            SLOT: str(self.slot),
            "NOTIFY_SOCKET": str(self.ear),
        }

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """Read it from the environment; None for a process that has nobody above it."""
        if VARIABLE not in environment:
            return None
        slot, front, folder, descriptors, calls = json.loads(environment[VARIABLE])
        return cls(slot, front, Path(folder), tuple(descriptors), calls)

    def take_sockets(self) -> list[socket.socket]:
        """Those that it listens on; to be called once, since each is closed with what is made of it here."""
        return [socket.socket(fileno=descriptor) for descriptor in self.descriptors]

    @property
    def roll(self) -> Path:
        """The roll of all calls."""
        return self.folder / ROLL

    @property
    def metrics(self) -> Path:
        """The folder where each process counts."""
        return self.folder / METRICS

    @property
    def ear(self) -> Path:
        """The socket on which it says that it is ready, and that its loop turns."""
        return self.folder / f"{self.slot}.ear"

    @property
    def mouth(self) -> Path:
        """The socket on which it says what calls it has."""
        return self.folder / f"{self.slot}.calls"


def end_with_supervisor() -> None:
    """End as by SIGTERM when the process above does, whatever ended it."""
    with suppress(Exception):  # where that cannot be had, systemd or the container ends all of them
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
