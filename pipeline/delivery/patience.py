"""For how long one message has been answered with failures by a partner that is there for others. Pure.

While a partner counts as away (gate.py), no message is to blame: what fails then, as a trial, counts for nothing, and neither does the time until
the partner is back (RELIABILITY section 1: while the breaker is open, no message is burned).
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """What one message has used up."""

    seconds: float = 0.0
    """Between its failures, while the partner was there."""
    _failed_at: float | None = None
    _epoch: int | None = None

    def failed(self, now: float, epoch: int | None) -> None:
        """It was answered with a failure. `epoch`: which time this is that the partner is there (gate.Standing); None where it is away."""
        if self._failed_at is not None and epoch is not None and epoch == self._epoch:
            self.seconds += now - self._failed_at
        self._failed_at, self._epoch = now, epoch
