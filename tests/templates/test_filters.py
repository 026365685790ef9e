"""Filters whose answers are no texts of the message: moments and numbers."""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.timestamps import timestamp
from pipeline.templates.filters import keyed, moment
from pipeline.templates.places import PlacedText, place_of
from schemas.event import NULL, Timestamp
from tests.templates.samples import one


def read(text: str, zone: str = "Europe/Amsterdam") -> Timestamp:
    found = timestamp(text, zone=zone)[0]
    assert isinstance(found, Timestamp)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260419144452", "2026-04-19T14:44:52+02:00"),
        ("202604191444-0500", "2026-04-19T14:44:00-05:00"),
        ("2026041914", "2026-04-19T14:00:00+02:00"),
        ("20260419", "2026-04-19T00:00:00+02:00"),
        ("20260119", "2026-01-19T00:00:00+01:00"),
        ("202604", None),
        ("2026", None),
    ],
)
def test_a_moment_has_a_time_and_an_offset(text: str, expected: str | None) -> None:
    assert moment(read(text)) == expected


def test_a_moment_of_what_is_absent_or_deleted_is_that() -> None:
    assert (moment(None), moment(NULL)) == (None, NULL)


@pytest.mark.parametrize("text", ["20260419", "20260419144452"])
def test_a_moment_knows_its_place_where_its_timestamp_does(text: str) -> None:
    when = read(text)
    placed = when.model_copy(update={name: PlacedText(getattr(when, name), "OBX[3]-14") for name in ("date", "datetime")})
    assert place_of(moment(placed)) == "OBX[3]-14"


@given(
    st.dates(date(1970, 1, 1), date(2037, 12, 31)),
    st.sampled_from(["Europe/Amsterdam", "America/New_York", "Asia/Kolkata", "UTC"]),
)
def test_a_day_alone_is_the_moment_at_which_it_began_there(day: date, zone: str) -> None:
    said = moment(read(day.strftime("%Y%m%d"), zone))
    assert isinstance(said, str)
    assert datetime.fromisoformat(said) == datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    assert said.startswith(f"{day}T00:00:00")


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("04", 4), (" 3 ", 3), ("-1", -1), ("2.5", None), ("x", None), ("", None)]
)
def test_a_number_is_one_or_is_left_out(tmp_path: Path, text: str, expected: int | None) -> None:
    there = {} if expected is None else {"n": expected}
    assert one(tmp_path, '{"id": {{ partner.id }}, "n": {{ partner.text | number }}}', text=text) == {"id": "1", **there}


def test_a_table_of_several_keys_is_asked_with_all_of_them_or_not_at_all() -> None:
    assert keyed("4", "oq45", "v_1") == "oq45 v_1 4"
    assert (keyed(None, "oq45"), keyed(NULL, "oq45"), keyed("4", "oq45", None), keyed("4", NULL)) == (None, NULL, None, None)
