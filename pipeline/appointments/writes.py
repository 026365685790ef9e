"""The rows of one change: whose it is, whether it is the newest, what it makes of the older one. Runs in a transaction of sql.py's.

On PostgreSQL a person's row is locked before anything of the person is read to be written; new keys queue at one row, and are read again behind it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, or_, select, update

from pipeline.appointments.changes import as_own, books, copy_id, is_over, with_body
from pipeline.appointments.newest import (
    is_remembered,
    no_more_remembered,
    order_in,
    remember,
    remembered,
    show_newest,
    start_in,
    supersede,
    words_in,
)
from pipeline.appointments.port import Change, Key, Put
from pipeline.appointments.tables import (
    APPOINTMENT_FACTS,
    APPOINTMENTS,
    NEVER,
    PERSON_KEYS,
    PERSONS,
    REMEMBERED,
    RESOURCES,
    SUPERSEDED,
)
from pipeline.appointments.told import Order, Untimed, Words, as_text, joined, shown, without, words_of

LINKS: Final = "links"
ORDER: Final = ("event_ms", "topic", "partition", "offset")
KEPT: Final = (RESOURCES.c.type, RESOURCES.c.id, *(RESOURCES.c[name] for name in ORDER), RESOURCES.c.body.is_(None).label("gone"))
REMEMBER_MS: Final = 400 * 24 * 3_600_000
"""How long is remembered what was told of what nobody announced: an older announcement may come by a replay."""


def order_of(change: Change) -> Order:
    """What decides which of two versions is the newer: the same whichever came first. A change without a place is older than one with it."""
    place, event_ms = change.position, change.event_ms or 0
    return (event_ms, place.topic, place.partition, place.offset) if place else (event_ms, "", -1, -1)


def _timed(change: Change, before: Row[Any] | None) -> Change:
    """One of which nobody knows how old it is counts as being as old as what is there: then its place decides."""
    return replace(change, event_ms=before.event_ms) if change.event_ms is None and before is not None else change


def put(connection: Connection, change: Change, at_ms: int) -> Put:
    """See the port."""
    whose = _person_held(connection, change.keys)
    if whose is None:
        return Put.CONFLICT
    person, new, version = whose
    placed = _placed(connection, change, person)
    if placed is None:
        _cancels_anothers(connection, change, person, at_ms)
        return Put.ANOTHERS
    change, mine = placed
    before = remembered(connection, change, person)
    told = _told(change, before, mine)
    if not mine and not change.announces:
        remember(connection, change, told, at_ms)
        return Put.REMEMBERED
    if mine and order_of(change) < order_in(mine[0]):
        return _told_late(connection, mine[0], told, (version + 1, at_ms))
    try:
        change = with_body(change, shown(told, change.resources["Appointment", change.appointment]))
    except Untimed:
        return Put.UNTIMED
    more = person is not None and is_remembered(connection, new)
    if person is None:
        person = made(connection)
    link(connection, person, new)
    _write(connection, change, person, version + 1, as_text(told))
    if before:
        no_more_remembered(connection, change, person)
    done = _over(connection, change, mine, (version + 1, at_ms))
    if more:
        show_newest(connection, person, version + 1, at_ms)
    return done


def _over(connection: Connection, change: Change, mine: list[Row[Any]], at: tuple[int, int]) -> Put:
    """What the new version leaves of the older ones."""
    version, at_ms = at
    if not mine:
        return Put.CREATED
    for row in mine:
        if row.shown:
            supersede(connection, row, version, at_ms)
    others = [row.id for row in mine if row.id != change.appointment]
    if others:
        connection.execute(delete(APPOINTMENTS).where(APPOINTMENTS.c.id.in_(others)))
    refs = set[str]().union(*(lines(row.refs) for row in mine))
    drop(connection, mine[0].person, refs - {f"{kind}/{name}" for kind, name in _referenced(change)})
    return Put.UPDATED


# what was told


def _told(change: Change, before: Words, mine: Iterable[Row[Any]]) -> Words:
    """By this message, by what is remembered from before, and by what is there."""
    others = (before, *map(words_in, mine))
    return joined(_words_of(change), *(without(each, order_of(change)) for each in others))


def _cancels_anothers(connection: Connection, change: Change, person: int | None, at_ms: int) -> None:
    """What is cancelled must not stay booked, should the two turn out to be one: a cancel counts from then on. What was released is not what it is about."""
    if is_over(change.resources["Appointment", change.appointment]) and not (
        person is not None and _is_released(connection, change, person)
    ):
        remember(connection, change, _told(change, remembered(connection, change, person), ()), at_ms)


def _words_of(change: Change) -> Words:
    return words_of(orjson.loads(change.resources["Appointment", change.appointment]), order_of(change), change.says)


def _told_late(connection: Connection, before: Row[Any], told: Words, at: tuple[int, int]) -> Put:
    """An older message: the newer version stays, with what this one says of its status and its times where nothing newer did."""
    version, at_ms = at
    body = shown(told, before.body)
    here = APPOINTMENTS.c.id == before.id
    connection.execute(update(APPOINTMENTS).where(here).values(told=as_text(told)))
    if body == before.body:
        return Put.STALE
    values = {"body": body, "since": version, "start_ms": start_in(body)}
    connection.execute(update(PERSONS).where(PERSONS.c.id == before.person).values(version=version))
    connection.execute(update(APPOINTMENTS).where(here).values(**values))
    supersede(connection, before, version, at_ms)
    return Put.UPDATED


# where it stands


def _placed(connection: Connection, change: Change, person: int | None) -> tuple[Change, list[Row[Any]]] | None:
    """The change under the id that this person has it under, with what it goes over, newest first; None: it is another person's alone."""
    every = copies(connection, change.appointment)
    mine = sorted((row for row in every if row.person == person), key=order_in, reverse=True)
    if mine:
        return _timed(_under(change, mine), mine[0]), mine
    if person is not None and _is_released(connection, change, person):
        return None
    if not every:
        return change, []
    if change.own is None or not (change.shared or all(is_over(row.body) for row in every if row.shown)):
        return None
    if all(row.id != change.appointment for row in every):
        return change, []
    return as_own(replace(change, own=free(connection, change.own))), []


def _is_released(connection: Connection, change: Change, person: int) -> bool:
    """Whether the number was taken from this person for another one, and the message does not book it anew since."""
    named = and_(APPOINTMENTS.c.released_of == (change.copy_of or change.appointment), APPOINTMENTS.c.person == person)
    since = connection.execute(select(func.max(APPOINTMENTS.c.released_ms)).where(named)).scalar()
    return since is not None and not (books(change) and change.event_ms is not None and change.event_ms > since)


def copies(connection: Connection, appointment: str) -> Sequence[Row[Any]]:
    """Whatever anybody has of it: itself, and copies. One has several of it, where two of whom each had one are one person now."""
    of_it = or_(APPOINTMENTS.c.id == appointment, APPOINTMENTS.c.copy_of == appointment)
    return connection.execute(select(APPOINTMENTS).where(of_it).order_by(APPOINTMENTS.c.id)).all()


def _under(change: Change, mine: Sequence[Row[Any]]) -> Change:
    """Under its own id where that is the person's, else under that of the newest copy."""
    itself = next((row for row in mine if row.id == change.appointment), None)
    if itself is None:
        return as_own(replace(change, own=mine[0].id))
    return replace(change, copy_of=itself.copy_of)


def free(connection: Connection, name: str) -> str:
    """An id for a copy: the one that is asked for, unless it is somebody's."""
    while connection.execute(select(APPOINTMENTS.c.id).where(APPOINTMENTS.c.id == name)).first() is not None:
        name = copy_id(name, "")
    return name


def _person_held(connection: Connection, keys: tuple[Key, ...]) -> tuple[int | None, list[Key], int] | None:
    """As `_person`, with the person's version; its row is held, and nobody has joined or parted it between reading its keys and that."""
    whose = _person(connection, keys)
    while whose is not None and whose[0] is not None:
        version = connection.execute(select(PERSONS.c.version).where(PERSONS.c.id == whose[0]).with_for_update()).scalar()
        again = whose if connection.dialect.name == "sqlite" else _person(connection, keys)  # SQLite has one writer at a time
        if version is not None and again == whose:
            return (*whose, int(version))
        whose = again
    return whose and (*whose, 0)


def _person(connection: Connection, keys: tuple[Key, ...]) -> tuple[int | None, list[Key]] | None:
    """The person whom the keys name (None: nobody yet) and the keys that are new; None where they are not one person's."""
    if len({key.hash for key in keys if key.sole}) > 1:
        return None
    known = known_of(connection, keys)
    if len(known) < len(keys):
        queue(connection)
        known = known_of(connection, keys)
    persons = set(known.values())
    if len(persons) > 1:
        return None
    new = [key for key in keys if key.hash not in known]
    person = persons.pop() if persons else None
    return None if _another_sole(connection, person, new) else (person, new)


def queue(connection: Connection) -> None:
    """Whoever links new keys, or joins and parts persons, does it behind the others who do."""
    connection.execute(select(APPOINTMENT_FACTS.c.value).where(APPOINTMENT_FACTS.c.name == LINKS).with_for_update())


def known_of(connection: Connection, keys: Iterable[Key]) -> dict[str, int]:
    """The persons of the keys that are known."""
    statement = select(PERSON_KEYS.c.hash, PERSON_KEYS.c.person).where(PERSON_KEYS.c.hash.in_([key.hash for key in keys]))
    return {row.hash: row.person for row in connection.execute(statement)}


def _another_sole(connection: Connection, person: int | None, new: Iterable[Key]) -> bool:
    """Whether a person would have two of what one has one of."""
    if person is None or not any(key.sole for key in new):
        return False
    has = select(func.count()).select_from(PERSON_KEYS).where(PERSON_KEYS.c.person == person, PERSON_KEYS.c.sole)
    return bool(connection.execute(has).scalar())


def made(connection: Connection) -> int:
    """A new person."""
    return int(connection.execute(insert(PERSONS).values(version=0, purged=0).returning(PERSONS.c.id)).scalar_one())


def link(connection: Connection, person: int, new: Iterable[Key]) -> None:
    """From now on these keys are the person's."""
    rows = [{"hash": key.hash, "person": person, "sole": key.sole} for key in {key.hash: key for key in new}.values()]
    if rows:
        connection.execute(insert(PERSON_KEYS), rows)


def _write(connection: Connection, change: Change, person: int, version: int, told: str) -> None:
    values = dict(zip(ORDER, order_of(change), strict=True)) | {
        "id": change.appointment,
        "person": person,
        "start_ms": NEVER if change.start_ms is None else change.start_ms,
        "since": version,
        "refs": "\n".join(f"{kind}/{name}" for kind, name in _referenced(change)),
        "body": change.resources["Appointment", change.appointment],
        "came_with": "\n".join(sorted({key.hash for key in change.keys})),
        "copy_of": change.copy_of,
        "shown": True,
        "told": told,
    }
    connection.execute(update(PERSONS).where(PERSONS.c.id == person).values(version=version))
    _upsert(connection, APPOINTMENTS, ("id", "person"), values)  # what somebody else wrote meanwhile is not taken from him
    _resources(connection, change, person)


def _referenced(change: Change) -> dict[tuple[str, str], bytes]:
    return {place: body for place, body in change.resources.items() if place != ("Appointment", change.appointment)}


def _upsert(connection: Connection, table: Table, key: tuple[str, ...], values: Mapping[str, Any]) -> None:
    here = [table.c[name] == values[name] for name in key]
    if connection.execute(update(table).where(*here).values(**values)).rowcount == 0:
        connection.execute(insert(table).values(**values))


def _resources(connection: Connection, change: Change, person: int) -> None:
    """Of what several appointments reference the newest stays; what was gone is there again."""
    order = order_of(change)
    kept = {(row.type, row.id): row for row in connection.execute(select(*KEPT).where(RESOURCES.c.person == person))}
    for (kind, name), body in _referenced(change).items():
        there = kept.get((kind, name))
        if there is None or there.gone or order >= order_in(there):
            values = dict(zip(ORDER, order, strict=True)) | {"person": person, "type": kind, "id": name, "body": body}
            _upsert(connection, RESOURCES, ("person", "type", "id"), values)


def drop(connection: Connection, person: int, dropped: set[str]) -> None:
    """What no appointment of the person references any more is gone."""
    if not dropped:
        return
    for row in connection.execute(select(APPOINTMENTS.c.refs).where(APPOINTMENTS.c.person == person)):
        dropped -= lines(row.refs)
    for kind, _, name in (each.partition("/") for each in sorted(dropped)):
        here = (RESOURCES.c.person == person, RESOURCES.c.type == kind, RESOURCES.c.id == name)
        connection.execute(update(RESOURCES).where(*here).values(body=None))


def purge(connection: Connection, before_ms: int) -> None:
    """Older versions that no search goes on with: they are gone, and their persons' rows say how far."""
    old = SUPERSEDED.c.at_ms < before_ms
    last = select(func.max(SUPERSEDED.c.until)).where(old, SUPERSEDED.c.person == PERSONS.c.id).scalar_subquery()
    connection.execute(update(PERSONS).where(PERSONS.c.id.in_(select(SUPERSEDED.c.person).where(old))).values(purged=last))
    connection.execute(delete(SUPERSEDED).where(old))
    connection.execute(delete(REMEMBERED).where(REMEMBERED.c.at_ms < before_ms - REMEMBER_MS))


def lines(text: str) -> set[str]:
    """What a column has on lines."""
    return set(text.split("\n")) - {""}
