"""The first tables: persons and their keys, appointments, older versions of them, and what they reference."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "appointment_facts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_appointment_facts"),
    )
    _persons()
    _appointments()
    op.create_table(
        "appointment_resources",
        sa.Column("person", ROW, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("id", NAME, nullable=False),
        *_order(),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("person", "type", "id", name="pk_appointment_resources"),
        sa.ForeignKeyConstraint(["person"], ["persons.id"], name="fk_appointment_resources_person"),
    )


def _order() -> list[sa.Column[object]]:
    return [
        sa.Column("event_ms", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    ]


def _persons() -> None:
    op.create_table(
        "persons",
        sa.Column("id", ROW, nullable=False, autoincrement=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("purged", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_persons"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "person_keys",
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("person", ROW, nullable=False),
        sa.Column("sole", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_person_keys"),
        sa.ForeignKeyConstraint(["person"], ["persons.id"], name="fk_person_keys_person"),
    )
    sole = sa.text("sole")
    op.create_index("one_sole_key_per_person", "person_keys", ["person"], unique=True, sqlite_where=sole, postgresql_where=sole)


def _appointments() -> None:
    op.create_table(
        "appointments",
        sa.Column("id", NAME, nullable=False),
        sa.Column("person", ROW, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        *_order(),
        sa.Column("refs", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_appointments"),
        sa.ForeignKeyConstraint(["person"], ["persons.id"], name="fk_appointments_person"),
    )
    op.create_index("appointments_of_a_person", "appointments", ["person", "start_ms", "id"])
    op.create_table(
        "superseded_appointments",
        sa.Column("row", ROW, nullable=False, autoincrement=True),
        sa.Column("id", NAME, nullable=False),
        sa.Column("person", ROW, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("row", name="pk_superseded_appointments"),
        sa.ForeignKeyConstraint(["person"], ["persons.id"], name="fk_superseded_appointments_person"),
    )
    op.create_index("superseded_of_a_person", "superseded_appointments", ["person", "until"])
    op.create_index("superseded_by_age", "superseded_appointments", ["at_ms"])
