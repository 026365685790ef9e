"""What the messages of an appointment told last of its status and its times; and what was told of one that nobody announced yet."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Of what is there already what it shows counts as told by its version."""
    op.add_column("appointments", sa.Column("told", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "remembered_words",
        sa.Column("id", NAME, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", "hash", name="pk_remembered_words"),
    )
    op.create_index("remembered_of_a_key", "remembered_words", ["hash"])
    op.create_index("remembered_by_age", "remembered_words", ["at_ms"])
