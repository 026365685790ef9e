"""Reading Kafka as a member of a group: manual commits, no reset of offsets ever, and the group's word passed on to the port's listener.

A commit carries the topic's id, so that a topic that was deleted and made anew under the same name is noticed even where the old
offset happens to exist in the new one.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.future import Future
from kafka.structs import OffsetAndMetadata

from pipeline.bus.kafka_client import connect, failure, ours, theirs
from pipeline.bus.port import RebalanceListener, TopicPartition
from pipeline.errors import BusError, BusRefused, BusUnavailable
from pipeline.model import Position, Received
from pipeline.settings import Kafka

COMMIT_SECONDS: Final = 20.0
AWAY_SECONDS: Final = 10.0
"""An empty poll while no broker has led the group for this long is no longer quiet: the bus is away."""


def received(record: Any) -> Received:  # noqa: ANN401 - kafka-python has no types
    """kafka-python's record as ours."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Received(Position(record.topic, record.partition, record.offset), record.value, record.key, headers, record.timestamp)


def metadata_of(topic_id: str | None) -> str:
    """What goes with a committed offset: the id of the topic that it counts in."""
    return f"topic={topic_id}" if topic_id else ""


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Runs the port's listener on a thread beside kafka-python's loop, so that it can commit while `poll` waits for it."""

    def __init__(self, tell: Callable[[str, list[TopicPartition]], None]) -> None:
        self._tell = tell
        self.loop: Any = None

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Kafka's name for it."""
        await self._beside("assigned", ours(assigned))

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Kafka's name for it."""
        await self._beside("revoked", ours(revoked))

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        """Kafka's name for it."""
        await self._beside("lost", ours(lost))

    async def _beside(self, what: str, partitions: list[TopicPartition]) -> None:
        done = Future()

        def run() -> None:
            try:
                self._tell(what, partitions)
            finally:
                self.loop.call_soon_threadsafe(lambda: done.success(None))

        threading.Thread(target=run, name="bus-rebalance", daemon=True).start()
        await done


class KafkaBusConsumer:
    """See the port. `topic_ids` and `stand_of` ask the cluster; the latter gives a group's offsets with what was committed beside."""

    def __init__(
        self,
        settings: Kafka,
        group: str,
        topics: Sequence[str],
        listener: RebalanceListener | None,
        *,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        stand_of: Callable[[str, Iterable[TopicPartition]], dict[TopicPartition, tuple[int, str]]],
    ) -> None:
        self._group = group
        self._listener = listener
        self._topic_ids = topic_ids
        self._stand_of = stand_of
        self._ids = topic_ids(topics)
        self._revoking: set[TopicPartition] = set()
        self._broken: Exception | None = None
        self._seen = time.monotonic()
        self._closed = False
        assignor = CooperativeStickyAssignor if settings.rebalance == "cooperative" else RangePartitionAssignor
        self._kafka = connect(
            KafkaConsumer,
            settings,
            group_id=group,
            group_instance_id=settings.static_membership,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, settings.session_timeout_ms // 4),
            max_poll_interval_ms=settings.max_poll_interval_ms,
            partition_assignment_strategy=(assignor,),
            allow_auto_create_topics=False,
            metrics_enabled=False,
            fetch_max_wait_ms=250,
        )
        bridge = _Listener(self._tell)
        bridge.loop = self._kafka._net  # noqa: SLF001 - its loop has no public name, and the listener must get back to it
        self._kafka.subscribe(list(topics), listener=bridge)

    def poll(self, timeout: float, most: int = 500) -> list[Received]:
        """See the port. BusUnavailable while nobody leads the group; polling on is right."""
        self._check_open()
        try:
            batches = self._kafka.poll(timeout_ms=int(timeout * 1000), max_records=most)
        except kafka_errors.NoOffsetForPartitionError as error:
            raise self._refused(error) from None
        except kafka_errors.OffsetOutOfRangeError as error:
            raise self._refused(error) from None
        except kafka_errors.KafkaError as error:
            self._raise_broken()
            raise failure(error, self._group) from None
        self._raise_broken()
        self._check_away(found=bool(batches))
        return [received(record) for batch in batches.values() for record in batch]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port. BusRefused where a partition is not ours (any more): the broker itself would not look."""
        self._check_open()
        self._check_ours(offsets)
        given = {
            each: OffsetAndMetadata(offset, metadata_of(self._ids.get(each.topic)), -1)
            for each, offset in zip(theirs(offsets), offsets.values(), strict=True)
        }
        try:
            self._kafka.commit(given, timeout_ms=COMMIT_SECONDS * 1000)
        except kafka_errors.RebalanceInProgressError:
            raise BusUnavailable(
                "not committed: the group is being divided anew; poll, then see what is still ours", where=self._group
            ) from None
        except kafka_errors.KafkaError as error:
            raise failure(error, self._group) from None

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See the port."""
        self._check_open()
        wanted = list(partitions)
        stand = self._stand_of(self._group, wanted)
        return {each: stand[each][0] if each in stand else None for each in wanted}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        self._check_ours([partition])
        self._kafka.seek(theirs([partition])[0], offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port. What is taken from us and given back later is not paused any more."""
        chosen = list(partitions)
        self._check_ours(chosen)
        self._kafka.pause(*theirs(chosen))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        mine = self.assignment()
        self._kafka.resume(*theirs(each for each in partitions if each in mine))

    def assignment(self) -> frozenset[TopicPartition]:
        """See the port."""
        return frozenset() if self._closed else frozenset(ours(self._kafka.assignment()))

    def close(self) -> None:
        """See the port. The listener is not told: who closes knows."""
        if not self._closed:
            self._listener = None
            self._closed = True
            self._kafka.close(autocommit=False, timeout_ms=5_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, what: str, partitions: list[TopicPartition]) -> None:
        """On the listener's thread, while `poll` waits. What goes wrong here is raised by that `poll`."""
        try:
            if what == "assigned":
                self._check_same_topics(partitions)
            self._revoking = set(partitions) if what == "revoked" else set()
            if self._listener is not None:
                getattr(self._listener, what)(partitions)
        except Exception as error:  # noqa: BLE001 - kafka-python would swallow it
            self._broken = error
        finally:
            self._revoking = set()

    def _check_same_topics(self, partitions: list[TopicPartition]) -> None:
        """BusRefused where a topic was made anew since the group committed: its old offsets count in something that is gone."""
        if self._closed or not partitions:
            return
        self._ids = self._topic_ids({each.topic for each in partitions})
        for partition, (_, beside) in self._stand_of(self._group, partitions).items():
            if beside.startswith("topic=") and beside != metadata_of(self._ids.get(partition.topic)):
                raise BusRefused(
                    f"the topic was made anew since the group {self._group} committed here; nothing was skipped: decide where to go on,"
                    " delete the group's offsets, then start it again",
                    where=str(partition),
                )

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _check_open(self) -> None:
        if self._closed:
            raise BusRefused("the consumer is closed", where=self._group)

    def _check_ours(self, partitions: Iterable[TopicPartition]) -> None:
        mine = self.assignment() | self._revoking
        for each in partitions:
            if each not in mine:
                raise BusRefused(f"is not (any more) a partition of this member of {self._group}", where=str(each))

    def _check_away(self, *, found: bool) -> None:
        if found or not self._kafka._coordinator.coordinator_unknown():  # noqa: SLF001 - there is no public question for it
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > AWAY_SECONDS:
            raise BusUnavailable(f"no broker has led the group for {AWAY_SECONDS:.0f} s", where=self._group)

    def _refused(self, error: Exception) -> BusError:
        """With the partition's name, which kafka-python hands over as a set or a dict."""
        named = error.args[0] if error.args and isinstance(error.args[0], (set, dict)) else ()
        places = [str(each) for each in ours(named)]
        where = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "") or self._group  # noqa: PLR2004 - enough to find it
        refused = failure(error, where)
        return type(refused)(f"{refused.message} [group {self._group}]", where=where)
