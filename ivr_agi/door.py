"""Who gets in, and how many at once. FastAGI knows no password and no encryption: this is the lock.

A peer is judged by its address before a byte is read. A connection is a call only once it has said
whole which call it is: those that have not are kept apart, so that a crowd of them takes no caller's
place; when there are too many, the one that has been silent longest goes. Asterisk says it at once.
"""

from __future__ import annotations

import hmac
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.agi import Wire
    from ivr_agi.model import Secret
    from ivr_agi.settings import Settings

log = structlog.get_logger()

MOST_SILENT: Final = 1024  # connections that have not said yet which call they are
FAIR_SHARE: Final = 100  # calls at once that one caller may have whatever MAX_CALLS is


class Full(Exception):  # noqa: N818 - an answer, not a fault
    """There is no room for this call; its connection is closed at once."""


class Door:
    """What is connected to one server."""

    def __init__(self, settings: Settings, tokens: Sequence[Secret] = ()) -> None:
        """tokens: each of them opens; none: nobody is asked for one."""
        self._networks = settings.allowed_peers
        self._most = settings.max_calls
        self._most_of_peer = settings.max_calls_per_peer or settings.max_calls
        self._most_of_caller = settings.max_calls_per_caller or max(FAIR_SHARE, settings.max_calls // 2)
        self._tokens = tuple(token.reveal().encode() for token in tokens)
        self._silent: dict[Wire, None] = {}  # the oldest first
        self._calls: dict[Wire, str] = {}  # -> the caller
        self._peers: Counter[str] = Counter()
        self._callers: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """How many calls are in progress."""
        return len(self._calls)

    def admits(self, wire: Wire) -> bool:
        """Whether a new connection may speak at all."""
        if not self._may_connect(wire.peer):
            _refuse("peer", "peer.refused", wire, cure="add its network to IVR_AGI_ALLOWED_PEERS")
            return False
        try:
            self._look_for_room(wire)
        except Full:
            return False
        if len(self._silent) >= MOST_SILENT:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            cure = "these connect and say nothing: keep them out by a firewall or IVR_AGI_ALLOWED_PEERS"
            _refuse("crowd", "server.crowded", oldest, cure=cure)
            oldest.abort()
        self._silent[wire] = None
        return True

    def begins(self, wire: Wire) -> None:
        """It has said whole which call it is. Raises Full."""
        self._silent.pop(wire, None)
        self._look_for_room(wire)
        self._calls[wire] = ""
        self._peers[wire.peer] += 1
        metrics.calls_in_progress.inc()

    def knows(self, wire: Wire, caller: str) -> bool:
        """Whose call it is; returns whether he may have one more. caller: '' if withheld."""
        self._calls[wire] = caller
        self._callers[caller] += 1
        return not caller or self._callers[caller] <= self._most_of_caller

    def has(self, wire: Wire) -> bool:
        """Whether it is in, and was not let go for others."""
        return wire in self._silent or wire in self._calls

    def left(self, wire: Wire) -> None:
        """The connection has come to its end."""
        self._silent.pop(wire, None)
        caller = self._calls.pop(wire, None)
        if caller is None:
            return
        metrics.calls_in_progress.dec()
        _one_less(self._peers, wire.peer)
        _one_less(self._callers, caller)

    def opens(self, token: str) -> bool:
        """Whether this token does; compared in constant time."""
        given = token.encode()
        # Each is compared, whichever fits: any() would end with the first.
        return not self._tokens or sum(hmac.compare_digest(given, ours) for ours in self._tokens) > 0

    def _look_for_room(self, wire: Wire) -> None:
        if len(self._calls) >= self._most:
            _refuse("full", "server.full", wire, calls=len(self._calls), cure="raise IVR_AGI_MAX_CALLS")
            raise Full
        if self._peers[wire.peer] >= self._most_of_peer:
            calls = self._peers[wire.peer]
            _refuse("full", "peer.full", wire, calls=calls, cure="raise IVR_AGI_MAX_CALLS_PER_PEER")
            raise Full

    def _may_connect(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _refuse(reason: str, event: str, wire: Wire, **about: object) -> None:
    metrics.connections_refused.labels(reason).inc()
    log.warning(event, peer=wire.peer, **about)


def _one_less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]  # whoever has called once is not remembered
