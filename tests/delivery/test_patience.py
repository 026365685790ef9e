"""What counts of a message's failures, and what does not."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.patience import Patience


def used(*failures: tuple[float, int | None]) -> float:
    patience = Patience()
    for now, epoch in failures:
        patience.failed(now, epoch)
    return patience.seconds


def test_the_time_between_failures_counts_where_the_partner_is_there() -> None:
    assert used((10, 0), (15, 0), (40, 0)) == 30


def test_one_failure_is_no_time() -> None:
    assert used((10, 0)) == 0


def test_while_the_partner_is_away_nothing_counts() -> None:
    assert used((10, None), (1000, None), (5000, None)) == 0


def test_the_time_from_before_an_outage_to_after_it_counts_for_nothing_and_what_came_before_still_does() -> None:
    assert used((10, 0), (12, 0), (20, None), (9000, 1), (9003, 1)) == 5
    assert used((10, 0), (12, 0), (9000, 1), (9003, 1)) == 5, "this message was not tried meanwhile"


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([None, 0, 1, 2])), max_size=40))
def test_never_more_than_the_time_and_never_less_with_another_failure(steps: list[tuple[float, int | None]]) -> None:
    patience, now, before = Patience(), 0.0, 0.0
    for seconds, epoch in steps:
        now += seconds
        patience.failed(now, epoch)
        assert before <= patience.seconds <= before + seconds + 1e-9
        before = patience.seconds
    assert before <= now + 1e-9
