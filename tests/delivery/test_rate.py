"""The token bucket of replays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.rate import Rate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_goes_at_once_and_the_next_when_its_time_has_come() -> None:
    clock = Clock()
    rate = Rate(4, clock)
    assert rate.ask() == 0.0
    assert rate.ask() == pytest.approx(0.25)
    clock.now += 0.125
    assert rate.ask() == pytest.approx(0.125)
    clock.now += 0.125
    assert rate.ask() == 0.0


def test_a_pause_is_made_up_for_by_one_second_at_most() -> None:
    clock = Clock()
    rate = Rate(5, clock)
    clock.now += 3_600
    assert [rate.ask() == 0.0 for _ in range(6)] == [True] * 5 + [False]


def test_less_than_one_a_second_is_a_rate_too() -> None:
    clock = Clock()
    rate = Rate(0.5, clock)
    assert rate.ask() == 0.0
    assert rate.ask() == pytest.approx(2.0)


def test_a_clock_that_jumps_back_gives_nothing_and_breaks_nothing() -> None:
    clock = Clock()
    rate = Rate(1, clock)
    rate.ask()
    clock.now -= 50
    assert rate.ask() == pytest.approx(1.0)
    clock.now += 1
    assert rate.ask() == 0.0


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Rate(0, Clock())


@given(rate=st.floats(0.1, 500), pauses=st.lists(st.floats(0, 3), max_size=60))
def test_never_more_go_than_the_rate_and_a_second_allow(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    bucket = Rate(rate, clock)
    went = 0
    for pause in pauses:
        clock.now += pause
        while bucket.ask() == 0.0:
            went += 1
    assert went <= 1 + rate * sum(pauses) + 1e-6
    if not pauses:
        assert went == 0
