"""The bytes of source records: from the source topic, else from the dead letters, which do not expire. Nothing is decided here.

A dead letter whose topic did not take the message (`left_out`) has no bytes, and is never taken for it. Any thread may ask. The dead letters are read where a source record is gone, and each of them once: only their places are kept in memory.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from pipeline.bus.port import Bus, TopicPartition
from pipeline.delivery.replay import received_of
from pipeline.errors import BusRefused
from pipeline.model import Position, Received
from schemas.dead_letter import PREFIX

LEFT_OUT: Final = f"{PREFIX}left_out"
SOURCE: Final = tuple(f"{PREFIX}source_{part}" for part in ("topic", "partition", "offset"))

Fits = Callable[[Received], bool]
"""Whether a record is the one that is meant: a topic that was made anew has another at the same place."""


class Payloads:
    """See the module."""

    def __init__(self, bus: Bus, dead_letters: str) -> None:
        """`dead_letters`: their topic, which need not be there yet."""
        self._bus, self._topic = bus, dead_letters
        self._guard = threading.Lock()
        self._letters: dict[str, Position] = {}
        self._next: dict[TopicPartition, int] = {}

    def find(self, position: Position, fits: Fits) -> Received | None:
        """The record as it is found, with the place where it is; None where it is nowhere any more."""
        found = self._source(position)
        if found is not None and fits(found):
            return found
        letter = self._letter(position)
        found = self._bus.fetch(letter) if letter is not None else None
        return found if found is not None and fits(received_of(position, found)) else None

    def received(self, position: Position, fits: Fits) -> Received | None:
        """The source record by its bytes, wherever they are."""
        found = self.find(position, fits)
        return received_of(position, found) if found is not None else None

    def _source(self, position: Position) -> Received | None:
        try:
            return self._bus.fetch(position)
        except BusRefused:
            if position.topic in self._bus.topics():
                raise
            return None  # the topic itself is gone

    def _letter(self, position: Position) -> Position | None:
        with self._guard:
            if str(position) not in self._letters:
                self._letters.update(self._read_on())
            return self._letters.get(str(position))

    def _read_on(self) -> Iterator[tuple[str, Position]]:
        """From where the last look ended."""
        if self._topic not in self._bus.topics():
            return
        # what is not there any more (made anew, or somebody gave it a retention) is read from what there is: to ask for it would be refused for ever
        there = self._bus.bounds(self._topic)
        known = {each: at for each, at in self._next.items() if each in there and there[each][0] <= at <= there[each][1]}
        for record in self._bus.read(self._topic, start=known):
            at = record.position
            self._next[TopicPartition(at.topic, at.partition)] = at.offset + 1
            if is_without_bytes(record):
                continue
            said = {name: value.decode("utf-8", "replace") for name, value in reversed(record.headers)}  # ours stand first
            yield "/".join(said.get(name, "") for name in SOURCE), at


def is_without_bytes(letter: Received) -> bool:
    """Whether a dead letter does not hold its message. One that has a value holds it, whatever headers its source record came with."""
    return letter.value is None and any(name == LEFT_OUT for name, _ in letter.headers)
