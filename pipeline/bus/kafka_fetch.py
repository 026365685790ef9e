"""Single records of Kafka, without a group: each look reads on a little, and what came along is kept for a while, within a few megabytes.

A look takes as long for two hundred records as for one, and who comes back for parked messages asks for neighbours: after a rebalance for all of
a partition, in order. What is kept may be gone from the topic since: it is the same record still, and it is kept for seconds only.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka import errors as kafka_errors

from pipeline.bus.kafka_client import failure, theirs
from pipeline.bus.kafka_consumer import received
from pipeline.bus.port import TopicPartition
from pipeline.errors import BusUnavailable
from pipeline.model import Position, Received

WINDOW_BYTES: Final = 262_144
"""Of one look. A batch of Kafka comes whole even where it is larger (KIP-74); no more of it is kept."""
WINDOW_RECORDS: Final = 200
WINDOWS: Final = 16
"""That are kept, one for a partition."""
KEPT_SECONDS: Final = 10.0
STUCK_SECONDS: Final = 30.0
"""A read without a group that gets nothing for this long has failed."""

Window = tuple[float, dict[int, Received]]
"""When it was read, and its records by offset."""


class Fetcher:
    """For any number of threads, one after the other: a client takes five questions at a time, and says of the sixth that its broker is away."""

    def __init__(
        self,
        reader: Callable[..., Any],
        bounds: Callable[[str], Mapping[TopicPartition, tuple[int, int]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reader` makes a consumer without a group, with these limits; `bounds` as in the port."""
        self._make, self._bounds, self._clock = reader, bounds, clock
        self._lock = threading.Lock()
        self._reader: Any = None
        self._windows: OrderedDict[TopicPartition, Window] = OrderedDict()

    def fetch(self, position: Position) -> Received | None:
        """See the port."""
        partition = TopicPartition(position.topic, position.partition)
        with self._lock:
            return self._kept(partition).get(position.offset) or self._looked_up(partition, position.offset)

    def close(self) -> None:
        """Let go of the connection."""
        if self._reader is not None:
            self._reader.close(autocommit=False)
            self._reader = None

    def _kept(self, partition: TopicPartition) -> dict[int, Received]:
        at, records = self._windows.get(partition, (0.0, {}))
        return records if self._clock() - at < KEPT_SECONDS else {}

    def _looked_up(self, partition: TopicPartition, offset: int) -> Received | None:
        first, end = self._bounds(partition.topic).get(partition, (0, 0))
        if not first <= offset < end:
            return None
        records = self._read(partition, offset, end)
        self._windows[partition] = self._clock(), _within_bytes(records)
        self._windows.move_to_end(partition)
        if len(self._windows) > WINDOWS:
            self._windows.popitem(last=False)
        return next((one for one in records if one.position.offset == offset), None)

    def _read(self, partition: TopicPartition, offset: int, end: int) -> list[Received]:
        """The first that come, from `offset` on; empty where only markers stand there."""
        if self._reader is None:
            self._reader = self._make(max_partition_fetch_bytes=WINDOW_BYTES, max_poll_records=WINDOW_RECORDS)
        (chosen,) = theirs([partition])
        self._reader.assign([chosen])
        self._reader.seek(chosen, offset)
        until = time.monotonic() + STUCK_SECONDS
        while self._reader.position(chosen) < end:
            if time.monotonic() > until:
                raise BusUnavailable(f"nothing came for {STUCK_SECONDS:.0f} s", where=partition.topic)
            try:
                batches = self._reader.poll(timeout_ms=200)
            except kafka_errors.KafkaError as error:
                raise failure(error, partition.topic) from None
            if found := batches.get(chosen):
                return [received(record) for record in found]
        return []


def _within_bytes(records: Iterable[Received]) -> dict[int, Received]:
    """As many of the first as are small enough together."""
    kept: dict[int, Received] = {}
    left = WINDOW_BYTES
    for one in records:
        left -= len(one.value or b"")
        if left < 0:
            break
        kept[one.position.offset] = one
    return kept
