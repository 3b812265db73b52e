"""The journal's writes: each a function on a connection, inside a transaction that somebody else commits.

A step is a change of `attempt` and a line of `history`, together or not at all. What raises here
(OrderHeld, IllegalStep) does so before anything is written, so that the steps of other calls in the
same transaction stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ivr_agi.journal import counting, outbox, velocity
from ivr_agi.journal.tables import (
    FOLLOWS,
    HOLDING,
    OPEN,
    AttemptState,
    Resolution,
    attempt,
    history,
    make_key,
    timestamp,
)
from ivr_agi.journal.velocity import OrderHeld, Refusal, Who
from ivr_agi.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["IllegalStep", "NewAttempt", "OrderHeld", "Scribe"]


class IllegalStep(Refusal):
    """A step that `tables.FOLLOWS` does not have from where the attempt is; nothing was written."""


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """What an attempt begins with. card is masked, amount in rials, call Asterisk's unique id.

    caller and hashes are velocity.Who's.
    """

    order_id: str
    method: str
    amount: int
    card: str
    mobile: str
    call: str = ""
    card_hash: str = ""
    caller: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, Any]:
        """Its columns of `attempt`."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "hashes"}

    @property
    def who(self) -> Who:
        """Whose limits it counts against."""
        return Who(self.order_id, self.caller, self.card, self.hashes)


@dataclass(frozen=True, slots=True)
class Scribe:
    """Who writes. owner: the process; notices: whether the merchant is to be told of each outcome."""

    owner: str
    notices: bool = False
    limits: Limits = field(default_factory=Limits)

    def reserve(self, connection: sa.Connection, new: NewAttempt, key: str, *, again: bool) -> int:
        """Begin an attempt, and count its first PIN; returns its id.

        Raises OrderHeld, OverLimit, Paused.
        """
        hindrance = velocity.hindrance(connection, new.who, self.limits)
        # Looked for after the holder: if that is our own, whose commit has just come through, it is found.
        if again and (done := find(connection, key)) is not None:
            return done
        if hindrance:
            raise hindrance
        now = timestamp()
        values = {
            **new.row,
            "last_four": new.card[-4:],
            "state": AttemptState.CREATED,
            "holds_order": True,
            "owner": self.owner,
            "created_at": now,
            "updated_at": now,
            "pins_asked": 1,
        }
        attempt_id = connection.execute(_BEGUN[connection.dialect.name], values).scalar()
        if attempt_id is None:  # another server was faster between the look and the insert
            if again and (done := find(connection, key)) is not None:
                return done
            raise OrderHeld(holder(connection, new.order_id) or AttemptState.CREATED)
        self._remember(connection, attempt_id, AttemptState.CREATED, "", now, key)
        velocity.record_first_pin(connection, values, now)
        return int(attempt_id)

    def ask_pin(self, connection: sa.Connection, attempt_id: int, who: Who, key: str, *, again: bool) -> None:
        """Count one more PIN of an attempt under way. Raises OverLimit, IllegalStep."""
        if again and find(connection, key) is not None:
            return
        state = state_of(connection, attempt_id)
        if state not in OPEN - {AttemptState.SENT}:
            raise IllegalStep(f"attempt {attempt_id} is over; no PIN is sent for it")
        velocity.check(connection, who, self.limits)
        velocity.record_pin(connection, attempt_id)
        self._remember(connection, attempt_id, state, "one more PIN is asked for", timestamp(), key)

    def pin_not_sent(  # noqa: PLR0913 - a step and its names
        self,
        connection: sa.Connection,
        attempt_id: int,
        note: str,
        key: str,
        *,
        left: bool,
        again: bool,
        ms: int | None = None,
    ) -> None:
        """The PIN that was asked for has not been sent. left: whether a byte of the request did."""
        if again and find(connection, key) is not None:
            return
        (velocity.record_refusal if left else velocity.take_back_pin)(connection, attempt_id)
        self.note(connection, attempt_id, note, review="", key=key, again=False, ms=ms)

    def step(  # noqa: PLR0913 - what a step consists of
        self,
        connection: sa.Connection,
        attempt_id: int,
        state: AttemptState,
        *,
        note: str = "",
        holds_order: bool | None = None,
        fields: Mapping[str, str],
        key: str,
        again: bool = False,
        ms: int | None = None,
        of: str | None = None,
        seen: AttemptState | None = None,
    ) -> None:
        """Take one step of FOLLOWS. Raises IllegalStep.

        ms: how long the gateway took for the answer that this is.
        of, seen: only if that process has it under way, if it is in that state still: another server may
        be committing a step at this very moment.
        """
        if again and find(connection, key) is not None:
            return
        now = timestamp()
        values: dict[str, Any] = {
            **fields,
            "state": state,
            "holds_order": state in HOLDING if holds_order is None else holds_order,
            "owner": self.owner,
            "updated_at": now,
            "this": attempt_id,
        }
        change = _BECOMES[state]
        if of is not None:
            change = change.where(attempt.c.owner == of)
        if seen is not None:
            change = change.where(attempt.c.state == seen)
        if connection.execute(change, values).rowcount != 1:
            raise IllegalStep(f"attempt {attempt_id} cannot become {state} from where it is")
        self._remember(connection, attempt_id, state, note, now, key, ms)
        velocity.record_end(connection, attempt_id, state)
        if self.notices and state in outbox.TOLD:
            outbox.announce(connection, attempt_id, now)

    def withdraw(self, connection: sa.Connection, key: str, reason: str) -> None:
        """Let go of the attempt that `reserve` may have begun under this key; nothing if it has not."""
        attempt_id = find(connection, key)
        if attempt_id is None or state_of(connection, attempt_id) is not AttemptState.CREATED:
            return
        velocity.take_back_pin(connection, attempt_id)
        self.step(connection, attempt_id, AttemptState.FAILED, fields={"reason": reason}, key=make_key())

    def note(  # noqa: PLR0913 - a line and its names
        self,
        connection: sa.Connection,
        attempt_id: int,
        note: str,
        *,
        review: str,
        key: str,
        again: bool,
        ms: int | None = None,
    ) -> None:
        """Add a line to an attempt's history without a step. review: what a person should look at."""
        if again and find(connection, key) is not None:
            return
        now = timestamp()
        state = state_of(connection, attempt_id)
        if review:
            connection.execute(_REVIEWED, {"review": review, "updated_at": now, "this": attempt_id})
        self._remember(connection, attempt_id, state, note, now, key, ms)

    def resolve(  # noqa: PLR0913 - what a verdict consists of
        self,
        connection: sa.Connection,
        attempt_id: int,
        resolution: Resolution,
        *,
        by: str,
        evidence: str,
        ref_id: str,
        seen: AttemptState,
    ) -> bool:
        """Record a person's verdict on an ended attempt; returns whether it now holds its order.

        Not held although paid: another attempt holds it, so that the order has been paid twice, or may
        be. seen: the state that the person judged by. Raises IllegalStep for an attempt that is not in it
        any more, that is under way, or not there.
        """
        query = sa.select(attempt.c.order_id, attempt.c.state).where(attempt.c.id == attempt_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise IllegalStep(f"there is no attempt {attempt_id}")
        if AttemptState.RESOLVED not in FOLLOWS[row.state]:
            raise IllegalStep(f"attempt {attempt_id} is under way ({row.state}); it cannot be resolved yet")
        if row.state != seen:
            raise IllegalStep(f"attempt {attempt_id} has become {row.state} meanwhile; look again")
        others = sa.select(attempt.c.id).where(
            attempt.c.order_id == row.order_id, attempt.c.holds_order, attempt.c.id != attempt_id
        )
        holds = resolution is Resolution.PAID and connection.execute(others).first() is None
        fields = {
            "resolution": resolution,
            "resolved_by": by,
            "resolved_at": timestamp(),
            "evidence": evidence,
            "review": "",
        }
        if ref_id:
            fields["ref_id"] = ref_id
        note = f"{resolution}, by {by}" + (f", tracking number {ref_id}" if ref_id else "") + f": {evidence}"
        self.step(
            connection,
            attempt_id,
            AttemptState.RESOLVED,
            note=note,
            holds_order=holds,
            fields=fields,
            key=make_key(),
            seen=seen,
        )
        return holds

    def _remember(  # noqa: PLR0913 - a line of the history
        self,
        connection: sa.Connection,
        attempt_id: int,
        state: AttemptState,
        note: str,
        now: str,
        key: str,
        ms: int | None = None,
    ) -> None:
        line = {"attempt_id": attempt_id, "at": now, "state": state, "note": note}
        connection.execute(_LINE, line | {"owner": self.owner, "key": key, "ms": ms})


def find(connection: sa.Connection, key: str) -> int | None:
    """The attempt whose step has this key; None if no such step was ever committed."""
    found = connection.execute(_FOUND, {"key": key}).scalar()
    return None if found is None else int(found)


def holder(connection: sa.Connection, order_id: str) -> AttemptState | None:
    """How far the attempt that holds an order has come; None if none does."""
    state = connection.execute(counting.HELD, {"order_id": order_id}).scalar()
    return None if state is None else AttemptState(state)


def state_of(connection: sa.Connection, attempt_id: int) -> AttemptState:
    """The state of an attempt that is there."""
    return AttemptState(connection.execute(_STATE, {"this": attempt_id}).scalar_one())


def _becomes(state: AttemptState) -> sa.Update:
    """Take an attempt to a state, if that may follow the one that it is in."""
    # literal, not a list of values: one that may have any length is worded at each run
    before = [sa.literal(earlier) for earlier, later in FOLLOWS.items() if state in later]
    change = sa.update(attempt).where(_THIS, attempt.c.state.in_(before))
    return change.values(pins_sent=attempt.c.pins_sent + 1) if state is AttemptState.OTP_SENT else change


# Worded once, run often; what is written are the parameters.
_THIS: Final = attempt.c.id == sa.bindparam("this")
_BEGUN: Final = {
    dialect.dialect.name: dialect.insert(attempt)
    .on_conflict_do_nothing(index_elements=["order_id"], index_where=sa.text("holds_order"))
    .returning(attempt.c.id)
    for dialect in (sqlite, postgresql)
}
_BECOMES: Final = {state: _becomes(state) for state in AttemptState}
_REVIEWED: Final = sa.update(attempt).where(_THIS)
_LINE: Final = sa.insert(history).inline()
_FOUND: Final = sa.select(history.c.attempt_id).where(history.c.key == sa.bindparam("key"))
_STATE: Final = sa.select(attempt.c.state).where(_THIS)
