"""Lanes and frontier together, as the worker uses them: poll, start, complete, fail, park, lose, crash and commit in any order.

The model has what outlives a crash (the topic, the ledger, what the group committed) and a line: all tickets in order of entry. By it a ticket
is ready when none before it shares a key. Order, conservation and the committed offset are judged by the topic and the ledger alone.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.bus.port import TopicPartition
from pipeline.delivery.frontier import Frontier
from pipeline.delivery.lanes import Lanes, Limits, Offered, Ticket
from pipeline.model import Position

LIMITS: Final = Limits(messages=8, size=100, per_key=3, seconds=10)
PARTITIONS: Final = (0, 1, 2)
SOME: Final = st.lists(st.sampled_from(PARTITIONS), min_size=1, unique=True)
WHICH: Final = st.integers(0, 20)
KEYS: Final = st.lists(st.sampled_from("aaabcd"), min_size=1, max_size=3).map(tuple)


@dataclass(frozen=True)
class Message:
    """What stands in the topic; `gap` offsets before it hold no record."""

    gap: int
    keys: tuple[str, ...]
    size: int


MESSAGES: Final = st.lists(st.builds(Message, st.integers(0, 2), KEYS, st.integers(1, 30)), min_size=1, max_size=5)


class Step(Enum):
    """What a worker does most of the time."""

    POLL = auto()
    START = auto()
    COMPLETE = auto()
    TRY_LATER = auto()
    PARK_UNTIL_ITS_PROBE = auto()
    """An outcome that only much later can be asked for: durably parked, and still first."""
    PARKING_IS_DURABLE = auto()


class Trouble(Enum):
    """How a worker loses what it had."""

    CRASH = auto()
    REVOKED = auto()
    LOST = auto()
    """Without a last commit."""
    GIVEN_AGAIN = auto()


@dataclass(eq=False)
class Stand:
    """A ticket in the model's line."""

    ticket: Ticket[str]
    epoch: int = 0
    parking: bool = False
    stub: bool = False
    handed: bool = False
    started: bool = False
    lost: bool = False
    begun: float | None = None

    @property
    def position(self) -> Position:
        return self.ticket.position

    def shares(self, other: "Stand") -> bool:
        return not set(self.ticket.keys).isdisjoint(other.ticket.keys)


@dataclass
class Memory:
    """All that a crash takes."""

    lanes: Lanes[str] = field(default_factory=lambda: Lanes(LIMITS))
    frontier: Frontier = field(default_factory=Frontier)
    line: list[Stand] = field(default_factory=list)
    stale: list[Ticket[str]] = field(default_factory=list)
    """Handed out, and dropped before a thread took them."""
    late_parkings: list[Ticket[str]] = field(default_factory=list)
    since: dict[Position, float] = field(default_factory=dict)
    read_to: dict[int, int] = field(default_factory=dict)
    """Of the partitions that are ours."""
    open: set[Position] = field(default_factory=set)
    done: set[Position] = field(default_factory=set)
    paused: bool = False


def topic_partitions(numbers: list[int]) -> list[TopicPartition]:
    return [TopicPartition("t", number) for number in numbers]


class Order(RuleBasedStateMachine):
    """One worker, and now and then another that has what is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.topic: dict[int, dict[int, Message]] = {number: {} for number in PARTITIONS}
        self.end = dict.fromkeys(PARTITIONS, 0)
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.settled: Counter[Position] = Counter()
        self.parked: set[Position] = set()
        self.may_repeat: set[Position] = set()
        self.memory = Memory()
        self.now = 0.0
        self.allowance = (0, 0)

    @initialize(backlog=st.tuples(MESSAGES, MESSAGES, MESSAGES))
    def begin(self, backlog: tuple[list[Message], ...]) -> None:
        for number, messages in enumerate(backlog):
            self.arrive(number, messages, marker=False)
        self.take_over(list(PARTITIONS))
        self.poll(6)

    @rule(number=st.sampled_from(PARTITIONS), messages=MESSAGES, marker=st.booleans())
    def arrive(self, number: int, messages: list[Message], *, marker: bool) -> None:
        for message in messages:
            offset = self.end[number] + message.gap
            self.topic[number][offset] = message
            self.end[number] = offset + 1
        self.end[number] += marker

    @rule(steps=st.lists(st.tuples(st.sampled_from(Step), WHICH), min_size=1, max_size=10))
    def work(self, steps: list[tuple[Step, int]]) -> None:
        """One rule with a list: Hypothesis would choose separate ones too seldom between the troubles."""
        for step, which in steps:
            if step is Step.POLL:
                self.poll(1 + which % 6)
                continue
            act, on = {
                Step.START: (self.take, self.at_rest()),
                Step.COMPLETE: (self.complete, self.in_flight()),
                Step.TRY_LATER: (self.try_later, self.in_flight()),
                Step.PARK_UNTIL_ITS_PROBE: (self.park, self.in_flight()),
                Step.PARKING_IS_DURABLE: (self.park, self.being_parked()),
            }[step]
            if on:
                act(on[which % len(on)])
            self.the_lanes_are_the_line()
            self.memory_is_bounded_and_counted()
            self.the_frontier_is_the_lowest_open_offset()

    def poll(self, most: int) -> None:
        memory = self.memory
        memory.paused = not memory.lanes.has_room if memory.paused else memory.lanes.full
        if memory.paused:
            return
        due = [
            Position("t", number, offset)
            for number, read_to in memory.read_to.items()
            for offset in self.topic[number]
            if offset >= read_to
        ]
        batch = due[:most]
        self.allowance = (len(batch), sum(self.message(position).size for position in batch))
        for position in batch:
            self.take_in(position)
        for number in memory.read_to:
            if number not in {position.partition for position in due[most:]}:
                memory.frontier.passed(TopicPartition("t", number), self.end[number])
                memory.read_to[number] = self.end[number]

    def take_in(self, position: Position) -> None:
        memory, message = self.memory, self.message(position)
        epoch = memory.frontier.read(position)
        memory.open.add(position)
        memory.read_to[position.partition] = position.offset + 1
        if self.settled[position] or position in self.parked:
            self.pass_by(position, epoch)
        if self.settled[position]:
            return
        if position in self.parked:
            self.restore(position)
            return
        stand = Stand(Ticket(position, message.keys, message.size, "MSH|"), epoch)
        ahead = [other for other in memory.line if other.shares(stand)]
        in_lane = Counter(key for other in ahead for key in set(other.ticket.keys))
        memory.line.append(stand)
        offered = memory.lanes.offer(stand.ticket, self.now)
        if not ahead:
            assert offered is Offered.READY
            stand.handed = True
        elif any(in_lane[key] >= LIMITS.per_key for key in message.keys):
            assert offered is Offered.OVERFLOW
            stand.parking = True
        else:
            assert offered is Offered.WAITING
            memory.since[position] = self.now

    def pass_by(self, position: Position, epoch: int) -> None:
        assert self.memory.frontier.done(position, epoch)
        self.memory.open.discard(position)
        self.memory.done.add(position)

    def restore(self, position: Position) -> None:
        keys = self.message(position).keys
        self.memory.line.append(Stand(Ticket(position, keys, 0, None), stub=True))
        self.hand(self.memory.lanes.restore(position, keys))

    def hand(self, tickets: tuple[Ticket[str], ...]) -> None:
        """These were said to be ready, each for the first time, in order of entry."""
        order = []
        for ticket in tickets:
            (stand,) = [stand for stand in self.memory.line if stand.position == ticket.position and not stand.lost]
            assert not stand.handed
            assert stand.stub == (ticket.content is None)
            stand.ticket, stand.handed = ticket, True
            order.append(self.memory.line.index(stand))
        assert order == sorted(order)

    def message(self, position: Position) -> Message:
        return self.topic[position.partition][position.offset]

    def not_ours(self) -> list[int]:
        return [number for number in PARTITIONS if number not in self.memory.read_to]

    def at_rest(self) -> list[Stand]:
        return [stand for stand in self.memory.line if stand.handed and not stand.started]

    def in_flight(self) -> list[Stand]:
        return [stand for stand in self.memory.line if stand.started]

    def being_parked(self) -> list[Stand]:
        return [stand for stand in self.memory.line if stand.parking]

    def take(self, stand: Stand) -> None:
        """A ready or delayed one. The bytes of a stub come from where the ledger says that it is parked."""
        assert not any(stand.shares(other) for other in self.in_flight())
        assert not stand.stub or stand.position in self.parked or stand.position in self.may_repeat
        assert self.memory.lanes.started(stand.ticket, self.now)
        stand.started = True
        stand.begun = self.now if stand.begun is None else stand.begun

    @precondition(lambda self: self.memory.stale)
    @rule()
    def a_thread_comes_too_late_for_what_was_dropped(self) -> None:
        assert not self.memory.lanes.started(self.memory.stale.pop(), 0)

    def complete(self, stand: Stand) -> None:
        self.settle(stand.position)
        self.tell_the_frontier(stand)
        self.leave(stand)

    def try_later(self, stand: Stand) -> None:
        assert self.memory.lanes.delayed(stand.ticket) is not stand.lost
        if stand.lost:
            self.leave(stand)
        stand.started = False

    def settle(self, position: Position) -> None:
        """The ledger takes the first settlement only; a second may only be of what was in flight when it was lost."""
        if self.settled[position]:
            assert position in self.may_repeat
            return
        keys = set(self.message(position).keys)
        for offset, other in self.topic[position.partition].items():
            if offset < position.offset and not keys.isdisjoint(other.keys):
                assert self.settled[Position("t", position.partition, offset)], "it overtook an older one of its patient"
        self.settled[position] += 1
        self.parked.discard(position)

    def tell_the_frontier(self, stand: Stand) -> None:
        memory = self.memory
        before = memory.frontier.to_commit(), memory.frontier.unsettled
        moved = memory.frontier.done(stand.position, stand.epoch)
        if stand.lost or not stand.epoch:
            assert not moved
            assert (memory.frontier.to_commit(), memory.frontier.unsettled) == before
        else:
            assert moved
            memory.open.discard(stand.position)
            memory.done.add(stand.position)

    def leave(self, stand: Stand) -> None:
        self.memory.line.remove(stand)
        self.hand(self.memory.lanes.finish(stand.ticket))

    @rule(seconds=st.sampled_from([1, 6, 11]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        memory = self.memory
        waiting = [stand for stand in memory.line if not (stand.handed or stand.parking or stand.stub)]
        long = [stand for stand in waiting if self.now - memory.since[stand.position] > LIMITS.seconds]
        expected: list[Stand] = []
        for stand in long:
            if any(self.holds(first, expected) for first in self.firsts(stand)):
                expected.append(stand)
        assert memory.lanes.overdue(self.now) == tuple(stand.ticket for stand in expected)
        for stand in expected:
            stand.parking = True

    def firsts(self, stand: Stand) -> list[Stand]:
        """Who is first in each of its lanes."""
        return [next(other for other in self.memory.line if key in other.ticket.keys) for key in stand.ticket.keys]

    def holds(self, first: Stand, named: list[Stand]) -> bool:
        if first.handed:
            return first.begun is not None and self.now - first.begun > LIMITS.seconds
        return first.parking or first.stub or first in named

    def park(self, stand: Stand) -> None:
        if not self.settled[stand.position]:
            self.parked.add(stand.position)
        self.tell_the_frontier(stand)
        stand.stub, stand.parking, stand.started, stand.handed = True, False, False, False
        if stand.lost:
            self.memory.line.remove(stand)
        self.hand(self.memory.lanes.parked(stand.ticket))

    @precondition(lambda self: self.memory.late_parkings)
    @rule()
    def a_parking_ends_after_its_partition_was_lost(self) -> None:
        ticket = self.memory.late_parkings.pop()
        if not self.settled[ticket.position]:
            self.parked.add(ticket.position)
        assert self.memory.lanes.parked(ticket) == ()

    @rule()
    def commit(self) -> None:
        offsets = self.memory.frontier.to_commit()
        for partition, offset in offsets.items():
            assert offset >= self.committed[partition.partition]
            self.committed[partition.partition] = offset
        self.memory.frontier.committed(offsets)
        assert self.memory.frontier.to_commit() == {}

    @rule(trouble=st.sampled_from(Trouble), numbers=SOME, busy=st.integers(0, 4), back=st.booleans())
    def trouble(self, trouble: Trouble, numbers: list[int], busy: int, *, back: bool) -> None:
        """It comes while some are in flight, and is over at once or later."""
        for stand in self.at_rest()[:busy]:
            self.take(stand)
        self.lose(trouble, numbers)
        if back:
            self.assign()

    def lose(self, trouble: Trouble, numbers: list[int]) -> None:
        if trouble is Trouble.CRASH:
            self.memory = Memory()
            return
        numbers = [number for number in numbers if number in self.memory.read_to]
        if trouble is Trouble.GIVEN_AGAIN:
            self.take_over(numbers)
            return
        if trouble is Trouble.REVOKED:
            self.commit()
        self.memory.frontier.revoked(topic_partitions(numbers))
        for number in numbers:
            del self.memory.read_to[number]
        self.drop(numbers)

    def drop(self, numbers: list[int]) -> None:
        memory = self.memory
        theirs = [stand for stand in memory.line if stand.position.partition in numbers]
        for stand in theirs:
            stand.lost = True
        self.may_repeat |= {stand.position for stand in theirs if stand.started}
        memory.late_parkings += [stand.ticket for stand in theirs if stand.parking]
        memory.stale += [stand.ticket for stand in theirs if stand.handed and not stand.started]
        memory.line = [stand for stand in memory.line if stand.started or stand not in theirs]
        memory.open = {position for position in memory.open if position.partition not in numbers}
        memory.done = {position for position in memory.done if position.partition not in numbers}
        self.hand(memory.lanes.drop(topic_partitions(numbers)))

    @precondition(lambda self: self.not_ours())
    @rule()
    def assign(self) -> None:
        self.take_over(self.not_ours())

    def take_over(self, numbers: list[int]) -> None:
        """Those that we have already are read anew as well."""
        self.drop(numbers)
        self.memory.frontier.assigned(topic_partitions(numbers))
        for number in numbers:
            self.memory.read_to[number] = self.committed[number]
            for offset in self.topic[number]:
                position = Position("t", number, offset)
                if position in self.parked and offset < self.committed[number]:
                    self.restore(position)

    @precondition(lambda self: self.not_ours())
    @rule(most=st.integers(1, 4))
    def another_worker_goes_on(self, most: int) -> None:
        """In order, up to a patient whose lane a delivery of ours still holds in the ledger; then it commits."""
        number = self.not_ours()[0]
        left = [Position("t", number, offset) for offset in self.topic[number] if not self.settled[Position("t", number, offset)]]
        held = {key for stand in self.in_flight() for key in stand.ticket.keys}
        for position in left[:most]:
            if not held.isdisjoint(self.message(position).keys):
                break
            self.settle(position)
        unsafe = [position.offset for position in left if not self.settled[position] and position not in self.parked]
        self.committed[number] = max(self.committed[number], min(unsafe, default=self.end[number]))

    @invariant()
    def the_lanes_are_the_line(self) -> None:
        """Ready is what nobody stands before; so while something waits, something is ready, started, delayed or being parked."""
        line = self.memory.line
        for index, stand in enumerate(line):
            free = not stand.parking and not any(stand.shares(other) for other in line[:index])
            assert stand.handed is free
        assert not line or any(stand.handed or stand.parking for stand in line)
        flying = Counter(key for stand in self.in_flight() for key in set(stand.ticket.keys))
        assert all(number == 1 for number in flying.values())

    @invariant()
    def memory_is_bounded_and_counted(self) -> None:
        lanes, messages = self.memory.lanes, [stand.ticket.size for stand in self.memory.line if not stand.stub]
        assert (lanes.messages, lanes.size) == (len(messages), sum(messages))
        assert lanes.stubs == len(self.memory.line) - len(messages)
        assert lanes.full is (len(messages) >= LIMITS.messages or sum(messages) >= LIMITS.size)
        assert lanes.has_room is (len(messages) < 0.75 * LIMITS.messages and sum(messages) < 0.75 * LIMITS.size)
        assert lanes.messages < LIMITS.messages + max(self.allowance[0], 1)
        assert lanes.size < LIMITS.size + max(self.allowance[1], 1)

    @invariant()
    def the_committed_offset_passes_nothing_that_is_open(self) -> None:
        for number, committed in self.committed.items():
            for offset in self.topic[number]:
                position = Position("t", number, offset)
                assert offset >= committed or self.settled[position] or position in self.parked

    @invariant()
    def the_frontier_is_the_lowest_open_offset(self) -> None:
        memory = self.memory
        to_commit = memory.frontier.to_commit()
        assert memory.frontier.unsettled == len(memory.open)
        gaps = [0]
        for number, read_to in memory.read_to.items():
            still_open = [position.offset for position in memory.open if position.partition == number]
            frontier = min(still_open, default=read_to)
            named = to_commit.pop(TopicPartition("t", number), None)
            if named is None:
                assert not any(self.committed[number] <= offset < frontier for offset in self.topic[number])
            else:
                assert named == frontier
            if still_open:
                gaps += [position.offset - frontier for position in memory.done if position.partition == number]
        assert to_commit == {}
        assert memory.frontier.gap == max(gaps)

    def teardown(self) -> None:
        """Faults stop: everything is settled, each once, and committed."""
        self.take_over(self.not_ours())
        for _ in range(2 + sum(len(messages) for messages in self.topic.values())):
            self.poll(6)
            for stand in self.being_parked():
                self.park(stand)
            for stand in self.in_flight():
                self.complete(stand)
            while resting := self.at_rest():
                self.take(resting[0])
                self.complete(resting[0])
        self.commit()
        assert self.settled == {Position("t", number, offset): 1 for number in PARTITIONS for offset in self.topic[number]}
        assert not self.parked
        assert self.committed == self.end
        assert (len(self.memory.lanes), self.memory.lanes.messages, self.memory.lanes.size) == (0, 0, 0)
        assert (self.memory.frontier.unsettled, self.memory.frontier.gap) == (0, 0)


TestOrder = Order.TestCase
TestOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
