"""The panel: accounts, sessions, audit log; how long the gateway took, ended calls, what is looked for."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# index -> table, its columns, and of which rows
INDEXES = {
    "attempt_by_day": ("attempt", ["created_at", "id"], None),
    "attempt_by_state": ("attempt", ["state", "created_at", "id", "resolution", "code", "amount"], None),
    "attempt_by_mobile": ("attempt", ["mobile", "created_at", "id"], None),
    "attempt_by_last_four": ("attempt", ["last_four", "created_at", "id"], None),
    "attempt_by_method": ("attempt", ["method", "created_at", "id"], None),
    "attempt_in_doubt": ("attempt", ["created_at", "id"], "review <> '' OR state = 'unknown'"),
    "attempt_by_ref": ("attempt", ["ref_id"], "ref_id <> ''"),
    "history_by_state": ("history", ["state", "at", "ms"], "ms IS NOT NULL"),
    "call_record_by_state": ("call_record", ["reached", "status", "ended_at", "ms"], None),
    "session_by_account": ("session", ["account_id"], None),
    "audit_by_time": ("audit", ["at", "id"], None),
    "audit_by_action": ("audit", ["action", "at", "who", "address"], None),
    "audit_by_attempt": ("audit", ["attempt_id"], "attempt_id IS NOT NULL"),
}


def upgrade() -> None:
    """Widen `history` and `attempt`, make the tables and the indexes, guard the audit log."""
    op.add_column("history", sa.Column("ms", sa.Integer))
    op.add_column("attempt", sa.Column("last_four", sa.String(4), nullable=False, server_default=""))
    op.execute("UPDATE attempt SET last_four = substr(card, 13)")  # of 603799******7893
    op.create_table(
        "call_record",
        sa.Column("id", _id, primary_key=True),
        sa.Column("ended_at", sa.String(32), nullable=False),
        sa.Column("reached", sa.String(10), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("reason", sa.String(80), nullable=False),
        sa.Column("ms", sa.BigInteger, nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("attempt_id", _id),
    )
    op.create_table(
        "account",
        sa.Column("id", _id, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False, unique=True),
        sa.Column("role", sa.String(12), nullable=False),
        sa.Column("password", sa.String(200), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("changed_at", sa.String(32), nullable=False),
        sa.Column("disabled_at", sa.String(32), nullable=False, server_default=""),
    )
    op.create_table(
        "session",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("account_id", _id, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("begun_at", sa.String(32), nullable=False),
        sa.Column("seen_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32), nullable=False, server_default=""),
    )
    op.create_table(
        "audit",
        sa.Column("id", _id, primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("who", sa.String(40), nullable=False),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("attempt_id", _id),
        sa.Column("about", sa.Text, nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    for name in ("attempt_by_day", "attempt_by_state", "attempt_to_review"):
        op.drop_index(name, "attempt")
    for name, (table, columns, where) in INDEXES.items():
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
    for event in ("DELETE", "UPDATE"):
        _guard(f"audit_no_{event.lower()}", event)


def _guard(name: str, event: str) -> None:
    refusal = "the audit log is append-only"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON audit BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION '{refusal}' USING ERRCODE = 'check_violation'; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON audit FOR EACH ROW EXECUTE FUNCTION {name}()")
