"""Attempts and their history.

A migration is frozen: it spells out what it made, whatever `tables.py` says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make both tables and their indexes."""
    op.create_table(
        "attempt",
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
        sa.CheckConstraint(
            "state NOT IN ('created', 'otp_sent', 'paid', 'sent', 'unknown') OR holds_order",
            name="attempt_holds_order",
        ),
        sa.CheckConstraint("amount > 0", name="attempt_amount"),
        sa.CheckConstraint("state <> 'paid' OR ref_id <> ''", name="attempt_paid_has_ref_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "attempt_one_per_order",
        "attempt",
        ["order_id"],
        unique=True,
        sqlite_where=sa.text("holds_order"),
        postgresql_where=sa.text("holds_order"),
    )
    op.create_index("attempt_by_order", "attempt", ["order_id"])
    op.create_index("attempt_by_state", "attempt", ["state"])
    op.create_table(
        "history",
        sa.Column("id", _id, primary_key=True),
        sa.Column("attempt_id", _id, sa.ForeignKey("attempt.id"), nullable=False, index=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("owner", sa.String(160), nullable=False),
        sqlite_autoincrement=True,
    )
