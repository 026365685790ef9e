"""Who is known at which partner: writing what was learned, forgotten, merged. Each function runs in the caller's transaction.

Values stand as keyed hashes, partner ids sealed: a sealed id differs each time, so that comparing means unsealing.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, delete, false, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.port import Held, Merged
from pipeline.ledger.tables import DELIVERIES, FACTS, IDENTITIES
from pipeline.model import Identity, Learned, Position
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import Reason

MERGES: Final = "merges"
"""The fact at which merges queue on PostgreSQL, so that two workers cannot close a cycle or split a chain between them."""


def insert(connection: Connection, table: Any) -> Any:  # noqa: ANN401 - the two dialects' inserts share their methods, not a type
    """INSERT with ON CONFLICT, which is the dialect's own."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


class Identities:
    """The identities table."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def hash(self, identity: Identity) -> str:
        """How an identity stands in the ledger."""
        return self._pseudonyms.identity(identity.kind, identity.system, identity.value)

    def claim(self, connection: Connection, partner: str, identities: Iterable[Identity], delivery: int, at_ms: int) -> None:
        """A create is about to leave. Held where another one is open, or the partner has the patient, or it was merged away."""
        rows = sorted((self.hash(identity), identity) for identity in identities)
        for value, identity in rows:
            claimed = connection.execute(
                _claim(connection),
                {
                    "partner": partner,
                    "hash": value,
                    "kind": identity.kind.value,
                    "system": identity.system,
                    "creating": delivery,
                    "at_ms": at_ms,
                },
            ).first()
            if claimed is None:
                raise _why(connection, partner, value)

    def release(self, connection: Connection, delivery: int, *, done: bool, at_ms: int) -> None:
        """A create's outcome is known: done, and the partner has the patient under all that was claimed; or not, and a create may leave again."""
        if done:
            values = {"creating": None, "known": True, "at_ms": at_ms}
        else:
            never = and_(IDENTITIES.c.creating == delivery, IDENTITIES.c.known == false(), IDENTITIES.c.merged_into.is_(None))
            connection.execute(delete(IDENTITIES).where(never))
            values = {"creating": None, "at_ms": at_ms}
        connection.execute(update(IDENTITIES).where(IDENTITIES.c.creating == delivery).values(**values))

    def learn(self, connection: Connection, partner: str, rows: Iterable[Learned], at_ms: int) -> int:
        """What a partner has; a partner id that is there stays where none is given. Returns how many were new or changed."""
        return sum(self._learn(connection, partner, row, at_ms) for row in rows)

    def _learn(self, connection: Connection, partner: str, row: Learned, at_ms: int) -> bool:
        value = self.hash(row.identity)
        key = and_(IDENTITIES.c.partner == partner, IDENTITIES.c.hash == value)
        there = connection.execute(select(IDENTITIES.c.known, IDENTITIES.c.partner_id).where(key)).first()
        same_id = row.partner_id is None or (
            there is not None and there.partner_id is not None and self._pseudonyms.unseal(there.partner_id) == row.partner_id
        )
        if there is not None and there.known and same_id:
            return False
        values = {"known": True, "at_ms": at_ms} | (
            {} if same_id else {"partner_id": self._pseudonyms.seal(row.partner_id or "")}
        )
        new = {"partner": partner, "hash": value, "kind": row.identity.kind.value, "system": row.identity.system}
        connection.execute(
            insert(connection, IDENTITIES)
            .values(**new, **values)
            .on_conflict_do_update(index_elements=["partner", "hash"], set_=values)
        )
        return True

    def forget(self, connection: Connection, partner: str, identities: Iterable[Identity], at_ms: int) -> None:
        """The partner has them not. A merge stays recorded: a patient that was merged away is never created again."""
        for value in sorted(self.hash(identity) for identity in identities):
            key = and_(IDENTITIES.c.partner == partner, IDENTITIES.c.hash == value)
            connection.execute(delete(IDENTITIES).where(key, IDENTITIES.c.merged_into.is_(None), IDENTITIES.c.creating.is_(None)))
            connection.execute(update(IDENTITIES).where(key).values(known=False, partner_id=None, at_ms=at_ms))

    def merge(self, connection: Connection, partner: str, merged: Merged, at_ms: int) -> None:
        """From now on each prior is the survivor's last survivor. Held where that would be a cycle. Told twice, it stays as it was."""
        if connection.dialect.name == "postgresql":
            connection.execute(select(FACTS.c.name).where(FACTS.c.name == MERGES).with_for_update())
        survivor = self.hash(merged.survivor)
        into = select(IDENTITIES.c.merged_into).where(IDENTITIES.c.partner == partner, IDENTITIES.c.hash == bindparam("value"))
        last = connection.execute(into, {"value": survivor}).scalar() or survivor
        for identity in sorted(merged.prior, key=self.hash):
            prior = self.hash(identity)
            if prior in (survivor, last):
                raise Held(Reason.MERGE_CYCLE.sentence)
            if connection.execute(into, {"value": prior}).scalar() == last:
                continue
            values = {"merged_into": last, "merged_ms": merged.event_ms, "at_ms": at_ms}
            new = {"partner": partner, "hash": prior, "kind": identity.kind.value, "system": identity.system}
            connection.execute(
                insert(connection, IDENTITIES)
                .values(**new, **values)
                .on_conflict_do_update(index_elements=["partner", "hash"], set_=values)
            )
            # Chains are kept one link long: what was merged into the prior goes with it, each at its own event time.
            chain = and_(IDENTITIES.c.partner == partner, IDENTITIES.c.merged_into == prior)
            connection.execute(update(IDENTITIES).where(chain).values(merged_into=last))


def _claim(connection: Connection) -> Any:  # noqa: ANN401 - as `insert`
    statement = insert(connection, IDENTITIES)
    new = statement.excluded
    free = case((IDENTITIES.c.creating.is_(None), true()), else_=IDENTITIES.c.creating == new.creating)
    return (
        statement.values({name: bindparam(name) for name in ("partner", "hash", "kind", "system", "creating", "at_ms")})
        .on_conflict_do_update(
            index_elements=["partner", "hash"],
            set_={"creating": new.creating, "at_ms": new.at_ms},
            where=and_(free, IDENTITIES.c.known == false(), IDENTITIES.c.merged_into.is_(None)),
        )
        .returning(IDENTITIES.c.hash)
    )


def _why(connection: Connection, partner: str, value: str) -> Held:
    row = connection.execute(
        select(IDENTITIES.c.merged_into, DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
        .select_from(IDENTITIES.outerjoin(DELIVERIES, DELIVERIES.c.id == IDENTITIES.c.creating))
        .where(IDENTITIES.c.partner == partner, IDENTITIES.c.hash == value)
    ).one()
    if row.topic is not None:
        return Held("a create of this patient is open there", by=Position(row.topic, row.partition, row.offset))
    if row.merged_into is not None:
        return Held("the patient was merged away and is never created again: read the ledger again")
    return Held("the partner knows this patient by now: read the ledger again")
