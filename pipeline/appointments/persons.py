"""Persons become one (a sender's merge, an operator's join), two, or none. Each function runs in a transaction of sql.py's.

Nothing here guesses: two persons who each have a sole key (a BSN) are never joined, and what came with keys of both sides is parted as an operator says.
All queue at the row at which new keys do, so that no key is linked meanwhile; then the rows of the persons are held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from pipeline.appointments.changes import as_id, copy_id, named_only
from pipeline.appointments.newest import order_in, settled, show_newest, supersede
from pipeline.appointments.port import Both, Deed, Did, Done, Key, Merge, Person, Put
from pipeline.appointments.tables import APPOINTMENTS, DEEDS, PARTED, PERSON_KEYS, PERSONS, REMEMBERED, RESOURCES, SUPERSEDED
from pipeline.appointments.told import as_text
from pipeline.appointments.writes import ORDER, copies, drop, free, known_of, lines, link, made, queue
from pipeline.errors import Refused

TWO_SOLE: Final = "each of them has a BSN of its own: two persons, as long as one of the BSNs is not parted from its numbers"


def merge(connection: Connection, merge: Merge, at_ms: int) -> Put:
    """See the port."""
    queue(connection)
    keys = (*merge.survivor, *merge.prior)
    if len(set(known_of(connection, merge.survivor).values())) > 1 or _soles(connection, keys) > 1:
        return Put.CONFLICT
    known = known_of(connection, keys)
    persons = sorted(set(known.values()))
    if len(persons) > 1 and _parted_since(connection, persons, merge.event_ms or 0):
        return Put.STALE
    survivor = next((known[key.hash] for key in merge.survivor if key.hash in known), None)
    before = _Deed(at_ms, Did.MERGED, merge.who)
    return _one(connection, keys, known, before, survivor)


def join(connection: Connection, keys: Sequence[Key], deed: Deed, at_ms: int) -> Put:
    """What an operator says, whatever was said before: CREATED where nobody was known, UPDATED also where they are one already. Refused: two sole keys."""
    queue(connection)
    if _soles(connection, keys) > 1:
        raise Refused(TWO_SOLE)
    return _one(connection, keys, known_of(connection, keys), _Deed(at_ms, Did.JOINED, deed.who, deed.why))


def part(connection: Connection, hashes: frozenset[str], both: Both | None, deed: Deed, at_ms: int) -> None:
    """Make these keys a person of their own, with what came with them. Refused: `both` is not said, and there is something of both."""
    queue(connection)
    person, rest = _to_part(connection, hashes)
    if not rest:
        return
    _held(connection, [person])
    mine, of_both = _came(connection, person, hashes)
    if of_both and both is None:
        raise Refused(f"{_counted(len(of_both))} came with numbers of both, or before that was kept: say whether they stay or go")
    other = made(connection)
    going = mine | (of_both if both is Both.GO else set())
    connection.execute(update(PERSON_KEYS).where(PERSON_KEYS.c.hash.in_(hashes)).values(person=other))
    _go(connection, person, other, going, at_ms)
    _say_parted(connection, hashes, rest, at_ms)
    _tell(connection, _Deed(at_ms, Did.PARTED, deed.who, deed.why), (person, other), (len(hashes), len(going)))


def forget(connection: Connection, hashes: frozenset[str], deed: Deed, at_ms: int) -> None:
    """Remove the one person of these keys, with all that is kept; of keys nobody is known by, what is remembered. Refused: they are several persons'."""
    queue(connection)
    persons = sorted(_persons(connection, hashes))
    if not persons:
        connection.execute(delete(REMEMBERED).where(REMEMBERED.c.hash.in_(hashes)))
        return
    if len(persons) > 1:
        raise Refused("these numbers are several persons': forget them one by one")
    _held(connection, persons)
    of = PERSON_KEYS.c.person == persons[0]
    keys = set(connection.execute(select(PERSON_KEYS.c.hash).where(of)).scalars())
    connection.execute(delete(PARTED).where(or_(PARTED.c.hash.in_(keys), PARTED.c.other.in_(keys))))
    gone = connection.execute(delete(APPOINTMENTS).where(APPOINTMENTS.c.person == persons[0])).rowcount
    connection.execute(delete(REMEMBERED).where(REMEMBERED.c.hash.in_(keys | hashes)))
    for table in (SUPERSEDED, RESOURCES, PERSON_KEYS):
        connection.execute(delete(table).where(table.c.person == persons[0]))
    connection.execute(delete(PERSONS).where(PERSONS.c.id == persons[0]))
    _tell(connection, _Deed(at_ms, Did.FORGOTTEN, deed.who, deed.why), (persons[0], None), (len(keys), gone))


def having(connection: Connection, appointment: str, hashes: frozenset[str]) -> int:
    """How many have it, or a copy of it."""
    return len(_had_by(connection, appointment, hashes))


def withdraw(connection: Connection, appointment: str, hashes: frozenset[str], deed: Deed, at_ms: int) -> int:
    """Take one appointment from whoever has it (`hashes`: from these alone), so that it may come again as another's; from how many it was taken."""
    queue(connection)
    had = _had_by(connection, appointment, hashes)
    versions = _held(connection, sorted(had))
    for person, rows in had.items():
        connection.execute(delete(APPOINTMENTS).where(APPOINTMENTS.c.id.in_([row.id for row in rows])))
        _leave(connection, person, versions[person] + 1, set[str]().union(*(lines(row.refs) for row in rows)))
        _tell(connection, _Deed(at_ms, Did.WITHDRAWN, deed.who, deed.why), (person, None), (0, 1))
    return len(had)


def release(connection: Connection, appointment: str, hashes: frozenset[str], deed: Deed, at_ms: int) -> int:
    """Leave one appointment with whoever has it as it is, and its number to the next who comes with it, but for them; how many have it.

    Theirs it is again only by a message that books it, of an event since.
    """
    queue(connection)
    had = _had_by(connection, appointment, hashes)
    versions = _held(connection, sorted(had))
    for person, rows in had.items():
        *older, last = sorted(rows, key=lambda row: (order_in(row), row.shown))
        connection.execute(delete(APPOINTMENTS).where(APPOINTMENTS.c.id.in_([row.id for row in older])))
        drop(connection, person, set[str]().union(*(lines(row.refs) for row in older)))
        supersede(connection, last, versions[person] + 1, at_ms)
        name = free(connection, copy_id(last.id, f"released {at_ms}"))
        number = last.released_of or last.copy_of or last.id
        values = {"id": name, "body": as_id(last.body, name), "copy_of": None, "since": versions[person] + 1}
        values |= {"released_of": number, "released_ms": at_ms, "told": as_text(settled(connection, rows, person))}
        connection.execute(update(APPOINTMENTS).where(APPOINTMENTS.c.id == last.id).values(**values))
        connection.execute(update(PERSONS).where(PERSONS.c.id == person).values(version=versions[person] + 1))
        _tell(connection, _Deed(at_ms, Did.RELEASED, deed.who, deed.why), (person, None), (0, 1))
    return len(had)


def shown(connection: Connection, hashes: frozenset[str]) -> tuple[Person, ...]:
    """The persons of these keys, and what was done to them."""
    return tuple(_shown(connection, person, hashes) for person in sorted(_persons(connection, hashes)))


def done(connection: Connection, most: int) -> tuple[Done, ...]:
    """The audit, newest first."""
    return tuple(_done(row) for row in connection.execute(select(DEEDS).order_by(DEEDS.c.id.desc()).limit(most)))


# whose


def _had_by(connection: Connection, appointment: str, hashes: frozenset[str]) -> dict[int, list[Row[Any]]]:
    """By person what there is of an appointment; of a copy's id what its person has. The persons are held, so that it stays so."""
    whose = _persons(connection, hashes) if hashes else None
    named = select(APPOINTMENTS.c.person, APPOINTMENTS.c.copy_of).where(APPOINTMENTS.c.id == appointment)
    copy = connection.execute(named.where(APPOINTMENTS.c.copy_of.is_not(None))).first()
    if copy is not None:
        appointment, whose = copy.copy_of, {copy.person} if whose is None else {copy.person} & whose
    found: dict[int, list[Row[Any]]] = {}
    _held(connection, sorted({row.person for row in copies(connection, appointment)}))
    for row in copies(connection, appointment):
        if whose is None or row.person in whose:
            found.setdefault(row.person, []).append(row)
    return found


def _persons(connection: Connection, hashes: Iterable[str]) -> set[int]:
    return set(known_of(connection, [Key(each) for each in hashes]).values())


def _soles(connection: Connection, keys: Sequence[Key]) -> int:
    """How many sole keys one person of all these would have."""
    persons = _persons(connection, [key.hash for key in keys])
    there = select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person.in_(persons), PERSON_KEYS.c.sole)
    return len({*connection.execute(there).scalars(), *(key.hash for key in keys if key.sole)})


def _held(connection: Connection, persons: Sequence[int]) -> dict[int, int]:
    """Their versions; the rows are held."""
    statement = select(PERSONS.c.id, PERSONS.c.version).where(PERSONS.c.id.in_(persons)).order_by(PERSONS.c.id).with_for_update()
    return {row.id: row.version for row in connection.execute(statement)}


def _parted_since(connection: Connection, persons: Sequence[int], event_ms: int) -> bool:
    """Whether an operator said after this event that two of them are two."""
    whose = {row.hash: row.person for row in connection.execute(select(PERSON_KEYS).where(PERSON_KEYS.c.person.in_(persons)))}
    later = select(PARTED.c.hash, PARTED.c.other).where(
        PARTED.c.hash.in_(whose), PARTED.c.other.in_(whose), PARTED.c.at_ms > event_ms
    )
    return any(whose[row.hash] != whose[row.other] for row in connection.execute(later))


# one


@dataclass(frozen=True, slots=True)
class _Deed:
    at_ms: int
    did: Did
    who: str
    why: str | None = None


def _one(connection: Connection, keys: Sequence[Key], known: dict[str, int], deed: _Deed, kept: int | None = None) -> Put:
    persons = sorted(set(known.values()))
    new = [key for key in keys if key.hash not in known]
    if len(persons) == 1 and not new:
        return Put.UPDATED
    versions = _held(connection, persons)
    kept = kept or (persons[0] if persons else made(connection))
    link(connection, kept, new)
    others = [person for person in persons if person != kept]
    version = versions.get(kept, 0) + 1
    went = _moved(connection, others, kept, version) if others else 0
    show_newest(connection, kept, version, deed.at_ms)
    _tell(connection, deed, (kept, others[0] if others else None), (len(new), went))
    return Put.UPDATED if persons else Put.CREATED


def _moved(connection: Connection, others: Sequence[int], kept: int, version: int) -> int:
    """All that the others have is the kept one's: a search of his that began before goes on without it."""
    moved = update(APPOINTMENTS).where(APPOINTMENTS.c.person.in_(others)).values(person=kept, since=version)
    went = connection.execute(moved).rowcount
    for other in others:
        _resources(connection, other, kept)
    connection.execute(delete(SUPERSEDED).where(SUPERSEDED.c.person.in_(others)))
    connection.execute(update(PERSON_KEYS).where(PERSON_KEYS.c.person.in_(others)).values(person=kept))
    connection.execute(update(PERSONS).where(PERSONS.c.id == kept).values(version=version))
    connection.execute(update(DEEDS).where(DEEDS.c.person.in_(others)).values(person=kept))
    connection.execute(update(DEEDS).where(DEEDS.c.other.in_(others)).values(other=kept))
    connection.execute(delete(PERSONS).where(PERSONS.c.id.in_(others)))
    return went


def _resources(connection: Connection, other: int, kept: int) -> None:
    """Of what both reference the newest stays; what is gone with one is there with the other."""
    there = {(row.type, row.id): row for row in connection.execute(select(RESOURCES).where(RESOURCES.c.person == kept))}
    for row in connection.execute(select(RESOURCES).where(RESOURCES.c.person == other)).all():
        beside = there.get((row.type, row.id))
        if beside is not None and (beside.body is not None, order_in(beside)) >= (row.body is not None, order_in(row)):
            connection.execute(delete(RESOURCES).where(_at(row, other)))
            continue
        if beside is not None:
            connection.execute(delete(RESOURCES).where(_at(row, kept)))
        connection.execute(update(RESOURCES).where(_at(row, other)).values(person=kept))


def _at(row: Row[Any], person: int) -> Any:  # noqa: ANN401 - SQLAlchemy's clause
    return and_(RESOURCES.c.person == person, RESOURCES.c.type == row.type, RESOURCES.c.id == row.id)


# two


def _to_part(connection: Connection, hashes: frozenset[str]) -> tuple[int, set[str]]:
    """The one person of these keys, and its other ones: none where they are all of it. Refused: a key that nobody is known by, or several persons."""
    known = known_of(connection, [Key(each) for each in hashes])
    if len(known) < len(hashes):
        raise Refused("nobody is known by one of these numbers")
    if len(set(known.values())) > 1:
        raise Refused("these numbers are several persons' already")
    person = next(iter(known.values()))
    every = set(connection.execute(select(PERSON_KEYS.c.hash).where(PERSON_KEYS.c.person == person)).scalars())
    return person, every - hashes


def _came(connection: Connection, person: int, hashes: frozenset[str]) -> tuple[set[str], set[str]]:
    """Appointments that came with none but these keys; and those that came with these and others, or nobody knows with which."""
    mine, both = set(), set()
    of = connection.execute(select(APPOINTMENTS.c.id, APPOINTMENTS.c.came_with).where(APPOINTMENTS.c.person == person))
    for row in of:
        came = lines(row.came_with)
        if not came or (came & hashes and came - hashes):
            both.add(row.id)
        elif came & hashes:
            mine.add(row.id)
    return mine, both


def _go(connection: Connection, person: int, other: int, going: set[str], at_ms: int) -> None:
    """These appointments are another person's, with a copy of what they reference; whatever search began before is over."""
    version = _held(connection, [person])[person] + 1
    refs: set[str] = set()
    for row in connection.execute(select(APPOINTMENTS.c.id, APPOINTMENTS.c.refs).where(APPOINTMENTS.c.person == person)).all():
        if row.id in going:
            refs |= lines(row.refs)
            connection.execute(update(APPOINTMENTS).where(APPOINTMENTS.c.id == row.id).values(person=other, since=1))
    for row in connection.execute(select(RESOURCES).where(RESOURCES.c.person == person)).all():
        if f"{row.type}/{row.id}" in refs:
            connection.execute(insert(RESOURCES).values(row._asdict() | {"person": other}))
    connection.execute(update(PERSONS).where(PERSONS.c.id == other).values(version=1))
    _leave(connection, person, version, refs)
    _apart(connection, person, other)
    show_newest(connection, person, version, at_ms)
    show_newest(connection, other, 1, at_ms)


def _apart(connection: Connection, person: int, other: int) -> None:
    """Of a Patient a side keeps what one of its own appointments brought; else no more than the name that they show: the rest may be a stranger's."""
    sides = {each: _had(connection, each) for each in (person, other)}
    patients = (RESOURCES.c.person.in_(sides), RESOURCES.c.type == "Patient", RESOURCES.c.body.is_not(None))
    for row in connection.execute(select(RESOURCES).where(*patients)).all():
        brought = {each for each, had in sides.items() if any(order_in(one) == order_in(row) for one in had.get(row.id, ()))}
        if brought == {row.person}:
            continue
        newest = max(sides[row.person][row.id], key=order_in)
        values = dict(zip(ORDER, order_in(newest), strict=True)) | {"body": named_only(row.body, row.id, newest.body)}
        connection.execute(update(RESOURCES).where(_at(row, row.person)).values(**values))


def _had(connection: Connection, person: int) -> dict[str, list[Row[Any]]]:
    """By Patient's id, the person's appointments with it."""
    found: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(APPOINTMENTS).where(APPOINTMENTS.c.person == person)).all():
        for kind, _, name in (each.partition("/") for each in lines(row.refs)):
            if kind == "Patient":
                found.setdefault(name, []).append(row)
    return found


def _leave(connection: Connection, person: int, version: int, refs: set[str]) -> None:
    """What left the person is not told apart from what was never there: no older version of it, and nothing that it alone references."""
    connection.execute(delete(SUPERSEDED).where(SUPERSEDED.c.person == person))
    connection.execute(update(PERSONS).where(PERSONS.c.id == person).values(version=version, purged=version))
    drop(connection, person, set(refs))
    for kind, _, name in (each.partition("/") for each in sorted(refs)):
        here = (RESOURCES.c.person == person, RESOURCES.c.type == kind, RESOURCES.c.id == name)
        connection.execute(delete(RESOURCES).where(*here, RESOURCES.c.body.is_(None)))


def _say_parted(connection: Connection, these: Iterable[str], those: Iterable[str], at_ms: int) -> None:
    pairs = {(min(one, other), max(one, other)) for one in these for other in those}
    for one, other in sorted(pairs):
        connection.execute(delete(PARTED).where(PARTED.c.hash == one, PARTED.c.other == other))
    connection.execute(insert(PARTED), [{"hash": one, "other": other, "at_ms": at_ms} for one, other in sorted(pairs)])


# told


def _tell(connection: Connection, deed: _Deed, between: tuple[int, int | None], went: tuple[int, int]) -> None:
    """A line of the audit: between whom, and how many keys and appointments went."""
    said = {"at_ms": deed.at_ms, "what": deed.did.value, "who": deed.who, "why": deed.why}
    person, other = between
    connection.execute(insert(DEEDS).values(**said, person=person, other=other, keys=went[0], appointments=went[1]))


def _shown(connection: Connection, person: int, hashes: frozenset[str]) -> Person:
    keys = connection.execute(select(PERSON_KEYS).where(PERSON_KEYS.c.person == person)).all()
    count = select(func.count()).select_from(APPOINTMENTS).where(APPOINTMENTS.c.person == person, APPOINTMENTS.c.shown)
    asked = frozenset(row.hash for row in keys) & hashes
    mine, both = _came(connection, person, asked)
    deeds = select(DEEDS).where(or_(DEEDS.c.person == person, DEEDS.c.other == person)).order_by(DEEDS.c.id)
    return Person(
        person,
        len(keys),
        any(row.sole for row in keys),
        connection.execute(count).scalar_one(),
        asked,
        len(mine),
        len(both),
        tuple(_done(row) for row in connection.execute(deeds)),
    )


def _done(row: Row[Any]) -> Done:
    return Done(row.at_ms, Did(row.what), row.who, row.why, row.person, row.other, row.keys, row.appointments)


def _counted(number: int) -> str:
    return "1 appointment" if number == 1 else f"{number} appointments"
