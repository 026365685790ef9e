"""One delivery from its lane to its end: attempts, unknown outcomes, probes (RELIABILITY section 1). One message, one thread.

The order that keeps every promise: intent in the ledger, bytes out, answer judged, outcome in the ledger, result on its topic. Nothing
is sent without its intent. What an answer means is the partner's table, what to do next is the one in `Delivery._next`.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from pipeline import flow
from pipeline.failpoints import Point, reach
from pipeline.ledger.port import Begun, Held, Ledger
from pipeline.model import Answer, Clock, Decision, Intent, Knowledge, Learned, Outcome, Packed, Position, Request, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.send import probe, send
from pipeline.transport.port import Transport
from schemas.outcomes import Reason, State


class Waiting(Protocol):
    """How a delivery waits: the worker keeps its place in the group meanwhile."""

    def __call__(self, seconds: float) -> None:
        """Return after so many seconds (monotonic). Raises Stopped where the worker stops or the partition is lost."""
        ...


T = TypeVar("T")


class Steadily(Protocol):
    """See steady.py."""

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once it neither raises LedgerError nor BusError."""
        ...


class Stopped(Exception):
    """The worker stops, or the partition went to another: leave everything as the ledger has it."""


class Behind(Exception):
    """Another record has an open intent on this lane: `holder` goes first."""

    def __init__(self, holder: Position | None) -> None:
        super().__init__()
        self.holder = holder


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
    patience: float = 900
    """Seconds (settings, delivery.patience)."""
    monotonic: Callable[[], float] = time.monotonic


class Delivery:
    """One routed message on its way. `run` returns its Outcome, not yet settled; it raises Stopped where it is left open."""

    def __init__(self, routed: Routed, plan: Plan, hands: Hands, here: Seen | None = None) -> None:
        """`here` is what the ledger has of this record from before a restart."""
        self.routed, self.plan, self.hands = routed, plan, hands
        self.attempt = here.attempt if here else 0
        self.intents = here.intents if here else 0
        self.crashed = here is not None and here.sent_ms is not None
        self.last_sent_ms = here.sent_ms if here else None
        """Wall clock of a create that may have arrived, where only the ledger remembers it."""
        self.probe_due: float | None = None
        """Monotonic: when a probe begins to prove something."""
        self.troubled_since: float | None = None
        """Monotonic: the first answer that was a failure of this message or of the partner."""
        self.claimed = False
        """The partner said that it has the patient already."""

    @property
    def unknown(self) -> bool:
        """Whether a request of this message may have arrived, and nothing has proven that it did not."""
        return self.last_sent_ms is not None

    def run(self) -> Outcome:
        """Attempt until there is an outcome. Behind, Stopped: it is left open, as the ledger has it."""
        while True:
            packed = flow.prepare(self.routed, self._knowledge(), self.plan)
            if isinstance(packed, Outcome):
                return packed
            request = packed.requests[0]
            find_out = self.unknown and request.intent is Intent.CREATE
            outcome = self._find_out(packed, request) if find_out else self._try(packed, request)
            if outcome is not None:
                return outcome

    def _knowledge(self) -> Knowledge:
        return self.hands.steady(lambda: self.hands.ledger.knowledge(self.routed))

    def _try(self, packed: Packed, request: Request) -> Outcome | None:
        request = self.plan.partner.of_attempt(packed, request, self.attempt + 1)
        self._begin(packed, request, is_probe=False)
        transport, partner = self.hands.transport, self.plan.partner
        answer = send(packed, request, transport, partner, attempt=self.attempt, after_unknown=self.unknown)
        return self._next(packed, answer)

    def _find_out(self, packed: Packed, request: Request) -> Outcome | None:
        """An unknown create: probe when the partner's worst time is over, and not before (it may still be working)."""
        question = self.plan.partner.probe(packed)
        if question is None:
            return self._outcome(packed, None, State.PARKED, Reason.PROBE_CANNOT_TELL)
        self.hands.wait(self._until_probe(request))
        self._begin(packed, question, is_probe=True)
        answer = probe(packed, question, self.hands.transport, self.plan.partner, attempt=self.attempt)
        return self._next(packed, answer)

    def _until_probe(self, request: Request) -> float:
        """Seconds. In one process by the monotonic clock; after a restart by the wall clock, which a jump backwards must not stretch."""
        after = self.plan.partner.probe_after(request.operation)
        if self.probe_due is None:
            passed = (self.hands.clock() - (self.last_sent_ms or 0)) / 1000
            self.probe_due = self.hands.monotonic() + min(after - passed, after)
        return max(self.probe_due - self.hands.monotonic(), 0)

    def _next(self, packed: Packed, answer: Answer) -> Outcome | None:
        """What follows from a verdict: the end, or another attempt."""
        reach(Point.AFTER_ANSWER)
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
        if self._out_of_patience(answer):
            reason = Reason.PROBE_CANNOT_TELL if answer.probe or self._still_unknown(answer) else verdict.reason
            return self._outcome(packed, answer, State.PARKED, reason)
        self._again(packed, answer)
        self._turn(packed, answer)
        self._pause(packed, answer)
        return None

    def _out_of_patience(self, answer: Answer) -> bool:
        """Whether this message has been answered with failures for too long: nothing that waits long holds up the others."""
        if answer.reply is None or answer.verdict.decision not in {Decision.FAILED, Decision.UNKNOWN}:
            return False
        if self.troubled_since is None:
            self.troubled_since = self.hands.monotonic()
        return self.hands.monotonic() - self.troubled_since > self.hands.patience

    def _still_unknown(self, answer: Answer) -> bool:
        decision = answer.verdict.decision
        return decision is Decision.UNKNOWN or (answer.probe and decision not in {Decision.ABSENT, Decision.EXISTS})

    def _again(self, packed: Packed, answer: Answer) -> None:
        """An attempt that did not settle: in the ledger, and on the results topic."""
        state = State.UNKNOWN if self._still_unknown(answer) else State.PENDING
        outcome = self._outcome(packed, answer, state, answer.verdict.reason)
        position = self.routed.decoded.received.position
        self.hands.steady(lambda: self.hands.ledger.retry(self.plan.name, position, outcome, self.hands.clock(), self.intents))
        self.hands.emit(outcome)

    def _turn(self, packed: Packed, answer: Answer) -> None:
        """What the next attempt starts from."""
        name, ledger = self.plan.route.partner, self.hands.ledger
        match answer.verdict.decision:
            case Decision.EXISTS:
                learned = answer.verdict.learned or self._went_out(packed)
                self.hands.steady(lambda: ledger.import_identities(name, learned))
                self.last_sent_ms, self.claimed = None, True
            case Decision.ABSENT:
                if not answer.probe:
                    self.hands.steady(lambda: ledger.forget(name, self.routed.identities))
                self.last_sent_ms = None
            case Decision.UNKNOWN if not answer.probe or answer.request.operation == packed.requests[0].operation:
                # a create, or a probe that is the same create once more: it may be working from now on
                self.last_sent_ms = self.hands.clock()
                self.probe_due = self.hands.monotonic() + self.plan.partner.probe_after(answer.request.operation)

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
                self.hands.wait(backoff.after(1) if verdict.retry_after is None else verdict.retry_after)
            case Decision.HALTED:
                self.attempt -= 1
                self.hands.wait(backoff.most)

    def _begin(self, packed: Packed, request: Request, *, is_probe: bool) -> None:
        """The intent, durable before the first byte. Behind: another record or process holds the lane."""
        now = self.hands.clock()
        begun = Begun(
            routed=self.routed,
            step=0,
            attempt=self.attempt + 1,
            intent=packed.requests[0].intent,
            operation=request.operation,
            request_id=request.request_id,
            mapping_version=packed.mapped.mapping_version,
            deadline_ms=now + int(request.timeouts.total * 1000),
            at_ms=now,
            probe=is_probe,
            after=self.intents,
        )
        try:
            self.hands.steady(lambda: self.hands.ledger.begin(begun))
        except Held as held:
            raise Behind(held.by) from None
        self.attempt += 1
        self.intents += 1
        reach(Point.AFTER_INTENT)

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
