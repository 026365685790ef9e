"""How far a partition may be committed."""

import pytest

from pipeline.bus.port import TopicPartition
from pipeline.delivery.frontier import Frontier
from pipeline.model import Position

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


def at(offset: int, partition: TopicPartition = ONE) -> Position:
    return Position(partition.topic, partition.partition, offset)


@pytest.fixture
def frontier() -> Frontier:
    frontier = Frontier()
    frontier.assigned([ONE, TWO])
    return frontier


def test_the_lowest_open_offset_holds_the_frontier(frontier: Frontier) -> None:
    epochs = {offset: frontier.read(at(offset)) for offset in range(4)}
    for offset in (0, 2, 3):
        assert frontier.done(at(offset), epochs[offset])
    assert frontier.to_commit() == {ONE: 1}
    frontier.done(at(1), epochs[1])
    assert frontier.to_commit() == {ONE: 4}


def test_offsets_without_a_record_are_passed_with_the_next_record(frontier: Frontier) -> None:
    first, second = frontier.read(at(3)), frontier.read(at(9))
    frontier.done(at(3), first)
    assert frontier.to_commit() == {ONE: 9}
    frontier.done(at(9), second)
    assert frontier.to_commit() == {ONE: 10}


def test_a_marker_at_the_end_is_passed_although_no_record_stands_there(frontier: Frontier) -> None:
    frontier.done(at(0), frontier.read(at(0)))
    frontier.passed(ONE, 5)
    frontier.passed(ONE, 4)
    assert frontier.to_commit() == {ONE: 5}


def test_a_partition_that_holds_only_markers_is_committed_too(frontier: Frontier) -> None:
    frontier.passed(TWO, 7)
    assert frontier.to_commit() == {TWO: 7}


def test_what_is_open_holds_the_frontier_before_a_marker_as_well(frontier: Frontier) -> None:
    frontier.read(at(2))
    frontier.passed(ONE, 5)
    assert frontier.to_commit() == {}


def test_where_reading_began_is_not_committed_again(frontier: Frontier) -> None:
    frontier.read(at(7))
    assert frontier.to_commit() == {}


def test_only_what_advanced_since_the_last_commit_is_named_and_a_refused_commit_is_named_again(frontier: Frontier) -> None:
    frontier.done(at(0), frontier.read(at(0)))
    frontier.done(at(0, TWO), frontier.read(at(0, TWO)))
    assert frontier.to_commit() == {ONE: 1, TWO: 1}
    assert frontier.to_commit() == {ONE: 1, TWO: 1}
    frontier.committed({ONE: 1})
    assert frontier.to_commit() == {TWO: 1}
    frontier.committed({TWO: 1})
    assert frontier.to_commit() == {}


def test_a_commit_of_a_partition_that_went_meanwhile_is_no_error(frontier: Frontier) -> None:
    frontier.revoked([ONE])
    frontier.committed({ONE: 4})
    frontier.passed(ONE, 4)
    assert frontier.to_commit() == {}


def test_a_late_completion_of_a_lost_partition_moves_nothing(frontier: Frontier) -> None:
    late = frontier.read(at(0))
    frontier.revoked([ONE])
    assert not frontier.done(at(0), late)
    assert frontier.to_commit() == {}


def test_a_late_completion_moves_nothing_of_the_same_partition_assigned_again(frontier: Frontier) -> None:
    late = frontier.read(at(0))
    frontier.revoked([ONE])
    frontier.assigned([ONE])
    again = frontier.read(at(0))
    assert not frontier.done(at(0), late)
    assert frontier.to_commit() == {}
    assert frontier.done(at(0), again)
    assert frontier.to_commit() == {ONE: 1}


def test_a_partition_that_is_given_again_without_having_been_taken_begins_anew(frontier: Frontier) -> None:
    late = frontier.read(at(5))
    frontier.assigned([ONE])
    assert not frontier.done(at(5), late)
    assert frontier.read(at(2)) != late


def test_no_epoch_is_zero_so_zero_stands_for_none(frontier: Frontier) -> None:
    frontier.read(at(0))
    assert not frontier.done(at(0), 0)


def test_done_twice_is_no_error(frontier: Frontier) -> None:
    epoch = frontier.read(at(0))
    assert frontier.done(at(0), epoch)
    assert frontier.done(at(0), epoch)
    assert frontier.to_commit() == {ONE: 1}


def test_done_before_it_was_read_is_a_defect(frontier: Frontier) -> None:
    epoch = frontier.read(at(0))
    with pytest.raises(ValueError, match="t/0/1 is done before it was read"):
        frontier.done(at(1), epoch)


@pytest.mark.parametrize("offset", [3, 2])
def test_reading_backwards_or_twice_is_a_defect(frontier: Frontier, offset: int) -> None:
    frontier.read(at(3))
    with pytest.raises(ValueError, match="read twice or out of order"):
        frontier.read(at(offset))


def test_reading_what_is_not_ours_is_a_defect(frontier: Frontier) -> None:
    frontier.revoked([TWO])
    with pytest.raises(ValueError, match="not assigned"):
        frontier.read(at(0, TWO))


def test_open_positions_are_counted_over_all_partitions(frontier: Frontier) -> None:
    epoch = frontier.read(at(0))
    frontier.read(at(0, TWO))
    assert frontier.unsettled == 2
    frontier.done(at(0), epoch)
    assert frontier.unsettled == 1
    frontier.revoked([TWO])
    assert frontier.unsettled == 0


def test_the_gap_is_how_far_done_work_is_ahead_of_the_oldest_open(frontier: Frontier) -> None:
    assert frontier.gap == 0
    epochs = [frontier.read(at(offset)) for offset in range(10)]
    frontier.read(at(50, TWO))
    assert frontier.gap == 0
    frontier.done(at(0), epochs[0])
    frontier.done(at(8), epochs[8])
    frontier.done(at(4), epochs[4])
    assert frontier.gap == 7
    for offset in range(1, 10):
        frontier.done(at(offset), epochs[offset])
    assert frontier.gap == 0


@pytest.mark.timeout(10)
def test_one_open_offset_before_half_a_million_done_ones_costs_neither_time_nor_memory(frontier: Frontier) -> None:
    frontier.read(at(0))
    for offset in range(1, 500_001):
        frontier.done(at(offset), frontier.read(at(offset)))
        if not offset % 100:
            assert frontier.to_commit() == {}
    assert frontier.gap == 500_000
    assert frontier.unsettled == 1
