"""What a member of a Kafka group holds, and since when: revoked, lost, given again, not yet known, and what stands behind the last record."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.coordinator.base import MemberState

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.kafka_client import failure
from pipeline.bus.kafka_consumer import KafkaBusConsumer
from pipeline.bus.kafka_membership import Membership
from pipeline.bus.port import Record, TopicPartition, TopicSettings, Where
from pipeline.errors import BusError, BusGap, BusLost, BusRefused, BusUnavailable
from pipeline.settings import Kafka
from tests.bus.places import WAIT, drain
from tests.kafka_server import Server, kafka_settings

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


class Notes:
    """Writes down what it is told, and what the consumer says is ours meanwhile."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[TopicPartition]]] = []
        self.held: list[frozenset[TopicPartition]] = []
        self.ours: Callable[[], frozenset[TopicPartition]] = frozenset

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.note("assigned", partitions)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.note("revoked", partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.note("lost", partitions)

    def note(self, what: str, partitions: Sequence[TopicPartition]) -> None:
        self.told.append((what, list(partitions)))
        self.held.append(self.ours())


class Cluster:
    """Stands for what is asked of the cluster; `away` makes it answer that it cannot say."""

    def __init__(self) -> None:
        self.away = False
        self.topic_id = "one"
        self.stand: dict[TopicPartition, tuple[int, str]] = {A: (4, "topic=one"), B: (7, "topic=one")}
        self.first: dict[TopicPartition, int] = {A: 0, B: 0}
        self.begun: list[dict[TopicPartition, int]] = []

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        if self.away:
            raise BusUnavailable("somebody is being elected")
        return dict.fromkeys(topics, self.topic_id)

    def of(self, _group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        return {each: self.stand[each] for each in partitions if each in self.stand}

    def first_of(self, _topic: str) -> dict[TopicPartition, int]:
        return self.first


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def member(cluster: Cluster, notes: Notes) -> Membership:
    made = Membership(
        "g",
        notes,
        topic_ids=cluster.ids,
        stand_of=cluster.of,
        begin_at=lambda at: cluster.begun.append(dict(at)),
        first_of=cluster.first_of,
    )
    notes.ours = lambda: frozenset(made.mine)
    return made


# by itself, on a stand-in of the cluster


def test_a_partition_is_ours_until_revoked_has_returned_and_before_lost_begins(member: Membership, notes: Notes) -> None:
    member.tell("assigned", [A, B])
    member.tell("revoked", [A])
    member.tell("lost", [B])
    assert notes.told == [("assigned", [A, B]), ("revoked", [A]), ("lost", [B])]
    assert notes.held == [{A, B}, {A, B}, frozenset()]
    assert member.mine == set()


def test_what_is_assigned_begins_at_the_commit_each_time(member: Membership, cluster: Cluster) -> None:
    member.tell("assigned", [A])
    cluster.stand[A] = (9, "topic=one")
    member.tell("revoked", [A])
    member.tell("assigned", [A])
    assert cluster.begun == [{A: 4}, {A: 9}]


def test_what_is_lost_is_told_once(member: Membership, notes: Notes) -> None:
    member.tell("assigned", [A, B])
    member.tell("lost", [A])
    member.tell("lost", [A, B])
    assert notes.told == [("assigned", [A, B]), ("lost", [A]), ("lost", [B])]


def test_a_cluster_that_cannot_say_is_told_once_and_asked_again(member: Membership, notes: Notes, cluster: Cluster) -> None:
    cluster.away = True
    member.tell("assigned", [A])
    assert (notes.told, member.unchecked) == ([("assigned", [A])], {A})
    with pytest.raises(BusUnavailable, match="somebody is being elected"):
        member.raise_broken()
    member.raise_broken()
    cluster.away = False
    member.check_again()
    member.raise_broken()
    assert (member.unchecked, cluster.begun) == (set(), [{A: 4}])


def test_a_topic_made_anew_is_refused_for_good_also_where_that_could_not_be_asked_at_first(
    member: Membership, cluster: Cluster
) -> None:
    cluster.away, cluster.topic_id = True, "another"
    member.tell("assigned", [A])
    with pytest.raises(BusUnavailable):
        member.raise_broken()
    cluster.away = False
    for _ in range(2):
        with pytest.raises(BusGap, match="the topic was made anew since the group g read it"):
            member.check_again()
    assert (member.unchecked, cluster.begun) == ({A}, [])


def test_a_partition_that_was_added_begins_at_its_first_record_and_is_told(
    member: Membership, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    del cluster.stand[B]
    member.tell("assigned", [A, B])
    member.raise_broken()
    assert (cluster.begun, member.unchecked) == ([{A: 4, B: 0}], set())
    assert '"event": "partition_added", "group": "g", "partition": "t/1"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stand", "first"),
    [
        ({A: (4, "topic=one")}, {A: 0, B: 3}),
        ({}, {A: 0, B: 0}),
        ({A: (4, "topic=another")}, {A: 0, B: 0}),
    ],
    ids=["it has lost records already", "the group has an offset nowhere", "the offsets are of another topic"],
)
def test_without_an_offset_nothing_begins_where_that_could_skip_a_record(
    member: Membership, cluster: Cluster, stand: dict[TopicPartition, tuple[int, str]], first: dict[TopicPartition, int]
) -> None:
    cluster.stand, cluster.first = stand, first
    member.tell("assigned", [B])
    assert [at for at in cluster.begun if at] == []


def test_a_topic_that_became_another_while_it_was_read_is_refused(member: Membership, cluster: Cluster) -> None:
    member.tell("assigned", [A])
    member.check_ids({"t": "one", "other": None})
    member.check_ids({"t": None})
    with pytest.raises(BusGap, match="t: the topic was made anew"):
        member.check_ids({"t": "another"})
    cluster.topic_id = "another"
    del cluster.stand[A]
    member.tell("assigned", [A, B])
    with pytest.raises(BusGap, match="t: the topic was made anew"):
        member.raise_broken()
    assert cluster.begun == [{A: 4}]


def test_an_error_of_the_listener_other_than_unavailable_is_raised_by_every_poll(member: Membership) -> None:
    class Failing(Notes):
        def note(self, what: str, partitions: Sequence[TopicPartition]) -> None:
            raise BusRefused(f"{what} {len(partitions)}")

    member.listener = Failing()
    member.tell("assigned", [A])
    for _ in range(2):
        with pytest.raises(BusRefused, match="assigned 1"):
            member.raise_broken()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("CommitFailedError", BusLost),
        ("IllegalGenerationError", BusLost),
        ("UnknownMemberIdError", BusLost),
        ("RebalanceInProgressError", BusUnavailable),
        ("NotCoordinatorError", BusUnavailable),
        ("FencedInstanceIdError", BusRefused),
        ("OffsetOutOfRangeError", BusGap),
    ],
)
def test_kafkas_errors_say_whether_to_wait_to_forget_or_to_stop(error: str, kind: type[BusError]) -> None:
    from kafka import errors as kafka_errors  # noqa: PLC0415 - by name

    assert type(failure(getattr(kafka_errors, error)(), "g")) is kind


# on a real Kafka


def topic_of(bus: KafkaBus, prefix: str, partitions: int = 2, records: int = 10) -> str:
    topic = prefix + "t"
    bus.create_topics([TopicSettings(topic, partitions)])
    with bus.producer() as producer:
        producer.append(
            Record(topic, str(each).encode(), partition=number) for number in range(partitions) for each in range(records)
        )
    bus.start(prefix + "g", [topic], Where.EARLIEST)
    return topic


def noted(bus: KafkaBus, prefix: str, topic: str) -> tuple[KafkaBusConsumer, Notes]:
    notes = Notes()
    consumer = bus.consumer(prefix + "g", [topic], listener=notes)
    notes.ours = consumer.assignment
    return consumer, notes


def polled_until(consumer: KafkaBusConsumer, done: Callable[[], bool], seconds: float = WAIT) -> list[tuple[int, int]]:
    """What came, as partition and offset. An outage on the way is polled through, as a worker does."""
    found: list[tuple[int, int]] = []
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        try:
            found += [(record.position.partition, record.position.offset) for record in consumer.poll(0.2)]
        except BusUnavailable:
            continue
    return found


@pytest.mark.kafka
@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_what_is_given_again_after_a_rebalance_is_read_again_from_the_commit(kafka: Kafka, prefix: str, rebalance: str) -> None:
    bus = KafkaBus(kafka.model_copy(update={"rebalance": rebalance}))
    topic = topic_of(bus, prefix)
    first, notes = noted(bus, prefix, topic)
    assert len(drain(first, 20)) == 20
    first.commit({TopicPartition(topic, number): 3 for number in range(2)})
    stop = threading.Event()

    def beside() -> None:
        with bus.consumer(prefix + "g", [topic]) as second:
            while not stop.is_set():
                second.poll(0.1, most=1)

    thread = threading.Thread(target=beside)
    thread.start()
    found = polled_until(first, lambda: len(first.assignment()) == 1)
    stop.set()
    found += polled_until(first, lambda: not thread.is_alive() and len(first.assignment()) == 2)
    taken = {each.partition for what, partitions in notes.told if what == "revoked" for each in partitions}
    assert taken == ({0, 1} if rebalance == "eager" else taken)
    assert all(set(held) >= set(told) for (what, told), held in zip(notes.told, notes.held, strict=True) if what == "revoked")
    awaited = {(number, offset) for number in taken for offset in range(3, 10)}
    while awaited - set(found):
        came = drain(first, 1)
        assert came, "it did not come"
        found += [(record.position.partition, record.position.offset) for record in came]
    found += [(record.position.partition, record.position.offset) for record in drain(first, 40, seconds=2)]
    assert set(found) == awaited
    bus.close()


@pytest.mark.kafka
def test_nothing_is_handed_out_or_dropped_while_the_cluster_cannot_say_what_was_assigned(
    kafka_bus: KafkaBus, prefix: str
) -> None:
    topic = topic_of(kafka_bus, prefix)
    consumer, notes = noted(kafka_bus, prefix, topic)
    ask, away = consumer._member._topic_ids, [True]

    def ids(topics: Iterable[str]) -> dict[str, str]:
        if away:
            raise BusUnavailable("somebody is being elected")
        return ask(topics)

    consumer._member._topic_ids = ids
    told: list[str] = []
    deadline = time.monotonic() + WAIT
    while len(told) < 2 and time.monotonic() < deadline:
        try:
            assert consumer.poll(0.2) == []
        except BusUnavailable as error:
            told.append(str(error))
        consumer.pause(consumer.assignment())
        consumer.resume(consumer.assignment())  # as a worker does that waits: what is not known yet stays paused
    assert told == ["somebody is being elected"] * 2
    assert notes.told == [("assigned", [TopicPartition(topic, 0), TopicPartition(topic, 1)])]
    away.clear()
    found = polled_until(consumer, lambda: len(consumer.position(consumer.assignment())) == 2)
    found += [(record.position.partition, record.position.offset) for record in drain(consumer, 20 - len(found))]
    assert sorted(found) == [(number, offset) for number in range(2) for offset in range(10)]


@pytest.mark.kafka
def test_what_was_fetched_while_the_listener_failed_comes_with_the_next_poll(kafka_bus: KafkaBus, prefix: str) -> None:
    topic = topic_of(kafka_bus, prefix)

    class Failing(Notes):
        def note(self, what: str, partitions: Sequence[TopicPartition]) -> None:
            raise BusUnavailable(f"{what} {len(partitions)}")

    consumer = kafka_bus.consumer(prefix + "g", [topic], listener=Failing())
    with pytest.raises(BusUnavailable, match="assigned 2"):
        consumer.poll(10)
    found = [(record.position.partition, record.position.offset) for record in drain(consumer, 20)]
    assert sorted(found) == [(number, offset) for number in range(2) for offset in range(10)]


@pytest.mark.kafka
def test_a_member_whose_second_attempt_to_join_was_forgotten_joins_again(kafka_bus: KafkaBus, prefix: str) -> None:
    """As kafka-python 3.0.12 leaves it now and then on a slow machine: rebalancing for ever, with no wish to join and nothing assigned."""
    topic = topic_of(kafka_bus, prefix)
    consumer, notes = noted(kafka_bus, prefix, topic)
    assert len(drain(consumer, 20)) == 20
    coordinator = consumer._kafka._coordinator
    consumer._member.tell("lost", sorted(consumer.assignment(), key=str))
    consumer._kafka._subscription.assign_from_subscribed([])
    coordinator._disable_heartbeat()
    coordinator.state, coordinator._join_task = MemberState.REBALANCING, None
    assert not coordinator.need_rejoin()
    polled_until(consumer, lambda: len(consumer.assignment()) == 2)
    assert [what for what, _ in notes.told] == ["assigned", "lost", "assigned"]


@pytest.mark.kafka
def test_a_member_that_the_group_has_put_out_hears_so_from_its_next_poll_once_a_session_has_passed(
    kafka: Kafka, prefix: str
) -> None:
    bus = KafkaBus(kafka.model_copy(update={"session_timeout_ms": 30_000}))  # so that no heartbeat of its own tells it first
    topic = topic_of(bus, prefix)
    consumer, notes = noted(bus, prefix, topic)
    assert len(drain(consumer, 20)) == 20
    mine = sorted(consumer.assignment(), key=str)
    admin = KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))
    coordinator = consumer._kafka._coordinator
    admin.remove_group_members(prefix + "g", [MemberToRemove(member_id=coordinator._generation.member_id)])
    admin.close()
    coordinator.heartbeat.last_receive = consumer._member.since = time.monotonic() - 31
    found = consumer.poll(0.5)
    assert notes.told[:2] == [("assigned", mine), ("lost", mine)]
    assert notes.held[1] == frozenset()
    found += drain(consumer, 20 - len(found))
    assert [record.position.offset for record in found if record.position.partition == 0] == list(range(10))
    bus.close()


@pytest.mark.kafka
def test_behind_transaction_markers_the_position_reaches_the_end_that_no_commit_of_a_record_reaches(
    kafka_bus: KafkaBus, kafka: Kafka, prefix: str
) -> None:
    topic = topic_of(kafka_bus, prefix, partitions=1, records=2)
    theirs: Any = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers), transactional_id=prefix + "x")
    theirs.init_transactions()
    theirs.begin_transaction()
    theirs.send(topic, b"the last", partition=0)
    theirs.commit_transaction()
    theirs.begin_transaction()
    theirs.send(topic, b"never", partition=0)
    theirs.flush()
    theirs.abort_transaction()
    theirs.close()
    only = TopicPartition(topic, 0)
    consumer, _ = noted(kafka_bus, prefix, topic)
    found = drain(consumer, 3)
    (_, end) = kafka_bus.bounds(topic)[only]
    polled_until(consumer, lambda: consumer.position([only]).get(only) == end)
    assert ([record.position.offset for record in found], end) == ([0, 1, 2], 6)


@pytest.mark.kafka
@pytest.mark.slow
def test_while_the_broker_stands_still_an_idle_member_says_so_and_then_goes_on(
    brokers: Callable[..., Server], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.bus.kafka_consumer.AWAY_SECONDS", 3.0)
    server = brokers()
    bus = KafkaBus(kafka_settings(server))
    topic = topic_of(bus, prefix)
    consumer, _ = noted(bus, prefix, topic)
    assert len(drain(consumer, 20)) == 20
    consumer.commit(dict.fromkeys(consumer.assignment(), 10))
    server.stand_still(1)
    try:
        stopped = time.monotonic()
        with pytest.raises(BusUnavailable):
            poll_on(consumer)
        assert time.monotonic() - stopped < 3.0 + 20.0
    finally:
        server.go_on(1)
    polled_until(consumer, lambda: bool(consumer.assignment()))
    with bus.producer() as producer:
        producer.append([Record(topic, b"after", partition=0)])
    first = TopicPartition(topic, 0)
    assert (0, 10) in polled_until(consumer, lambda: consumer.position([first]).get(first) == 11)
    bus.close()


def poll_on(consumer: KafkaBusConsumer) -> None:
    """Quietly, until it is not quiet any more."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        assert consumer.poll(0.2) == []
