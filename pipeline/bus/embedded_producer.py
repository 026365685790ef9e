"""Appending to the embedded log: one writer thread takes what all threads have sent meanwhile and makes it durable in one transaction.

A record counts as appended only after SQLite's COMMIT with synchronous=FULL has returned. A batch is appended whole or not at all.
"""

import itertools
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from pipeline.bus.each import append_each
from pipeline.bus.embedded_retention import Retention
from pipeline.bus.limits import check_partition, check_record, no_such_topic
from pipeline.bus.partitioner import partition_of
from pipeline.bus.port import Record
from pipeline.bus.sqlite_log import OFFSETS, SqliteLog
from pipeline.errors import BusError, BusRefused, BusUnavailable
from pipeline.model import Position

MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Beyond these `send` waits for the writer: back-pressure instead of memory."""
BLOCK_SECONDS: Final = 30.0

Headers = tuple[tuple[str, bytes], ...]


def pack_headers(headers: Headers) -> bytes | None:
    """Headers as length-prefixed bytes; None where there are none."""
    if not headers:
        return None
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode()
        parts += (struct.pack("<II", len(encoded), len(value)), encoded, value)
    return b"".join(parts)


def unpack_headers(packed: bytes | None) -> Headers:
    """What `pack_headers` packed."""
    headers: list[tuple[str, bytes]] = []
    at = 0
    while packed is not None and at < len(packed):
        name, value = struct.unpack_from("<II", packed, at)
        middle = at + 8 + name
        headers.append((packed[at + 8 : middle].decode(), packed[middle : middle + value]))
        at = middle + value
    return tuple(headers)


@dataclass(slots=True)
class _Batch:
    """What goes into one transaction. Threads fill it under the producer's lock; then the writer alone has it."""

    rows: list[tuple[int, int, int, bytes | None, bytes | None, bytes | None]] = field(default_factory=list)
    """Partition id, timestamp, size, key, headers, value."""
    places: list[tuple[str, int]] = field(default_factory=list)
    size: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    offsets: list[int] = field(default_factory=list)
    error: BusError | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedPending:
    """One record of a batch."""

    batch: _Batch = field(repr=False)
    index: int

    def wait(self, timeout: float) -> Position:
        """See the port."""
        if not self.batch.done.wait(timeout):
            raise BusUnavailable(f"not known to be durable after {timeout:.0f} s", where=self.batch.places[self.index][0])
        if self.batch.error is not None:
            raise type(self.batch.error)(self.batch.error.message, where=self.batch.error.where)
        topic, number = self.batch.places[self.index]
        return Position(topic, number, self.batch.offsets[self.index])


class EmbeddedProducer:
    """See the port. The writer thread also does the retention, once a minute."""

    def __init__(self, log: SqliteLog, retention: Retention, clock: Callable[[], int]) -> None:
        self._log = log
        self._retention = retention
        self._clock = clock
        self._changed = threading.Condition()
        self._filling = _Batch()
        self._closing = False
        self._spread = itertools.count()
        self._known: dict[str, tuple[int, ...]] = {}
        self._connection = log.connect()
        self._writer = threading.Thread(target=self._run, name="bus-writer", daemon=True)
        self._writer.start()

    def send(self, record: Record) -> EmbeddedPending:
        """See the port. Waits while too much is on its way; BusUnavailable where that does not end."""
        size = check_record(record)
        ids = self._known.get(record.topic) or self._look_up(record.topic)
        check_partition(record, len(ids))
        number = record.partition if record.partition is not None else self._place(record, len(ids))
        stamp = record.timestamp_ms if record.timestamp_ms is not None else self._clock()
        row = (ids[number], stamp, size, record.key, pack_headers(record.headers), record.value)
        with self._changed:
            self._wait_for_room(size)
            batch = self._filling
            batch.rows.append(row)
            batch.places.append((record.topic, number))
            batch.size += size
            if len(batch.rows) == 1:
                self._changed.notify_all()
            return EmbeddedPending(batch, len(batch.rows) - 1)

    def append(self, records: Iterable[Record], timeout: float = 30.0) -> list[Position]:
        """See the port."""
        deadline = time.monotonic() + timeout
        pending = [self.send(record) for record in records]
        return [each.wait(max(0.0, deadline - time.monotonic())) for each in pending]

    def append_each(self, records: Sequence[Record], timeout: float = 30.0) -> list[Position | BusError]:
        """See the port."""
        return append_each(self, records, time.monotonic() + timeout)

    def close(self) -> None:
        """Write what waits, then let go."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_up(self, topic: str) -> tuple[int, ...]:
        with self._log.lent() as connection:
            found = connection.execute(
                "SELECT part.id FROM part JOIN topic ON topic.id = part.topic WHERE topic.name = ? ORDER BY part.number", (topic,)
            ).fetchall()
        if not found:
            raise no_such_topic(topic)
        self._known[topic] = tuple(row[0] for row in found)
        return self._known[topic]

    def _place(self, record: Record, partitions: int) -> int:
        return next(self._spread) % partitions if record.key is None else partition_of(record.key, partitions)

    def _wait_for_room(self, size: int) -> None:
        deadline = time.monotonic() + BLOCK_SECONDS
        while not self._closing and self._filling.rows and self._is_full(size):
            if not self._changed.wait(deadline - time.monotonic()):
                raise BusUnavailable("the bus does not keep up: too much waits to be written", where=str(self._log.path))
        if self._closing:
            raise BusRefused("the producer is closed", where=str(self._log.path))

    def _is_full(self, size: int) -> bool:
        return len(self._filling.rows) >= MOST_WAITING or self._filling.size + size > MOST_WAITING_BYTES

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if batch.rows:
                    self._settle(batch)
                self._retention.when_due(self._connection)
        finally:
            with self._changed:
                self._closing = True  # also after an error that nobody foresaw: nobody may wait for a writer that is gone
                left, self._filling = self._filling, _Batch()
                self._changed.notify_all()
            if left.rows:
                left.error = BusUnavailable("the producer ended before this was written", where=str(self._log.path))
                left.done.set()
            self._connection.close()

    def _next(self) -> _Batch | None:
        """What waits; an empty batch when retention is due; None when all is written and the producer closes."""
        with self._changed:
            if not self._filling.rows and not self._closing:
                self._changed.wait(self._retention.seconds_left())
            if self._closing and not self._filling.rows:
                return None
            batch, self._filling = self._filling, _Batch()
            self._changed.notify_all()
            return batch

    def _settle(self, batch: _Batch) -> None:
        try:
            batch.offsets = self._write(batch)
        except BusError as error:
            batch.error = error
        finally:
            if not batch.offsets and batch.error is None:
                batch.error = BusUnavailable("the writer failed", where=str(self._log.path))
            batch.done.set()
        if batch.error is None:
            self._log.wake.call()

    def _write(self, batch: _Batch) -> list[int]:
        """One transaction; the offset of each row."""
        now = self._clock()
        with self._log.writing(self._connection):
            ends = self._ends({row[0] for row in batch.rows})
            grown = dict.fromkeys(ends, 0)
            offsets: list[int] = []
            stored = []
            for part, stamp, size, key, headers, value in batch.rows:
                offset = ends[part]
                ends[part] += 1
                grown[part] += size
                offsets.append(offset)
                stored.append((part * OFFSETS + offset, stamp, now, size, key, headers, value))
            self._connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", stored)
            self._connection.executemany(
                "UPDATE part SET next = ?, bytes = bytes + ? WHERE id = ?", [(ends[part], grown[part], part) for part in ends]
            )
        return offsets

    def _ends(self, parts: set[int]) -> dict[int, int]:
        ends: dict[int, int] = {}
        for part in parts:
            row = self._connection.execute("SELECT next FROM part WHERE id = ?", (part,)).fetchone()
            if row is None:
                raise sqlite3.DatabaseError("a partition is gone")
            ends[part] = row[0]
        return ends
