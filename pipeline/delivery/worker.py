"""The loop of one route: poll, read, give each record its place, commit. It sends nothing and waits for no partner.

    this loop   poll → flow.read → frontier, lanes                                    the only one that touches the consumer
    pool        courier.work: a step of a delivery; when it ends, the ledger         up to `in_flight` at once, on few threads
    emitter     results and dead letters, durable; then the frontier                 one thread

The order of writing is ledger, topics, offset (RELIABILITY section 3). A record that the ledger has settled already is emitted again and not
sent again. Nothing passes that is not settled or durably parked: where the ledger or a topic cannot be written, everything waits.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from pipeline.bus.port import Bus, Consumer, TopicPartition
from pipeline.delivery.attempts import Backoff, Hands
from pipeline.delivery.courier import Courier, Task, Topics
from pipeline.delivery.emitter import Emission, Emitter
from pipeline.delivery.first import first_start
from pipeline.delivery.flood import Flood
from pipeline.delivery.gate import Gate
from pipeline.delivery.intake import Intake, partition_of
from pipeline.delivery.lanes import Lanes, Limits
from pipeline.delivery.offsets import Offsets, Progress
from pipeline.delivery.pool import TOGETHER, Pool
from pipeline.delivery.replayer import Replayer
from pipeline.delivery.steady import Outages, Steady, Stopped
from pipeline.delivery.trouble import Trouble
from pipeline.errors import BusError, BusGap, BusLost, BusRebalancing, BusUnavailable, Refused
from pipeline.failpoints import Point, reach
from pipeline.health import NotReady
from pipeline.ledger.port import Ledger
from pipeline.model import Clock, Position, Received
from pipeline.settings import DeliverySettings, FloodSettings
from pipeline.stages.plan import Plan
from pipeline.tally import Figures, NobodyWatches, Tally
from pipeline.telemetry import LogEvent, log
from pipeline.transport.port import Splits, Transport
from schemas.outcomes import State

COMMIT_EVERY: Final = 1.0
"""Seconds between commits while records flow; the ledger makes a lost commit harmless."""
POLL: Final = 0.25
"""Seconds: how soon a stop is noticed."""
SHORT_POLL: Final = 0.02
"""The same, where it is to end with what is there, or has to see soon that there is room."""
BATCH: Final = 500
AHEAD: Final = 500
"""Messages that may wait for a free thread before reading pauses; half of `in_flight`, where that is more: a second or so of work, of which none need be in memory."""
DRAIN_TRIES: Final = 3
"""Messages that a stopped route tries, and parks, until draining it is given up: nobody would be there to mend what they share."""


class Worker:
    """One route. `run` returns when `stop` is set and what was in flight has ended; it raises where only a person can help."""

    def __init__(
        self,
        plan: Plan,
        topics: Topics,
        group: str,
        bus: Bus,
        ledger: Ledger,
        *,
        transport: Transport,
        gate: Gate,
        clock: Clock,
        settings: DeliverySettings,
        flood: FloodSettings,
        in_flight: int,
        slots: AbstractContextManager[object] | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`bus`, `ledger`, `transport`, `gate` and `slots` (the last three for all routes of a partner) are handed in and stay the caller's to close."""
        self.plan, self.topics, self.group, self.settings = plan, topics, group, settings
        self.bus, self.ledger = bus, ledger
        self.stop = threading.Event()
        self.abandoned = threading.Event()
        """Set where in-flight work is given up: it stays open in the ledger."""
        self.outages = Outages(plan.name)
        self.gate = gate
        self.tally = tally or NobodyWatches()
        self.flood = Flood(plan.name, flood)
        backoff = Backoff(settings.backoff_first, settings.backoff_most)
        self.steady = Steady(self.outages, self.abandoned, backoff)
        hands = Hands(
            ledger, transport, gate, slots or nullcontext(), clock, self.steady, backoff, settings.patience, self.stop.is_set
        )
        self.courier = Courier(plan, topics, bus, hands=hands, flood=self.flood, desk=self, tally=self.tally, hold=settings.hold)
        limits = Limits(settings.messages, settings.megabytes * 1_048_576, settings.per_patient, settings.hold)
        together = TOGETHER if slots is None else 1  # two that wait for a slot on one thread might wait for one another
        flies = isinstance(transport, Splits)
        self.pool: Pool[Task] = Pool(Lanes(limits), self.courier.work, in_flight, name=plan.name, flies=flies, together=together)
        self.replayer = Replayer(plan.name, topics.source, ledger.replays, placed=self.courier.has)
        self.offsets = Offsets()
        self.intake = Intake(
            plan,
            topics.source,
            ledger,
            courier=self.courier,
            pool=self.pool,
            offsets=self.offsets,
            replayer=self.replayer,
            steady=Steady(self.outages, self.stop, backoff),
        )
        self._emitter: Emitter | None = None
        self._consumer: Consumer | None = None
        self._paused = False
        self._ahead = max(AHEAD, in_flight // 2)
        """Enough for the next poll; what is read long before it can go costs memory, and time that what is on its way needs."""
        self._committed_at = time.monotonic()
        self._until: dict[TopicPartition, int] | None = None
        self._look_at = 0.0
        """Of a drain, monotonic: when the ledger is asked again whether something is open."""
        self._in_vain: Refused | None = None
        """Why draining was given up."""

    def drain(self) -> None:
        """Stop when all that stands in the source topic now is settled and committed; Refused (by `run`) where a flood holds it up for good."""
        self._until = {partition: end for partition, (_, end) in self.bus.bounds(self.topics.source).items()}

    def run(self) -> None:
        """Work until told to stop. Refused where another worker has the route, or it was started otherwise (Ledger.fits)."""
        self.ledger.claim(self.plan.name, self.group, self.plan.route.partner)
        first_start(self.bus, self.ledger, self.plan, self.group, self.topics.source)
        names = {"route": self.plan.name, "partner": self.plan.route.partner}
        log(LogEvent.WORKER_STARTED, **names, source=self.topics.source, group=self.group)
        with self.bus.producer() as producer:
            self._emitter = Emitter(self.plan.name, producer, self.ledger, self.steady)
            try:
                with self.bus.consumer(self.group, [self.topics.source], listener=self) as self._consumer:
                    while not self.stop.is_set():
                        self._round()
                    self._finish()
            except BusGap as error:
                self._leave(error)
                raise
            finally:
                self.abandoned.set()
                self.courier.late.close()
                self.pool.drain(0)
                self._emitter.close()
        self.courier.often.look(last=True)
        self._raise_failed()
        log(LogEvent.WORKER_STOPPED, route=self.plan.name, settled=self.offsets.progress.read)
        if self._in_vain is not None:
            raise self._in_vain

    def _round(self) -> None:
        self._raise_failed()
        self._press_back()
        try:
            self._take(self._poll(POLL if self._until is None and not self._paused else SHORT_POLL))
            if not self._paused and not self.intake.unrestored:
                self.intake.replay()
            drained = self._drained()
        except Stopped:
            return
        if drained:
            self.stop.set()
        elif self._until is not None and self.flood.tries >= DRAIN_TRIES:
            self._in_vain = Refused(
                f"{DRAIN_TRIES} more were tried, and parked: mend what most of them share, then drain again; nothing is lost",
                where="the route was stopped by the flood breaker",
            )
            self.stop.set()
        elif time.monotonic() - self._committed_at > COMMIT_EVERY:
            self.commit()
            self.courier.often.look()
            self.gate.look()
            away = self.gate.standing.trouble in {Trouble.AWAY, Trouble.HALTED}
            self.intake.park_overdue(self.settings.hold, fair=not away and not self.flood.stopped)

    def _finish(self) -> None:
        """What is in flight may end, within the time that a stop may take; then what is settled is written and committed."""
        self.courier.late.close()
        end = time.monotonic() + self.settings.drain_seconds
        ended = self._while_polling(self.pool.drain, end) and self._while_polling(self.emitter.flush, end)
        if not ended:
            log(LogEvent.DRAIN_CUT, route=self.plan.name, left=self.pool.running)
        if not self.outages.bus:
            self.commit()

    def _leave(self, error: BusGap) -> None:
        """What is out at the partner may end, and is written down; no offset passes, since it may count in something that is gone."""
        self.stop.set()
        log(
            LogEvent.OFFSET_GONE,
            route=self.plan.name,
            error=str(error),
            do="find out who deleted the topic or its records, then set where to go on: emr-pipeline topics start",
        )
        end = time.monotonic() + self.settings.drain_seconds
        if self.pool.drain(self.settings.drain_seconds):
            self.emitter.flush(max(end - time.monotonic(), 0))

    def _poll(self, timeout: float) -> list[Received]:
        assert self._consumer is not None  # noqa: S101 - only called while it is there
        try:
            records = self._consumer.poll(timeout, BATCH)
        except BusUnavailable as error:
            self.outages.gone(error, "poll")
            self.stop.wait(timeout)
            return []
        self.outages.back(BusError, "poll")
        return records

    def _press_back(self) -> None:
        """Read no more than there is room for; the poll goes on, so that the group keeps us."""
        assert self._consumer is not None  # noqa: S101 - as above
        full = self.pool.full or self.pool.ready > self._ahead or self.emitter.waiting >= self.settings.messages
        room = self.pool.has_room and self.pool.ready < self._ahead // 2 and self.emitter.waiting < self.settings.messages // 2
        if full and not self._paused:
            self._paused = True
        elif self._paused and room:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())
        if self._paused:
            self._consumer.pause(self._consumer.assignment())

    def _take(self, records: Sequence[Received]) -> None:
        """Of what is ours; behind what the ledger has of before."""
        ours = [received for received in records if self.mine(received.position)]
        if ours:
            self.tally.read(self.plan.name, len(ours))
        first: dict[TopicPartition, int] = {}
        for received in ours:
            first.setdefault(partition_of(received), received.position.offset)
        if self.intake.unrestored:
            self.intake.restore({**self._positions(self.intake.unrestored - first.keys()), **first})
        self.intake.take(ours)

    def _positions(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Where reading stands, as far as it is known now."""
        assert self._consumer is not None  # noqa: S101 - as above
        try:
            known = self._consumer.position(partitions) if partitions else {}
        except BusUnavailable as error:
            self.outages.gone(error, "position")
            return {}
        self.outages.back(BusError, "position")
        return known

    # what the courier hands on

    @property
    def emitter(self) -> Emitter:
        """There from the first poll on."""
        assert self._emitter is not None  # noqa: S101 - as above
        return self._emitter

    def emit(self, emission: Emission) -> None:
        """See courier.Desk."""
        self.emitter.put(emission)

    def done(self, position: Position, state: State) -> None:
        """See courier.Desk."""
        self.offsets.done(position, state)

    def mine(self, position: Position) -> bool:
        """See courier.Desk."""
        return self._ours(self.intake.home(position))

    def aside(self, action: Callable[[], None]) -> None:
        """See courier.Desk."""
        self.pool.chore(action)

    def soon(self, position: Position) -> None:
        """See courier.Desk."""
        self.pool.soon(position)

    @property
    def progress(self) -> Progress:
        """What has passed since the start."""
        return self.offsets.progress

    # what is seen of it from outside

    def reasons(self) -> list[NotReady]:
        """See pipeline/health.py."""
        standing = self.gate.standing.not_ready
        found = {
            NotReady.STARTING: self._consumer is None or bool(self.intake.unrestored),
            NotReady.FLOOD_STOPPED: self.flood.stopped,
            NotReady.LEDGER_AWAY: self.outages.ledger,
            NotReady.BUS_AWAY: self.outages.bus,
            NotReady.RESULTS_NOT_WRITABLE: self._emitter is not None and self._emitter.stuck,
            NotReady.WORKER_STOPPED: self.stop.is_set() or self.abandoned.is_set(),
        }
        return [*([standing] if standing else []), *(why for why, there in found.items() if there)]

    def left(self) -> str:
        """Of a drain: what is not at its end, and why, in a line."""
        _, parked = self.pool.waiting
        why = ", ".join(self.reasons())
        behind = f", {parked} parked go on by themselves" if parked else ""
        return f"{self.offsets.unsettled} read and not settled{behind}{f' ({why})' if why else ''}"

    def figures(self) -> Figures:
        """See pipeline/metrics.py."""
        waiting, parked = self.pool.waiting
        return Figures(
            in_flight=self.pool.running,
            waiting=waiting,
            waiting_parked=parked,
            unsettled=self.offsets.unsettled,
            commit_gap=self.offsets.gap,
            results_waiting=self._emitter.waiting if self._emitter is not None else 0,
            flood_stopped=self.flood.stopped,
            ledger_away=self.outages.ledger,
            bus_away=self.outages.bus,
        )

    # offsets

    def commit(self) -> None:
        """Commit what is settled. A refusal takes nothing back: the ledger knows what was done."""
        self._committed_at = time.monotonic()
        ours = self.offsets.to_commit(self._ours)
        if not ours or self._consumer is None:
            self.outages.back(BusError, "commit")
            return
        try:
            self._consumer.commit(ours)
        except (BusRebalancing, BusLost):
            return  # the next one carries it; what is taken from us is told (`revoked`, `lost`) by the next poll, and done again is found settled
        except BusUnavailable as error:
            self.outages.gone(error, "commit")
            return
        self.outages.back(BusError, "commit")
        reach(Point.AFTER_COMMIT)
        self.offsets.committed(ours)

    def _drained(self) -> bool:
        """What holds no record (a transaction's marker) is passed by reading, and then committed as the rest."""
        if self._until is None or self._consumer is None:
            return False
        try:
            read = self._consumer.position(self._until)
            self.offsets.passed(read)
            if self.offsets.unsettled or any(read.get(each, end) < end for each, end in self._until.items()):
                return False
            if not self.intake.no_replay_left():
                return False
            self.commit()
            committed = self._consumer.committed(self._until)
        except BusUnavailable as error:
            self.outages.gone(error, "drain")
            return False
        self.outages.back(BusError, "drain")
        return all((committed.get(each) or 0) >= end for each, end in self._until.items()) and self._at_rest(self._until)

    def _at_rest(self, until: dict[TopicPartition, int]) -> bool:
        """Whether nothing is open of what let its offset pass, either: then nothing of it begins any more."""
        if time.monotonic() < self._look_at or not self.pool.rest():
            return False
        if self.intake.none_open(until):
            return True
        self._look_at = time.monotonic() + POLL
        self.pool.go_on()
        return False

    def _ours(self, partition: TopicPartition) -> bool:
        return self._consumer is not None and partition in self._consumer.assignment()

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """They begin unpaused, and are read anew where they were ours before."""
        self._drop(partitions, 0)
        self._keep_nothing_of(partitions)
        self.offsets.assigned(partitions)
        self.intake.assigned(partitions)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing of these is started any more; what runs may end, then what is settled is committed, and the rest is another's."""
        end = time.monotonic() + self.settings.revoke_seconds
        self._drop(partitions, self.settings.revoke_seconds)
        self.emitter.flush(max(end - time.monotonic(), 0))
        self.commit()
        self._forget(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Another member has them: a late completion writes the ledger, never an offset."""
        self._drop(partitions, 0)
        self._forget(partitions)

    def _drop(self, partitions: Sequence[TopicPartition], seconds: float) -> None:
        self.pool.drop(self.intake.with_former(partitions), seconds)

    def _forget(self, partitions: Sequence[TopicPartition]) -> None:
        self.intake.forget(partitions)
        self.offsets.forget(partitions)
        self._keep_nothing_of(partitions)

    def _keep_nothing_of(self, partitions: Sequence[TopicPartition]) -> None:
        gone = set(partitions)
        self.courier.forget(lambda position: self.intake.home(position) not in gone)

    # the end

    def _while_polling(self, ended: Callable[[float], bool], end: float) -> bool:
        """Wait, and stay in the group; whether it ended in time."""
        assert self._consumer is not None  # noqa: S101 - as above
        while not ended(POLL):
            if time.monotonic() >= end:
                return False
            self._consumer.pause(self._consumer.assignment())
            self._poll(0)
        return True

    def _raise_failed(self) -> None:
        """What a thread met, and only a person can mend."""
        failed = self.pool.failed or (self._emitter.failed if self._emitter is not None else None)
        if failed is not None:
            raise failed
