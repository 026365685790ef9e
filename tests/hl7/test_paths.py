"""Places: what is read is what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.paths import Path, locate, place

NUMBER = st.integers(1, 9999)


@given(
    st.sampled_from(["PID", "DG1", "ZX9"]),
    NUMBER,
    NUMBER,
    NUMBER,
    st.tuples(st.integers(1, 99), st.integers(0, 9)) | st.just((0, 0)),
)
def test_a_place_is_read_as_it_was_written(segment: str, nth: int, field: int, repetition: int, part: tuple[int, int]) -> None:
    component, sub = part
    found = locate(place(segment, nth, field, repetition=repetition, component=component, subcomponent=sub))
    assert found._replace(repetition=found.repetition or 1) == Path(segment, nth, field, repetition, component, sub)


@pytest.mark.parametrize(
    ("expected", "parts"),
    [("PID", ("PID",)), ("PID[2]", ("PID", 2)), ("PID-3", ("PID", 1, 3)), ("DG1[2]-3", ("DG1", 2, 3))],
)
def test_the_first_goes_without_an_index(expected: str, parts: tuple[str, int, int]) -> None:
    assert place(*parts) == expected
