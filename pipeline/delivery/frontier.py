"""How far each partition may be committed: up to its lowest offset that is neither settled nor durably parked.

Pure: no thread, no clock, no I/O, no lock. A partition has a new epoch each time it is assigned, so a late completion of a lost partition
never moves an offset. Memory grows with the open offsets, never with the distance to the frontier.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.bus.port import TopicPartition
from pipeline.model import Position


@dataclass(slots=True)
class _Reading:
    """One partition while it is ours."""

    epoch: int
    next: int | None = None
    """The offset after the last that was read or passed."""
    committed: int | None = None
    """What the group has, as far as we know: the first offset read, until a commit was taken."""
    highest_done: int = -1
    open: dict[int, None] = field(default_factory=dict)
    """Ascending, as they are read in that order."""

    @property
    def frontier(self) -> int | None:
        return next(iter(self.open), self.next)


class Frontier:
    """All partitions of one route."""

    def __init__(self) -> None:
        self._epoch = 0
        self._readings: dict[tuple[str, int], _Reading] = {}

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Ours, to be read from what the group committed; what we had of them before is forgotten."""
        for partition in partitions:
            self._epoch += 1
            self._readings[partition.topic, partition.partition] = _Reading(self._epoch)

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Another's."""
        for partition in partitions:
            self._readings.pop((partition.topic, partition.partition), None)

    def read(self, position: Position) -> int:
        """It is open until `done`. Returns its epoch, 1 or more. ValueError: not ours, or not after the last."""
        reading = self._readings.get((position.topic, position.partition))
        if reading is None:
            raise ValueError(f"{position} is of a partition that is not assigned")
        offset = position.offset
        if reading.next is None:
            reading.committed = offset
        elif offset < reading.next:
            raise ValueError(f"{position} is read twice or out of order")
        reading.next = offset + 1
        reading.open[offset] = None
        return reading.epoch

    def passed(self, partition: TopicPartition, offset: int) -> None:
        """`offset` is the next to be read (`Consumer.position`): what stands before it and was not read is no record."""
        reading = self._readings.get((partition.topic, partition.partition))
        if reading is not None and (reading.next is None or offset > reading.next):
            reading.next = offset

    def done(self, position: Position, epoch: int) -> bool:
        """Settled, or durably parked; again is no error. False, and no effect: that epoch is over. ValueError: it was not read."""
        reading = self._readings.get((position.topic, position.partition))
        if reading is None or reading.epoch != epoch:
            return False
        offset = position.offset
        if reading.next is None or offset >= reading.next:
            raise ValueError(f"{position} is done before it was read")
        reading.open.pop(offset, None)
        reading.highest_done = max(reading.highest_done, offset)
        return True

    def to_commit(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition that advanced since `committed`."""
        return {
            TopicPartition(*partition): frontier
            for partition, reading in self._readings.items()
            if (frontier := reading.frontier) is not None and (reading.committed is None or frontier > reading.committed)
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The bus took these."""
        for partition, offset in offsets.items():
            reading = self._readings.get((partition.topic, partition.partition))
            if reading is not None:
                reading.committed = max(offset, reading.committed or 0)

    @property
    def unsettled(self) -> int:
        """Open positions."""
        return sum(len(reading.open) for reading in self._readings.values())

    @property
    def gap(self) -> int:
        """How far the highest done is ahead of the lowest open, in the partition where that is most."""
        with_open = (reading for reading in self._readings.values() if reading.open)
        return max((0, *(reading.highest_done - next(iter(reading.open)) for reading in with_open)))
