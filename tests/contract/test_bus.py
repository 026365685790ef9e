"""What both buses promise (pipeline/bus/port.py): one suite, on the embedded log and on a real Kafka."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.bus.port import Bus, Consumer, Record, TopicPartition, TopicSettings, Where
from pipeline.errors import BusRefused, BusTooLarge, Refused
from pipeline.model import Position
from tests.bus.places import Place, drain, ends, values
from tests.kafka_server import kafka_settings


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Place]:
    chosen = Place(prefix, folder=tmp_path / "bus") if request.param == "embedded" else Place(prefix, kafka=kafka_settings())
    yield chosen
    for bus in chosen.opened:
        bus.close()


@pytest.fixture
def bus(place: Place) -> Bus:
    return place.open()


def made(place: Place, bus: Bus, partitions: int = 1, name: str = "topic") -> str:
    bus.create_topics([TopicSettings(place.name(name), partitions)])
    return place.name(name)


def begun(place: Place, bus: Bus, topic: str, where: Where | int = Where.EARLIEST) -> Consumer:
    bus.start(place.name("group"), [topic], where)
    return bus.consumer(place.name("group"), [topic])


# what is stored


def test_a_record_comes_back_as_it_went(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    headers = (("charset", b"\xff\x00"), ("empty", b""), ("charset", b"twice"))
    [position] = bus.producer().append([Record(topic, b"MSH|", b"key", headers, timestamp_ms=1_700_000_000_000)])
    found = bus.fetch(position)
    assert found is not None
    assert (found.position, found.value, found.key) == (Position(topic, 0, 0), b"MSH|", b"key")
    assert (found.headers, found.timestamp_ms) == (headers, 1_700_000_000_000)


def test_a_tombstone_and_an_empty_value_are_two_things(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, None, b"key"), Record(topic, b"", b"key"), Record(topic, b"", b"")])
    assert [(one.value, one.key) for one in bus.read(topic)] == [(None, b"key"), (b"", b"key"), (b"", b"")]


def test_a_value_of_four_megabytes_comes_through_a_group(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    large = bytes(range(256)) * 16_384
    bus.producer().append([Record(topic, large, b"key"), Record(topic, b"small", b"key")])
    assert values(drain(begun(place, bus, topic), 2)) == [large, b"small"]


def test_records_of_one_partition_keep_their_order(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=3)
    bus.producer().append(Record(topic, str(number).encode(), str(number % 7).encode()) for number in range(300))
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for record in drain(begun(place, bus, topic), 300):
        found[record.position.partition].append(int(record.value or b""))
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert sorted(sum(found.values(), [])) == list(range(300))  # noqa: RUF017 - three short lists


@pytest.mark.parametrize(("key", "partition"), [(b"1042", 7), (b"ADT1^12345678Z", 4), ("é".encode(), 7), (b"", 1), (b"HIS|7", 5)])
def test_a_key_belongs_to_the_same_partition_on_both(place: Place, bus: Bus, key: bytes, partition: int) -> None:
    topic = made(place, bus, partitions=8)
    assert bus.producer().append([Record(topic, b"", key)])[0].partition == partition


def test_records_without_a_key_are_spread(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=4)
    positions = bus.producer().append(Record(topic, b"x") for _ in range(100))
    assert len({position.partition for position in positions}) > 1


def test_a_named_partition_is_taken_and_one_that_is_not_there_refused(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=2)
    producer = bus.producer()
    assert producer.append([Record(topic, b"", b"key", partition=1)]) == [Position(topic, 1, 0)]
    with pytest.raises(BusRefused, match="no partition 2: the topic has 0 to 1"):
        producer.send(Record(topic, b"", b"key", partition=2))


def test_sixty_four_threads_share_one_producer(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=4)
    producer = bus.producer()
    seen: list[Position] = []

    def send(thread: int) -> None:
        seen.extend(
            producer.send(Record(topic, f"{thread} {number}".encode(), str(thread).encode())).wait(30) for number in range(10)
        )

    threads = [threading.Thread(target=send, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 640
    for record in bus.read(topic):
        assert record.position in seen
    per_thread: dict[bytes, list[int]] = {}
    for record in bus.read(topic):
        sender, number = (record.value or b"").split()
        per_thread.setdefault(sender, []).append(int(number))
    assert all(numbers == list(range(10)) for numbers in per_thread.values())


def test_what_was_appended_is_there_after_reopening(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    bus.close()
    again = place.open()
    assert values(list(again.read(topic))) == [b"one"]
    assert again.producer().append([Record(topic, b"two", b"k")]) == [Position(topic, 0, 1)]


# groups


def test_a_group_goes_on_where_it_committed(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append(Record(topic, str(number).encode(), b"k") for number in range(10))
    with begun(place, bus, topic) as consumer:
        assert len(drain(consumer, 10)) == 10
        consumer.commit({TopicPartition(topic, 0): 4})
        assert consumer.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 4}
    again = place.open().consumer(place.name("group"), [topic])
    assert values(drain(again, 6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]


def test_where_a_group_stands_is_told_without_joining_it(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=2)
    assert bus.committed(place.name("group"), topic) == {}
    bus.producer().append(Record(topic, str(number).encode(), b"k", partition=0) for number in range(3))
    with begun(place, bus, topic) as consumer:
        drain(consumer, 3)
        consumer.commit({TopicPartition(topic, 0): 2})
        assert place.open().committed(place.name("group"), topic) == {TopicPartition(topic, 0): 2, TopicPartition(topic, 1): 0}


def test_nothing_is_committed_by_itself(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    with begun(place, bus, topic) as consumer:
        assert len(drain(consumer, 1)) == 1
    with bus.consumer(place.name("group"), [topic]) as again:
        assert values(drain(again, 1)) == [b"one"]


def test_two_groups_read_the_same_independently(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k"), Record(topic, b"two", b"k")])
    for group in ("first", "second"):
        bus.start(place.name(group), [topic], Where.EARLIEST)
        with bus.consumer(place.name(group), [topic]) as consumer:
            assert values(drain(consumer, 2)) == [b"one", b"two"]
            consumer.commit({TopicPartition(topic, 0): 2})


def test_seek_goes_back(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k"), Record(topic, b"two", b"k")])
    consumer = begun(place, bus, topic)
    assert len(drain(consumer, 2)) == 2
    consumer.seek(TopicPartition(topic, 0), 1)
    assert values(drain(consumer, 1)) == [b"two"]


def test_the_position_is_behind_what_was_handed_out_and_where_seek_put_it(place: Place, bus: Bus) -> None:
    topic, other = made(place, bus, partitions=2), made(place, bus, name="other")
    bus.producer().append(Record(topic, b"x", partition=0) for _ in range(5))
    consumer = begun(place, bus, topic)
    found = consumer.poll(20, most=3)
    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    while not found:
        found = consumer.poll(1, most=3)
    assert consumer.position([*both, TopicPartition(other, 0)]) == {TopicPartition(topic, 0): 3, TopicPartition(topic, 1): 0}
    assert len(drain(consumer, 2)) == 2
    assert consumer.position(both) == {partition: end for partition, (_, end) in bus.bounds(topic).items()}
    consumer.seek(TopicPartition(topic, 0), 1)
    assert consumer.position([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 1}


def test_a_paused_partition_gives_nothing_until_resumed(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=2)
    producer = bus.producer()
    producer.append([Record(topic, b"first", partition=0), Record(topic, b"first", partition=1)])
    consumer = begun(place, bus, topic)
    assert len(drain(consumer, 2)) == 2
    consumer.pause([TopicPartition(topic, 0)])
    producer.append([Record(topic, b"held", partition=0), Record(topic, b"goes", partition=1)])
    assert values(drain(consumer, 1)) == [b"goes"]
    assert values(drain(consumer, 1, seconds=2)) == []
    consumer.resume([TopicPartition(topic, 0)])
    assert values(drain(consumer, 1)) == [b"held"]


def test_poll_gives_no_more_than_asked_and_loses_none(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append(Record(topic, str(number).encode(), b"k") for number in range(25))
    consumer = begun(place, bus, topic)
    found: list[bytes | None] = []
    while len(found) < 25:
        records = consumer.poll(5, most=10)
        assert len(records) <= 10
        found += values(records)
    assert found == [str(number).encode() for number in range(25)]


def test_poll_wakes_when_something_comes(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    consumer = begun(place, bus, topic)
    assert consumer.poll(1) == []
    producer = bus.producer()
    waited: list[float] = []
    sent: list[float] = []

    def append() -> None:
        sent.append(time.monotonic())
        producer.append([Record(topic, b"x", b"k")])

    for _ in range(3):
        timer = threading.Timer(0.3, append)
        timer.start()
        assert len(drain(consumer, 1)) == 1
        waited.append(time.monotonic() - sent.pop())
        timer.join()
    assert min(waited) < 0.25


class Notes:
    """A listener that writes down what it is told, and where."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assigned", len(partitions)))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", len(partitions)))

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", len(partitions)))


def test_the_listener_hears_once_what_is_ours_and_nothing_when_we_close(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=3)
    bus.producer().append([Record(topic, b"x", b"k")])
    bus.start(place.name("group"), [topic], Where.EARLIEST)
    notes = Notes()
    with bus.consumer(place.name("group"), [topic], listener=notes) as consumer:
        assert len(drain(consumer, 1)) == 1
        assert consumer.assignment() == {TopicPartition(topic, number) for number in range(3)}
    assert notes.told == [("assigned", 3)]
    assert consumer.assignment() == frozenset()


# where a group starts


def test_poll_refuses_a_partition_without_an_offset(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    consumer = bus.consumer(place.name("group"), [topic])
    with pytest.raises(BusRefused, match="has no offset here: start it first, emr-pipeline topics start"):
        drain(consumer, 1)


@pytest.mark.parametrize(("where", "first"), [(Where.EARLIEST, 0), (Where.LATEST, 3), (2_000, 1), (9_000, 3)])
def test_a_group_starts_where_it_is_told(place: Place, bus: Bus, where: Where | int, first: int) -> None:
    topic = made(place, bus)
    bus.producer().append(Record(topic, b"", b"k", timestamp_ms=stamp) for stamp in (1_000, 2_000, 3_000))
    assert bus.start(place.name("group"), [topic], where) == {TopicPartition(topic, 0): first}


def test_starting_again_changes_nothing(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    bus.start(place.name("group"), [topic], Where.EARLIEST)
    assert bus.start(place.name("group"), [topic], Where.LATEST) == {}
    assert values(drain(bus.consumer(place.name("group"), [topic]), 1)) == [b"one"]


def test_a_group_is_moved_where_it_is_told_and_its_other_partitions_stay(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    bus.producer().append(Record(topic, stamp.to_bytes(2), partition=0, timestamp_ms=stamp) for stamp in (1_000, 2_000, 3_000))
    group = place.name("group")
    bus.start(group, [topic], Where.LATEST)
    assert bus.move(group, [first], Where.EARLIEST) == {first: 0}
    assert bus.move(group, [first], 2_000) == {first: 1}
    assert bus.committed(group, topic) == {first: 1, second: 0}
    assert values(drain(bus.consumer(group, [topic]), 2)) == [(2_000).to_bytes(2), (3_000).to_bytes(2)]


def test_a_group_without_an_offset_is_moved_too(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    assert bus.move(place.name("group"), [TopicPartition(topic, 0)], Where.LATEST) == {TopicPartition(topic, 0): 1}
    assert bus.committed(place.name("group"), topic) == {TopicPartition(topic, 0): 1}


def test_a_group_with_a_live_member_is_not_moved(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    with begun(place, bus, topic) as consumer:
        drain(consumer, 1)
        with pytest.raises(Refused, match="the group has live members: stop its workers first"):
            place.open().move(place.name("group"), [TopicPartition(topic, 0)], Where.LATEST)
    assert bus.committed(place.name("group"), topic) == {TopicPartition(topic, 0): 0}


def test_poll_refuses_an_offset_that_is_not_there(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append([Record(topic, b"one", b"k")])
    consumer = begun(place, bus, topic)
    assert len(drain(consumer, 1)) == 1
    consumer.seek(TopicPartition(topic, 0), 40)
    with pytest.raises(BusRefused, match=r"[Nn]othing was skipped"):
        drain(consumer, 1)


# guards


def test_commit_and_seek_refuse_a_partition_that_is_not_ours(place: Place, bus: Bus) -> None:
    topic, other = made(place, bus), made(place, bus, name="other")
    consumer = begun(place, bus, topic)
    drain(consumer, 1, seconds=1.5)
    with pytest.raises(BusRefused, match=r"is n.* partition of this"):
        consumer.commit({TopicPartition(other, 0): 0})
    with pytest.raises(BusRefused, match=r"is n.* partition of this"):
        consumer.seek(TopicPartition(other, 0), 0)


def test_a_topic_that_is_not_there_is_refused_by_everything(place: Place, bus: Bus) -> None:
    nowhere = place.name("nowhere")
    producer = bus.producer()
    for refused in (
        lambda: producer.send(Record(nowhere, b"", b"k")),
        lambda: bus.consumer(place.name("group"), [nowhere]),
        lambda: bus.start(place.name("group"), [nowhere], Where.EARLIEST),
        lambda: bus.bounds(nowhere),
        lambda: bus.read(nowhere),
        lambda: bus.fetch(Position(nowhere, 0, 0)),
    ):
        with pytest.raises(BusRefused, match="no such topic; make the topics of the settings with: emr-pipeline topics create"):
            refused()


@pytest.mark.parametrize(
    "record",
    [
        Record("pati\u00ebnten", b"", b"k"),
        Record("", b"", b"k"),
        Record("..", b"", b"k"),
        Record("a" * 250, b"", b"k"),
        Record("topic", "text", b"k"),  # type: ignore[arg-type]
        Record("topic", b"", "Jans\u00e9n"),  # type: ignore[arg-type]
        Record("topic", b"", b"k", (("header", "text"),)),  # type: ignore[arg-type]
        Record("topic", b"x" * (33 * 1024 * 1024), b"k"),
        Record("topic", None, None),
    ],
    ids=["unicode topic", "empty topic", "dots", "long topic", "text value", "text key", "text header", "too large", "nothing"],
)
def test_what_no_bus_takes_is_refused_without_its_values(bus: Bus, record: Record) -> None:
    with pytest.raises(BusRefused) as refused:
        bus.producer().send(record)
    assert "\n" not in str(refused.value)
    assert "Jans" not in str(refused.value)


def test_of_several_the_one_that_is_too_large_is_refused_and_each_other_appended_once(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    large = Record(topic, b"x" * (33 * 1024 * 1024), b"k")
    records = [Record(topic, b"one", b"k"), large, Record(topic, b"two", b"k"), large, Record(topic, b"y" * 200_000, b"k")]
    with bus.producer() as producer:
        became = producer.append_each(records)
    assert [type(each) for each in became] == [Position, BusTooLarge, Position, BusTooLarge, Position]
    found = {record.position: record.value for record in bus.read(topic)}
    assert found == {at: record.value for at, record in zip(became, records, strict=True) if isinstance(at, Position)}


def test_of_several_one_for_a_topic_that_is_not_there_is_no_matter_of_size(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    with bus.producer() as producer:
        try:
            became = producer.append_each([Record(topic, b"one", b"k"), Record(place.name("nowhere"), b"", b"k")])
        except BusRefused as error:  # told before any is sent
            became = [error, error]
    assert (isinstance(became[1], BusRefused), isinstance(became[1], BusTooLarge)) == (True, False)
    assert len(list(bus.read(topic))) == sum(isinstance(each, Position) for each in became)


def test_after_closing_everything_is_refused(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    producer = bus.producer()
    consumer = begun(place, bus, topic)
    producer.close()
    consumer.close()
    for refused in (lambda: producer.send(Record(topic, b"", b"k")), lambda: consumer.poll(0), lambda: consumer.commit({})):
        with pytest.raises(BusRefused, match="closed"):
            refused()


# looking in


def test_topics_are_made_once_and_described(place: Place, bus: Bus) -> None:
    wanted = TopicSettings(place.name("topic"), 4, retention_ms=86_400_000, retention_bytes=4_000_000)
    assert bus.create_topics([wanted]) == [wanted.name]
    assert bus.create_topics([wanted]) == []
    assert bus.topics()[wanted.name] == 4
    assert bus.described(wanted.name) == wanted
    assert bus.described(place.name("nowhere")) is None


def test_bounds_and_fetch_and_read_agree(place: Place, bus: Bus) -> None:
    topic = made(place, bus, partitions=2)
    bus.producer().append(Record(topic, str(number).encode(), partition=number % 2) for number in range(6))
    assert bus.bounds(topic) == {TopicPartition(topic, 0): (0, 3), TopicPartition(topic, 1): (0, 3)}
    assert sorted(values(list(bus.read(topic)))) == [b"0", b"1", b"2", b"3", b"4", b"5"]  # type: ignore[type-var]
    start = {TopicPartition(topic, 0): 3, TopicPartition(topic, 1): 1}
    assert values(list(bus.read(topic, start=start))) == [b"3", b"5"]
    assert len(list(bus.read(topic, most=4))) == 4
    fetched = bus.fetch(Position(topic, 1, 2))
    assert fetched is not None
    assert fetched.value == b"5"
    assert bus.fetch(Position(topic, 1, 3)) is None
    assert bus.fetch(Position(topic, 7, 0)) is None
    with pytest.raises(BusRefused, match="offset 9 is not there"):
        bus.read(topic, start={TopicPartition(topic, 0): 9})


def test_read_ends_where_the_topic_ended_when_it_was_called(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    producer = bus.producer()
    producer.append([Record(topic, b"before", b"k")])
    reading = iter(bus.read(topic))
    producer.append([Record(topic, b"after", b"k")])
    assert values(list(reading)) == [b"before"]


# kill -9


def test_what_a_killed_producer_was_promised_is_there(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    with place.process("produce", topic) as member:
        said = [member.says() for _ in range(40)]
        said += member.kill()
    found = list(place.open().read(topic))
    assert [record.position.offset for record in found] == list(range(len(found)))
    assert values(found) == [str(number).encode() for number in range(len(found))]
    assert {offset for _, offset in said} <= {record.position.offset for record in found}
    assert bus.producer().append([Record(topic, b"next", b"k")])[0].offset == len(found)


def test_after_a_killed_consumer_the_next_member_goes_on_at_its_last_commit(place: Place, bus: Bus) -> None:
    topic = made(place, bus)
    bus.producer().append(Record(topic, str(number).encode(), b"k") for number in range(2_000))
    bus.start(place.name("group"), [topic], Where.EARLIEST)
    with place.process("consume", topic, place.name("group")) as member:
        said = [member.says() for _ in range(10)]
        said += member.kill()
        consumer = bus.consumer(place.name("group"), [topic])
        first = drain(consumer, 1)[0].position.offset
    committed = max(offset for _, offset in said)
    assert committed <= first <= committed + 1  # killed between the commit and saying so
    assert ends(bus, topic) == {TopicPartition(topic, 0): 2_000}
