"""The topic of HL7 messages that names the dossiers of a watch: read by a group of its own, and committed once what it names is in the ledger."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.bus.port import Consumer, TopicPartition
from pipeline.delivery.steady import Outages
from pipeline.errors import BusError, BusLost, BusRebalancing, BusUnavailable

BATCH: Final = 500


class Source:
    """See the module. One thread."""

    def __init__(
        self,
        consumer: Consumer,
        named: Callable[[bytes | None], tuple[str, ...]],
        learn: Callable[[tuple[str, ...]], None],
        outages: Outages,
        stop: threading.Event,
    ) -> None:
        """`learn` returns when it is durable."""
        self._consumer, self._named, self._learn, self._outages, self._stop = consumer, named, learn, outages, stop

    def read(self, timeout: float) -> None:
        """Learn from what comes within `timeout` seconds. BusGap where records were lost: a person decides."""
        try:
            records = self._consumer.poll(timeout, BATCH)
        except BusUnavailable as error:
            self._outages.gone(error, "poll")
            self._stop.wait(timeout)
            return
        self._outages.back(BusError, "poll")
        found = tuple(dict.fromkeys(one for received in records for one in self._named(received.value)))
        if found:
            self._learn(found)
        if records:
            at = (received.position for received in records)
            self._commit({TopicPartition(one.topic, one.partition): one.offset + 1 for one in at})

    def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """A refusal costs nothing: what is read again is known already."""
        try:
            self._consumer.commit(offsets)
        except (BusRebalancing, BusLost):
            return
        except BusUnavailable as error:
            self._outages.gone(error, "commit")
            return
        self._outages.back(BusError, "commit")

    def is_past(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether all that stood before these was read."""
        try:
            read = self._consumer.position(ends)
        except BusUnavailable:
            return False
        return all(read.get(partition, 0) >= end for partition, end in ends.items())
