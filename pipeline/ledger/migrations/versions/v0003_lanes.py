"""Lanes of their own: an open delivery has one for each of the patient's identities; and a count of intents, which the next one has to name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """What is open keeps its lane; of what was begun before, each attempt counts as one intent."""
    op.add_column("deliveries", sa.Column("intents", sa.Integer, nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("open", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "open_lanes",
        sa.Column("route", sa.Text),
        sa.Column("lane", sa.Text),
        sa.Column("delivery", ROW_ID, nullable=False),
        sa.PrimaryKeyConstraint("route", "lane", name="pk_open_lanes"),
        sa.ForeignKeyConstraint(["delivery"], ["deliveries.id"], name="fk_open_lanes_delivery"),
    )
    op.create_index("ix_open_lanes_delivery", "open_lanes", ["delivery"])
    op.create_table(
        "also",
        sa.Column("lane", sa.Text),
        sa.Column("delivery", ROW_ID),
        sa.PrimaryKeyConstraint("lane", "delivery", name="pk_also"),
        sa.ForeignKeyConstraint(["delivery"], ["deliveries.id"], name="fk_also_delivery"),
    )
    op.create_index("ix_also_delivery", "also", ["delivery"])
    op.execute(
        "INSERT INTO open_lanes (route, lane, delivery) SELECT route, open_lane, id FROM deliveries WHERE open_lane IS NOT NULL"
    )
    op.execute("UPDATE deliveries SET intents = attempt, open = (open_lane IS NOT NULL)")
    op.drop_index("ix_deliveries_open_lane", "deliveries")
    op.drop_column("deliveries", "open_lane")
