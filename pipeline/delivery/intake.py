"""What is read gets its place: in the order of its partition and in its patient's lanes, behind what the ledger has parked of before.

The loop's thread alone calls it. It sends nothing, and asks the ledger only what it has of a record; what waits for too long, or is too
much for memory, it hands to the pool to be parked.

What the ledger has of topics that were the route's source before is in nobody's partition: whoever has the first one of the source has it too, and it
goes before anything that is read. None of it has an offset that could be committed.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final

from pipeline import flow
from pipeline.bus.port import TopicPartition
from pipeline.delivery.courier import Courier, Task
from pipeline.delivery.lanes import Offered, Ticket
from pipeline.delivery.offsets import Offsets
from pipeline.delivery.pool import Pool
from pipeline.delivery.replayer import Replayer
from pipeline.delivery.steady import Steady
from pipeline.errors import BusGap
from pipeline.failpoints import Point, reach
from pipeline.ledger.port import Ledger, Query
from pipeline.model import Position, Received, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.route import is_known_as
from pipeline.stages.settle import SETTLED
from schemas.outcomes import COMES_BACK, Reason, State

ANOTHER: Final = (
    "the ledger knows another message by this place: the topic was made anew; nothing was skipped: give the new one a name of its own"
    " (runbook: offset_gone)"
)
FIRST: Final = 0
"""The partition that every topic has."""
END: Final = 2**63 - 1
"""Above every offset."""
REPLAYS: Final = 256
"""Items of replays in the lanes at once, at most."""


class Intake:
    """See the module."""

    def __init__(
        self,
        plan: Plan,
        source: str,
        ledger: Ledger,
        *,
        courier: Courier,
        pool: Pool[Task],
        offsets: Offsets,
        replayer: Replayer,
        steady: Steady,
    ) -> None:
        """`steady` gives up at a stop: what could not be asked before it is read after the next start."""
        self._plan, self._ledger, self._courier, self._pool = plan, ledger, courier, pool
        self._first = TopicPartition(source, FIRST)
        self._former: list[TopicPartition] | None = None
        """Ours, of topics that were the source before. None: the first partition of the source is not ours, or nobody has asked yet."""
        self._offsets, self._replayer, self._steady = offsets, replayer, steady
        self.unrestored: set[TopicPartition] = set()
        """Of ours: those whose parked messages have no place in the lanes yet."""
        self._fair_since = time.monotonic()

    def take(self, records: Sequence[Received]) -> None:
        """In the order of each partition. Nothing is taken of a partition that is not restored."""
        for _, group in groupby(records, partition_of):
            batch = list(group)
            ask = partial(self._ledger.seen_between, self._plan.name, batch[0].position, batch[-1].position)
            seen = self._steady(ask)
            for received in batch:
                self._one(received, seen.get(received.position))

    def restore(self, begins: Mapping[TopicPartition, int]) -> None:
        """What the ledger has open, of below where reading begins, takes its place before anything that is read; all of former topics first."""
        if self._former is None and self._first in self.unrestored:
            self._former = self._of_former_topics()
            self._replayer.assigned(self._former)
            for each in self._former:
                self._restore(each, END)
        for each, offset in begins.items():
            if each in self.unrestored:
                self._restore(each, offset)
                self.unrestored.discard(each)

    def _restore(self, partition: TopicPartition, begins: int) -> None:
        waiting = self._steady(partial(self._ledger.waiting, self._plan.name, partition.topic, partition.partition))
        unemitted = self._steady(partial(self._ledger.unemitted, self._plan.name, partition.topic, partition.partition))
        for position, lanes in waiting:
            if position.offset < begins:
                self._pool.restore(position, lanes)
        for position in unemitted:
            if position.offset < begins:  # nobody reads it again: a replay, a lane that came free, an operator settled it
                self._pool.chore(partial(self._courier.emit_left, position))

    def _of_former_topics(self) -> list[TopicPartition]:
        found = self._steady(partial(self._ledger.former, self._plan.name, self._first.topic))
        return [TopicPartition(*each) for each in found]

    def home(self, position: Position) -> TopicPartition:
        """Whoever has this partition of the source has the record."""
        if position.topic == self._first.topic:
            return TopicPartition(position.topic, position.partition)
        return self._first

    def with_former(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """These of ours, and those of former topics that come and go with them."""
        partitions = list(partitions)
        return [*partitions, *(self._former or ())] if self._first in partitions else partitions

    def replay(self) -> None:
        """Items of released plans, at their rate: each last in its lanes, with everything that is read."""
        for taken in self._steady(partial(self._replayer.due, REPLAYS - self._courier.replaying)):
            if self._courier.replay(taken):
                self._pool.rejoin(taken.item.position, taken.item.lanes)

    def no_replay_left(self) -> bool:
        """Whether every released plan is at its end."""
        return not self._courier.replaying and self._steady(self._replayer.idle)

    def none_open(self, until: Mapping[TopicPartition, int]) -> bool:
        """Whether the ledger has nothing open below these ends: what was parked, and came back, has let its offset pass before its own end."""
        gone = self._courier.gone
        ends = {**dict.fromkeys(self._of_former_topics(), END), **until}
        return not any(self._steady(partial(self._open, each, end, len(gone) + 1)) - gone for each, end in ends.items())

    def _open(self, partition: TopicPartition, end: int, most: int) -> set[Position]:
        first = Position(partition.topic, partition.partition, 0)
        queries = (
            Query(route=self._plan.name, state=state, position=first, last_offset=end - 1, most=most)
            for state in (State.PENDING, State.UNKNOWN)
        )
        return {found.position for query in queries for found in self._ledger.find(query)}

    def park_overdue(self, hold: float, *, fair: bool) -> None:
        """What waits too long behind another. Not for a partner that is away, nor just after: then all of them wait, and nothing would be gained.

        One that throttles is there: it may go on for days, and an offset has to pass meanwhile.
        """
        if not fair:
            self._fair_since = time.monotonic()
        elif time.monotonic() - self._fair_since > hold:
            for ticket in self._pool.overdue():
                self._park(ticket)

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Ours; they are restored before anything of them is taken."""
        partitions = list(partitions)
        self.forget(partitions)
        self._replayer.assigned(partitions)
        self.unrestored |= set(partitions)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Another's."""
        partitions = list(partitions)
        self._replayer.gone(self.with_former(partitions))
        self.unrestored -= set(partitions)
        if self._first in partitions:
            self._former = None

    def _one(self, received: Received, seen: Seen | None) -> None:
        position = received.position
        self._offsets.read(position)
        reach(Point.AFTER_POLL)
        settled = seen is not None and seen.state in SETTLED
        read = flow.read(received, self._plan)
        if seen is not None and not is_known_as(seen.dedupe, received, read, self._plan):
            raise BusGap(ANOTHER, where=str(position))
        if seen is not None and settled:
            self._courier.emit_again(received, seen)
            if not (seen.state is State.PARKED and seen.reason in COMES_BACK):
                return
        lanes = read.lanes if isinstance(read, Routed) else ()
        if settled:
            self._pool.restore(position, lanes)
            return
        ticket = Ticket(position, lanes, len(received.value or b""), self._courier.task(received, seen, read))
        if self._pool.offer(ticket) is Offered.OVERFLOW:
            self._park(ticket)

    def _park(self, ticket: Ticket[Task]) -> None:
        """It waits outside of memory: its lane is too long, or moves too slowly."""

        def park() -> None:
            assert ticket.content is not None  # noqa: S101 - lanes.py names tickets with their content only
            self._courier.park(ticket.content, Reason.BLOCKED_BEHIND)
            self._pool.parked(ticket)

        self._pool.chore(park)


def partition_of(received: Received) -> TopicPartition:
    """Where a record stands, without its offset."""
    return TopicPartition(received.position.topic, received.position.partition)
