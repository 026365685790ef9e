"""What must be written is tried until it is written: the ledger and the topics. One log line when one goes away, one when it is back.

Nothing passes meanwhile. Only a stop ends it, and then the record stays open. For any number of threads.
"""

import threading
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from pipeline.errors import BusError, LedgerError
from pipeline.telemetry import LogEvent, log

T = TypeVar("T")
Kind = type[BusError] | type[LedgerError]

LINES: Final[dict[Kind, tuple[LogEvent, LogEvent, str]]] = {
    LedgerError: (
        LogEvent.LEDGER_AWAY,
        LogEvent.LEDGER_BACK,
        "check the ledger's disk or server; nothing is lost, work goes on when it answers",
    ),
    BusError: (
        LogEvent.BUS_AWAY,
        LogEvent.BUS_BACK,
        "check the broker, and that the results and dead-letter topics can be written; no offset passes meanwhile",
    ),
}


class Stopped(Exception):
    """The worker ends at once: leave everything as the ledger has it."""


class Pause(Protocol):
    """How long to wait after which try."""

    def after(self, attempt: int) -> float:
        """Seconds after attempt number `attempt` (from 1)."""
        ...


class Outages:
    """Which of the two is away, as the log was told."""

    def __init__(self, route: str) -> None:
        """Both are there until told otherwise."""
        self._route = route
        self._lock = threading.Lock()
        self._away: set[Kind] = set()

    def gone(self, error: BusError | LedgerError) -> None:
        """It failed; a line where that is news."""
        kind = LedgerError if isinstance(error, LedgerError) else BusError
        with self._lock:
            news = kind not in self._away
            self._away.add(kind)
        if news:
            event, _, do = LINES[kind]
            log(event, route=self._route, error=str(error), do=do)

    def back(self, kind: Kind) -> None:
        """It works; a line where that is news."""
        with self._lock:
            news = kind in self._away
            self._away.discard(kind)
        if news:
            log(LINES[kind][1], route=self._route)

    @property
    def bus(self) -> bool:
        """Whether the bus is away."""
        return BusError in self._away

    @property
    def ledger(self) -> bool:
        """Whether the ledger is away."""
        return LedgerError in self._away


class Steady:
    """Tries one thing until it works."""

    def __init__(self, outages: Outages, abandoned: threading.Event, pause: Pause) -> None:
        """`abandoned`: nothing is tried any more, Stopped is raised."""
        self._outages, self._abandoned, self._pause = outages, abandoned, pause

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once neither the ledger nor the bus stands in the way."""
        failed: list[Kind] = []
        while True:
            try:
                result = action()
            except (LedgerError, BusError) as error:
                failed.append(LedgerError if isinstance(error, LedgerError) else BusError)
                self._outages.gone(error)
                if self._abandoned.wait(self._pause.after(len(failed))):
                    raise Stopped from None
            else:
                for kind in set(failed):
                    self._outages.back(kind)
                return result
