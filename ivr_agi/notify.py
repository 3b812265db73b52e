"""What systemd is told of us (sd_notify(3)): ready, stopping, a line of status, and that the loop turns.

A datagram to the socket in NOTIFY_SOCKET; without one, nothing at all. The watchdog's beat is sent by
the event loop itself and by no thread, so that it stops when the loop hangs. Nothing here may ever
fail or hold up the server: a datagram that cannot be sent is not sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Notify:
    """The way to systemd, or to nobody."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """environment: where systemd puts NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        address = environment.get("NOTIFY_SOCKET", "")
        # "@…" is a name in the abstract namespace (unix(7)); anything but that and a path is no address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            with suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._beat_seconds = _watchdog_seconds(environment) / 2
        self._beat: asyncio.TimerHandle | None = None

    def ready(self, status: Callable[[], str]) -> None:
        """We listen. From now on the loop says at half of WATCHDOG_USEC that it turns, with `status()`."""
        self._send("READY=1", f"STATUS={_one_line(status())}")
        if self._socket and self._beat_seconds:
            self._turn(status)

    def stopping(self, status: str, seconds: float) -> None:
        """We drain, which may take so many seconds; the watchdog goes on."""
        # Should the admin have raised the limits beyond the unit's TimeoutStopSec, this makes up for it.
        self._send("STOPPING=1", f"STATUS={_one_line(status)}", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def close(self) -> None:
        """Say no more."""
        if self._beat:
            self._beat.cancel()
        if self._socket:
            self._socket.close()
            self._socket = None

    def _turn(self, status: Callable[[], str]) -> None:
        self._send("WATCHDOG=1", f"STATUS={_one_line(status())}")
        self._beat = asyncio.get_running_loop().call_later(self._beat_seconds, self._turn, status)

    def _send(self, *lines: str) -> None:
        if self._socket:
            with suppress(OSError, ValueError):  # nobody there, full, too long
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """WATCHDOG_USEC in seconds; 0 if there is none, or it is meant for another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    with suppress(ValueError):
        return max(0, int(environment.get("WATCHDOG_USEC", "0"))) / 1e6
    return 0


def _one_line(text: str) -> str:
    return " ".join(text.split())
