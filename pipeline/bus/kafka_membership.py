"""What the group has given this member and what it has taken: kept here by what the group tells, not by what kafka-python believes.

kafka-python drops a partition before it tells (cooperative), keeps one after it told (eager), and goes on reading an eagerly revoked one
where it stood, past what its listener forgot. Here a partition is ours from `assigned` until `revoked` has returned or `lost` begins, and
whatever is assigned begins at what the group committed.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.future import Future

from pipeline.bus.kafka_client import ours
from pipeline.bus.port import RebalanceListener, TopicPartition
from pipeline.errors import BusGap, BusUnavailable
from pipeline.telemetry import LogEvent, log

MADE_ANEW: Final = (
    "the topic was made anew since the group {group} read it; nothing was skipped and nothing of the new one is read: decide where to go on"
    " (runbook: offset_gone)"
)


def metadata_of(topic_id: str | None) -> str:
    """What goes with a committed offset: the id of the topic that it counts in."""
    return f"topic={topic_id}" if topic_id else ""


class Bridge(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Runs `tell` on a thread beside kafka-python's loop, so that it can commit while `poll` waits for it."""

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


class Membership:
    """Tells the port's listener.

    `topic_ids`, `stand_of` and `first_of` (a topic's first offsets that are there) ask the cluster; `begin_at` makes kafka-python read from
    these offsets.
    """

    def __init__(
        self,
        group: str,
        listener: RebalanceListener | None,
        *,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        stand_of: Callable[[str, Iterable[TopicPartition]], dict[TopicPartition, tuple[int, str]]],
        begin_at: Callable[[Mapping[TopicPartition, int]], None],
        first_of: Callable[[str], Mapping[TopicPartition, int]],
    ) -> None:
        self._group = group
        self._topic_ids = topic_ids
        self._stand_of = stand_of
        self._begin_at = begin_at
        self._first_of = first_of
        self._broken: Exception | None = None
        self.listener = listener
        self.ids: dict[str, str] = {}
        self.mine: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        """Of ours: those that our caller has paused."""
        self.since = float("-inf")
        """When the group last gave us something (monotonic)."""
        self.unchecked: set[TopicPartition] = set()
        """Of ours: those whose topic and offsets could not be asked for yet. Nothing of them may be handed out."""

    def tell(self, what: str, partitions: list[TopicPartition]) -> None:
        """From within `poll`, on any thread. What goes wrong here is raised by that `poll` (`raise_broken`)."""
        try:
            match what:
                case "assigned":
                    self.since = time.monotonic()
                    self.mine |= set(partitions)
                    self.unchecked |= set(partitions)
                    self._begin(partitions)
                    self._hear("assigned", partitions)
                case "revoked":
                    self._hear("revoked", partitions)
                case "lost":
                    known = [each for each in partitions if each in self.mine]
                    self._forget(known)
                    self._hear("lost", known)
        except Exception as error:  # noqa: BLE001 - kafka-python would swallow it
            self._broken = error
        finally:
            if what != "assigned":
                self._forget(partitions)

    def check_again(self) -> None:
        """Ask for what could not be asked when it was assigned; BusUnavailable where that has not changed."""
        if self.unchecked:
            self._begin(sorted(self.unchecked, key=str))

    def raise_broken(self) -> None:
        """What went wrong in a rebalance: BusUnavailable is told once, anything else by every poll."""
        broken = self._broken
        if isinstance(broken, BusUnavailable):
            self._broken = None
        if broken is not None:
            raise broken

    def _hear(self, what: str, partitions: list[TopicPartition]) -> None:
        if self.listener is not None and (partitions or what == "assigned"):
            getattr(self.listener, what)(partitions)

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        self.mine -= set(partitions)
        self.unchecked -= set(partitions)
        self.paused -= set(partitions)

    def check_ids(self, ids: Mapping[str, str | None]) -> None:
        """BusGap where a topic is another one than we began to read; what is not known now is not looked at."""
        for topic, now in ids.items():
            if now and self.ids.get(topic) not in {None, "", now}:
                raise BusGap(MADE_ANEW.format(group=self._group), where=topic)

    def _begin(self, partitions: list[TopicPartition]) -> None:
        """BusGap where a topic was made anew since the group committed: its old offsets count in something that is gone."""
        if not partitions:
            return
        try:
            ids = self._topic_ids({each.topic for each in partitions})
            self.check_ids(ids)
            self.ids |= ids
            stand = self._stand_of(self._group, partitions)
            added = self._added([each for each in partitions if each not in stand])
        except BusUnavailable as error:
            self._broken = error  # the listener still hears of its partitions
            return
        for partition, (_, beside) in stand.items():
            if beside.startswith("topic=") and beside != metadata_of(self.ids.get(partition.topic)):
                raise BusGap(MADE_ANEW.format(group=self._group), where=str(partition))
        for each in added:
            log(LogEvent.PARTITION_ADDED, group=self._group, partition=str(each))
        self._begin_at({partition: offset for partition, (offset, _) in stand.items()} | dict.fromkeys(added, 0))
        self.unchecked -= set(partitions)

    def _added(self, without: list[TopicPartition]) -> list[TopicPartition]:
        """Of partitions where the group has no offset: those that the topic was given after the group had begun with it, and that still have all.

        They are read from their first record, and so nothing is skipped. A topic made anew has taken the offsets of all its partitions along.
        """
        found: list[TopicPartition] = []
        for topic in sorted({each.topic for each in without}):
            first = self._first_of(topic)
            stand = self._stand_of(self._group, first)
            ours = metadata_of(self.ids.get(topic))
            if any(beside in {"", ours} for _, beside in stand.values()):
                found += [each for each in without if each.topic == topic and each not in stand and first.get(each) == 0]
        return found
