"""Threads that take tickets whose turn it is, and give them back for later. Who goes next is lanes.py's word; what is done is handed in.

One lock stands around the lanes. A ticket is with one thread at a time, and with none while its request is in the air (watch.py). A thread
that meets a defect ends the pool, and `failed` says why: nothing is swallowed, and its ticket stays open.
"""

import heapq
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import Final, Generic, TypeVar

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Offered, Ticket
from pipeline.delivery.spare import Spare
from pipeline.delivery.steady import Stopped
from pipeline.delivery.watch import Watch
from pipeline.model import Position
from pipeline.transport.port import Flight, InAir, Pause

T = TypeVar("T")

THREADS: Final = 32
"""At most, where steps fly and threads bring along many tickets."""
CROWD: Final = 64
"""The same, where each thread has one ticket."""
TOGETHER: Final = 16
"""Tickets that a thread brings along at once."""
BRIEF: Final = 0.005
"""Seconds that a thread waits for an answer itself, where the last one came as soon: that costs no change of threads."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not done: the ticket stays first in its lanes and is taken again after so many seconds."""

    seconds: float
    parked: bool = False
    """It was parked durably meanwhile: a stub keeps its place."""


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a step: what becomes of its ticket."""

    again: Again | None


@dataclass(frozen=True, slots=True, eq=False)
class _Step(Generic[T]):
    """A ticket that was taken, and how far its step is."""

    ticket: Ticket[T]
    flight: Flight[Again | None]
    air: InAir | None = None
    """Its request, where it is in the air, and since when (by the pool's clock)."""
    left_at: float = 0.0


class _Role(Enum):
    """What a thread does with its tickets."""

    START = auto()
    LAND = auto()
    LONG = auto()
    """One ticket, which may have to wait for the partner."""


PARTS: Final = {_Role.START: 8, _Role.LAND: 4, _Role.LONG: 2}
"""One of so many threads may do it: many tickets on few threads share what the ledger is asked, and the interpreter's lock goes round less.

What came back finds a thread, whatever waits for the partner.
"""


class Pool(Generic[T]):
    """See the module."""

    def __init__(
        self,
        lanes: Lanes[T],
        work: Callable[[Ticket[T]], Flight[Again | None]],
        in_flight: int,
        *,
        name: str,
        flies: bool = False,
        threads: int | None = None,
        together: int = TOGETHER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`work` does one step of a ticket; None: it is done. `in_flight` tickets at once.

        `flies`: its requests can be in the air without a thread, so that up to `threads` are enough; else each has one to its end. `together`: tickets
        that a thread may then bring along at once; 1, where one of them may wait for what another one holds.
        """
        self._lanes, self._work, self._name, self._clock = lanes, work, name, clock
        self._in_flight, self._flies, self._together = in_flight, flies, together if flies else 1
        threads = threads or (THREADS if together > 1 else CROWD)
        self._most = min(threads, in_flight) if flies else in_flight
        self._most_of = {role: max(threads // part, 1) if flies else in_flight for role, part in PARTS.items()}
        lock = threading.Lock()
        self._turn = threading.Condition(lock)
        """What idle threads wait at."""
        self._ended = threading.Condition(lock)
        """What `drop` and `drain` wait at."""
        self._chores: deque[Callable[[], None]] = deque()
        self._ready: deque[Ticket[T]] = deque()
        self._later: list[tuple[float, int, Ticket[T]]] = []
        self._number = count()
        self._threads: set[threading.Thread] = set()
        self._names = count()
        self._running: set[Ticket[T]] = set()
        """With a thread, in the air, or back from there."""
        self._back: deque[_Step[T]] = deque()
        """Whose answer is there, or whose time is over."""
        self._dripping: deque[_Step[T]] = deque()
        """Of whose answer not all is there: a thread each, the first to come first."""
        self._apart: deque[_Step[T]] = deque()
        """What follows may take long, as a connection that is to be made: a thread each, after those."""
        self._at: Counter[_Role] = Counter()
        """Threads with tickets."""
        self._watch: Watch[_Step[T]] = Watch(self._landed, self._fail, name)
        self._brisk = True
        """Whether the last answer that was waited for without a thread came so soon that a thread may as well wait."""
        self._idle = 0
        """Threads without anything to do."""
        self._roused = 0
        """Of them, those that were told that there is something, and have not looked yet."""
        self._spare = Spare(clock())
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
        if ended:
            self._watch.close()
        for thread in tuple(self._threads) if ended else ():
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
        """Tickets with a thread, or in the air."""
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
        new = _shared(min(len(self._ready), self._in_flight - len(self._running)), self._together)
        work = min(new, self._left(_Role.START)) + min(len(self._dripping) + len(self._apart), self._left(_Role.LONG))
        work += min(_shared(len(self._back), self._together), self._left(_Role.LAND)) + len(self._chores) + bool(self._later)
        free = len(self._threads) - self._busy
        if (more := min(work, self._idle) - self._roused) > 0:
            self._roused += more
            self._turn.notify(more)
        for _ in range(min(work - free, self._most - len(self._threads))):
            thread = threading.Thread(target=self._run, name=f"{self._name}-{next(self._names)}", daemon=True)
            thread.start()
            self._threads.add(thread)

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                task()
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it; no thread ends in silence
            self._fail(error)

    @property
    def _busy(self) -> int:
        """Threads with tickets, or a chore."""
        return self._at.total() + self._chores_running

    def _left(self, role: _Role) -> int:
        """Threads that may take it up yet."""
        return self._most_of[role] - self._at[role]

    def _do(self, steps: list[_Step[T]], role: _Role) -> None:
        """Each as far as it goes without waiting for the partner; what they ask of the ledger, they ask together."""
        while steps:
            steps = self._round(steps, role)

    def _round(self, steps: list[_Step[T]], role: _Role) -> list[_Step[T]]:
        """One stretch of each; those that this thread goes on with."""
        on: list[_Step[T]] = []
        apart: list[_Step[T]] = []
        done: list[tuple[Ticket[T], Again | None]] = []
        flown: list[_Step[T]] = []
        for step, stopped in [(step, self._stretch(step)) for step in steps]:
            if isinstance(stopped, Done):
                done.append((step.ticket, stopped.again))
            elif not isinstance(stopped, Pause):
                flown.append(replace(step, air=stopped, left_at=self._clock()))
            elif stopped is Pause.APART and self._flies and role is not _Role.LONG:
                apart.append(step)
            else:
                on.append(step)
        if flown:
            self._fly(flown, on, apart)
        if done or apart or not on:
            self._let_go(role if not on else None, apart, done)
        return on

    def _let_go(self, role: _Role | None, apart: list[_Step[T]], done: list[tuple[Ticket[T], Again | None]]) -> None:
        """Of what this thread does not go on with; all of it, where its role is over."""
        with self._turn:
            if role is not None:
                self._at[role] -= 1
            for step in apart:
                self._set_apart(step)
            for ticket, again in done:
                self._put_back(ticket, again)
            self._wake()  # also who sleeps until a later time, or without one, looks again
            self._ended.notify_all()
            if self._stopping and not self._running:
                self._turn.notify_all()

    def _fly(self, flown: list[_Step[T]], on: list[_Step[T]], apart: list[_Step[T]]) -> None:
        """They are waited for by the watch; by this thread, where that is no loss, or cannot be otherwise."""
        aloft: dict[int, tuple[InAir, _Step[T]]] = {}
        for step in flown:
            if step.air is None or not self._flies or step.air.fileno is None:
                on.append(step)
            else:
                aloft[step.air.fileno] = (step.air, step)
        for fileno in _came({fileno: air for fileno, (air, _) in aloft.items()}, BRIEF if self._brisk else 0):
            air, step = aloft.pop(fileno)
            (on if air.at_once() else apart).append(step)
        for air, step in aloft.values():
            self._let_fly(air, step, on)

    def _let_fly(self, air: InAir, step: _Step[T], on: list[_Step[T]]) -> None:
        try:
            self._watch.add(air, step)
        except Exception as error:  # noqa: BLE001 - the route's loop raises it; this thread waits for the answer
            self._fail(error)
            on.append(step)

    def _stretch(self, step: _Step[T]) -> InAir | Pause | Done:
        """Where it stops."""
        try:
            return next(step.flight)
        except StopIteration as end:
            return Done(end.value)
        except Stopped:
            self._fail(None)  # it stays open, as the ledger has it
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it
            self._fail(error)
        return Done(Again(0))

    def _landed(self, steps: list[_Step[T]]) -> None:
        """Something came for them, or their time is over: the thread that watches says so."""
        with self._turn:
            self._brisk = self._clock() - steps[-1].left_at < BRIEF
            for step in steps:
                if step.air is None or step.air.at_once():
                    self._back.append(step)
                else:
                    self._set_apart(step)
            self._wake()

    def _set_apart(self, step: _Step[T]) -> None:
        """It waits for a thread of its own, and that one may wait for the partner."""
        (self._apart if step.air is None else self._dripping).append(step)

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

    def _take(self) -> Callable[[], None] | None:
        """What to do next; None: this thread ends, or the pool does."""
        with self._turn:
            while True:
                wait = None if self._stopping else self._due()
                if (task := self._next()) is not None:
                    self._leave_a_watch()
                    return task
                if self._stopping and not self._running:
                    return None
                if not self._stopping and self._spare.one(self._idle, self._clock()):
                    self._threads.remove(threading.current_thread())
                    self._leave_a_watch()
                    return None
                self._sleep(wait)

    def _sleep(self, seconds: float | None) -> None:
        """Until it is roused, or so long. Who was not roused and says so makes one more look in vain; never one too few."""
        self._idle += 1
        self._turn.wait(seconds)
        self._idle -= 1
        self._spare.down_to(self._idle)
        self._roused = max(self._roused - 1, 0)

    def _next(self) -> Callable[[], None] | None:
        """A chore, else what came back, else what waits for a thread of its own, else what is new."""
        if self._chores:
            self._chores_running += 1
            return partial(self._do_chore, self._chores.popleft())
        if self._back and self._left(_Role.LAND) > 0:
            steps = [self._back.popleft() for _ in range(min(len(self._back), self._together))]
            return self._taken(steps, _Role.LAND)
        if (long := self._dripping or self._apart) and self._left(_Role.LONG) > 0:
            return self._taken([long.popleft()], _Role.LONG)
        if self._left(_Role.START) > 0 and not (self._stopping or self._resting) and (steps := self._started()):
            return self._taken(steps, _Role.START)
        return None

    def _taken(self, steps: list[_Step[T]], role: _Role) -> Callable[[], None]:
        self._at[role] += 1
        return partial(self._do, steps, role)

    def _started(self) -> list[_Step[T]]:
        """New ones, as many as may be in flight, and as one thread takes."""
        steps: list[_Step[T]] = []
        while self._ready and len(steps) < self._together and len(self._running) < self._in_flight:
            ticket = self._ready.popleft()
            if self._lanes.started(ticket, self._clock()):
                self._running.add(ticket)
                steps.append(_Step(ticket, self._work(ticket)))
        return steps

    def _leave_a_watch(self) -> None:
        """This thread has something to do, or ends: another one looks at the clock."""
        if self._later:
            self._wake()

    def _due(self) -> float | None:
        """Moves what is due to the ready ones; seconds until the next is."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            self._hand_out((heapq.heappop(self._later)[2],))
        return max(self._later[0][0] - now, 0.001) if self._later else None

    def _put_back(self, ticket: Ticket[T], again: Again | None) -> None:
        self._running.discard(ticket)
        if again is not None and again.parked:
            self._later_or_ready(self._lanes.parked(ticket), ticket.position, again.seconds)
        elif again is not None and self._lanes.delayed(ticket):
            self._later_or_ready((ticket,), ticket.position, again.seconds)
        else:
            self._ready.extend(self._lanes.finish(ticket))

    def _later_or_ready(self, tickets: Iterable[Ticket[T]], mine: Position, seconds: float) -> None:
        """The ticket itself after its time, others at once."""
        for ticket in tickets:
            if ticket.position == mine and seconds > 0:
                heapq.heappush(self._later, (self._clock() + seconds, next(self._number), ticket))
            else:
                self._ready.append(ticket)


def _came(aloft: dict[int, InAir], seconds: float) -> list[int]:
    """Those for which something is there, once it is for all, or so many seconds are over."""
    poll = select.poll()
    for fileno in aloft:
        poll.register(fileno, select.POLLIN)
    came: list[int] = []
    end = time.monotonic() + seconds
    wait = seconds
    while len(came) < len(aloft) and wait >= 0 and (readable := poll.poll(wait * 1000)):
        for fileno, _ in readable:
            if aloft[fileno].wait(0):
                poll.unregister(fileno)
                came.append(fileno)
        wait = end - time.monotonic()
    return came


def _shared(tickets: int, together: int) -> int:
    """Threads that are needed for so many."""
    return -(-tickets // together)
