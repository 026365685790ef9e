"""What a person is shown of an appointment of which there is more than one version: other copies of the person's own, and words that were remembered.

What a version itself said stays in its row (`told`), so that a part gives each side its own back. Runs in a transaction of sql.py's.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from pipeline.appointments.changes import instant_ms
from pipeline.appointments.port import Change, Key
from pipeline.appointments.tables import APPOINTMENTS, NEVER, PERSON_KEYS, PERSONS, REMEMBERED, SUPERSEDED
from pipeline.appointments.told import TIMES, Order, Words, as_text, joined, of_row, of_text, of_texts, shown


def order_in(row: Row[Any]) -> Order:
    """What decides which of two rows is the newer (writes.order_of)."""
    return (row.event_ms, row.topic, row.partition, row.offset)


def words_in(row: Row[Any]) -> Words:
    """What the messages of one row told."""
    return of_row(row.told, row.body, order_in(row))


def start_in(body: bytes) -> int:
    """Its start, for the column."""
    start = orjson.loads(body).get("start")
    return NEVER if start is None else instant_ms(start)


def supersede(connection: Connection, before: Row[Any], version: int, at_ms: int) -> None:
    """The older version, for the searches that began before."""
    values = {name: getattr(before, name) for name in ("id", "person", "start_ms", "since", "body")}
    connection.execute(insert(SUPERSEDED).values(**values, until=version, at_ms=at_ms))


# which is shown, and as what


def show_newest(connection: Connection, person: int, version: int, at_ms: int) -> None:
    """Of one appointment of which the person has several the newest is shown, with the newest word of all of them, and of what was remembered."""
    several: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(APPOINTMENTS).where(APPOINTMENTS.c.person == person).order_by(APPOINTMENTS.c.id)).all():
        several.setdefault(row.copy_of or row.id, []).append(row)
    remembered = _all_remembered(connection, person)
    for number, rows in several.items():
        newest = max(rows, key=order_in)
        told = joined(*map(words_in, rows), remembered.get(number, {}))
        for row in rows:
            _becomes(connection, row, told if row is newest else None, (version, at_ms))


def _becomes(connection: Connection, row: Row[Any], told: Words | None, at: tuple[int, int]) -> None:
    """Shown as what all told, or hidden."""
    version, at_ms = at
    body = row.body if told is None else _as_told(row, told)
    if row.shown == (told is not None) and body == row.body:
        return
    if row.shown and row.since < version:
        supersede(connection, row, version, at_ms)
    values: dict[str, Any] = {"shown": told is not None, "since": version}
    if body != row.body:
        values |= {"body": body, "start_ms": start_in(body), "told": as_text(words_in(row))}
    connection.execute(update(APPOINTMENTS).where(APPOINTMENTS.c.id == row.id).values(**values))
    connection.execute(update(PERSONS).where(PERSONS.c.id == row.person).values(version=version))


def _as_told(row: Row[Any], told: Words) -> bytes:
    """Times that none of its own messages told are another copy's: they come again where that is there still."""
    own: dict[str, Any] = orjson.loads(row.body)
    if "start" in own and "times" not in words_in(row):
        own = {name: value for name, value in own.items() if name not in TIMES}
    body = shown(told, orjson.dumps(own))
    return bytes(row.body) if orjson.loads(body) == orjson.loads(row.body) else body


# what was told of what is not there


def remembered(connection: Connection, change: Change, person: int | None) -> Words:
    """What was told of it, of this person, where it was not there, or another's."""
    return of_texts(connection.execute(select(REMEMBERED.c.told).where(_of_keys(change, person))).scalars())


def remember(connection: Connection, change: Change, told: Words, at_ms: int) -> None:
    """For each of its keys: it counts wherever one of them turns out to be of whoever has it."""
    name = change.copy_of or change.appointment
    hashes = {key.hash for key in change.keys}
    connection.execute(delete(REMEMBERED).where(REMEMBERED.c.id == name, REMEMBERED.c.hash.in_(hashes)))
    rows = [{"id": name, "hash": each, "told": as_text(told), "at_ms": at_ms} for each in sorted(hashes)]
    connection.execute(insert(REMEMBERED), rows)


def no_more_remembered(connection: Connection, change: Change, person: int) -> None:
    """A version has it now."""
    connection.execute(delete(REMEMBERED).where(_of_keys(change, person)))


def is_remembered(connection: Connection, keys: Iterable[Key]) -> bool:
    """Whether something was told under one of these."""
    there = select(REMEMBERED.c.id).where(REMEMBERED.c.hash.in_([key.hash for key in keys])).limit(1)
    return connection.execute(there).first() is not None


def _of_keys(change: Change, person: int | None) -> ColumnElement[bool]:
    """The person's words of it: under the keys that the change has, and under all others of the person's."""
    known = select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == person)
    mine = or_(REMEMBERED.c.hash.in_([key.hash for key in change.keys]), REMEMBERED.c.hash.in_(known))
    return and_(REMEMBERED.c.id == (change.copy_of or change.appointment), mine)


def _all_remembered(connection: Connection, person: int) -> dict[str, Words]:
    """All that was told under the person's keys, by the number."""
    known = select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == person)
    found: dict[str, Words] = {}
    for row in connection.execute(select(REMEMBERED.c.id, REMEMBERED.c.told).where(REMEMBERED.c.hash.in_(known))):
        found[row.id] = joined(found.get(row.id, {}), of_text(row.told))
    return found


def settled(connection: Connection, rows: Iterable[Row[Any]], person: int) -> Words:
    """All that was told of an appointment of the person, of which these are the rows; what was remembered of it is remembered no more."""
    rows = list(rows)
    number = rows[0].copy_of or rows[0].id
    told = joined(*map(words_in, rows), _all_remembered(connection, person).get(number, {}))
    known = select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == person)
    connection.execute(delete(REMEMBERED).where(REMEMBERED.c.id == number, REMEMBERED.c.hash.in_(known)))
    return told
