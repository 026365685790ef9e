"""Whose copy an appointment is, and which of several of one person is shown."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

APPOINTMENTS = sa.table("appointments", *(sa.column(name) for name in ("id", "refs", "body", "copy_of")))
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
IDS = uuid.UUID("5b1f6c1de7c05a5e9a7d3c9f2b84d061")
COPIES = uuid.UUID("e1c2b7a09d5f5d0f8a3c6b2e4f7d9013")
"""The namespaces of ids, as they were."""
MANY = 5_000


def upgrade() -> None:
    """An id tells whether it is a copy's: it was made of the id of what it is a copy of, and of its Patient's. Each person shows one of each again."""
    op.add_column("appointments", sa.Column("copy_of", NAME))
    op.add_column("appointments", sa.Column("shown", sa.Boolean, nullable=False, server_default=sa.true()))
    connection = op.get_bind()
    for row in _rows(connection):
        if found := _copy_of(row):
            connection.execute(sa.update(APPOINTMENTS).where(APPOINTMENTS.c.id == row.id).values(copy_of=found))
    where = sa.text("copy_of IS NOT NULL")
    op.create_index("copies_of_an_appointment", "appointments", ["copy_of"], sqlite_where=where, postgresql_where=where)
    op.execute(
        """UPDATE appointments SET shown = false WHERE person IN (SELECT person FROM appointments WHERE copy_of IS NOT NULL) AND EXISTS (
        SELECT 1 FROM appointments AS other WHERE other.person = appointments.person AND other.id <> appointments.id
        AND coalesce(other.copy_of, other.id) = coalesce(appointments.copy_of, appointments.id)
        AND (other.event_ms, other.topic, other.partition, other."offset")
        > (appointments.event_ms, appointments.topic, appointments.partition, appointments."offset"))"""
    )


def _rows(connection: sa.Connection) -> Iterator[sa.Row[Any]]:
    """All, some at a time."""
    last = ""
    while True:
        some = sa.select(APPOINTMENTS).where(APPOINTMENTS.c.id > last).order_by(APPOINTMENTS.c.id).limit(MANY)
        rows = connection.execute(some).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].id


def _copy_of(row: sa.Row[Any]) -> str | None:
    numbers = json.loads(row.body).get("identifier", ())
    patients = [line.partition("/")[2] for line in row.refs.split("\n") if line.startswith("Patient/")]
    for one in numbers:
        names = ("Appointment", one.get("system", ""), one.get("value", ""))
        first = str(uuid.uuid5(IDS, "".join(f"{len(each.encode())}:{each}" for each in names)))
        if any(row.id == str(uuid.uuid5(COPIES, f"{first}\0{patient}")) for patient in patients):
            return first
    return None
