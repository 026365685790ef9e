"""Onto the topic, each once: intent, topic, ledger, in this order. What is about to be appended stands in the ledger with the topic's ends before it.

Whoever finds an open intent looks what stands behind these ends; that is remembered, and what does not stand there is found again by the next question.
So a kill at any point, or an append of which nobody knows what it did, doubles nothing.
"""

from collections.abc import Callable, Sequence

from pipeline.bus.port import Bus, Producer, Record, TopicPartition
from pipeline.delivery.steady import Steady
from pipeline.ledger.watching import Appending, Item, Watches
from pipeline.model import Clock
from pipeline.watch.core import missing
from pipeline.watch.records import known_by


class Appender:
    """Of one watch; one thread."""

    def __init__(self, watch: str, holder: str, into: str, *, bus: Bus, watches: Watches, steady: Steady, clock: Clock) -> None:
        """`steady` tries again until a stop; what is then begun is found by the next start."""
        self._watch, self._holder, self._into = watch, holder, into
        self._bus, self._watches, self._steady, self._clock = bus, watches, steady, clock
        self._producer: Producer | None = None

    def look_back(self) -> None:
        """At the start: what an intent that is open brought about is remembered."""
        appending = self._watches.appending(self._watch)
        if appending is not None:
            gone = {item.record for item in missing(appending.items, self._standing(appending))}
            there = [item for item in appending.items if item.record not in gone]
            self._watches.done(self._watch, there, self._clock())

    def append(self, items: Sequence[Item], records: Sequence[Record]) -> None:
        """All of them; each item is that of the record in its place. Stopped where a stop came before they were durable."""
        ends = self._steady(lambda: self._bus.bounds(self._into))
        appending = Appending({partition.partition: end for partition, (_, end) in ends.items()}, tuple(items))
        self._steady(lambda: self._watches.begin(self._watch, self._holder, appending))
        self._steady(self._putting(appending, records))
        self._steady(lambda: self._watches.done(self._watch, items, self._clock()))

    def close(self) -> None:
        """Flush and let go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def _putting(self, appending: Appending, records: Sequence[Record]) -> Callable[[], None]:
        """From the second try on only what does not stand there, looked at after the producer before has let go of it."""
        tried = False

        def put() -> None:
            nonlocal tried
            left = list(records)
            if tried:
                self.close()
                gone = set(missing(appending.items, self._standing(appending)))
                left = [record for record, item in zip(records, appending.items, strict=True) if item in gone]
            tried = True
            if self._producer is None:
                self._producer = self._bus.producer()
            self._producer.append(left)

        return put

    def _standing(self, appending: Appending) -> frozenset[str]:
        """What stands behind the ends of an intent. A partition that was added since is read from its beginning."""
        start = {TopicPartition(self._into, partition): end for partition, end in appending.ends.items()}
        return frozenset(one for received in self._bus.read(self._into, start=start) if (one := known_by(received)) is not None)
