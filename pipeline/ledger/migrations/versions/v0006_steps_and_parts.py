"""The steps of a delivery, the visit that a message is about, and whose a visit or coverage is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Every delivery so far has one step, and no partner kept more than patients."""
    op.add_column("deliveries", sa.Column("sent_step", sa.Integer, nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("about", sa.Text))
    about = sa.text("about IS NOT NULL")
    op.create_index("ix_deliveries_about", "deliveries", ["about"], sqlite_where=about, postgresql_where=about)
    op.add_column("identities", sa.Column("belongs_to", sa.Text))
