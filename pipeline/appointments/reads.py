"""What is asked of the store: one statement each, prepared, always of one person. Nothing is written here."""

from typing import Any, Final

from sqlalchemy import and_, bindparam, select, true, tuple_, union_all

from pipeline.appointments.tables import APPOINTMENTS, PERSON_KEYS, PERSONS, RESOURCES, SUPERSEDED
from pipeline.database.prepared import Prepared

FOUND: Final = ("id", "since", "start_ms", "body")


def _within(table: Any, *, backwards: bool) -> Any:  # noqa: ANN401 - SQLAlchemy's columns
    """Of the person, in the stretch, behind the cursor."""
    here, cursor = tuple_(table.c.start_ms, table.c.id), tuple_(bindparam("after_ms"), bindparam("after_id"))
    return and_(
        table.c.person == bindparam("person"),
        table.c.start_ms >= bindparam("from_ms"),
        table.c.start_ms < bindparam("until_ms"),
        *((table.c.shown,) if "shown" in table.c else ()),
        here < cursor if backwards else here > cursor,
    )


def _by_start(table: Any, *, backwards: bool) -> list[Any]:  # noqa: ANN401 - as above
    return [column.desc() if backwards else column for column in (table.c.start_ms, table.c.id)]


def _now(*, backwards: bool) -> Prepared:
    return Prepared(
        select(PERSONS.c.version, *(APPOINTMENTS.c[name] for name in FOUND))
        .select_from(PERSONS.outerjoin(APPOINTMENTS, _within(APPOINTMENTS, backwards=backwards)))
        .where(PERSONS.c.id == bindparam("person"))
        .order_by(*_by_start(APPOINTMENTS, backwards=backwards))
        .limit(bindparam("count"))
    )


def _then(*, backwards: bool) -> Prepared:
    now, before = _within(APPOINTMENTS, backwards=backwards), _within(SUPERSEDED, backwards=backwards)
    then = union_all(
        select(*(APPOINTMENTS.c[name] for name in FOUND)).where(now, APPOINTMENTS.c.since <= bindparam("at")),
        select(*(SUPERSEDED.c[name] for name in FOUND)).where(
            before, SUPERSEDED.c.since <= bindparam("at"), SUPERSEDED.c.until > bindparam("at")
        ),
    ).subquery("then")
    return Prepared(
        select(PERSONS.c.purged, *(then.c[name] for name in FOUND))
        .select_from(PERSONS.outerjoin(then, true()))
        .where(PERSONS.c.id == bindparam("person"))
        .order_by(*_by_start(then, backwards=backwards))
        .limit(bindparam("count"))
    )


PERSON: Final = Prepared(select(PERSON_KEYS.c.person).where(PERSON_KEYS.c.hash == bindparam("hash")))
SOLE_KEY: Final = Prepared(select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == bindparam("person"), PERSON_KEYS.c.sole))
NOW: Final = {backwards: _now(backwards=backwards) for backwards in (False, True)}
"""As it is, with the person's version in the same snapshot; one row without an appointment where there is none."""
THEN: Final = {backwards: _then(backwards=backwards) for backwards in (False, True)}
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
