"""What the embedded log forgets, and when: what is older or more than the topic keeps, and never what a group has not committed.

Every group that ever committed on a topic counts until somebody forgets it (`EmbeddedBus.forget_group`); a topic without groups
follows age and size alone. A partition's share of the topic's bytes is equal for all, as on Kafka. Offsets are never given out again.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.bus.sqlite_log import OFFSETS, SqliteLog
from pipeline.errors import BusUnavailable

EVERY_SECONDS: Final = 60.0
SLICE: Final = 1_000
"""Records per transaction, so that senders never wait long for the file."""
SPARE_PAGES: Final = 4_096
"""Free pages that the file keeps for what comes next; more are given back to the disk."""


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Part:
    """A partition with what decides about it."""

    id: int
    first: int
    limit: int
    """Nothing from here on may go: a group has not committed it, or it is not written yet."""
    bytes: int
    keep_ms: int | None
    keep_bytes: int | None


class Retention:
    """Forgets in small transactions. `clock` is the wall clock: age is counted from when a record was appended, not from its timestamp."""

    def __init__(self, log: SqliteLog, clock: Callable[[], int] = wall_ms) -> None:
        self._log = log
        self._clock = clock
        self._due = time.monotonic() + EVERY_SECONDS

    def seconds_left(self) -> float:
        """Until the next time."""
        return max(0.0, self._due - time.monotonic())

    def when_due(self, connection: sqlite3.Connection) -> None:
        """Forget, where it is time. A file that is away or full is the next append's news, which somebody waits for."""
        if self.seconds_left() > 0:
            return
        self._due = time.monotonic() + EVERY_SECONDS
        try:
            self.run(connection)
        except BusUnavailable:
            return

    def run(self, connection: sqlite3.Connection) -> int:
        """Forget all that may go; how many records that were."""
        gone = 0
        with self._log.reading(connection):
            parts = [row[0] for row in connection.execute("SELECT part.id FROM part ORDER BY id")]
        for part in parts:
            while slice_gone := self._slice(connection, part):
                gone += slice_gone
        if gone:
            self._shrink(connection)
        return gone

    def _slice(self, connection: sqlite3.Connection, part_id: int) -> int:
        with self._log.reading(connection):  # a look first: mostly there is nothing to do, and then nobody's write has to wait
            if self._cut(connection, _look(connection, part_id))[0] == 0:
                return 0
        with self._log.writing(connection):
            part = _look(connection, part_id)
            gone, size = self._cut(connection, part)
            connection.execute(
                "DELETE FROM record WHERE id >= ? AND id < ?",
                (part.id * OFFSETS + part.first, part.id * OFFSETS + part.first + gone),
            )
            connection.execute("UPDATE part SET first = first + ?, bytes = bytes - ? WHERE id = ?", (gone, size, part.id))
        return gone

    def _cut(self, connection: sqlite3.Connection, part: _Part) -> tuple[int, int]:
        """How many of the oldest records go now, and their bytes."""
        if part.first >= part.limit or (part.keep_ms is None and part.keep_bytes is None):
            return 0, 0
        oldest = connection.execute(
            "SELECT appended_ms, size FROM record WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (part.id * OFFSETS + part.first, part.id * OFFSETS + part.limit, SLICE),
        )
        now, gone, size = self._clock(), 0, 0
        for appended_ms, record_size in oldest.fetchall():
            too_old = part.keep_ms is not None and appended_ms < now - part.keep_ms
            too_many = part.keep_bytes is not None and part.bytes - size > part.keep_bytes
            if not (too_old or too_many):
                break
            gone += 1
            size += record_size
        return gone, size

    def _shrink(self, connection: sqlite3.Connection) -> None:
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free > SPARE_PAGES:
            connection.execute(f"PRAGMA incremental_vacuum({free - SPARE_PAGES})").fetchall()


def _look(connection: sqlite3.Connection, part_id: int) -> _Part:
    """A partition. A group that has committed anywhere on the topic, but not here, holds all of it."""
    topic, first, end, size, keep_ms, keep_bytes, partitions = connection.execute(
        "SELECT topic.id, first, next, bytes, retention_ms, retention_bytes, partitions FROM part JOIN topic ON topic.id = part.topic"
        " WHERE part.id = ?",
        (part_id,),
    ).fetchone()
    held = connection.execute(
        "SELECT MIN(COALESCE(here.next, ?)) FROM"
        " (SELECT DISTINCT grp FROM committed JOIN part ON part.id = committed.part WHERE part.topic = ?) AS known"
        " LEFT JOIN committed AS here ON here.grp = known.grp AND here.part = ?",
        (first, topic, part_id),
    ).fetchone()[0]
    limit = end if held is None else min(end, held)
    return _Part(part_id, first, limit, size, keep_ms, None if keep_bytes is None else keep_bytes // partitions)
