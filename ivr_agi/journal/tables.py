"""The journal's tables, and the one table of which state may follow which.

A row of `attempt` is one attempt to pay one order: at most one `pay` request ever leaves for it.
`history` is append-only: every step of an attempt, and which process wrote it. `process` says who is
alive, `notice` what the merchant is still to be told, `happening` what limits count, `audit` who did what in
the panel. None holds a card number beyond its mask and a keyed hash, a PIN, a password, or `sequence`.

The database itself forbids what would cost money, whoever writes: a second attempt for an order that
an earlier one still holds (a unique partial index), a step that FOLLOWS does not have, a history that
is changed or cut (triggers), a verdict without its evidence (checks). Amounts are whole rials; times
are UTC in ISO 8601, so that they sort as text.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
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
    RESOLVED = "resolved"  # a person has found out: `resolution` says what, and on what evidence


class Resolution(StrEnum):
    """What a person has found out."""

    PAID = "paid"
    NOT_PAID = "not-paid"


S = AttemptState
# What may follow what. After `sent` nothing leads back; a late answer may still settle `unknown`, and a
# person may settle, and settle anew, whatever has ended: the history keeps what was said before.
FOLLOWS: Final[dict[AttemptState, frozenset[AttemptState]]] = {
    S.CREATED: frozenset({S.OTP_SENT, S.FAILED}),
    S.OTP_SENT: frozenset({S.OTP_SENT, S.SENT, S.FAILED}),
    S.SENT: frozenset({S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN}),
    S.UNKNOWN: frozenset({S.PAID, S.DECLINED, S.FAILED, S.RESOLVED}),
    S.PAID: frozenset({S.RESOLVED}),
    S.DECLINED: frozenset({S.RESOLVED}),
    S.FAILED: frozenset({S.RESOLVED}),
    S.RESOLVED: frozenset({S.RESOLVED}),
}
# States in which an attempt always holds its order: no other attempt may begin. A declined one holds it
# too while the bank's answer leaves open whether money has moved; a resolved one when it was paid.
HOLDING: Final = frozenset({S.CREATED, S.OTP_SENT, S.SENT, S.UNKNOWN, S.PAID})
OPEN: Final = frozenset({S.CREATED, S.OTP_SENT, S.SENT})  # a process has them under way


def _listed(states: frozenset[AttemptState]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


# What a key needs is to be unlike all others. To ask the kernel for each lets go of the interpreter's lock,
# too, and under load has to wait for it again.
_chance: Final = random.Random()  # noqa: S311 - no secret
os.register_at_fork(after_in_child=_chance.seed)


def make_key() -> str:
    """A name for a step, or a notice, that no other will have."""
    return f"{_chance.getrandbits(128):032x}"


def timestamp() -> str:
    """Now, as the tables have times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
    Column("card_hash", String(80), nullable=False, server_default=""),  # key's name:HMAC, '' without a key
    Column("resolution", String(8), nullable=False, server_default=""),  # paid or not-paid, by a person
    Column("resolved_by", String(80), nullable=False, server_default=""),
    Column("resolved_at", String(32), nullable=False, server_default=""),
    Column("evidence", Text, nullable=False, server_default=""),
    Column("caller", String(40), nullable=False, server_default=""),  # who called: model.name_caller
    Column("pins_asked", Integer, nullable=False, server_default="0"),  # whatever the gateway said
    Column("last_four", String(4), nullable=False, server_default=""),  # of the card, to be found by
    CheckConstraint(f"state IN ({_listed(frozenset(S))})", name="attempt_state"),
    CheckConstraint(f"state NOT IN ({_listed(HOLDING)}) OR holds_order", name="attempt_holds_order"),
    CheckConstraint("amount > 0", name="attempt_amount"),
    CheckConstraint("state <> 'paid' OR ref_id <> ''", name="attempt_paid_has_ref_id"),
    CheckConstraint(
        "state <> 'resolved' OR (resolution IN ('paid', 'not-paid') AND resolved_by <> ''"
        " AND resolved_at <> '' AND evidence <> '' AND (resolution <> 'paid' OR ref_id <> ''))",
        name="attempt_resolved_has_evidence",
    ),
    sqlite_autoincrement=True,  # an id that was told to a caller is never given to another attempt
)
# One open, unknown or paid attempt for an order.
Index(
    "attempt_one_per_order",
    attempt.c.order_id,
    unique=True,
    sqlite_where=text("holds_order"),
    postgresql_where=text("holds_order"),
)
Index("attempt_by_order", attempt.c.order_id)
# What the panel looks for, newest first; the second one also adds up a period without reading the rows.
Index("attempt_by_day", attempt.c.created_at, attempt.c.id)
Index(
    "attempt_by_state",
    *(attempt.c[each] for each in ("state", "created_at", "id", "resolution", "code", "amount")),
)
Index("attempt_by_mobile", attempt.c.mobile, attempt.c.created_at, attempt.c.id)
Index("attempt_by_last_four", attempt.c.last_four, attempt.c.created_at, attempt.c.id)
Index("attempt_by_method", attempt.c.method, attempt.c.created_at, attempt.c.id)
# What a person should look at: few rows, so that the index is the list.
IN_DOUBT: Final = "review <> '' OR state = 'unknown'"
Index(
    "attempt_in_doubt", attempt.c.created_at, attempt.c.id,
    sqlite_where=text(IN_DOUBT), postgresql_where=text(IN_DOUBT),
)  # fmt: skip
for _name, _column, _where in (
    ("attempt_by_card", attempt.c.card_hash, "card_hash <> ''"),
    ("attempt_by_ref", attempt.c.ref_id, "ref_id <> ''"),
):
    Index(_name, _column, sqlite_where=text(_where), postgresql_where=text(_where))

history = Table(
    "history",
    metadata,
    Column("id", Id, primary_key=True),
    Column("attempt_id", Id, ForeignKey("attempt.id"), nullable=False, index=True),
    Column("at", String(32), nullable=False),
    Column("state", String(10), nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("owner", String(160), nullable=False),
    # Names the step, so that one whose commit was answered by nobody is not taken twice.
    Column("key", String(32), unique=True),
    Column("ms", Integer),  # how long the gateway took, where the step is its answer
    sqlite_autoincrement=True,
)
# How long the gateway took, in which period.
Index(
    "history_by_state", history.c.state, history.c.at, history.c.ms,
    sqlite_where=text("ms IS NOT NULL"), postgresql_where=text("ms IS NOT NULL"),
)  # fmt: skip

# One row for each call that has ended: where callers drop out. Nothing hangs on it but a picture.
call_record = Table(
    "call_record",
    metadata,
    Column("id", Id, primary_key=True),
    Column("ended_at", String(32), nullable=False),
    Column("reached", String(10), nullable=False),  # the furthest state of the call's table
    Column("status", String(10), nullable=False),  # PAYSTATUS
    Column("reason", String(80), nullable=False),  # PAYREASON
    Column("ms", BigInteger, nullable=False),
    Column("language", String(2), nullable=False),
    Column("attempt_id", Id),
)
Index("call_record_by_state", *(call_record.c[each] for each in ("reached", "status", "ended_at", "ms")))

# Who may use the panel, who is signed in, and who did what (`people.py`).
account = Table(
    "account",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("role", String(12), nullable=False),
    Column("password", String(200), nullable=False),  # argon2id, with its salt and parameters
    Column("created_at", String(32), nullable=False),
    Column("changed_at", String(32), nullable=False),  # of the password
    Column("disabled_at", String(32), nullable=False, server_default=""),
)
session = Table(
    "session",
    metadata,
    Column("key", String(64), primary_key=True),  # SHA-256 of what the cookie has
    Column("account_id", Id, ForeignKey("account.id"), nullable=False),
    Column("begun_at", String(32), nullable=False),
    Column("seen_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False, server_default=""),
)
Index("session_by_account", session.c.account_id)
audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("who", String(40), nullable=False),  # account.name; of a name that nobody has, a hash
    Column("address", String(45), nullable=False),
    Column("action", String(20), nullable=False),
    Column("attempt_id", Id),
    Column("about", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)
Index("audit_by_time", audit.c.at, audit.c.id)
Index("audit_by_action", audit.c.action, audit.c.at, audit.c.who, audit.c.address)
Index(
    "audit_by_attempt", audit.c.attempt_id,
    sqlite_where=text("attempt_id IS NOT NULL"), postgresql_where=text("attempt_id IS NOT NULL"),
)  # fmt: skip

# Processes that may have attempts under way. `beat` goes up while one lives; no clock is compared.
process = Table(
    "process",
    metadata,
    Column("name", String(160), primary_key=True),  # attempt.owner
    Column("beat", BigInteger, nullable=False),
    Column("since", String(32), nullable=False),
)

# What LIMIT_… settings count; a row of no more than two days (velocity.py).
happening = Table(
    "happening",
    metadata,
    Column("id", Id, primary_key=True),
    Column("what", String(12), nullable=False),  # limits.Counted
    Column("at", String(32), nullable=False),
    Column("order_id", String(50), nullable=False),
    Column("caller", String(40), nullable=False),
    Column("card", String(16), nullable=False),  # as attempt.card
    Column("card_hash", String(80), nullable=False),
)
Index("happening_by_time", happening.c.what, happening.c.at)
for _key in ("order_id", "caller", "card"):
    Index(f"happening_by_{_key}", happening.c[_key], happening.c.what, happening.c.at)

# One row while no payment is to begin (`ivr-agi pause`), on any server.
pause = Table(
    "pause",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("since", String(32), nullable=False),
    Column("by", String(80), nullable=False),
    Column("reason", String(200), nullable=False),
    CheckConstraint("id = 1", name="pause_is_one"),
)

# The outbox: written in the transaction of the step that it tells of.
PENDING: Final = "delivered_at = '' AND given_up_at = ''"
notice = Table(
    "notice",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),  # the receiver knows a duplicate by it
    Column("attempt_id", Id, ForeignKey("attempt.id"), nullable=False, index=True),
    Column("order_id", String(50), nullable=False),
    Column("kind", String(20), nullable=False),  # payment.paid, …
    Column("body", Text, nullable=False),  # JSON
    Column("created_at", String(32), nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False, server_default="0"),  # not before; seconds since 1970
    Column("delivered_at", String(32), nullable=False, server_default=""),
    Column("given_up_at", String(32), nullable=False, server_default=""),
    Column("trouble", String(200), nullable=False, server_default=""),  # of the last try
    sqlite_autoincrement=True,
)
Index("notice_due", notice.c.due_at, sqlite_where=text(PENDING), postgresql_where=text(PENDING))
Index("notice_by_order", notice.c.order_id, sqlite_where=text(PENDING), postgresql_where=text(PENDING))
