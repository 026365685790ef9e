"""What a watch has read of a partner, and what it is about to append."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Nothing was watched before."""
    op.create_table(
        "watches",
        sa.Column("watch", sa.Text),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("intent", sa.Text),
        sa.PrimaryKeyConstraint("watch", name="pk_watches"),
    )
    op.create_table(
        "watch_dossiers",
        sa.Column("watch", sa.Text),
        sa.Column("dossier", sa.Text),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("from_ms", sa.BigInteger),
        sa.Column("after_ms", sa.BigInteger),
        sa.Column("polled_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("watch", "dossier", name="pk_watch_dossiers"),
    )
    op.create_table(
        "watch_responses",
        sa.Column("watch", sa.Text),
        sa.Column("response", sa.Text),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("watch", "response", name="pk_watch_responses"),
    )
