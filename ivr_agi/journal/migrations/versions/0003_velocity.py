"""What limits count, and the pause: attempt.caller and pins_asked, `happening`, `pause`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Widen `attempt`, make the two tables."""
    op.add_column("attempt", sa.Column("caller", sa.String(40), nullable=False, server_default=""))
    op.add_column("attempt", sa.Column("pins_asked", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "happening",
        sa.Column("id", _id, primary_key=True),
        sa.Column("what", sa.String(12), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("order_id", sa.String(50), nullable=False),
        sa.Column("caller", sa.String(40), nullable=False),
        sa.Column("card", sa.String(16), nullable=False),
        sa.Column("card_hash", sa.String(80), nullable=False),
    )
    op.create_index("happening_by_time", "happening", ["what", "at"])
    for column in ("order_id", "caller", "card"):
        op.create_index(f"happening_by_{column}", "happening", [column, "what", "at"])
    op.create_table(
        "pause",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("since", sa.String(32), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.CheckConstraint("id = 1", name="pause_is_one"),
    )
