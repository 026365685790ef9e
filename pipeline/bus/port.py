"""What a bus does: durable topics with partitions, offsets and consumer groups, in Kafka's terms. No implementation here.

Both implementations pass one contract suite (tests/contract/test_bus.py). Errors: BusUnavailable (try again later), BusLost (what we
held is another's now), BusRefused (trying again does not help; a BusGap is one, and a BusTooLarge). No error and no log line carries a
record's key or value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, Self

from pipeline.errors import BusError
from pipeline.model import Position, Received


@dataclass(frozen=True, slots=True)
class TopicPartition:
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be appended. The key decides the partition (Kafka's murmur2 on both buses); without one it is spread."""

    topic: str
    value: bytes | None = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is made. Retention applies to what every group has settled (on Kafka: to all); None keeps for ever.

    `retention_bytes` is the whole topic's; each partition has an equal share of it.
    """

    name: str
    partitions: int = 1
    retention_ms: int | None = None
    retention_bytes: int | None = None
    replication: int = 1
    most_bytes: int | None = field(default=None, compare=False)
    """Of one that was made: the largest record that it takes, in bytes, with some 100 of Kafka's own; None: what the bus takes at all."""


class Where(StrEnum):
    """Where a group starts that has no committed offset."""

    EARLIEST = "earliest"
    LATEST = "latest"


class Pending(Protocol):
    """A record on its way."""

    def wait(self, timeout: float) -> Position:
        """Where it stands, once it is durable. BusUnavailable where that is not known within `timeout` seconds."""
        ...


class Producer(Protocol):
    """Appends records; one instance serves many threads. Durable means acks=all, or SQLite's synchronous=FULL."""

    def send(self, record: Record) -> Pending:
        """Begin to append; order per partition is the order of the calls of one thread."""
        ...

    def append(self, records: Iterable[Record], timeout: float = 30.0) -> list[Position]:
        """Append all and return when all are durable. After an error any of them may be there: who has to know asks `append_each`."""
        ...

    def append_each(self, records: Sequence[Record], timeout: float = 30.0) -> list[Position | BusError]:
        """Append all that can be; what became of each, in their order: where it is durable, or why that is not so.

        BusTooLarge: this record is not there, and no other is missing because of it. Any other BusRefused: it is not there. BusUnavailable:
        it may be there, or come. Raised is only what stood in the way of all, before any was sent. Large records may be appended after small ones.
        """
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class RebalanceListener(Protocol):
    """Told from within `poll` what the group gives and takes. The embedded bus assigns once and never revokes.

    Between these calls `Consumer.assignment` does not change. An error raised here is raised by that `poll`: BusUnavailable once, any other
    by every later poll too.
    """

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These are ours from now on, read from what the group committed; so too what we had before and are given again."""
        ...

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Still ours for this call, in `assignment` too: commit here."""
        ...

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """No longer ours: commit nothing."""
        ...


class Consumer(Protocol):
    """One member of a group, on some topics. Used by one thread. Never commits by itself."""

    def poll(self, timeout: float, most: int = 500) -> list[Received]:
        """Up to `most` records of the assigned, unpaused partitions, in order per partition; empty after `timeout` seconds.

        BusGap where a committed offset is gone (retention, a topic made anew): never a silent jump. BusUnavailable while the bus is
        away, or cannot say yet where a new partition begins: poll on, nothing that was fetched is dropped.
        """
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The next offsets to read. Returns when durable; any error: nothing counts as committed.

        BusRebalancing: poll, then try again. BusUnavailable: try again later, the broker is away. BusLost: this member is none any
        more, or the partition is another's: forget what was read and poll on; the next poll tells `lost`, and what is given again begins at
        what the group committed.
        """
        ...

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """What the group committed last."""
        ...

    def position(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that `poll` reads, of those that are ours and whose position is known.

        It passes what holds no record (transaction markers, compaction), as commits of the last record's offset do not. At or past an end of
        `Bus.bounds`, all that stood in the partition has been handed out.
        """
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`."""
        ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing of these until resumed; the member stays in the group as long as it polls."""
        ...

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver them again."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """What is ours now."""
        ...

    def close(self) -> None:
        """Leave the group; commits nothing."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Bus(Protocol):
    """A place with topics."""

    def producer(self) -> Producer:
        """A producer; the caller closes it."""
        ...

    def consumer(self, group: str, topics: Sequence[str], *, listener: RebalanceListener | None = None) -> Consumer:
        """Join the group. A partition without a committed offset is a BusGap at `poll`: `start` the group first (RELIABILITY, DESIGN 1).

        But where the topic was given it after the group had begun, and it has lost nothing yet, it is read from its first record (Kafka).

        Refused (embedded): the group has a live member already, on this machine, by a lock.
        """
        ...

    def start(self, group: str, topics: Sequence[str], where: Where | int) -> dict[TopicPartition, int]:
        """Commit a first offset for each partition that has none: the earliest, the end, or the first at a time (ms since 1970)."""
        ...

    def move(self, group: str, partitions: Sequence[TopicPartition], where: Where | int) -> dict[TopicPartition, int]:
        """Commit an offset for each of these partitions of one topic, whatever stood there: `where` is as of `start`. The group's others stay as they are.

        Refused while the group has a live member (embedded: on this machine, by its lock).
        """
        ...

    def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        """Where a group stands, asked from outside, without joining it; what it never committed is not there."""
        ...

    def create_topics(self, topics: Iterable[TopicSettings]) -> list[str]:
        """Make those that are not there; returns their names."""
        ...

    def described(self, topic: str) -> TopicSettings | None:
        """How a topic was made, as far as the bus keeps it (replication on Kafka only); None where there is none."""
        ...

    def topics(self) -> dict[str, int]:
        """Names and numbers of partitions."""
        ...

    def bounds(self, topic: str) -> dict[TopicPartition, tuple[int, int]]:
        """Earliest offset and end (the next to be written) of each partition."""
        ...

    def read(
        self, topic: str, *, start: Mapping[TopicPartition, int] | None = None, most: int | None = None
    ) -> Iterable[Received]:
        """What stands in a topic from `start` (else the earliest) to the end at the time of the call, without a group."""
        ...

    def fetch(self, position: Position) -> Received | None:
        """One record; None where it is gone."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
