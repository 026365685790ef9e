"""What `find` asks for, as one statement; newest first. It only reads."""

from typing import Any

from sqlalchemy import Row, Select, select

from pipeline.ledger.port import Delivery, Query
from pipeline.ledger.tables import DELIVERIES
from pipeline.model import Position
from schemas.outcomes import State


def statement_of(query: Query) -> Select[Any]:
    """The statement; what the query leaves open is any."""
    rows = DELIVERIES.c
    wanted = {
        rows.route: query.route,
        rows.state: query.state.value if query.state else None,
        rows.reason: query.reason,
        rows.event: query.event,
        rows.control_id: query.control_id,
        rows.lane: query.patient,
        rows.request_id: query.request_id,
    }
    statement = select(DELIVERIES).where(*(column == value for column, value in wanted.items() if value is not None))
    if query.patients:
        statement = statement.where(rows.lane.in_(query.patients))
    if query.position is not None:
        statement = statement.where(
            rows.topic == query.position.topic, rows.partition == query.position.partition, rows.offset == query.position.offset
        )
    if query.since_ms is not None:
        statement = statement.where(rows.at_ms >= query.since_ms)
    if query.until_ms is not None:
        statement = statement.where(rows.at_ms < query.until_ms)
    return statement.order_by(rows.at_ms.desc(), rows.id.desc()).limit(query.most)


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
        open=row.open_lane is not None,
    )
