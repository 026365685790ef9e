"""The loop of one route: poll, take each record through the hops, settle, emit, commit. One message at a time, in source order.

Order of writing (RELIABILITY section 3): ledger, result and dead letter, offset. A record that the ledger has settled already is
emitted again and not sent again. Nothing passes that is not settled: where the ledger or a topic cannot be written, the loop waits.
Lanes will stand between `flow.read` and the delivery, which knows nothing of the loop but how to wait.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline import flow
from pipeline.bus.port import Bus, Consumer, Producer, Record, TopicPartition, Where
from pipeline.delivery.attempts import Backoff, Behind, Delivery, Hands, Stopped
from pipeline.delivery.steady import Outages, Steady
from pipeline.delivery.weather import Weather
from pipeline.errors import BusError, BusLost, BusRebalancing, BusUnavailable, LedgerError, Refused
from pipeline.failpoints import Point, reach
from pipeline.ledger.port import Ledger
from pipeline.model import Clock, Outcome, Position, Received, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.settle import SETTLED, dead_letter, result_of, result_record, settle
from pipeline.telemetry import LogEvent, log
from pipeline.transport.port import Transport
from schemas.outcomes import State
from schemas.result import Result

COMMIT_EVERY: Final = 1.0
"""Seconds between commits while records flow; the ledger makes a lost commit harmless."""
POLL: Final = 0.25
"""Seconds: how soon a stop is noticed."""
LANE_PAUSE: Final = 0.5
"""Seconds until a lane that another worker holds is asked for again."""
BATCH: Final = 100
EMIT_SECONDS: Final = 10.0
"""How long a result may take to be durable before the bus counts as away; it is then written again, under the same result id."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where a route reads and writes."""

    source: str
    results: str
    dead_letters: str


@dataclass(slots=True)
class Progress:
    """What has passed since the start, for whoever looks on."""

    read: int = 0
    states: dict[State, int] = field(default_factory=dict)

    def count(self, state: State) -> None:
        """One more record is settled."""
        self.read += 1
        self.states[state] = self.states.get(state, 0) + 1


class Worker:
    """One route on one thread. `run` returns when `stop` is set; it raises where only a person can help."""

    def __init__(
        self,
        plan: Plan,
        topics: Topics,
        group: str,
        bus: Bus,
        ledger: Ledger,
        *,
        transport: Transport,
        clock: Clock,
        backoff: Backoff | None = None,
        patience: float = 900,
    ) -> None:
        """`bus`, `ledger` and `transport` are handed in and stay the caller's to close."""
        self.plan, self.topics, self.group = plan, topics, group
        self.bus, self.ledger, self.transport, self.clock = bus, ledger, transport, clock
        self.backoff = backoff or Backoff()
        self.patience = patience
        self.stop = threading.Event()
        self.progress = Progress()
        self.outages = Outages(plan.name)
        self.steady = Steady(self.outages, self.wait, self.backoff)
        self.weather = Weather(plan.name, plan.route.partner)
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._backlog: deque[Received] = deque()
        self._next: dict[TopicPartition, int] = {}
        self._at: TopicPartition | None = None
        self._committed_at = time.monotonic()
        self._until: dict[TopicPartition, int] | None = None

    def drain(self) -> None:
        """Stop when all that stands in the source topic now is settled and committed."""
        self._until = {partition: end for partition, (_, end) in self.bus.bounds(self.topics.source).items()}

    def run(self) -> None:
        """Work until told to stop. Refused where another worker has the route, or it was started with another group (RELIABILITY R8)."""
        self.ledger.claim(self.plan.name, self.group)
        self._first_start()
        log(
            LogEvent.WORKER_STARTED,
            route=self.plan.name,
            partner=self.plan.route.partner,
            source=self.topics.source,
            group=self.group,
        )
        with (
            self.bus.producer() as self._producer,
            self.bus.consumer(self.group, [self.topics.source], listener=self) as self._consumer,
        ):
            while not self.stop.is_set():
                self._round()
            if not self.outages.bus:
                self.commit()
        log(LogEvent.WORKER_STOPPED, route=self.plan.name, settled=self.progress.read)

    def _first_start(self) -> None:
        """It is recorded; afterwards a missing offset is an error, never a silent jump (DESIGN decision 1)."""
        if self.ledger.started(self.plan.name) is None:
            how = self.plan.route.start
            self.bus.start(self.group, [self.topics.source], start_of(how))
            self.ledger.start(self.plan.name, self.group, how)

    def _round(self) -> None:
        if not self._backlog:
            polled = self._poll(POLL)  # first: a rebalance inside it gives the backlog a new deque
            self._backlog.extend(polled)
            if not polled and self._drained():
                self.stop.set()
        while self._backlog and not self.stop.is_set():
            received = self._backlog.popleft()
            self._at = partition_of(received)
            if self._ours(self._at):
                try:
                    self._one(received)
                except Stopped:
                    return  # the record stays open in the ledger: after a stop, or at the partition's new owner
                except Behind as behind:
                    self._backlog.appendleft(received)
                    if not self._holder_first(behind.holder):
                        return
                    continue
                self._next[self._at] = received.position.offset + 1
            if time.monotonic() - self._committed_at > COMMIT_EVERY:
                self.commit()
                self._look_in()
        self.commit()

    def _holder_first(self, holder: Position | None) -> bool:
        """What holds the lane goes first: it is ours, left open by a crash, or another worker's. False where the loop has to end."""
        try:
            left_open = self._left_open(holder)
            if left_open is None:
                self.wait(LANE_PAUSE)
            else:
                self._at = partition_of(left_open)
                self._one(left_open)
        except Stopped:
            return False
        except Behind:
            self.stop.wait(LANE_PAUSE)
        return True

    def _left_open(self, holder: Position | None) -> Received | None:
        """The record that holds the lane, where it is this route's and of one of our partitions."""
        if holder is None or not self._ours(TopicPartition(holder.topic, holder.partition)):
            return None
        seen = self.steady(lambda: self.ledger.seen(self.plan.name, holder))
        return self.steady(lambda: self.bus.fetch(holder)) if seen is not None and seen.state not in SETTLED else None

    def _poll(self, timeout: float) -> list[Received]:
        assert self._consumer is not None  # noqa: S101 - only called while it is there
        try:
            records = self._consumer.poll(timeout, BATCH)
        except BusUnavailable as error:
            self.outages.gone(error)
            self.stop.wait(timeout)
            return []
        self.outages.back(BusError)
        return records

    def _one(self, received: Received) -> None:
        """One record to its end, or from where a restart left it."""
        reach(Point.AFTER_POLL)
        seen = self._seen(received)
        if seen is not None and seen.state in SETTLED:
            self._emit_again(received, seen)
            return
        routed = flow.read(received, self.plan)
        try:
            outcome = routed if isinstance(routed, Outcome) else Delivery(routed, self.plan, self._hands(), seen).run()
        except Refused:
            self._settled_elsewhere(received)
        else:
            self._settle(outcome)

    def _seen(self, received: Received) -> Seen | None:
        return self.steady(lambda: self.ledger.seen(self.plan.name, received.position))

    def _settled_elsewhere(self, received: Received) -> None:
        """Its former owner's late answer has settled it meanwhile: what the ledger says counts."""
        seen = self._seen(received)
        if seen is None or seen.state not in SETTLED:
            raise LedgerError("refuses a record that it has not settled", where=str(received.position))
        self._emit_again(received, seen)

    def _settle(self, outcome: Outcome) -> None:
        written = settle(
            outcome, self.plan, results_topic=self.topics.results, dead_letter_topic=self.topics.dead_letters, at_ms=self.clock()
        )
        if not self.steady(lambda: self.ledger.settle(written.settlement)):
            self._settled_elsewhere(outcome.received)
            return
        reach(Point.AFTER_LEDGER_SETTLED)
        if outcome.state is State.PARKED:
            where = outcome.received.position
            log(LogEvent.MESSAGE_PARKED, route=self.plan.name, at=str(where), reason=outcome.reason, where=outcome.where)
        self._emit(outcome.received, [written.result, *([written.dead_letter] if written.dead_letter else [])])
        self.progress.count(outcome.state)

    def _emit(self, received: Received, records: list[Record]) -> None:
        producer = self._producer
        assert producer is not None  # noqa: S101 - as above
        self.steady(lambda: producer.append(records, EMIT_SECONDS))
        reach(Point.AFTER_RESULT_PRODUCED)
        self.steady(lambda: self.ledger.emitted(self.plan.name, [received.position]))

    def _emit_again(self, received: Received, seen: Seen) -> None:
        """Settled before a restart: the same result with the same id, and nothing to the partner."""
        if not seen.result_emitted and seen.result is not None:
            result = Result.model_validate_json(seen.result)
            letter = dead_letter(received, result, self.topics.dead_letters)
            self._emit(
                received, [result_record(seen.result, result.request_id, self.topics.results), *([letter] if letter else [])]
            )
        self.progress.count(seen.state)

    def _emit_attempt(self, outcome: Outcome) -> None:
        """The result of an attempt that did not settle."""
        producer = self._producer
        assert producer is not None  # noqa: S101 - as above
        if outcome.state is State.UNKNOWN and outcome.answer is not None and not outcome.answer.probe:
            log(LogEvent.OUTCOME_UNKNOWN, route=self.plan.name, at=str(outcome.received.position), reason=outcome.reason)
        result = result_of(outcome, self.plan, self.clock())
        record = result_record(result.model_dump_json(exclude_none=True), result.request_id, self.topics.results)
        self.steady(lambda: producer.append([record], EMIT_SECONDS))

    def _hands(self) -> Hands:
        return Hands(
            ledger=self.ledger,
            transport=self.transport,
            clock=self.clock,
            wait=self.wait,
            steady=self.steady,
            emit=self._emit_attempt,
            told=self.weather.told,
            backoff=self.backoff,
            patience=self.patience,
        )

    def wait(self, seconds: float) -> None:
        """Wait and stay in the group: partitions paused, the poll going on. Stopped where the worker stops or the partition is lost."""
        if self._consumer is None:
            if self.stop.wait(seconds):
                raise Stopped
            return
        try:
            self._wait_polling(self._consumer, time.monotonic() + seconds)
        finally:
            self._consumer.resume(self._consumer.assignment())

    def _wait_polling(self, consumer: Consumer, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._poll_paused(consumer, min(left, POLL))
            if self.stop.is_set() or (self._at is not None and not self._ours(self._at)):
                raise Stopped

    def _look_in(self) -> None:
        """Hear what the group wants while a backlog is worked off: a slow partner must not hold up who joins, nor cost the membership."""
        assert self._consumer is not None  # noqa: S101 - as above
        try:
            self._poll_paused(self._consumer, 0)
        finally:
            self._consumer.resume(self._consumer.assignment())

    def _poll_paused(self, consumer: Consumer, timeout: float) -> None:
        consumer.pause(consumer.assignment())
        polled = self._poll(timeout)  # first, as in _round; what a partition assigned in this very poll brings is kept
        self._backlog.extend(polled)

    def commit(self) -> None:
        """Commit what is settled. A refusal takes nothing back: the ledger knows what was done."""
        self._committed_at = time.monotonic()
        ours = {partition: offset for partition, offset in self._next.items() if self._ours(partition)}
        if ours and self._consumer is not None:
            try:
                self._consumer.commit(ours)
            except BusRebalancing:
                return  # the next one carries it; what is taken from us is committed in `revoked`, or done again and found settled
            except BusUnavailable as error:
                self.outages.gone(error)
                return
            except BusLost:
                self.lost(list(ours))
                return
            reach(Point.AFTER_COMMIT)
            self._next = {partition: offset for partition, offset in self._next.items() if partition not in ours}

    def _drained(self) -> bool:
        """Asked with nothing in hand. What holds no record (a transaction's marker) is passed by reading, and then committed as the rest."""
        if self._until is None or self._consumer is None:
            return False
        try:
            read, committed = self._consumer.position(self._until), self._consumer.committed(self._until)
        except BusUnavailable as error:
            self.outages.gone(error)
            return False
        stand = {partition: committed.get(partition) or 0 for partition in self._until}
        self._next |= {partition: at for partition, at in read.items() if at > stand[partition]}
        return all(stand[partition] >= end for partition, end in self._until.items())

    def _ours(self, partition: TopicPartition) -> bool:
        return self._consumer is not None and partition in self._consumer.assignment()

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """New ones begin unpaused; while a delivery waits, `wait` pauses them with the rest."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit what is settled of these, then forget them."""
        self.commit()
        self.lost(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Another member has them: their records that wait here are its to read."""
        gone = set(partitions)
        self._next = {partition: offset for partition, offset in self._next.items() if partition not in gone}
        self._backlog = deque(received for received in self._backlog if partition_of(received) not in gone)


def partition_of(received: Received) -> TopicPartition:
    """Where a record stands, without its offset."""
    return TopicPartition(received.position.topic, received.position.partition)


def start_of(how: str) -> Where | int:
    """A route's `start` setting as the bus takes it: a place, or milliseconds since 1970."""
    if how in {"earliest", "latest"}:
        return Where(how)
    return int(datetime.fromisoformat(how).timestamp() * 1000)
