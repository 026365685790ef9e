"""Replay: what would be done with a record, judged when a plan is made; and what the worker does with an item. Pure: what is known is handed in.

A plan never touches a partner. An item goes the way of every message; what is different is here: what a plan may overlook, that a resend
has a Bundle.id of its own, and whether an item that was taken before a crash is at its end already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from hashlib import sha256
from typing import Final

from pipeline import flow
from pipeline.ledger.fingerprint import differing, fingerprint
from pipeline.ledger.plans import Item, ItemClass, ItemState, Mode, Taken
from pipeline.ledger.port import Delivery
from pipeline.model import Intent, Kind, Knowledge, Outcome, Packed, Position, Received, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.route import is_known_as
from schemas.dead_letter import PREFIX
from schemas.outcomes import CLOSED, OUTCOME_UNKNOWN, Reason, State

IN_WORK: Final = frozenset({State.PENDING, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Classed:
    """A record of a plan, judged."""

    delivery: Delivery
    item_class: ItemClass
    reason: Reason | None = None
    where: str | None = None
    routed: Routed | None = None
    packed: Packed | None = None
    """What would be sent now."""
    differs: tuple[str, ...] | None = None
    """FHIR elements in which that differs from what was sent; None where it is not known what was."""


def classed(
    delivery: Delivery, received: Callable[[], Received | None], plan: Plan, knowledge: Callable[[Routed], Knowledge], mode: Mode
) -> Classed:
    """What a replay would do with a record today. The bytes and the ledger are asked for only where they decide."""
    early = _by_row(delivery, mode)
    if early is not None:
        return Classed(delivery, early)
    there = received()
    if there is None:
        return Classed(delivery, ItemClass.PAYLOAD_GONE)
    routed = flow.read(there, plan)
    if isinstance(routed, Outcome):
        return _ended(delivery, routed)
    known = overlooking(knowledge(routed), mode)
    packed = flow.prepare(routed, known.of_one_begun if _is_unknown(delivery) else known, plan)
    if isinstance(packed, Outcome):
        return _ended(delivery, packed)
    return _packed(delivery, routed, packed, plan, stale=_is_stale(routed, knowledge, plan, mode))


def _by_row(delivery: Delivery, mode: Mode) -> ItemClass | None:
    """What the row alone decides."""
    match delivery.state:
        case State.DELIVERED if not mode.include_delivered:
            return ItemClass.ALREADY_DELIVERED
        case State.DUPLICATE:
            return ItemClass.FILTERED
        case State.DISCARDED if not mode.force:
            return ItemClass.FILTERED
        case State.PENDING:
            return ItemClass.BLOCKED_BEHIND
        case _:
            return None


def _ended(delivery: Delivery, outcome: Outcome) -> Classed:
    """Today's hops end it."""
    reason = outcome.reason
    match outcome.state:
        case State.SUPERSEDED:
            item_class = ItemClass.STALE if reason is Reason.STALE else ItemClass.SUPERSEDED
        case State.PARKED:
            item_class = ItemClass.BLOCKED_BEHIND if reason is Reason.BLOCKED_BEHIND else ItemClass.STILL_PARKED
        case _:
            item_class = ItemClass.FILTERED
    return Classed(delivery, item_class, reason, outcome.where, outcome.routed)


def _is_stale(routed: Routed, knowledge: Callable[[Routed], Knowledge], plan: Plan, mode: Mode) -> bool:
    """Whether it goes only because it is forced."""
    if not mode.force:
        return False
    strict = flow.prepare(routed, knowledge(routed), plan)
    return isinstance(strict, Outcome) and strict.reason is Reason.STALE


def _packed(delivery: Delivery, routed: Routed, packed: Packed, plan: Plan, *, stale: bool) -> Classed:
    """It can go."""
    item_class = ItemClass.WILL_SEND
    if delivery.state is State.DELIVERED:
        item_class = ItemClass.ALREADY_DELIVERED
    elif _is_unknown(delivery):
        item_class = ItemClass.UNKNOWN_NEEDS_PROBE
    if stale:
        item_class = ItemClass.STALE
    if item_class is ItemClass.UNKNOWN_NEEDS_PROBE and not _can_tell(packed, plan):
        return Classed(delivery, ItemClass.STILL_PARKED, Reason.PROBE_CANNOT_TELL, routed=routed)
    now = fingerprint(packed.mapped.resources, str(delivery.position), plan.pseudonyms)
    return Classed(delivery, item_class, routed=routed, packed=packed, differs=differing(delivery.sent, now))


def _is_unknown(delivery: Delivery) -> bool:
    """Whether something of it may have arrived, and nobody knows."""
    return delivery.open or delivery.claims or delivery.state is State.UNKNOWN or delivery.reason in OUTCOME_UNKNOWN


def _can_tell(packed: Packed, plan: Plan) -> bool:
    """Whether a probe can find out what became of its create; an update is its own."""
    creates = [request for request in packed.requests if request.intent is Intent.CREATE]
    return all(plan.partner.probe(replace(packed, requests=(request,))) is not None for request in creates)


def overlooking(knowledge: Knowledge, mode: Mode) -> Knowledge:
    """What a forced replay may not see: that something newer was delivered."""
    return replace(knowledge, last_event_ms=None, last_position=None) if mode.force else knowledge


def executed(item_class: ItemClass, mode: Mode) -> bool:
    """Whether a plan of this mode sends records of this class."""
    match item_class:
        case ItemClass.WILL_SEND | ItemClass.UNKNOWN_NEEDS_PROBE:
            return True
        case ItemClass.ALREADY_DELIVERED:
            return mode.include_delivered
        case ItemClass.STALE:
            return mode.force
        case _:
            return False


def latest_only(judged: Sequence[Classed], mode: Mode) -> list[Classed]:
    """Of the snapshots of one subject and sender only the newest by event time, where it carries every resource of the older one."""
    order = sorted(judged, key=_newest_last)
    newer: dict[tuple[str, str], list[frozenset[str]]] = {}
    kept: dict[Position, Classed] = {}
    for one in reversed(order):
        kept[one.delivery.position] = one
        if one.routed is None or one.packed is None or not _has_an_age(one.routed) or not executed(one.item_class, mode):
            continue
        carries = frozenset(str(resource.get("resourceType")) for resource in one.packed.mapped.resources)
        keys = [(subject, one.routed.sender) for subject in one.routed.compared]
        if keys and all(any(carries <= other for other in newer.get(key, ())) for key in keys):
            kept[one.delivery.position] = replace(one, item_class=ItemClass.SUPERSEDED, reason=Reason.OLDER_SNAPSHOT)
        else:
            for key in keys:
                newer.setdefault(key, []).append(carries)
    return [kept[one.delivery.position] for one in judged]


def _has_an_age(routed: Routed) -> bool:
    return routed.rule.kind is Kind.SNAPSHOT and routed.event_ms is not None


def _newest_last(one: Classed) -> tuple[int, str, int, int]:
    at = one.delivery.position
    event_ms = one.routed.event_ms if one.routed is not None and one.routed.event_ms is not None else 0
    return event_ms, at.topic, at.partition, at.offset


def item_of(one: Classed, payload: Position | None, mode: Mode) -> Item:
    """The item that a plan keeps of it."""
    return Item(
        position=one.delivery.position,
        lanes=one.routed.lanes if one.routed is not None else (),
        item_class=one.item_class,
        was=one.delivery.state,
        payload=payload,
        reason=one.reason.value if one.reason is not None else None,
        where=one.where,
        state=ItemState.WAITING if executed(one.item_class, mode) else ItemState.LEFT_OUT,
    )


def hash_of(route: str, mode: Mode, items: Sequence[Item]) -> str:
    """The plan's hash: what was shown is what is released."""
    lines = [f"{route} {mode}", *(f"{item.position} {item.item_class} {item.state} {' '.join(item.lanes)}" for item in items)]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def meant(dedupe: str | None, plan: Plan) -> Callable[[Received], bool]:
    """Whether a record is the one that the ledger has at its place, by the hash of what was read there."""

    def fits(received: Received) -> bool:
        return dedupe is None or is_known_as(dedupe, received, flow.read(received, plan), plan)

    return fits


def received_of(position: Position, found: Received) -> Received:
    """A source record by its bytes, wherever they were found: of a dead letter our own headers are left out."""
    if found.position == position:
        return found
    headers = tuple((name, value) for name, value in found.headers if not name.startswith(PREFIX))
    return Received(position, found.value, found.key, headers, found.timestamp_ms)


class Left(Enum):
    """What is left to do of an item that was taken."""

    GO = auto()
    """Take it through the hops, as any record, with what the ledger has of it."""
    EMIT = auto()
    """It is settled under this plan, and its result is not known to be on its topic."""
    NOTHING = auto()
    """It is at its end, by this plan or without it."""


def begun(seen: Seen | None) -> bool:
    """Whether a request of it may have gone out that has not come to its end: that is brought there, whatever becomes of the plan."""
    return seen is not None and (seen.open or seen.state in IN_WORK)


def left(taken: Taken, seen: Seen | None) -> Left:
    """What is left to do of it: nothing that a process before this one has done."""
    if seen is None:
        return Left.NOTHING
    if begun(seen):
        return Left.GO
    if seen.replay == taken.replay:
        return Left.EMIT if seen.result is not None and not seen.result_emitted else Left.NOTHING
    if seen.state in CLOSED and seen.state is not taken.item.was:
        return Left.NOTHING
    return Left.GO


def prepare(routed: Routed, knowledge: Knowledge, plan: Plan, taken: Taken, seen: Seen | None) -> Packed | Outcome:
    """`flow.prepare` for an item. `seen` as it was when the item was taken: what was delivered goes as a resend of its own."""
    prepared = flow.prepare(routed, overlooking(knowledge, taken.mode), plan)
    if isinstance(prepared, Packed) and seen is not None and seen.state is State.DELIVERED:
        return plan.partner.resent(prepared, taken.replay)
    return prepared


def outcome_of(outcome: Outcome, taken: Taken, seen: Seen | None) -> Outcome:
    """The outcome of an item, before it is settled, emitted, or told to `Ledger.retry`."""
    return replace(outcome, replay_id=taken.replay, again=seen is not None and seen.state in CLOSED)
