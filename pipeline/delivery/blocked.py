"""Parked records that wait for another's unknown create, and whether it stands in their way still: the ledger is asked for all of them at once.

Each comes back every few seconds, a thousand of them two hundred times a second. What is told may be half a second old: of one that has ended since,
its next return learns it. Nothing is decided here. For any number of threads; the lock is held while the ledger is read.
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
        self, holding: Callable[[Sequence[Position]], set[Position]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`holding` as in the ledger's port; what it raises reaches the caller, and the next one asks again."""
        self._holding, self._clock = holding, clock
        self._lock = threading.Lock()
        self._behind: dict[Position, Position] = {}
        self._asked: frozenset[Position] = frozenset()
        self._held: set[Position] = set()
        self._at = 0.0

    def put(self, position: Position, behind: Position) -> None:
        """It waits for that one."""
        with self._lock:
            self._behind[position] = behind

    def still(self, position: Position) -> bool:
        """Whether what it waited for holds a patient; False too where it waits for nobody that is known here."""
        with self._lock:
            behind = self._behind.get(position)
            if behind is None:
                return False
            if behind not in self._asked or self._clock() - self._at >= FRESH:
                self._ask()
            return behind in self._held

    def keep(self, mine: Callable[[Position], bool]) -> None:
        """Of ours that wait for one of ours: another's may be given to us, with its place behind the one that waits."""
        with self._lock:
            self._leave([position for position, behind in self._behind.items() if not (mine(position) and mine(behind))])

    def pop(self, position: Position) -> None:
        """It is looked at in full now."""
        with self._lock:
            self._leave([position])

    def _leave(self, positions: Sequence[Position]) -> None:
        for position in positions:
            self._behind.pop(position, None)
        if not self._behind:
            self._asked, self._held = frozenset(), set()  # nothing is kept of what has ended

    def _ask(self) -> None:
        at, wanted = self._clock(), list(dict.fromkeys(self._behind.values()))
        held: set[Position] = set()
        for start in range(0, len(wanted), PAGE):
            held |= self._holding(wanted[start : start + PAGE])
        self._at, self._asked, self._held = at, frozenset(wanted), held
