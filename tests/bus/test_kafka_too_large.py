"""Records that are too large for a topic of Kafka, without a cluster: kafka-python then gives up its producer, and ours still tells of each what became of it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors as kafka_errors

from pipeline.bus.kafka_client import failure
from pipeline.bus.kafka_producer import BATCH_BYTES, KafkaBusProducer
from pipeline.bus.port import Record
from pipeline.errors import BusError, BusRefused, BusTooLarge, BusUnavailable
from pipeline.model import Position
from pipeline.settings import Kafka

MOST = 1_000_000


class Future:
    """Of one record; it is known when somebody asks."""

    def __init__(self, client: "Client", value: bytes) -> None:
        self.client, self.value = client, value

    def add_errback(self, *_: object) -> None:
        """Nobody is told."""

    def get(self, timeout: float) -> SimpleNamespace:
        assert timeout >= 0
        self.client.answer()
        if self in self.client.failed:
            raise self.client.failed[self]
        return SimpleNamespace(topic="t", partition=0, offset=self.client.log.index(self.value))


class Client:
    """A KafkaProducer of 3.0.12: when the broker refuses one for its size, it says the same of all that is on its way, also of what the broker has."""

    def __init__(self, log: list[bytes], most: int, *, away: bool = False) -> None:
        self.log, self.most, self.away = log, most, away
        self.way: list[Future] = []
        self.failed: dict[Future, Exception] = {}
        self._metadata = SimpleNamespace(partitions_for_topic=lambda _: {0})
        self._transaction_manager = SimpleNamespace(has_fatal_error=lambda: bool(self.failed))

    def partitions_for(self, _: str) -> set[int]:
        return {0}

    def send(self, _: str, *, value: bytes, **__: object) -> Future:
        self.way.append(Future(self, value))
        return self.way[-1]

    def answer(self) -> None:
        if self.away:
            self.failed |= dict.fromkeys(self.way, kafka_errors.KafkaTimeoutError())
        fits = [each for each in self.way if len(each.value) <= self.most]
        if not self.failed:
            self.log += [each.value for each in fits]
        if fits != self.way:
            self.failed |= dict.fromkeys(self.way, kafka_errors.MessageSizeTooLargeError())
        self.way = []

    def close(self, timeout: float) -> None:
        """Nothing is open."""


class Producer(KafkaBusProducer):
    def __init__(self, log: list[bytes], *, most: int = MOST, away: bool = False) -> None:
        self.log, self.most, self.away = log, most, away
        super().__init__(Kafka(kind="kafka", bootstrap_servers=("nowhere:9092",)), lambda _: 1)

    def _connect(self) -> Any:  # noqa: ANN401 - kafka-python has no types
        return Client(self.log, self.most, away=self.away)


def became(producer: KafkaBusProducer, values: Sequence[bytes]) -> list[Position | BusError]:
    return producer.append_each([Record("t", value, b"k") for value in values])


LARGE, SMALL = b"l" * (BATCH_BYTES + 1), b"s"
REFUSED = b"r" * (MOST + 1)


@pytest.mark.parametrize(
    "values",
    [[SMALL, REFUSED, b"x"], [REFUSED, SMALL, REFUSED, b"x"], [LARGE, REFUSED, SMALL], [REFUSED]],
    ids=["between two", "two of four", "beside a large one", "alone"],
)
def test_what_is_refused_for_its_size_takes_nobody_with_it_and_nobody_is_appended_twice(values: list[bytes]) -> None:
    log: list[bytes] = []
    told = became(Producer(log), values)
    taken = [value for value in values if value is not REFUSED]
    assert sorted(log) == sorted(taken)
    assert [isinstance(each, BusTooLarge) for each in told] == [value is REFUSED for value in values]
    assert [log[each.offset] for each in told if isinstance(each, Position)] == taken


def test_where_a_topic_takes_hardly_anything_each_is_told_the_truth_of_itself() -> None:
    """Small ones go together and fail together: which of them was meant is found out by asking for each alone, and that may append one again."""
    log: list[bytes] = []
    told = became(Producer(log, most=5), [b"small", b"larger", b"too"])
    assert [type(each) for each in told] == [Position, BusTooLarge, Position]
    assert set(log) == {b"small", b"too"}


def test_while_the_broker_is_away_no_large_one_is_begun() -> None:
    producer = Producer([], away=True)
    told = became(producer, [SMALL, LARGE])
    assert [type(each) for each in told] == [BusUnavailable, BusUnavailable]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka_errors.MessageSizeTooLargeError(), BusTooLarge),
        (kafka_errors.RecordListTooLargeError(), BusTooLarge),
        (kafka_errors.TopicAuthorizationFailedError(), BusRefused),
    ],
)
def test_only_a_refusal_for_the_size_is_one_of_the_record_alone(error: Exception, kind: type[BusError]) -> None:
    assert type(failure(error, "t")) is kind
