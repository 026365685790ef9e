"""How often one patient may ask, and how many tokens may be refused: buckets, the oldest forgotten. Nothing waits here; any number of threads ask."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST: Final = 50_000
"""Patients in memory, and clients. One who is forgotten begins anew, with a full bucket."""


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
        with self._lock:
            tokens, now = self._filled(who)
            wait = self._wait(tokens)
            self._keep(who, tokens if wait else tokens - 1.0, now)
        return wait

    def look(self, who: str) -> float:
        """What `ask` would say; nothing is taken, and nobody is remembered for it."""
        with self._lock:
            return self._wait(self._filled(who)[0])

    def take(self, who: str) -> None:
        """One more, whether there is one or not."""
        with self._lock:
            tokens, now = self._filled(who)
            self._keep(who, max(0.0, tokens - 1.0), now)

    def _filled(self, who: str) -> tuple[float, float]:
        now = self._clock()
        tokens, since = self._buckets.get(who, (self._burst, now))
        return min(self._burst, tokens + max(0.0, now - since) * self._per_second), now

    def _wait(self, tokens: float) -> float:
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._per_second

    def _keep(self, who: str, tokens: float, now: float) -> None:
        self._buckets[who] = (tokens, now)
        self._buckets.move_to_end(who)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)


class Refusals:
    """Refused tokens: so many a second of one client, and of all together.

    Clients whose token was good before are held to their own limit only: else whoever sends made-up tokens from many addresses would lock all patients out.
    """

    def __init__(self, each: float, overall: float, clock: Callable[[], float]) -> None:
        """`clock` as above."""
        self._each, self._all = Rates(each, clock), Rates(overall, clock)
        self._lock = threading.Lock()
        self._good: OrderedDict[str, None] = OrderedDict()

    def wait(self, client: str) -> float:
        """Before a token is looked at. 0.0: go. Else seconds until it is worth asking again."""
        with self._lock:
            known = client in self._good
        return max(self._each.look(client), 0.0 if known else self._all.look(""))

    def refused(self, client: str) -> None:
        """A token of this client was."""
        self._each.take(client)
        self._all.take("")

    def good(self, client: str) -> None:
        """A token of this client was."""
        with self._lock:
            self._good[client] = None
            self._good.move_to_end(client)
            if len(self._good) > MOST:
                self._good.popitem(last=False)
