"""Slopes and bounds: what a process is judged by, and that a leak would be seen."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.trial.life import JUDGED, WARM, Life, bounds, broken, slope, told
from pipeline.trial.process import Usage, usage

BOUNDED = bounds(64)
STEP = 5


def life(seconds: float, mb: float = 100, grows: float = 0, handles: float = 50, threads: float = 60) -> Life:
    """`grows` megabytes a minute from its second minute on; before, it warms up by 30."""
    one = Life("worker-0")
    for at in range(0, int(seconds) + 1, STEP):
        warm = 30 * max(0.0, 1 - at / 60)
        used = Usage(0.0, mb - warm + grows * at / 60, mb, int(handles), int(threads))
        one.rows.append((float(at), used))
    return one


def test_a_process_that_levels_off_keeps_its_bounds() -> None:
    one = life(WARM + JUDGED)
    assert one.judged
    assert list(broken(one, BOUNDED)) == []
    assert told(one, BOUNDED) == (
        "worker-0, 540 s: memory 70 to 100 MB, +0.00 a minute; handles 50 to 50, +0.00 a minute; threads 60 to 60, +0.00 a minute"
    )


def test_a_process_that_goes_on_growing_does_not() -> None:
    (said,) = broken(life(WARM + JUDGED, grows=1), BOUNDED)
    assert said == "worker-0: memory grew by 1.00 MB a minute after it had warmed up, and 0.5 counts as none"


def test_one_that_is_too_young_has_no_slope_to_be_judged() -> None:
    young = life(WARM + JUDGED - STEP, grows=3)
    assert not young.judged
    assert list(broken(young, BOUNDED)) == []
    assert "a minute" not in told(young, BOUNDED)


def test_no_process_however_young_may_have_more_than_its_most() -> None:
    said = list(broken(life(60, mb=201, handles=165, threads=105), BOUNDED))
    assert said == [
        "worker-0: memory came to 201 MB, and 200 is the most that it may be",
        "worker-0: handles came to 165, and 164 is the most that it may be",
        "worker-0: threads came to 105, and 104 is the most that it may be",
    ]


def test_one_that_was_never_looked_at_is_neither_good_nor_bad() -> None:
    assert list(broken(Life("worker-0"), BOUNDED)) == []
    assert Life("worker-0").seconds == 0


@given(st.floats(-10, 10), st.floats(-100, 100), st.lists(st.integers(0, 10_000), min_size=2, max_size=30, unique=True))
def test_the_slope_of_points_on_a_line_is_the_lines(steep: float, level: float, places: list[int]) -> None:
    assert slope([(at, level + steep * at) for at in places]) == pytest.approx(steep, abs=1e-6)


def test_usage_is_what_the_kernel_says() -> None:
    used = usage(os.getpid())
    assert used.threads >= 1
    assert used.handles >= 3
    assert 0 < used.rss_mb <= used.peak_rss_mb + 1
