"""Search dates of FHIR STU3 over a point in time: what a value means, as half-open spans of milliseconds since 1970. Pure: no clock, no I/O.

A value has the span that its precision implies; a value without zone is the site's local time. `Appointment.start` is an instant, so every
prefix comes down to spans in which it lies (contracts/medmij.md section 3). Spans are kept sorted and apart: AND and OR stay small.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

Span = tuple[int | None, int | None]
"""From (contained) to (not contained), milliseconds since 1970; None: without an end."""
Spans = tuple[Span, ...]
EVER: Final[Spans] = ((None, None),)
_VALUE: Final = re.compile(
    r"(?:(eq|ne|gt|lt|ge|le|sa|eb|ap):?)?"  # the colon is a mistake of the 2017.04 guide, whose examples have to work
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from local times, whose offset is known apart
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST_YEAR, _LAST_MONTH = 9999, 12
_MOST_OFFSET: Final = 14 * 60
_APPROXIMATE: Final = 10
"""`ap` reaches a tenth of the time between the value and now, as STU3 recommends."""


class NoDate(ValueError):
    """The value is no search date. Says nothing of what it was."""


def spans(value: str, zone: ZoneInfo, now_ms: int) -> Spans:
    """When a start has to lie for one value (`ge2018-01-01`) to match; NoDate where it is none."""
    found = _VALUE.fullmatch(value)
    if found is None:
        raise NoDate
    prefix, *parts = found.groups()
    try:
        low, high = _implied(parts, zone)
    except (ValueError, OverflowError):  # no such month, day, hour or offset
        raise NoDate from None
    return _meant(prefix or "eq", low, high, now_ms)


def _meant(prefix: str, low: int, high: int | None, now_ms: int) -> Spans:
    """A start is a point: that it overlaps a span, or lies within it, is the same."""
    before, behind = (None, low), (high, None) if high is not None else None
    reach = abs(now_ms - low) // _APPROXIMATE
    meant: dict[str, tuple[Span | None, ...]] = {
        "eq": ((low, high),),
        "ne": (before, behind),
        "gt": (behind,),
        "sa": (behind,),
        "ge": ((low, None),),
        "lt": (before,),
        "eb": (before,),
        "le": ((None, high),),
        "ap": ((low - reach, None if high is None else high + reach),),
    }
    return united(span for span in meant[prefix] if span is not None)


def united(many: Iterable[Span]) -> Spans:
    """OR: the same times as sorted spans that neither overlap nor touch."""
    kept: list[Span] = []
    for low, high in sorted((one for one in many if not _empty(one)), key=_from):
        last = kept[-1] if kept else None
        if last is not None and (last[1] is None or low is None or low <= last[1]):
            kept[-1] = (last[0], None if last[1] is None or high is None else max(last[1], high))
        else:
            kept.append((low, high))
    return tuple(kept)


def both(one: Sequence[Span], other: Sequence[Span]) -> Spans:
    """AND."""
    return united((_later(a[0], b[0]), _earlier(a[1], b[1])) for a in one for b in other)


def _empty(span: Span) -> bool:
    return span[0] is not None and span[1] is not None and span[0] >= span[1]


def _from(span: Span) -> tuple[bool, int]:
    return (span[0] is not None, span[0] or 0)


def _later(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _earlier(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _implied(parts: Sequence[str | None], zone: ZoneInfo) -> tuple[int, int | None]:
    """The span of a value's precision."""
    year, month, day, hour, minute, second, fraction, offset = parts
    if hour is not None:
        return _time((year, month, day, hour, minute, second), fraction, offset, zone)
    first = date(int(year or 0), int(month or 1), int(day or 1))
    if day is not None:
        after = None if first == date.max else first + timedelta(days=1)
    elif month is not None:
        last = first.month == _LAST_MONTH
        after = None if last and first.year == _LAST_YEAR else date(first.year + last, 1 if last else first.month + 1, 1)
    else:
        after = None if first.year == _LAST_YEAR else date(first.year + 1, 1, 1)
    return _midnight(first, zone), None if after is None else _midnight(after, zone)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return _milliseconds(datetime(day.year, day.month, day.day), _offset(zone, datetime(day.year, day.month, day.day)))  # noqa: DTZ001


def _time(digits: Sequence[str | None], fraction: str | None, offset: str | None, zone: ZoneInfo) -> tuple[int, int]:
    """A minute, a second or a part of one, counted from its begin, so that a change of the clock does not stretch it."""
    local = datetime(*(int(one or 0) for one in digits))  # type: ignore[arg-type]  # noqa: DTZ001 - the offset is known apart
    begin = Fraction(_milliseconds(local, _offset(zone, local) if offset is None else _written(offset)))
    length = Fraction(60_000 if digits[-1] is None else 1000)
    if fraction is not None:
        length = Fraction(1000, 10 ** len(fraction))
        begin += int(fraction) * length
    return _whole(begin), _whole(begin + length)


def _offset(zone: ZoneInfo, local: datetime) -> timedelta:
    """Of a local time that the clock shows twice, the first; of one that it leaps over, as if it had not leapt."""
    return zone.utcoffset(local) or timedelta()


def _written(offset: str) -> timedelta:
    if offset == "Z":
        return timedelta()
    minutes = int(offset[1:3]) * 60 + int(offset[4:])
    if minutes > _MOST_OFFSET or int(offset[4:]) > 59:  # noqa: PLR2004 - minutes of an hour
        raise NoDate
    return timedelta(minutes=-minutes if offset[0] == "-" else minutes)


def _milliseconds(local: datetime, offset: timedelta) -> int:
    return (local - _EPOCH - offset) // _MILLISECOND


def _whole(exact: Fraction) -> int:
    """Starts are whole milliseconds: the first one at or behind an exact time."""
    return -int(-exact // 1)
