"""Which of a pool's idle threads nobody has needed for a while: those may end, so that a burst is not paid for until the next start. Pure.

Idle threads take turns, so that none of them idles for long: what counts is how many idled at the same time, at every moment of a stretch.
"""

from typing import Final

STRETCH: Final = 60.0
"""Seconds."""


class Spare:
    """See the module. All numbers and times are the caller's, and so is the lock."""

    def __init__(self, now: float) -> None:
        """The first stretch begins."""
        self._began = now
        self._fewest = 0
        """That idled at one time in this stretch."""
        self._may_end = 0
        """Of those that idled through the last one, so many have not ended."""

    def down_to(self, idle: int) -> None:
        """One was taken from the idle ones, and so many are left."""
        self._fewest = min(self._fewest, idle)

    def one(self, idle: int, now: float) -> bool:
        """Whether somebody who would idle now, beside so many, may end instead."""
        if now - self._began >= STRETCH:
            self._began, self._may_end, self._fewest = now, self._fewest, idle
        if not (self._may_end and idle):
            return False
        self._may_end -= 1
        self._fewest = min(self._fewest, idle)
        return True
