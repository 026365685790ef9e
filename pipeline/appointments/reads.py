"""What is asked of the store: one statement each, prepared, always of one person. Nothing is written here."""

from typing import Any, Final

from sqlalchemy import and_, bindparam, select, true, tuple_, union_all

from pipeline.appointments.tables import APPOINTMENTS, PERSON_KEYS, PERSONS, RESOURCES, SUPERSEDED
from pipeline.database.prepared import Prepared

FOUND: Final = ("id", "since", "start_ms", "body")


def _within(table: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's columns
    """Of the person, in the stretch, behind the cursor."""
    return and_(
        table.c.person == bindparam("person"),
        table.c.start_ms >= bindparam("from_ms"),
        table.c.start_ms < bindparam("until_ms"),
        *((table.c.shown,) if "shown" in table.c else ()),
        tuple_(table.c.start_ms, table.c.id) > tuple_(bindparam("after_ms"), bindparam("after_id")),
    )


PERSON: Final = Prepared(select(PERSON_KEYS.c.person).where(PERSON_KEYS.c.hash == bindparam("hash")))
SOLE_KEY: Final = Prepared(select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == bindparam("person"), PERSON_KEYS.c.sole))
NOW: Final = Prepared(
    select(PERSONS.c.version, *(APPOINTMENTS.c[name] for name in FOUND))
    .select_from(PERSONS.outerjoin(APPOINTMENTS, _within(APPOINTMENTS)))
    .where(PERSONS.c.id == bindparam("person"))
    .order_by(APPOINTMENTS.c.start_ms, APPOINTMENTS.c.id)
    .limit(bindparam("count"))
)
"""As it is, with the person's version in the same snapshot; one row without an appointment where there is none."""

_THEN: Final = union_all(
    select(*(APPOINTMENTS.c[name] for name in FOUND)).where(_within(APPOINTMENTS), APPOINTMENTS.c.since <= bindparam("at")),
    select(*(SUPERSEDED.c[name] for name in FOUND)).where(
        _within(SUPERSEDED), SUPERSEDED.c.since <= bindparam("at"), SUPERSEDED.c.until > bindparam("at")
    ),
).subquery("then")
THEN: Final = Prepared(
    select(PERSONS.c.purged, *(_THEN.c[name] for name in FOUND))
    .select_from(PERSONS.outerjoin(_THEN, true()))
    .where(PERSONS.c.id == bindparam("person"))
    .order_by(_THEN.c.start_ms, _THEN.c.id)
    .limit(bindparam("count"))
)
"""As it was at a version, with how far that is known."""

READ: Final = Prepared(
    select(RESOURCES.c.body).where(
        RESOURCES.c.person == bindparam("person"), RESOURCES.c.type == bindparam("kind"), RESOURCES.c.id == bindparam("name")
    )
)
APPOINTMENT: Final = Prepared(
    select(APPOINTMENTS.c.body).where(
        APPOINTMENTS.c.person == bindparam("person"), APPOINTMENTS.c.id == bindparam("name"), APPOINTMENTS.c.shown
    )
)
