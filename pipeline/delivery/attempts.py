"""One delivery from its lane to its end: attempts, unknown outcomes, probes (RELIABILITY section 1). One message, one thread.

The order that keeps every promise: intent in the ledger, bytes out, answer judged, outcome in the ledger, result on its topic. Nothing
is sent without its intent. What an answer means is the partner's table, what to do next is the one in `Delivery._next`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from pipeline import flow
from pipeline.ledger.port import Begun, Held, Ledger
from pipeline.model import Answer, Clock, Decision, Intent, Knowledge, Learned, Outcome, Packed, Request, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.send import probe, send
from pipeline.transport.port import Transport
from schemas.outcomes import Reason, State


class Waiting(Protocol):
    """How a delivery waits: the worker keeps its place in the group meanwhile."""

    def __call__(self, seconds: float) -> None:
        """Return after so many seconds (monotonic). Raises Stopped where the worker stops or the partition is lost."""
        ...


LANE_PAUSE: Final = 0.5
"""Seconds until a lane that another holds is asked for again."""
T = TypeVar("T")


class Steadily(Protocol):
    """See steady.py."""

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once it neither raises LedgerError nor BusError."""
        ...


class Stopped(Exception):
    """The worker stops, or the partition went to another: leave everything as the ledger has it."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: doubling from `first` to `most`, with full jitter upwards from half."""

    first: float = 0.5
    most: float = 60.0

    def after(self, attempt: int) -> float:
        """How long to wait after attempt number `attempt` (from 1)."""
        ceiling = min(self.most, self.first * 2.0 ** min(attempt - 1, 16))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, no secret


@dataclass(frozen=True, slots=True)
class Hands:
    """What a delivery acts with; wiring hands it in."""

    ledger: Ledger
    transport: Transport
    clock: Clock
    wait: Waiting
    steady: Steadily
    """Tries a write of the ledger until it is written."""
    emit: Callable[[Outcome], None] = field(repr=False)
    """Writes the result record of an attempt that did not settle."""
    told: Callable[[Decision, Reason | None], None]
    """Hears each verdict: the loop keeps what it knows of the partner."""
    backoff: Backoff = Backoff()


class Delivery:
    """One routed message on its way. `run` returns its Outcome, not yet settled; it raises Stopped where it is left open."""

    def __init__(self, routed: Routed, plan: Plan, hands: Hands, here: Seen | None = None) -> None:
        """`here` is what the ledger has of this record from before a restart."""
        self.routed, self.plan, self.hands = routed, plan, hands
        self.attempt = here.attempt if here else 0
        self.unknown_since = here.sent_ms if here else None
        self.crashed = self.unknown_since is not None
        self.claimed = False
        """The partner said that it has the patient already."""

    def run(self) -> Outcome:
        """Attempt until there is an outcome."""
        while True:
            packed = flow.prepare(self.routed, self._knowledge(), self.plan)
            if isinstance(packed, Outcome):
                return packed
            request = packed.requests[0]
            if self.unknown_since is not None and request.intent is Intent.CREATE:
                outcome = self._find_out(packed, request)
            else:
                outcome = self._try(packed, request)
            if outcome is not None:
                return outcome

    def _knowledge(self) -> Knowledge:
        return self.hands.steady(lambda: self.hands.ledger.knowledge(self.routed))

    def _try(self, packed: Packed, request: Request) -> Outcome | None:
        self.attempt += 1
        request = self.plan.partner.of_attempt(packed, request, self.attempt)
        if not self._begin(packed, request, is_probe=False):
            self._stand_back()
            return None
        answer = send(
            packed,
            request,
            self.hands.transport,
            self.plan.partner,
            attempt=self.attempt,
            after_unknown=self.unknown_since is not None,
        )
        return self._next(packed, answer)

    def _find_out(self, packed: Packed, request: Request) -> Outcome | None:
        """An unknown create: probe when the partner's worst time is over, and not before (it may still be working)."""
        question = self.plan.partner.probe(packed)
        if question is None:
            return self._outcome(packed, None, State.PARKED, Reason.PROBE_CANNOT_TELL)
        due_ms = (self.unknown_since or 0) + self.plan.partner.probe_after(request.operation) * 1000
        wait = (due_ms - self.hands.clock()) / 1000
        if wait > 0:
            self.hands.wait(wait)
        self.attempt += 1
        if not self._begin(packed, question, is_probe=True):
            self._stand_back()
            return None
        answer = probe(packed, question, self.hands.transport, self.plan.partner, attempt=self.attempt)
        return self._next(packed, answer)

    def _stand_back(self) -> None:
        """Another holds the lane: wait, and ask again what is known by then."""
        self.attempt -= 1
        self.hands.wait(LANE_PAUSE)

    def _next(self, packed: Packed, answer: Answer) -> Outcome | None:
        """What follows from a verdict: the end, or another attempt."""
        verdict = answer.verdict
        self.hands.told(verdict.decision, verdict.reason)
        match verdict.decision:
            case Decision.DELIVERED:
                told = replace(answer, verdict=replace(verdict, learned=verdict.learned or self._went_out(packed)))
                return self._outcome(packed, told, State.DELIVERED, None, confirmed_by="probe" if answer.probe else "response")
            case Decision.PARKED:
                return self._outcome(packed, answer, State.PARKED, verdict.reason)
            case Decision.ABSENT if self.claimed:
                # refused as a duplicate, and not there: of something else, an e-mail address perhaps; create and update would go round for ever
                self.hands.steady(lambda: self.hands.ledger.forget(self.plan.route.partner, self.routed.identities))
                return self._outcome(packed, answer, State.PARKED, Reason.REJECTED_DUPLICATE)
            case Decision.ABSENT if not answer.probe and not self.plan.partner.absent_is_create(packed.mapped.identified):
                return self._outcome(packed, answer, State.PARKED, verdict.reason or Reason.REJECTED_NOT_FOUND)
        self._again(packed, answer)
        self._turn(packed, answer)
        self._pause(packed, answer)
        return None

    def _again(self, packed: Packed, answer: Answer) -> None:
        """An attempt that did not settle: in the ledger, and on the results topic."""
        decision = answer.verdict.decision
        still_unknown = answer.probe and decision not in {Decision.ABSENT, Decision.EXISTS}
        state = State.UNKNOWN if decision is Decision.UNKNOWN or still_unknown else State.PENDING
        outcome = self._outcome(packed, answer, state, answer.verdict.reason)
        position = self.routed.decoded.received.position
        self.hands.steady(lambda: self.hands.ledger.retry(self.plan.name, position, outcome, self.hands.clock()))
        self.hands.emit(outcome)

    def _turn(self, packed: Packed, answer: Answer) -> None:
        """What the next attempt starts from."""
        name, ledger = self.plan.route.partner, self.hands.ledger
        match answer.verdict.decision:
            case Decision.EXISTS:
                learned = answer.verdict.learned or self._went_out(packed)
                self.hands.steady(lambda: ledger.import_identities(name, learned))
                self.unknown_since, self.claimed = None, True
            case Decision.ABSENT:
                if not answer.probe:
                    self.hands.steady(lambda: ledger.forget(name, self.routed.identities))
                self.unknown_since = None
            case Decision.UNKNOWN if not answer.probe:
                self.unknown_since = self.hands.clock()

    def _pause(self, packed: Packed, answer: Answer) -> None:
        """How long until the next attempt; waiting as told, or for a partner that refuses us as a whole, is no attempt."""
        verdict, backoff = answer.verdict, self.hands.backoff
        match verdict.decision:
            case Decision.FAILED:
                self.hands.wait(max(verdict.retry_after or 0, backoff.after(self.attempt)))
            case Decision.UNKNOWN if answer.probe or packed.requests[0].intent is Intent.UPDATE:
                self.hands.wait(backoff.after(self.attempt))
            case Decision.THROTTLED:
                self.attempt -= 1
                self.hands.wait(verdict.retry_after or backoff.after(1))
            case Decision.HALTED:
                self.attempt -= 1
                self.hands.wait(backoff.most)

    def _begin(self, packed: Packed, request: Request, *, is_probe: bool) -> bool:
        """The intent, durable before the first byte; False where another record or process holds the lane."""
        now = self.hands.clock()
        begun = Begun(
            routed=self.routed,
            step=0,
            attempt=self.attempt,
            intent=packed.requests[0].intent,
            operation=request.operation,
            request_id=request.request_id,
            mapping_version=packed.mapped.mapping_version,
            deadline_ms=now + int(request.timeouts.total * 1000),
            at_ms=now,
            probe=is_probe,
        )
        try:
            self.hands.steady(lambda: self.hands.ledger.begin(begun))
        except Held:
            return False
        return True

    def _went_out(self, packed: Packed) -> tuple[Learned, ...]:
        """A success without an id: the partner knows the patient by the identity that went out."""
        identified = packed.mapped.identified
        identity = identified.identity or self.routed.identities[0]
        return (Learned(identity, identified.partner_id),)

    def _outcome(
        self, packed: Packed, answer: Answer | None, state: State, reason: Reason | None, confirmed_by: str | None = None
    ) -> Outcome:
        mapped = packed.mapped
        return Outcome(
            received=self.routed.decoded.received,
            route=self.plan.name,
            partner=self.plan.route.partner,
            state=state,
            reason=reason,
            message=reason.sentence if reason else None,
            decoded=self.routed.decoded,
            routed=self.routed,
            packed=packed,
            answer=answer,
            findings=self.routed.decoded.findings + self.routed.findings + mapped.identified.findings + mapped.findings,
            confirmed_by=confirmed_by,
            possible_duplicate=self.crashed,
        )
