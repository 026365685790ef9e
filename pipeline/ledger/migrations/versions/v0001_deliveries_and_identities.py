"""Deliveries, identities, subjects, first starts. A migration is never changed once it was released: the next one mends it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "facts",
        sa.Column("name", sa.Text),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.create_table(
        "routes",
        sa.Column("route", sa.Text),
        sa.Column("consumer_group", sa.Text, nullable=False),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("route", name="pk_routes"),
    )
    _deliveries()
    _identities()
    op.create_table(
        "subjects",
        sa.Column("route", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("sender", sa.Text),
        sa.Column("event_ms", sa.BigInteger),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("route", "subject", "sender", name="pk_subjects"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", ROW_ID, autoincrement=True),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("partner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("place", sa.Text),
        sa.Column("event", sa.Text),
        sa.Column("control_id", sa.Text),
        sa.Column("sender", sa.Text),
        sa.Column("event_ms", sa.BigInteger),
        sa.Column("lane", sa.Text),
        sa.Column("open_lane", sa.Text),
        sa.Column("dedupe", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("pointer", sa.Text),
        sa.Column("step", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("intent", sa.Text),
        sa.Column("operation", sa.Text),
        sa.Column("mapping_version", sa.Text),
        sa.Column("sent_ms", sa.BigInteger),
        sa.Column("deadline_ms", sa.BigInteger),
        sa.Column("http_status", sa.Integer),
        sa.Column("response_ms", sa.Float),
        sa.Column("result_id", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("emitted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("route", "topic", "partition", "offset", name="uq_deliveries_route"),
    )
    op.create_index("ix_deliveries_open_lane", "deliveries", ["route", "open_lane"], unique=True)
    op.create_index("ix_deliveries_dedupe", "deliveries", ["dedupe"])
    op.create_index("ix_deliveries_control_id", "deliveries", ["control_id", "route", "sender", "dedupe"])
    op.create_index("ix_deliveries_lane", "deliveries", ["lane"])
    op.create_index("ix_deliveries_request_id", "deliveries", ["request_id"])
    op.create_index("ix_deliveries_state", "deliveries", ["route", "state"])
    op.create_index("ix_deliveries_at_ms", "deliveries", ["at_ms"])


def _identities() -> None:
    op.create_table(
        "identities",
        sa.Column("partner", sa.Text),
        sa.Column("hash", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("known", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("partner_id", sa.Text),
        sa.Column("merged_into", sa.Text),
        sa.Column("merged_ms", sa.BigInteger),
        sa.Column("creating", ROW_ID, sa.ForeignKey("deliveries.id", name="fk_identities_creating")),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("partner", "hash", name="pk_identities"),
    )
    op.create_index("ix_identities_merged_into", "identities", ["partner", "merged_into"])
    op.create_index("ix_identities_creating", "identities", ["creating"])
