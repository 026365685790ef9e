"""The way to the database: connections with the durability that the promises rest on, and errors as one line without a value.

SQLite: WAL, synchronous=FULL, files readable by their owner alone. PostgreSQL: psycopg, synchronous_commit=on.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, CompileError, IntegrityError, InterfaceError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.errors import DatabaseError, SettingsError

BUSY_SECONDS: Final = 10
"""How long one writer waits for another before it gives up; and how long a process that stands still in mid-transaction keeps what it has locked (PostgreSQL)."""
SUPPORTED: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
WRITE: Final = {"ours_write": True}
READ: Final = {"ours_read": True}
"""For single statements: each is a snapshot by itself, and needs neither BEGIN nor ROLLBACK."""
CACHE: Final = 1024
"""Kilobytes of pages that a connection to SQLite keeps, half of what it would: they fill as the file grows."""
CONNECTIONS: Final = 8
"""Kept, and no more made for a rush: to open one costs more than to wait for one, and a worker has up to a thousand threads."""


MAKING: Final = threading.Lock()
"""So that no thread connects to a file that another one still holds as it made it."""


@dataclass(frozen=True, slots=True)
class Named:
    """Which of our databases it is: what people call it, and whose error it raises."""

    noun: str
    """As ledger."""
    setting: str
    """The section of the settings."""
    error: type[DatabaseError]


def parse(named: Named, url: str, password: str | None) -> URL:
    """The address, checked; SettingsError where it is none of ours. A password in it is taken, and never shown."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(
            f"not an address, as sqlite:///{named.setting}.sqlite or postgresql+psycopg://user@host/database",
            where=f"{named.setting}.url",
        ) from None
    driver = SUPPORTED.get(parsed.drivername)
    if driver is None:
        raise SettingsError(f"{parsed.drivername} is not supported: sqlite or postgresql+psycopg", where=f"{named.setting}.url")
    parsed = parsed.set(drivername=driver)
    if driver == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise SettingsError(
            f"a {named.noun} in memory would forget: give a file, as sqlite:///{named.setting}.sqlite",
            where=f"{named.setting}.url",
        )
    return parsed.set(password=password) if password is not None else parsed


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database."""
    return Path(url.database) if url.drivername == "sqlite" and url.database else None


def make_engine(named: Named, url: URL) -> Engine:
    """An engine; nothing is opened and no file is made yet."""
    try:
        if sqlite_file(url) is not None:
            return _sqlite(url)
        ours = f"-c synchronous_commit=on -c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={BUSY_SECONDS}s"
        return create_engine(
            url,
            hide_parameters=True,
            pool_size=CONNECTIONS,
            max_overflow=0,
            connect_args={
                "connect_timeout": 5,
                "tcp_user_timeout": 15_000,
                "application_name": "emr-pipeline",
                "options": f"{_text(url.query.get('options', ''))} {ours}",
            },
        )
    except (NoSuchModuleError, ImportError):
        raise SettingsError(
            "the driver is not installed: psycopg comes with the program, install it again", where=f"{named.setting}.url"
        ) from None


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=CONNECTIONS,
        max_overflow=0,
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        _write_ahead(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"cache_size=-{CACHE}"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A writer takes its place at once: a reader that turns writer in mid-transaction would be refused (SQLITE_BUSY_SNAPSHOT).
        options = connection.get_execution_options()
        if not options.get("ours_read"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("ours_write") else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Of several that begin with a new file at once SQLite refuses all but one of them this, without waiting as it does elsewhere (SQLITE_BUSY)."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def make_private(named: Named, path: Path) -> None:
    """Make the file and its folder where they are not there, for their owner alone; -wal and -shm take the file's rights (SQLite does that).

    A file that is there is never opened: closing it would end all locks that this process has on it (POSIX), SQLite's of other connections too. Another process would
    then take itself for the last one and remove the -wal in use, and what is written into that afterwards is lost.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with MAKING:
            if not path.exists():
                _make(path)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)
    except OSError as error:
        raise named.error(
            f"the file cannot be made or written ({error.strerror}): look at the folder's rights and space", where=str(path)
        ) from None


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:  # another process was faster
        return


OURS: Final = (CompileError, ArgumentError)
"""A statement that says nothing to this database."""
UNIQUE_VIOLATION: Final = "23505"
"""Of PostgreSQL: another transaction made the same row, and is over now."""


@contextmanager
def one_line(named: Named, url: URL) -> Iterator[None]:
    """Every error of the database as the named one: which database, what, what to do, no value.

    What this program did wrong with SQLAlchemy never came to the database, and is no reason to try again: it goes up as the defect that it is.
    """
    try:
        yield
    except OURS:
        raise
    except IntegrityError as error:
        told = named.error("another session wrote the same at the same time: it is tried again", where=place(named, url))
        told.in_the_way = str(getattr(error.orig, "sqlstate", None)) == UNIQUE_VIOLATION
        raise told from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        told = named.error(_sentence(named, error), where=place(named, url))
        told.in_the_way = str(getattr(getattr(error, "orig", None), "sqlstate", None)).startswith("40")
        raise told from None


def place(named: Named, url: URL) -> str:
    """The database's address for people: no password, no parameters."""
    file = sqlite_file(url)
    if file is not None:
        return f"{named.noun} {file}"
    return f"{named.noun} postgresql://{url.host or 'local socket'}{f':{url.port}' if url.port else ''}/{url.database or ''}"


SQLITE: Final = (
    ("locked", "another process has been writing for too long: see which one is stuck"),
    ("full", "the disk is full: make room; nothing is sent meanwhile"),
    ("readonly", "the file is read-only for this user: look at its owner and rights"),
    ("unable to open", "the file cannot be opened: look at the path, its owner and rights"),
    ("malformed", "the file is damaged: stop, keep a copy, restore the last backup"),
    ("not a database", "the file is no SQLite database: look at the path"),
    ("disk i/o", "the disk gives input/output errors: look at the machine"),
    ("no such table", "the {noun} has no tables yet: nothing has run on it"),
)
"""Parts of SQLite's own messages (they carry no values) and what they mean."""

POSTGRES: Final = (
    ("28", "the server refuses the user or password: look at {setting}.url and {setting}.password"),
    ("3D", "the server has no such database: create it, or mend {setting}.url"),
    ("42P01", "the {noun} has no tables yet: nothing has run on it"),
    ("42501", "the user has not the rights that the {noun} needs on this database: grant them"),
    ("25006", "the server is read-only (a standby?): point {setting}.url at the primary"),
    ("53100", "the server's disk is full: make room; nothing is sent meanwhile"),
    ("53", "the server has no room for more connections or work: look at max_connections"),
    ("55P03", "another session has held a lock for too long: see pg_stat_activity"),
    ("57", "the server is shutting down or ended the session: it is tried again"),
    ("40", "two sessions stood in each other's way: it is tried again"),
)
"""SQLSTATE, or its class (PostgreSQL appendix A), and what it means."""


def _sentence(named: Named, error: Exception) -> str:
    return _said(error).format(noun=named.noun, setting=named.setting)


def _said(error: Exception) -> str:
    if isinstance(error, PoolTimeout):
        return "no connection became free in 30 seconds: too many threads, or a slow database"
    original: Any = getattr(error, "orig", None) or error
    if isinstance(original, sqlite3.Error):
        text = str(original).lower()
        return next(
            (sentence for part, sentence in SQLITE if part in text),
            f"SQLite says {getattr(original, 'sqlite_errorname', 'error')}",
        )
    state = getattr(original, "sqlstate", None)
    if state:
        return next((sentence for start, sentence in POSTGRES if state.startswith(start)), f"PostgreSQL says SQLSTATE {state}")
    return _unreachable(str(original).lower(), lost=isinstance(error, InterfaceError))


UNREACHABLE: Final = (
    ("password authentication failed", "the server refuses the user or password: look at {setting}.url and {setting}.password"),
    ("no password supplied", "the server wants a password: set {setting}.password"),
    ("pg_hba.conf", "the server's pg_hba.conf has no entry for this user, database and machine: ask its administrator"),
    ("does not exist", "the server has no such database or user: create it, or mend {setting}.url"),
    ("refused", "nothing listens at that address: is PostgreSQL running, are host and port right?"),
    ("resolve", "the host name does not resolve: look at {setting}.url"),
    ("name or service", "the host name does not resolve: look at {setting}.url"),
    ("timeout", "no answer in time: a firewall, or a server that hangs"),
    ("timed out", "no answer in time: a firewall, or a server that hangs"),
    ("too many", "the server has no room for more connections: look at max_connections"),
    ("certificate", "TLS with the server failed: look at sslmode and sslrootcert in {setting}.url"),
    ("ssl", "TLS with the server failed: look at sslmode and sslrootcert in {setting}.url"),
    ("starting up", "the server is starting: it is tried again"),
    ("closed", "the connection was lost: it is tried again"),
)
"""Parts of libpq's messages before there is a session, which have no SQLSTATE."""


def _unreachable(text: str, *, lost: bool) -> str:
    default = "the connection was lost: it is tried again" if lost else "the server cannot be reached"
    return next((sentence for part, sentence in UNREACHABLE if part in text), default)


class Database:
    """One of our databases: connections to read on, transactions to write in. Serves many threads; opens nothing before it is asked."""

    def __init__(self, named: Named, url: str, password: str | None = None) -> None:
        """`url` as sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; SettingsError where it is none."""
        self.named: Final = named
        self._url = parse(named, url, password)
        self.file: Final = sqlite_file(self._url)
        self.engine: Final = make_engine(named, self._url)
        # On PostgreSQL a BEGIN and a ROLLBACK are a round trip each, which one statement does not need; on SQLite they cost as much as it.
        way_to_read = READ if self.file is not None else {"isolation_level": "AUTOCOMMIT"}
        self._reading = self.engine.execution_options(**way_to_read)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return place(self.named, self._url)

    @property
    def there(self) -> bool:
        """Whether there may be something in it: its file is there, or it is a server's."""
        return self.file is None or self.file.exists()

    def make(self) -> None:
        """Make the file of a SQLite database, for its owner alone."""
        if self.file is not None:
            make_private(self.named, self.file)

    def one_line(self, _: object = None) -> AbstractContextManager[None]:
        """See one_line above."""
        return one_line(self.named, self._url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """For one statement, which is one snapshot. Makes no file: what is not there yet is an error."""
        if not self.there:
            raise self.named.error(f"there is no {self.named.noun} yet: nothing has run on it", where=self.place)
        with self.one_line(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all or nothing, durable when it ends."""
        if not self.there:
            raise self.named.error(
                f"there is no {self.named.noun} yet, or its file was taken away: start again with `check`", where=self.place
            )
        with self.one_line(), self.engine.connect().execution_options(**WRITE) as connection, connection.begin():
            yield connection

    @contextmanager
    def apart(self, connection: Connection) -> Iterator[None]:
        """A part of a transaction that fails alone."""
        with self.one_line(), connection.begin_nested():
            yield
