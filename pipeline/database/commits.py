"""Group commit: who comes while a transaction is being made durable shares the next one, so that one fsync serves many threads.

Each caller gets its own value or its own error, and only after the commit. Work is run again where another's in the same transaction failed,
so it may do nothing but use its connection. Reads are shared in the same way, on a connection without a transaction: many threads that each run
a statement spend more on handing the interpreter to one another than on the statement.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from pipeline.errors import DatabaseError

T = TypeVar("T")
Apart = Callable[[Connection], AbstractContextManager[object]]
MOST: Final = 256
"""Callers that share one transaction: enough for one fsync to weigh nothing, few enough for locks on PostgreSQL to be short."""


TRIES: Final = 10
"""Of a transaction that another worker's stood in the way of: one of two is ended after a second, and what it waited for is done soon after."""


class _Job:
    """One caller's work, and what came of it."""

    __slots__ = ("error", "leads", "turn", "value", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.turn = threading.Lock()
        """Held until the job is done, or its caller leads the next transaction."""
        self.turn.acquire()
        self.leads = False
        self.value: Any = None
        self.error: BaseException | None = None


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
        self._waiting: deque[_Job] = deque()
        self._led = False

    def __call__(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable."""
        job = _Job(work)
        with self._lock:
            self._waiting.append(job)
            job.leads, self._led = not self._led, True
        if not job.leads:
            job.turn.acquire()
        if job.leads:
            self._lead()
        if job.error is not None:
            raise job.error
        value: T = job.value
        return value

    def _lead(self) -> None:
        with self._lock:
            jobs = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        try:
            self._run(jobs)
        except BaseException as error:
            for job in jobs:  # whatever they were given is not durable
                job.error = job.error or error
            raise
        finally:
            with self._lock:
                after = self._waiting[0] if self._waiting else None
                self._led = after is not None
            if after is not None:
                after.leads = True
                after.turn.release()
            for job in jobs:
                if not job.leads:
                    job.turn.release()

    def _run(self, jobs: list[_Job]) -> None:
        error = self._together(jobs)
        if error is None:
            return
        if len(jobs) > 1 and self._apart is not None:
            self._run_apart(jobs, self._apart)
        elif len(jobs) > 1 or getattr(error, "in_the_way", False):
            self._each_alone(jobs)
        else:
            jobs[0].error = error

    def _together(self, jobs: list[_Job]) -> Exception | None:
        try:
            with self._transaction() as connection:
                for job in jobs:
                    job.value = job.work(connection)
        except Exception as error:  # noqa: BLE001 - it is handed to whom it belongs
            return error
        return None

    def _run_apart(self, jobs: list[_Job], apart: Apart) -> None:
        """Again, so that one that is refused costs the others nothing."""
        try:
            with self._transaction() as connection:
                for job in jobs:
                    self._one_apart(connection, job, apart)
        except Exception as error:  # noqa: BLE001 - as above: nothing of it is durable
            for job in jobs:
                job.error = job.error or error

    def _each_alone(self, jobs: list[_Job]) -> None:
        """Again, each in a transaction of its own: it holds little, and not for long."""
        for number, job in enumerate(jobs):
            job.error = self._alone(job)
            if isinstance(job.error, DatabaseError):  # it may be away: the others need not find that out one by one
                for left in jobs[number + 1 :]:
                    left.error = job.error
                return

    def _alone(self, job: _Job) -> Exception | None:
        error = self._together([job])
        for _ in range(TRIES):
            if not getattr(error, "in_the_way", False):
                break
            error = self._together([job])
        return error

    def _one_apart(self, connection: Connection, job: _Job, apart: Apart) -> None:
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
