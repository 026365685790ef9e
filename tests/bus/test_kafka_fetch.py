"""Single records of Kafka, without a cluster: neighbours come with one look, and what is kept is bounded in bytes and in time."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors as kafka_errors

from pipeline.bus import kafka_fetch
from pipeline.bus.kafka_fetch import KEPT_SECONDS, WINDOW_BYTES, WINDOWS, Fetcher
from pipeline.bus.port import TopicPartition
from pipeline.errors import BusError
from pipeline.model import Position


class Topic:
    """A topic, and the one reader of it: what kafka-python's consumer does, as far as it is asked. A value that is None is a transaction's marker."""

    def __init__(self, values: Sequence[bytes | None], partitions: int = 1) -> None:
        self.values, self.partitions = list(values), partitions
        self.first = 0
        self.polls = 0
        self.away = False
        self.closed = False
        self._at = 0
        self._partition: Any = None
        self._most = 1

    def reader(self, *, max_partition_fetch_bytes: int, max_poll_records: int) -> "Topic":
        """Makes the reader."""
        assert max_partition_fetch_bytes == WINDOW_BYTES
        self._most = max_poll_records
        return self

    def bounds(self, name: str) -> dict[TopicPartition, tuple[int, int]]:
        return {TopicPartition(name, number): (self.first, len(self.values)) for number in range(self.partitions)}

    def assign(self, partitions: Sequence[Any]) -> None:
        (self._partition,) = partitions

    def seek(self, _partition: object, offset: int) -> None:
        self._at = offset

    def position(self, _partition: object) -> int:
        return self._at

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        assert timeout_ms > 0
        self.polls += 1
        if self.away:
            raise kafka_errors.KafkaConnectionError
        found: list[Any] = []
        while self._at < len(self.values) and len(found) < self._most:
            value = self.values[self._at]
            if value is not None:
                place = {"topic": self._partition.topic, "partition": self._partition.partition, "offset": self._at}
                found.append(SimpleNamespace(**place, value=value, key=None, headers=(), timestamp=0))
            self._at += 1
        return {self._partition: found} if found else {}

    def close(self, *, autocommit: bool) -> None:
        assert not autocommit
        self.closed = True


def fetched(fetcher: Fetcher, offset: int, partition: int = 0) -> bytes | None:
    found = fetcher.fetch(Position("t", partition, offset))
    return found.value if found is not None else None


def test_neighbours_come_with_one_look() -> None:
    topic = Topic([b"%d" % number for number in range(1000)])
    fetcher = Fetcher(topic.reader, topic.bounds)
    assert [fetched(fetcher, offset) for offset in range(1000)] == topic.values
    assert topic.polls == 1000 // kafka_fetch.WINDOW_RECORDS


@given(
    values=st.lists(st.none() | st.integers(0, 2000), max_size=30).map(
        lambda sizes: [None if size is None else b"%04d" % number + b"x" * size for number, size in enumerate(sizes)]
    ),
    asked=st.lists(st.integers(0, 32), max_size=20),
    window=st.integers(1, 4000),
)
def test_whatever_is_asked_and_kept_each_place_gives_its_own_record(
    values: list[bytes | None], asked: list[int], window: int
) -> None:
    topic = Topic(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_fetch, "WINDOW_BYTES", window)
        patch.setattr(kafka_fetch, "WINDOW_RECORDS", 5)
        fetcher = Fetcher(lambda **limits: topic.reader(**(limits | {"max_partition_fetch_bytes": WINDOW_BYTES})), topic.bounds)
        assert [fetched(fetcher, offset) for offset in asked] == [
            values[offset] if offset < len(values) else None for offset in asked
        ]


def test_a_record_that_is_larger_than_what_is_kept_comes_and_is_not_kept() -> None:
    topic = Topic([b"x" * (WINDOW_BYTES + 1), b"after"])
    fetcher = Fetcher(topic.reader, topic.bounds)
    assert [len(fetched(fetcher, 0) or b"") for _ in range(2)] == [WINDOW_BYTES + 1] * 2
    assert topic.polls == 2
    assert not any(records for _, records in fetcher._windows.values())


def test_no_more_partitions_are_kept_than_there_is_room_for() -> None:
    topic = Topic([b"x"], partitions=3 * WINDOWS)
    fetcher = Fetcher(topic.reader, topic.bounds)
    for _ in range(2):
        assert [fetched(fetcher, 0, partition) for partition in range(3 * WINDOWS)] == [b"x"] * 3 * WINDOWS
    assert len(fetcher._windows) == WINDOWS


def test_what_was_kept_for_long_is_looked_for_again() -> None:
    now = [0.0]
    topic = Topic([b"a", b"b"])
    fetcher = Fetcher(topic.reader, topic.bounds, lambda: now[0])
    assert fetched(fetcher, 1) == b"b"
    topic.first = 2  # retention took them
    assert fetched(fetcher, 1) == b"b"
    now[0] += KEPT_SECONDS
    assert fetched(fetcher, 1) is None


def test_a_broker_that_is_away_is_an_error_and_nothing_is_kept_of_it() -> None:
    topic = Topic([b"a"])
    topic.away = True
    fetcher = Fetcher(topic.reader, topic.bounds)
    with pytest.raises(BusError):
        fetched(fetcher, 0)
    topic.away = False
    assert fetched(fetcher, 0) == b"a"
    fetcher.close()
    assert topic.closed
