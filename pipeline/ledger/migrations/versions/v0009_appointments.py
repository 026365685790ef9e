"""Whose an appointment is, the store of appointments says: what the ledger had of it stands in the way of merges there."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """A merge that was only recorded here has to be told again, or joined by an operator."""
    op.execute(
        "UPDATE identities SET partner_id = NULL, merged_into = NULL, merged_ms = NULL WHERE partner = 'medmij' AND kind = 'patient'"
    )
    op.execute("UPDATE identities SET belongs_to = NULL WHERE partner = 'medmij' AND kind = 'appointment'")
