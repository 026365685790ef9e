"""Of an appointment whose number an operator gave free: which number that was, and when."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Of what was released before, nobody knows the number any more."""
    op.add_column("appointments", sa.Column("released_of", NAME))
    op.add_column("appointments", sa.Column("released_ms", sa.BigInteger))
    where = sa.text("released_of IS NOT NULL")
    op.create_index("released_appointments", "appointments", ["released_of"], sqlite_where=where, postgresql_where=where)
