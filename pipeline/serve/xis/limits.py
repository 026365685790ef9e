"""How often one patient's token may ask: a token bucket for each, the oldest forgotten. Nothing waits here; any number of threads ask."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST: Final = 50_000
"""Patients in memory. One who is forgotten begins anew, with a full bucket."""


class Rates:
    """So many a second for each, and twice as many at once."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._per_second, self._burst = per_second, max(1.0, 2 * per_second)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def ask(self, who: str) -> float:
        """0.0: go. Else seconds until it is worth asking again."""
        now = self._clock()
        with self._lock:
            tokens, since = self._buckets.pop(who, (self._burst, now))
            tokens = min(self._burst, tokens + max(0.0, now - since) * self._per_second)
            wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._per_second
            self._buckets[who] = (tokens if wait else tokens - 1.0, now)
            if len(self._buckets) > MOST:
                self._buckets.popitem(last=False)
        return wait
