"""The ledger on SQLAlchemy Core: SQLite for one machine, PostgreSQL for several workers. One transaction per call, durable when it returns.

Nothing here decides about a message: it writes what it is told, and refuses what would break a promise (port.py).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, and_, func, inspect, not_, or_, select, tuple_, update

from pipeline.database.commits import Commits, Promise, Read
from pipeline.database.engine import Database
from pipeline.database.prepared import Row
from pipeline.database.schema import bring_up_to_date, refuse_newer
from pipeline.errors import Refused
from pipeline.ledger import knowledge as known
from pipeline.ledger.claims import RouteClaims
from pipeline.ledger.decide import decide
from pipeline.ledger.deliveries import BETWEEN, EMITTED, NEXT_PARTITION, SELECT, UNEMITTED, WAITING, Deliveries, here, maybe_done
from pipeline.ledger.find import delivery_of, statement_of
from pipeline.ledger.identities import MERGES, Identities, insert
from pipeline.ledger.named import LEDGER, MIGRATIONS
from pipeline.ledger.plans import Deed
from pipeline.ledger.port import STARTING, Begun, Decided, Delivery, Query, Settlement
from pipeline.ledger.replays import SqlReplays
from pipeline.ledger.tables import DELIVERIES, FACTS, IDENTITIES, ROUTES
from pipeline.ledger.turns import IN_A_PLAN
from pipeline.ledger.watches import SqlWatches
from pipeline.model import Clock, Identity, Intent, Knowledge, Learned, Outcome, Position, Routed, Seen
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import CLOSED, COMES_BACK, State

KEY_CHECK: Final = "key_check"
BEGUN: Final = ROUTES.c.how.startswith(STARTING)
"""Of first starts those that have not come to their end."""


def now_ms() -> int:
    """Wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class SqlLedger:
    """A Ledger (port.py). Serves many threads. Opens nothing before its first call, and makes no file before `check`."""

    def __init__(self, url: str, pseudonyms: Pseudonyms, password: str | None = None, clock: Clock = now_ms) -> None:
        """`url` as sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; SettingsError where it is none. `clock`: ms since 1970."""
        self._database = Database(LEDGER, url, password)
        self._file = self._database.file
        self._engine: Engine = self._database.engine
        self._read, self._write = self._database.read, self._database.write
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._identities = Identities(pseudonyms)
        self._deliveries = Deliveries(pseudonyms)
        self._claims = RouteClaims(self._file)
        self._commit = Commits(self._write, self._database.apart if self._file is not None else None)
        self._ask = Commits(self._read, self._database.one_line)
        """Reads of the hot path, shared as commits are: one thread reads for all that wait. Each statement is its own snapshot, taken after it was asked."""
        self.watches = SqlWatches(self._read, self._write, pseudonyms)
        """See the port."""
        self._replays = SqlReplays(self._read, self._write, self._commit, pseudonyms)

    @property
    def replays(self) -> SqlReplays:
        """See the port."""
        return self._replays

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self._database.place

    @property
    def alone(self) -> bool:
        """See the port: on SQLite a lock sees to it."""
        return self._file is not None

    # start

    def check(self) -> None:
        """See the port."""
        self._database.make()
        self.check_key()
        bring_up_to_date(self._database, MIGRATIONS)
        check = self._pseudonyms.check
        with self._write() as connection:
            for name, value in ((KEY_CHECK, check), (MERGES, "")):
                connection.execute(insert(connection.dialect.name, FACTS).values(name=name, value=value).on_conflict_do_nothing())
        self.check_key()

    def check_key(self) -> bool:
        """Whether a key is on record; Refused where it is not ours, or where the schema is newer than this program. Writes nothing."""
        refuse_newer(self._database, MIGRATIONS)
        with self._read() as connection:
            if not self._engine.dialect.has_table(connection, FACTS.name):
                return False
            recorded = connection.execute(select(FACTS.c.value).where(FACTS.c.name == KEY_CHECK)).scalar()
        if recorded not in (None, self._pseudonyms.check):
            raise Refused("the ledger was written with another key: give the one that it began with", where="keys.patient_hash")
        return recorded is not None

    def exists(self) -> bool:
        """Whether anything has run on it. Makes no file."""
        if not self._database.there:
            return False
        with self._read() as connection:
            return self._engine.dialect.has_table(connection, ROUTES.name)

    def fits(self, route: str, group: str, partner: str) -> None:
        """See the port. A ledger of before, that nobody has brought up to date, has no partners."""
        with self._read() as connection:
            columns = {each["name"] for each in inspect(connection).get_columns(ROUTES.name)}
            known = [column for column in ROUTES.c if column.name in columns]
            of_group = select(*known).where(or_(ROUTES.c.route == route, ROUTES.c.consumer_group == group), not_(BEGUN))
            rows = {row.route: row._mapping for row in connection.execute(of_group)}  # noqa: SLF001 - SQLAlchemy's public way to what may not be there
        if route not in rows and rows:
            raise _of_another(route, group, min(rows))
        if route in rows:
            _same_group(route, rows[route]["consumer_group"], group)
            _same_partner(route, rows[route].get("partner"), partner)

    def claimed(self, route: str) -> bool | None:
        """See the port."""
        return self._claims.taken(route)

    def claim(self, route: str, group: str, partner: str) -> None:
        """See the port."""
        self.fits(route, group, partner)
        self._claims.take(route)
        with self._read() as connection:
            unsaid = connection.execute(select(ROUTES.c.route).where(ROUTES.c.route == route, ROUTES.c.partner.is_(None))).first()
        if unsaid is not None:
            with self._write() as connection:
                said = update(ROUTES).where(ROUTES.c.route == route, ROUTES.c.partner.is_(None)).values(partner=partner)
                connection.execute(said)
            self.fits(route, group, partner)  # of two that said it at once the first one counts

    def start(self, route: str, group: str, partner: str, how: str) -> str | None:
        """See the port."""
        self.fits(route, group, partner)
        with self._write() as connection:
            before = connection.execute(select(ROUTES.c.how).where(ROUTES.c.route == route)).scalar()
            if before is None:
                new = {"route": route, "consumer_group": group, "how": how, "at_ms": self._clock(), "partner": partner}
                connection.execute(insert(connection.dialect.name, ROUTES).on_conflict_do_nothing(), new)
            elif before.startswith(STARTING):
                now = {"how": how, "consumer_group": group, "partner": partner}  # nothing was read yet: a slip may be mended
                connection.execute(update(ROUTES).where(ROUTES.c.route == route, BEGUN).values(**now))
        self.fits(route, group, partner)  # as above
        return before

    def started(self, route: str) -> str | None:
        """See the port."""
        with self._read() as connection:
            return connection.execute(select(ROUTES.c.how).where(ROUTES.c.route == route)).scalar()

    # the way of a message

    def knowledge(self, routed: Routed) -> Knowledge:
        """See the port."""
        return self.knowledge_soon(routed).result()

    def knowledge_soon(self, routed: Routed) -> Read[Knowledge]:
        """See the port."""
        hashes = {identity: self._identities.hash(identity) for identity in (*routed.identities, *routed.prior, *routed.parts)}
        values = list(hashes.values())
        subjects = len(routed.subjects) + len(routed.patient_subjects)
        statement = known.statement(
            len(values), subjects, len(routed.lanes), len(routed.lanes_beside), needs_known=routed.needs_known
        )
        bound = known.bound(routed, values, self._pseudonyms)
        rows = self._ask.soon(lambda connection: statement.all(connection, bound))
        return Read(rows, lambda rows: known.read(rows, routed, hashes, self._pseudonyms))

    def seen(self, route: str, position: Position) -> Seen | None:
        """See the port."""
        row = self._ask(lambda connection: SELECT.first(connection, here(route, position)))
        return known.seen(row, self._pseudonyms, claims=bool(row.claims)) if row else None

    def begin(self, begun: Begun) -> None:
        """See the port."""
        self._commit(partial(self._begin, begun))

    def begin_soon(self, begun: Begun) -> Promise[None]:
        """See the port."""
        return self._commit.soon(partial(self._begin, begun))

    def _begin(self, begun: Begun, connection: Connection) -> None:
        delivery = self._deliveries.begin(connection, begun)
        if begun.intent is Intent.CREATE and not begun.probe:
            creates = begun.routed.identities if begun.creates is None else begun.creates
            self._identities.claim(connection, begun.routed.partner, creates, delivery, begun.at_ms)

    def retry(self, route: str, position: Position, outcome: Outcome, at_ms: int, after: int) -> None:
        """See the port."""
        self.retry_soon(route, position, outcome, at_ms, after).result()

    def retry_soon(self, route: str, position: Position, outcome: Outcome, at_ms: int, after: int) -> Promise[None]:
        """See the port."""

        def write(connection: Connection) -> None:
            before = self._deliveries.before(connection, route, position)
            if before is None or before.intents != after:
                return
            if State(before.state) in CLOSED:
                self._retry_again(connection, before, outcome, at_ms)
                return
            if outcome.state is State.UNKNOWN:
                self._deliveries.write(connection, outcome, before, at_ms=at_ms)
                return
            self._deliveries.write(connection, outcome, before, at_ms=at_ms, open=False)
            self._identities.release(connection, before.id, done=False, at_ms=at_ms)

        return self._commit.soon(write)

    def advance(self, settlement: Settlement, step: int) -> None:
        """See the port."""
        self.advance_soon(settlement, step).result()

    def advance_soon(self, settlement: Settlement, step: int) -> Promise[None]:
        """See the port."""
        return self._commit.soon(partial(self._advance, settlement, step))

    def _advance(self, settlement: Settlement, step: int, connection: Connection) -> None:
        outcome, at_ms = settlement.outcome, settlement.at_ms
        before = self._deliveries.before(connection, outcome.route, outcome.received.position)
        if before is None or outcome.routed is None or outcome.answer is None:
            return
        if outcome.answer.request.intent is Intent.CREATE:
            self._identities.release(connection, before.id, done=True, at_ms=at_ms)
        self._identities.learn(connection, outcome.partner, settlement.learned, at_ms)
        self._deliveries.delivered_last(connection, settlement.subjects, outcome.routed)
        again = outcome.again and State(before.state) in CLOSED
        if before.intents != settlement.after or (State(before.state) in CLOSED and not again):
            return
        if again:
            self._deliveries.write_beside(connection, before, step=step)
        else:
            self._deliveries.write(connection, outcome, before, at_ms=at_ms, open=False, step=step)

    def _retry_again(self, connection: Connection, before: Row, outcome: Outcome, at_ms: int) -> None:
        """An attempt of a replay over a closed record: its row says no more of it than whether the intent is open."""
        if before.open and outcome.again and outcome.state is not State.UNKNOWN:
            self._deliveries.write_beside(connection, before)
            self._identities.release(connection, before.id, done=False, at_ms=at_ms)

    def settle(self, settlement: Settlement) -> bool:
        """See the port."""
        return self._commit(partial(self._settle, settlement))

    def settle_soon(self, settlement: Settlement) -> Promise[bool]:
        """See the port."""
        return self._commit.soon(partial(self._settle, settlement))

    def _settle(self, settlement: Settlement, connection: Connection) -> bool:
        outcome = settlement.outcome
        before = self._deliveries.before(connection, outcome.route, outcome.received.position)
        if before is not None and self._stays(before, settlement):
            return False
        written = self._deliveries.settled(settlement, before)
        if before is not None and outcome.again and State(before.state) in CLOSED and outcome.state is not State.DELIVERED:
            del written["at_ms"]
            self._deliveries.write_beside(connection, before, **written)
        else:
            self._deliveries.write(connection, outcome, before, **written)
        if before is not None and not maybe_done(outcome):
            self._identities.release(connection, before.id, done=outcome.state is State.DELIVERED, at_ms=settlement.at_ms)
        self._identities.learn(connection, outcome.partner, settlement.learned, settlement.at_ms)
        if settlement.merged is not None:
            own = before.id if before is not None else None
            self._identities.merge(connection, outcome.partner, settlement.merged, settlement.at_ms, own=own)
            delivery = self._deliveries.before(connection, outcome.route, outcome.received.position)
            if settlement.merged.waiting and delivery is not None:
                self._identities.wait(connection, outcome.partner, settlement.merged, delivery.id, settlement.at_ms)
        if outcome.state is State.DELIVERED and outcome.routed is not None:
            self._deliveries.delivered_last(connection, settlement.subjects, outcome.routed)
        return True

    @staticmethod
    def _stays(before: Row, settlement: Settlement) -> bool:
        if before.result_id == settlement.result_id:
            return True
        others = settlement.after not in (None, before.intents)
        if settlement.outcome.again:
            return others and settlement.outcome.state is not State.DELIVERED
        if before.state == State.DELIVERED:
            return True
        return settlement.outcome.state is not State.DELIVERED and (others or State(before.state) in CLOSED)

    def emitted(self, route: str, results: Sequence[tuple[Position, str]]) -> None:
        """See the port."""
        rows = [here(route, position) | {"k_result": result_id} for position, result_id in results]
        self._commit(lambda connection: connection.execute(EMITTED, rows))

    def unemitted(self, route: str, topic: str, partition: int) -> list[Position]:
        """See the port."""
        with self._read() as connection:
            rows = connection.execute(UNEMITTED, {"k_route": route, "k_topic": topic, "k_partition": partition}).all()
        return [known.position_of(row) for row in rows]

    def decide(self, decided: Decided) -> None:
        """See the port."""
        self._commit(partial(decide, decided, self._deliveries, self._identities, self._replays))

    def tell(self, deeds: Sequence[Deed]) -> None:
        """See the port."""
        with self._write() as connection:
            for deed in deeds:
                self._replays.tell(connection, deed)

    def seen_between(self, route: str, first: Position, last: Position) -> dict[Position, Seen]:
        """See the port."""
        bound = {
            "k_route": route,
            "k_topic": first.topic,
            "k_partition": first.partition,
            "k_from": first.offset,
            "k_to": last.offset,
        }
        rows = self._ask(lambda connection: BETWEEN.all(connection, bound))
        return {known.position_of(row): known.seen(row, self._pseudonyms, claims=bool(row.claims)) for row in rows}

    def waiting(self, route: str, topic: str, partition: int) -> list[tuple[Position, tuple[str, ...]]]:
        """See the port."""
        bound = {"k_route": route, "k_topic": topic, "k_partition": partition}
        lanes: dict[Position, list[str]] = {}
        with self._read() as connection:
            for row in connection.execute(WAITING, bound):
                also = lanes.setdefault(known.position_of(row), [row.lane])
                if row.also is not None:
                    also.append(row.also)
        return [(position, tuple(each)) for position, each in lanes.items()]

    def former(self, route: str, source: str) -> list[tuple[str, int]]:
        """See the port."""
        first: dict[tuple[str, int], int] = {}
        with self._read() as connection:
            at = ("", -1)
            while row := connection.execute(NEXT_PARTITION, {"k_route": route, "k_topic": at[0], "k_partition": at[1]}).first():
                at = (row.topic, row.partition)
                first[at] = row.id
        ages: dict[str, int] = {}
        for (topic, _), written in first.items():
            ages[topic] = min(written, ages.get(topic, written))
        return sorted((each for each in first if each[0] != source), key=lambda each: (ages[each[0]], *each))

    def holding(self, partner: str, positions: Sequence[Position]) -> set[Position]:
        """See the port."""
        held = select(DELIVERIES).join(IDENTITIES, IDENTITIES.c.creating == DELIVERIES.c.id)
        return self._of_these(positions, held.where(IDENTITIES.c.partner == partner))

    def ended(self, route: str, positions: Sequence[Position]) -> set[Position]:
        """See the port."""
        waits = DELIVERIES.c.reason.in_([reason.value for reason in COMES_BACK])
        parked = and_(DELIVERIES.c.state == State.PARKED.value, not_(or_(waits, IN_A_PLAN)))
        over = or_(parked, DELIVERIES.c.state.in_([state.value for state in CLOSED]))
        return self._of_these(positions, select(DELIVERIES).where(DELIVERIES.c.route == route, over))

    def _of_these(self, positions: Sequence[Position], statement: Select[Any]) -> set[Position]:
        wanted = [(position.topic, position.partition, position.offset) for position in positions]
        key = tuple_(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
        with self._read() as connection:
            return {known.position_of(row) for row in connection.execute(statement.where(key.in_(wanted))).all()}

    # people

    def counts(self, route: str | None = None) -> dict[str, dict[State, int]]:
        """See the port."""
        statement = select(DELIVERIES.c.route, DELIVERIES.c.state, func.count()).group_by(DELIVERIES.c.route, DELIVERIES.c.state)
        if route is not None:
            statement = statement.where(DELIVERIES.c.route == route)
        found: dict[str, dict[State, int]] = {}
        with self._read() as connection:
            for name, state, number in connection.execute(statement):
                found.setdefault(name, {})[State(state)] = number
        return found

    def oldest_open_ms(self, route: str) -> int | None:
        """When the delivery that has been open for longest was last written, milliseconds since 1970."""
        waiting = [state.value for state in State if state not in CLOSED]
        statement = select(func.min(DELIVERIES.c.at_ms)).where(DELIVERIES.c.route == route, DELIVERIES.c.state.in_(waiting))
        with self._read() as connection:
            return connection.execute(statement).scalar()

    def find(self, query: Query) -> Iterator[Delivery]:
        """See the port."""
        with self._read() as connection:
            rows = connection.execute(statement_of(query, self._pseudonyms)).all()
        return (delivery_of(row) for row in rows)

    def forget(
        self,
        partner: str,
        identities: Iterable[Identity],
        *,
        by_operator: bool = False,
        told: tuple[str, Position, int] | None = None,
        deed: Deed | None = None,
    ) -> None:
        """See the port."""
        with self._write() as connection:
            before = self._deliveries.before(connection, told[0], told[1]) if told is not None else None
            if told is not None and (before is None or before.intents != told[2]):
                return
            ended = self._identities.forget(connection, partner, identities, self._clock(), by_operator=by_operator)
            if deed is None:
                return
            rows = connection.execute(select(DELIVERIES).where(DELIVERIES.c.id.in_(ended))).all()
            for about in [replace(deed, route=row.route, position=known.position_of(row)) for row in rows] or [deed]:
                self._replays.tell(connection, about)

    def unknown(self, partner: str, identities: Iterable[Identity]) -> tuple[Identity, ...]:
        """See the port."""
        with self._read() as connection:
            return tuple(self._identities.unknown(connection, partner, identities))

    def import_identities(self, partner: str, rows: Iterable[Learned]) -> int:
        """See the port."""
        with self._write() as connection:
            return self._identities.learn(connection, partner, rows, self._clock(), told=True)

    def export_identities(self, partner: str) -> Iterator[tuple[str, str, str, str | None]]:
        """See the port."""
        statement = (
            select(IDENTITIES.c.kind, IDENTITIES.c.system, IDENTITIES.c.hash, IDENTITIES.c.partner_id)
            .where(IDENTITIES.c.partner == partner, IDENTITIES.c.known)
            .order_by(IDENTITIES.c.kind, IDENTITIES.c.system, IDENTITIES.c.hash)
        )
        with self._read() as connection:
            rows = connection.execute(statement).all()
        for row in rows:
            yield row.kind, row.system, row.hash, self._pseudonyms.unseal(row.partner_id) if row.partner_id is not None else None

    def close(self) -> None:
        """See the port."""
        self._claims.close()
        self._engine.dispose()


def _same_group(route: str, recorded: str, group: str) -> None:
    if recorded != group:
        raise Refused(
            f"the route was started with the consumer group {recorded}, and as {group} it would read everything again: "
            f"set group to {recorded}",
            where=f"routes.{route}.group",
        )


def _same_partner(route: str, recorded: str | None, partner: str) -> None:
    if recorded not in (None, partner):
        raise Refused(
            f"the route was started to the partner {recorded}, whose patients are known by that name: to {partner} each would be created again. "
            f"Name the partner {recorded} again; where {partner} really is another one, give the route another name",
            where=f"routes.{route}.partner",
        )


def _of_another(route: str, group: str, other: str) -> Refused:
    return Refused(
        f"the consumer group {group} is that of the route {other}, and what that one has parked is found by its name only: name the route {other} again; "
        "where this really is another one, give it a group of its own",
        where=f"routes.{route}.group",
    )
