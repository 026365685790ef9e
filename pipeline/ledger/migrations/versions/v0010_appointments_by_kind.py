"""As 0009, for partners of appointments that have another name: whoever has identities of appointments is one of them."""

from alembic import op

revision = "0010"
down_revision = "0009"

OTHERS = "partner <> 'medmij' AND partner IN (SELECT partner FROM identities WHERE kind = 'appointment')"


def upgrade() -> None:
    """A merge that was only recorded here has to be told again, or joined by an operator."""
    op.execute(
        f"UPDATE identities SET partner_id = NULL, merged_into = NULL, merged_ms = NULL WHERE kind = 'patient' AND {OTHERS}"  # noqa: S608 - ours
    )
    op.execute(f"UPDATE identities SET belongs_to = NULL WHERE kind = 'appointment' AND {OTHERS}")  # noqa: S608 - as above
