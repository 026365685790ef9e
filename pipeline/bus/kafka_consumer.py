"""Reading Kafka as a member of a group: manual commits, no reset of offsets ever, and the group's word passed on to the port's listener.

A commit carries the topic's id, so that a topic that was deleted and made anew under the same name is noticed even where the old
offset happens to exist in the new one. What is ours is what kafka_membership.py says; nothing is handed out while that is in doubt.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from kafka import KafkaConsumer
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from pipeline.bus.kafka_client import connect, failure, ours, theirs
from pipeline.bus.kafka_diagnosis import why_unreachable
from pipeline.bus.kafka_membership import Bridge, Membership, metadata_of
from pipeline.bus.port import RebalanceListener, TopicPartition
from pipeline.errors import BusError, BusLost, BusRebalancing, BusRefused, BusUnavailable
from pipeline.model import Position, Received
from pipeline.settings import Kafka

COMMIT_SECONDS: Final = 20.0
AWAY_SECONDS: Final = 10.0
"""An empty poll while nothing was heard of the group's broker for this long is no longer quiet: the bus is away."""
CHECK_SECONDS: Final = 1.0
"""How soon the cluster is asked again what it could not say when a partition was assigned."""
METADATA_MS: Final = 15_000
"""How soon a partition that was added is noticed, and a topic that was made anew where no fetch failed meanwhile."""
PARTITION_BYTES: Final = 256 * 1024
"""Of one partition in one fetch; a record that is larger comes alone. What is fetched ahead is memory: a worker had 40 MB more with the client's own megabyte."""
FETCH_BYTES: Final = 2 * 1024 * 1024
POSITION_SECONDS: Final = 0.5
JOIN_SECONDS: Final = 3.0
JOIN_SLICE: Final = 0.1


def received(record: Any) -> Received:  # noqa: ANN401 - kafka-python has no types
    """kafka-python's record as ours."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Received(Position(record.topic, record.partition, record.offset), record.value, record.key, headers, record.timestamp)


class KafkaBusConsumer:
    """See the port. `topic_ids`, `stand_of` and `first_of` ask the cluster; `stand_of` gives a group's offsets with what was committed beside."""

    def __init__(
        self,
        settings: Kafka,
        group: str,
        topics: Sequence[str],
        listener: RebalanceListener | None,
        *,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        stand_of: Callable[[str, Iterable[TopicPartition]], dict[TopicPartition, tuple[int, str]]],
        first_of: Callable[[str], Mapping[TopicPartition, int]],
    ) -> None:
        self._group = group
        self._settings = settings
        self._topics = frozenset(topics)
        self._stand_of = stand_of
        self._member = Membership(
            group, listener, topic_ids=topic_ids, stand_of=stand_of, begin_at=self._begin_at, first_of=first_of
        )
        self._member.ids = topic_ids(topics)
        self._question: Any = None
        self._checked = self._polled = self._heard = self._there = float("-inf")
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
            metadata_max_age_ms=METADATA_MS,
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )
        bridge = Bridge(self._member.tell)
        bridge.loop = self._kafka._net  # noqa: SLF001 - its loop has no public name, and the listener must get back to it
        self._kafka.subscribe(list(topics), listener=bridge)

    def poll(self, timeout: float, most: int = 500) -> list[Received]:
        """See the port. BusUnavailable while nobody leads the group; polling on is right."""
        self._check_open()
        self._member.raise_broken()
        self._look_after_membership(timeout)
        try:
            batches = self._fetch(timeout, most)
        except (kafka_errors.NoOffsetForPartitionError, kafka_errors.OffsetOutOfRangeError) as error:
            self._member.raise_broken()  # it knows why, where the topic was made anew
            raise self._refused(error) from None
        except kafka_errors.KafkaError as error:
            self._member.raise_broken()
            failed = failure(error, self._group)
            raise BusUnavailable(failed.message, where=self._group) if isinstance(failed, BusLost) else failed from None
        try:
            self._member.raise_broken()
            self._member.check_ids({topic: self._topic_id(topic) for topic in self._topics})
            self._check_there()
        except BusError:
            self._put_back(batches, batches)
            raise
        in_doubt = batches if self._in_doubt() else theirs(self._member.unchecked)
        batches = self._put_back(batches, in_doubt)
        self._check_away(found=bool(batches))
        return [received(record) for batch in batches.values() for record in batch]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port. A partition that is not ours (any more) is not asked for: the broker itself would not look."""
        self._check_open()
        self._check_ours(offsets)
        given = {
            each: OffsetAndMetadata(offset, metadata_of(self._member.ids.get(each.topic)), -1)
            for each, offset in zip(theirs(offsets), offsets.values(), strict=True)
        }
        try:
            self._kafka.commit(given, timeout_ms=COMMIT_SECONDS * 1000)
        except kafka_errors.KafkaError as error:
            if _is_about_a_rebalance(error):  # we are a member still, and may well keep what we have
                raise BusRebalancing(
                    "not committed: the group is being divided anew; poll, then see what is still ours", where=self._group
                ) from None
            raise failure(error, self._group) from None

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See the port."""
        self._check_open()
        wanted = list(partitions)
        stand = self._stand_of(self._group, wanted)
        return {each: stand[each][0] if each in stand else None for each in wanted}

    def position(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See the port."""
        self._check_open()
        found: dict[TopicPartition, int] = {}
        for each in partitions:
            if each not in self._member.mine - self._member.unchecked:
                continue
            try:
                at = self._kafka.position(theirs([each])[0], timeout_ms=int(POSITION_SECONDS * 1000))
            except (kafka_errors.KafkaTimeoutError, kafka_errors.IllegalStateError):
                continue  # not known yet, or taken in a rebalance that is under way
            except kafka_errors.NoOffsetForPartitionError as error:
                raise self._refused(error) from None
            except kafka_errors.KafkaError as error:
                raise failure(error, str(each)) from None
            if at is not None:
                found[each] = at
        return found

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port."""
        self._check_ours([partition])
        self._kafka.seek(theirs([partition])[0], offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port. What is taken from us and given back later is not paused any more."""
        chosen = set(partitions)
        self._check_ours(chosen)
        self._member.paused |= chosen
        self._kafka.pause(*theirs(self._known(chosen)))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        chosen = set(partitions)
        self._member.paused -= chosen
        self._kafka.resume(*theirs(self._known(chosen - self._member.unchecked)))

    def assignment(self) -> frozenset[TopicPartition]:
        """See the port."""
        return frozenset() if self._closed else frozenset(self._member.mine)

    def close(self) -> None:
        """See the port. The listener is not told: who closes knows."""
        if not self._closed:
            self._member.listener = None
            self._closed = True
            self._kafka.close(autocommit=False, timeout_ms=5_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fetch(self, timeout: float, most: int) -> Any:  # noqa: ANN401 - kafka-python has no types
        """While the group is divided, up to JOIN_SECONDS more.

        kafka-python 3.0.12 throws away a join that ends between two polls, and begins another: short polls far apart would keep the whole
        group from ever being divided.
        """
        coordinator = self._kafka._coordinator  # noqa: SLF001 - as below
        until = time.monotonic() + JOIN_SECONDS
        while True:
            slice_ = max(timeout, JOIN_SLICE) if coordinator.need_rejoin() else timeout
            batches = self._kafka.poll(timeout_ms=int(slice_ * 1000), max_records=most)
            joining = coordinator.need_rejoin() and not coordinator.coordinator_unknown()
            if batches or not joining or time.monotonic() > until:
                return batches

    def _look_after_membership(self, timeout: float) -> None:
        """Before kafka-python polls: what is lost is told as lost, and what could not be checked is asked for again."""
        if time.monotonic() - self._polled > AWAY_SECONDS:
            self._heard = self._there = time.monotonic()  # nobody has listened meanwhile
        self._polled = time.monotonic()
        self._join_again_if_forgotten()
        if self._in_doubt():  # stopped for longer than a session, perhaps: kafka-python would read on until its next heartbeat
            self._ask_the_group(timeout)
        if self._member.mine and self._kafka._coordinator._generation.is_lost():  # noqa: SLF001 - there are no public questions for all this
            self._member.tell("lost", sorted(self._member.mine, key=str))
        if self._member.unchecked and time.monotonic() - self._checked > CHECK_SECONDS:
            self._member.check_again()
            self._checked = time.monotonic()
        self._member.raise_broken()
        self._kafka.pause(*theirs(self._known(self._member.unchecked)))

    def _join_again_if_forgotten(self) -> None:
        """A member that stands in the middle of joining, with nobody who waits for the end of it, would stand there for ever.

        kafka-python 3.0.12 leaves one so now and then on a slow machine (seen at a worker's start; it seems that two attempts overlap: the first one ends
        the wish to join, the second one is nobody's).
        """
        coordinator = self._kafka._coordinator  # noqa: SLF001 - there are no public questions for this
        attempt = coordinator._join_task  # noqa: SLF001 - as above
        if coordinator.rebalance_in_progress() and not coordinator.need_rejoin() and (attempt is None or attempt.is_done):
            coordinator.request_rejoin()

    def _ask_the_group(self, timeout: float) -> None:
        """A heartbeat at once; one that is not answered is waited for again by the next poll."""
        coordinator = self._kafka._coordinator  # noqa: SLF001 - as above
        if self._question is None or self._question.is_done:
            self._question = coordinator._manager.call_soon(coordinator._do_heartbeat)  # noqa: SLF001 - as above
        try:
            self._kafka._net.run(coordinator._manager.wait_for, self._question, timeout * 1000)  # noqa: SLF001 - as above
        except kafka_errors.KafkaTimeoutError:
            return  # still in doubt: nothing is handed out

    def _in_doubt(self) -> bool:
        """Whether a session has passed since the group's broker last said that we are a member."""
        coordinator = self._kafka._coordinator  # noqa: SLF001 - as above
        if not self._member.mine or not coordinator.stable():
            return False
        last = max(coordinator.heartbeat.last_receive, self._member.since)
        return bool(time.monotonic() - last > self._settings.session_timeout_ms / 1000)

    def _begin_at(self, offsets: Mapping[TopicPartition, int]) -> None:
        for each, offset in zip(theirs(offsets), offsets.values(), strict=True):
            self._kafka.seek(each, offset)
        awake = [each for each in offsets if each not in self._member.paused]
        self._kafka.resume(*theirs(awake))  # eagerly given back it would be paused as before

    def _put_back(self, batches: Mapping[Any, Any], chosen: Iterable[Any]) -> dict[Any, Any]:
        """Without these partitions, whose records the next poll brings again."""
        back = set(chosen)
        known = self._kafka.assignment()
        for each in back & batches.keys() & known:
            self._kafka.seek(each, batches[each][0].offset)
        return {each: batch for each, batch in batches.items() if each not in back}

    def _topic_id(self, topic: str) -> str | None:
        """As kafka-python last heard it: it fetches by name, and would read on in another topic of this name."""
        found = self._kafka._cluster.topic_id(topic)  # noqa: SLF001 - there is no public question for it
        return str(found) if found else None

    def _known(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those that kafka-python has too: while it tells of a change, it has only what will be."""
        known = set(ours(self._kafka.assignment()))
        return [each for each in partitions if each in known]

    def _check_open(self) -> None:
        if self._closed:
            raise BusRefused("the consumer is closed", where=self._group)

    def _check_ours(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            if each not in self._member.mine:
                kind = BusLost if each.topic in self._topics else BusRefused
                raise kind(f"is not (any more) a partition of this member of {self._group}", where=str(each))

    def _check_away(self, *, found: bool) -> None:
        """An empty poll is quiet only while somebody is heard: the coordinator's heartbeats, or a knock while the group is divided."""
        coordinator = self._kafka._coordinator  # noqa: SLF001 - as above
        unknown = coordinator.coordinator_unknown()
        if found:
            self._heard = time.monotonic()
        elif coordinator.stable() and not unknown:
            self._heard = max(self._heard, coordinator.heartbeat.last_receive)
        if time.monotonic() - self._heard <= AWAY_SECONDS:
            return
        if not unknown and not coordinator.stable():
            if why := why_unreachable(self._settings):
                raise BusUnavailable(why, where=self._group)
            self._heard = time.monotonic()
            return
        raise BusUnavailable(f"no broker has led the group for {AWAY_SECONDS:.0f} s", where=self._group)

    def _check_there(self) -> None:
        """A topic that was deleted is taken from every member, and nobody would hear of it."""
        now = time.monotonic()
        gone = sorted(topic for topic in self._topics if not self._kafka._cluster.partitions_for_topic(topic))  # noqa: SLF001 - as above
        if not gone:
            self._there = now
        elif now - self._there > AWAY_SECONDS:
            raise BusUnavailable("there is no such topic any more; find out who deleted it", where=", ".join(gone))

    def _refused(self, error: Exception) -> BusError:
        """With the partition's name, which kafka-python hands over as a set or a dict."""
        named = error.args[0] if error.args and isinstance(error.args[0], (set, dict)) else ()
        places = [str(each) for each in ours(named)]
        where = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "") or self._group  # noqa: PLR2004 - enough to find it
        refused = failure(error, where)
        return type(refused)(f"{refused.message} [group {self._group}]", where=where)


def _is_about_a_rebalance(error: Exception) -> bool:
    """Also where kafka-python wraps the broker's word in a CommitFailedError."""
    cause = error.args[0] if isinstance(error, kafka_errors.CommitFailedError) and error.args else error
    return isinstance(cause, kafka_errors.RebalanceInProgressError)
