"""What is settled goes onto its topics: results and dead letters, in batches, durable, marked in the ledger; only then may the offset pass.

One thread. A topic that cannot be written is tried until it can be; meanwhile nothing passes, and `waiting` grows until the loop reads no more.
What is durable is not written again because another record is not: that is a process's end alone. A dead letter that its topic does not take for
its size is written without what is large; a result that is refused for its size is a defect, and nothing passes it.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.bus.port import Producer, Record
from pipeline.delivery.steady import Steady, Stopped
from pipeline.errors import BusError, BusTooLarge
from pipeline.failpoints import Point, reach
from pipeline.ledger.port import Ledger
from pipeline.model import Position
from pipeline.telemetry import LogEvent, log

BATCH: Final = 256
EMIT_SECONDS: Final = 10.0
"""How long records may take to be durable before the bus counts as away; they are then written again, results under the same id."""


@dataclass(frozen=True, slots=True)
class Emission:
    """Records of one message."""

    records: tuple[Record, ...] = field(repr=False)
    settled: tuple[Position, str] | None = None
    """What is marked in the ledger as emitted, the record and its result id; None for an attempt that did not settle."""
    then: Callable[[], None] | None = None
    """Called once they are durable."""
    letters: tuple[Record, ...] = field(default=(), repr=False)
    """Its dead letter, and what stands for it where that is too large: the first one that its topic takes is written, and no other."""
    at: Position | None = None
    """The record that an attempt was for, which `settled` does not say."""


@dataclass(frozen=True, slots=True)
class _Due:
    """What is not durable yet: a record, or the `way`th of those that stand for one another."""

    ways: tuple[Record, ...] = field(repr=False)
    at: Position | None
    way: int = 0

    @property
    def record(self) -> Record:
        return self.ways[self.way]

    @property
    def smaller(self) -> "_Due | None":
        return replace(self, way=self.way + 1) if self.way + 1 < len(self.ways) else None

    def hindered(self, error: BusError) -> BusError:
        """The error, with the source record's position where it is for this record alone."""
        if not isinstance(error, BusTooLarge):
            return error
        what = "a dead letter, even without the message," if self.way else "a result"
        return BusTooLarge(f"{what} of {self.at} is not taken, so no offset passes ({error.message})", where=error.where)


class Emitter:
    """See the module."""

    def __init__(self, route: str, producer: Producer, ledger: Ledger, steady: Steady) -> None:
        """`producer` stays the caller's to close."""
        self._route, self._producer, self._ledger, self._steady = route, producer, ledger, steady
        self._changed = threading.Condition()
        self._waiting: deque[Emission] = deque()
        self._writing = 0
        self._results: set[bytes | None] = set()
        """The settled results among these: one that is found settled meanwhile is on its way already."""
        self._closed = False
        self.stuck = False
        """The topics could not be written the last time."""
        self.failed: BaseException | None = None
        """What ended it before it was closed."""
        self._thread = threading.Thread(target=self._run, name=f"{route}-emitter", daemon=True)
        self._thread.start()

    def put(self, emission: Emission) -> None:
        """Take it; it is durable when `then` is called."""
        with self._changed:
            if emission.settled is not None:
                if emission.records[0].value in self._results:
                    return
                self._results.add(emission.records[0].value)
            self._waiting.append(emission)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Messages whose records are not durable yet."""
        return len(self._waiting) + self._writing

    def flush(self, seconds: float) -> bool:
        """Wait for all that was put; whether it is durable within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.waiting or self.failed is not None, seconds) and not self.waiting

    def close(self) -> None:
        """End the thread; what waits stays unwritten, and is written after the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._take():
                self._write(batch)
                with self._changed:
                    self._writing = 0
                    self._results -= {emission.records[0].value for emission in batch if emission.settled is not None}
                    self._changed.notify_all()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it
            self.failed = error
            with self._changed:
                self._changed.notify_all()

    def _take(self) -> list[Emission]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            self._writing = len(batch)
            return batch

    def _write(self, batch: list[Emission]) -> None:
        due = [one for emission in batch for one in _due(emission)]
        self._steady(lambda: self._append(due))
        settled = [emission.settled for emission in batch if emission.settled is not None]
        for _ in settled:
            reach(Point.AFTER_RESULT_PRODUCED)  # once for each message: a slow bus makes batches large
        if settled:
            self._steady(lambda: self._ledger.emitted(self._route, settled))
        for emission in batch:
            if emission.then is not None:
                emission.then()

    def _append(self, due: list[_Due]) -> None:
        """Until nothing is due any more. What became durable is taken out of `due` also where the rest was hindered."""
        try:
            while due:
                self._round(due)
        except BusError:
            self.stuck = True
            raise
        self.stuck = False

    def _round(self, due: list[_Due]) -> None:
        left: list[_Due] = []
        hindered: list[BusError] = []
        for one, became in zip(due, self._producer.append_each([each.record for each in due], EMIT_SECONDS), strict=True):
            if isinstance(became, Position):
                self._tell(one)
            elif isinstance(became, BusTooLarge) and (smaller := one.smaller):
                left.append(smaller)
            else:
                left.append(replace(one, way=0))  # the topic may take it whole when it can be written again
                hindered.append(one.hindered(became))
        due[:] = left
        if hindered:
            raise hindered[0]

    def _tell(self, one: _Due) -> None:
        if one.way:
            log(
                LogEvent.DEAD_LETTER_WITHOUT_BYTES,
                route=self._route,
                at=str(one.at),
                topic=one.record.topic,
                bytes=len(one.ways[0].value or b""),
                do="raise max.message.bytes of that topic (doctor says to what), and replay or discard this record before its source topic forgets it",
            )


def _due(emission: Emission) -> list[_Due]:
    at = emission.settled[0] if emission.settled is not None else emission.at
    whole = [_Due((record,), at) for record in emission.records]
    return [*whole, _Due(emission.letters, at)] if emission.letters else whole
