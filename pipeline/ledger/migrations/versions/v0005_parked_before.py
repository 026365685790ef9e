"""What a parked message was about: what a later one of the same patient goes ahead of, waits for, or makes needless."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Of what was parked before it is not known: it waits for a person as it did."""
    op.add_column("deliveries", sa.Column("kind", sa.Text))
    op.add_column("deliveries", sa.Column("subject", sa.Text))
    op.drop_index("ix_deliveries_lane", "deliveries")
    op.create_index("ix_deliveries_lane", "deliveries", ["lane", "state"])
