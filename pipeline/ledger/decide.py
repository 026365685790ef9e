"""What an operator says of a parked record: it arrived, it did not, it is not wanted. One transaction with its audit; refused where it would break a promise.

An unknown create may not be discarded: its patient could then be created twice. It is resolved. So is what a crash left open, once nobody is at it:
its time is over, and it is parked, or its bytes are gone, without which no worker goes on with it.
"""

from datetime import datetime

from sqlalchemy import Connection, select

from pipeline.database.prepared import Row
from pipeline.errors import Refused, SettingsError
from pipeline.ledger.deliveries import Deliveries
from pipeline.ledger.identities import CREATING, Identities
from pipeline.ledger.plans import What
from pipeline.ledger.port import Decided
from pipeline.ledger.replays import SqlReplays
from pipeline.ledger.tables import IDENTITIES
from schemas.outcomes import OUTCOME_UNKNOWN, Reason, State


def decide(decided: Decided, deliveries: Deliveries, identities: Identities, replays: SqlReplays, connection: Connection) -> None:
    """See the port."""
    deed = decided.deed
    if deed.route is None or deed.position is None:
        raise SettingsError("a decision is about one record of one route")
    before = deliveries.before(connection, deed.route, deed.position)
    if before is None:
        raise SettingsError("the ledger has no such record on this route", where=str(deed.position))
    holds = connection.execute(select(IDENTITIES.c.hash).where(CREATING).limit(1), {"k_creating": before.id}).first() is not None
    _allowed(decided, before, holds=holds)
    if deed.what is What.RESOLVE_DELIVERED:
        identities.found(connection, before.id, decided.partner_id, deed.at_ms)
    else:
        identities.release(connection, before.id, done=False, at_ms=deed.at_ms)
    if decided.settlement is not None:
        _settle(connection, decided, deliveries, identities, before)
    else:
        deliveries.write_open(connection, before.id, deed.at_ms, arrived=decided.arrived)
    if decided.then is not None:
        replays.keep(connection, decided.then[0], [decided.then[1]])
    replays.tell(connection, deed)


def _settle(connection: Connection, decided: Decided, deliveries: Deliveries, identities: Identities, before: Row) -> None:
    settlement = decided.settlement
    if settlement is None:
        return
    outcome = settlement.outcome
    deliveries.write_decided(connection, outcome, before, **deliveries.settled(settlement))
    identities.learn(connection, outcome.partner, settlement.learned, settlement.at_ms)
    if outcome.state is State.DELIVERED and outcome.routed is not None:
        deliveries.delivered_last(connection, settlement.subjects, outcome.routed)


def _allowed(decided: Decided, before: Row, *, holds: bool) -> None:
    where = str(decided.deed.position)
    resolves = decided.deed.what is not What.DISCARD
    ours = decided.gone or before.state == State.PARKED
    left_open = before.open and (before.deadline_ms or 0) < decided.deed.at_ms and ours
    if before.open and not left_open:
        raise Refused(_not_yet(before) if ours else "the worker is at it: wait until it is parked", where=where)
    if before.state != State.PARKED and not (resolves and (holds or left_open)):
        raise Refused(f"it is {before.state}: only what is parked can be decided upon", where=where)
    if before.reason == Reason.MERGE_NEEDS_REKEY and holds:
        raise Refused(
            "a merge that waits for the partner is ended with emr-pipeline identities import, or identities forget", where=where
        )
    unknown = holds or left_open or before.reason in OUTCOME_UNKNOWN
    if resolves and not unknown:
        raise Refused("its outcome is not unknown: there is nothing to resolve; replay or discard it", where=where)
    if not resolves and unknown:
        raise Refused(
            "it may have arrived, and discarding it could create the patient twice: emr-pipeline resolve says what became of it",
            where=where,
        )


def _not_yet(before: Row) -> str:
    """Its worker may have ended, and what that one sent may arrive all the same. The time is this machine's, as the tables show it, and the next second's."""
    until = datetime.fromtimestamp((before.deadline_ms or 0) // 1000 + 1).astimezone()
    return f"its last request may be out until {until:%Y-%m-%d %H:%M:%S}: say it again then"
