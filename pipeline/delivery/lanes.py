"""Whose turn it is: tickets stand in one queue per lane key and are ready when they are first in all of theirs.

Pure: no thread, no clock, no I/O, no lock (the pool holds one around it). All of a ticket's queues are entered in one step, so a ticket only
ever waits for tickets that came before it, and nothing deadlocks. A partition's tickets enter in the order of their offsets, stubs among
them: what comes out of that order is refused. Each ticket is handed out as ready once, by `offer` or by what a method returns.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import Final, Generic, TypeVar

from pipeline.bus.port import TopicPartition
from pipeline.model import Position

T = TypeVar("T")

ROOM: Final = 0.75
"""Full at the limit, room again below this share of it: else the consumer would be paused and resumed for every message."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket(Generic[T]):
    """A message's place in its lanes. Two are never equal: after a rebalance the same position may stand here again."""

    position: Position
    keys: tuple[str, ...]
    """Keyed hashes, one for each identifier of its patients. None: it waits for nobody."""
    size: int
    """Bytes in memory."""
    content: T | None = field(repr=False)
    """None, a stub: it is parked durably and only keeps its place; whoever starts it fetches its bytes, and they are not counted here."""


class Offered(StrEnum):
    """What became of a ticket that was offered."""

    READY = "ready"
    WAITING = "waiting"
    OVERFLOW = "overflow"
    """A lane is too long: it has its place, the caller parks it durably and says so (`parked`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may stay in memory."""

    messages: int
    size: int
    """Bytes."""
    per_key: int
    """Tickets in one lane, stubs too."""
    seconds: float
    """How long one may wait behind one that was taken up so long ago, before it is parked."""

    def __post_init__(self) -> None:
        if min(self.messages, self.size, self.per_key) < 1:
            raise ValueError("each limit is at least 1")


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    """Where a ticket stands."""

    ticket: Ticket[T]
    keys: tuple[str, ...]
    number: int
    """Order of entry."""
    waits_for: int = 0
    """Lanes in which another is first, and one more while it is being parked."""
    parking: bool = False
    started: bool = False
    begun: float | None = None
    """When a thread took it up the first time."""
    lost: bool = False
    """Started when its partition went to another."""


class Lanes(Generic[T]):
    """All lanes of one route."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.messages = 0
        """Tickets with content, those that are being parked too."""
        self.size = 0
        """Their bytes."""
        self._number = 0
        self._places: dict[Ticket[T], _Place[T]] = {}
        self._first: dict[str, _Place[T]] = {}
        self._behind: dict[str, deque[_Place[T]]] = {}
        """Only lanes with more than one ticket: an empty deque takes 600 bytes."""
        self._waiting: OrderedDict[_Place[T], float] = OrderedDict()
        """Since when, the longest first; only those that `overdue` may name."""
        self._last: dict[tuple[str, int], int] = {}
        """The last offset that entered, per partition."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def stubs(self) -> int:
        """Places without a message in memory."""
        return len(self._places) - self.messages

    @property
    def full(self) -> bool:
        """Pause reading, until `has_room`."""
        return self.messages >= self.limits.messages or self.size >= self.limits.size

    @property
    def has_room(self) -> bool:
        """Resume reading."""
        return self.messages < ROOM * self.limits.messages and self.size < ROOM * self.limits.size

    def offer(self, ticket: Ticket[T], now: float) -> Offered:
        """It takes its place in all its lanes. ValueError: a stub, or not after its partition's last."""
        if ticket.content is None:
            raise ValueError("a stub is restored, not offered")
        place = self._enter(ticket)
        self.messages += 1
        self.size += ticket.size
        if not place.waits_for:
            return Offered.READY
        if any(len(self._behind.get(key, ())) >= self.limits.per_key for key in place.keys):
            self._begin_parking(place)
            return Offered.OVERFLOW
        self._waiting[place] = now
        return Offered.WAITING

    def restore(self, position: Position, keys: tuple[str, ...]) -> tuple[Ticket[T], ...]:
        """A stub that the ledger has; returned where it is ready at once. ValueError: not after its partition's last.

        When a partition is assigned: those below the offset where reading begins, ascending. A later one when reading comes to it: what is
        read again before it may belong to the same lane, and goes first.
        """
        place = self._enter(Ticket(position, keys, 0, None))
        return () if place.waits_for else (place.ticket,)

    def rejoin(self, position: Position, keys: tuple[str, ...]) -> tuple[Ticket[T], ...]:
        """A stub for a replay: a record from below what was read, last in all its lanes; returned where it is ready at once.

        Also where the record stands in them already: that place may be lost, or leave without an end, and then this one is the replay's.
        """
        place = self._take_place(Ticket(position, keys, 0, None))
        return () if place.waits_for else (place.ticket,)

    def started(self, ticket: Ticket[T], now: float) -> bool:
        """A thread takes a ready or delayed one. False: it left, or is a stub by now; the thread takes another."""
        place = self._places.get(ticket)
        if place is None:
            return False
        if place.waits_for or place.started:
            raise ValueError(f"{ticket.position} is not ready")
        place.started = True
        if place.begun is None:
            place.begun = now
        return True

    def delayed(self, ticket: Ticket[T]) -> bool:
        """The thread lets go of it until later; it stays first in its lanes. False: its partition is another's, the caller finishes it."""
        place = self._place(ticket)
        if place.lost:
            return False
        place.started = False
        return True

    def finish(self, ticket: Ticket[T]) -> tuple[Ticket[T], ...]:
        """It leaves, wherever it stands; returns those that became ready, in order of entry."""
        place = self._place(ticket)
        self._forget(place)
        return self._ready(self._without({place}) if place.waits_for else self._next(place))

    def overdue(self, now: float) -> tuple[Ticket[T], ...]:
        """Those that waited longer than the limit, each named once: the caller parks them durably and says so (`parked`).

        Behind one that was taken up so long ago, or that is parked for that: a long queue at a slow partner holds nobody up.
        """
        named = []
        for place, _since in list(takewhile(lambda one: now - one[1] > self.limits.seconds, self._waiting.items())):
            if any(self._held(self._first[key], now) for key in place.keys):
                self._begin_parking(place)
                named.append(place.ticket)
        return tuple(named)

    def _held(self, first: _Place[T], now: float) -> bool:
        if first.waits_for:
            return first.parking or first.ticket.content is None
        return first.begun is not None and now - first.begun > self.limits.seconds

    def parked(self, ticket: Ticket[T]) -> tuple[Ticket[T], ...]:
        """It is durably parked, bytes and all: a stub keeps its place. Returns what became ready, the stub itself where it is first.

        Until this call an overdue one is not handed out: its delivery would overtake its parking in the ledger. Of one that has left
        meanwhile: no effect. One that was started (its probe is due much later) counts as let go.
        """
        place = self._places.get(ticket)
        if place is None:
            return ()
        if place.lost:
            return self.finish(ticket)
        self._forget(place)
        place.ticket = Ticket(ticket.position, ticket.keys, 0, None)
        self._places[place.ticket] = place
        place.started = False
        if place.parking:
            place.parking = False
            place.waits_for -= 1
        return () if place.waits_for else (place.ticket,)

    def drop(self, partitions: Iterable[TopicPartition]) -> tuple[Ticket[T], ...]:
        """These are another's, or are read anew: all theirs leave, save started ones, which hold their lanes until finished.

        Returns those of other partitions that became ready.
        """
        dropped = {(partition.topic, partition.partition) for partition in partitions}
        theirs = [place for place in self._places.values() if _partition(place.ticket.position) in dropped]
        for place in theirs:
            place.lost = True
        leaving = {place for place in theirs if not place.started}
        for place in leaving:
            self._forget(place)
        for partition in dropped:
            self._last.pop(partition, None)
        return self._ready(self._without(leaving))

    def _place(self, ticket: Ticket[T]) -> _Place[T]:
        place = self._places.get(ticket)
        if place is None:
            raise ValueError(f"{ticket.position} is not here")
        return place

    def _enter(self, ticket: Ticket[T]) -> _Place[T]:
        position = ticket.position
        partition = (position.topic, position.partition)
        if position.offset <= self._last.get(partition, -1):
            raise ValueError(f"{position} comes twice or out of order")
        self._last[partition] = position.offset
        return self._take_place(ticket)

    def _take_place(self, ticket: Ticket[T]) -> _Place[T]:
        keys = ticket.keys
        if len(keys) > 1:
            keys = tuple(dict.fromkeys(keys))  # one that stood twice would wait for itself
        self._number += 1
        place = self._places[ticket] = _Place(ticket, keys, self._number)
        for key in keys:
            if key not in self._first:
                self._first[key] = place
                continue
            place.waits_for += 1
            if key in self._behind:
                self._behind[key].append(place)
            else:
                self._behind[key] = deque((place,))
        return place

    def _begin_parking(self, place: _Place[T]) -> None:
        place.parking = True
        place.waits_for += 1
        self._waiting.pop(place, None)

    def _forget(self, place: _Place[T]) -> None:
        """All but its place in the queues."""
        del self._places[place.ticket]
        if place.waits_for:
            self._waiting.pop(place, None)
        if place.ticket.content is not None:
            self.messages -= 1
            self.size -= place.ticket.size

    def _next(self, place: _Place[T]) -> list[_Place[T]]:
        """A first one leaves its queues; the places that became ready."""
        freed = []
        for key in place.keys:
            queue = self._behind.get(key)
            if queue is None:
                del self._first[key]
                continue
            first = self._first[key] = queue.popleft()
            if not queue:
                del self._behind[key]
            first.waits_for -= 1
            if not first.waits_for:
                freed.append(first)
        return freed

    def _ready(self, freed: list[_Place[T]]) -> tuple[Ticket[T], ...]:
        """Their tickets in order of entry; they wait no longer."""
        for place in freed:
            self._waiting.pop(place, None)
        freed.sort(key=lambda place: place.number)
        return tuple(place.ticket for place in freed)

    def _without(self, leaving: set[_Place[T]]) -> list[_Place[T]]:
        """These leave their queues, wherever they stand: each queue is gone through once. The places that became ready."""
        freed = []
        for key in {key for place in leaving for key in place.keys}:
            before = self._first.pop(key)
            queue = deque(place for place in (before, *self._behind.pop(key, ())) if place not in leaving)
            if not queue:
                continue
            first = self._first[key] = queue.popleft()
            if queue:
                self._behind[key] = queue
            if first is not before:
                first.waits_for -= 1
                if not first.waits_for:
                    freed.append(first)
        return freed


def _partition(position: Position) -> tuple[str, int]:
    return position.topic, position.partition
