"""What must be written is tried until it is written: the ledger and the topics. One log line when one goes away, one when it is back.

Nothing passes meanwhile. Only a stop ends it, and then the record stays open. For any number of threads.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TypeVar

from pipeline.errors import BusError, LedgerError
from pipeline.ledger.port import Promised
from pipeline.telemetry import LogEvent, log
from pipeline.transport.port import Flight, Pause

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


class Pauses(Protocol):
    """How long to wait after which try."""

    def after(self, attempt: int) -> float:
        """Seconds after attempt number `attempt` (from 1)."""
        ...


class Outages:
    """Which of the two is away, as the log was told: away for as long as it is for anybody, so that one who gets through does not say it is back."""

    def __init__(self, route: str) -> None:
        """Both are there until told otherwise."""
        self._route = route
        self._lock = threading.Lock()
        self._away: dict[Kind, set[Hashable]] = {BusError: set(), LedgerError: set()}
        self._returns = 0

    def gone(self, error: BusError | LedgerError, by: Hashable) -> None:
        """It failed for this caller; a line where that is news."""
        kind = _kind(error)
        with self._lock:
            news = not self._away[kind]
            self._away[kind].add(by)
        if news:
            event, _, do = LINES[kind]
            log(event, route=self._route, error=str(error), do=do)

    def back(self, kind: Kind, by: Hashable) -> None:
        """It works for this caller; a line where it does for all."""
        with self._lock:
            was = bool(self._away[kind])
            self._away[kind].discard(by)
            news = was and not self._away[kind]
            self._returns += news
        if news:
            log(LINES[kind][1], route=self._route)

    @property
    def returns(self) -> int:
        """How often one of them has come back."""
        return self._returns

    @property
    def bus(self) -> bool:
        """Whether the bus is away."""
        return bool(self._away[BusError])

    @property
    def ledger(self) -> bool:
        """Whether the ledger is away."""
        return bool(self._away[LedgerError])


def _kind(error: BusError | LedgerError) -> Kind:
    return LedgerError if isinstance(error, LedgerError) else BusError


class Steady:
    """Tries one thing until it works."""

    def __init__(self, outages: Outages, abandoned: threading.Event, pause: Pauses) -> None:
        """`abandoned`: nothing is tried any more, Stopped is raised."""
        self._outages, self._abandoned, self._pause = outages, abandoned, pause

    def __call__(self, action: Callable[[], T]) -> T:
        """What `action` returns, or raises, once neither the ledger nor the bus stands in the way."""
        me = object()
        failed: set[Kind] = set()
        try:
            result = self._tried(action, failed, me)
        except Stopped:  # they are away still
            raise
        except BaseException:  # an answer, too: that it is held, or refused
            self._back(failed, me)
            raise
        self._back(failed, me)
        return result

    def soon(self, ask: Callable[[], Promised[T]]) -> Flight[T]:
        """The same of what is promised, so that others may ask meanwhile. `ask` waits for nothing and raises nothing.

        A promise that was broken before the ledger came back says nothing of now: it is asked once more, and no line is written of it.
        """
        returns, first = self._outages.returns, [ask()]
        yield Pause.TOGETHER

        def result() -> T:
            if first:
                try:
                    return first.pop().result()
                except (LedgerError, BusError):
                    if self._outages.returns == returns:
                        raise
            return ask().result()

        return self(result)

    def _tried(self, action: Callable[[], T], failed: set[Kind], me: Hashable) -> T:
        tries = 0
        while True:
            try:
                return action()
            except (LedgerError, BusError) as error:
                tries += 1
                failed.add(_kind(error))
                self._outages.gone(error, me)
                if self._abandoned.wait(self._pause.after(tries)):
                    raise Stopped from None

    def _back(self, failed: set[Kind], me: Hashable) -> None:
        for kind in failed:
            self._outages.back(kind, me)
