"""Who gets in, and how many at once. FastAGI knows no password and no encryption: this is the lock.

A peer is judged by its address before a byte is read. A connection is a call only once it has said
whole which call it is: those that have not are kept apart, so that a crowd of them takes no caller's
place; when there are too many, the one that has been silent longest goes. Asterisk says it at once.
"""

from __future__ import annotations

import hmac
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ivr_agi import metrics

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ivr_agi.agi import Wire
    from ivr_agi.model import Secret
    from ivr_agi.settings import Settings

log = structlog.get_logger()

MOST_SILENT: Final = 1024  # connections that have not said yet which call they are
FAIR_SHARE: Final = 100  # calls at once that one caller may have whatever MAX_CALLS is


class Full(Exception):  # noqa: N818 - an answer, not a fault
    """There is no room for this call; its connection is closed at once."""


class Roll(Protocol):
    """The calls in progress, whoever serves them; each is entered by the server that does."""

    @property
    def total(self) -> int:
        """How many there are."""

    def enter(self, call: Hashable, peer: str) -> None:
        """A call has begun."""

    def name(self, call: Hashable, caller: str) -> None:
        """Whose call it is; '' if withheld."""

    def leave(self, call: Hashable) -> None:
        """It has ended."""

    def of_peer(self, peer: str) -> int:
        """How many a peer has."""

    def of_caller(self, caller: str) -> int:
        """How many a caller has."""


class OwnRoll:
    """That of a server which is alone."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, tuple[str, str]] = {}  # -> peer, caller
        self._peers: Counter[str] = Counter()
        self._callers: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def enter(self, call: Hashable, peer: str) -> None:
        """A call has begun."""
        self._calls[call] = peer, ""
        self._peers[peer] += 1

    def name(self, call: Hashable, caller: str) -> None:
        """Whose call it is; '' if withheld."""
        self._calls[call] = self._calls[call][0], caller
        self._callers[caller] += 1

    def leave(self, call: Hashable) -> None:
        """It has ended."""
        peer, caller = self._calls.pop(call)
        _one_less(self._peers, peer)
        _one_less(self._callers, caller)

    def of_peer(self, peer: str) -> int:
        """How many a peer has."""
        return self._peers[peer]

    def of_caller(self, caller: str) -> int:
        """How many a caller has."""
        return self._callers[caller]


class Door:
    """What is connected to one server."""

    def __init__(self, settings: Settings, tokens: Sequence[Secret] = (), roll: Roll | None = None) -> None:
        """tokens: each of them opens; none: nobody is asked for one. roll: shared with others, if it is."""
        self._networks = settings.allowed_peers
        self._most = settings.max_calls
        self._most_of_peer = settings.max_calls_per_peer or settings.max_calls
        self._most_of_caller = settings.max_calls_per_caller or max(FAIR_SHARE, settings.max_calls // 2)
        self._tokens = tuple(token.reveal().encode() for token in tokens)
        self._silent: dict[Wire, None] = {}  # the oldest first
        self._calls: set[Wire] = set()
        self._roll = roll or OwnRoll()

    @property
    def calls(self) -> int:
        """How many calls this server has in progress."""
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
        self._calls.add(wire)
        self._roll.enter(wire, wire.peer)
        metrics.calls_in_progress.inc()

    def knows(self, wire: Wire, caller: str) -> bool:
        """Whose call it is; returns whether he may have one more. caller: '' if withheld."""
        self._roll.name(wire, caller)
        return not caller or self._roll.of_caller(caller) <= self._most_of_caller

    def has(self, wire: Wire) -> bool:
        """Whether it is in, and was not let go for others."""
        return wire in self._silent or wire in self._calls

    def left(self, wire: Wire) -> None:
        """The connection has come to its end."""
        self._silent.pop(wire, None)
        if wire not in self._calls:
            return
        self._calls.remove(wire)
        self._roll.leave(wire)
        metrics.calls_in_progress.dec()

    def opens(self, token: str) -> bool:
        """Whether this token does; compared in constant time."""
        given = token.encode()
        # Each is compared, whichever fits: any() would end with the first.
        return not self._tokens or sum(hmac.compare_digest(given, ours) for ours in self._tokens) > 0

    def _look_for_room(self, wire: Wire) -> None:
        if (calls := self._roll.total) >= self._most:
            _refuse("full", "server.full", wire, calls=calls, cure="raise IVR_AGI_MAX_CALLS")
            raise Full
        if (calls := self._roll.of_peer(wire.peer)) >= self._most_of_peer:
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
