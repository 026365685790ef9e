"""One exchange's clock and memory: how long may be waited, what has left this machine, what has been heard.

Whether a failure is NotSent or NoAnswer is decided here and nowhere else. No I/O.
"""

import time
from dataclasses import dataclass

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Timeouts
from schemas.outcomes import Reason


@dataclass(slots=True)
class Exchange:
    """The exchange that a thread is in. The one mutable thing here: it dies with the call."""

    timeouts: Timeouts
    started: float
    """time.monotonic() when it began."""
    phase: Reason = Reason.NOT_SENT_CONNECT
    """What it is called if it ends now with nothing sent."""
    fresh: bool = True
    """The connection carried no request before this one."""
    left: bool = False
    """Bytes of the request may have left this machine."""
    whole: bool = False
    """All of the request has left."""
    heard: bool = False
    """A byte of the answer came."""
    asked: float = 0.0
    """time.monotonic() when the request had left."""
    keeps: bool = False
    """An answer that comes after its time is wanted still."""

    @classmethod
    def begin(cls, timeouts: Timeouts, *, keeps: bool = False) -> "Exchange":
        """Start the clock."""
        return cls(timeouts, time.monotonic(), keeps=keeps)

    @property
    def remaining(self) -> float:
        """Seconds to the total deadline; negative when it is over."""
        return self.started + self.timeouts.total - time.monotonic()

    @property
    def deadline(self) -> float:
        """time.monotonic() when waiting for the first byte of the answer is over."""
        return min(self.asked + self.timeouts.read, self.started + self.timeouts.total)

    def came(self, at: float) -> None:
        """The answer was there at `at`: until now it has waited for us, and that does not count."""
        ours = time.monotonic() - at
        self.started += ours
        self.asked += ours

    def patience(self, most: float) -> float:
        """Seconds that the next wait may take; raises when the deadline is over."""
        remaining = self.remaining
        if remaining <= 0:
            raise self.late()
        return min(most, remaining)

    def late(self) -> NotSent | NoAnswer:
        """A time-out, called by what has left."""
        if not self.left:
            return NotSent(self.phase, f"{self.phase.sentence} (time-out)")
        return NoAnswer(Reason.TIMEOUT)

    def lost(self) -> NotSent | NoAnswer:
        """The connection is gone. On a fresh one, before any answer, it may be a refused certificate: NoAnswer.fresh says so."""
        if not self.left:
            return NotSent(self.phase)
        return NoAnswer(Reason.CONNECTION_LOST, fresh=self.fresh and not self.heard)
