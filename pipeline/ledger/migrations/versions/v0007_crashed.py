"""That a delivery went out again after a crash had left it open: its result says so however often it is parked in between."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Of what is open now the row says it still."""
    op.add_column("deliveries", sa.Column("crashed", sa.Boolean, nullable=False, server_default=sa.false()))
