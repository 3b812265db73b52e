"""A ledger: resolutions, keyed card hashes, step keys, processes, notices, and triggers that hold it.

A migration is frozen: it spells out what it made, whatever `tables.py` says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")

STATES = "'created', 'declined', 'failed', 'otp_sent', 'paid', 'resolved', 'sent', 'unknown'"
HOLDING = "'created', 'otp_sent', 'paid', 'sent', 'unknown'"
FOLLOWS = {
    "created": "'failed', 'otp_sent'",
    "otp_sent": "'failed', 'otp_sent', 'sent'",
    "sent": "'declined', 'failed', 'paid', 'unknown'",
    "unknown": "'declined', 'failed', 'paid', 'resolved'",
    "paid": "'resolved'",
    "declined": "'resolved'",
    "failed": "'resolved'",
    "resolved": "'resolved'",
}
ALLOWED = " OR ".join(
    f"(OLD.state = '{before}' AND NEW.state IN ({after}))" for before, after in FOLLOWS.items()
)
PENDING = "delivered_at = '' AND given_up_at = ''"
# What may happen to a row -> the sentence that refuses anything else.
GUARDS = (
    ("attempt_step", "UPDATE OF state ON attempt", f"({ALLOWED})", "no step leads there"),
    ("attempt_stays", "DELETE ON attempt", "", "an attempt is never deleted"),
    ("history_stays", "DELETE ON history", "", "the history is append-only"),
    ("history_stands", "UPDATE ON history", "", "the history is append-only"),
)


def _attempt_of_0001() -> sa.Table:
    """As 0001 made it: SQLite cannot change a check, so the table is made anew from this."""
    table = sa.Table(
        "attempt",
        sa.MetaData(),
        sa.Column("id", _id, primary_key=True),
        sa.Column("order_id", sa.String(50), nullable=False),
        sa.Column("method", sa.String(3), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("card", sa.String(16), nullable=False),
        sa.Column("mobile", sa.String(13), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("holds_order", sa.Boolean, nullable=False),
        sa.Column("code", sa.String(10), nullable=False, server_default=""),
        sa.Column("ref_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("review", sa.String(10), nullable=False, server_default=""),
        sa.Column("reason", sa.String(80), nullable=False, server_default=""),
        sa.Column("pins_sent", sa.Integer, nullable=False, server_default="0"),
        sa.Column("call", sa.String(64), nullable=False, server_default=""),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("updated_at", sa.String(32), nullable=False),
        sa.CheckConstraint(
            "state IN ('created', 'declined', 'failed', 'otp_sent', 'paid', 'sent', 'unknown')",
            name="attempt_state",
        ),
        sa.CheckConstraint(f"state NOT IN ({HOLDING}) OR holds_order", name="attempt_holds_order"),
        sa.CheckConstraint("amount > 0", name="attempt_amount"),
        sa.CheckConstraint("state <> 'paid' OR ref_id <> ''", name="attempt_paid_has_ref_id"),
        sqlite_autoincrement=True,
    )
    sa.Index(
        "attempt_one_per_order",
        table.c.order_id,
        unique=True,
        sqlite_where=sa.text("holds_order"),
        postgresql_where=sa.text("holds_order"),
    )
    sa.Index("attempt_by_order", table.c.order_id)
    sa.Index("attempt_by_state", table.c.state)
    return table


def upgrade() -> None:
    """Widen `attempt` and `history`, make the other tables, set the guards."""
    with op.batch_alter_table(
        "attempt", copy_from=_attempt_of_0001(), table_kwargs={"sqlite_autoincrement": True}
    ) as batch:
        for name, kind in (
            ("card_hash", sa.String(80)),
            ("resolution", sa.String(8)),
            ("resolved_by", sa.String(80)),
            ("resolved_at", sa.String(32)),
            ("evidence", sa.Text),
        ):
            batch.add_column(sa.Column(name, kind, nullable=False, server_default=""))
        batch.drop_constraint("attempt_state", type_="check")
        batch.create_check_constraint("attempt_state", sa.text(f"state IN ({STATES})"))
        batch.create_check_constraint(
            "attempt_resolved_has_evidence",
            sa.text(
                "state <> 'resolved' OR (resolution IN ('paid', 'not-paid') AND resolved_by <> ''"
                " AND resolved_at <> '' AND evidence <> '' AND (resolution <> 'paid' OR ref_id <> ''))"
            ),
        )
    op.create_index("attempt_by_day", "attempt", ["created_at"])
    for name, column, where in (
        ("attempt_to_review", "id", "review <> ''"),
        ("attempt_by_card", "card_hash", "card_hash <> ''"),
    ):
        op.create_index(
            name, "attempt", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    with op.batch_alter_table("history", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(sa.Column("key", sa.String(32)))
        batch.create_unique_constraint("history_key_key", ["key"])
    op.create_table(
        "process",
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("since", sa.String(32), nullable=False),
    )
    op.create_table(
        "notice",
        sa.Column("id", _id, primary_key=True),
        sa.Column("key", sa.String(32), nullable=False, unique=True),
        sa.Column("attempt_id", _id, sa.ForeignKey("attempt.id"), nullable=False, index=True),
        sa.Column("order_id", sa.String(50), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("delivered_at", sa.String(32), nullable=False, server_default=""),
        sa.Column("given_up_at", sa.String(32), nullable=False, server_default=""),
        sa.Column("trouble", sa.String(200), nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    for name, column in (("notice_due", "due_at"), ("notice_by_order", "order_id")):
        op.create_index(
            name, "notice", [column], sqlite_where=sa.text(PENDING), postgresql_where=sa.text(PENDING)
        )
    for guard in GUARDS:
        (_guard_sqlite if op.get_bind().dialect.name == "sqlite" else _guard_postgresql)(*guard)


def _guard_sqlite(name: str, event: str, unless: str, refusal: str) -> None:
    when = f" WHEN NOT {unless}" if unless else ""
    op.execute(f"CREATE TRIGGER {name} BEFORE {event}{when} BEGIN SELECT RAISE(ABORT, '{refusal}'); END")


def _guard_postgresql(name: str, event: str, unless: str, refusal: str) -> None:
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION '{refusal}' USING ERRCODE = 'check_violation'; END $$"
    )
    when = f" WHEN (NOT {unless})" if unless else ""
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} FOR EACH ROW{when} EXECUTE FUNCTION {name}()")
