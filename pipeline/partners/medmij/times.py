"""When an appointment is: of a schedule (SCH, AIS), and of an admission that is expected (PV2-8). No I/O, no settings.

What begins without an end, or ends before it begins, gives neither a made-up start nor a made-up length: FHIR's start and end are told or counted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from pipeline.partners.medmij.left import going_on
from schemas.event import Appointment, Coded, Event, Null, Personnel, Place, Precision, Resource, Service, Text, Timestamp

HOUR: Final = 60.0
DAY: Final = 24 * HOUR
MINUTES: Final = {
    **dict.fromkeys(("", "M", "MIN", "MINS", "MINUTE", "MINUTES", "MINUUT", "MINUTEN"), 1.0),
    **dict.fromkeys(("H", "HR", "HRS", "HOUR", "HOURS", "U", "UUR"), HOUR),
    **dict.fromkeys(("S", "SEC", "SECOND", "SECONDS", "SECONDE", "SECONDEN"), 1 / 60),
    **dict.fromkeys(("D", "DAY", "DAYS", "DAG", "DAGEN"), DAY),
}
"""Of a unit of duration: table 0276 has none, senders write UCUM, ISO+ or a word. Minutes are what SCH-10 means where it is empty."""
LAST_MINUTE: Final = timedelta(hours=23, minutes=59)
Part = Service | Resource | Personnel | Place


@dataclass(frozen=True, slots=True)
class Times:
    """When an appointment is, as FHIR's instants; None where the message does not tell."""

    start: str | None
    end: str | None
    minutes: int | None


def times(booked: Appointment, default_minutes: int | None) -> Times:
    """SCH-11.4 and .5 (else TQ1); where they do not tell, from the first start of what it needs to the last end. An end before its start is none."""
    parts = _timed(booked)
    start = _instant(booked.start) or min((begin for begin, _ in parts), default=None)
    told = _minutes(booked.duration, booked.duration_units)
    if start is None:
        return Times(None, None, told or next((minutes for one in booked.services if (minutes := _takes(one))), None))
    end = _instant(booked.end)
    if end is None or end <= start:
        end = _end(start, told, parts) or (start + timedelta(minutes=default_minutes) if default_minutes else None)
    span = _span(start, end) if end else None
    return Times(_text(start), _text(end), told or span)


def _end(start: datetime, told: int | None, parts: Iterable[tuple[datetime, int | None]]) -> datetime | None:
    """Of the whole, else of what is done last."""
    if told:
        return start + timedelta(minutes=told)
    ends = [begin + timedelta(minutes=minutes) for begin, minutes in parts if minutes]
    return max((end for end in ends if end > start), default=None)


def _timed(booked: Appointment) -> list[tuple[datetime, int | None]]:
    """Begin and minutes of the services; where none has a start, of people, places, and what else is reserved."""
    every: tuple[Sequence[Part], ...] = (booked.services, booked.personnel, booked.places, booked.resources)
    for parts in every:
        left = going_on(parts)
        begins = [(begin, _takes(one)) for one in left if (begin := _instant(one.start) or _instant(booked.start))]
        if any(_instant(one.start) or _takes(one) for one in left) and begins:
            return begins
    return []


def _takes(one: Part) -> int | None:
    return _minutes(one.duration, one.duration_units)


def _minutes(duration: Text, units: Coded | None) -> int | None:
    """Whole minutes, one at least; None of what is no duration."""
    factor = MINUTES.get(str((units.code if units else None) or "").upper())
    if not duration or factor is None or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", duration):
        return None
    return round(float(duration) * factor) or None


# admissions


def expected_times(event: Event, time_of_day: str | None) -> Times:
    """When a patient is expected (PV2-8), else was admitted (PV1-44), else came (EVN-6); until PV2-9, PV1-45, or the end of the day on which it begins.

    What is taken back (the admission of an A11, the discharge of an A13) is no time of it. How long somebody stays is not told in minutes. `time_of_day`: of PV2-8 where it is a day alone.
    """
    visit = event.visit
    assert visit is not None  # noqa: S101 - a message without one has no number, and parks
    came = event.occurred if event.trigger in {"A01", "A04"} else None
    admitted = visit.admitted if event.trigger != "A11" else None
    discharged = visit.discharged if event.trigger not in {"A11", "A13"} else None
    begins = (_instant(visit.expected), _on(visit.expected, time_of_day), _instant(admitted), _instant(came))
    start = next(filter(None, begins), None)
    if start is None:
        return Times(None, None, None)
    ends = (_instant(visit.expected_end), _last_minute(visit.expected_end), _instant(discharged))
    of_the_day = max(start.replace(hour=23, minute=59, second=0, microsecond=0), start + timedelta(minutes=1))
    end = next((end for end in ends if end and end > start), of_the_day)
    return Times(_text(start), _text(end.astimezone(start.tzinfo)), None)


def _on(day: Timestamp | Null | None, time_of_day: str | None) -> datetime | None:
    """A time of a day; the day began at an offset of its own, which it keeps."""
    midnight = _midnight(day)
    if midnight is None or time_of_day is None:
        return None
    hours, _, minutes = time_of_day.partition(":")
    return midnight + timedelta(hours=int(hours), minutes=int(minutes))


def _last_minute(day: Timestamp | Null | None) -> datetime | None:
    midnight = _midnight(day)
    return midnight + LAST_MINUTE if midnight else None


def _midnight(day: Timestamp | Null | None) -> datetime | None:
    if not isinstance(day, Timestamp) or day.precision is not Precision.DAY or day.epoch_ms is None:
        return None
    begins = datetime.fromtimestamp(day.epoch_ms / 1000, UTC)
    return begins.astimezone(timezone(datetime.fromisoformat(f"{day.date}T00:00:00+00:00") - begins))


def _instant(time: Timestamp | Null | None) -> datetime | None:
    """A day without a time of day is no start: nobody could come to it."""
    return datetime.fromisoformat(time.instant) if isinstance(time, Timestamp) and time.instant else None


def _span(start: datetime, end: datetime) -> int | None:
    return round((end - start).total_seconds() / 60) or None


def _text(time: datetime | None) -> str | None:
    return time.isoformat(timespec="milliseconds") if time else None
