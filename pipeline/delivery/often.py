"""What befalls single messages, for the log: the first of a cause at once, and after that one line in ten minutes for all that came since.

The ledger has each of them (`emr-pipeline find`); a log that had them too would hide the line that says why. For any number of threads; no I/O but
the log.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.model import Position
from pipeline.telemetry import LogEvent, log
from schemas.outcomes import Reason

SECONDS: Final = 600.0
"""Between two lines of one cause."""
DO: Final = {
    LogEvent.MESSAGE_PARKED: "emr-pipeline find --state parked --reason {reason} shows them; the runbook has a heading for the reason",
    LogEvent.OUTCOME_UNKNOWN: "nothing: each is found out when the partner's worst time is over; what cannot be found out is parked, and said",
}


@dataclass(slots=True)
class _Cause:
    """One that has been told."""

    until: float
    more: int = 0
    """Since its last line."""
    last: Position | None = None


class Often:
    """See the module."""

    def __init__(self, route: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._route, self._clock = route, clock
        self._lock = threading.Lock()
        self._causes: dict[tuple[LogEvent, Reason | None], _Cause] = {}

    def happened(self, event: LogEvent, reason: Reason | None, at: Position, where: str | None = None) -> None:
        """To one message: a line where it is the first of its cause for a while."""
        with self._lock:
            cause = self._causes.get((event, reason))
            if cause is not None:
                cause.more += 1
                cause.last = at
                return
            self._causes[event, reason] = _Cause(self._clock() + SECONDS)
        log(event, route=self._route, reason=reason, at=str(at), where=where, do=DO[event].format(reason=reason))

    def look(self, *, last: bool = False) -> None:
        """Say what is due; at the end of the worker, what is left."""
        due = []
        with self._lock:
            for key, cause in list(self._causes.items()):
                if not last and self._clock() < cause.until:
                    continue
                del self._causes[key]
                if cause.more:
                    due.append((key, cause))
                    self._causes[key] = _Cause(self._clock() + SECONDS)
        for (event, reason), cause in due:
            log(
                event, route=self._route, reason=reason, more=cause.more, last=str(cause.last), do=DO[event].format(reason=reason)
            )
