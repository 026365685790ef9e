"""Group commit: who comes while a transaction is being made durable shares the next one, so that one fsync serves many threads.

Each caller gets its own value or its own error, and only after the commit. Work is run again where another's in the same transaction failed,
so it may do nothing but use its connection. Reads are shared in the same way, on a connection without a transaction: many threads that each run
a statement spend more on handing the interpreter to one another than on the statement.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection

from pipeline.errors import DatabaseError

T = TypeVar("T")
Apart = Callable[[Connection], AbstractContextManager[object]]
MOST: Final = 256
"""Callers that share one transaction: enough for one fsync to weigh nothing, few enough for locks on PostgreSQL to be short."""


TRIES: Final = 10
"""Of a transaction that another worker's stood in the way of: one of two is ended after a second, and what it waited for is done soon after."""


class Promise(Generic[T]):
    """One caller's work, and what came of it."""

    __slots__ = ("_commits", "done", "error", "turn", "value", "work")

    def __init__(self, commits: "Commits", work: Callable[[Connection], T]) -> None:
        self._commits, self.work = commits, work
        self.turn: threading.Lock | None = None
        """Where its caller waits: held until the job is done, or its caller leads the next transaction."""
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def result(self) -> T:
        """What the work returns, or raises, once it is durable."""
        if not self.done:
            self._commits.wait(self)
        if self.error is not None:
            raise self.error
        value: T = self.value
        return value


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A promise of rows, and how they are read: by whom they are for, and not while the others wait."""

    rows: Promise[Any]
    read: Callable[[Any], T]

    def result(self) -> T:
        """See Promise."""
        return self.read(self.rows.result())


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class Commits:
    """Transactions, or connections to read on, one at a time, shared by whoever waits for one."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Connection]],
        apart: Apart | None,
        most: int = MOST,
    ) -> None:
        """`transaction` is durable when it ends (or is no transaction, for reads); `apart` is a part of it that fails alone.

        None: where a shared transaction fails, each goes in one of its own. On PostgreSQL many in one hold their locks together, and two workers would
        wait for each other again.
        """
        self._transaction, self._apart, self._most = transaction, apart, most
        self._lock = threading.Lock()
        self._waiting: deque[Promise[Any]] = deque()
        self._led = False

    def __call__(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable."""
        return self.soon(work).result()

    def soon(self, work: Callable[[Connection], T]) -> Promise[T]:
        """The same in two parts: it goes with the next transaction of anybody, at the latest when its result is asked for."""
        job = Promise(self, work)
        with self._lock:
            self._waiting.append(job)
        return job

    def wait(self, job: Promise[Any]) -> None:
        """Until it is done: by whoever leads, or by its caller."""
        while not job.done:
            if self._leads(job):
                self._lead(job)

    def _leads(self, job: Promise[Any]) -> bool:
        """Whether its caller leads now; waits until it does, or the job is done."""
        with self._lock:
            if job.done or not self._led:
                self._led = self._led or not job.done
                return not job.done
            turn = job.turn = job.turn or _held()
        turn.acquire()
        return not job.done

    def _lead(self, own: Promise[Any]) -> None:
        with self._lock:
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        try:
            self._run(jobs)
        except BaseException as error:
            for job in jobs:  # whatever they were given is not durable
                job.error = job.error or error
            self._leave(own)
            raise
        finally:
            with self._lock:
                for job in jobs:
                    job.done = True
                after = next((job for job in self._waiting if job.turn is not None and job is not own), None)
                self._led = after is not None
            for job in jobs if after is None else (after, *jobs):
                if job.turn is not None:
                    job.turn.release()

    def _leave(self, own: Promise[Any]) -> None:
        """Its caller is ended: nobody would be there to be told."""
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)

    def _run(self, jobs: list[Promise[Any]]) -> None:
        error = self._together(jobs)
        if error is None:
            return
        if len(jobs) > 1 and self._apart is not None:
            self._run_apart(jobs, self._apart)
        elif len(jobs) > 1 or getattr(error, "in_the_way", False):
            self._each_alone(jobs)
        else:
            jobs[0].error = error

    def _together(self, jobs: list[Promise[Any]]) -> Exception | None:
        try:
            with self._transaction() as connection:
                for job in jobs:
                    job.value = job.work(connection)
        except Exception as error:  # noqa: BLE001 - it is handed to whom it belongs
            return error
        return None

    def _run_apart(self, jobs: list[Promise[Any]], apart: Apart) -> None:
        """Again, so that one that is refused costs the others nothing."""
        try:
            with self._transaction() as connection:
                for job in jobs:
                    self._one_apart(connection, job, apart)
        except Exception as error:  # noqa: BLE001 - as above: nothing of it is durable
            for job in jobs:
                job.error = job.error or error

    def _each_alone(self, jobs: list[Promise[Any]]) -> None:
        """Again, each in a transaction of its own: it holds little, and not for long."""
        for number, job in enumerate(jobs):
            job.error = self._alone(job)
            if isinstance(job.error, DatabaseError):  # it may be away: the others need not find that out one by one
                for left in jobs[number + 1 :]:
                    left.error = job.error
                return

    def _alone(self, job: Promise[Any]) -> Exception | None:
        error = self._together([job])
        for _ in range(TRIES):
            if not getattr(error, "in_the_way", False):
                break
            error = self._together([job])
        return error

    def _one_apart(self, connection: Connection, job: Promise[Any], apart: Apart) -> None:
        begun = _in_transaction(connection)
        try:
            with apart(connection):
                job.value = job.work(connection)
        except Exception as error:
            job.error = error
            if begun and not _in_transaction(connection):
                raise  # a full disk: SQLite has rolled back all of it by itself, also what the others were given


def _in_transaction(connection: Connection) -> bool:
    """What the driver says; reads have none."""
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", True))
