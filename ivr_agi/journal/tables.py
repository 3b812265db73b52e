"""The journal's tables, and the one table of which state may follow which.

A row of `attempt` is one attempt to pay one order: at most one `pay` request ever leaves for it.
`history` is append-only: every step of an attempt, and which process wrote it. Neither holds a
card number beyond its mask, a PIN, or `sequence`.

The database itself forbids the two things that would cost money: a second attempt for an order
that an earlier one still holds (a unique partial index), and a state that does not exist. Amounts
are whole rials; times are UTC in ISO 8601, so that they sort as text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)


class AttemptState(StrEnum):
    """How far an attempt has come."""

    CREATED = "created"  # the order is reserved; nothing has been asked of the gateway
    OTP_SENT = "otp_sent"  # the gateway has sent a one-time PIN
    SENT = "sent"  # committed before `pay` leaves: from here on the card may be charged
    PAID = "paid"
    DECLINED = "declined"
    FAILED = "failed"  # certainly not charged: a technical failure, or the caller left before `pay`
    UNKNOWN = "unknown"  # may have been charged


S = AttemptState
# What may follow what. After `sent` nothing leads back; a late answer may still settle `unknown`.
FOLLOWS: Final[dict[AttemptState, frozenset[AttemptState]]] = {
    S.CREATED: frozenset({S.OTP_SENT, S.FAILED}),
    S.OTP_SENT: frozenset({S.OTP_SENT, S.SENT, S.FAILED}),
    S.SENT: frozenset({S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN}),
    S.UNKNOWN: frozenset({S.PAID, S.DECLINED}),
    S.PAID: frozenset(),
    S.DECLINED: frozenset(),
    S.FAILED: frozenset(),
}
# States in which an attempt holds its order: no other attempt may begin.
HOLDING: Final = frozenset({S.CREATED, S.OTP_SENT, S.SENT, S.UNKNOWN, S.PAID})


def _listed(states: frozenset[AttemptState]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


metadata = MetaData()
Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER primary key

attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("order_id", String(50), nullable=False),
    Column("method", String(3), nullable=False),  # ivr (§2.1) or web (§2.2)
    Column("amount", BigInteger, nullable=False),  # rials
    Column("card", String(16), nullable=False),  # 603799******7893
    Column("mobile", String(13), nullable=False),  # +989123456789
    Column("state", String(10), nullable=False),
    Column("holds_order", Boolean, nullable=False),
    Column("code", String(10), nullable=False, server_default=""),  # the bank's, when declined
    Column("ref_id", String(64), nullable=False, server_default=""),  # tracking number, when paid
    Column("review", String(10), nullable=False, server_default=""),  # what a person should look at
    Column("reason", String(80), nullable=False, server_default=""),  # a word of our own
    Column("pins_sent", Integer, nullable=False, server_default="0"),
    Column("call", String(64), nullable=False, server_default=""),  # Asterisk's unique id
    Column("owner", String(160), nullable=False),  # the process that has it under way
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    CheckConstraint(f"state IN ({_listed(frozenset(S))})", name="attempt_state"),
    CheckConstraint(f"state NOT IN ({_listed(HOLDING)}) OR holds_order", name="attempt_holds_order"),
    CheckConstraint("amount > 0", name="attempt_amount"),
    CheckConstraint("state <> 'paid' OR ref_id <> ''", name="attempt_paid_has_ref_id"),
    sqlite_autoincrement=True,  # an id that was told to a caller is never given to another attempt
)
# One open, unknown or paid attempt for an order. A declined one holds it too while the bank's
# answer leaves open whether money has moved (codes 20 and 94).
Index(
    "attempt_one_per_order",
    attempt.c.order_id,
    unique=True,
    sqlite_where=text("holds_order"),
    postgresql_where=text("holds_order"),
)
Index("attempt_by_order", attempt.c.order_id)
Index("attempt_by_state", attempt.c.state)

history = Table(
    "history",
    metadata,
    Column("id", Id, primary_key=True),
    Column("attempt_id", Id, ForeignKey("attempt.id"), nullable=False, index=True),
    Column("at", String(32), nullable=False),
    Column("state", String(10), nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("owner", String(160), nullable=False),
    sqlite_autoincrement=True,
)
