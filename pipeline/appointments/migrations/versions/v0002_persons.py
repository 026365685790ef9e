"""Which keys an appointment came with, which keys a person said are two persons', and what was done to persons."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROW = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Of what is there already nobody knows which keys it came with."""
    op.add_column("appointments", sa.Column("came_with", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "parted_keys",
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("other", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", "other", name="pk_parted_keys"),
    )
    op.create_table(
        "person_deeds",
        sa.Column("id", ROW, nullable=False, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text),
        sa.Column("person", ROW, nullable=False),
        sa.Column("other", ROW),
        sa.Column("keys", sa.Integer, nullable=False),
        sa.Column("appointments", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person_deeds"),
        sqlite_autoincrement=True,
    )
    op.create_index("deeds_of_a_person", "person_deeds", ["person"])
    op.create_index("deeds_of_another_person", "person_deeds", ["other"])
