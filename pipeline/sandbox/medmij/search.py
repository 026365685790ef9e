"""How MedMij's stand-in reads the query of a search: FHIR STU3's date rules on one instant (contracts/medmij.md section 3). No records, no answers."""

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from pipeline.sandbox.medmij.knobs import MedmijKnobs

PATIENT: Final = frozenset({"patient", "subject", "actor"})
NOT_LOOKED_AT: Final = frozenset({"_format"})
PAGE: Final = "page"
_VALUE: Final = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(:?)([12]\d{3})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)
_AROUND: Final = dt.timedelta(days=1)


class Unreadable(Exception):
    """A parameter that cannot be understood, or not be had; the text is its name."""


@dataclass(frozen=True, slots=True)
class Range:
    """Prefix, and what the value stands for: from `low` on, before `high`."""

    prefix: str
    low: dt.datetime
    high: dt.datetime

    def has(self, start: dt.datetime) -> bool:
        """Whether an instant fits."""
        low, high = self.low, self.high
        return {
            "eq": low <= start < high,
            "ne": not low <= start < high,
            "gt": start >= high,
            "sa": start >= high,
            "lt": start < low,
            "eb": start < low,
            "ge": start >= low,
            "le": start < high,
            "ap": low - _AROUND <= start < high + _AROUND,
        }[self.prefix]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: each of `all` must fit, of each one of its ranges."""

    dates: tuple[tuple[Range, ...], ...] = ()
    used: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The parameters that were looked at, for the self link."""
    ignored: tuple[str, ...] = ()
    nothing: bool = False
    """It names a patient: nothing is found."""
    page: int = 1

    def has(self, appointment: dict[str, Any]) -> bool:
        """Whether an appointment is found."""
        start = dt.datetime.fromisoformat(appointment["start"])
        return all(any(one.has(start) for one in either) for either in self.dates)

    def encoded(self) -> str:
        """For the self link."""
        return urlencode(self.used, safe=":,")


def parsed(query: str, knobs: MedmijKnobs) -> Query:
    """Unreadable names the parameter."""
    pairs = parse_qsl(query, keep_blank_values=True)
    names = {name for name, _ in pairs}
    patients = names & PATIENT
    if patients and knobs.patient_parameter == "refused":
        raise Unreadable(min(patients))
    dates = [value for name, value in pairs if name == "date"]
    if any(name.startswith("date:") for name in names):
        raise Unreadable("date")
    ignored = sorted(names - {"date", PAGE} - NOT_LOOKED_AT - (patients if knobs.patient_parameter == "empty" else set()))
    if ignored and knobs.unknown_parameter == "refused":
        raise Unreadable(ignored[0])
    page = dict(pairs).get(PAGE, "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", page, re.ASCII):
        raise Unreadable(PAGE)
    ranges = tuple(tuple(_range(one, knobs) for one in value.split(",")) for value in dates)
    unused = knobs.date == "ignored"
    return Query(
        dates=() if unused else ranges,
        used=() if unused else tuple(("date", value) for value in dates),
        ignored=(*ignored, *(["date"] if unused and dates else [])),
        nothing=bool(patients) and knobs.patient_parameter == "empty",
        page=int(page),
    )


def _range(text: str, knobs: MedmijKnobs) -> Range:
    match = _VALUE.fullmatch(text)
    if not match or (match[2] and (knobs.colon == "refused" or not match[1])):
        raise Unreadable("date")
    zone: dt.tzinfo = dt.UTC if match[9] == "Z" else ZoneInfo(knobs.zone)
    given = [int(part) if part else None for part in match.groups()[2:8]]
    try:
        if match[9] and match[9] != "Z":
            zone = dt.datetime.strptime(match[9], "%z").tzinfo or zone
        year, month, day, hour, minute, second = given
        low = dt.datetime(year or 1, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=zone)
        return Range(match[1] or "eq", low, _end(low, [one for one in given if one is not None]))
    except (ValueError, OverflowError):
        raise Unreadable("date") from None


def _end(low: dt.datetime, given: list[int]) -> dt.datetime:
    """The first instant after all that the value's precision means; days are those of the calendar, whatever the clocks do."""
    year_alone, month_alone, day_alone = 1, 2, 3
    if len(given) == year_alone:
        return low.replace(year=low.year + 1)
    if len(given) == month_alone:
        return low.replace(year=low.year + low.month // 12, month=low.month % 12 + 1)
    if len(given) == day_alone:
        return low + dt.timedelta(days=1)
    step = dt.timedelta(minutes=1) if len(given) == 5 else dt.timedelta(seconds=1)  # noqa: PLR2004 - to the minute
    return low + step
