"""Search dates: contracts/medmij.md section 3 as a table, and an oracle that knows no spans: it writes a point as text and compares letters."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.serve.xis.dates import EVER, NoDate, Spans, both, spans, united
from tests.serve.xis.stand_ins import AMSTERDAM, NOW

PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def within(point: int, found: Spans) -> bool:
    return any((low is None or low <= point) and (high is None or point < high) for low, high in found)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("ge2018-01-01", "2018-01-01T00:00+01:00", None),
        ("gt2017-12-31", "2018-01-01T00:00+01:00", None),
        ("gt:2017-12-31", "2018-01-01T00:00+01:00", None),
        ("sa2017-12-31", "2018-01-01T00:00+01:00", None),
        ("lt2018-03-01", None, "2018-03-01T00:00+01:00"),
        ("lt:2018-03-01", None, "2018-03-01T00:00+01:00"),
        ("eb2018-03-01", None, "2018-03-01T00:00+01:00"),
        ("le2018-02-28", None, "2018-03-01T00:00+01:00"),
        ("le1995", None, "1996-01-01T00:00+01:00"),
        ("2018-02-28", "2018-02-28T00:00+01:00", "2018-03-01T00:00+01:00"),
        ("eq2018-02", "2018-02-01T00:00+01:00", "2018-03-01T00:00+01:00"),
        ("2018-12", "2018-12-01T00:00+01:00", "2019-01-01T00:00+01:00"),
        ("2018", "2018-01-01T00:00+01:00", "2019-01-01T00:00+01:00"),
        ("2024-02-29", "2024-02-29T00:00+01:00", "2024-03-01T00:00+01:00"),
        ("2018-07-01", "2018-07-01T00:00+02:00", "2018-07-02T00:00+02:00"),
        ("2018-03-25", "2018-03-25T00:00+01:00", "2018-03-26T00:00+02:00"),
        ("2018-10-28", "2018-10-28T00:00+02:00", "2018-10-29T00:00+01:00"),
        ("2018-10-28T02:30", "2018-10-28T02:30+02:00", "2018-10-28T02:31+02:00"),
        ("2018-03-25T02:30", "2018-03-25T03:30+02:00", "2018-03-25T03:31+02:00"),
        ("2018-02-28T09:30", "2018-02-28T09:30+01:00", "2018-02-28T09:31+01:00"),
        ("2018-02-28T09:30:15", "2018-02-28T09:30:15+01:00", "2018-02-28T09:30:16+01:00"),
        ("2018-02-28T09:30:15.5", "2018-02-28T09:30:15.500+01:00", "2018-02-28T09:30:15.600+01:00"),
        ("2018-02-28T09:30:15.123Z", "2018-02-28T09:30:15.123+00:00", "2018-02-28T09:30:15.124+00:00"),
        ("2018-02-28T09:30Z", "2018-02-28T09:30+00:00", "2018-02-28T09:31+00:00"),
        ("2018-02-28T09:30-05:30", "2018-02-28T15:00+00:00", "2018-02-28T15:01+00:00"),
        ("le9999", None, None),
        ("ge9999-12-31", "9999-12-31T00:00+01:00", None),
    ],
)
def test_a_value_means_the_span_of_its_precision(value: str, low: str | None, high: str | None) -> None:
    assert spans(value, AMSTERDAM, NOW) == ((low and ms(low), high and ms(high)),)


def test_not_that_day_is_before_and_after_it() -> None:
    begin, end = ms("2018-02-28T00:00+01:00"), ms("2018-03-01T00:00+01:00")
    assert spans("ne2018-02-28", AMSTERDAM, NOW) == ((None, begin), (end, None))


def test_behind_the_last_year_there_is_nothing() -> None:
    assert spans("gt9999", AMSTERDAM, NOW) == ()


def test_about_that_day_reaches_a_tenth_of_the_time_from_now() -> None:
    day = ms("2025-12-22T00:00+01:00")
    assert spans("ap2025-12-22", AMSTERDAM, NOW) == ((day - 86_400_000, day + 2 * 86_400_000),)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "ge",
            ":2018",
            "2018-1-1",
            "23 May 2009",
            "2018-13",
            "2018-02-30",
            "2018-02-29",
            "0000",
            "18",
            "20180228",
            "gte2018-01-01",
        ),
        *(
            "2018-02-28T",
            "2018-02-28T09",
            "2018-02-28T24:00",
            "2018-02-28T09:60",
            "2018-02-28T09:30:60",
            "2018-02-28T09:30+15:00",
        ),
        *(
            "2018-02-28T09:30 01:00",
            "2018-02-28 09:30",
            "2018-02-28T09:30+01:60",
            "GE2018-01-01",
            "ge 2018-01-01",
            "ge::2018-01-01",
        ),
        *("2018-02-28Z", "-2018", "\uff12\uff10\uff11\uff18", "2018-02-28T09:30:15.", "2018\n", "null", "ge2018-01-01\\,2019"),
    ],
)
def test_what_is_no_date_is_refused(value: str) -> None:
    with pytest.raises(NoDate):
        spans(value, AMSTERDAM, NOW)


POINTS = st.integers(ms("1971-01-01T00:00+00:00"), ms("2090-01-01T00:00+00:00"))
ZONES = st.sampled_from([AMSTERDAM, ZoneInfo("UTC"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")])
LENGTHS = {"year": 4, "month": 7, "day": 10, "minute": 16, "second": 19, "tenth": 21, "millisecond": 23}


def written(point: int, zone: ZoneInfo | timezone) -> str:
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=point)
    return local.astimezone(zone).isoformat(timespec="milliseconds")[:23]


def steady(point: int, zone: ZoneInfo | timezone) -> bool:
    """The clock does not change within six hours: texts of local times stand in the order of time."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=point)
    return len({(at + timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in range(-6, 7)}) == 1


@given(
    point=POINTS,
    near=st.one_of(st.integers(-3_000, 3_000), st.integers(-200_000_000, 200_000_000), st.just(0)),
    zone=ZONES,
    prefix=st.sampled_from(PREFIXES[:-1]),
    colon=st.sampled_from(["", ":"]),
    precision=st.sampled_from(sorted(LENGTHS)),
    offset=st.one_of(st.none(), st.integers(-56, 56)),
)
@example(point=ms("2018-02-28T23:59:59.999+01:00"), near=0, zone=AMSTERDAM, prefix="le", colon="", precision="day", offset=None)
@example(point=ms("2018-03-01T00:00:00+01:00"), near=-1, zone=AMSTERDAM, prefix="le", colon="", precision="day", offset=None)
def test_a_point_matches_exactly_where_its_text_says_so(
    *, point: int, near: int, zone: ZoneInfo, prefix: str, colon: str, precision: str, offset: int | None
) -> None:
    length, clock, suffix = LENGTHS[precision], zone, ""
    reading: ZoneInfo | timezone = clock
    if offset is not None and length > 10:
        reading = timezone(timedelta(minutes=15 * offset))
        suffix = f"{'-' if offset < 0 else '+'}{abs(offset) // 4:02}:{abs(offset) % 4 * 15:02}"
    value = written(point, reading)[:length]
    other = point + near
    if length > 10 and not (steady(point, reading) and steady(other, reading)):
        return
    seen = written(other, reading)[:length]
    expected = {
        "": seen == value,
        "eq": seen == value,
        "ne": seen != value,
        "gt": seen > value,
        "sa": seen > value,
        "ge": seen >= value,
        "lt": seen < value,
        "eb": seen < value,
        "le": seen <= value,
    }[prefix]
    said = f"{prefix}{colon if prefix else ''}{value}{suffix}"
    assert within(other, spans(said, clock, NOW)) == expected


SPANS = st.lists(st.tuples(st.one_of(st.none(), st.integers(-9, 9)), st.one_of(st.none(), st.integers(-9, 9))), max_size=5)


@given(SPANS, SPANS)
def test_or_and_and_of_spans_are_those_of_their_points_and_they_stay_sorted_and_apart(
    one: list[tuple[int | None, int | None]], other: list[tuple[int | None, int | None]]
) -> None:
    either, each = united([*one, *other]), both(united(one), united(other))
    for point in range(-12, 13):
        assert within(point, either) == (within(point, tuple(one)) or within(point, tuple(other)))
        assert within(point, each) == (within(point, tuple(one)) and within(point, tuple(other)))
    for found in (either, each):
        ends = [end for span in found for end in span]
        assert None not in ends[1:-1]
        inner = [end for end in ends if end is not None]
        assert inner == sorted(set(inner))


def test_ever_and_a_span_is_the_span() -> None:
    assert both(EVER, ((1, 2),)) == ((1, 2),)
