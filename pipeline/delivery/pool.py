"""Threads that take tickets whose turn it is, and give them back for later. Who goes next is lanes.py's word; what is done is handed in.

One lock stands around the lanes. A ticket is with one thread at a time. A thread that meets a defect ends the pool, and `failed` says why:
nothing is swallowed, and its ticket stays open.
"""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Offered, Ticket
from pipeline.delivery.steady import Stopped
from pipeline.model import Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Again:
    """Not done: the ticket stays first in its lanes and is taken again after so many seconds."""

    seconds: float
    parked: bool = False
    """It was parked durably meanwhile: a stub keeps its place."""


class Pool(Generic[T]):
    """See the module."""

    def __init__(
        self,
        lanes: Lanes[T],
        work: Callable[[Ticket[T]], Again | None],
        threads: int,
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`work` does one step of a ticket; None: it is done. `threads` at most, started as they are needed."""
        self._lanes, self._work, self._most, self._name, self._clock = lanes, work, threads, name, clock
        lock = threading.Lock()
        self._turn = threading.Condition(lock)
        """What idle threads wait at."""
        self._ended = threading.Condition(lock)
        """What `drop` and `drain` wait at."""
        self._chores: deque[Callable[[], None]] = deque()
        self._ready: deque[Ticket[T]] = deque()
        self._later: list[tuple[float, int, Ticket[T]]] = []
        self._number = count()
        self._threads: list[threading.Thread] = []
        self._running: set[Ticket[T]] = set()
        self._chores_running = 0
        self._stopping = False
        self._resting = False
        self.failed: BaseException | None = None
        """What ended the pool before it was told to end."""

    def offer(self, ticket: Ticket[T]) -> Offered:
        """Into its lanes; OVERFLOW: the caller parks it durably, and then says `parked`."""
        with self._turn:
            offered = self._lanes.offer(ticket, self._clock())
            if offered is Offered.READY:
                self._hand_out([ticket])
            return offered

    def restore(self, position: Position, keys: tuple[str, ...]) -> None:
        """A place for what the ledger has parked and comes back by itself."""
        with self._turn:
            self._hand_out(self._lanes.restore(position, keys))

    def rejoin(self, position: Position, keys: tuple[str, ...]) -> None:
        """A place, last in its lanes, for a record that a replay brings back."""
        with self._turn:
            self._hand_out(self._lanes.rejoin(position, keys))

    def soon(self, position: Position) -> None:
        """What it waits for is known: where it was to come back later, it does now."""
        with self._turn:
            due = [entry for entry in self._later if entry[2].position == position]
            if due:
                self._later = [entry for entry in self._later if entry not in due]
                heapq.heapify(self._later)
                self._hand_out(entry[2] for entry in due)

    def chore(self, action: Callable[[], None]) -> None:
        """Something that has no turn to wait for."""
        with self._turn:
            self._chores.append(action)
            self._wake()

    def parked(self, ticket: Ticket[T]) -> None:
        """One that overflowed, or was overdue, is durably parked."""
        with self._turn:
            self._hand_out(self._lanes.parked(ticket))

    def overdue(self) -> tuple[Ticket[T], ...]:
        """Those that waited for too long; each is named once, the caller parks it."""
        with self._turn:
            return self._lanes.overdue(self._clock())

    def drop(self, partitions: Iterable[TopicPartition], seconds: float) -> bool:
        """These are another's: what has not started leaves. Waits so long for what has; whether all of it ended."""
        gone = {(each.topic, each.partition) for each in partitions}
        with self._turn:
            self._hand_out(self._lanes.drop(TopicPartition(*each) for each in gone))
            return self._ended.wait_for(
                lambda: not any((ticket.position.topic, ticket.position.partition) in gone for ticket in self._running), seconds
            )

    def drain(self, seconds: float) -> bool:
        """Start nothing more; whether what runs, and the chores, ended within so many seconds."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
            ended = self._ended.wait_for(lambda: not (self._running or self._chores_running or self._chores), seconds)
        for thread in self._threads if ended else ():
            thread.join()
        return ended

    def rest(self) -> bool:
        """Whether nothing runs and nothing's turn has come: then nothing starts any more, until `go_on`."""
        with self._turn:
            at_rest = not (self._running or self._ready or self._chores_running or self._chores)
            self._resting = self._resting or at_rest
            return at_rest

    def go_on(self) -> None:
        """After `rest`."""
        with self._turn:
            self._resting = False
            self._wake()

    @property
    def full(self) -> bool:
        """Whether nothing more should be offered, until `has_room`."""
        return self._lanes.full

    @property
    def has_room(self) -> bool:
        """See `full`."""
        return self._lanes.has_room

    @property
    def ready(self) -> int:
        """Tickets whose turn it is, and that wait for a thread."""
        return len(self._ready)

    @property
    def running(self) -> int:
        """Tickets with a thread."""
        return len(self._running)

    @property
    def waiting(self) -> tuple[int, int]:
        """Messages in memory, and stubs."""
        with self._turn:
            return self._lanes.messages, self._lanes.stubs

    def _hand_out(self, tickets: Iterable[Ticket[T]]) -> None:
        self._ready.extend(tickets)
        self._wake()

    def _wake(self) -> None:
        """As many threads as there is work for, and one that looks at the clock where something comes back later."""
        work = len(self._ready) + len(self._chores) + bool(self._later)
        self._turn.notify(work)
        free = len(self._threads) - len(self._running) - self._chores_running
        for _ in range(min(work - free, self._most - len(self._threads))):
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                if isinstance(task, Ticket):
                    self._do(task)
                else:
                    self._do_chore(task)
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it; no thread ends in silence
            self._fail(error)

    def _do(self, ticket: Ticket[T]) -> None:
        again: Again | None = Again(0)
        try:
            again = self._work(ticket)
        except Stopped:
            self._fail(None)  # it stays open, as the ledger has it
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it
            self._fail(error)
        self._put_back(ticket, again)

    def _do_chore(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Stopped:
            self._fail(None)
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail(error)
        with self._turn:
            self._chores_running -= 1
            self._ended.notify_all()

    def _fail(self, error: BaseException | None) -> None:
        with self._turn:
            self.failed = self.failed or error
            self._stopping = True
            self._turn.notify_all()
            self._ended.notify_all()

    def _take(self) -> Ticket[T] | Callable[[], None] | None:
        """What to do next; None: the pool ends."""
        with self._turn:
            while True:
                if self._chores:
                    self._chores_running += 1
                    self._leave_a_watch()
                    return self._chores.popleft()
                if self._stopping:
                    return None
                wait = self._due()
                if self._ready and not self._resting:
                    ticket = self._ready.popleft()
                    if self._lanes.started(ticket, self._clock()):
                        self._running.add(ticket)
                        self._leave_a_watch()
                        return ticket
                    continue
                self._turn.wait(wait)

    def _leave_a_watch(self) -> None:
        """This thread has something to do: another one looks at the clock."""
        if self._later:
            self._wake()

    def _due(self) -> float | None:
        """Moves what is due to the ready ones; seconds until the next is."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            self._hand_out((heapq.heappop(self._later)[2],))
        return max(self._later[0][0] - now, 0.001) if self._later else None

    def _put_back(self, ticket: Ticket[T], again: Again | None) -> None:
        with self._turn:
            self._running.discard(ticket)
            if again is None:
                self._hand_out(self._lanes.finish(ticket))
            elif again.parked:
                self._later_or_ready(self._lanes.parked(ticket), ticket.position, again.seconds)
            elif self._lanes.delayed(ticket):
                self._later_or_ready((ticket,), ticket.position, again.seconds)
            else:
                self._hand_out(self._lanes.finish(ticket))
            self._ended.notify_all()

    def _later_or_ready(self, tickets: Iterable[Ticket[T]], mine: Position, seconds: float) -> None:
        """The ticket itself after its time, others at once."""
        for ticket in tickets:
            if ticket.position == mine and seconds > 0:
                heapq.heappush(self._later, (self._clock() + seconds, next(self._number), ticket))
                self._wake()  # who sleeps until a later time, or without one, looks again
            else:
                self._hand_out((ticket,))
