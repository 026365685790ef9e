"""Replay plans, the audit of what people did, and of each delivery which plan settled it and hashes of what went out."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Of what was sent before, no hashes are known."""
    op.add_column("deliveries", sa.Column("replay", sa.Text))
    op.add_column("deliveries", sa.Column("sent", sa.Text))
    unemitted = sa.text("result IS NOT NULL")
    op.create_index(
        "ix_deliveries_unemitted", "deliveries", ["route", "at_ms"], sqlite_where=unemitted, postgresql_where=unemitted
    )
    _replays()
    op.create_table(
        "audit",
        sa.Column("id", ROW_ID, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("why", sa.Text),
        sa.Column("route", sa.Text),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.Integer),
        sa.Column("offset", sa.BigInteger),
        sa.Column("replay", sa.Text),
        sa.Column("plan_hash", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_position", "audit", ["topic", "partition", "offset"])
    op.create_index("ix_audit_replay", "audit", ["replay"])


def _replays() -> None:
    op.create_table(
        "replays",
        sa.Column("id", sa.Text),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("latest_only", sa.Boolean, nullable=False),
        sa.Column("include_delivered", sa.Boolean, nullable=False),
        sa.Column("force", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
    )
    op.create_index("ix_replays_route", "replays", ["route", "state"])
    op.create_table(
        "replay_items",
        sa.Column("replay", sa.Text),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.Integer),
        sa.Column("offset", sa.BigInteger),
        sa.Column("class", sa.Text, nullable=False),
        sa.Column("was", sa.Text, nullable=False),
        sa.Column("lanes", sa.Text, nullable=False),
        sa.Column("payload_topic", sa.Text),
        sa.Column("payload_partition", sa.Integer),
        sa.Column("payload_offset", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("place", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("replay", "topic", "partition", "offset", name="pk_replay_items"),
        sa.ForeignKeyConstraint(["replay"], ["replays.id"], name="fk_replay_items_replay"),
    )
    op.create_index("ix_replay_items_state", "replay_items", ["replay", "state"])
    op.create_index("ix_replay_items_position", "replay_items", ["topic", "partition", "offset"])
