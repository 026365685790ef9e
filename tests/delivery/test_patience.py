"""What counts of a message's failures, and what does not."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.patience import SHARE, Patience

MOST = 100.0


def used(*failures: tuple[float, int]) -> float:
    patience = Patience(MOST)
    for now, served in failures:
        patience.failed(now, served)
    return patience.seconds


def test_the_time_between_failures_counts_where_somebody_was_served_in_between() -> None:
    assert used((10, 0), (15, 1), (30, 7)) == 20


def test_one_failure_is_no_time() -> None:
    assert used((10, 5)) == 0


def test_while_nobody_is_served_nothing_counts() -> None:
    assert used((10, 3), (1000, 3), (5000, 3)) == 0


def test_an_outage_that_is_over_counts_for_no_more_than_its_share() -> None:
    assert used((10, 0), (9000, 1)) == MOST / SHARE


def test_it_is_over_after_so_many_failures_at_least() -> None:
    patience = Patience(MOST)
    for number in range(SHARE):
        patience.failed(1000.0 * number, number)
        assert not patience.over
    patience.failed(1000.0 * SHARE, SHARE)
    assert patience.over


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2)), max_size=40))
def test_never_more_than_the_time_and_never_less_with_another_failure(steps: list[tuple[float, int]]) -> None:
    patience, now, served, before = Patience(MOST), 0.0, 0, 0.0
    for seconds, more in steps:
        now, served = now + seconds, served + more
        patience.failed(now, served)
        assert before <= patience.seconds <= before + (min(seconds, MOST / SHARE) + 1e-9 if more else 0)
        before = patience.seconds
