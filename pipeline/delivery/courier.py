"""What a thread does with a ticket: one step of its delivery, and when that is an outcome, the settlement. It holds no order and no offsets.

Ledger first, then the topics, then the offset (RELIABILITY section 3). What takes long is parked with its bytes, so that neither the offset
nor the memory waits for it, and goes on from where the ledger has it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Protocol

from pipeline import flow
from pipeline.bus.port import Bus
from pipeline.delivery import replay
from pipeline.delivery.attempts import BLOCKED_PAUSE, CLOCKS, HELD_PAUSE, Delivery, Elsewhere, Hands, Later
from pipeline.delivery.blocked import Blocked
from pipeline.delivery.emitter import Emission
from pipeline.delivery.flood import Flood
from pipeline.delivery.lanes import Ticket
from pipeline.delivery.often import Often
from pipeline.delivery.payloads import Payloads
from pipeline.delivery.pool import Again
from pipeline.errors import Parked, Superseded
from pipeline.failpoints import Point, reach
from pipeline.ledger.plans import PlanState, Taken
from pipeline.ledger.port import Held
from pipeline.model import Kind, Outcome, Position, Received, Reply, Routed, Seen
from pipeline.stages.identify import makes_needless
from pipeline.stages.plan import Plan
from pipeline.stages.settle import SETTLED, letters, result_of, result_record, settle
from pipeline.tally import Tally
from pipeline.telemetry import LogEvent, log
from pipeline.transport.late import LateAnswers
from pipeline.transport.port import Flight, landed
from schemas.outcomes import CLOSED, COMES_BACK, Reason, State
from schemas.result import Result

ELSEWHERE_PAUSE: Final = 0.5
"""Seconds until the ledger is asked again about a record that another process has in hand."""
LATE: Final = 60.0
"""Seconds at most that an answer is waited for after its time."""
OLDER: Final = 64
"""Parked messages that are kept as they were read."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where a route reads and writes."""

    source: str
    results: str
    dead_letters: str


@dataclass(slots=True, eq=False)
class Task:
    """One record in the pool, and how far it is. One thread at a time."""

    received: Received = field(repr=False)
    seen: Seen | None
    """What the ledger had of it when it was taken up."""
    work: Outcome | Delivery
    """What ends at once, or the delivery."""
    waits_since: float | None = None
    """Monotonic: when it began to wait for something that may last."""
    taken: Taken | None = None
    """Of a replay: the item."""
    over: Outcome | None = None
    """Its plan was cancelled between two attempts: it ends as this."""
    ahead: "Task | None" = None
    """The record that it waits for, left open by a crash, or parked for its probe: it goes first."""

    @property
    def parked(self) -> bool:
        """Whether it is parked already, and came back to look."""
        return self.seen is not None and self.seen.state is State.PARKED


class Desk(Protocol):
    """What the courier hands on to: the worker."""

    def emit(self, emission: Emission) -> None:
        """Records onto their topics."""
        ...

    def done(self, position: Position, state: State) -> None:
        """Settled or durably parked, on its topics too: the offset may pass."""
        ...

    def mine(self, position: Position) -> bool:
        """Whether the record's partition is this worker's."""
        ...

    def aside(self, action: Callable[[], None]) -> None:
        """To be done by a thread of the pool, beside what has a turn."""
        ...

    def soon(self, position: Position) -> None:
        """Its turn has come, where it waits for a later one."""
        ...


class Courier:
    """See the module. One for a route, for all its threads."""

    def __init__(
        self, plan: Plan, topics: Topics, bus: Bus, *, hands: Hands, flood: Flood, desk: Desk, tally: Tally, hold: float
    ) -> None:
        """`hold`: seconds after which what waits is parked."""
        self.plan, self.topics, self.bus, self.hands, self.flood, self.desk, self.tally = (
            plan,
            topics,
            bus,
            hands,
            flood,
            desk,
            tally,
        )
        self._hold = hold
        self.payloads = Payloads(bus, topics.dead_letters)
        self._older = lru_cache(maxsize=OLDER)(self._read_older)
        partner, ledger = plan.route.partner, hands.ledger
        self._blocked = Blocked(
            lambda behind: hands.steady(lambda: ledger.holding(partner, behind)),
            lambda waiting: hands.steady(lambda: ledger.ended(plan.name, [one for one in waiting if one not in self._replays])),
        )
        """So that the bytes of what is parked need not be fetched to look."""
        self._back: dict[Position, Task] = {}
        """Those that came back and are being tried, or wait for one ahead."""
        self._at_work: dict[Position, Task] = {}
        """What a thread of ours has in hand: open, and left by no crash."""
        self._probe_due: dict[Position, tuple[int, float]] = {}
        """Of the unknown creates that were parked: the intents written for each, and when its probe is due (monotonic)."""
        self._open_since: dict[Position, tuple[int, float]] = {}
        """Of what somebody else may be sending: the intents written for it, and when this process saw it so first (monotonic). Kept where it moves to and fro."""
        self._said_gone: set[Position] = set()
        self.often = Often(plan.name)
        self.late = LateAnswers()
        self._replays: dict[Position, Taken] = {}
        """Items of replays that have their place in the lanes."""

    def task(self, received: Received, seen: Seen | None, read: Outcome | Routed, taken: Taken | None = None) -> Task:
        """A record that was read."""
        if isinstance(read, Outcome):
            return Task(received, seen, read if taken is None else replay.outcome_of(read, taken, seen), taken=taken)
        due = self._probe_due.pop(received.position, None)
        known = due[1] if due is not None and seen is not None and seen.intents == due[0] else None
        return Task(received, seen, self._delivery(read, seen, taken, known), taken=taken)

    def _delivery(
        self, routed: Routed, seen: Seen | None, taken: Taken | None = None, probe_due: float | None = None
    ) -> Delivery:
        since = self._seen_open(routed.decoded.received.position, seen)
        return Delivery(routed, self.plan, self.hands, seen, taken=taken, probe_due=probe_due, open_since=since)

    def _seen_open(self, position: Position, seen: Seen | None) -> float | None:
        """Since when it is known to be open with these intents; None where it is not."""
        if seen is None or not seen.open:
            self._open_since.pop(position, None)
            return None
        intents, since = self._open_since.setdefault(position, (seen.intents, self.hands.monotonic()))
        if intents != seen.intents:
            since = self.hands.monotonic()
            self._open_since[position] = seen.intents, since
        return since

    @property
    def gone(self) -> frozenset[Position]:
        """Records that are open, and whose bytes are nowhere any more: nobody goes on with them."""
        return frozenset(self._said_gone)

    @property
    def replaying(self) -> int:
        """Items of replays that are not at their end."""
        return len(self._replays)

    def replay(self, taken: Taken) -> bool:
        """An item that is to get a place in the lanes; False where it has one."""
        is_new = self._replays.setdefault(taken.item.position, taken) is taken
        if is_new:
            self._blocked.pop(taken.item.position)  # it may have been decided upon while it waited
        return is_new

    def has(self, position: Position) -> bool:
        """Whether an item of a replay has its place in the lanes."""
        return position in self._replays

    def _given_back(self, position: Position) -> bool:
        """Whether it is an item of a plan that was stopped before it was begun: then it loses its place, and the plan has it again."""
        taken, replays = self._replays.get(position), self.hands.ledger.replays
        if taken is None or not self.hands.steady(lambda: replays.stopped(taken.replay)):
            return False
        seen = self._seen(position)
        if replay.begun(seen) or replay.left(taken, seen) is not replay.Left.GO or not self.desk.mine(position):
            return False
        self._replays.pop(position, None)  # first: once it is given back it may be taken anew
        if self.hands.steady(lambda: replays.give_back(taken.replay, position)):
            self._back.pop(position, None)
            return True
        self._replays[position] = taken
        if not self.desk.mine(position):  # lost meanwhile: the next worker has it
            self._replays.pop(position, None)
        return False

    def _called_off(self, task: Task) -> Outcome | None:
        """An item whose plan was cancelled, where all that went out of it was answered, and did nothing: it is not tried again."""
        taken, work = task.taken, task.work
        if taken is None or not isinstance(work, Delivery) or work.unknown or not self._cancelled(taken):
            return None
        decoded = work.routed.decoded
        ended = flow.ended_outcome(Parked(Reason.OPERATOR), decoded.received, self.plan, decoded, work.routed)
        return replay.outcome_of(ended, taken, task.seen)

    def _cancelled(self, taken: Taken) -> bool:
        """Whether its plan was cancelled between two attempts of it."""
        replays, seen = self.hands.ledger.replays, self._seen(taken.item.position)
        if seen is None or seen.open or seen.state is not State.PENDING:
            return False
        plan = self.hands.steady(lambda: replays.get(taken.replay))
        return plan is not None and plan.state is PlanState.CANCELLED

    def _given_again(self, position: Position) -> Task | None:
        """An item that another process tried, or we before its partition was given again: where its plan was cancelled, it is not tried here."""
        taken = self._replays.get(position)
        task = self._revived(position) if taken is not None and self._cancelled(taken) else None
        if not isinstance(task, Task) or not self.desk.mine(position):
            return None
        return self._back.setdefault(position, task)

    def _over(self, taken: Taken, state: State) -> None:
        position = taken.item.position
        self._replays.pop(position, None)  # first: once it is done another plan may have it
        self.hands.steady(lambda: self.hands.ledger.replays.done(taken.replay, position, state))

    def forget(self, mine: Callable[[Position], bool]) -> None:
        """Of what is not ours any more, nothing is kept."""
        self._blocked.keep(mine)
        for kept in (self._back, self._probe_due, self._replays):
            for position in [position for position in list(kept) if not mine(position)]:
                kept.pop(position, None)
        self._said_gone = {position for position in list(self._said_gone) if mine(position)}
        long_ago = self.hands.monotonic() - CLOCKS
        for position in [position for position, (_, since) in list(self._open_since.items()) if since < long_ago]:
            self._open_since.pop(position, None)

    def work(self, ticket: Ticket[Task]) -> Flight[Again | None]:
        """One step. None: it is settled, here or elsewhere. Leave that it was given is kept while it is in the air."""
        position = ticket.position
        if ticket.content is None and self._given_back(position):
            return None
        if wait := self.flood.ask(position):
            return Again(wait)
        try:
            return (yield from self._step(ticket.content) if ticket.content is not None else self._go_on(position))
        finally:
            self.flood.back(position)

    def _go_on(self, position: Position) -> Flight[Again | None]:
        """Of what was parked and comes back: from where the ledger has it."""
        if self._blocked.still(position):
            return Again(BLOCKED_PAUSE)
        if (waits := self._back.get(position) or self._given_again(position)) is not None:
            waits.over = self._called_off(waits)
        if (waits is None or waits.over is None) and (wait := self.hands.gate.ask((self.plan.name, position))):
            return Again(wait)
        self._blocked.pop(position)
        try:
            task = self._back.pop(position, None) or self._revived(position)
            again = (yield from self._step(task)) if isinstance(task, Task) else task
        finally:
            self.hands.gate.back((self.plan.name, position))
        if (
            again is not None
            and isinstance(task, Task)
            and (task.ahead is not None or not again.parked)
            and self.desk.mine(position)
        ):
            self._back[position] = task
        return again

    def _revived(self, position: Position) -> Task | Again | None:
        """A task for a record that the ledger has open; None where it is closed by now, or its bytes are gone."""
        seen = self._seen(position)
        taken = self._replays.get(position)
        if taken is not None:
            return self._replayed(taken, seen)
        if seen is None or seen.state in CLOSED or (seen.state is State.PARKED and seen.reason not in COMES_BACK):
            self.emit_left(position)  # by another process, perhaps, while its parking here was refused: its offset passes
            return None
        received = self._bytes(position, seen)
        if received is None:
            self._gone(position)
            return None
        return self.task(received, seen, flow.read(received, self.plan))

    def _bytes(self, position: Position, seen: Seen | None) -> Received | None:
        """Of what the ledger has there; None where they are nowhere any more."""
        fits = replay.meant(seen.dedupe if seen is not None else None, self.plan)
        return self.hands.steady(lambda: self.payloads.received(position, fits))

    def _gone(self, position: Position) -> None:
        if position not in self._said_gone:
            self._said_gone.add(position)
            log(LogEvent.PAYLOAD_GONE, route=self.plan.name, at=str(position))

    def _replayed(self, taken: Taken, seen: Seen | None) -> Task | Again | None:
        """A task for an item of a replay; None where it is at its end, Again where only its result is on its way still."""
        position = taken.item.position
        what = replay.left(taken, seen)
        received = self._bytes(position, seen) if what is not replay.Left.NOTHING else None
        if seen is None or received is None:
            if what is not replay.Left.NOTHING:
                self._gone(position)
            self._over(taken, seen.state if seen is not None else taken.item.was)
            return None
        if what is replay.Left.EMIT:
            self.emit_again(received, seen)
            return Again(ELSEWHERE_PAUSE)
        if seen.state in CLOSED and seen.result is not None:
            self.emit_again(received, seen)  # the row keeps one result: the one before goes first
        return self.task(received, seen, flow.read(received, self.plan), taken)

    def _step(self, task: Task) -> Flight[Again | None]:
        position = task.received.position
        if self._at_work.setdefault(position, task) is not task:
            return Again(HELD_PAUSE)
        try:
            return (yield from self._stepped(task))
        finally:
            del self._at_work[position]

    def _stepped(self, task: Task) -> Flight[Again | None]:
        if task.ahead is not None:
            # a trial is the other's now, who asks under its own name
            self.hands.gate.back((self.plan.name, task.received.position))
            if self._was_decided(task.ahead.received.position):
                task.ahead = None
                return Again(0)
            again = yield from self._step(task.ahead)
            if again is not None:
                return (yield from self._waits_too(task, task.ahead)) if again.parked else again
            task.ahead = None
            return Again(0)  # who has read an answer waits for no other slot: whoever has that may need this thread to land
        try:
            stepped = task.over or (task.work if isinstance(task.work, Outcome) else (yield from task.work.step()))
        except Elsewhere:
            return self._elsewhere(task)
        return (yield from self._later(task, stepped) if isinstance(stepped, Later) else self._settled(task, stepped))

    def _was_decided(self, position: Position) -> bool:
        """Whether what went ahead was ended by somebody else, or waits for a person or in a plan. A resend that a crash left open was ended before, and is open."""
        seen = self._seen(position)
        if seen is None or seen.open:
            return False
        return seen.state in CLOSED or (seen.state is State.PARKED and seen.reason not in COMES_BACK)

    def _waits_too(self, task: Task, ahead: Task) -> Flight[Again]:
        """Parked as the one ahead is, so that its offset passes; kept as it is, since that one may stand behind it in the lanes."""
        position = task.received.position
        if not task.parked and task.taken is None:
            yield from self._parking(task, Reason.BLOCKED_BEHIND)
        task.seen, ahead.seen = self._seen(position), self._seen(ahead.received.position)
        if self.desk.mine(position):
            self._back[position] = task
        return Again(BLOCKED_PAUSE, parked=True)

    def _later(self, task: Task, later: Later) -> Flight[Again]:
        """Wait; or park, where that takes longer than the others should wait for it."""
        position = task.received.position
        if later.tried is not None:
            self._count(later.tried)
            self._emit_attempt(later.tried)
            self._listen(task, later.tried)
            if task.parked:  # it was, until this attempt: the ledger has it open now
                task.seen = self._seen(position)
        if later.of_route == self.plan.name and later.behind not in (None, position) and self.desk.mine(later.behind):
            task.ahead = self._left_open(later.behind, at_once=later.at_once)
            if task.ahead is not None:
                return Again(HELD_PAUSE)
        if later.parks is None:
            task.waits_since = None
            return Again(later.seconds)
        if later.at_once and later.behind is not None:
            self._blocked.put(position, later.behind)
        if task.waits_since is None:
            task.waits_since = time.monotonic()
        if later.at_once or time.monotonic() - task.waits_since + later.seconds > self._hold:
            return (yield from self._waits_parked(task, later, later.parks))
        return Again(later.seconds)

    def _waits_parked(self, task: Task, later: Later, reason: Reason) -> Flight[Again]:
        position = task.received.position
        if not task.parked and task.taken is None:  # an item of a replay waits in its plan, durably
            yield from self._parking(task, reason)
        self._keep_due(task.work)
        if later.behind is None and self.desk.mine(position):
            self._blocked.put_until(position, later.seconds)
        return Again(min(later.seconds, BLOCKED_PAUSE), parked=True)  # an operator may end it meanwhile

    def _listen(self, task: Task, tried: Outcome) -> None:
        """No answer came in time: it may yet, before the probe is due, which finds out in any case."""
        work, answer = task.work, tried.answer
        if answer is None or answer.end is None:
            return
        if not isinstance(work, Delivery) or work.more or task.taken is not None:
            answer.end.close()
            return
        after, tried = work.intents, replace(tried, answer=replace(answer, end=None))
        seconds = min(self.plan.partner.probe_after(answer.request.operation), LATE)
        self.late.wait(answer.end, seconds, lambda reply: self.desk.aside(lambda: self._came_late(work, tried, after, reply)))

    def _came_late(self, work: Delivery, tried: Outcome, after: int, reply: Reply) -> None:
        """That it was done is true whenever it is said; anything else is told, and the probe decides as it would have."""
        outcome, seen = work.late(tried, reply), self._seen(work.position)
        stands = seen is not None and seen.intents == after and seen.state not in CLOSED
        if outcome.state is State.DELIVERED and stands and landed(self._write(outcome, after)):
            self._blocked.pop(work.position)
            self.desk.soon(work.position)
            return
        self._emit_unsettled(replace(outcome, state=State.UNKNOWN, reason=Reason.TIMEOUT, confirmed_by=None))

    def _keep_due(self, work: Outcome | Delivery) -> None:
        """It is made anew when it comes back, and has not to wait for its probe from the beginning."""
        if isinstance(work, Delivery) and work.probe_due is not None and self.desk.mine(work.position):
            self._probe_due[work.position] = (work.intents, work.probe_due)

    def _left_open(self, holder: Position, *, at_once: bool) -> Task | None:
        """The holder of the lane, where a crash left it open; or the unknown create (`at_once`) that is parked for its probe.

        It may stand behind this one, where the two are of different partitions: then nobody else would go on with it.
        """
        seen = self._seen(holder)
        waits = seen is not None and (seen.state is State.PARKED and seen.reason in COMES_BACK if at_once else seen.open)
        if not waits or holder in self._at_work:
            return None
        revived = self._revived(holder)
        return revived if isinstance(revived, Task) else None

    def park(self, task: Task, reason: Reason) -> None:
        """It waits with its bytes on the dead-letter topic, and comes back by itself."""
        landed(self._parking(task, reason))

    def _parking(self, task: Task, reason: Reason) -> Flight[None]:
        work = task.work
        if isinstance(work, Outcome):
            yield from self._write(work, None)
            return
        decoded = work.routed.decoded
        outcome = flow.ended_outcome(Parked(reason), decoded.received, self.plan, decoded, work.routed)
        if not (yield from self._write(outcome, work.intents, keeps_open=work.crashed)):
            self._elsewhere(task)  # settled there, its offset passes; else its stub goes on from what the ledger says

    def _settled(self, task: Task, outcome: Outcome) -> Flight[Again | None]:
        """An outcome becomes durable."""
        self._count(outcome)
        self._listen(task, outcome)
        after = task.work.intents if isinstance(task.work, Delivery) else None
        try:
            if not (yield from self._write(outcome, after, task.taken)):
                return self._elsewhere(task)
        except Held:
            return Again(0)  # the ledger has learned of another merge meanwhile: asked again, it says what follows
        if outcome.state is State.DELIVERED and isinstance(task.work, Delivery):
            yield from self._supersede(task.work)
        return None

    def _supersede(self, delivered: Delivery) -> Flight[None]:
        """Older snapshots of the patient that are parked have become needless, where this one carries all that they had (RELIABILITY section 2)."""
        for parked in delivered.parked_before:
            if parked.kind is not Kind.SNAPSHOT or delivered.routed.rule.kind is not Kind.SNAPSHOT:
                continue
            position = parked.position
            older = self._older(position)
            seen = self._seen(position)
            if (
                isinstance(older, Routed)
                and seen is not None
                and seen.state is State.PARKED
                and makes_needless(delivered.routed, older)
            ):
                outcome = flow.ended_outcome(
                    Superseded(Reason.OLDER_SNAPSHOT), older.decoded.received, self.plan, older.decoded, older
                )
                yield from self._write(outcome, seen.intents)

    def _read_older(self, position: Position) -> Routed | Outcome | None:
        """What is parked of a patient, as it was read; None where its bytes are gone. Asked for by each delivery of that patient, so some are kept."""
        received = self._bytes(position, self._seen(position))
        return flow.read(received, self.plan) if received is not None else None

    def _count(self, outcome: Outcome) -> None:
        answer = outcome.answer
        if answer is not None:
            elapsed = answer.reply.elapsed_ms if answer.reply else None
            self.tally.attempted(self.plan.name, answer.request.operation, answer.verdict.decision, elapsed)

    def _write(
        self, outcome: Outcome, after: int | None, taken: Taken | None = None, *, keeps_open: bool = False
    ) -> Flight[bool]:
        """Ledger, then topics; whether the ledger took it."""
        topics, position = self.topics, outcome.received.position
        written = settle(
            outcome,
            self.plan,
            results_topic=topics.results,
            dead_letter_topic=topics.dead_letters,
            at_ms=self.hands.clock(),
            after=after,
            keeps_open=keeps_open,
        )
        settlement = written.settlement
        if not (yield from self.hands.steady.soon(lambda: self.hands.ledger.settle_soon(settlement))):
            return False
        reach(Point.AFTER_LEDGER_SETTLED)
        self.flood.told(outcome.state, outcome.reason, position)
        self.tally.settled(self.plan.name, outcome.state, outcome.reason)
        if outcome.state is State.PARKED and outcome.reason not in COMES_BACK:
            self.often.happened(LogEvent.MESSAGE_PARKED, outcome.reason, position, outcome.where)
        settled = position, settlement.result_id
        self.desk.emit(
            Emission((written.result,), settled, lambda: self._done(position, outcome.state, taken), letters=written.letters)
        )
        return True

    def _done(self, position: Position, state: State, taken: Taken | None) -> None:
        self._open_since.pop(position, None)
        self.desk.done(position, state)
        if taken is not None:
            self._over(taken, state)

    def _elsewhere(self, task: Task) -> Again | None:
        """Another process was first: settled, or at work. What the ledger says counts."""
        position = task.received.position
        seen = self._seen(position)
        if task.taken is not None:
            again = self._replayed(task.taken, seen)
            if not isinstance(again, Task):
                return again
            task.seen, task.work = again.seen, again.work
            return Again(ELSEWHERE_PAUSE)
        if seen is not None and seen.state in SETTLED and not (seen.state is State.PARKED and seen.reason in COMES_BACK):
            self.emit_again(task.received, seen)
            return None
        if seen is not None and seen.state is State.PARKED and not task.parked:  # perhaps by us, whose answer was lost
            self.emit_again(task.received, seen)
        task.seen = seen
        if isinstance(task.work, Delivery):
            task.work = self._delivery(task.work.routed, seen)
        return Again(ELSEWHERE_PAUSE)

    def emit_again(self, received: Received, seen: Seen) -> None:
        """Settled before a restart, or by another: the same result with the same id, and nothing to the partner."""
        position = received.position
        if seen.result_emitted or seen.result is None:
            self.desk.done(position, seen.state)
            return
        result = Result.model_validate_json(seen.result)
        again = result_record(seen.result, result.request_id, self.topics.results)
        parked = letters(received, result, self.topics.dead_letters)
        settled = position, result.result_id
        self.desk.emit(Emission((again,), settled, lambda: self.desk.done(position, seen.state), letters=parked))

    def emit_left(self, position: Position) -> None:
        """A result that the end of a process, another one, or an operator's command, left in the ledger."""
        seen = self._seen(position)
        if seen is None:
            return
        there = seen.result_emitted or seen.result is None
        received = None if there else self._bytes(position, seen)
        if there or seen.result is None:
            self.desk.done(position, seen.state)
        elif received is not None:
            self.emit_again(received, seen)
        else:
            result = Result.model_validate_json(seen.result)
            records = (result_record(seen.result, result.request_id, self.topics.results),)
            self.desk.emit(Emission(records, (position, result.result_id), lambda: self.desk.done(position, seen.state)))

    def _emit_attempt(self, outcome: Outcome) -> None:
        """The result of an attempt that did not settle."""
        if outcome.state is State.UNKNOWN and outcome.answer is not None and not outcome.answer.probe:
            self.often.happened(LogEvent.OUTCOME_UNKNOWN, outcome.reason, outcome.received.position)
        self._emit_unsettled(outcome)

    def _emit_unsettled(self, outcome: Outcome) -> None:
        result = result_of(outcome, self.plan, self.hands.clock())
        text = result.model_dump_json(exclude_none=True)
        record = result_record(text, result.request_id, self.topics.results)
        self.desk.emit(Emission((record,), at=outcome.received.position))

    def _seen(self, position: Position) -> Seen | None:
        return self.hands.steady(lambda: self.hands.ledger.seen(self.plan.name, position))
