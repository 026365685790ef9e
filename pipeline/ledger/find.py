"""What `find` asks for, as one statement; newest first. It only reads."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, or_, select, tuple_

from pipeline.ledger.identities import CLAIMS
from pipeline.ledger.port import Delivery, Query
from pipeline.ledger.tables import ALSO, DELIVERIES, REPLAY_ITEMS, REPLAYS
from pipeline.model import Position
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import OUTCOME_UNKNOWN, Reason, State

MOST: Final = 199
"""Characters of a control id that stands here as it is."""


def statement_of(query: Query, pseudonyms: Pseudonyms) -> Select[Any]:
    """The statement; what the query leaves open is any. A control id is asked for as the sender wrote it, however it stands here."""
    rows = DELIVERIES.c
    wanted = {
        rows.route: query.route,
        rows.state: query.state.value if query.state else None,
        rows.reason: query.reason,
        rows.event: query.event,
        rows.request_id: query.request_id,
        rows.http_status: query.http_status,
        rows.mapping_version: query.mapping_version,
    }
    statement = select(DELIVERIES, CLAIMS).where(*(column == value for column, value in wanted.items() if value is not None))
    if query.in_doubt:
        statement = statement.where(in_doubt())
    if query.control_id is not None:
        statement = statement.where(rows.control_id.in_(control_ids(query.control_id, pseudonyms)))
    if query.patients:
        also = select(ALSO.c.delivery).where(ALSO.c.lane.in_(query.patients))
        statement = statement.where(or_(rows.lane.in_(query.patients), rows.id.in_(also)))
    if query.position is not None:
        at, last = query.position, query.last_offset
        statement = statement.where(
            rows.topic == at.topic,
            rows.partition == at.partition,
            rows.offset.between(at.offset, at.offset if last is None else last),
        )
    if query.replay is not None:
        key = (REPLAY_ITEMS.c.topic, REPLAY_ITEMS.c.partition, REPLAY_ITEMS.c.offset)
        items = select(*key).join(REPLAYS, REPLAYS.c.id == REPLAY_ITEMS.c.replay)
        statement = statement.where(
            tuple_(rows.topic, rows.partition, rows.offset).in_(items.where(REPLAYS.c.id == query.replay)),
            rows.route == select(REPLAYS.c.route).where(REPLAYS.c.id == query.replay).scalar_subquery(),
        )
    if query.since_ms is not None:
        statement = statement.where(rows.at_ms >= query.since_ms)
    if query.until_ms is not None:
        statement = statement.where(rows.at_ms < query.until_ms)
    return statement.order_by(rows.at_ms.desc(), rows.id.desc()).limit(query.most)


def in_doubt() -> ColumnElement[bool]:
    """What is open or unknown; and of what is parked that which `resolve` takes: by its reason, or because it holds a patient. A merge that waits was not sent."""
    rows = DELIVERIES.c
    holds = and_(CLAIMS.element, rows.reason.is_distinct_from(Reason.MERGE_NEEDS_REKEY.value))
    unresolved = or_(rows.reason.in_(sorted(OUTCOME_UNKNOWN)), holds)
    return or_(rows.open, rows.state == State.UNKNOWN.value, and_(rows.state == State.PARKED.value, unresolved))


def control_ids(text: str, pseudonyms: Pseudonyms) -> list[str]:
    """How a control id may stand here: as it is, or hashed. No row has one with a NUL or beyond 199 characters as it is."""
    plain = [text] if text.isprintable() and len(text) <= MOST else []
    return [*plain, pseudonyms.control_id_hash(text)]


def delivery_of(row: Row[Any]) -> Delivery:
    """A row as Delivery."""
    return Delivery(
        route=row.route,
        position=Position(row.topic, row.partition, row.offset),
        state=State(row.state),
        reason=row.reason,
        where=row.place,
        event=row.event,
        control_id=row.control_id,
        patient=row.lane,
        request_id=row.request_id or "",
        attempt=row.attempt,
        result_id=row.result_id,
        http_status=row.http_status,
        response_ms=row.response_ms,
        at_ms=row.at_ms,
        mapping_version=row.mapping_version,
        pointer=row.pointer,
        open=bool(row.open),
        replay=row.replay,
        sent=row.sent,
        step=row.step,
        dedupe=row.dedupe,
        operation=row.operation,
        claims=bool(row.claims),
    )
