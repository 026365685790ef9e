"""The embedded bus's file: one SQLite database, its schema, its rights and its errors. Who may append, read or delete is decided elsewhere.

Never open this file by other means in a process that has it open: closing any descriptor of it drops SQLite's locks (POSIX).
A record's row id is its partition's id and its offset in one number, so that a partition is one range of one B-tree, written at its end.
"""

import fcntl
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from pipeline.errors import BusError, BusRefused, BusUnavailable

APPLICATION_ID: Final = 0x454D5242
"""Stands in the file's header: EMRB."""
SCHEMA_VERSION: Final = 1
OFFSETS: Final = 1 << 40
"""Offsets of one partition; a record's id is `partition id * OFFSETS + offset`."""
BUSY_SECONDS: Final = 10.0
"""How long to wait for another process's transaction. Ours are short: a batch, a commit, a slice of retention."""
KEPT: Final = 4
"""Connections that wait to be used again: each has files open and pages in memory, and one rush of many threads is no reason to keep them all."""
LENT_CACHE: Final = 256
"""Kilobytes of pages that one that is lent keeps: it looks up single rows, and SQLite's 2 MB for each would fill as the file grows."""

SCHEMA: Final = (
    """CREATE TABLE topic (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL,
        retention_ms INTEGER, retention_bytes INTEGER)""",
    # first: the earliest offset that is still there; next: the offset to be given out, it never goes back; bytes: what lies between
    """CREATE TABLE part (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topic (id), number INTEGER NOT NULL,
        first INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, number))""",
    # the small columns stand first: a search by time or size then never reads the pages of a large value
    """CREATE TABLE record (
        id INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, appended_ms INTEGER NOT NULL, size INTEGER NOT NULL,
        key BLOB, headers BLOB, value BLOB)""",
    """CREATE TABLE committed (
        part INTEGER NOT NULL REFERENCES part (id), grp TEXT NOT NULL, next INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (part, grp)) WITHOUT ROWID""",
)


class Wake:
    """Tells the consumers of this process that something was appended; those of other processes look again by themselves."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def count(self) -> int:
        """To be taken before looking, and handed to `wait`."""
        with self._condition:
            return self._count

    def call(self) -> None:
        """Something was appended."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when something was appended since `seen` was taken, or after `seconds`."""
        with self._condition:
            if self._count == seen:
                self._condition.wait(seconds)


class SqliteLog:
    """The file in `folder`, made where it is not there. Connections are handed out, one to a thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bus.sqlite"
        self.locks = folder / "groups"
        self.wake = Wake()
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        try:
            _own(folder)
            _own(self.locks)
            with _locked(folder / "open.lock"):
                if not self.path.exists():
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                os.chmod(self.path, 0o600)  # noqa: PTH101 - umask or a copy may have changed it; -wal and -shm take it over
                with closing(self.connect()) as connection:
                    self._prepare(connection)
        except OSError as error:
            raise BusUnavailable(f"cannot be opened or made ({error.strerror})", where=str(error.filename or folder)) from None
        self._inode = self.path.stat().st_ino

    def connect(self) -> sqlite3.Connection:
        """A connection of the caller's own."""
        try:
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            for pragma in ("synchronous=FULL", "secure_delete=ON", "temp_store=MEMORY", "journal_size_limit=67108864"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise self.failure(error) from None
        return connection

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """A connection for a moment, SQLite's errors as ours. A transaction left open is rolled back."""
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            raise self.failure(error) from None
        finally:
            self._give_back(connection)

    @contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """One transaction, durable when the block ends; nothing of it stands where it raises."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self.failure(error) from None
        finally:
            roll_back(connection)
        self.check_in_place()

    @contextmanager
    def reading(self, connection: sqlite3.Connection) -> Iterator[None]:
        """One view of the file: what others change meanwhile is not seen."""
        try:
            connection.execute("BEGIN")
            yield
        except sqlite3.Error as error:
            raise self.failure(error) from None
        finally:
            roll_back(connection)

    def check_in_place(self) -> None:
        """BusRefused where the file was removed or replaced: SQLite would go on writing to what nobody can find again."""
        try:
            there = self.path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there:
            raise BusRefused(
                "the file was removed or replaced while it was in use; stop, put it back, start again", where=str(self.path)
            )

    def failure(self, error: sqlite3.Error) -> BusError:
        """SQLite's error as ours, one line, without any value."""
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, message = _FAILURES.get(primary, (BusRefused, "unexpected"))
        return kind(f"{message} ({name})", where=str(self.path))

    def close(self) -> None:
        """Close the connections that wait; those that are lent close when they come back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise BusRefused("the bus was closed", where=str(self.path))
            if self._idle:
                return self._idle.pop()
        connection = self.connect()
        connection.execute(f"PRAGMA cache_size=-{LENT_CACHE}")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        roll_back(connection)
        with self._guard:
            if not self._closed and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            mark, version, tables = (
                connection.execute(question).fetchone()[0]
                for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
            )
            if mark == 0 and version == 0 and tables == 0:
                self._make(connection)
            elif mark != APPLICATION_ID:
                raise BusRefused(
                    "is a SQLite file, but not a bus of emr-pipeline; give the bus a folder of its own", where=str(self.path)
                )
            elif version > SCHEMA_VERSION:
                raise BusRefused(f"was made by a newer emr-pipeline (schema {version}); use that one", where=str(self.path))
        except sqlite3.Error as error:
            raise self.failure(error) from None

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before the first table, else it has no effect
        connection.execute("PRAGMA journal_mode=WAL")
        with self._in_exclusive(connection):
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def _in_exclusive(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            roll_back(connection)


_FAILURES: Final[dict[int, tuple[type[BusError], str]]] = {
    sqlite3.SQLITE_FULL: (BusUnavailable, "the disk is full, nothing was stored; make room, then it goes on"),
    sqlite3.SQLITE_BUSY: (BusUnavailable, f"another process has held the file for {BUSY_SECONDS:.0f} s"),
    sqlite3.SQLITE_LOCKED: (BusUnavailable, "another thread holds the file"),
    sqlite3.SQLITE_IOERR: (BusUnavailable, "cannot be read or written; look at the disk"),
    sqlite3.SQLITE_NOMEM: (BusUnavailable, "no memory"),
    sqlite3.SQLITE_CANTOPEN: (BusUnavailable, "cannot be opened; look at the folder's rights"),
    sqlite3.SQLITE_READONLY: (BusRefused, "this user may not write it; look at owner and rights"),
    sqlite3.SQLITE_PERM: (BusRefused, "this user may not use it; look at owner and rights"),
    sqlite3.SQLITE_NOTADB: (
        BusRefused,
        "is not a SQLite file, so no bus of emr-pipeline; move it away or give the bus another folder",
    ),
    sqlite3.SQLITE_CORRUPT: (
        BusRefused,
        "is damaged; stop all that use it, keep a copy, and recover it with: sqlite3 FILE .recover",
    ),
}


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that is still open; SQLite may have done so itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _own(folder: Path) -> None:
    """Make the folder for its owner alone; tighten one that is ours. Of another's folder only the files in it are our concern."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(folder.parent)
    state = folder.stat()
    if state.st_uid == os.geteuid() and stat.S_IMODE(state.st_mode) & 0o077:
        folder.chmod(0o700)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time makes or opens the file; the kernel lets go of the lock when a process dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
