"""Making a replay plan, and what an operator decides of one record: the bytes are found, today's hops are asked. Nothing is sent to a partner."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline import flow
from pipeline.delivery.payloads import Payloads
from pipeline.delivery.replay import Classed, classed, hash_of, item_of, latest_only, meant, received_of
from pipeline.ledger.plans import Deed, Item, ItemClass, ItemState, Mode, PlanState, Replay, What
from pipeline.ledger.port import Decided, Delivery, Ledger
from pipeline.model import Intent, Learned, Outcome, Position, Received, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.settle import Written, settle
from schemas.outcomes import Reason, State

ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without those that are read as another."""
DIGITS: Final = 5
RATE: Final = 10.0
"""Items per second, where nobody says."""


def new_id() -> str:
    """A name for a plan that a person can type."""
    return "r" + "".join(secrets.choice(ALPHABET) for _ in range(DIGITS))


@dataclass(frozen=True, slots=True)
class Judged:
    """A record of a plan, and where its bytes are."""

    classed: Classed
    payload: Position | None

    def item(self, mode: Mode) -> Item:
        """As the plan keeps it."""
        return item_of(self.classed, self.payload, mode)


def judge(rows: Iterable[Delivery], plan: Plan, ledger: Ledger, payloads: Payloads, mode: Mode) -> list[Judged]:
    """Every row judged, in source order."""
    found: dict[Position, Position] = {}

    def received(row: Delivery) -> Received | None:
        there = payloads.find(row.position, meant(row.dedupe, plan))
        if there is None:
            return None
        found[row.position] = there.position
        return received_of(row.position, there)

    rows = sorted(rows, key=lambda row: (row.position.topic, row.position.partition, row.position.offset))
    judged = [classed(row, lambda row=row: received(row), plan, ledger.knowledge, mode) for row in rows]  # type: ignore[misc]
    if mode.latest_only:
        judged = latest_only(judged, mode)
    return [Judged(one, found.get(one.delivery.position)) for one in judged]


def replay_of(route: str, items: Sequence[Item], mode: Mode, deed: Deed, *, rate: float = RATE, asked: str = "{}") -> Replay:
    """The plan of these items. `asked`: the filter as JSON, without patient data."""
    return Replay(
        id=new_id(),
        route=route,
        created_ms=deed.at_ms,
        who=deed.who,
        why=deed.why,
        filter=asked,
        hash=hash_of(route, mode, items),
        rate=rate,
        mode=mode,
    )


# what an operator decides of one record


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes into the ledger, and, where it is a settlement, onto the topics after it."""

    decided: Decided
    written: Written | None


def settlement_of(
    deed: Deed, received: Received | None, plan: Plan, ledger: Ledger, *, topics: tuple[str, str], partner_id: str | None = None
) -> Decision:
    """`delivered` or `discarded` by an operator. Where the bytes are gone, the ledger's row is all that is known. `topics`: results, dead letters."""
    position = deed.position
    assert position is not None  # noqa: S101 - a decision is about a record
    state = State.DELIVERED if deed.what is What.RESOLVE_DELIVERED else State.DISCARDED
    read = flow.read(received, plan) if received is not None else None
    routed = read if isinstance(read, Routed) else read.routed if read is not None else None
    decoded = routed.decoded if routed is not None else read.decoded if isinstance(read, Outcome) else None
    outcome = Outcome(
        received=received or Received(position, None),
        route=plan.name,
        partner=plan.route.partner,
        state=state,
        reason=Reason.OPERATOR,
        decoded=decoded,
        routed=routed,
        confirmed_by="operator" if state is State.DELIVERED else None,
    )
    written = settle(outcome, plan, results_topic=topics[0], dead_letter_topic=topics[1], at_ms=deed.at_ms)
    learned = _learned(routed, ledger, partner_id) if routed is not None and state is State.DELIVERED else ()
    return Decision(Decided(deed, replace(written.settlement, learned=learned), partner_id, gone=received is None), written)


def rest_of(
    deed: Deed, row: Delivery, received: Received | None, plan: Plan, ledger: Ledger, *, partner_id: str | None = None
) -> Decision | None:
    """It arrived, says an operator, and further requests of the record follow: they go by a plan of their own, released at once. None: it was the last."""
    seen = ledger.seen(row.route, row.position)
    read = flow.read(received_of(row.position, received), plan) if received is not None else None
    if received is None or seen is None or not isinstance(read, Routed) or not _more(seen, read, plan, ledger):
        return None
    decision = _sent_by_plan(deed, row, received, plan)
    return replace(decision, decided=replace(decision.decided, arrived=seen.sent_step, partner_id=partner_id))


def _more(seen: Seen, routed: Routed, plan: Plan, ledger: Ledger) -> bool:
    """By what would go today; where nothing can, an update may have had something behind it, and the worker finds out."""
    prepared = flow.prepare(routed, ledger.knowledge(routed).of_one_begun, plan)
    if isinstance(prepared, Outcome):
        return prepared.state is State.PARKED and seen.intent is Intent.UPDATE
    return any(request.step > seen.sent_step for request in prepared.requests)


def lacks_id(row: Delivery, received: Received | None, plan: Plan, ledger: Ledger) -> bool:
    """Whether `delivered` alone would say too little: a create of a patient whom no later message finds without the partner's id, which nobody has."""
    if not (plan.partner.gives_ids and row.claims):
        return False
    read = flow.read(received_of(row.position, received), plan) if received is not None else None
    if not isinstance(read, Routed):
        return True
    known = ledger.knowledge(read).known
    return not any(one in known and known[one].partner_id for one in read.identities)


def _learned(routed: Routed, ledger: Ledger, partner_id: str | None) -> tuple[Learned, ...]:
    """The identity that the create went out under: the first that was not merged away."""
    known = ledger.knowledge(routed).known
    left = [one for one in routed.identities if one not in known or known[one].merged_into is None]
    return (Learned(left[0], partner_id, created_with=True),) if left else ()


def absent_of(deed: Deed, row: Delivery, received: Received | None, plan: Plan) -> Decision:
    """Not there, says an operator: a create may leave again, and this record is sent by a plan of its own, which is released at once."""
    if received is None:
        return Decision(Decided(deed, gone=True), None)
    return _sent_by_plan(deed, row, received, plan)


def _sent_by_plan(deed: Deed, row: Delivery, received: Received, plan: Plan) -> Decision:
    read = flow.read(received_of(row.position, received), plan)
    one = Classed(row, ItemClass.WILL_SEND, routed=read if isinstance(read, Routed) else None)
    item = replace(item_of(one, received.position, Mode()), was=State.PARKED, state=ItemState.WAITING)
    replay = replay_of(plan.name, [item], Mode(), deed)
    return Decision(
        Decided(replace(deed, replay=replay.id, plan_hash=replay.hash), then=(replace(replay, state=PlanState.RELEASED), item)),
        None,
    )
