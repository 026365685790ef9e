"""Whose turn it is."""

from itertools import count

import pytest

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Limits, Offered, Ticket
from pipeline.model import Position

WIDE = Limits(messages=1_000_000, size=1_000_000_000, per_key=1_000_000, seconds=60)
ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)
T = Ticket[bytes]


@pytest.fixture
def lanes() -> Lanes[bytes]:
    return Lanes(WIDE)


def ticket(offset: int, *keys: str, partition: int = 0, size: int = 1) -> T:
    return Ticket(Position("t", partition, offset), keys, size, b"MSH|")


def offered(lanes: Lanes[bytes], *tickets: T, now: float = 0) -> list[Offered]:
    return [lanes.offer(one, now) for one in tickets]


def places(tickets: tuple[T, ...]) -> list[tuple[int, int, bool]]:
    """Partition, offset, whether it is a stub."""
    return [(one.position.partition, one.position.offset, one.content is None) for one in tickets]


def test_one_patient_goes_one_at_a_time_and_others_do_not_wait(lanes: Lanes[bytes]) -> None:
    first, second, other = ticket(0, "a"), ticket(1, "a"), ticket(2, "b")
    assert offered(lanes, first, second, other) == [Offered.READY, Offered.WAITING, Offered.READY]
    assert lanes.finish(first) == (second,)
    assert lanes.finish(second) == ()
    assert lanes.finish(other) == ()
    assert len(lanes) == lanes.messages == lanes.size == 0


def test_a_merge_waits_for_both_patients_and_holds_both(lanes: Lanes[bytes]) -> None:
    a, b, merge, after_a, after_b = ticket(0, "a"), ticket(1, "b"), ticket(2, "a", "b"), ticket(3, "a"), ticket(4, "b")
    offered(lanes, a, b, merge, after_a, after_b)
    assert lanes.finish(b) == ()
    assert lanes.finish(a) == (merge,)
    assert lanes.finish(merge) == (after_a, after_b)


def test_what_becomes_ready_comes_in_order_of_entry_whatever_the_order_of_keys(lanes: Lanes[bytes]) -> None:
    merge, earlier, later = ticket(0, "b", "a"), ticket(1, "a"), ticket(2, "b")
    offered(lanes, merge, earlier, later)
    assert lanes.finish(merge) == (earlier, later)


def test_merges_in_both_directions_do_not_wait_for_each_other(lanes: Lanes[bytes]) -> None:
    one, other = ticket(0, "a", "b"), ticket(1, "b", "a")
    assert offered(lanes, one, other) == [Offered.READY, Offered.WAITING]
    assert lanes.finish(one) == (other,)


def test_a_key_that_stands_twice_does_not_wait_for_itself(lanes: Lanes[bytes]) -> None:
    merge, after = ticket(0, "a", "a"), ticket(1, "a")
    assert offered(lanes, merge, after) == [Offered.READY, Offered.WAITING]
    assert lanes.finish(merge) == (after,)


def test_a_message_of_no_patient_waits_for_nobody(lanes: Lanes[bytes]) -> None:
    nobody = [ticket(0), ticket(1)]
    assert offered(lanes, *nobody) == [Offered.READY, Offered.READY]
    assert [lanes.finish(one) for one in nobody] == [(), ()]


def test_a_delayed_one_stays_first_and_may_be_started_again(lanes: Lanes[bytes]) -> None:
    first, second = ticket(0, "a"), ticket(1, "a")
    offered(lanes, first, second)
    assert lanes.started(first, 0)
    assert lanes.delayed(first)
    assert lanes.started(first, 0)
    assert lanes.finish(first) == (second,)


def test_starting_what_is_not_ready_is_a_defect(lanes: Lanes[bytes]) -> None:
    first, second = ticket(0, "a"), ticket(1, "a")
    offered(lanes, first, second)
    with pytest.raises(ValueError, match="not ready"):
        lanes.started(second, 0)
    lanes.started(first, 0)
    with pytest.raises(ValueError, match="not ready"):
        lanes.started(first, 0)


def test_finishing_twice_is_a_defect(lanes: Lanes[bytes]) -> None:
    only = ticket(0, "a")
    offered(lanes, only)
    lanes.finish(only)
    with pytest.raises(ValueError, match="t/0/0 is not here"):
        lanes.finish(only)


@pytest.mark.parametrize("offset", [5, 4])
def test_the_same_position_twice_or_out_of_order_is_a_defect_and_changes_nothing(lanes: Lanes[bytes], offset: int) -> None:
    offered(lanes, ticket(5, "a"))
    with pytest.raises(ValueError, match="twice or out of order"):
        lanes.offer(ticket(offset, "a"), 0)
    with pytest.raises(ValueError, match="twice or out of order"):
        lanes.restore(Position("t", 0, offset), ("b",))
    assert len(lanes) == 1
    assert lanes.offer(ticket(4, "b", partition=1), 0) is Offered.READY


def test_a_stub_is_not_offered(lanes: Lanes[bytes]) -> None:
    with pytest.raises(ValueError, match="restored, not offered"):
        lanes.offer(Ticket(Position("t", 0, 0), ("a",), 0, None), 0)


def test_a_restored_stub_that_is_first_is_ready_at_once_and_takes_no_room(lanes: Lanes[bytes]) -> None:
    (stub,) = lanes.restore(Position("t", 0, 3), ("a",))
    assert places((stub,)) == [(0, 3, True)]
    assert lanes.restore(Position("t", 0, 4), ("a", "b")) == ()
    assert (lanes.messages, lanes.size, lanes.stubs, len(lanes)) == (0, 0, 2, 2)
    later = ticket(5, "b")
    assert lanes.offer(later, 0) is Offered.WAITING
    assert lanes.started(stub, 0)
    (second,) = lanes.finish(stub)
    assert places((second,)) == [(0, 4, True)]
    assert lanes.finish(second) == (later,)


def test_stubs_of_several_partitions_may_be_restored_in_turn() -> None:
    orders = ([(0, 1), (0, 2), (1, 1), (1, 2)], [(1, 1), (0, 1), (1, 2), (0, 2)])
    for order in orders:
        lanes: Lanes[bytes] = Lanes(WIDE)
        ready = [one for partition, offset in order for one in lanes.restore(Position("t", partition, offset), ("a",))]
        seen = []
        while ready:
            one = ready.pop()
            seen.append((one.position.partition, one.position.offset))
            ready += lanes.finish(one)
        assert seen == order


def test_a_lane_that_is_too_long_keeps_the_place_and_wants_the_message_parked() -> None:
    lanes: Lanes[bytes] = Lanes(Limits(messages=100, size=100, per_key=2, seconds=60))
    first, second, third = ticket(0, "a"), ticket(1, "a"), ticket(2, "b", "a")
    assert offered(lanes, first, second, third) == [Offered.READY, Offered.WAITING, Offered.OVERFLOW]
    assert lanes.messages == 3
    assert lanes.parked(third) == ()
    assert (lanes.messages, lanes.stubs) == (2, 1)
    lanes.finish(first)
    (stub,) = lanes.finish(second)
    assert places((stub,)) == [(0, 2, True)]


def test_what_is_being_parked_is_not_handed_out_until_its_parking_is_durable() -> None:
    lanes: Lanes[bytes] = Lanes(Limits(messages=100, size=100, per_key=1, seconds=60))
    first, second = ticket(0, "a"), ticket(1, "a")
    assert offered(lanes, first, second) == [Offered.READY, Offered.OVERFLOW]
    assert lanes.finish(first) == ()
    assert lanes.overdue(1000) == ()
    assert places(lanes.parked(second)) == [(0, 1, True)]


def test_only_what_waits_too_long_is_overdue_and_is_named_once(lanes: Lanes[bytes]) -> None:
    ready, old, young = ticket(0, "a"), ticket(1, "a"), ticket(2, "a")
    offered(lanes, ready, old)
    offered(lanes, young, now=1)
    lanes.started(ready, 0)
    assert lanes.overdue(60) == ()
    assert lanes.overdue(60.5) == (old,)
    assert lanes.overdue(60.5) == ()
    assert lanes.overdue(62) == (young,)
    assert lanes.parked(old) == ()
    assert lanes.parked(young) == ()
    assert lanes.messages == 1
    assert places(lanes.finish(ready)) == [(0, 1, True)]


def test_a_long_wait_for_a_free_thread_is_no_reason_to_park(lanes: Lanes[bytes]) -> None:
    first, second = ticket(0, "a"), ticket(1, "a")
    offered(lanes, first, second)
    assert lanes.overdue(1000) == ()
    lanes.started(first, 1000)
    assert lanes.overdue(1060) == ()
    assert lanes.overdue(1061) == (second,)


def test_what_waits_behind_one_that_is_parked_for_its_wait_is_overdue_too(lanes: Lanes[bytes]) -> None:
    held, between, last = ticket(0, "a"), ticket(1, "a", "b"), ticket(2, "b")
    offered(lanes, held, between, last)
    lanes.started(held, 0)
    assert lanes.overdue(61) == (between, last)


def test_a_delayed_one_counts_from_when_it_was_taken_up_first(lanes: Lanes[bytes]) -> None:
    held, behind = ticket(0, "a"), ticket(1, "a")
    offered(lanes, held, behind)
    lanes.started(held, 0)
    lanes.delayed(held)
    lanes.started(held, 59)
    assert lanes.overdue(61) == (behind,)


def test_what_became_ready_is_overdue_no_more(lanes: Lanes[bytes]) -> None:
    first, second = ticket(0, "a"), ticket(1, "a")
    offered(lanes, first, second)
    lanes.finish(first)
    assert lanes.overdue(1000) == ()


def test_one_whose_probe_is_due_much_later_is_parked_where_it_stands_first(lanes: Lanes[bytes]) -> None:
    first, second = ticket(0, "a"), ticket(1, "a")
    offered(lanes, first, second)
    lanes.started(first, 0)
    (stub,) = lanes.parked(first)
    assert places((stub,)) == [(0, 0, True)]
    assert lanes.messages == 1
    assert not lanes.started(first, 0)
    assert lanes.started(stub, 0)
    assert lanes.finish(stub) == (second,)


def test_one_that_was_fetched_and_is_parked_again_is_a_stub_again(lanes: Lanes[bytes]) -> None:
    (stub,) = lanes.restore(Position("t", 0, 0), ("a",))
    lanes.started(stub, 0)
    (again,) = lanes.parked(stub)
    assert lanes.started(again, 0)
    assert (lanes.messages, lanes.size, lanes.stubs) == (0, 0, 1)


def test_one_may_leave_from_the_middle_of_its_lanes(lanes: Lanes[bytes]) -> None:
    first, middle, last, other = ticket(0, "a"), ticket(1, "a", "b"), ticket(2, "a"), ticket(3, "b")
    offered(lanes, first, middle, last, other)
    lanes.started(first, 0)
    assert lanes.finish(middle) == (other,)
    assert lanes.overdue(1000) == (last,)
    assert lanes.parked(last) == ()
    assert places(lanes.finish(first)) == [(0, 2, True)]


def test_a_lost_partition_leaves_and_what_stood_behind_it_goes(lanes: Lanes[bytes]) -> None:
    gone, waiting, behind = ticket(0, "a"), ticket(1, "a", "b"), ticket(0, "b", partition=1)
    offered(lanes, gone, waiting, behind)
    lanes.restore(Position("t", 0, 2), ("b",))
    last = ticket(1, "a", partition=1)
    offered(lanes, last)
    assert lanes.drop([ONE]) == (behind, last)
    assert (len(lanes), lanes.messages, lanes.size) == (2, 2, 2)
    assert not lanes.started(gone, 0)
    assert lanes.overdue(1000) == ()


def test_one_that_leaves_from_the_middle_lets_nobody_past_the_first(lanes: Lanes[bytes]) -> None:
    first, middle, last = ticket(0, "a"), ticket(0, "a", partition=1), ticket(1, "a")
    offered(lanes, first, middle, last)
    assert lanes.drop([TWO]) == ()
    assert lanes.started(first, 0)
    assert lanes.finish(first) == (last,)
    assert lanes.started(last, 0)


def test_a_started_one_of_a_lost_partition_holds_its_lanes_until_it_is_finished(lanes: Lanes[bytes]) -> None:
    running, behind = ticket(0, "a"), ticket(0, "a", partition=1)
    offered(lanes, running, behind)
    lanes.started(running, 0)
    assert lanes.drop([ONE]) == ()
    assert lanes.messages == 2
    assert lanes.finish(running) == (behind,)


def test_a_position_read_again_stands_behind_its_late_delivery(lanes: Lanes[bytes]) -> None:
    late, again = ticket(0, "a"), ticket(0, "a")
    offered(lanes, late)
    lanes.started(late, 0)
    lanes.drop([ONE])
    assert lanes.offer(again, 0) is Offered.WAITING
    assert lanes.finish(late) == (again,)


def test_a_stub_that_is_being_fetched_when_its_partition_is_lost_stays_until_finished_and_may_be_restored_behind_itself(
    lanes: Lanes[bytes],
) -> None:
    (stub,) = lanes.restore(Position("t", 0, 0), ("a",))
    lanes.started(stub, 0)
    assert lanes.drop([ONE]) == ()
    assert lanes.restore(stub.position, stub.keys) == ()
    (again,) = lanes.finish(stub)
    assert again is not stub
    assert lanes.started(again, 0)


def test_a_thread_that_would_try_a_lost_one_later_is_told_to_finish_it(lanes: Lanes[bytes]) -> None:
    running, behind = ticket(0, "a"), ticket(0, "a", partition=1)
    offered(lanes, running, behind)
    lanes.started(running, 0)
    lanes.drop([ONE])
    assert not lanes.delayed(running)
    assert lanes.finish(running) == (behind,)


def test_a_delayed_one_of_a_lost_partition_leaves(lanes: Lanes[bytes]) -> None:
    running, behind = ticket(0, "a"), ticket(0, "a", partition=1)
    offered(lanes, running, behind)
    lanes.started(running, 0)
    lanes.delayed(running)
    assert lanes.drop([ONE]) == (behind,)
    assert not lanes.started(running, 0)


def test_a_parking_that_ends_after_its_partition_is_lost_has_no_effect_and_a_started_one_leaves(lanes: Lanes[bytes]) -> None:
    running, named = ticket(0, "a"), ticket(1, "a")
    offered(lanes, running, named)
    behind = ticket(0, "a", partition=1)
    offered(lanes, behind, now=100)
    lanes.started(running, 0)
    assert lanes.overdue(61) == (named,)
    lanes.drop([ONE])
    assert lanes.parked(named) == ()
    assert lanes.parked(running) == (behind,)
    assert len(lanes) == 1


def test_full_at_the_limit_and_room_again_below_three_quarters_of_it() -> None:
    lanes: Lanes[bytes] = Lanes(Limits(messages=8, size=1000, per_key=100, seconds=60))
    tickets = [ticket(offset, "a") for offset in range(8)]
    filling = []
    for one in tickets:
        lanes.offer(one, 0)
        filling.append((lanes.full, lanes.has_room))
    assert filling == [(False, True)] * 5 + [(False, False)] * 2 + [(True, False)]
    emptying = []
    for one in tickets:
        lanes.finish(one)
        emptying.append((lanes.full, lanes.has_room))
    assert emptying == [(False, False)] * 2 + [(False, True)] * 6


def test_bytes_are_bounded_as_well_and_stubs_do_not_count() -> None:
    lanes: Lanes[bytes] = Lanes(Limits(messages=100, size=40, per_key=100, seconds=60))
    first, second = ticket(0, "a", size=20), ticket(1, "a", size=20)
    offered(lanes, first, second)
    assert lanes.full
    lanes.started(first, 0)
    lanes.overdue(100)
    lanes.parked(second)
    assert lanes.size == 20
    assert lanes.has_room


@pytest.mark.parametrize("limits", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_limit_below_one_is_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limits(*limits, seconds=1)


@pytest.mark.timeout(20)
def test_a_hundred_thousand_places_in_one_lane_cost_no_more_each_than_a_few() -> None:
    lanes: Lanes[bytes] = Lanes(WIDE)
    first = lanes.restore(Position("t", 0, 0), ("hot",))
    offsets = count(1)
    for _ in range(50_000):
        offset = next(offsets)
        lanes.restore(Position("t", 0, offset), ("hot",))
        lanes.offer(ticket(offset, "hot", partition=1), 0)
    for _ in range(10_000):
        assert lanes.overdue(60) == ()
    ready = first
    for _ in range(20_001):
        ready = lanes.finish(ready[0])
    assert places(lanes.drop([ONE])) == [(1, 10_001, False)]
    assert len(lanes) == lanes.messages == 40_000
    assert lanes.overdue(61) == ()


def test_a_replay_stands_last_in_its_lanes_though_its_record_is_from_below_what_was_read(lanes: Lanes[bytes]) -> None:
    live, later = ticket(7, "a", "b"), ticket(8, "b")
    offered(lanes, live, later)
    assert lanes.rejoin(Position("t", 0, 3), ("a",)) == ()
    assert places(lanes.rejoin(Position("t", 0, 2), ("c",))) == [(0, 2, True)]
    assert places(lanes.finish(live)) == [(0, 8, False), (0, 3, True)]
    assert offered(lanes, ticket(9, "d")) == [Offered.READY]
    assert lanes.messages == 2


def test_a_replay_of_what_is_in_its_lanes_already_stands_behind_it(lanes: Lanes[bytes]) -> None:
    (first,) = lanes.restore(Position("t", 0, 1), ("a",))
    assert lanes.rejoin(Position("t", 0, 1), ("a",)) == ()
    assert places(lanes.finish(first)) == [(0, 1, True)]


def test_a_replay_leaves_with_its_partition(lanes: Lanes[bytes]) -> None:
    lanes.rejoin(Position("t", 0, 1), ("a",))
    lanes.rejoin(Position("t", 1, 1), ("a",))
    assert places(lanes.drop([ONE])) == [(1, 1, True)]
    assert lanes.rejoin(Position("t", 0, 1), ("a",)) == ()
