"""Parked records that wait for another's unknown create, or for the time of their own probe: whether they still do. The ledger is asked for all at once.

Each comes back every few seconds, a thousand of them two hundred times a second: an operator may have ended it, or what it waits for. What is told may
be half a second old: of one that has ended since, its next return learns it. Nothing is decided here. For any number of threads; the lock is held while
the ledger is read.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.model import Position

FRESH: Final = 0.5
"""Seconds that an answer counts for."""
PAGE: Final = 1000
"""In one question."""


class Blocked:
    """See the module."""

    def __init__(
        self,
        holding: Callable[[Sequence[Position]], set[Position]],
        ended: Callable[[Sequence[Position]], set[Position]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`holding` and `ended` as in the ledger's port; what they raise reaches the caller, and the next one asks again. `clock`: seconds."""
        self._holding, self._has_ended, self._clock = holding, ended, clock
        self._lock = threading.Lock()
        self._behind: dict[Position, Position] = {}
        self._until: dict[Position, float] = {}
        self._asked: frozenset[Position] = frozenset()
        self._held: set[Position] = set()
        self._ended: set[Position] = set()
        self._at = 0.0

    def put(self, position: Position, behind: Position) -> None:
        """It waits for that one."""
        with self._lock:
            self._behind[position] = behind

    def put_until(self, position: Position, seconds: float) -> None:
        """It waits for so long, if nobody ends it."""
        with self._lock:
            self._until[position] = self._clock() + seconds

    def still(self, position: Position) -> bool:
        """Whether it is to wait on: what it waits for holds a patient, or its time has not come. False too where nothing is known of it here."""
        with self._lock:
            behind, until = self._behind.get(position), self._until.get(position)
            if behind is None and (until is None or self._clock() >= until):
                return False
            if not {position, behind or position} <= self._asked or self._clock() - self._at >= FRESH:
                self._ask()
            return position not in self._ended and (behind is None or behind in self._held)

    def keep(self, mine: Callable[[Position], bool]) -> None:
        """Of ours that wait for one of ours: another's may be given to us, with its place behind the one that waits."""
        with self._lock:
            waits = {position: position for position in self._until} | self._behind
            self._leave([position for position, behind in waits.items() if not (mine(position) and mine(behind))])

    def pop(self, position: Position) -> None:
        """It is looked at in full now."""
        with self._lock:
            self._leave([position])

    def _leave(self, positions: Sequence[Position]) -> None:
        for position in positions:
            self._behind.pop(position, None)
            self._until.pop(position, None)
        if not self._behind and not self._until:
            self._asked, self._held, self._ended = frozenset(), set(), set()  # nothing is kept of what has ended

    def _ask(self) -> None:
        at, waiting = self._clock(), list(dict.fromkeys((*self._behind, *self._until)))
        behind = list(dict.fromkeys(self._behind.values()))
        held, ended = _paged(self._holding, behind), _paged(self._has_ended, waiting)
        self._at, self._asked, self._held, self._ended = at, frozenset((*waiting, *behind)), held, ended


def _paged(question: Callable[[Sequence[Position]], set[Position]], positions: Sequence[Position]) -> set[Position]:
    pages = (positions[start : start + PAGE] for start in range(0, len(positions), PAGE))
    return {found for page in pages for found in question(page)}
