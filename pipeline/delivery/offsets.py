"""How far the source topic is settled, for the loop that commits and the threads that settle: the frontier behind a lock.

A late completion of a partition that is another's by now finds no epoch, and moves nothing.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.bus.port import TopicPartition
from pipeline.delivery.frontier import Frontier
from pipeline.model import Position
from schemas.outcomes import State


@dataclass(slots=True)
class Progress:
    """What has passed since the start, for whoever looks on."""

    read: int = 0
    states: dict[State, int] = field(default_factory=dict)

    def count(self, state: State) -> None:
        """One more record is settled, or durably parked."""
        self.read += 1
        self.states[state] = self.states.get(state, 0) + 1


class Offsets:
    """See the module."""

    def __init__(self) -> None:
        """Nothing is ours yet."""
        self._guard = threading.Lock()
        self._frontier = Frontier()
        self._epochs: dict[Position, int] = {}
        self.progress = Progress()

    def read(self, position: Position) -> None:
        """It is open from now on."""
        with self._guard:
            self._epochs[position] = self._frontier.read(position)

    def passed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reading stands here, though no record does: a transaction's marker."""
        with self._guard:
            for partition, at in positions.items():
                self._frontier.passed(partition, at)

    def done(self, position: Position, state: State) -> None:
        """Settled or durably parked, on its topics too."""
        with self._guard:
            epoch = self._epochs.pop(position, None)
            if epoch is not None and self._frontier.done(position, epoch):
                self.progress.count(state)

    def to_commit(self, ours: Callable[[TopicPartition], bool]) -> dict[TopicPartition, int]:
        """The next offset of each of our partitions that has advanced."""
        with self._guard:
            return {each: offset for each, offset in self._frontier.to_commit().items() if ours(each)}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The bus took these."""
        with self._guard:
            self._frontier.committed(offsets)

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Ours, and read anew."""
        with self._guard:
            self._frontier.assigned(partitions)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Another's."""
        gone = {(each.topic, each.partition) for each in partitions}
        with self._guard:
            self._frontier.revoked(TopicPartition(*each) for each in gone)
            self._epochs = {
                position: epoch for position, epoch in self._epochs.items() if (position.topic, position.partition) not in gone
            }

    @property
    def unsettled(self) -> int:
        """Records that are open."""
        with self._guard:
            return self._frontier.unsettled

    @property
    def gap(self) -> int:
        """How far the newest done is ahead of the oldest open."""
        with self._guard:
            return self._frontier.gap
