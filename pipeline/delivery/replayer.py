"""What a worker takes up of released plans, and when: at each plan's rate, for the partitions that are its own. The loop's thread alone calls it.

It sends nothing: what it hands out goes into the lanes with everything else. What it forgets (a partition that is lost, the end of the
process) the ledger gives again to the partition's next worker. Items of a topic that was the source before go before those of the source.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

from pipeline.bus.port import TopicPartition
from pipeline.delivery.rate import Rate
from pipeline.errors import LedgerError
from pipeline.ledger.plans import PlanState, Replays, Taken
from pipeline.model import Position

LOOK: Final = 1.0
"""Seconds between looks for new items, where none is in hand: how soon a released plan begins."""
BATCH: Final = 50
"""Items that are taken at once, at most."""


class Replayer:
    """See the module."""

    def __init__(
        self,
        route: str,
        topic: str,
        replays: Replays,
        clock: Callable[[], float] = time.monotonic,
        *,
        placed: Callable[[Position], bool] = lambda _position: False,
    ) -> None:
        """`topic`: the source. `clock`: seconds, monotonic. `placed`: whether an item that was handed out is in the lanes still."""
        self._route, self._source, self._replays, self._clock, self._placed = route, topic, replays, clock, placed
        self._process = secrets.token_hex(4)
        self._number = count(1)
        self._holders: dict[TopicPartition, str] = {}
        self._hands: dict[str, deque[Taken]] = {}
        """Of each plan what was taken of it and not handed out; whose turn comes first stands first."""
        self._rates: dict[str, Rate] = {}
        self._look_at, self._looked = clock(), False

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """They are ours from now on, and what anybody took before, we too, is given again. Of several former topics the oldest comes first."""
        partitions = list(partitions)
        self.gone(partitions)
        self._look_at, self._looked = self._clock(), False
        self._name(partitions)

    def _name(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self._holders[partition] = f"{self._process}.{next(self._number)}"

    def idle(self) -> bool:
        """Whether nothing is left of any plan: neither in hand, nor with another worker, nor with nobody, as where no partition is ours yet."""
        return (
            not self._hands
            and self._looked
            and all(one.state is not PlanState.RELEASED for one in self._replays.all(self._route))
        )

    def gone(self, partitions: Iterable[TopicPartition]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._holders.pop(partition, None)
        hands, self._hands = self._hands, {}
        self._keep(taken for hand in hands.values() for taken in hand if _partition(taken) in self._holders)

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
        topics = self._topics()
        return sorted(found, key=lambda taken: (topics.index(taken.item.position.topic), *_place(taken)))

    def _look(self) -> None:
        """For more of the plans of which nothing is in hand; of a plan with records of several topics, one topic after the other."""
        some = False
        for topic in self._topics():
            holders = {each.partition: holder for each, holder in self._holders.items() if each.topic == topic}
            try:
                found = self._replays.next(self._route, topic, holders, BATCH, self._hands)
            except LedgerError:  # it may have taken some, and the answer was lost: by another name they are given again
                self._name(list(self._holders))
                raise
            self._keep(taken for taken in found if not self._placed(taken.item.position))
            some = some or bool(found)
        self._look_at, self._looked = self._clock() + (0 if some else LOOK), True

    def _topics(self) -> list[str]:
        """The source last."""
        former = dict.fromkeys(each.topic for each in self._holders if each.topic != self._source)
        return [*former, self._source]

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


def _partition(taken: Taken) -> TopicPartition:
    return TopicPartition(taken.item.position.topic, taken.item.position.partition)


def _place(taken: Taken) -> tuple[int, int]:
    return taken.item.position.partition, taken.item.position.offset
