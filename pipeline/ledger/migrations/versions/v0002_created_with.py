"""The identity that a create went out under: where a partner goes by its business id, that is the one to update by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; of those that are known already it is not known."""
    op.add_column("identities", sa.Column("created_with", sa.Boolean, nullable=False, server_default=sa.false()))
