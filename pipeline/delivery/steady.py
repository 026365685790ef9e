"""What must be written is tried until it is written: the ledger and the topics. One log line when one goes away, one when it is back.

Nothing passes meanwhile. Only a stop ends it, and then the record stays open.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from pipeline.delivery.attempts import Backoff, Waiting
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


class Outages:
    """Which of the two is away, as the log was told."""

    def __init__(self, route: str) -> None:
        """Both are there until told otherwise."""
        self._route = route
        self._away: set[Kind] = set()

    def gone(self, error: BusError | LedgerError) -> None:
        """It failed; a line where that is news."""
        kind = LedgerError if isinstance(error, LedgerError) else BusError
        if kind not in self._away:
            self._away.add(kind)
            event, _, do = LINES[kind]
            log(event, route=self._route, error=str(error), do=do)

    def back(self, kind: Kind) -> None:
        """It works; a line where that is news."""
        if kind in self._away:
            self._away.remove(kind)
            log(LINES[kind][1], route=self._route)

    @property
    def bus(self) -> bool:
        """Whether the bus is away."""
        return BusError in self._away


class Steady:
    """Tries one thing until it works."""

    def __init__(self, outages: Outages, wait: Waiting, backoff: Backoff) -> None:
        """`wait` raises Stopped where the worker stops."""
        self._outages, self._wait, self._backoff = outages, wait, backoff

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once neither the ledger nor the bus stands in the way."""
        failed: list[Kind] = []
        while True:
            try:
                result = action()
            except (LedgerError, BusError) as error:
                failed.append(LedgerError if isinstance(error, LedgerError) else BusError)
                self._outages.gone(error)
                self._wait(self._backoff.after(len(failed)))
            else:
                for kind in set(failed):
                    self._outages.back(kind)
                return result
