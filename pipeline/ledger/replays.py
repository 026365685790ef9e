"""Replay plans on SQLAlchemy Core, and the audit. One transaction per call; what a method promises stands in plans.py.

An item that was taken is never forgotten: whoever has the partition next is given it again. Nothing here sends anything, or says that
something was sent: that is the delivery's own row.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from pipeline.errors import Refused, SettingsError
from pipeline.ledger.plans import (
    MOVES,
    Deed,
    Item,
    ItemClass,
    ItemState,
    Mode,
    PlanState,
    Progress,
    Replay,
    Taken,
    What,
)
from pipeline.ledger.tables import AUDIT, DELIVERIES, REPLAY_ITEMS, REPLAYS
from pipeline.ledger.turns import ITEM, LEFT, PLAN, Asker, turns
from pipeline.model import Position
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import CLOSED, State

OPEN_PLANS: Final = (PlanState.RELEASED.value, PlanState.PAUSED.value)
PAGE: Final = 1000

HERE: Final = and_(
    ITEM.replay == bindparam("k_replay"),
    ITEM.topic == bindparam("k_topic"),
    ITEM.partition == bindparam("k_partition"),
    ITEM.offset == bindparam("k_offset"),
)
TAKE: Final = update(REPLAY_ITEMS).where(HERE).values(state=ItemState.TAKEN.value)
DONE: Final = update(REPLAY_ITEMS).where(HERE).values(state=ItemState.DONE.value)
OVER: Final = (
    update(REPLAYS)
    .where(PLAN.id == bindparam("k_replay"), PLAN.state.in_(OPEN_PLANS))
    .where(~exists().where(ITEM.replay == REPLAYS.c.id, ITEM.state.in_(LEFT)))
    .values(state=PlanState.DONE.value)
)
ENDED: Final = (
    select(PLAN.id)
    .where(PLAN.route == bindparam("k_route"), PLAN.state.in_(OPEN_PLANS))
    .where(~exists().where(ITEM.replay == REPLAYS.c.id, ITEM.state.in_(LEFT)))
)
GIVEN_BACK: Final = {PlanState.PAUSED: ItemState.WAITING, PlanState.CANCELLED: ItemState.LEFT_OUT}
GIVE_BACK: Final = update(REPLAY_ITEMS).where(HERE, ITEM.state == ItemState.TAKEN.value)
ROW: Final = DELIVERIES.alias("row")
HALF_DONE: Final = (
    select(ROW.c.id)
    .select_from(REPLAY_ITEMS.join(REPLAYS, PLAN.id == ITEM.replay))
    .join(ROW, and_(ROW.c.route == PLAN.route, *(ROW.c[name] == ITEM[name] for name in ("topic", "partition", "offset"))))
    .where(ITEM.replay == bindparam("k_replay"), PLAN.state.in_((*OPEN_PLANS, PlanState.CANCELLED.value)))
    .where(ROW.c.state.in_(sorted(CLOSED)), ~ROW.c.open, or_(ROW.c.step > 0, ROW.c.crashed))
)
"""Resends between two of their steps. Of a plan that was released: a record of another one may be on its way by somebody else's."""
ANEW: Final = update(DELIVERIES).values(step=0, crashed=False)
"""A closed record has no step left: the next resend is another one, and begins with the first."""
STANDS: Final = select(PLAN.state).where(PLAN.id == bindparam("k_replay"))


class SqlReplays:
    """Implements plans.Replays."""

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Connection]],
        write: Callable[[], AbstractContextManager[Connection]],
        commit: Callable[[Callable[[Connection], Any]], Any],
        pseudonyms: Pseudonyms,
    ) -> None:
        """`commit` runs a piece of work in a transaction that others may share."""
        self._read, self._write, self._commit, self._pseudonyms = read, write, commit, pseudonyms

    # plans

    def plan(self, replay: Replay, items: Sequence[Item], deed: Deed) -> None:
        """See the port."""
        with self._write() as connection:
            self.keep(connection, replay, items)
            self.tell(connection, deed)

    def keep(self, connection: Connection, replay: Replay, items: Sequence[Item]) -> None:
        """A plan with its items, in the caller's transaction."""
        if connection.execute(select(PLAN.id).where(PLAN.id == replay.id)).first() is not None:
            raise Refused("there is a plan of this name already: try again", where=replay.id)
        connection.execute(insert(REPLAYS), self._row(replay))
        rows = [_item_row(replay.id, item) for item in items]
        for start in range(0, len(rows), PAGE):
            connection.execute(insert(REPLAY_ITEMS), rows[start : start + PAGE])

    def get(self, replay: str) -> Replay | None:
        """See the port."""
        with self._read() as connection:
            row = connection.execute(select(REPLAYS).where(PLAN.id == replay)).first()
        return self._replay(row) if row is not None else None

    def all(self, route: str | None = None) -> list[Replay]:
        """See the port."""
        statement = select(REPLAYS).order_by(PLAN.created_ms.desc(), PLAN.id)
        if route is not None:
            statement = statement.where(PLAN.route == route)
        with self._read() as connection:
            return [self._replay(row) for row in connection.execute(statement).all()]

    def items(self, replay: str) -> list[Item]:
        """See the port."""
        statement = select(REPLAY_ITEMS).where(ITEM.replay == replay).order_by(ITEM.topic, ITEM.partition, ITEM.offset)
        with self._read() as connection:
            return [_item(row) for row in connection.execute(statement).all()]

    def progress(self, replay: str) -> Progress:
        """See the port."""
        statement = (
            select(ITEM["class"], ITEM.state, ITEM.outcome, func.count())
            .where(ITEM.replay == replay)
            .group_by(ITEM["class"], ITEM.state, ITEM.outcome)
        )
        classes: dict[ItemClass, int] = {}
        states: dict[ItemState, int] = {}
        outcomes: dict[State, int] = {}
        with self._read() as connection:
            for name, state, outcome, number in connection.execute(statement).all():
                classes[_class(name)] = classes.get(_class(name), 0) + number
                states[ItemState(state)] = states.get(ItemState(state), 0) + number
                if outcome is not None:
                    outcomes[State(outcome)] = outcomes.get(State(outcome), 0) + number
        return Progress(classes, states, outcomes)

    def move(self, replay: str, to: PlanState, deed: Deed) -> Replay:
        """See the port."""
        with self._write() as connection:
            row = connection.execute(select(REPLAYS).where(PLAN.id == replay).with_for_update()).first()
            if row is None:
                raise SettingsError("no such plan: emr-pipeline replay list shows them", where=f"--plan {replay}")
            if PlanState(row.state) not in MOVES[to]:
                raise Refused(f"the plan is {row.state}", where=replay)
            if to is PlanState.RELEASED:
                _may_be_released(connection, row)
            if to is PlanState.CANCELLED:
                half = HALF_DONE.where(ITEM.state == ItemState.WAITING.value)
                connection.execute(ANEW.where(DELIVERIES.c.id.in_(half)), {"k_replay": replay})
                left = update(REPLAY_ITEMS).where(ITEM.replay == replay, ITEM.state == ItemState.WAITING.value)
                connection.execute(left.values(state=ItemState.LEFT_OUT.value))
            connection.execute(update(REPLAYS).where(PLAN.id == replay).values(state=to.value))
            self.tell(connection, deed)
            return self._replay(connection.execute(select(REPLAYS).where(PLAN.id == replay)).one())

    # the worker's

    def next(self, route: str, topic: str, holders: Mapping[int, str], most: int, beside: Collection[str] = ()) -> list[Taken]:
        """See the port."""
        if not holders or most < 1:
            return []
        asker = Asker(route, topic, holders, beside)
        with self._read() as connection:  # asked every second, and mostly there is nothing: no write for that
            if not turns(connection, asker, 1):
                self._end(route)
                return []
        with self._write() as connection:
            found = turns(connection, asker, most, lock=True)
            taken = [Taken(plan.id, route, _mode(plan), plan.rate, _item(item)) for plan, item in found]
            if taken:
                connection.execute(
                    TAKE,
                    [_key(one.replay, one.item.position) | {"holder": holders[one.item.position.partition]} for one in taken],
                )
        return taken

    def _end(self, route: str) -> None:
        """Of plans whose last two items were done at once, by two workers: each saw the other's as not done, and ended nothing."""
        with self._read() as connection:
            ended = connection.execute(ENDED, {"k_route": route}).scalars().all()
        for replay in ended:
            with self._write() as connection:
                connection.execute(OVER, {"k_replay": replay})

    def stopped(self, replay: str) -> bool:
        """See the port."""
        with self._read() as connection:
            return connection.execute(STANDS, {"k_replay": replay}).scalar() in GIVEN_BACK

    def give_back(self, replay: str, position: Position) -> bool:
        """See the port."""
        with self._write() as connection:
            stands = connection.execute(STANDS.with_for_update(), {"k_replay": replay}).scalar_one()
            if stands not in GIVEN_BACK:
                return False
            to = GIVEN_BACK[PlanState(stands)]
            if to is ItemState.LEFT_OUT:
                half = HALF_DONE.where(HERE, ITEM.state == ItemState.TAKEN.value)
                connection.execute(ANEW.where(DELIVERIES.c.id.in_(half)), _key(replay, position))
            connection.execute(GIVE_BACK.values(state=to.value, holder=None), _key(replay, position))
        return True

    def done(self, replay: str, position: Position, outcome: State) -> None:
        """See the port."""

        def write(connection: Connection) -> None:
            connection.execute(DONE, _key(replay, position) | {"outcome": outcome.value})
            connection.execute(OVER, {"k_replay": replay})

        self._commit(write)

    # audit

    def tell(self, connection: Connection, deed: Deed) -> None:
        """A line of the audit, in the transaction of the deed itself."""
        at = deed.position
        values = {
            "at_ms": deed.at_ms,
            "who": deed.who,
            "what": deed.what.value,
            "why": self._pseudonyms.seal(deed.why) if deed.why else None,
            "route": deed.route,
            "topic": at.topic if at else None,
            "partition": at.partition if at else None,
            "offset": at.offset if at else None,
            "replay": deed.replay,
            "plan_hash": deed.plan_hash,
        }
        connection.execute(insert(AUDIT), values)

    def audit(
        self, *, replays: Iterable[str] = (), positions: Iterable[tuple[str, Position]] = (), most: int = 100
    ) -> list[Deed]:
        """See the port."""
        key = tuple_(AUDIT.c.route, AUDIT.c.topic, AUDIT.c.partition, AUDIT.c.offset)
        places = [(route, at.topic, at.partition, at.offset) for route, at in positions]
        names = list(replays)
        either: list[ColumnElement[bool]] = []
        if names:
            either.append(AUDIT.c.replay.in_(names))
        if places:
            either.append(key.in_(places))
        statement = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(most)
        if either:
            statement = statement.where(or_(*either))
        with self._read() as connection:
            rows = connection.execute(statement).all()
        return [self._deed(row) for row in reversed(rows)]

    def of_position(self, route: str, position: Position) -> list[str]:
        """See the port."""
        statement = (
            select(PLAN.id)
            .join(REPLAY_ITEMS, ITEM.replay == PLAN.id)
            .where(
                PLAN.route == route,
                ITEM.topic == position.topic,
                ITEM.partition == position.partition,
                ITEM.offset == position.offset,
            )
            .order_by(PLAN.created_ms, PLAN.id)
        )
        with self._read() as connection:
            return [row.id for row in connection.execute(statement)]

    def _deed(self, row: Row[Any]) -> Deed:
        return Deed(
            at_ms=row.at_ms,
            who=row.who,
            what=What(row.what),
            why=self._pseudonyms.unseal(row.why) if row.why else None,
            route=row.route,
            position=Position(row.topic, row.partition, row.offset) if row.topic is not None else None,
            replay=row.replay,
            plan_hash=row.plan_hash,
        )

    def _row(self, replay: Replay) -> dict[str, Any]:
        return {
            "id": replay.id,
            "route": replay.route,
            "created_ms": replay.created_ms,
            "who": replay.who,
            "why": self._pseudonyms.seal(replay.why) if replay.why else None,
            "filter": replay.filter,
            "hash": replay.hash,
            "rate": replay.rate,
            "latest_only": replay.mode.latest_only,
            "include_delivered": replay.mode.include_delivered,
            "force": replay.mode.force,
            "state": replay.state.value,
        }

    def _replay(self, row: Row[Any]) -> Replay:
        return Replay(
            id=row.id,
            route=row.route,
            created_ms=row.created_ms,
            who=row.who,
            why=self._pseudonyms.unseal(row.why) if row.why else None,
            filter=row.filter,
            hash=row.hash,
            rate=row.rate,
            mode=_mode(row),
            state=PlanState(row.state),
        )


def _may_be_released(connection: Connection, row: Row[Any]) -> None:
    """Two plans that go over one record at once would be two wishes for it."""
    if connection.dialect.name == "postgresql":  # releases of a route queue here; on SQLite they do anyway
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(row.route))))
    if connection.execute(select(ITEM.replay).where(ITEM.replay == row.id, ITEM.state.in_(LEFT)).limit(1)).first() is None:
        raise Refused("nothing in the plan is to be sent: emr-pipeline replay show says why", where=row.id)
    other, theirs = REPLAY_ITEMS.alias("other"), REPLAYS.alias("theirs")
    same = and_(other.c.topic == ITEM.topic, other.c.partition == ITEM.partition, other.c.offset == ITEM.offset)
    clash = (
        select(theirs.c.id, theirs.c.state)
        .select_from(REPLAY_ITEMS.join(other, same).join(theirs, theirs.c.id == other.c.replay))
        .where(ITEM.replay == row.id, ITEM.state.in_(LEFT), other.c.replay != row.id, other.c.state.in_(LEFT))
        .where(theirs.c.route == row.route, theirs.c.state.in_((*OPEN_PLANS, PlanState.CANCELLED.value)))
        .limit(1)
    )
    found = connection.execute(clash).first()
    if found is not None:
        what = "is not at its end: let it end, or cancel it"
        if found.state == PlanState.CANCELLED:
            what = "was cancelled, but a worker has it in hand still: it lets go when it tries it next (a partner that throttles says when); then run it again"
        raise Refused(f"the plan {found.id} has a record of this one, and {what}", where=row.id)


def taken(replay: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a delivery's row is a taken item of a plan: the one way to begin a closed record again."""
    return exists(
        select(ITEM.replay)
        .where(ITEM.replay == replay, ITEM.state == ItemState.TAKEN.value)
        .where(ITEM.topic == DELIVERIES.c.topic, ITEM.partition == DELIVERIES.c.partition, ITEM.offset == DELIVERIES.c.offset)
        .correlate(DELIVERIES)
    )


def being_replayed() -> ColumnElement[bool]:
    """Whether a delivery's row is a taken item of any plan: the plan brings it to its end, and gives it to the partition's next worker."""
    return exists(
        select(ITEM.replay)
        .join(REPLAYS, PLAN.id == ITEM.replay)
        .where(ITEM.state == ItemState.TAKEN.value, PLAN.route == DELIVERIES.c.route)
        .where(ITEM.topic == DELIVERIES.c.topic, ITEM.partition == DELIVERIES.c.partition, ITEM.offset == DELIVERIES.c.offset)
        .correlate(DELIVERIES)
    )


def _key(replay: str, position: Position) -> dict[str, Any]:
    return {
        "k_replay": replay,
        "k_topic": position.topic,
        "k_partition": position.partition,
        "k_offset": position.offset,
    }


def _position(row: Row[Any]) -> Position:
    return Position(row.topic, row.partition, row.offset)


def _mode(row: Row[Any]) -> Mode:
    return Mode(bool(row.latest_only), bool(row.include_delivered), bool(row.force))


def _class(name: str) -> ItemClass:
    return next(one for one in ItemClass if one.value == name)


def _item_row(replay: str, item: Item) -> dict[str, Any]:
    payload = item.payload
    return {
        "replay": replay,
        "topic": item.position.topic,
        "partition": item.position.partition,
        "offset": item.position.offset,
        "class": item.item_class.value,
        "was": item.was.value,
        "lanes": " ".join(item.lanes),
        "payload_topic": payload.topic if payload else None,
        "payload_partition": payload.partition if payload else None,
        "payload_offset": payload.offset if payload else None,
        "reason": item.reason,
        "place": item.where,
        "state": item.state.value,
    }


def _item(row: Row[Any]) -> Item:
    said = row._mapping  # noqa: SLF001 - SQLAlchemy's public way to a column whose name is a keyword
    gone = row.payload_topic is None
    return Item(
        position=_position(row),
        lanes=tuple(row.lanes.split()),
        item_class=_class(said["class"]),
        was=State(row.was),
        payload=None if gone else Position(row.payload_topic, row.payload_partition, row.payload_offset),
        reason=row.reason,
        where=row.place,
        state=ItemState(row.state),
        outcome=State(row.outcome) if row.outcome else None,
    )
