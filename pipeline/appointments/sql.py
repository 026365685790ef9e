"""The store on SQLAlchemy Core: SQLite for one machine, PostgreSQL for several. One transaction per call, durable when it returns.

What a change does to the rows is writes.py, what a merge does persons.py; what is asked is reads.py.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

from sqlalchemy import Connection, select

from pipeline.appointments import persons, reads, writes
from pipeline.appointments.named import MIGRATIONS, STORE, VERSIONS
from pipeline.appointments.port import (
    GONE,
    Alternatives,
    Both,
    Change,
    Cursor,
    Deed,
    Done,
    Found,
    Gone,
    Key,
    Merge,
    Page,
    Person,
    Put,
    Snapshot,
)
from pipeline.appointments.ranges import FIRST, Stretch, last_first, meet
from pipeline.appointments.tables import APPOINTMENT_FACTS, NEVER
from pipeline.database.commits import Commits
from pipeline.database.engine import Database
from pipeline.database.prepared import Row
from pipeline.database.schema import bring_up_to_date
from pipeline.errors import Refused
from pipeline.model import Clock

KEY_CHECK: Final = "key_check"
KEEP_MS: Final = 3_600_000
"""How long an older version stays for the searches that began before: pages are turned in minutes."""
PURGE_MS: Final = 60_000
NOTHING: Final[Stretch] = (FIRST, FIRST)
"""Asked where nothing can be found: the person's version is wanted all the same."""
BEGINNING: Final = Cursor(FIRST - 1, "")
END: Final = Cursor(NEVER + 1, "")
Step = tuple[Stretch, Cursor]
"""A stretch, and behind which appointment it is looked through."""


def now_ms() -> int:
    """Wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class SqlStore:
    """A Store (port.py). Serves many threads. Opens nothing before its first call, and makes no file before `check`."""

    def __init__(self, url: str, key_check: str, password: str | None = None, clock: Clock = now_ms) -> None:
        """`key_check` tells the secret that keys are hashed with from another one."""
        self._database = Database(STORE, url, password)
        self._key_check = key_check
        self._clock = clock
        self._purged_ms = 0
        self._commit = Commits(self._database.write, self._database.apart if self._database.file is not None else None)
        self._ask = Commits(self._database.read, self._database.one_line)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self._database.place

    def check(self) -> None:
        """Make what is missing, bring the schema up to date. Refused where the keys in it were hashed with another secret."""
        self._database.make()
        self._check_key()
        bring_up_to_date(self._database, MIGRATIONS, VERSIONS)
        with self._database.write() as connection:
            there = set(connection.execute(select(APPOINTMENT_FACTS.c.name)).scalars())
            facts = {KEY_CHECK: self._key_check, writes.LINKS: ""}
            new = [{"name": name, "value": value} for name, value in facts.items() if name not in there]
            if new:
                connection.execute(APPOINTMENT_FACTS.insert(), new)
            writes.purge(connection, self._clock() - KEEP_MS)
        self._check_key()

    def _check_key(self) -> None:
        with self._database.read() as connection:
            if not self._database.engine.dialect.has_table(connection, APPOINTMENT_FACTS.name):
                return
            statement = select(APPOINTMENT_FACTS.c.value).where(APPOINTMENT_FACTS.c.name == KEY_CHECK)
            recorded = connection.execute(statement).scalar()
        if recorded not in (None, self._key_check):
            raise Refused("the store was written with another key: give the one that it began with", where="keys.patient_hash")

    def put(self, change: Change) -> Put:
        """See the port."""
        return self._commit(partial(self._put, change))

    def _put(self, change: Change, connection: Connection) -> Put:
        now = self._clock()
        if now - self._purged_ms > PURGE_MS:
            writes.purge(connection, now - KEEP_MS)
            self._purged_ms = now
        return writes.put(connection, change, now)

    def put_all(self, changes: Sequence[Change]) -> tuple[Put, ...]:
        """See the port."""
        try:
            with self._database.write() as connection:
                done = self._all(connection, changes)
        except _TakenBack as taken_back:
            return taken_back.done
        return done

    def _all(self, connection: Connection, changes: Sequence[Change]) -> tuple[Put, ...]:
        done = tuple(self._put(change, connection) for change in changes)
        if {Put.CONFLICT, Put.ANOTHERS, Put.UNTIMED} & set(done):
            raise _TakenBack(done)
        return done

    def merge(self, merge: Merge) -> Put:
        """See the port."""
        return self._commit(lambda connection: persons.merge(connection, merge, self._clock()))

    def person(self, key: str) -> int | None:
        """See the port."""
        row = self._ask(lambda connection: reads.PERSON.first(connection, {"hash": key}))
        return None if row is None else int(row.person)

    def sole_key(self, person: int) -> str | None:
        """See the port."""
        row = self._ask(lambda connection: reads.SOLE_KEY.first(connection, {"person": person}))
        return None if row is None else str(row.hash)

    def search(
        self,
        person: int,
        ranges: Sequence[Alternatives] = (),
        *,
        after: Cursor | None = None,
        count: int,
        at: Snapshot | None = None,
        backwards: bool = False,
    ) -> Page | Literal[Gone.GONE]:
        """See the port."""
        steps = _backwards(meet(ranges), after) if backwards else [(one, after or BEGINNING) for one in meet(ranges)]
        return self._ask(lambda connection: _search(connection, person, steps, count=count, at=at, backwards=backwards))

    def read(self, person: int, kind: str, name: str) -> bytes | Literal[Gone.GONE] | None:
        """See the port."""
        bound = {"person": person, "name": name}
        if kind == "Appointment":
            row = self._ask(lambda connection: reads.APPOINTMENT.first(connection, bound))
        else:
            row = self._ask(lambda connection: reads.READ.first(connection, {**bound, "kind": kind}))
        if row is None:
            return None
        return GONE if row.body is None else bytes(row.body)

    # operators

    def persons(self, hashes: frozenset[str]) -> tuple[Person, ...]:
        """Whose these keys are; keys that nobody is known by are in none of them."""
        with self._database.write() as connection:  # several statements, of one moment
            return persons.shown(connection, hashes)

    def done(self, most: int) -> tuple[Done, ...]:
        """The audit, newest first."""
        with self._database.read() as connection:
            return persons.done(connection, most)

    def join(self, keys: Sequence[Key], deed: Deed) -> Put:
        """Make one person of all of these keys; done again it changes nothing. Refused: two sole keys."""
        return self._commit(lambda connection: persons.join(connection, keys, deed, self._clock()))

    def part(self, hashes: frozenset[str], both: Both | None, deed: Deed) -> None:
        """Make these keys a person of their own; done again it changes nothing. Refused: it is not said where something goes, or they are no one's."""
        self._commit(lambda connection: persons.part(connection, hashes, both, deed, self._clock()))

    def forget(self, hashes: frozenset[str], deed: Deed) -> None:
        """Remove the person of these keys; done again it changes nothing. Refused: they are several persons'."""
        self._commit(lambda connection: persons.forget(connection, hashes, deed, self._clock()))

    def having(self, appointment: str, hashes: frozenset[str] = frozenset()) -> int:
        """How many have an appointment or a copy of it, of these or of all."""
        with self._database.write() as connection:
            return persons.having(connection, appointment, hashes)

    def withdraw(self, appointment: str, hashes: frozenset[str], deed: Deed) -> int:
        """Take an appointment from whoever has it, or from these alone; from how many it was taken."""
        return self._commit(lambda connection: persons.withdraw(connection, appointment, hashes, deed, self._clock()))

    def release(self, appointment: str, hashes: frozenset[str], deed: Deed) -> int:
        """Let whoever has it, or these alone, keep it as it is, and its number go to whoever comes next; how many have it."""
        return self._commit(lambda connection: persons.release(connection, appointment, hashes, deed, self._clock()))

    def close(self) -> None:
        """See the port."""
        self._database.engine.dispose()


class _TakenBack(Exception):
    """Nothing of it is to be written."""

    def __init__(self, done: tuple[Put, ...]) -> None:
        super().__init__()
        self.done = done


def _backwards(stretches: Sequence[Stretch], after: Cursor | None) -> list[Step]:
    """The cursor counts in the stretch that it is in: those before it are done, those behind it are whole."""
    if after is None:
        return [(one, END) for one in last_first(stretches)]
    if after.start_ms is None:
        return [(one, after) for one in last_first(stretches) if one[0] == NEVER]
    return [(one, END if one[0] == NEVER else after) for one in last_first(stretches)]


def _search(
    connection: Connection, person: int, steps: Sequence[Step], *, count: int, at: Snapshot | None, backwards: bool
) -> Page | Literal[Gone.GONE]:
    """Stretch by stretch, until there is one more than asked for: then there is a next page."""
    found: list[Found] = []
    for (from_ms, until_ms), after in steps or ((NOTHING, BEGINNING),):
        after_ms = NEVER if after.start_ms is None else after.start_ms
        bound = {"person": person, "after_ms": after_ms, "after_id": after.id, "count": count + 1}
        rows = _rows(connection, {**bound, "from_ms": from_ms, "until_ms": until_ms}, at, backwards=backwards)
        if rows is GONE:
            return GONE
        at, more = rows
        found += more
        if len(found) > count:
            break
    shown = tuple(found[:count])
    more_of_it = len(found) > count and shown
    return Page(shown, Cursor(shown[-1].start_ms, shown[-1].id) if more_of_it else None, at or 0)


def _rows(
    connection: Connection, bound: dict[str, Any], at: Snapshot | None, *, backwards: bool
) -> tuple[Snapshot, list[Found]] | Literal[Gone.GONE]:
    rows = reads.NOW[backwards].all(connection, bound)
    if not rows:  # no such person: merged into another since the token was looked up, or forgotten
        return GONE
    if at is None or rows[0].version == at:
        return int(rows[0].version), _found(rows)
    rows = reads.THEN[backwards].all(connection, {**bound, "at": at})
    return GONE if rows[0].purged > at else (at, _found(rows))


def _found(rows: Sequence[Row]) -> list[Found]:
    return [
        Found(row.id, row.since, None if row.start_ms == NEVER else row.start_ms, row.body) for row in rows if row.id is not None
    ]
