"""For how long one message has failed at a partner that serves others. Pure.

A partner that serves nobody is away, and no message is to blame: neither does the time count in which nobody was served, nor does an outage, once it is
over (RELIABILITY section 1: while the breaker is open, no message is burned). A breaker that opens for many sick messages, or a partner that
throttles now and then, saves none of them: others are served in between.
"""

from dataclasses import dataclass
from typing import Final

SHARE: Final = 5
"""So many times at least it fails with somebody served in between: the time between two of its failures counts for no more than such a part of the patience."""


@dataclass(slots=True)
class Patience:
    """What one message has used up of `most` (seconds)."""

    most: float
    seconds: float = 0.0
    _failed_at: float | None = None
    _served: int = 0

    def failed(self, now: float, served: int) -> None:
        """It was answered with a failure. `served`: how often the partner has answered anybody well (gate.Standing)."""
        if self._failed_at is not None and served != self._served:
            self.seconds += min(now - self._failed_at, self.most / SHARE)
        self._failed_at, self._served = now, served

    @property
    def over(self) -> bool:
        """Whether others should not wait for it any longer."""
        return self.seconds >= self.most
