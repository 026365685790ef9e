"""What a worker takes up of released plans, and when: at each plan's rate, for the partitions that are its own. The loop's thread alone calls it.

It sends nothing: what it hands out goes into the lanes with everything else. What it forgets (a partition that is lost, the end of the
process) the ledger gives again to the partition's next worker.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

from pipeline.delivery.rate import Rate
from pipeline.ledger.plans import PlanState, Replays, Taken

LOOK: Final = 1.0
"""Seconds between looks for new items, where none is in hand: how soon a released plan begins."""
BATCH: Final = 50
"""Items that are taken at once, at most."""


class Replayer:
    """See the module."""

    def __init__(self, route: str, topic: str, replays: Replays, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, monotonic."""
        self._route, self._topic, self._replays, self._clock = route, topic, replays, clock
        self._process = secrets.token_hex(4)
        self._number = count(1)
        self._holders: dict[int, str] = {}
        self._hand: deque[Taken] = deque()
        self._rates: dict[str, Rate] = {}
        self._look_at, self._looked = clock(), False

    def assigned(self, partitions: Iterable[int]) -> None:
        """They are ours from now on, and what anybody took before, we too, is given again."""
        partitions = list(partitions)
        self.gone(partitions)
        self._look_at, self._looked = self._clock(), False
        for partition in partitions:
            self._holders[partition] = f"{self._process}.{next(self._number)}"

    def idle(self) -> bool:
        """Whether nothing is left of any plan: neither in hand, nor with another worker, nor with nobody, as where no partition is ours yet."""
        return (
            not self._hand and self._looked and all(one.state is not PlanState.RELEASED for one in self._replays.all(self._route))
        )

    def gone(self, partitions: Iterable[int]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._holders.pop(partition, None)
        self._hand = deque(taken for taken in self._hand if taken.item.position.partition in self._holders)

    def due(self, room: int) -> list[Taken]:
        """What may go now, `room` at most. Raises LedgerError as the ledger does; then nothing is lost."""
        if not self._hand and self._clock() >= self._look_at and room > 0:
            self._hand.extend(self._replays.next(self._route, self._topic, self._holders, BATCH))
            self._look_at, self._looked = self._clock() + (0 if self._hand else LOOK), True
        found: list[Taken] = []
        while self._hand and len(found) < room and self._rate(self._hand[0]).ask() == 0:
            found.append(self._hand.popleft())
        return found

    def _rate(self, taken: Taken) -> Rate:
        if taken.replay not in self._rates:
            self._rates = {name: rate for name, rate in self._rates.items() if any(one.replay == name for one in self._hand)}
            self._rates[taken.replay] = Rate(taken.rate, self._clock)
        return self._rates[taken.replay]
