"""HL7 timestamps: each precision, offsets, daylight saving, what does not exist; against datetime by Hypothesis."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.timestamps import timestamp
from schemas.event import Precision, Zone
from schemas.outcomes import FindingCode
from tests.hl7.samples import ZONE


@pytest.mark.parametrize(
    ("text", "date", "when", "instant", "precision"),
    [
        ("2026", "2026", "2026", None, Precision.YEAR),
        ("202603", "2026-03", "2026-03", None, Precision.MONTH),
        ("20260301", "2026-03-01", "2026-03-01", None, Precision.DAY),
        ("2026030112", "2026-03-01", "2026-03-01T12:00:00+01:00", "2026-03-01T12:00:00.000+01:00", Precision.HOUR),
        ("202603011230", "2026-03-01", "2026-03-01T12:30:00+01:00", "2026-03-01T12:30:00.000+01:00", Precision.MINUTE),
        ("20260301123045", "2026-03-01", "2026-03-01T12:30:45+01:00", "2026-03-01T12:30:45.000+01:00", Precision.SECOND),
        ("20260701123045", "2026-07-01", "2026-07-01T12:30:45+02:00", "2026-07-01T12:30:45.000+02:00", Precision.SECOND),
        ("20260301123045.1", "2026-03-01", "2026-03-01T12:30:45.1+01:00", "2026-03-01T12:30:45.100+01:00", Precision.FRACTION),
        (
            "20260301123045.1234",
            "2026-03-01",
            "2026-03-01T12:30:45.1234+01:00",
            "2026-03-01T12:30:45.123+01:00",
            Precision.FRACTION,
        ),
        (
            "20260301123045.999999",
            "2026-03-01",
            "2026-03-01T12:30:45.999999+01:00",
            "2026-03-01T12:30:45.999+01:00",
            Precision.FRACTION,
        ),
        ("20110613122406637", "2011-06-13", "2011-06-13T12:24:06.637+02:00", "2011-06-13T12:24:06.637+02:00", Precision.FRACTION),
        ("20260301123045-0500", "2026-03-01", "2026-03-01T12:30:45-05:00", "2026-03-01T12:30:45.000-05:00", Precision.SECOND),
        ("2026030112+1400", "2026-03-01", "2026-03-01T12:00:00+14:00", "2026-03-01T12:00:00.000+14:00", Precision.HOUR),
        (
            "20260301123045.12-0000",
            "2026-03-01",
            "2026-03-01T12:30:45.12+00:00",
            "2026-03-01T12:30:45.120+00:00",
            Precision.FRACTION,
        ),
        ("20260301+0100", "2026-03-01", "2026-03-01", None, Precision.DAY),
        ("19500000", "1950", "1950", None, Precision.YEAR),
        ("19500300", "1950-03", "1950-03", None, Precision.MONTH),
        ("19500000000000", "1950", "1950", None, Precision.YEAR),
        ("20240229", "2024-02-29", "2024-02-29", None, Precision.DAY),
        ("18700101120000", "1870-01-01", "1870-01-01T12:00:00+00:20", "1870-01-01T12:00:00.000+00:20", Precision.SECOND),
        (" 20260301 ", "2026-03-01", "2026-03-01", None, Precision.DAY),
    ],
)
def test_each_precision_has_its_fhir_forms(text: str, date: str, when: str, instant: str | None, precision: Precision) -> None:
    found, code = timestamp(text, zone=ZONE)
    assert code is None
    assert found is not None
    assert (found.date, found.datetime, found.instant, found.precision) == (date, when, instant, precision)


@pytest.mark.parametrize(
    "text",
    [
        "00000000", "0000", "00000000000000", "20260230", "20261301", "20260132", "2026010124", "202601011260", "20260101120060",
        "20230229", "2026-01-01", "2026-01-01T12:00:00Z", "20260101T120000", "20260101120000Z", "12:00", "202", "20261", "2026010",
        "20260101120000+01:00", "20260101120000+1500", "20260101120000+0160", "20260101120000.", "today", "196203520", "19500015",
        "19501500", "٢٠٢٦", "99991231235959-0100x", "202600", "2026000112",
    ],
)  # fmt: skip
def test_what_does_not_exist_or_is_not_hl7_cannot_be_read(text: str) -> None:
    expected = (None, FindingCode.TIMESTAMP)
    if text == "202600":
        assert timestamp(text, zone=ZONE)[1] is None  # the month is unknown: a year
    else:
        assert timestamp(text, zone=ZONE) == expected


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("2026", Zone.NONE),
        ("20260301", Zone.NONE),
        ("2026030112", Zone.SITE),
        ("20260301123045", Zone.SITE),
        ("20260301123045+0100", Zone.EXPLICIT),
        ("20260301+0100", Zone.EXPLICIT),
        ("2026+0100", Zone.EXPLICIT),
    ],
)
def test_it_is_known_where_the_offset_comes_from(text: str, origin: Zone) -> None:
    found, _ = timestamp(text, zone=ZONE)
    assert found is not None
    assert found.zone is origin


def test_an_hour_that_happens_twice_is_the_first_and_flagged() -> None:
    found, code = timestamp("20261025023000", zone=ZONE)
    assert found is not None
    assert (found.datetime, found.ambiguous, code) == ("2026-10-25T02:30:00+02:00", True, FindingCode.TIME_AMBIGUOUS)


def test_an_hour_that_never_happens_moves_by_the_gap_and_is_flagged() -> None:
    found, code = timestamp("20260329023000", zone=ZONE)
    assert found is not None
    assert (found.datetime, found.ambiguous, code) == ("2026-03-29T03:30:00+02:00", True, FindingCode.TIME_NONEXISTENT)


@pytest.mark.parametrize("text", ["20261025023000+0200", "20261025023000+0100", "20260329023000+0100"])
def test_with_an_offset_no_hour_is_ambiguous(text: str) -> None:
    found, code = timestamp(text, zone=ZONE)
    assert found is not None
    assert (found.datetime[:19], found.ambiguous, code) == (f"{text[:4]}-{text[4:6]}-{text[6:8]}T02:30:00", False, None)


def test_a_day_alone_counts_from_its_start_at_the_site_or_at_its_offset() -> None:
    site, explicit = timestamp("20260701", zone=ZONE)[0], timestamp("20260701-0500", zone=ZONE)[0]
    assert site is not None
    assert explicit is not None
    start = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000)
    assert (site.epoch_ms, explicit.epoch_ms) == (start - 2 * 3_600_000, start + 5 * 3_600_000)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("Y", "2026"),
        ("L", "2026-03"),
        ("D", "2026-03-01"),
        ("M", "2026-03-01T12:30:00+01:00"),
        ("?", "2026-03-01T12:30:45+01:00"),
    ],
)
def test_the_old_degree_of_precision_cuts(precision: str, expected: str) -> None:
    found, _ = timestamp("20260301123045", zone=ZONE, precision=precision)
    assert found is not None
    assert found.datetime == expected


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - local times
    st.sampled_from(
        ["Europe/Amsterdam", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Africa/Casablanca"]
    ),
)
def test_a_local_time_is_the_zones_own(local: datetime, name: str) -> None:
    found, code = timestamp(f"{local:%Y%m%d%H%M%S}.{local.microsecond // 1000:03}", zone=name)
    assert found is not None
    zone = ZoneInfo(name)
    expected = local.replace(microsecond=local.microsecond // 1000 * 1000, tzinfo=zone)
    drift = timedelta(seconds=30) if (expected.utcoffset() or timedelta()).total_seconds() % 60 else timedelta()
    assert abs(datetime.fromisoformat(found.datetime) - expected.astimezone(UTC)) <= drift
    twice = expected.utcoffset() != expected.replace(fold=1).utcoffset()
    assert (found.ambiguous, code is not None) == (twice, twice)
    assert found.epoch_ms == round(datetime.fromisoformat(found.instant or "").timestamp() * 1000)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - local times
def test_the_quick_way_and_the_thorough_way_agree(local: datetime) -> None:
    quick, code = timestamp(f"{local:%Y%m%d%H%M%S}", zone=ZONE)
    thorough, same = timestamp(f"{local:%Y%m%d%H%M%S}", zone=ZONE, precision="S")
    assert (quick, code) == (thorough, same)
    assert timestamp(f"{local:%Y%m%d}", zone=ZONE) == timestamp(f"{local:%Y%m%d}", zone=ZONE, precision="D")


@given(st.text(alphabet="0123456789.+-TZ: ", max_size=26) | st.text())
def test_no_text_breaks_it(text: str) -> None:
    found, code = timestamp(text, zone=ZONE)
    assert (found is None) == (code is FindingCode.TIMESTAMP)


MOMENTS = st.builds(
    lambda when, point, fraction, offset: when + point + fraction + offset,
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)).map(lambda when: when.strftime("%Y%m%d%H%M%S"))  # noqa: DTZ001 - a local time
    | st.sampled_from(
        ["20261025023000", "20260329023000", "19370701000000", "99991231235959", "00010101000000", "00000101000000"]
    )
    | st.from_regex(r"\A[0-9]{4}[01][0-9][0-3][0-9][0-2][0-9][0-6][0-9][0-6][0-9]\Z"),
    st.sampled_from(["", "."]),
    st.text(alphabet="0123456789٣", max_size=14),
    st.sampled_from(["", "", "+0200", "-0500", "+1400", "-1401", "+0260", "+02٣0", "+020"]),
)


@given(MOMENTS | MOMENTS.map(lambda text: text[:8]) | st.text(alphabet="0123456789.+- ", max_size=24))
def test_the_quick_way_and_the_slow_way_agree(text: str) -> None:
    assert timestamp(text, zone=ZONE) == timestamp(text, zone=ZONE, precision="?")  # it says nothing, and takes the slow way
