"""The bus on Apache Kafka, by kafka-python. See port.py for what each method promises; what Kafka does otherwise is said here.

Retention is the topic's alone: Kafka does not ask the groups. Positions may have gaps (transaction markers, compaction).
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.structs import OffsetAndMetadata

from pipeline.bus.kafka_client import connect, failure, patiently, theirs
from pipeline.bus.kafka_consumer import KafkaBusConsumer, received
from pipeline.bus.kafka_fetch import STUCK_SECONDS, Fetcher
from pipeline.bus.kafka_membership import metadata_of
from pipeline.bus.kafka_producer import KafkaBusProducer
from pipeline.bus.limits import MOST_BYTES, OVERHEAD_BYTES, check_name, no_such_topic
from pipeline.bus.port import RebalanceListener, TopicPartition, TopicSettings, Where
from pipeline.errors import BusRefused, BusUnavailable, Refused
from pipeline.model import Position, Received
from pipeline.settings import Kafka

EARLIEST, LATEST = -2, -1
"""Kafka's own words for them in ListOffsets."""
OLD_SECONDS: Final = 5.0
"""A client that has known the cluster for less is not the one to blame."""
REST_SECONDS: Final = 60.0
"""No question takes so long: after this no thread is in a client any more that another took the place of."""


class KafkaBus:
    """See the port. Connects when it is first asked for something."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._admin_client: Any = None
        self._admin_since = 0.0
        self._old: list[tuple[float, Any]] = []
        """Admin clients that others took the place of, and since when."""
        self._fetcher = Fetcher(self._reader, self.bounds)
        self._handed: list[KafkaBusProducer | KafkaBusConsumer] = []

    def producer(self) -> KafkaBusProducer:
        """See the port."""
        producer = KafkaBusProducer(self._settings, lambda topic: len(self._partitions(topic)))
        self._handed.append(producer)
        return producer

    def consumer(self, group: str, topics: Sequence[str], *, listener: RebalanceListener | None = None) -> KafkaBusConsumer:
        """See the port."""
        check_name(group, "group")
        consumer = KafkaBusConsumer(
            self._settings, group, topics, listener, topic_ids=self._ids, stand_of=self._stand, first_of=self._first
        )
        self._handed.append(consumer)
        return consumer

    def start(self, group: str, topics: Sequence[str], where: Where | int) -> dict[TopicPartition, int]:
        """See the port; returns what was committed now. BusRefused where members live and a partition has no offset."""
        check_name(group, "group")
        partitions = [each for topic in topics for each in self._partitions(topic)]
        held = self._stand(group, partitions)
        missing = [each for each in partitions if each not in held]
        if not missing:
            return {}
        found = self._find(missing, where)
        refused = self._give(group, found)
        if not refused:
            return found
        if set(missing) <= set(self._stand(group, missing)):
            return {}  # another worker started the group at the same moment
        if refused[0] is kafka_errors.UnknownMemberIdError:
            raise BusRefused(
                f"partitions without an offset ({missing[0]} …), and the group has live members: stop them, then start",
                where=group,
            )
        raise failure(refused[0](), group)

    def move(self, group: str, partitions: Sequence[TopicPartition], where: Where | int) -> dict[TopicPartition, int]:
        """See the port; the broker refuses it to a group with members."""
        check_name(group, "group")
        found = self._find(partitions, where)
        refused = self._give(group, found)
        if not refused:
            return found
        if refused[0] is kafka_errors.UnknownMemberIdError:
            raise Refused("the group has live members: stop its workers first", where=group)
        raise failure(refused[0](), group)

    def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        """See the port."""
        return {each: offset for each, (offset, _) in self._stand(group, self._partitions(topic)).items()}

    def create_topics(self, topics: Iterable[TopicSettings]) -> list[str]:
        """See the port. Retention goes by time and size; a record may be as large as on the embedded bus."""
        made: list[str] = []
        for topic in topics:
            check_name(topic.name, "topic")
            made += [topic.name] * self._create(topic)
        return made

    def described(self, topic: str) -> TopicSettings | None:
        """See the port."""
        found = self._describe([topic])
        if topic not in found:
            return None
        resource = ConfigResource("topic", topic)
        config = self._ask(lambda admin: admin.describe_configs([resource], config_filter="all"), topic)["topic"][topic]
        partitions = found[topic]["partitions"]
        keep_ms, keep_bytes = (_none_below_zero(config[name]["value"]) for name in ("retention.ms", "retention.bytes"))
        return TopicSettings(
            topic,
            len(partitions),
            keep_ms,
            None if keep_bytes is None else keep_bytes * len(partitions),
            min(len(each["replica_nodes"]) for each in partitions),
            int(config["max.message.bytes"]["value"]),
        )

    def topics(self) -> dict[str, int]:
        """See the port; Kafka's own are left out."""
        found = self._describe(None)
        return {name: len(topic["partitions"]) for name, topic in sorted(found.items()) if not topic["is_internal"]}

    def bounds(self, topic: str) -> dict[TopicPartition, tuple[int, int]]:
        """See the port."""
        partitions = self._partitions(topic)
        first, end = self._find(partitions, Where.EARLIEST), self._find(partitions, Where.LATEST)
        return {each: (first[each], end[each]) for each in partitions}

    def read(
        self, topic: str, *, start: Mapping[TopicPartition, int] | None = None, most: int | None = None
    ) -> Iterator[Received]:
        """See the port. BusRefused where a given start is not there."""
        bounds = self.bounds(topic)
        starts: dict[TopicPartition, int] = {}
        for partition, (first, end) in bounds.items():
            at = (start or {}).get(partition, first)
            if not first <= at <= end:
                raise BusRefused(f"offset {at} is not there: the partition has {first} to {end}", where=str(partition))
            if at < end:
                starts[partition] = at
        return self._read(starts, {each: end for each, (_, end) in bounds.items()}, most)

    def fetch(self, position: Position) -> Received | None:
        """See the port."""
        return self._fetcher.fetch(position)

    def close(self) -> None:
        """Close what was handed out, then our own connections."""
        for each in self._handed:
            each.close()
        self._fetcher.close()
        with self._guard:
            for client in (self._admin_client, *(admin for _, admin in self._old)):
                if client is not None:
                    client.close()
            self._admin_client = None

    def _admin(self) -> Any:  # noqa: ANN401 - kafka-python has no types
        with self._guard:
            if self._admin_client is None:
                self._admin_client = connect(KafkaAdminClient, self._settings, request_timeout_ms=15_000)
                self._admin_since = time.monotonic()
            return self._admin_client

    def _ask(self, question: Any, where: str) -> Any:  # noqa: ANN401 - the same
        def ask() -> Any:  # noqa: ANN401 - the same
            admin = self._admin()
            try:
                return question(admin)
            except kafka_errors.NodeNotReadyError:
                self._replace(admin)
                raise

        return patiently(ask, where)

    def _replace(self, admin: Any) -> None:  # noqa: ANN401 - the same
        """Connect anew where a client has known the cluster for a while: it may hold on to a coordinator that is gone."""
        now = time.monotonic()
        with self._guard:
            if self._admin_client is admin and now - self._admin_since > OLD_SECONDS:
                self._old.append((now, admin))  # not closed yet: another thread may be in it
                self._admin_client = None
            rested = [old for since, old in self._old if now - since > REST_SECONDS]
            self._old = [(since, old) for since, old in self._old if now - since <= REST_SECONDS]
        for old in rested:
            old.close()

    def _describe(self, names: list[str] | None) -> dict[str, Any]:
        """Topics that are there, by name."""
        found = self._ask(lambda admin: admin.describe_topics(names), ", ".join(names or ["Kafka"]))
        for topic in found:
            error = kafka_errors.for_code(topic["error_code"])
            if error not in (
                kafka_errors.NoError,
                kafka_errors.UnknownTopicOrPartitionError,
                kafka_errors.LeaderNotAvailableError,
            ):
                raise failure(error(), topic["name"])
        return {topic["name"]: topic for topic in found if topic["partitions"]}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        found = self._describe([topic])
        if topic not in found:
            raise no_such_topic(topic)
        return [
            TopicPartition(topic, number) for number in sorted(each["partition_index"] for each in found[topic]["partitions"])
        ]

    def _ids(self, topics: Iterable[str]) -> dict[str, str]:
        wanted = sorted(set(topics))
        found = self._describe(wanted)
        for topic in wanted:
            if topic not in found:
                raise no_such_topic(topic)
        return {name: str(topic["topic_id"] or "") for name, topic in found.items()}

    def _first(self, topic: str) -> dict[TopicPartition, int]:
        """The first offset that is there, of each partition."""
        return self._find(self._partitions(topic), Where.EARLIEST)

    def _stand(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """What the group has committed, and the note beside it."""
        wanted = theirs(partitions)
        found = self._ask(lambda admin: admin.list_group_offsets({group: wanted}), group).get(group, {})
        return {
            TopicPartition(each.topic, each.partition): (stand.offset, stand.metadata or "")
            for each, stand in found.items()
            if stand.offset >= 0
        }

    def _give(self, group: str, offsets: Mapping[TopicPartition, int]) -> list[Any]:
        """Commit from outside, with the topic's id beside as a member does; the errors of those that were refused."""
        ids = self._ids({each.topic for each in offsets})
        given = {
            theirs([each])[0]: OffsetAndMetadata(offset, metadata_of(ids.get(each.topic)), -1) for each, offset in offsets.items()
        }
        results = self._ask(lambda admin: admin.alter_group_offsets(group, given), group)
        return [error for error in results.values() if error is not kafka_errors.NoError]

    def _find(self, partitions: Sequence[TopicPartition], where: Where | int) -> dict[TopicPartition, int]:
        """Offsets: the earliest, the end, or the first that is not older than a time; the end where there is none."""
        spec = {Where.EARLIEST: EARLIEST, Where.LATEST: LATEST}[where] if isinstance(where, Where) else where
        topic = partitions[0].topic
        found = self._ask(lambda admin: admin.list_partition_offsets(dict.fromkeys(theirs(partitions), spec)), topic)
        offsets = {TopicPartition(each.topic, each.partition): answer.offset for each, answer in found.items()}
        none_yet = [each for each in partitions if offsets[each] < 0]
        return offsets | (self._find(none_yet, Where.LATEST) if none_yet else {})

    def _create(self, topic: TopicSettings) -> bool:
        share = None if topic.retention_bytes is None else max(1, topic.retention_bytes // topic.partitions)
        configs = {
            "cleanup.policy": "delete",
            "retention.ms": str(-1 if topic.retention_ms is None else topic.retention_ms),
            "retention.bytes": str(-1 if share is None else share),
            "max.message.bytes": str(MOST_BYTES + OVERHEAD_BYTES),
        }
        wanted = {topic.name: {"num_partitions": topic.partitions, "replication_factor": topic.replication, "configs": configs}}
        answer = self._ask(lambda admin: admin.create_topics(wanted, raise_errors=False), topic.name)
        error = kafka_errors.for_code(answer["topics"][0]["error_code"])
        if error is kafka_errors.TopicAlreadyExistsError:
            return False
        if error is not kafka_errors.NoError:
            raise failure(error(), topic.name)
        self._ask(lambda admin: admin.wait_for_topics([topic.name], timeout_ms=15_000), topic.name)
        return True

    def _reader(self, **limits: int) -> Any:  # noqa: ANN401 - kafka-python has no types
        return connect(
            KafkaConsumer,
            self._settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            metrics_enabled=False,
            fetch_max_wait_ms=100,
            **limits,
        )

    def _read(
        self, starts: dict[TopicPartition, int], ends: Mapping[TopicPartition, int], most: int | None
    ) -> Iterator[Received]:
        if not starts or most == 0:
            return
        reader = self._reader()
        try:
            reader.assign(theirs(starts))
            for count, record in enumerate(self._from(reader, starts, ends), 1):
                yield record
                if count == most:
                    return
        finally:
            reader.close(autocommit=False)

    def _from(self, reader: Any, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> Iterator[Received]:  # noqa: ANN401
        for partition, at in starts.items():
            reader.seek(theirs([partition])[0], at)
        progress = time.monotonic()
        left = dict.fromkeys(starts)
        while left:
            try:
                batches = reader.poll(timeout_ms=200)
            except kafka_errors.KafkaError as error:
                raise failure(error, next(iter(starts)).topic) from None
            for batch in batches.values():
                for record in batch:
                    if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                        yield received(record)
            for partition in [each for each in left if reader.position(theirs([each])[0]) >= ends[each]]:
                del left[partition]
            if batches:
                progress = time.monotonic()
            elif time.monotonic() - progress > STUCK_SECONDS:
                raise BusUnavailable(f"nothing came for {STUCK_SECONDS:.0f} s", where=next(iter(starts)).topic)


def _none_below_zero(value: str) -> int | None:
    return None if int(value) < 0 else int(value)
