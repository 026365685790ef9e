"""What must be written is tried until it is written: the ledger and the topics, each with one log line when it goes and one when it is back.

Nothing passes meanwhile. Only a stop ends it, and then the record stays open.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from pipeline.delivery.attempts import Backoff, Waiting
from pipeline.errors import BusError, LedgerError
from pipeline.telemetry import LogEvent, log

T = TypeVar("T")

LINES: Final = {
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


class Steady:
    """Tries one thing until it works."""

    def __init__(self, route: str, wait: Waiting, backoff: Backoff) -> None:
        """`wait` raises Stopped where the worker stops."""
        self._route, self._wait, self._backoff = route, wait, backoff

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, once neither the ledger nor the bus stands in the way."""
        away: type[BusError | LedgerError] | None = None
        attempt = 0
        while True:
            try:
                result = action()
            except (LedgerError, BusError) as error:
                attempt += 1
                kind = LedgerError if isinstance(error, LedgerError) else BusError
                if kind is not away:
                    away = kind
                    log(LINES[kind][0], route=self._route, error=str(error), do=LINES[kind][2])
                self._wait(self._backoff.after(attempt))
            else:
                if away is not None:
                    log(LINES[away][1], route=self._route)
                return result
