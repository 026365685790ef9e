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
        self._hands: dict[str, deque[Taken]] = {}
        """Of each plan what was taken of it and not handed out; whose turn comes first stands first."""
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
            not self._hands
            and self._looked
            and all(one.state is not PlanState.RELEASED for one in self._replays.all(self._route))
        )

    def gone(self, partitions: Iterable[int]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._holders.pop(partition, None)
        hands, self._hands = self._hands, {}
        self._keep(taken for hand in hands.values() for taken in hand if taken.item.position.partition in self._holders)

    def due(self, room: int) -> list[Taken]:
        """What may go now, `room` at most, of several plans by turns. Raises LedgerError as the ledger does; then nothing is lost."""
        if self._clock() >= self._look_at and room > 0:
            self._look()
        found: list[Taken] = []
        turns = deque(self._hands)
        while turns and len(found) < room:
            replay = turns.popleft()
            if self._rates[replay].ask() == 0:
                found.append(self._next_of(replay))
                turns.extend([replay] if replay in self._hands else [])
        return sorted(found, key=_place)

    def _look(self) -> None:
        """For more of the plans of which nothing is in hand."""
        found = self._replays.next(self._route, self._topic, self._holders, BATCH, self._hands)
        self._keep(found)
        self._look_at, self._looked = self._clock() + (0 if found else LOOK), True

    def _keep(self, found: Iterable[Taken]) -> None:
        for taken in found:
            self._hands.setdefault(taken.replay, deque()).append(taken)
            if taken.replay not in self._rates:
                self._rates = {name: rate for name, rate in self._rates.items() if name in self._hands}
                self._rates[taken.replay] = Rate(taken.rate, self._clock)

    def _next_of(self, replay: str) -> Taken:
        """Its next turn comes after those of the others."""
        hand = self._hands.pop(replay)
        taken = hand.popleft()
        if hand:
            self._hands[replay] = hand
        else:
            self._look_at = self._clock()
        return taken


def _place(taken: Taken) -> tuple[int, int]:
    return taken.item.position.partition, taken.item.position.offset
