"""What became of each record: intents, attempts, settlements. Each function runs in the caller's transaction.

Three rules stand above all: a closed record is never begun again but as a taken item of a replay plan, and then keeps its state; `delivered`
is never taken back; and of two processes that read the same row one begins it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, delete, or_, select, tuple_, update
from sqlalchemy import insert as insert_row

from pipeline.database.prepared import Prepared, Row, one_by_one
from pipeline.errors import Refused
from pipeline.ledger.fingerprint import fingerprint
from pipeline.ledger.identities import CLAIMS, insert
from pipeline.ledger.knowledge import DELIVERY, bound_subjects, delivered, newest, position_of
from pipeline.ledger.port import Begun, Held, Settlement
from pipeline.ledger.replays import being_replayed, taken
from pipeline.ledger.tables import ALSO, DELIVERIES, OPEN_LANES, SUBJECTS
from pipeline.model import Kind, Outcome, Position, Routed
from pipeline.pseudonyms import Pseudonyms, event_name
from schemas.event import Event
from schemas.outcomes import CLOSED, COMES_BACK, OUTCOME_UNKNOWN, Reason, State

KEY: Final = ("route", "topic", "partition", "offset")
CLOSED_VALUES: Final = one_by_one(CLOSED)

HERE: Final = and_(
    DELIVERIES.c.route == bindparam("k_route"),
    DELIVERIES.c.topic == bindparam("k_topic"),
    DELIVERIES.c.partition == bindparam("k_partition"),
    DELIVERIES.c.offset == bindparam("k_offset"),
)
"""One record; bound by `here`. Statements are built once: building one takes SQLAlchemy longer than the database takes to run it."""

SELECT: Final = Prepared(select(*(DELIVERIES.c[name] for name in DELIVERY), CLAIMS).where(HERE))
BEFORE: Final = Prepared(
    select(
        *(
            DELIVERIES.c[name]
            for name in ("id", "state", "reason", "intent", "result_id", "attempt", "intents", "open", "deadline_ms")
        )
    )
    .where(HERE)
    .with_for_update()
)
HOLDER: Final = (
    select(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
    .join(OPEN_LANES, OPEN_LANES.c.delivery == DELIVERIES.c.id)
    .where(OPEN_LANES.c.route == bindparam("k_route"), OPEN_LANES.c.lane == bindparam("k_lane"))
)
LEAVE: Final = Prepared(delete(OPEN_LANES).where(OPEN_LANES.c.delivery == bindparam("k_id")))
BETWEEN: Final = Prepared(
    select(*(DELIVERIES.c[name] for name in DELIVERY), CLAIMS).where(
        DELIVERIES.c.route == bindparam("k_route"),
        DELIVERIES.c.topic == bindparam("k_topic"),
        DELIVERIES.c.partition == bindparam("k_partition"),
        DELIVERIES.c.offset.between(bindparam("k_from"), bindparam("k_to")),
    )
)
WAITING: Final = (
    select(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset, DELIVERIES.c.lane, ALSO.c.lane.label("also"))
    .outerjoin(ALSO, ALSO.c.delivery == DELIVERIES.c.id)
    .where(
        DELIVERIES.c.route == bindparam("k_route"),
        DELIVERIES.c.topic == bindparam("k_topic"),
        DELIVERIES.c.partition == bindparam("k_partition"),
        or_(
            and_(DELIVERIES.c.state == State.PARKED.value, DELIVERIES.c.reason.in_(sorted(COMES_BACK))),
            and_(DELIVERIES.c.state.in_((State.PENDING.value, State.UNKNOWN.value)), ~being_replayed()),
        ),
        DELIVERIES.c.lane.is_not(None),
    )
    .order_by(DELIVERIES.c.offset)
)
INSERT: Final = Prepared(insert_row(DELIVERIES).returning(DELIVERIES.c.id))
UPDATE: Final = Prepared(update(DELIVERIES).where(DELIVERIES.c.id == bindparam("k_id")))
AGAIN: Final = Prepared(
    update(DELIVERIES)
    .where(
        HERE,
        DELIVERIES.c.state.in_(CLOSED_VALUES),
        DELIVERIES.c.intents == bindparam("k_after"),
        DELIVERIES.c.result.is_(None),
        taken(bindparam("k_replay")),
    )
    .returning(DELIVERIES.c.id)
)
"""Begin a closed record again: only as a taken item of a plan, and once its result is on its topic."""
NEXT_PARTITION: Final = (
    select(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.id)
    .where(
        DELIVERIES.c.route == bindparam("k_route"),
        tuple_(DELIVERIES.c.topic, DELIVERIES.c.partition) > tuple_(bindparam("k_topic"), bindparam("k_partition")),
    )
    .order_by(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
    .limit(1)
)
"""The first record of the partition after that one: so a million rows are asked for their partitions by as many statements as there are partitions."""
UNEMITTED: Final = (
    select(DELIVERIES.c.topic, DELIVERIES.c.partition, DELIVERIES.c.offset)
    .where(
        DELIVERIES.c.route == bindparam("k_route"),
        DELIVERIES.c.topic == bindparam("k_topic"),
        DELIVERIES.c.partition == bindparam("k_partition"),
        DELIVERIES.c.result.is_not(None),
    )
    .order_by(DELIVERIES.c.offset)
)
EMITTED: Final = update(DELIVERIES).where(HERE, DELIVERIES.c.result_id == bindparam("k_result")).values(emitted=True, result=None)
"""Only the result that is on its topic: a record that was parked and came back may have another one by now."""


@cache
def _begin(dialect: str, again: tuple[str, ...]) -> Prepared:
    """Write an intent, over an open record's row only these columns; no id comes back where it is closed, or begun by another meanwhile."""
    statement = insert(dialect, DELIVERIES)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=KEY,
            set_={name: statement.excluded[name] for name in again},
            where=and_(DELIVERIES.c.state.not_in(CLOSED_VALUES), DELIVERIES.c.intents == statement.excluded.intents - 1),
        ).returning(DELIVERIES.c.id)
    )


@cache
def _enter(dialect: str) -> Prepared:
    """Take a lane; nothing comes back where it is another's."""
    statement = insert(dialect, OPEN_LANES)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=["route", "lane"],
            set_={"delivery": statement.excluded.delivery},
            where=OPEN_LANES.c.delivery == statement.excluded.delivery,
        ).returning(OPEN_LANES.c.lane)
    )


@cache
def _also(dialect: str) -> Prepared:
    """Remember a further lane of a message."""
    return Prepared(insert(dialect, ALSO).on_conflict_do_nothing())


@cache
def _delivered_last(dialect: str) -> Prepared:
    """Remember the event time and place of what was delivered; neither ever goes backwards."""
    statement = insert(dialect, SUBJECTS)
    new, old = statement.excluded, SUBJECTS.c
    newer = or_(new.event_ms.is_(None), old.event_ms.is_(None), new.event_ms >= old.event_ms)
    behind = and_(new.topic == old.topic, new.partition == old.partition, new.offset < old.offset)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=["route", "subject", "sender"],
            set_={
                "event_ms": case((new.event_ms.is_(None), old.event_ms), else_=new.event_ms),
                "topic": new.topic,
                "partition": new.partition,
                "offset": case((behind, old.offset), else_=new.offset),
            },
            where=newer,
        )
    )


def here(route: str, position: Position) -> dict[str, Any]:
    """What HERE is bound with."""
    return {"k_route": route, "k_topic": position.topic, "k_partition": position.partition, "k_offset": position.offset}


def key_of(route: str, position: Position) -> dict[str, Any]:
    """The columns of a record's key."""
    return {"route": route, "topic": position.topic, "partition": position.partition, "offset": position.offset}


def of_event(event: Event, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """What a row says of the event; nothing that a garbled MSH could put a patient into, or a character that a database refuses."""
    return {"event": event_name(event), "control_id": pseudonyms.control_id(event)}


def of_routed(routed: Routed, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """What a row says of the message: hashes, codes, the control id."""
    return of_event(routed.decoded.event, pseudonyms) | {
        "partner": routed.partner,
        "sender": routed.sender,
        "event_ms": routed.event_ms,
        "lane": routed.lane,
        "kind": routed.rule.kind.value,
        "subject": routed.rule.subject.value,
        "dedupe": routed.dedupe,
        "about": routed.about,
    }


def of_outcome(outcome: Outcome, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """What a row says of an outcome; of a message that could not be read there is less."""
    reply = outcome.answer.reply if outcome.answer else None
    event = outcome.decoded.event if outcome.decoded else None
    values: dict[str, Any] = {
        "partner": outcome.partner,
        "state": outcome.state.value,
        "reason": outcome.reason.value if outcome.reason else None,
        "place": outcome.where,
        "pointer": outcome.pointer,
        "http_status": reply.status if reply else None,
        "response_ms": round(reply.elapsed_ms, 3) if reply else None,
    }
    if event is not None:
        values |= of_event(event, pseudonyms)
    if outcome.routed is not None:
        values |= of_routed(outcome.routed, pseudonyms)
    if outcome.packed is not None:
        values["mapping_version"] = outcome.packed.mapped.mapping_version
    if outcome.answer is not None:
        values["attempt"] = outcome.answer.attempt
    if outcome.packed is not None and outcome.answer is not None:
        values["sent"] = fingerprint(outcome.packed.mapped.resources, str(outcome.received.position), pseudonyms)
    return values


class Deliveries:
    """The deliveries and subjects tables."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def begin(self, connection: Connection, begun: Begun) -> int:
        """Write the intent and take the lanes; the row's id. Refused where the record is closed, Held where another process or record was first."""
        routed = begun.routed
        delivery = self._intent(connection, begun)
        for lane in sorted(routed.lanes):  # one order for all, so that two sessions never wait for each other
            taken = {"route": routed.route, "lane": lane, "delivery": delivery}
            if _enter(connection.dialect.name).first(connection, taken) is None:
                raise Held(
                    "has an open intent on this patient's lane",
                    by=self.holder(connection, routed.route, lane),
                    route=routed.route,
                )
        self.further_lanes(connection, routed, delivery)
        self._as_it_was_read(connection, begun)
        return delivery

    @staticmethod
    def _as_it_was_read(connection: Connection, begun: Begun) -> None:
        """Nothing newer was delivered by another worker between reading and taking the lanes: of a snapshot's subject, of the patient that comes along."""
        read, routed = begun.knowledge, begun.routed
        if read is None or begun.probe:
            return
        own = routed.compared if routed.rule.kind is Kind.SNAPSHOT else ()
        as_read = (
            (own, read.last_event_ms, read.last_position),
            (
                routed.patient_subjects,
                read.patient_event_ms,
                read.patient_position,
            ),
        )
        if any(subjects and _last(connection, routed, subjects) != (event_ms, there) for subjects, event_ms, there in as_read):
            raise Held("another message of this subject was delivered meanwhile: read the ledger again")

    def further_lanes(self, connection: Connection, routed: Routed, delivery: int) -> None:
        """So that a message is found by each of its patient's numbers."""
        for lane in sorted(set(routed.lanes[1:])):
            _also(connection.dialect.name).all(connection, {"lane": lane, "delivery": delivery})

    def _intent(self, connection: Connection, begun: Begun) -> int:
        values = of_routed(begun.routed, self._pseudonyms) | {
            "open": True,
            "attempt": begun.attempt,
            "intents": begun.after + 1,
            "mapping_version": begun.mapping_version,
            "deadline_ms": begun.deadline_ms,
            "at_ms": begun.at_ms,
            "crashed": begun.crashed,
        }
        sent = {
            "intent": begun.intent.value,
            "operation": begun.operation,
            "request_id": begun.request_id,
            "sent_ms": begun.at_ms,
            "sent_step": begun.step,
        }
        first = {"state": State.PENDING.value, "reason": None, "place": None, **sent}
        # A probe asks about what was sent: the intent, its id and its time stay, and so does the state.
        again = values if begun.probe else values | first
        position = begun.routed.decoded.received.position
        new = key_of(begun.routed.route, position) | values | first
        row = _begin(connection.dialect.name, tuple(again)).first(connection, new)
        if row is not None:
            return int(row.id)
        there = self.before(connection, begun.routed.route, position)
        if there is not None and State(there.state) in CLOSED:
            if begun.replay is None:
                raise Refused("this record is closed already: nothing is sent", where=str(position))
            return self._again(connection, begun)
        raise Held("another process has begun this record: read the ledger again", by=position, route=begun.routed.route)

    def _again(self, connection: Connection, begun: Begun) -> int:
        """The intent of a replay over a closed record, whose state, request id and mapping version stay: they are what was done before."""
        values: dict[str, Any] = {
            "open": True,
            "attempt": begun.attempt,
            "intents": begun.after + 1,
            "deadline_ms": begun.deadline_ms,
            "crashed": begun.crashed,
        }
        if not begun.probe:
            values |= {
                "intent": begun.intent.value,
                "operation": begun.operation,
                "sent_ms": begun.at_ms,
                "sent_step": begun.step,
            }
        position = begun.routed.decoded.received.position
        bound = here(begun.routed.route, position) | {"k_after": begun.after, "k_replay": begun.replay}
        row = AGAIN.first(connection, bound | values)
        if row is None:
            raise Held(
                "another process has begun this record, or it is no taken item of the plan: read the ledger again",
                by=position,
                route=begun.routed.route,
            )
        return int(row.id)

    def holder(self, connection: Connection, route: str, lane: str) -> Position | None:
        """Who has an open intent on a lane."""
        row = connection.execute(HOLDER, {"k_route": route, "k_lane": lane}).first()
        return Position(row.topic, row.partition, row.offset) if row else None

    def before(self, connection: Connection, route: str, position: Position) -> Row | None:
        """What stands there, held against other sessions until the transaction ends."""
        return BEFORE.first(connection, here(route, position))

    def write(self, connection: Connection, outcome: Outcome, before: Row | None, **more: Any) -> None:  # noqa: ANN401 - column values
        """Write an outcome over what stands there, or as the record's first row."""
        values = of_outcome(outcome, self._pseudonyms) | more
        if before is not None:
            if "attempt" in values:  # the late answer of a process that stood still: another one has asked again since
                values["attempt"] = max(values["attempt"], before.attempt)
            UPDATE.all(connection, {"k_id": before.id} | values)
            if before.open and values.get("open") is False:
                LEAVE.all(connection, {"k_id": before.id})
            return
        if outcome.routed is not None:
            values["request_id"] = outcome.routed.request_id
        else:
            values["dedupe"] = self._pseudonyms.record(outcome.route, outcome.received.value)
        row = INSERT.first(connection, key_of(outcome.route, outcome.received.position) | values)
        if outcome.routed is not None and row is not None:
            self.further_lanes(connection, outcome.routed, row.id)

    def write_beside(self, connection: Connection, before: Row, **values: Any) -> None:  # noqa: ANN401 - column values
        """Of a replay over a closed record whose state stays: the intent is closed, a result kept."""
        UPDATE.all(connection, {"k_id": before.id, "open": False} | values)
        if before.open:
            LEAVE.all(connection, {"k_id": before.id})

    def write_open(self, connection: Connection, delivery: int, at_ms: int, *, arrived: int | None) -> None:
        """An operator says that the partner does not have it, or has this step of it: parked still, and nobody waits for it any more."""
        values = {"state": State.PARKED.value, "reason": Reason.OPERATOR.value, "place": None, "at_ms": at_ms, "open": False}
        if arrived is not None:
            values["step"] = arrived + 1
        UPDATE.all(connection, {"k_id": delivery} | values)
        LEAVE.all(connection, {"k_id": delivery})

    def write_decided(self, connection: Connection, outcome: Outcome, before: Row, **more: Any) -> None:  # noqa: ANN401 - column values
        """What an operator says: what the attempts before told (status, response time) stays."""
        said = of_outcome(outcome, self._pseudonyms)
        values = {name: value for name, value in said.items() if value is not None or name in {"reason", "place", "pointer"}}
        UPDATE.all(connection, {"k_id": before.id} | values | more)
        LEAVE.all(connection, {"k_id": before.id})

    def settled(self, settlement: Settlement, before: Row | None = None) -> dict[str, Any]:
        """The columns that only a settlement writes. Closed, nothing of it is half done: a resend begins with its first step."""
        first = {"step": 0, "crashed": False} if settlement.outcome.state in CLOSED or settlement.outcome.again else {}
        return first | {
            "open": settlement.keeps_open and before is not None and bool(before.open),
            "result_id": settlement.result_id,
            "result": self._pseudonyms.seal(settlement.result),
            "emitted": False,
            "at_ms": settlement.at_ms,
            "replay": settlement.outcome.replay_id,
        }

    def delivered_last(self, connection: Connection, subjects: Iterable[str], routed: Routed) -> None:
        """Remember the event time and place of what was delivered, under each identity; neither ever goes backwards."""
        new = key_of(routed.route, routed.decoded.received.position) | {"sender": routed.sender, "event_ms": routed.event_ms}
        for subject in sorted(subjects):  # one order for all, so that two sessions never wait for each other
            _delivered_last(connection.dialect.name).all(connection, new | {"subject": subject})


def _last(connection: Connection, routed: Routed, subjects: Sequence[str]) -> tuple[int | None, Position | None]:
    """Event time and place of what was delivered last of them."""
    last = newest(delivered(len(subjects)).all(connection, bound_subjects(routed, subjects)), routed)
    return (last.event_ms, position_of(last)) if last is not None else (None, None)


def maybe_done(outcome: Outcome) -> bool:
    """Whether a create that was begun may have been done there although it settles: no answer proves the contrary, and no operator said so."""
    if outcome.state is State.DELIVERED or outcome.reason is Reason.OPERATOR:
        return False
    return outcome.answer is None or outcome.reason in OUTCOME_UNKNOWN
