"""So many a second: a token bucket. Pure: the clock is handed in, nothing waits here, one thread asks."""

from collections.abc import Callable


class Rate:
    """Full, it holds what a second brings (one token at least); it begins with one."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        if per_second <= 0:
            raise ValueError("a rate is above 0")
        self.per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = 1.0
        self._clock = clock
        self._at = clock()

    def ask(self) -> float:
        """0.0: go, the token is taken. Else seconds until it is worth asking again."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self.per_second)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.per_second
