"""The embedded bus: durable topics in one SQLite file, for one machine and many processes. See port.py for what each method promises.

It has no rebalancing: a group has one live member. Nothing here skips a record, and nothing is stored that was not asked for.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.bus.embedded_consumer import COLUMNS, EmbeddedConsumer, GroupLock, parts_of, received, rows_from
from pipeline.bus.embedded_producer import EmbeddedProducer
from pipeline.bus.embedded_retention import Retention, wall_ms
from pipeline.bus.limits import check_name
from pipeline.bus.port import RebalanceListener, TopicPartition, TopicSettings, Where
from pipeline.bus.sqlite_log import OFFSETS, SqliteLog
from pipeline.errors import BusRefused, Refused
from pipeline.model import Position, Received

PAGE: Final = 500
"""Records that `read` takes at a time."""


class EmbeddedBus:
    """Topics in `folder`, which is made where it is not there. `clock` is the wall clock in milliseconds."""

    def __init__(self, folder: Path, *, clock: Callable[[], int] = wall_ms) -> None:
        self._log = SqliteLog(folder)
        self._clock = clock
        self._producers: list[EmbeddedProducer] = []
        self._consumers: list[EmbeddedConsumer] = []

    def producer(self) -> EmbeddedProducer:
        """See the port."""
        producer = EmbeddedProducer(self._log, Retention(self._log, self._clock), self._clock)
        self._producers.append(producer)
        return producer

    def consumer(self, group: str, topics: Sequence[str], *, listener: RebalanceListener | None = None) -> EmbeddedConsumer:
        """See the port."""
        check_name(group, "group")
        consumer = EmbeddedConsumer(self._log, group, topics, listener)
        self._consumers.append(consumer)
        return consumer

    def start(self, group: str, topics: Sequence[str], where: Where | int) -> dict[TopicPartition, int]:
        """See the port; returns what was committed now, so nothing where the group had begun before."""
        check_name(group, "group")
        started: dict[TopicPartition, int] = {}
        now = time.time_ns() // 1_000_000
        with self._log.lent() as connection, self._log.writing(connection):
            for partition, part in (item for topic in topics for item in parts_of(connection, topic).items()):
                held = connection.execute("SELECT 1 FROM committed WHERE part = ? AND grp = ?", (part, group)).fetchone()
                if held is None:
                    started[partition] = _find(connection, part, where)
                    connection.execute("INSERT INTO committed VALUES (?, ?, ?, ?)", (part, group, started[partition], now))
        return started

    def move(self, group: str, partitions: Sequence[TopicPartition], where: Where | int) -> dict[TopicPartition, int]:
        """See the port."""
        check_name(group, "group")
        try:
            lock = GroupLock(self._log.locks, group)
        except Refused:
            raise Refused("the group has live members: stop its workers first", where=group) from None
        now = time.time_ns() // 1_000_000
        try:
            with self._log.lent() as connection, self._log.writing(connection):
                parts = {
                    each: part
                    for topic in {one.topic for one in partitions}
                    for each, part in parts_of(connection, topic).items()
                }
                moved = {each: _find(connection, parts[each], where) for each in partitions}
                connection.executemany(
                    "INSERT INTO committed VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next, at_ms = excluded.at_ms",
                    [(parts[each], group, offset, now) for each, offset in moved.items()],
                )
        finally:
            lock.release()
        return moved

    def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        """See the port."""
        return {each: offset for each, offset in self.groups().get(group, {}).items() if each.topic == topic}

    def create_topics(self, topics: Iterable[TopicSettings]) -> list[str]:
        """See the port."""
        wanted = list(topics)
        for topic in wanted:
            check_name(topic.name, "topic")
            if topic.partitions < 1:
                raise BusRefused("a topic has one partition or more", where=topic.name)
        with self._log.lent() as connection, self._log.writing(connection):
            made = []
            for topic in wanted:
                row = connection.execute(
                    "INSERT INTO topic (name, partitions, retention_ms, retention_bytes) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING RETURNING id",
                    (topic.name, topic.partitions, topic.retention_ms, topic.retention_bytes),
                ).fetchone()
                if row is not None:
                    numbers = [(row[0], number) for number in range(topic.partitions)]
                    connection.executemany("INSERT INTO part (topic, number) VALUES (?, ?)", numbers)
                    made.append(topic.name)
        return made

    def described(self, topic: str) -> TopicSettings | None:
        """See the port."""
        with self._log.lent() as connection:
            row = connection.execute(
                "SELECT name, partitions, retention_ms, retention_bytes FROM topic WHERE name = ?", (topic,)
            ).fetchone()
        return TopicSettings(*row) if row else None

    def topics(self) -> dict[str, int]:
        """See the port."""
        with self._log.lent() as connection:
            return dict(connection.execute("SELECT name, partitions FROM topic ORDER BY name").fetchall())

    def bounds(self, topic: str) -> dict[TopicPartition, tuple[int, int]]:
        """See the port."""
        with self._log.lent() as connection, self._log.reading(connection):
            parts = parts_of(connection, topic)
            return {
                partition: connection.execute("SELECT first, next FROM part WHERE id = ?", (part,)).fetchone()
                for partition, part in parts.items()
            }

    def read(
        self, topic: str, *, start: Mapping[TopicPartition, int] | None = None, most: int | None = None
    ) -> Iterator[Received]:
        """See the port. Partition after partition; BusRefused where a given start is not there."""
        bounds = self.bounds(topic)
        with self._log.lent() as connection:
            parts = parts_of(connection, topic)
        starts = {partition: (start or {}).get(partition, first) for partition, (first, _) in bounds.items()}
        for partition, at in starts.items():
            first, end = bounds[partition]
            if not first <= at <= end:
                raise BusRefused(f"offset {at} is not there: the partition has {first} to {end}", where=str(partition))
        return self._pages(parts, starts, bounds, most)

    def fetch(self, position: Position) -> Received | None:
        """See the port."""
        partition = TopicPartition(position.topic, position.partition)
        with self._log.lent() as connection:
            part = parts_of(connection, position.topic).get(partition)
            if part is None or not 0 <= position.offset < OFFSETS:
                return None
            row = connection.execute(
                f"SELECT {COLUMNS} FROM record WHERE id = ?",  # noqa: S608 - a constant
                (part * OFFSETS + position.offset,),
            ).fetchone()
        return received(partition, row) if row else None

    def groups(self) -> dict[str, dict[TopicPartition, int]]:
        """Every group that has committed, and where it stands: what it has not committed is kept."""
        found: dict[str, dict[TopicPartition, int]] = {}
        with self._log.lent() as connection:
            rows = connection.execute(
                "SELECT grp, name, number, committed.next FROM committed JOIN part ON part.id = committed.part"
                " JOIN topic ON topic.id = part.topic ORDER BY grp, name, number"
            ).fetchall()
        for group, topic, number, offset in rows:
            found.setdefault(group, {})[TopicPartition(topic, number)] = offset
        return found

    def forget_group(self, group: str) -> None:
        """Drop a group that nobody uses any more, so that retention need not keep for it. Refused while it has a live member."""
        check_name(group, "group")
        lock = GroupLock(self._log.locks, group)
        try:
            with self._log.lent() as connection, self._log.writing(connection):
                connection.execute("DELETE FROM committed WHERE grp = ?", (group,))
        finally:
            lock.release()

    def retain(self) -> int:
        """Do the retention now; how many records went. Producers do it by themselves, once a minute."""
        with self._log.lent() as connection:
            return Retention(self._log, self._clock).run(connection)

    def close(self) -> None:
        """Close what was handed out, then the file."""
        for consumer in self._consumers:
            consumer.close()
        for producer in self._producers:
            producer.close()
        self._log.close()

    def _pages(
        self,
        parts: Mapping[TopicPartition, int],
        starts: Mapping[TopicPartition, int],
        bounds: Mapping[TopicPartition, tuple[int, int]],
        most: int | None,
    ) -> Iterator[Received]:
        left = most
        for partition, at in starts.items():
            position, end = at, bounds[partition][1]
            while position < end and left != 0:
                with self._log.lent() as connection:
                    rows = rows_from(connection, parts[partition], position, end, PAGE if left is None else min(PAGE, left))
                if not rows:
                    break  # retention has taken the rest meanwhile
                for row in rows:
                    yield received(partition, row)
                position = rows[-1][0] % OFFSETS + 1
                left = None if left is None else left - len(rows)


def _find(connection: sqlite3.Connection, part: int, where: Where | int) -> int:
    """The offset to start at: the earliest, the end, or the first record that is not older than a time."""
    first, end = connection.execute("SELECT first, next FROM part WHERE id = ?", (part,)).fetchone()
    if isinstance(where, Where):
        return int(first if where is Where.EARLIEST else end)
    row = connection.execute(
        "SELECT id FROM record WHERE id >= ? AND id < ? AND timestamp_ms >= ? ORDER BY id LIMIT 1",
        (part * OFFSETS + first, part * OFFSETS + end, where),
    ).fetchone()
    return int(row[0] % OFFSETS if row else end)
