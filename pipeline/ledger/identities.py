"""Who is known at which partner: writing what was learned, forgotten, merged. Each function runs in the caller's transaction.

Values stand as keyed hashes, partner ids sealed: a sealed id differs each time, so that comparing means unsealing.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, delete, exists, false, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.database.prepared import Prepared, Row
from pipeline.ledger.port import Held, Merged
from pipeline.ledger.tables import DELIVERIES, FACTS, IDENTITIES
from pipeline.model import Identity, Learned, Position, Subject
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import Reason, State

MERGES: Final = "merges"
"""The fact at which merges queue on PostgreSQL, so that two workers cannot close a cycle or split a chain between them."""


def insert(dialect: str, table: Any) -> Any:  # noqa: ANN401 - the two dialects' inserts share their methods, not a type
    """INSERT with ON CONFLICT, which is the dialect's own."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


# Statements are built once: building one takes SQLAlchemy longer than the database takes to run it.

KEY: Final = and_(IDENTITIES.c.partner == bindparam("k_partner"), IDENTITIES.c.hash == bindparam("k_hash"))
CREATING: Final = IDENTITIES.c.creating == bindparam("k_creating")
SELECT: Final = Prepared(
    select(
        *(IDENTITIES.c[name] for name in ("known", "partner_id", "merged_into", "creating", "created_with", "belongs_to"))
    ).where(KEY)
)
CLAIMS: Final = exists(select(IDENTITIES.c.hash).where(IDENTITIES.c.creating == DELIVERIES.c.id)).label("claims")
"""Of a delivery: whether it holds a patient still, by a create that may have been done."""
PARKED: Final = Prepared(
    select(DELIVERIES.c.id).where(
        DELIVERIES.c.id == bindparam("k_id"), DELIVERIES.c.open == false(), DELIVERIES.c.state == State.PARKED.value
    )
)
DONE: Final = Prepared(update(IDENTITIES).where(CREATING).values(creating=None, known=True))
DROP_CLAIMED: Final = Prepared(
    delete(IDENTITIES).where(CREATING, IDENTITIES.c.known == false(), IDENTITIES.c.merged_into.is_(None))
)
UNCLAIM: Final = Prepared(update(IDENTITIES).where(CREATING).values(creating=None))
FOUND: Final = Prepared(update(IDENTITIES).where(CREATING, IDENTITIES.c.merged_into.is_(None), IDENTITIES.c.kind == "patient"))
FOUND_PARTS: Final = Prepared(update(IDENTITIES).where(CREATING, IDENTITIES.c.kind != "patient"))
"""They came with the patient; their ids are not told."""
REKEYED: Final = Prepared(
    update(IDENTITIES).where(CREATING, IDENTITIES.c.merged_into.is_not(None)).values(known=False, partner_id=None)
)
HOLDER: Final = Prepared(
    select(DELIVERIES.c.route, DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
    .join(IDENTITIES, IDENTITIES.c.creating == DELIVERIES.c.id)
    .where(
        KEY,
        DELIVERIES.c.id != bindparam("k_own"),
        or_(IDENTITIES.c.known == false(), DELIVERIES.c.reason == Reason.MERGE_NEEDS_REKEY.value),
    )
)
"""Whose create, or merge, holds an identity; as `knowledge` tells it."""
DROP: Final = Prepared(delete(IDENTITIES).where(KEY, IDENTITIES.c.merged_into.is_(None), IDENTITIES.c.creating.is_(None)))
FORGET: Final = Prepared(update(IDENTITIES).where(KEY).values(known=False, partner_id=None, created_with=False))
WAIT: Final = Prepared(update(IDENTITIES).where(KEY, IDENTITIES.c.creating.is_(None)))
RECHAIN: Final = Prepared(
    update(IDENTITIES).where(IDENTITIES.c.partner == bindparam("k_partner"), IDENTITIES.c.merged_into == bindparam("k_hash"))
)
PLACE: Final = Prepared(postgresql.insert(IDENTITIES).on_conflict_do_nothing().returning(IDENTITIES.c.hash))
LOCK: Final = Prepared(select(IDENTITIES.c.hash).where(KEY).with_for_update())
DROP_EMPTY: Final = Prepared(
    delete(IDENTITIES).where(
        KEY, IDENTITIES.c.known == false(), IDENTITIES.c.merged_into.is_(None), IDENTITIES.c.creating.is_(None)
    )
)


@cache
def _upsert(dialect: str, *columns: str) -> Prepared:
    """Write these columns of an identity, whether or not it is there."""
    statement = insert(dialect, IDENTITIES)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=["partner", "hash"], set_={name: statement.excluded[name] for name in columns}
        )
    )


@cache
def _claim(dialect: str) -> Prepared:
    """Claim an identity for a create: a row comes back only where nobody else has it, in any way."""
    statement = insert(dialect, IDENTITIES)
    new = statement.excluded
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=["partner", "hash"],
            set_={"creating": new.creating, "at_ms": new.at_ms},
            where=and_(
                or_(IDENTITIES.c.creating.is_(None), IDENTITIES.c.creating == new.creating),
                IDENTITIES.c.known == false(),
                IDENTITIES.c.merged_into.is_(None),
            ),
        ).returning(IDENTITIES.c.hash)
    )


class Identities:
    """The identities table."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def hash(self, identity: Identity) -> str:
        """How an identity stands in the ledger."""
        return self._pseudonyms.identity(identity.kind, identity.system, identity.value, identity.under)

    def claim(self, connection: Connection, partner: str, identities: Iterable[Identity], delivery: int, at_ms: int) -> None:
        """A create is about to leave. Held where another one is open, or the partner has the patient, or it was merged away.

        One that was merged away while others were not is the prior's number that the survivor's message still lists: it is not sent, nor claimed.
        """
        away: list[str] = []
        claimed = 0
        identities = tuple(identities)
        for identity in sorted(identities, key=self.hash):  # one order for all, so that two sessions never wait for each other
            new = self._new(partner, identity) | {"creating": delivery, "at_ms": at_ms}
            if _claim(connection.dialect.name).first(connection, new) is not None:
                claimed += 1
            elif self._merged_into(connection, partner, new["hash"]) is not None:
                away.append(new["hash"])
            else:
                raise _why(connection, partner, new["hash"])
        if identities and not claimed:
            raise _why(connection, partner, away[0])

    def release(self, connection: Connection, delivery: int, *, done: bool, at_ms: int) -> None:
        """A create's outcome is known: done, and the partner has the patient under all that was claimed; or not, and a create may leave again."""
        if done:
            DONE.all(connection, {"k_creating": delivery, "at_ms": at_ms})
            return
        DROP_CLAIMED.all(connection, {"k_creating": delivery})
        UNCLAIM.all(connection, {"k_creating": delivery, "at_ms": at_ms})

    def found(self, connection: Connection, delivery: int, partner_id: str | None, at_ms: int) -> None:
        """An operator says that the partner did a create: it has the patient under all that was claimed with it."""
        given = {"partner_id": self._pseudonyms.seal(partner_id)} if partner_id is not None else {}
        FOUND_PARTS.all(connection, {"k_creating": delivery, "known": True, "creating": None, "at_ms": at_ms} | _with(given))
        FOUND.all(connection, {"k_creating": delivery, "known": True, "creating": None, "at_ms": at_ms} | given)

    def learn(self, connection: Connection, partner: str, rows: Iterable[Learned], at_ms: int, *, told: bool = False) -> int:
        """What a partner has; a partner id that is there stays where none is given. Returns how many were new or changed.

        `told` by a person or by the partner's own word, and not concluded from an answer: it replaces a partner id, and ends what is open.
        """
        rows = sorted(rows, key=lambda row: self.hash(row.identity))
        return sum(self._learn(connection, partner, row, at_ms, told=told) for row in rows)

    def _learn(self, connection: Connection, partner: str, row: Learned, at_ms: int, *, told: bool) -> bool:
        key = {"k_partner": partner, "k_hash": self.hash(row.identity)}
        there = SELECT.first(connection, key)
        known = there is not None and there.known
        had = self._pseudonyms.unseal(there.partner_id) if there is not None and there.partner_id is not None else None
        if told and there is not None and there.creating is not None:
            self._end_open(connection, there, row.partner_id if row.identity.kind is Subject.PATIENT else None, at_ms)
        values: dict[str, Any] = {}
        if row.partner_id not in (None, had) and (told or had is None or not known):
            values["partner_id"] = self._pseudonyms.seal(str(row.partner_id))
        if row.created_with and not (there is not None and there.created_with):
            values["created_with"] = True
        if row.belongs_to is not None and (told or there is None or there.belongs_to is None):
            values["belongs_to"] = self._pseudonyms.seal(row.belongs_to)
        elif told and there is not None and there.belongs_to is not None:
            values["belongs_to"] = None  # whoever names it next has it
        if known and not values:
            return False
        values |= {"known": True, "at_ms": at_ms}
        _upsert(connection.dialect.name, *values).all(connection, self._new(partner, row.identity) | values)
        return True

    def _end_open(self, connection: Connection, there: Row, partner_id: str | None, at_ms: int) -> None:
        """The partner has a patient whose create is parked as unknown, or whose merge waits for a re-key: under all that was claimed with it.

        Of a merge it is the survivor that was found: the prior's number is gone there, and stays merged away here.
        """
        if there.merged_into is not None or PARKED.first(connection, {"k_id": there.creating}) is None:
            return
        given = {"partner_id": self._pseudonyms.seal(partner_id)} if partner_id is not None else {}
        FOUND_PARTS.all(connection, {"k_creating": there.creating, "known": True, "at_ms": at_ms} | _with(given))
        FOUND.all(connection, {"k_creating": there.creating, "known": True, "at_ms": at_ms} | given)
        REKEYED.all(connection, {"k_creating": there.creating, "at_ms": at_ms})
        UNCLAIM.all(connection, {"k_creating": there.creating, "at_ms": at_ms})

    def _new(self, partner: str, identity: Identity) -> dict[str, Any]:
        return {
            "partner": partner,
            "hash": self.hash(identity),
            "kind": identity.kind.value,
            "system": identity.system,
            "known": False,
        }

    def forget(
        self, connection: Connection, partner: str, identities: Iterable[Identity], at_ms: int, *, by_operator: bool = False
    ) -> list[int]:
        """The partner has them not. A merge stays recorded: a patient that was merged away is never created again. Returns the deliveries whose open create or merge that ended."""
        ended: list[int] = []
        for value in sorted(self.hash(identity) for identity in identities):
            key = {"k_partner": partner, "k_hash": value}
            there = SELECT.first(connection, key) if by_operator else None
            if there is not None and PARKED.first(connection, {"k_id": there.creating}) is not None:
                self.release(connection, there.creating, done=False, at_ms=at_ms)
                ended.append(there.creating)
            DROP.all(connection, key)
            FORGET.all(connection, key | {"at_ms": at_ms})
        return ended

    def unknown(self, connection: Connection, partner: str, identities: Iterable[Identity]) -> Iterator[Identity]:
        """Those that the partner neither knows nor has an open create of."""
        for identity in identities:
            there = SELECT.first(connection, {"k_partner": partner, "k_hash": self.hash(identity)})
            if there is None or (not there.known and there.creating is None):
                yield identity

    def wait(self, connection: Connection, partner: str, merged: Merged, delivery: int, at_ms: int) -> None:
        """A merge that needs a re-key there: both patients wait for an operator. Not where the partner has the survivor by now."""
        for identity in sorted(merged.waiting, key=self.hash):
            new = self._new(partner, identity) | {"creating": delivery, "at_ms": at_ms}
            if _claim(connection.dialect.name).first(connection, new) is None:
                self.release(connection, delivery, done=False, at_ms=at_ms)
                return
        for identity in sorted(merged.prior, key=self.hash):
            WAIT.all(connection, {"k_partner": partner, "k_hash": self.hash(identity), "creating": delivery, "at_ms": at_ms})

    def merge(self, connection: Connection, partner: str, merged: Merged, at_ms: int, *, own: int | None) -> None:
        """From now on each prior is the survivor's last survivor. Told twice, it stays as it was.

        Held where that would be a cycle, or a create of either is open that is not of this delivery (`own`).
        """
        involved = (*merged.prior, merged.survivor, *merged.waiting)
        made: list[str] = []
        if connection.dialect.name == "postgresql":
            connection.execute(select(FACTS.c.name).where(FACTS.c.name == MERGES).with_for_update())
            made = self._wait_for_claims(connection, partner, involved, at_ms)
        survivor = self.hash(merged.survivor)
        last = self._merged_into(connection, partner, survivor) or survivor
        for identity in sorted(merged.prior, key=self.hash):
            prior = self.hash(identity)
            if prior in (survivor, last):
                raise Held(Reason.MERGE_CYCLE.sentence)
            if self._merged_into(connection, partner, prior) == last:
                continue
            values = {"merged_into": last, "merged_ms": merged.event_ms, "at_ms": at_ms}
            _upsert(connection.dialect.name, *values).all(connection, self._new(partner, identity) | values)
            # Chains are kept one link long: what was merged into the prior goes with it, each at its own event time.
            RECHAIN.all(connection, {"k_partner": partner, "k_hash": prior, "merged_into": last})
        self._nobody_creates(connection, partner, involved, own)
        for value in made:
            DROP_EMPTY.all(connection, {"k_partner": partner, "k_hash": value})

    def _wait_for_claims(self, connection: Connection, partner: str, identities: Iterable[Identity], at_ms: int) -> list[str]:
        """A claim that is not committed yet is waited for, and none is made until this ends: each identity's row is locked, or written (these are told).

        In the order in which claims are made, so that two sessions never wait for each other.
        """
        made: list[str] = []
        for identity in sorted(set(identities), key=self.hash):
            new = self._new(partner, identity) | {"at_ms": at_ms}
            if PLACE.first(connection, new) is not None:
                made.append(new["hash"])
            else:
                LOCK.first(connection, {"k_partner": partner, "k_hash": new["hash"]})
        return made

    def _nobody_creates(self, connection: Connection, partner: str, identities: Iterable[Identity], own: int | None) -> None:
        """Looked at last: once a prior is written, a create of another worker either stands there or is refused."""
        for identity in identities:
            key = {"k_partner": partner, "k_hash": self.hash(identity), "k_own": -1 if own is None else own}
            row = HOLDER.first(connection, key)
            if row is not None:
                raise _open_create(row)

    @staticmethod
    def _merged_into(connection: Connection, partner: str, value: str) -> str | None:
        row = SELECT.first(connection, {"k_partner": partner, "k_hash": value})
        return row.merged_into if row else None


def _with(given: dict[str, Any]) -> dict[str, Any]:
    """Of a part: it belongs to the patient that was found."""
    return {"belongs_to": given["partner_id"]} if given else {}


def _why(connection: Connection, partner: str, value: str) -> Held:
    row = connection.execute(
        select(IDENTITIES.c.merged_into, DELIVERIES.c.route, DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
        .select_from(IDENTITIES.outerjoin(DELIVERIES, DELIVERIES.c.id == IDENTITIES.c.creating))
        .where(IDENTITIES.c.partner == partner, IDENTITIES.c.hash == value)
    ).one()
    if row.topic is not None:
        return _open_create(row)
    if row.merged_into is not None:
        return Held("the patient was merged away and is never created again: read the ledger again")
    return Held("the partner knows this patient by now: read the ledger again")


def _open_create(row: Row) -> Held:
    return Held("a create of this patient is open there", by=Position(row.topic, row.partition, row.offset), route=row.route)
