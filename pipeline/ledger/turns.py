"""Whose turn it is: which records of the plans that stand a worker may take next. Statements only; they run in transactions of replays.py.

A plan may have a hundred thousand records, and most of them may be done: each statement begins at the first that waits and reads no more than it gives.
"""

from collections.abc import Collection, Mapping
from math import ceil
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, bindparam, case, exists, or_, select

from pipeline.ledger.plans import ItemState, PlanState
from pipeline.ledger.tables import DELIVERIES, REPLAY_ITEMS, REPLAYS
from schemas.outcomes import State

ITEM: Final = REPLAY_ITEMS.c
PLAN: Final = REPLAYS.c
LEFT: Final = (ItemState.WAITING.value, ItemState.TAKEN.value)
"""Items that are not at their end."""
BEGUN: Final = (State.PENDING.value, State.UNKNOWN.value)

STANDING: Final = (
    select(REPLAYS)
    .where(
        PLAN.route == bindparam("k_route"),
        PLAN.state.in_([PlanState.RELEASED.value, PlanState.PAUSED.value, PlanState.CANCELLED.value]),
        exists().where(ITEM.replay == PLAN.id, ITEM.state.in_(LEFT)),
    )
    .order_by(PLAN.created_ms, PLAN.id)
)
WAITING: Final = (
    select(REPLAY_ITEMS)
    .where(
        ITEM.replay == bindparam("k_replay"),
        ITEM.state == ItemState.WAITING.value,
        ITEM.topic == bindparam("k_topic"),
        ITEM.partition == bindparam("k_partition"),
    )
    .order_by(ITEM.offset)
)
OF_ITEM: Final = and_(
    DELIVERIES.c.topic == ITEM.topic, DELIVERIES.c.partition == ITEM.partition, DELIVERIES.c.offset == ITEM.offset
)
IN_A_PLAN: Final = exists(
    select(ITEM.replay)
    .join(REPLAYS, PLAN.id == ITEM.replay)
    .where(OF_ITEM, PLAN.route == DELIVERIES.c.route, PLAN.state == PlanState.RELEASED.value, ITEM.state.in_(LEFT))
    .correlate(DELIVERIES)
)
"""Of a delivery: a released plan has it, and has not come to its end with it."""
IS_BEGUN: Final = or_(DELIVERIES.c.open, DELIVERIES.c.state.in_(BEGUN))


class Turn(NamedTuple):
    """An item that may be taken, and its plan."""

    plan: Row[Any]
    item: Row[Any]


class Asker(NamedTuple):
    """Who asks: see Replays.next."""

    route: str
    topic: str
    holders: Mapping[int, str]
    beside: Collection[str]


def turns(connection: Connection, asker: Asker, most: int, *, lock: bool = False) -> list[Turn]:
    """As Replays.next has it. `lock`: they are to be taken in this transaction."""
    found: list[Turn] = []
    for plan in connection.execute(STANDING, {"k_route": asker.route}).all():
        room = min(most - len(found), max(ceil(plan.rate), 1))
        if room and plan.id not in asker.beside:
            items = _left(connection, plan, asker, room, lock=lock)
            if plan.state == PlanState.RELEASED.value:
                items += _waiting(connection, plan, asker, room, lock=lock)
            found += [Turn(plan, item) for item in sorted(items, key=_place)[:room]]
    return found


def _waiting(connection: Connection, plan: Row[Any], asker: Asker, most: int, *, lock: bool) -> list[Row[Any]]:
    """One statement for each partition: of several in one, neither database would give the first ones without reading all."""
    found: list[Row[Any]] = []
    for partition in sorted(asker.holders):
        if len(found) == most:
            break
        statement = _locking(WAITING.limit(most - len(found)), lock=lock)
        found += connection.execute(statement, {"k_replay": plan.id, "k_topic": asker.topic, "k_partition": partition}).all()
    return found


def _left(connection: Connection, plan: Row[Any], asker: Asker, most: int, *, lock: bool) -> list[Row[Any]]:
    """What another holder took and did not finish; of a paused plan only what was begun."""
    mine = case(dict(asker.holders), value=ITEM.partition, else_="")
    statement = select(REPLAY_ITEMS).where(
        ITEM.replay == plan.id,
        ITEM.state == ItemState.TAKEN.value,
        ITEM.topic == asker.topic,
        ITEM.partition.in_(sorted(asker.holders)),
        or_(ITEM.holder.is_(None), ITEM.holder != mine),
    )
    if plan.state == PlanState.PAUSED.value:
        statement = statement.where(exists().where(OF_ITEM, DELIVERIES.c.route == plan.route, IS_BEGUN))
    return list(connection.execute(_locking(statement.order_by(ITEM.partition, ITEM.offset).limit(most), lock=lock)).all())


def _locking(statement: Select[Any], *, lock: bool) -> Select[Any]:
    return statement.with_for_update() if lock else statement


def _place(item: Row[Any]) -> tuple[int, int]:
    return item.partition, item.offset
