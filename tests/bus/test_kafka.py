"""What the Kafka bus promises beyond the contract: rebalances, lost partitions, topics made anew, silence."""

import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.kafka_consumer import KafkaBusConsumer
from pipeline.bus.kafka_producer import KafkaBusProducer
from pipeline.bus.port import Record, TopicPartition, TopicSettings, Where
from pipeline.errors import BusGap, BusLost, BusRefused, BusTooLarge, BusUnavailable
from pipeline.model import Position
from pipeline.settings import Kafka
from tests.bus.places import WAIT, drain, values
from tests.kafka_server import SESSION_MS, Server, kafka_settings

pytestmark = pytest.mark.kafka


class Committing:
    """A listener that commits what it loses, as a worker does."""

    def __init__(self) -> None:
        self.consumer: KafkaBusConsumer
        self.told: list[tuple[str, frozenset[TopicPartition]]] = []
        self.committed: dict[TopicPartition, int] = {}

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assigned", frozenset(partitions)))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.consumer.commit(dict.fromkeys(partitions, 1))
        self.committed |= dict.fromkeys(partitions, 1)
        self.told.append(("revoked", frozenset(partitions)))

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", frozenset(partitions)))


def topic_of(bus: KafkaBus, prefix: str, partitions: int = 4) -> str:
    bus.create_topics([TopicSettings(prefix + "t", partitions)])
    with bus.producer() as producer:
        producer.append(Record(prefix + "t", b"x", partition=number) for number in range(partitions))
    bus.start(prefix + "g", [prefix + "t"], Where.EARLIEST)
    return prefix + "t"


def until(done: Callable[[], bool], *consumers: KafkaBusConsumer) -> None:
    """Poll all in turn until something holds."""
    deadline = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < deadline
        for consumer in consumers:
            consumer.poll(0.1)


@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_a_second_member_takes_half_after_the_first_has_committed_and_gives_it_back(
    kafka: Kafka, prefix: str, rebalance: str
) -> None:
    bus = KafkaBus(kafka.model_copy(update={"rebalance": rebalance}))
    topic = topic_of(bus, prefix)
    listener = Committing()
    first = listener.consumer = bus.consumer(prefix + "g", [topic], listener=listener)
    until(lambda: len(first.assignment()) == 4, first)
    second = bus.consumer(prefix + "g", [topic])
    beside = threading.Thread(target=lambda: until(lambda: len(second.assignment()) == 2, second))
    beside.start()
    until(lambda: not beside.is_alive() and len(first.assignment()) == 2, first)
    taken = set(second.assignment())
    assert taken <= set(listener.committed)
    assert second.committed(taken) == dict.fromkeys(taken, 1)
    with pytest.raises(BusLost, match=r"is not .* a partition of this member"):
        first.commit(dict.fromkeys(taken, 1))
    second.close()
    until(lambda: len(first.assignment()) == 4, first)
    assert [what for what, _ in listener.told if what == "lost"] == []
    bus.close()


def test_a_member_that_was_away_too_long_commits_nothing_and_hears_that_it_lost(kafka: Kafka, prefix: str) -> None:
    bus = KafkaBus(kafka.model_copy(update={"max_poll_interval_ms": SESSION_MS}))
    topic = topic_of(bus, prefix)
    listener = Committing()
    first = listener.consumer = bus.consumer(prefix + "g", [topic], listener=listener)
    assert len(drain(first, 4)) == 4
    mine = first.assignment()
    second = bus.consumer(prefix + "g", [topic])
    until(lambda: len(second.assignment()) == 4, second)  # the first does not poll meanwhile
    with pytest.raises(BusLost, match="not committed"):
        first.commit(dict.fromkeys(mine, 1))
    assert second.committed(mine) == dict.fromkeys(mine, 0)
    second.close()
    until(lambda: len(listener.told) == 3, first)
    assert listener.told == [("assigned", mine), ("lost", mine), ("assigned", mine)]
    bus.close()


def test_an_error_of_the_listener_is_raised_by_poll(kafka_bus: KafkaBus, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix)

    class Failing(Committing):
        def assigned(self, partitions: Sequence[TopicPartition]) -> None:
            raise BusUnavailable(f"cannot take {len(partitions)}")

    consumer = kafka_bus.consumer(prefix + "g", [topic], listener=Failing())
    with pytest.raises(BusUnavailable, match="cannot take 4"):
        drain(consumer, 1)


def test_starting_a_group_with_live_members_is_refused_where_an_offset_is_missing(kafka_bus: KafkaBus, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix)
    consumer = kafka_bus.consumer(prefix + "g", [topic])
    until(lambda: len(consumer.assignment()) == 4, consumer)
    kafka_bus.create_topics([TopicSettings(prefix + "other")])
    with pytest.raises(BusRefused, match="the group has live members: stop them, then start"):
        kafka_bus.start(prefix + "g", [topic, prefix + "other"], Where.EARLIEST)


def test_a_topic_made_anew_stops_the_group_even_where_its_offset_exists(kafka_bus: KafkaBus, kafka: Kafka, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix, partitions=1)
    with kafka_bus.consumer(prefix + "g", [topic]) as consumer:
        assert len(drain(consumer, 1)) == 1
        consumer.commit({TopicPartition(topic, 0): 1})
    admin = KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))
    admin.delete_topics([topic])
    deadline = time.monotonic() + WAIT
    while topic in kafka_bus.topics() and time.monotonic() < deadline:
        time.sleep(0.1)
    kafka_bus.create_topics([TopicSettings(topic)])
    with kafka_bus.producer() as producer:
        producer.append(Record(topic, b"new", b"k") for _ in range(3))
    # Kafka drops a group's offsets with the topic, but not always before the same name is there again: put them back as they were
    stand = kafka_bus._stand(prefix + "g", [TopicPartition(topic, 0)])
    if not stand:
        from kafka import TopicPartition as TheirPartition  # noqa: PLC0415 - the same name as ours
        from kafka.structs import OffsetAndMetadata  # noqa: PLC0415 - as above

        admin.alter_group_offsets(prefix + "g", {TheirPartition(topic, 0): OffsetAndMetadata(1, "topic=another-id", -1)})
    admin.close()
    with pytest.raises(BusRefused, match="the topic was made anew since the group"):
        drain(kafka_bus.consumer(prefix + "g", [topic]), 1)


def test_an_added_partition_is_read_from_its_first_record(kafka_bus: KafkaBus, kafka: Kafka, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix, partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))
    admin.create_partitions({topic: 2})
    admin.close()
    with kafka_bus.producer() as producer:
        producer.append([Record(topic, b"first", partition=1)])
    consumer = kafka_bus.consumer(prefix + "g", [topic])
    assert set(values(drain(consumer, 2))) == {b"first", b"x"}


def test_an_added_partition_that_has_lost_records_already_stops_the_group(kafka_bus: KafkaBus, kafka: Kafka, prefix: str) -> None:
    from kafka import TopicPartition as TheirPartition  # noqa: PLC0415 - the same name as ours

    topic = topic_of(kafka_bus, prefix, partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))
    admin.create_partitions({topic: 2})
    with kafka_bus.producer() as producer:
        producer.append([Record(topic, b"first", partition=1), Record(topic, b"second", partition=1)])
    admin.delete_records({TheirPartition(topic, 1): 1})
    admin.close()
    consumer = kafka_bus.consumer(prefix + "g", [topic])
    with pytest.raises(BusGap, match=rf"{topic}/1: the group has no offset here"):
        drain(consumer, 3)


def test_what_retention_took_stops_the_group(kafka_bus: KafkaBus, kafka: Kafka, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix, partitions=1)
    with kafka_bus.producer() as producer:
        producer.append(Record(topic, b"later", b"k") for _ in range(3))
    from kafka import TopicPartition as TheirPartition  # noqa: PLC0415 - the same name as ours

    admin = KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))
    admin.delete_records({TheirPartition(topic, 0): 2})
    admin.close()
    with pytest.raises(BusRefused, match=r"the committed offset is not there any more .*nothing was skipped"):
        drain(kafka_bus.consumer(prefix + "g", [topic]), 1)
    assert kafka_bus.bounds(topic) == {TopicPartition(topic, 0): (2, 4)}
    assert kafka_bus.fetch(Position(topic, 0, 0)) is None


def test_static_membership_outlives_a_restart_without_a_rebalance(kafka: Kafka, prefix: str) -> None:
    bus = KafkaBus(kafka.model_copy(update={"static_membership": "worker-1"}))
    topic = topic_of(bus, prefix)
    for _ in range(2):
        with bus.consumer(prefix + "g", [topic]) as consumer:
            assert values(drain(consumer, 4)) == [b"x"] * 4
    bus.close()


def test_nothing_of_a_record_or_a_password_is_logged(kafka_bus: KafkaBus, prefix: str) -> None:
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        topic = topic_of(kafka_bus, prefix)
        with kafka_bus.producer() as producer:
            producer.append([Record(topic, b"JANSSEN^PIET", b"12345678Z")])
        with kafka_bus.consumer(prefix + "g", [topic]) as consumer:
            assert len(drain(consumer, 5)) == 5
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert "JANSSEN" not in heard.getvalue()
    assert "12345678Z" not in heard.getvalue()
    assert "kafka" not in heard.getvalue().lower()


def test_too_many_copies_are_refused_with_the_setting(kafka_bus: KafkaBus, prefix: str) -> None:
    with pytest.raises(BusRefused, match=r"fewer brokers than copies are wanted \(setting bus.replication\)"):
        kafka_bus.create_topics([TopicSettings(prefix + "t", replication=30)])


def test_a_producer_delivers_again_after_the_broker_stood_still_for_longer_than_records_wait(
    brokers: Callable[..., Server], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.bus.kafka_producer.REQUEST_MS", 2_000)
    monkeypatch.setattr("pipeline.bus.kafka_producer.DELIVERY_MS", 3_000)
    server = brokers()
    bus = KafkaBus(kafka_settings(server))
    bus.create_topics([TopicSettings(prefix + "t")])
    producer = bus.producer()
    producer.append([Record(prefix + "t", b"before", b"k")])
    server.stand_still(1)
    try:
        with pytest.raises(BusUnavailable):
            producer.append([Record(prefix + "t", b"meanwhile", b"k")], timeout=30)
    finally:
        server.go_on(1)
    after = producer.append([Record(prefix + "t", b"after", b"k")])[0]
    assert (bus.fetch(after) or pytest.fail("it is not there")).value == b"after"
    bus.close()


def test_what_a_topic_takes_no_more_is_refused_alone_and_each_other_appended_once(
    kafka_bus: KafkaBus, kafka: Kafka, prefix: str
) -> None:
    """Guard: KafkaBusProducer.append_each. kafka-python fails with the refused one all that is on its way beside it."""
    kafka_bus.create_topics([TopicSettings(prefix + "t"), TopicSettings(prefix + "wide")])
    with closing(KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, prefix + "t", configs={"max.message.bytes": "300000"})])
    sizes = [("t", 10), ("wide", 11), ("t", 400_000), ("t", 200_000), ("t", 400_001), ("wide", 400_002), ("t", 12)]
    records = [Record(prefix + topic, b"x" * size, b"k") for topic, size in sizes]
    with kafka_bus.producer() as producer:
        became = producer.append_each(records)
        assert [size for (_, size), each in zip(sizes, became, strict=True) if isinstance(each, BusTooLarge)] == [
            400_000,
            400_001,
        ]
        assert producer.append_each([records[0]])
    found = {topic: [len(one.value or b"") for one in kafka_bus.read(prefix + topic)] for topic in ("t", "wide")}
    assert found == {"t": [10, 12, 200_000, 10], "wide": [11, 400_002]}


def test_an_append_waits_no_longer_than_it_was_told_for_a_cluster_that_tells_nothing_of_the_topic(
    kafka_bus: KafkaBus, prefix: str
) -> None:
    """Guard: KafkaBusProducer._ready. Without it the questions before the first record have bounds of their own, of half a minute together."""
    kafka_bus.create_topics([TopicSettings(prefix + "t")])
    told = threading.Event()

    def partitions_of(_: str) -> int:
        return int(told.wait(WAIT))

    with KafkaBusProducer(kafka_bus._settings, partitions_of) as producer:
        begun = time.monotonic()
        with pytest.raises(BusUnavailable, match="no broker has told of it"):
            producer.append([Record(prefix + "t", b"x")], timeout=0.2)
        assert time.monotonic() - begun < WAIT / 3
        told.set()
        assert producer.append([Record(prefix + "t", b"x")], WAIT) == [Position(prefix + "t", 0, 0)]
