"""What a worker takes up of released plans, and when. A list stands for the ledger's plans."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.bus.port import TopicPartition
from pipeline.delivery.replayer import LOOK, Replayer
from pipeline.errors import LedgerError
from pipeline.ledger.plans import Item, ItemClass, Mode, PlanState, Replay, Replays, Taken
from pipeline.model import Position
from schemas.outcomes import State

P0 = TopicPartition("t", 0)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Plans:
    """Gives what is left, and remembers who asked."""

    left: list[Taken] = field(default_factory=list)
    asked: list[dict[int, str]] = field(default_factory=list)
    away: bool = False
    unanswered: bool = False
    """It takes, and the answer is lost."""
    lost: list[tuple[Taken, str]] = field(default_factory=list)
    """What was taken so, and by which name."""
    plans: list[Replay] = field(default_factory=list)

    def all(self, route: str | None = None) -> list[Replay]:
        assert route == "r"
        return self.plans

    def next(self, route: str, topic: str, holders: Mapping[int, str], most: int, beside: Collection[str] = ()) -> list[Taken]:
        assert route == "r"
        if self.away:
            raise LedgerError("away")
        self.asked.append(dict(holders))
        again = [taken for taken, holder in self.lost if holder != holders.get(taken.item.position.partition)]
        self.lost = [one for one in self.lost if one[0] not in again]
        self.left = again + self.left
        here = [one for one in self.left if one.item.position.topic == topic and one.replay not in beside]
        mine = [one for one in here if one.item.position.partition in holders]
        given = [one for one in mine if [other for other in mine if other.replay == one.replay].index(one) < max(one.rate, 1)][
            :most
        ]
        self.left = [one for one in self.left if one not in given]
        if self.unanswered:
            self.unanswered, self.lost = False, [(one, holders[one.item.position.partition]) for one in given]
            raise LedgerError("the connection was lost at COMMIT")
        return given


def item(offset: int, partition: int = 0, replay: str = "r1", rate: float = 2.0, topic: str = "t") -> Taken:
    position = Position(topic, partition, offset)
    return Taken(replay, "r", Mode(), rate, Item(position, ("a",), ItemClass.WILL_SEND, State.PARKED, position))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def replayer(plans: Plans, clock: Clock, partitions: tuple[int, ...] = (0,)) -> Replayer:
    made = Replayer("r", "t", cast("Replays", cast("Any", plans)), clock)
    made.assigned(TopicPartition("t", each) for each in partitions)
    return made


def offsets(found: list[Taken]) -> list[int]:
    return [one.item.position.offset for one in found]


def test_items_go_at_their_plans_rate(clock: Clock) -> None:
    made = replayer(Plans([item(1), item(2), item(3), item(4)]), clock)
    assert offsets(made.due(10)) == [1]
    clock.now += 0.4
    assert offsets(made.due(10)) == []
    clock.now += 0.1
    assert offsets(made.due(10)) == [2]
    clock.now += 5
    assert offsets(made.due(10)) == [3, 4]


def test_no_more_go_than_there_is_room_for(clock: Clock) -> None:
    plans = Plans([item(1, rate=100), item(2, rate=100), item(3, rate=100)])
    made = replayer(plans, clock)
    assert offsets(made.due(0)) == []
    assert plans.asked == []
    clock.now += 5
    assert offsets(made.due(1)) == [1]
    clock.now += 1
    assert offsets(made.due(2)) == [2, 3]


def test_an_idle_ledger_is_asked_once_a_second(clock: Clock) -> None:
    plans = Plans()
    made = replayer(plans, clock)
    for _ in range(20):
        made.due(10)
        clock.now += LOOK / 10
    assert len(plans.asked) == 2


def test_a_lost_partitions_items_are_forgotten_and_a_new_name_takes_them(clock: Clock) -> None:
    plans = Plans([item(1), item(2), item(1, partition=1)])
    made = replayer(plans, clock, (0, 1))
    assert offsets(made.due(1)) == [1]
    made.gone([P0])
    clock.now += 5
    assert [str(one.item.position) for one in made.due(10)] == ["t/1/1"]
    made.assigned([P0])
    clock.now += 5
    made.due(10)
    first, last = plans.asked[0], plans.asked[-1]
    assert first[0] != last[0]
    assert first[1] == last[1]


def test_a_partition_that_is_given_again_has_a_new_name_without_having_been_lost(clock: Clock) -> None:
    plans = Plans()
    made = replayer(plans, clock)
    made.due(1)
    made.assigned([P0])
    clock.now += 5
    made.due(1)
    assert plans.asked[0] != plans.asked[1]


def test_items_of_a_topic_that_was_the_source_before_go_first(clock: Clock) -> None:
    plans = Plans([item(1), item(7, topic="z", replay="r2"), item(9, topic="a", replay="r3")])
    made = replayer(plans, clock)
    made.assigned([TopicPartition("z", 0), TopicPartition("a", 0)])  # the oldest first
    assert [str(one.item.position) for one in made.due(10)] == ["z/0/7", "a/0/9", "t/0/1"]


def test_of_a_former_topic_that_is_lost_nothing_is_kept(clock: Clock) -> None:
    made = replayer(Plans([item(7, topic="before"), item(8, topic="before")]), clock)
    made.assigned([TopicPartition("before", 0)])
    assert offsets(made.due(1)) == [7]
    made.gone([TopicPartition("before", 0)])
    clock.now += 5
    assert made.due(10) == []


def test_two_processes_never_have_one_name(clock: Clock) -> None:
    plans = Plans()
    for _ in range(2):
        replayer(plans, clock).due(1)
    assert plans.asked[0] != plans.asked[1]


def test_a_ledger_that_is_away_costs_no_item(clock: Clock) -> None:
    plans = Plans([item(1)], away=True)
    made = replayer(plans, clock)
    with pytest.raises(LedgerError):
        made.due(1)
    plans.away = False
    assert offsets(made.due(1)) == [1]


def test_what_was_taken_by_an_ask_whose_answer_was_lost_is_taken_by_another_name(clock: Clock) -> None:
    plans = Plans([item(1)], unanswered=True)
    made = replayer(plans, clock)
    with pytest.raises(LedgerError):
        made.due(1)
    assert offsets(made.due(1)) == [1]
    assert plans.asked[0] != plans.asked[1]


def test_what_has_its_place_and_is_given_again_by_another_name_costs_no_turn(clock: Clock) -> None:
    """Nor does it wait in hand until it is done, to be handed out then."""
    plans = Plans([item(1), item(2), item(3)])
    placed = {Position("t", 0, 1)}
    made = Replayer("r", "t", cast("Replays", cast("Any", plans)), clock, placed=placed.__contains__)
    made.assigned([P0])
    clock.now += 5
    assert offsets(made.due(10)) == [2]
    clock.now += 5
    assert offsets(made.due(10)) == [3]


def test_what_is_in_hand_stays_there_when_an_answer_is_lost(clock: Clock) -> None:
    plans = Plans([item(1), item(2), item(3, replay="r2")])
    made = replayer(plans, clock)
    assert offsets(made.due(1)) == [1]
    plans.left, plans.unanswered = [item(4, replay="r3")], True
    with pytest.raises(LedgerError):
        made.due(10)
    clock.now += 5
    assert offsets(made.due(10)) == [2, 3, 4]


def test_each_plan_has_its_own_rate(clock: Clock) -> None:
    made = replayer(Plans([item(1, replay="a", rate=1), item(2, replay="b", rate=50), item(3, replay="b", rate=50)]), clock)
    assert offsets(made.due(10)) == [1, 2]
    clock.now += 0.03
    assert offsets(made.due(10)) == [3]


def test_a_slow_plan_whose_records_come_first_keeps_no_other_one_waiting(clock: Clock) -> None:
    slow = [item(offset, replay="slow", rate=0.1) for offset in range(100)]
    made = replayer(Plans([*slow, *(item(offset, replay="fast", rate=20) for offset in range(100, 200))]), clock)
    gone = []
    for _ in range(300):
        gone += made.due(10)
        clock.now += 0.02
    assert [sum(one.replay == name for one in gone) for name in ("slow", "fast")] == [1, 100]


@pytest.mark.parametrize("first", ["a", "b"])
def test_where_there_is_room_for_one_at_a_time_plans_take_turns(clock: Clock, first: str) -> None:
    plans = ["a", "b"] if first == "a" else ["b", "a"]
    made = replayer(Plans([item(offset, replay=plan, rate=50) for plan in plans for offset in range(40)]), clock)
    clock.now += 5
    gone: list[Taken] = []
    for _ in range(40):
        gone += made.due(1)
        clock.now += 1
    assert [sum(one.replay == name for one in gone) for name in ("a", "b")] == [20, 20]


def test_what_goes_at_once_goes_in_the_order_of_the_source(clock: Clock) -> None:
    made = replayer(Plans([item(offset, replay="ab"[offset % 2], rate=50) for offset in (1, 2, 3, 4)]), clock)
    assert offsets(made.due(1)) == [1]
    clock.now += 5
    assert offsets(made.due(10)) == [2, 3, 4]


def plan(state: PlanState) -> Replay:
    return Replay("r1", "r", 0, "ana", None, "{}", "hash", 1.0, Mode(), state)


@pytest.mark.parametrize(("state", "idle"), [(PlanState.RELEASED, False), (PlanState.PAUSED, True), (PlanState.DONE, True)])
def test_where_no_partition_is_its_own_yet_it_is_idle_only_if_no_plan_is_released(
    clock: Clock, state: PlanState, idle: bool
) -> None:
    """As after a crash on Kafka: the group gives the partitions when the dead member's session is over."""
    one = replayer(Plans(plans=[plan(state)]), clock, ())
    assert one.due(5) == []
    assert one.idle() is idle
