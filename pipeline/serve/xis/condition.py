"""Whether patients can be served now, for /readyz, the metrics and the log: a line for each change, none for each request that fails of it.

It answers from memory. Requests say when the store failed them; that it is back, and how the tokens' issuer is, is looked at every few seconds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pipeline.errors import StoreError
from pipeline.health import NotReady
from pipeline.telemetry import LogEvent, log

EVERY: Final = 5.0
"""Seconds between two looks."""


class Condition:
    """For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._why: dict[NotReady, str] = {}

    def reasons(self) -> Sequence[NotReady]:
        """See Health."""
        return tuple(self._why)

    def store(self, error: StoreError | None) -> None:
        """It failed, or it answers."""
        self._change(NotReady.STORE_AWAY, None if error is None else str(error), LogEvent.STORE_AWAY, LogEvent.STORE_BACK)

    def tokens(self, why_not: str | None) -> None:
        """No token can be checked, or they can."""
        self._change(NotReady.TOKENS_UNCHECKED, why_not, LogEvent.TOKENS_UNCHECKED, LogEvent.TOKENS_CHECKED)

    def _change(self, reason: NotReady, why: str | None, away: LogEvent, back: LogEvent) -> None:
        with self._lock:
            before = self._why.get(reason)
            others = {each: text for each, text in self._why.items() if each is not reason}
            self._why = others if why is None else {**others, reason: why}  # never changed in place: others read it
        if why is not None and before is None:
            log(away, problem=why, do="see this event in the runbook")
        elif why is None and before is not None:
            log(back)


@contextmanager
def looked_at(look: Callable[[], None]) -> Iterator[None]:
    """Look at once, and every few seconds meanwhile. `look` raises nothing."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(EVERY):
            look()

    look()
    thread = threading.Thread(target=again, name="look", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
