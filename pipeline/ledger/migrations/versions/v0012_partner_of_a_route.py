"""A route's first start says to which partner: patients are known by its name, and under another one each would be created again."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Of a route that was started before, the next start says it."""
    op.add_column("routes", sa.Column("partner", sa.Text))
