"""Appending to Kafka: idempotent, acks=all, batched over all threads. A record counts as appended when every replica in sync has it."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, Self

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from pipeline.bus.each import append_each
from pipeline.bus.kafka_client import REFUSED, connect, failure
from pipeline.bus.limits import MOST_BYTES, OVERHEAD_BYTES, check_partition, check_record, size_of
from pipeline.bus.port import Record
from pipeline.errors import BusError, BusRefused, BusTooLarge, BusUnavailable
from pipeline.model import Position
from pipeline.settings import Kafka

LINGER_MS: Final = 2
"""What a record waits for company: long enough to make batches of many connections, short beside a round trip with acks=all."""
REQUEST_MS: Final = 10_000
DELIVERY_MS: Final = 30_000
"""After this a record has failed; a leader change takes less."""
CLOSE_SECONDS: Final = 8.0
"""What `close` gives to the records that are still on their way: a worker has 12 s to stop."""
BATCH_BYTES: Final = 128 * 1024
"""What kafka-python sends together of one partition; a larger record goes alone."""
CHUNK: Final = 2_000
"""Records that `append` has on their way at a time: kafka-python itself has no bound."""


@dataclass(frozen=True, slots=True)
class KafkaPending:
    """A record on its way."""

    future: Any = field(repr=False)
    topic: str

    def wait(self, timeout: float) -> Position:
        """See the port."""
        try:
            done = self.future.get(timeout=max(0.0, timeout))
        except kafka_errors.KafkaTimeoutError:
            raise BusUnavailable(f"not known to be durable after {timeout:.0f} s", where=self.topic) from None
        except kafka_errors.KafkaError as error:
            raise failure(error, self.topic) from None
        return Position(done.topic, done.partition, done.offset)


class KafkaBusProducer:
    """See the port. `partitions_of` says how many partitions a topic has, and refuses one that is not there."""

    def __init__(self, settings: Kafka, partitions_of: Callable[[str], int]) -> None:
        self._settings = settings
        self._partitions_of = partitions_of
        self._partitions: dict[str, int] = {}
        self._guard = threading.Lock()
        self._closed = False
        self._spent: Any = None
        self._kafka = self._connect()

    def send(self, record: Record) -> KafkaPending:
        """See the port."""
        check_record(record)
        check_partition(record, self._count(record.topic))
        kafka = self._usable()
        try:
            future = kafka.send(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
            )
        except kafka_errors.KafkaError as error:
            raise failure(error, record.topic) from None
        future.add_errback(self._failed, kafka)
        return KafkaPending(future, record.topic)

    def append(self, records: Iterable[Record], timeout: float = 30.0) -> list[Position]:
        """See the port."""
        deadline = time.monotonic() + timeout
        left = iter(records)
        positions: list[Position] = []
        while chunk := list(islice(left, CHUNK)):
            self._ready({record.topic for record in chunk}, deadline, timeout)
            pending = [self.send(record) for record in chunk]
            positions += [each.wait(max(0.0, deadline - time.monotonic())) for each in pending]
        return positions

    def append_each(self, records: Sequence[Record], timeout: float = 30.0) -> list[Position | BusError]:
        """See the port. What is larger than kafka-python's batches goes alone, when the others are durable.

        For where the broker refuses a record for its size, kafka-python 3.0.12 gives up its producer, and says the same of all that is on its
        way with it, also of what the broker has taken. So what was refused in company is asked for once more alone; only where a topic takes less than
        BATCH_BYTES may that append one again.
        """
        deadline = time.monotonic() + timeout
        self._ready({record.topic for record in records}, deadline, timeout)
        together = [number for number, record in enumerate(records) if size_of(record) <= BATCH_BYTES]
        became = dict(zip(together, append_each(self, [records[number] for number in together], deadline), strict=True))
        for number, record in enumerate(records):
            if number not in became or (len(together) > 1 and isinstance(became[number], BusTooLarge)):
                away = next((each for each in became.values() if isinstance(each, BusUnavailable)), None)
                became[number] = away or append_each(self, [record], deadline)[0]
        return [became[number] for number in range(len(records))]

    def _ready(self, topics: set[str], deadline: float, timeout: float) -> None:
        """Ask for what `send` would wait for, a broker and each topic's partitions, and wait no longer than the caller does.

        On a thread of its own: kafka-python has other bounds. A question that outlives its caller helps the next one.
        """
        if self._spent is not self._kafka and all(self._has(topic) for topic in topics):
            return
        asked: Future[None] = Future()
        threading.Thread(target=_run, args=(partial(self._ask, topics), asked), name="bus-producer-topics", daemon=True).start()
        try:
            asked.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise BusUnavailable(f"no broker has told of it within {timeout:.0f} s", where=min(topics)) from None

    def _has(self, topic: str) -> bool:
        return topic in self._partitions and self._kafka._metadata.partitions_for_topic(topic) is not None  # noqa: SLF001 - the public question waits

    def _ask(self, topics: set[str]) -> None:
        kafka = self._usable()
        for topic in topics:
            self._count(topic)
            try:
                kafka.partitions_for(topic)
            except kafka_errors.KafkaError as error:
                raise failure(error, topic) from None

    def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            self._partitions[topic] = self._partitions_of(topic)
        return self._partitions[topic]

    def close(self) -> None:
        """Flush and let go; what cannot be flushed in time has failed for those who wait for it."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        _end(self._kafka, CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _usable(self) -> Any:  # noqa: ANN401 - kafka-python has no types
        """The producer; a new one where the last has failed to deliver.

        kafka-python 3.0.12 gives up its producer id then and never asks for another: it would take records for ever and send none.
        """
        with self._guard:
            if self._closed:
                raise BusRefused("the producer is closed", where="Kafka")
            state = self._kafka._transaction_manager  # noqa: SLF001 - there is no public question for it
            if self._spent is self._kafka or state.has_fatal_error():
                fresh = self._connect()
                threading.Thread(target=_end, args=(self._kafka, 0), name="bus-spent-producer", daemon=True).start()
                self._kafka = fresh
            return self._kafka

    def _failed(self, kafka: Any, error: Exception) -> None:  # noqa: ANN401 - the same
        """On kafka-python's thread: a record was not delivered. Where the broker refused it for itself alone the producer is well."""
        if type(error).__name__ not in REFUSED:
            self._spent = kafka

    def _connect(self) -> Any:  # noqa: ANN401 - the same
        return connect(
            KafkaProducer,
            self._settings,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            max_request_size=MOST_BYTES + OVERHEAD_BYTES,
            max_block_ms=REQUEST_MS,
            request_timeout_ms=REQUEST_MS,
            delivery_timeout_ms=DELIVERY_MS,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )


def _run(action: Callable[[], None], told: Future[None]) -> None:
    """On a thread: what came of it is told."""
    try:
        action()
        told.set_result(None)
    except BaseException as error:  # noqa: BLE001 - the caller raises it, if it is there still
        told.set_exception(error)


def _end(kafka: Any, seconds: float) -> None:  # noqa: ANN401 - kafka-python has no types
    """Close; by force where records cannot be flushed, which kafka-python's own close leaves lying."""
    try:
        kafka.close(timeout=seconds)
    except kafka_errors.KafkaTimeoutError:
        kafka._sender.force_close()  # noqa: SLF001 - what close would do had it not raised
        kafka._sender.join(seconds + 1)  # noqa: SLF001 - the same
