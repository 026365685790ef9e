"""A plan's next records are found where they stand, however many of it are done already."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """The index that knew only the state goes: this one begins with the same two."""
    op.create_index("ix_replay_items_turn", "replay_items", ["replay", "state", "topic", "partition", "offset"])
    op.drop_index("ix_replay_items_state", "replay_items")
