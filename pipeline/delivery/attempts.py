"""One delivery from its lane to its end, a step at a time: attempts, unknown outcomes, probes (RELIABILITY section 1). It never waits.

The order that keeps every promise: intent in the ledger, bytes out, answer judged, outcome in the ledger, result on its topic. Nothing
is sent without its intent, and nothing after the time that the intent names. What an answer means is the partner's table, what to do
next is the one in `Delivery._next`. One message, one thread at a time.
"""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from pipeline import flow
from pipeline.delivery import replay
from pipeline.delivery.gate import Gate
from pipeline.delivery.patience import Patience
from pipeline.errors import Ended, NotSent, Refused
from pipeline.failpoints import Point, reach
from pipeline.ledger.plans import Taken
from pipeline.ledger.port import Begun, Held, Ledger, Promised
from pipeline.model import (
    Answer,
    Clock,
    Decision,
    Identified,
    Identity,
    Intent,
    Knowledge,
    Learned,
    Outcome,
    Packed,
    ParkedBefore,
    Position,
    Reply,
    Request,
    Routed,
    Seen,
    Verdict,
)
from pipeline.stages.plan import Plan
from pipeline.stages.send import probe, send
from pipeline.stages.settle import advanced, learned_of
from pipeline.transport.port import Flight, Pause, Transport
from pipeline.transport.whole import at_hand
from schemas.outcomes import Reason, State

T = TypeVar("T")

AT_ONCE: Final = 16 * 1024
"""Bytes of a request that leave without waiting for the partner: what a system takes in before a connection has had an answer (Linux: some 40 KB)."""
GRACE: Final = 5.0
"""Seconds that may pass between asking for an intent and the first byte; a process that stood still for longer sends nothing."""
CLOCKS: Final = 3600.0
"""Seconds that the clocks of two machines may differ by, or one be set by."""
HELD_PAUSE: Final = 0.5
"""Seconds until a lane that another worker holds is asked for again."""
BLOCKED_PAUSE: Final = 5.0
"""Seconds until it is looked whether an unknown create that stands in the way has ended; mostly a person ends it."""

NOT_SENT: Final = frozenset(
    {
        Reason.NOT_SENT_DNS,
        Reason.NOT_SENT_CONNECT,
        Reason.NOT_SENT_TLS,
        Reason.NOT_SENT_CERTIFICATE,
        Reason.NOT_SENT_TOKEN,
        Reason.NOT_SENT_STOOD_STILL,
    }
)
"""Nothing left this machine: no message's fault."""


class Steadily(Protocol):
    """See steady.py."""

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once it neither raises LedgerError nor BusError."""
        ...

    def soon(self, ask: Callable[[], Promised[T]]) -> Flight[T]:
        """The same of what is promised."""
        ...


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet an outcome."""

    seconds: float
    """When the next step makes sense."""
    parks: Reason | None = None
    """Why it is parked meanwhile, where that takes longer than the others should wait for it; it comes back by itself."""
    at_once: bool = False
    """It is sure to take long: until a person ends it."""
    behind: Position | None = None
    """The record that holds the lane."""
    of_route: str | None = None
    """Whose record that is."""
    tried: Outcome | None = None
    """The attempt that did not settle: its result is to be written."""


class Elsewhere(Exception):
    """Another process has settled the record, or goes on with it: what the ledger says counts."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: doubling from `first` to `most`, with full jitter upwards from half."""

    first: float = 0.5
    most: float = 60.0

    def after(self, attempt: int) -> float:
        """How long to wait after attempt number `attempt` (from 1)."""
        ceiling = min(self.most, self.first * 2.0 ** min(max(attempt, 1) - 1, 16))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, no secret


@dataclass(frozen=True, slots=True)
class Hands:
    """What a delivery acts with; wiring hands it in."""

    ledger: Ledger
    transport: Transport
    gate: Gate
    """Whether the partner takes anything now."""
    slots: AbstractContextManager[object]
    """One of the partner's places in flight, which its routes share; whoever enters waits for one."""
    clock: Clock
    steady: Steadily
    """Tries a write of the ledger until it is written."""
    backoff: Backoff = Backoff()
    patience: float = 900
    """Seconds (settings, delivery.patience)."""
    stopping: Callable[[], bool] = lambda: False
    """Whether nothing is to be begun any more."""
    monotonic: Callable[[], float] = time.monotonic


class Delivery:
    """One routed message on its way. `step` until there is an Outcome, which is not settled yet.

    A step stops where its request is in the air, and keeps its leave, its slot and its place meanwhile: nothing is asked again when it goes on.
    """

    def __init__(
        self,
        routed: Routed,
        plan: Plan,
        hands: Hands,
        here: Seen | None = None,
        *,
        taken: Taken | None = None,
        probe_due: float | None = None,
        open_since: float | None = None,
    ) -> None:
        """`here` is what the ledger has of this record, from before a restart or from another process; `taken`: it is an item of a replay.

        `probe_due`: of the same unknown create, where this process has waited for its probe already. `open_since` (monotonic): when it saw first that
        `here` is open; now, where it is not told.
        """
        self.routed, self.plan, self.hands = routed, plan, hands
        self.here, self.taken = here, taken
        self.position = routed.decoded.received.position
        self.name = (plan.name, self.position)
        """Who asks the gate, which several routes share."""
        self.attempt = here.attempt if here else 0
        self.intents = here.intents if here else 0
        self.lease_ms = here.deadline_ms if here and here.open and not hands.ledger.alone else None
        """Until then the process that began it may still be sending."""
        self.lease_due = (hands.monotonic() if open_since is None else open_since) + GRACE + plan.partner.longest
        """Monotonic: the same, by our own clock, whatever the other's says."""
        self.open_step = here.step if here else 0
        """What is below it was done."""
        self.sent_step = here.sent_step if here else 0
        """That of the request that may have arrived."""
        self.more = False
        """Whether further requests follow the one that goes now."""
        self.crashed = here is not None and (here.crashed or (here.open and here.sent_ms is not None))
        self.last_sent_ms = here.sent_ms if here else None
        """Wall clock of a create that may have arrived, where only the ledger remembers it."""
        self.early = here is not None and here.reason is Reason.AWAITING_PROBE and here.intent is Intent.UPDATE
        """An update came before the partner had processed what it updates: the same again, once it should have."""
        self.probe_due = probe_due
        """Monotonic: when a probe begins to prove something."""
        self.patience = Patience(hands.patience)
        self.parked_before: tuple[ParkedBefore, ...] = ()
        """Of the patient, when it was looked last."""
        self.knowledge: Knowledge | None = None
        """As it was looked last: an intent names what it was decided by."""
        self.claimed = False
        """The partner said that it has the patient already."""

    @property
    def unknown(self) -> bool:
        """Whether a request of this message may have arrived, and nothing has proven that it did not."""
        return self.last_sent_ms is not None

    def step(self) -> Flight[Outcome | Later]:
        """One request at most. Elsewhere: another process is ahead of us."""
        if (left := self._lease()) > 0:
            return Later(left)
        if wait := self.hands.gate.standing.seconds:
            return Later(wait)
        with self.hands.slots:
            # who waited for the slot may find the gate shut, and the worker told to stop
            if self.hands.stopping():
                return Later(HELD_PAUSE)
            if wait := self.hands.gate.ask(self.name):
                return Later(wait)
            try:
                return (yield from self._step())
            finally:
                self.hands.gate.back(self.name)

    def _lease(self) -> float:
        """Seconds. As long as a request may take that was begun before we saw it: the other's clock counts only where no two clocks differ by as much."""
        if self.lease_ms is None or self.hands.clock() - self.lease_ms > CLOCKS * 1000:
            return 0
        return self.lease_due - self.hands.monotonic()

    def _step(self) -> Flight[Outcome | Later]:
        knowledge = yield from self._knowledge()
        if self.unknown or self.open_step:
            knowledge = knowledge.of_one_begun
        self.knowledge = knowledge
        self.parked_before = knowledge.parked
        packed = self._prepare(knowledge)
        if isinstance(packed, Outcome):
            if packed.reason is Reason.BLOCKED_BEHIND:
                behind = knowledge.open_create or knowledge.creating
                return Later(BLOCKED_PAUSE, packed.reason, at_once=True, behind=behind, of_route=knowledge.creating_route)
            return packed
        packed = self._chosen(packed)
        request = packed.requests[0]
        try:
            if self.unknown and request.intent is Intent.CREATE:
                return (yield from self._find_out(packed, request))
            return (yield from self._try(packed, request))
        except Held as held:
            return self._held(held)
        except Refused:
            raise Elsewhere from None

    def _chosen(self, packed: Packed) -> Packed:
        """With the one request whose turn it is: of an unknown one first what became of it, else the first that is not done.

        Where the partner came to know of all by somebody else (an import, another route, a create that it refused), what went before did not say
        all that this message says: the last one goes once more, also where a create is unknown that is needed no longer.
        """
        left = [request for request in packed.requests if request.step >= self.open_step] or list(packed.requests[-1:])
        unknown = [request for request in left if request.step >= self.sent_step] if self.unknown else []
        request = (unknown or left)[0]
        self.more = request is not left[-1]
        return replace(packed, requests=(request,))

    def _prepare(self, knowledge: Knowledge) -> Packed | Outcome:
        if self.taken is None:
            return flow.prepare(self.routed, knowledge, self.plan)
        prepared = replay.prepare(self.routed, knowledge, self.plan, self.taken, self.here)
        return self._of_replay(prepared) if isinstance(prepared, Outcome) else prepared

    def _of_replay(self, outcome: Outcome) -> Outcome:
        return outcome if self.taken is None else replay.outcome_of(outcome, self.taken, self.here)

    def _knowledge(self) -> Flight[Knowledge]:
        return (yield from self.hands.steady.soon(lambda: self.hands.ledger.knowledge_soon(self.routed)))

    def _held(self, held: Held) -> Later:
        """The lane or the patient is another's for now, or the ledger knows more than was read."""
        if (held.route, held.by) == (self.plan.name, self.position):
            raise Elsewhere
        return Later(HELD_PAUSE, Reason.BLOCKED_BEHIND, behind=held.by, of_route=held.route) if held.by else Later(0)

    def _try(self, packed: Packed, request: Request) -> Flight[Outcome | Later]:
        if self.unknown and self.early and (wait := self._until_probe(request)) > 0:
            return Later(wait, Reason.AWAITING_PROBE)
        request = self.plan.partner.of_attempt(packed, request, self.attempt + 1)
        yield from self._on_hand(request)
        if self.hands.stopping():
            return Later(HELD_PAUSE)
        asked = self._now()
        yield from self._begin(packed, request, is_probe=False)
        yield from self._on_hand(request)
        if self._stood_since(asked):
            return (yield from self._next(packed, self._stood_still(request)))
        transport, partner = self.hands.transport, self.plan.partner
        answer = yield from send(packed, request, transport, partner, attempt=self.attempt, after_unknown=self.unknown)
        reach(Point.AFTER_ANSWER)
        return (yield from self._next(packed, answer))

    def _find_out(self, packed: Packed, request: Request) -> Flight[Outcome | Later]:
        """An unknown create: probe when the partner's worst time is over, and not before (it may still be working)."""
        try:
            question = self.plan.partner.probe(packed)
        except Ended:
            question = None
        if question is None:
            return self._outcome(packed, None, State.PARKED, Reason.PROBE_CANNOT_TELL)
        if (wait := self._until_probe(request)) > 0:
            return Later(wait, Reason.AWAITING_PROBE)
        yield from self._on_hand(question)
        if self.hands.stopping():
            return Later(HELD_PAUSE)
        asked = self._now()
        yield from self._begin(packed, question, is_probe=True)
        yield from self._on_hand(question)
        if self._stood_since(asked):
            return (yield from self._next(packed, self._stood_still(question, is_probe=True)))
        answer = yield from probe(packed, question, self.hands.transport, self.plan.partner, attempt=self.attempt)
        return (yield from self._next(packed, answer))

    def _on_hand(self, request: Request) -> Flight[None]:
        """A connection that is to be made keeps nobody else waiting. Asked once more with the intent written, since another thread may have had it.

        Nor does a large request, which leaves only as fast as the partner takes it.
        """
        if len(request.body) > AT_ONCE or not at_hand(self.hands.transport):
            yield Pause.APART

    def _now(self) -> tuple[float, float]:
        """Seconds, by both clocks: the monotonic one stands still while a machine is suspended, the other one may be set."""
        return self.hands.monotonic(), self.hands.clock() / 1000

    def _stood_since(self, asked: tuple[float, float]) -> bool:
        return any(now - before > GRACE for now, before in zip(self._now(), asked, strict=True))

    def _stood_still(self, request: Request, *, is_probe: bool = False) -> Answer:
        """The process slept on its intent: another one may have gone on by now, so nothing is sent."""
        error = NotSent(Reason.NOT_SENT_STOOD_STILL)
        return Answer(request, None, Verdict(Decision.FAILED, error.reason), self.attempt, is_probe)

    def _until_probe(self, request: Request) -> float:
        """Seconds, by the monotonic clock alone. What only the ledger knows is waited for in full: whose wall clock sent it, and what was done to ours, nobody can tell.

        But for hours, which no process may live to see: there the wall clocks count, less what they may be wrong by.
        """
        if self.probe_due is None:
            wait = self.plan.partner.probe_after(request.operation)
            if wait > 2 * CLOCKS and self.last_sent_ms is not None:
                wait -= max((self.hands.clock() - self.last_sent_ms) / 1000 - CLOCKS, 0)
            self.probe_due = self.hands.monotonic() + wait
        return max(self.probe_due - self.hands.monotonic(), 0)

    def _next(self, packed: Packed, answer: Answer) -> Flight[Outcome | Later]:
        """What follows from a verdict: the end, or another attempt."""
        verdict = answer.verdict
        if verdict.reason is not Reason.NOT_SENT_STOOD_STILL:
            # a probe that found some of it was answered well
            told = Decision.DELIVERED if answer.probe and verdict.learned else verdict.decision
            self.hands.gate.told(told, verdict.reason, retry_after=verdict.retry_after, suspect=verdict.suspect, by=self.name)
        match verdict.decision:
            case Decision.DELIVERED:
                return (yield from self._delivered(packed, answer))
            case Decision.STALE | Decision.PARKED as ends:
                return self._outcome(
                    packed, answer, State.PARKED if ends is Decision.PARKED else State.SUPERSEDED, verdict.reason
                )
            case Decision.ABSENT if self.claimed:
                # refused as a duplicate, and not there: of something else, an e-mail address perhaps; create and update would go round for ever
                self._forget(packed)
                return self._outcome(packed, answer, State.PARKED, Reason.REJECTED_DUPLICATE)
            case Decision.ABSENT if not answer.probe and not self.plan.partner.absent_is_create(packed.mapped.identified):
                return self._outcome(packed, answer, State.PARKED, verdict.reason or Reason.REJECTED_NOT_FOUND)
        if self._out_of_patience(answer):
            reason = Reason.PROBE_CANNOT_TELL if answer.probe or self._still_unknown(answer) else verdict.reason
            return self._outcome(packed, answer, State.PARKED, reason)
        tried = yield from self._again(packed, answer)
        self._turn(packed, answer, tried)
        return replace(self._pause(packed, answer), tried=tried)

    def _delivered(self, packed: Packed, answer: Answer) -> Flight[Outcome | Later]:
        """The end; or where another request follows, the ledger knows what is done before the message is prepared anew for that."""
        learned = answer.verdict.learned or self._went_out(packed)
        told = replace(answer, verdict=replace(answer.verdict, learned=learned))
        confirmed_by = "probe" if answer.probe else "response"
        if not self.more:
            return self._outcome(packed, told, State.DELIVERED, None, confirmed_by)
        outcome, step = self._outcome(packed, told, State.PENDING, None, confirmed_by), packed.requests[0].step + 1
        ledger, settlement = self.hands.ledger, advanced(outcome, at_ms=self.hands.clock(), after=self.intents)
        yield from self.hands.steady.soon(lambda: ledger.advance_soon(settlement, step))
        reach(Point.AFTER_STEP)
        self.open_step, self.last_sent_ms, self.probe_due, self.claimed = step, None, None, False
        self.patience = Patience(self.hands.patience)
        return Later(0, tried=outcome)

    def late(self, tried: Outcome, reply: Reply) -> Outcome:
        """What came after the time of an attempt was over: delivered, where it says so; else no more is known than before. By any thread."""
        before, packed = tried.answer, tried.packed
        assert before is not None  # noqa: S101 - there was an attempt
        assert packed is not None  # noqa: S101 - as above
        verdict = self.plan.partner.judge(packed, before.request, reply, after_unknown=False)
        answer = replace(before, reply=reply, verdict=verdict, end=None)
        if verdict.decision is not Decision.DELIVERED:
            return replace(tried, answer=answer)
        answer = replace(answer, verdict=replace(verdict, learned=verdict.learned or self._went_out(packed)))
        return replace(tried, answer=answer, state=State.DELIVERED, reason=None, message=None, confirmed_by="response")

    def _out_of_patience(self, answer: Answer) -> bool:
        """Whether this message has failed for too long, at a partner that serves others: nothing that waits long holds up the others."""
        decision = answer.verdict.decision
        if decision not in {Decision.FAILED, Decision.UNKNOWN} or (answer.probe and answer.verdict.learned):
            return False
        if answer.reply is None and answer.verdict.reason in NOT_SENT:
            return False
        self.patience.failed(self.hands.monotonic(), self.hands.gate.standing.served)
        return self.patience.over

    def _still_unknown(self, answer: Answer) -> bool:
        decision = answer.verdict.decision
        return decision is Decision.UNKNOWN or (answer.probe and decision not in {Decision.ABSENT, Decision.EXISTS})

    def _again(self, packed: Packed, answer: Answer) -> Flight[Outcome]:
        """An attempt that did not settle: the ledger knows."""
        state = State.UNKNOWN if self._still_unknown(answer) else State.PENDING
        outcome = self._outcome(packed, answer, state, answer.verdict.reason)
        ledger, now = self.hands.ledger, self.hands.clock()
        yield from self.hands.steady.soon(lambda: ledger.retry_soon(self.plan.name, self.position, outcome, now, self.intents))
        return outcome

    def _turn(self, packed: Packed, answer: Answer, tried: Outcome) -> None:
        """What the next attempt starts from."""
        name, ledger = self.plan.route.partner, self.hands.ledger
        match answer.verdict.decision:
            case Decision.EXISTS:
                learned = answer.verdict.learned or self._went_out(packed)
                self.hands.steady(lambda: ledger.import_identities(name, learned))
                self.last_sent_ms, self.claimed = None, True
            case Decision.ABSENT:
                if not answer.probe:
                    self._forget(packed)
                self.last_sent_ms = None
            case Decision.UNKNOWN if (
                answer.probe and answer.verdict.learned
            ):  # some of it is there: the next probe asks for the rest
                self.hands.steady(lambda: ledger.import_identities(name, learned_of(tried)))
                self.patience = Patience(self.hands.patience)
            case Decision.UNKNOWN if not answer.probe or answer.request.operation == packed.requests[0].operation:
                # a create, or a probe that is the same create once more: it may be working from now on
                self.last_sent_ms, self.sent_step = self.hands.clock(), packed.requests[0].step
                self.early = answer.verdict.reason is Reason.AWAITING_PROBE
                self.probe_due = self.hands.monotonic() + self.plan.partner.probe_after(answer.request.operation)

    def _pause(self, packed: Packed, answer: Answer) -> Later:
        """How long until the next attempt; waiting as told, or for a partner that refuses us as a whole, is no attempt."""
        verdict, backoff = answer.verdict, self.hands.backoff
        match verdict.decision:
            case Decision.FAILED:
                return Later(max(verdict.retry_after or 0, backoff.after(self.attempt)))
            case Decision.UNKNOWN if answer.probe or packed.requests[0].intent is Intent.UPDATE:
                return Later(backoff.after(self.attempt))
            case Decision.THROTTLED | Decision.HALTED:  # the gate knows how long
                self.attempt -= 1
                return Later(self.hands.gate.standing.seconds)
        return Later(0)

    def _begin(self, packed: Packed, request: Request, *, is_probe: bool) -> Flight[None]:
        """The intent, durable before the first byte. Held: another record or process is first."""
        now = self.hands.clock()
        begun = Begun(
            routed=packed.mapped.identified.routed,
            step=request.step,
            attempt=self.attempt + 1,
            intent=packed.requests[0].intent,
            operation=request.operation,
            request_id=request.request_id,
            mapping_version=packed.mapped.mapping_version,
            deadline_ms=now + int((GRACE + request.timeouts.total) * 1000),
            at_ms=now,
            probe=is_probe,
            after=self.intents,
            crashed=self.crashed,
            replay=self.taken.replay if self.taken else None,
            creates=self._creates(packed.mapped.identified),
            knowledge=self.knowledge,
        )
        yield from self.hands.steady.soon(lambda: self.hands.ledger.begin_soon(begun))
        self.attempt += 1
        self.intents += 1
        reach(Point.AFTER_INTENT)

    @staticmethod
    def _creates(identified: Identified) -> tuple[Identity, ...]:
        """What the partner has not yet: the patient, parts."""
        patient = identified.routed.identities if identified.intent is Intent.CREATE else ()
        return (*patient, *(part for part in identified.routed.parts if part not in identified.part_ids))

    def _forget(self, packed: Packed) -> None:
        """The partner has it not: what the message is about, else the patient, under none of the numbers that went out."""
        routed = packed.mapped.identified.routed
        identities = tuple(part for part in routed.parts if part.kind is routed.rule.subject) or routed.identities
        told = (self.plan.name, self.position, self.intents)
        self.hands.steady(lambda: self.hands.ledger.forget(self.plan.route.partner, identities, told=told))

    def _went_out(self, packed: Packed) -> tuple[Learned, ...]:
        """A success without an id: the partner knows the patient by the identity that went out."""
        identified = packed.mapped.identified
        identity = identified.identity or identified.routed.identities[0]
        return (Learned(identity, identified.partner_id),)

    def _outcome(
        self, packed: Packed, answer: Answer | None, state: State, reason: Reason | None, confirmed_by: str | None = None
    ) -> Outcome:
        mapped = packed.mapped
        outcome = Outcome(
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
        return self._of_replay(outcome)
