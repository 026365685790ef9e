"""What the ledger knows about a routed message: one statement, so one snapshot and one round trip. It is on the hot path. It only reads.

Rows of six sorts come back, told apart by `what`: `same` (the same bytes under another position), `reused` (the control id with other bytes),
`identity` (one per routed identity and part that the ledger has), `subject` (what was last delivered of it, one per identity), `parked` (what of the
patient waits for a person; of the partner's other routes the numbers that moved), and of a cancel of a visit or a result `open` (what of that one is not closed).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, cast, exists, func, literal, not_, null, or_, select, union_all
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.elements import KeyedColumnElement

from pipeline.database.prepared import Prepared, Row, one_by_one
from pipeline.ledger.tables import ALSO, DELIVERIES, IDENTITIES, SUBJECTS
from pipeline.model import Identity, Intent, Kind, Knowledge, Known, ParkedBefore, Position, Routed, Seen, Subject
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import CLOSED, COMES_BACK, OUTCOME_UNKNOWN, Reason, State

SHAPE: Final[dict[str, KeyedColumnElement[Any]]] = {
    "topic": DELIVERIES.c.topic,
    "partition": DELIVERIES.c.partition,
    "offset": DELIVERIES.c.offset,
    "state": DELIVERIES.c.state,
    "reason": DELIVERIES.c.reason,
    "request_id": DELIVERIES.c.request_id,
    "dedupe": DELIVERIES.c.dedupe,
    "attempt": DELIVERIES.c.attempt,
    "intent": DELIVERIES.c.intent,
    "sent_ms": DELIVERIES.c.sent_ms,
    "open": DELIVERIES.c.open,
    "intents": DELIVERIES.c.intents,
    "deadline_ms": DELIVERIES.c.deadline_ms,
    "result": DELIVERIES.c.result,
    "emitted": DELIVERIES.c.emitted,
    "replay": DELIVERIES.c.replay,
    "hash": IDENTITIES.c.hash,
    "partner_id": IDENTITIES.c.partner_id,
    "known": IDENTITIES.c.known,
    "merged_into": IDENTITIES.c.merged_into,
    "merged_ms": IDENTITIES.c.merged_ms,
    "created_with": IDENTITIES.c.created_with,
    "event_ms": SUBJECTS.c.event_ms,
    "route": DELIVERIES.c.route,
    "kind": DELIVERIES.c.kind,
    "subject": DELIVERIES.c.subject,
    "step": DELIVERIES.c.step,
    "sent_step": DELIVERIES.c.sent_step,
    "about": DELIVERIES.c.about,
    "crashed": DELIVERIES.c.crashed,
    "belongs_to": IDENTITIES.c.belongs_to,
}
"""The columns of every row; what a sort of row has not is NULL."""

SHAPES: Final = 512
"""Statements that are kept: a sender may give a patient any number of numbers."""
REASONS: Final[dict[str | None, Reason]] = {reason.value: reason for reason in Reason}

DELIVERY: Final = (
    "topic",
    "partition",
    "offset",
    "state",
    "reason",
    "request_id",
    "dedupe",
    "attempt",
    "intent",
    "sent_ms",
    "open",
    "intents",
    "deadline_ms",
    "result",
    "emitted",
    "replay",
    "step",
    "sent_step",
    "crashed",
)
PARKED: Final = ("topic", "partition", "offset", "kind", "subject", "about", "event_ms")
OTHER: Final = DELIVERIES.alias("other")

ELSEWHERE: Final = or_(
    OTHER.c.topic != bindparam("topic"), OTHER.c.partition != bindparam("partition"), OTHER.c.offset != bindparam("offset")
)

NO_ORIGINAL: Final = (State.DUPLICATE, State.DISCARDED)
"""Of these nothing went, or will: the sender's same message once more is no copy. One that a person gave up may have been asked for again."""
COMES_LATER: Final = and_(
    OTHER.c.topic == bindparam("topic"),
    OTHER.c.partition == bindparam("partition"),
    OTHER.c.offset > bindparam("offset"),
    OTHER.c.state == State.PARKED.value,
    OTHER.c.reason.in_(one_by_one(COMES_BACK)),
)
"""It waits behind this one and goes on by itself: this one would join its fate, and lose its own place in the order."""


def _row(what: str, **columns: ColumnElement[Any]) -> Select[Any]:
    return select(
        literal(what).label("what"), *(columns.get(name, cast(null(), column.type)).label(name) for name, column in SHAPE.items())
    )


def _of_delivery() -> dict[str, ColumnElement[Any]]:
    return {name: DELIVERIES.c[name] for name in DELIVERY}


@lru_cache(maxsize=SHAPES)
def statement(identities: int, subjects: int, lanes: int, beside: int = 0, *, needs_known: bool = False) -> Prepared:
    """The statement for so many identities, bound as hash_0, hash_1 and so on; subjects, lanes and lanes beside are bound in the same way.

    `needs_known`: see Routed.
    """
    return Prepared(
        union_all(
            _same(),
            _reused(),
            _identities(identities),
            _row("subject", **{name: SUBJECTS.c[name] for name in ("topic", "partition", "offset", "event_ms", "subject")}).where(
                SUBJECTS.c.route == bindparam("route"),
                SUBJECTS.c.subject.in_(_bound("subject", subjects)),
                SUBJECTS.c.sender == bindparam("sender"),
            ),
            _parked(lanes),
            *(_moved(beside) if beside else ()),
            *((_open(),) if needs_known else ()),
        )
    )


def _bound(name: str, many: int) -> list[ColumnElement[str]]:
    """So many values: name_0, name_1 and so on."""
    return [bindparam(f"{name}_{n}") for n in range(many)]


def _same() -> Select[Any]:
    first = select(func.min(OTHER.c.id)).where(
        OTHER.c.dedupe == bindparam("dedupe"), OTHER.c.state.not_in(one_by_one(NO_ORIGINAL)), ELSEWHERE, not_(COMES_LATER)
    )
    return _row("same", **_of_delivery()).where(DELIVERIES.c.id == first.scalar_subquery())


def _reused() -> Select[Any]:
    reused = select(OTHER.c.id).where(
        OTHER.c.control_id == bindparam("control_id"),
        OTHER.c.route == bindparam("route"),
        OTHER.c.sender == bindparam("sender"),
        OTHER.c.dedupe != bindparam("dedupe"),
    )
    return _row("reused").where(exists(reused))


def _identities(many: int) -> Select[Any]:
    """With whose create holds each."""
    known = ("hash", "partner_id", "known", "merged_into", "merged_ms", "created_with", "belongs_to")
    return (
        _row(
            "identity",
            **{name: DELIVERIES.c[name] for name in ("route", "topic", "partition", "offset", "state", "reason")},
            **{name: IDENTITIES.c[name] for name in known},
        )
        .select_from(IDENTITIES.outerjoin(DELIVERIES, DELIVERIES.c.id == IDENTITIES.c.creating))
        .where(IDENTITIES.c.partner == bindparam("partner"), IDENTITIES.c.hash.in_(_bound("hash", many)))
    )


def _parked(lanes: int) -> Select[Any]:
    here = _bound("lane", lanes)
    return _row("parked", **{name: DELIVERIES.c[name] for name in PARKED}).where(
        DELIVERIES.c.route == bindparam("route"),
        DELIVERIES.c.state == State.PARKED.value,
        or_(DELIVERIES.c.lane.in_(here), DELIVERIES.c.id.in_(select(ALSO.c.delivery).where(ALSO.c.lane.in_(here)))),
        DELIVERIES.c.reason.not_in(one_by_one(COMES_BACK | OUTCOME_UNKNOWN)),
        DELIVERIES.c.kind.is_not(None),
    )


def _open() -> Select[Any]:
    return _row("open", **{name: DELIVERIES.c[name] for name in ("topic", "partition", "offset")}).where(
        DELIVERIES.c.route == bindparam("route"),
        DELIVERIES.c.about == bindparam("subject_0"),
        DELIVERIES.c.state.not_in(one_by_one(CLOSED)),
    )


def _moved(lanes: int) -> tuple[Select[Any], ...]:
    """The numbers that moved in any of so many lanes beside. Each by an index of its own: PostgreSQL reads the whole table for an OR of the two."""
    there = _bound("beside", lanes)
    row = _row("parked", **{name: DELIVERIES.c[name] for name in PARKED}).where(
        DELIVERIES.c.state == State.PARKED.value,
        DELIVERIES.c.kind == literal(Kind.MOVE.value),
        DELIVERIES.c.subject == literal(Subject.PATIENT.value),
    )
    also = row.select_from(DELIVERIES.join(ALSO, ALSO.c.delivery == DELIVERIES.c.id))
    return row.where(DELIVERIES.c.lane.in_(there)), also.where(ALSO.c.lane.in_(there))


@lru_cache(maxsize=SHAPES)
def delivered(subjects: int) -> Prepared:
    """What was last delivered of so many subjects; bound by `bound_subjects`."""
    return Prepared(
        select(SUBJECTS.c.topic, SUBJECTS.c.partition, SUBJECTS.c.offset, SUBJECTS.c.event_ms).where(
            SUBJECTS.c.route == bindparam("route"),
            SUBJECTS.c.subject.in_(_bound("subject", subjects)),
            SUBJECTS.c.sender == bindparam("sender"),
        )
    )


def bound_subjects(routed: Routed, subjects: Sequence[str]) -> dict[str, Any]:
    """The values that `delivered` asks for."""
    return {"route": routed.route, "sender": routed.sender} | {f"subject_{n}": value for n, value in enumerate(subjects)}


def bound(routed: Routed, hashes: Sequence[str], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """The values that `statement` asks for."""
    position = routed.decoded.received.position
    return {
        "route": routed.route,
        "partner": routed.partner,
        "topic": position.topic,
        "partition": position.partition,
        "offset": position.offset,
        "dedupe": routed.dedupe,
        "sender": routed.sender,
        "control_id": pseudonyms.control_id(routed.decoded.event),
        **{f"hash_{n}": value for n, value in enumerate(hashes)},
        **{f"subject_{n}": value for n, value in enumerate((*routed.subjects, *routed.patient_subjects))},
        **{f"lane_{n}": value for n, value in enumerate(routed.lanes)},
        **{f"beside_{n}": value for n, value in enumerate(routed.lanes_beside)},
    }


def read(rows: Sequence[Row], routed: Routed, hashes: Mapping[Identity, str], pseudonyms: Pseudonyms) -> Knowledge:
    """The rows as Knowledge."""
    by_hash = {row.hash: row for row in rows if row.what == "identity"}
    one = {row.what: row for row in rows if row.what in {"same", "reused"}}
    position = routed.decoded.received.position
    creating = [row for row in by_hash.values() if _holds(row) and (row.route, position_of(row)) != (routed.route, position)]
    unknown = [row for row in creating if row.state != State.PENDING]
    in_flight = [row for row in creating if row.state == State.PENDING]
    last = [row for row in rows if row.what == "subject"]
    subject = next(filter(None, (_newest_of(names, last, routed) for names in (routed.held_against, routed.compared))), None)
    patient = _newest_of(routed.patient_subjects, last, routed)
    return Knowledge(
        same=seen(one["same"], pseudonyms) if "same" in one else None,
        control_id_reused="reused" in one,
        known={
            identity: Known(
                pseudonyms.unseal(row.partner_id) if row.partner_id is not None else None,
                row.merged_into,
                row.merged_ms,
                bool(row.created_with),
                pseudonyms.unseal(row.belongs_to) if row.belongs_to is not None else None,
            )
            for identity, value in hashes.items()
            if (row := by_hash.get(value)) is not None and (row.known or row.merged_into is not None)
        },
        last_event_ms=subject.event_ms if subject is not None else None,
        last_position=position_of(subject) if subject is not None else None,
        patient_event_ms=patient.event_ms if patient is not None else None,
        patient_position=position_of(patient) if patient is not None else None,
        open_create=position_of(unknown[0]) if unknown else None,
        creating=position_of(in_flight[0]) if in_flight else None,
        creating_route=next((row.route for row in (*unknown, *in_flight)), None),
        merge_cycle=_closes_cycle(routed, hashes, by_hash),
        parked=tuple(
            ParkedBefore(position_of(row), Kind(row.kind), Subject(row.subject), row.about, row.event_ms)
            for row in rows
            if row.what == "parked" and position_of(row) != position
        ),
        part_open=next((there for row in rows if row.what == "open" and not _later(there := position_of(row), position)), None),
    )


def _later(there: Position, here: Position) -> bool:
    """Not before this one in its partition: it may be this one, too."""
    return (there.topic, there.partition) == (here.topic, here.partition) and there.offset >= here.offset


def _holds(row: Row) -> bool:
    """Whether a delivery holds this identity: a create of whom the partner is not known to have, or a merge that waits for a re-key."""
    return row.topic is not None and (not row.known or row.reason == Reason.MERGE_NEEDS_REKEY)


def _newest_of(names: Sequence[str], rows: Sequence[Row], routed: Routed) -> Row | None:
    return newest([row for row in rows if row.subject in names], routed)


def newest(subjects: Sequence[Row], routed: Routed) -> Row | None:
    """What was delivered last under any of the identities: by event time, then by position; of a message without a time by position."""
    here = routed.decoded.received.position

    def order(row: Row) -> tuple[int, bool, int, str, int, int]:
        timed = -1 if routed.event_ms is None or row.event_ms is None else row.event_ms
        at_home = (row.topic, row.partition) == (here.topic, here.partition)
        # the rest only so that the same rows always tell the same, in whatever order they come
        return timed, at_home, row.offset, row.topic, row.partition, -1 if row.event_ms is None else row.event_ms

    return max(subjects, key=order, default=None)


def _closes_cycle(routed: Routed, hashes: Mapping[Identity, str], by_hash: Mapping[str, Row]) -> bool:
    """Whether a prior is the survivor, or what the survivor was itself merged into."""
    prior = {hashes[identity] for identity in routed.prior}
    survivors = {hashes[identity] for identity in routed.identities}
    last = {row.merged_into for value in survivors if (row := by_hash.get(value)) is not None}
    return bool(prior & (survivors | last))


def position_of(row: Row) -> Position:
    """The position that a row holds."""
    return Position(row.topic, row.partition, row.offset)


def seen(row: Row, pseudonyms: Pseudonyms, *, claims: bool = False) -> Seen:
    """A delivery's row. `sent_ms` is told while no answer tells what became of the intent: parked as unknown, or with its create unknown (`claims`), too.

    The reason alone does not say so: an open create whose message no longer maps is parked for that.
    """
    is_open = bool(row.open)
    unknown = is_open or claims or (row.state == State.PARKED and row.reason in OUTCOME_UNKNOWN)
    return Seen(
        position=position_of(row),
        state=State(row.state),
        reason=REASONS.get(row.reason),
        request_id=row.request_id or "",
        attempt=row.attempt,
        intent=Intent(row.intent) if row.intent else None,
        sent_ms=row.sent_ms if unknown else None,
        open=is_open,
        intents=row.intents,
        deadline_ms=row.deadline_ms if is_open else None,
        result=pseudonyms.unseal(row.result) if row.result else None,
        result_emitted=bool(row.emitted),
        dedupe=row.dedupe,
        replay=row.replay,
        step=row.step,
        sent_step=row.sent_step,
        crashed=bool(row.crashed),
    )
