"""Reading the embedded log as a group: one live member, kept so by a lock of the operating system that dies with its process.

A position comes from what the group committed, or from `seek`; without either `poll` refuses. Nothing is committed by itself.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pipeline.bus.embedded_producer import unpack_headers
from pipeline.bus.limits import no_such_topic
from pipeline.bus.port import RebalanceListener, TopicPartition
from pipeline.bus.sqlite_log import OFFSETS, SqliteLog
from pipeline.errors import BusGap, BusRefused, BusUnavailable, Refused
from pipeline.model import Position, Received

LOOK_SECONDS: Final = 0.02
"""How often another process's appends are looked for; those of this process wake the consumer at once."""
MOST_POLL_BYTES: Final = 48 * 1024 * 1024
"""A poll stops after the record that passes this, whatever `most` says."""

Row = tuple[int, int, bytes | None, bytes | None, bytes | None]
COLUMNS: Final = "id, timestamp_ms, key, headers, value"


def received(partition: TopicPartition, row: Row) -> Received:
    """A row as a record."""
    identity, stamp, key, headers, value = row
    position = Position(partition.topic, partition.partition, identity % OFFSETS)
    return Received(position, value, key, unpack_headers(headers), stamp)


def rows_from(connection: sqlite3.Connection, part: int, start: int, end: int, most: int) -> list[Row]:
    """Records of a partition from `start` up to before `end`: up to `most`, or a poll's bytes."""
    rows: list[Row] = []
    size = 0
    cursor = connection.execute(
        f"SELECT {COLUMNS}, size FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",  # noqa: S608 - a constant
        (part * OFFSETS + start, part * OFFSETS + end, most),
    )
    for *row, bytes_of in cursor:
        rows.append((row[0], row[1], row[2], row[3], row[4]))
        size += bytes_of
        if size > MOST_POLL_BYTES:
            break
    cursor.close()
    return rows


def parts_of(connection: sqlite3.Connection, topic: str) -> dict[TopicPartition, int]:
    """The partitions of a topic and their ids; BusRefused where there is no such topic."""
    found = connection.execute(
        "SELECT part.number, part.id FROM part JOIN topic ON topic.id = part.topic WHERE topic.name = ? ORDER BY part.number",
        (topic,),
    ).fetchall()
    if not found:
        raise no_such_topic(topic)
    return {TopicPartition(topic, number): part for number, part in found}


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BusUnavailable(f"the group's lock cannot be opened ({error.strerror})", where=str(path)) from None


class GroupLock:
    """The right to be the one member of a group on this machine."""

    def __init__(self, folder: Path, group: str) -> None:
        path = folder / f"{group}.lock"
        self._descriptor: int | None = _open(path)
        try:
            os.fchmod(self._descriptor, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise Refused(
                f"the group has a live member already (process {holder}); stop that one, or give this route a group of its own",
                where=group,
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class EmbeddedConsumer:
    """See the port. All partitions are its own from the start; the listener hears so in the first `poll`."""

    def __init__(self, log: SqliteLog, group: str, topics: Sequence[str], listener: RebalanceListener | None) -> None:
        self._log = log
        self._group = group
        self._untold = listener
        self._paused: set[TopicPartition] = set()
        self._sought: dict[TopicPartition, int] = {}
        self._turn = 0
        self._lock = GroupLock(log.locks, group)
        try:
            self._connection = log.connect()
            with log.reading(self._connection):
                self._parts = {each: part for topic in topics for each, part in parts_of(self._connection, topic).items()}
                self._positions = self._committed(self._parts)
        except BaseException:
            self._lock.release()
            raise
        self._closed = False

    def poll(self, timeout: float, most: int = 500) -> list[Received]:
        """See the port. A waiting poll looks again when this process appends, and every 20 ms for other processes."""
        self._check_open()
        if self._untold is not None:
            listener, self._untold = self._untold, None
            listener.assigned(list(self._parts))
        deadline = time.monotonic() + timeout
        while True:
            seen = self._log.wake.count()
            if found := self._fetch(most):
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            self._log.wake.wait(seen, min(left, LOOK_SECONDS))

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port. BusRefused for a partition that is not ours, or an offset outside of what the partition has."""
        self._check_open()
        now = time.time_ns() // 1_000_000
        with self._log.writing(self._connection):
            for partition, offset in offsets.items():
                self._check_within(partition, offset)
                self._connection.execute(
                    "INSERT INTO committed VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next, at_ms = excluded.at_ms",
                    (self._part(partition), self._group, offset, now),
                )

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """See the port."""
        self._check_open()
        with self._log.reading(self._connection):
            return self._committed(partitions)

    def position(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """See the port."""
        self._check_open()
        stand = {each: self._positions.get(each) for each in partitions}
        return {each: at for each, at in stand.items() if at is not None}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """See the port. An offset that is not there is refused by the next `poll`."""
        self._part(partition)
        self._positions[partition] = offset

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        self._paused |= {each for each in partitions if self._part(each)}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """See the port."""
        self._paused -= set(partitions)

    def assignment(self) -> frozenset[TopicPartition]:
        """See the port."""
        return frozenset(() if self._closed else self._parts)

    def close(self) -> None:
        """See the port."""
        if not self._closed:
            self._closed = True
            self._connection.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise BusRefused("the consumer is closed", where=self._group)

    def _part(self, partition: TopicPartition) -> int:
        try:
            return self._parts[partition]
        except KeyError:
            raise BusRefused(f"is no partition of this consumer of {self._group}", where=str(partition)) from None

    def _committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        found: dict[TopicPartition, int | None] = {}
        for partition in partitions:
            row = self._connection.execute(
                "SELECT next FROM committed WHERE part = ? AND grp = ?", (self._part(partition), self._group)
            ).fetchone()
            found[partition] = row[0] if row else None
        return found

    def _bounds(self, partition: TopicPartition) -> tuple[int, int]:
        first, end = self._connection.execute("SELECT first, next FROM part WHERE id = ?", (self._part(partition),)).fetchone()
        return first, end

    def _check_within(self, partition: TopicPartition, offset: int) -> None:
        first, end = self._bounds(partition)
        if not first <= offset <= end:
            raise BusGap(
                f"offset {offset} of the group {self._group} is not there: the partition has {first} to {end}. Nothing was skipped;"
                " decide where to go on: emr-pipeline topics start --again (runbook: offset_gone)",
                where=str(partition),
            )

    def _fetch(self, most: int) -> list[Received]:
        """What there is now. Each call begins with another partition, so that a long one does not starve the others."""
        active = [each for each in self._parts if each not in self._paused]
        self._turn += 1
        found: list[Received] = []
        with self._log.reading(self._connection):
            for index in range(len(active)):
                partition = active[(self._turn + index) % len(active)]
                found += self._of(partition, most - len(found))
                if len(found) >= most:
                    break
        for record in found:
            self._positions[TopicPartition(record.position.topic, record.position.partition)] = record.position.offset + 1
        return found

    def _of(self, partition: TopicPartition, most: int) -> list[Received]:
        at = self._positions[partition]
        if at is None:
            raise BusGap(
                f"the group {self._group} has no offset here: start it first, emr-pipeline topics start --at earliest|latest|TIME --route R (runbook: offset_gone)",
                where=str(partition),
            )
        self._check_within(partition, at)
        first, end = self._bounds(partition)
        if at == end:
            return []
        rows = rows_from(self._connection, self._parts[partition], at, end, most)
        if [row[0] % OFFSETS for row in rows] != list(range(at, at + len(rows))) or not rows:
            raise BusRefused(f"records are missing between {first} and {end}: the file is damaged", where=str(partition))
        return [received(partition, row) for row in rows]
