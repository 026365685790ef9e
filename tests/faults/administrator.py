"""What somebody with an administrator's rights sees of a Kafka, and does to it: leaders, members, topics made anew, partitions added, records deleted.

It asks anew each time and keeps no connection: brokers come and go in these tests.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from kafka import TopicPartition as TheirPartition
from kafka import errors as kafka_errors
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

T = TypeVar("T")
OFFSETS: Final = "__consumer_offsets"
BOUND: Final = 90.0


class Administrator:
    """Of the cluster at these addresses; at least one broker of them lives."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = list(servers)

    # sees

    def leader_of(self, topic: str, partition: int = 0) -> int:
        """The broker that leads it; -1 while there is none."""
        (found,) = [each for each in self._partitions(topic) if each["partition_index"] == partition]
        return int(found["leader_id"])

    def coordinator_of(self, group: str) -> int:
        """The broker that leads the group: it leads the group's partition of the offsets topic."""
        return self.leader_of(OFFSETS, hash_of(group) % len(self._partitions(OFFSETS)))

    def whole(self, *topics: str) -> bool:
        """Whether every copy of these is in sync."""
        return all(
            set(each["isr_nodes"]) == set(each["replica_nodes"])
            for topic in (*topics, OFFSETS)
            for each in self._partitions(topic)
        )

    def holders(self, group: str) -> list[int]:
        """How many partitions each member of the group has that has any."""
        members = self._ask(lambda admin: admin.describe_groups([group]))[group]["members"]
        assigned = [(member["member_assignment"] or {}).get("assigned_partitions") or [] for member in members]
        counts = [sum(len(topic["partitions"]) for topic in topics) for topics in assigned]
        return sorted(count for count in counts if count)

    # does

    def make_anew(self, topic: str, partitions: int) -> None:
        """Delete it, and make one of the same name."""
        before = self._id(topic)
        self._ask(lambda admin: admin.delete_topics([topic]))
        until(lambda: self._id(topic) != before)
        until(lambda: self._made(topic, partitions))
        until(lambda: len(self._partitions(topic)) == partitions and self.leader_of(topic) >= 0)

    def delete(self, topic: str) -> None:
        """It is gone when this returns."""
        self._ask(lambda admin: admin.delete_topics([topic]))
        until(lambda: not self._id(topic))

    def partitions(self, topic: str, count: int) -> None:
        """Give it more, up to so many."""
        self._ask(lambda admin: admin.create_partitions({topic: count}))
        until(lambda: len(self._partitions(topic)) == count and all(each["leader_id"] >= 0 for each in self._partitions(topic)))

    def delete_records(self, topic: str, below: Mapping[int, int]) -> None:
        """As retention does."""
        given = {TheirPartition(topic, partition): offset for partition, offset in below.items()}
        self._ask(lambda admin: admin.delete_records(given))

    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """As kafka-consumer-groups.sh --reset-offsets does: without our note beside them."""
        given = {TheirPartition(topic, partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        self._ask(lambda admin: admin.alter_group_offsets(group, given))

    def delete_offsets(self, group: str, topic: str) -> None:
        """All of the group in this topic."""
        given = [TheirPartition(topic, each["partition_index"]) for each in self._partitions(topic)]
        self._ask(lambda admin: admin.delete_group_offsets(group, given))

    def _made(self, topic: str, partitions: int) -> bool:
        """Whether it is there: its name is free a moment after it was deleted."""
        with self._open() as admin:
            try:
                admin.create_topics([NewTopic(topic, partitions, 1)])
            except kafka_errors.TopicAlreadyExistsError:
                return False
        return True

    def _id(self, topic: str) -> str:
        found = self._ask(lambda admin: admin.describe_topics([topic]))
        return "".join(str(each["topic_id"]) for each in found if each["partitions"])

    def _partitions(self, topic: str) -> list[dict[str, Any]]:
        return [partition for each in self._ask(lambda admin: admin.describe_topics([topic])) for partition in each["partitions"]]

    def _ask(self, question: Callable[[Any], T]) -> T:
        end = time.monotonic() + BOUND
        while True:
            try:
                with self._open() as admin:
                    return question(admin)
            except kafka_errors.KafkaError as error:
                if not error.retriable or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        admin = KafkaAdminClient(bootstrap_servers=self._servers)
        try:
            yield admin
        finally:
            admin.close()


def hash_of(text: str) -> int:
    """Java's, without its sign: what a group's name has in place of a key."""
    value = 0
    for byte in text.encode("utf-16-be")[1::2]:
        value = (31 * value + byte) & 0xFFFFFFFF
    return value & 0x7FFFFFFF if value != 0x80000000 else 0


def until(condition: Callable[[], object], seconds: float = BOUND) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
