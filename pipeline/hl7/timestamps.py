"""HL7 timestamps (v2.8.2 chapter 2.A.77 TS, 2.A.21 DT, 2.A.22 DTM) of every precision, to FHIR's forms. Pure: text in, value out.

YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ], with TS's old second component (Y L D H M S) as a cut. Also read: digits beyond the seconds
without a point (a fraction), and month or day `00` with nothing behind (how senders say "unknown"): a year or a month. Not read:
dashes, colons, `T`, `Z`, year 0, dates and hours that do not exist, words.
"""

import re
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from pipeline.hl7.parts import Members, absent, built
from schemas.event import Precision, Timestamp, Zone
from schemas.outcomes import FindingCode

_FORM: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.?(\d{1,12}))?)?)?)?)?)?(?:([+-])(\d\d)([0-5]\d))?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from local times, whose offset is known apart
_MILLISECOND: Final = timedelta(milliseconds=1)
_MOST_OFFSET: Final = 14 * 60
_OLD: Final = {"Y": 1, "L": 2, "D": 3, "H": 4, "M": 5, "S": 6}
"""TS.2, degree of precision (v2.3 to v2.5, table 0529): how many parts of the time count."""
_PRECISIONS: Final = (
    Precision.YEAR,
    Precision.YEAR,
    Precision.MONTH,
    Precision.DAY,
    Precision.HOUR,
    Precision.MINUTE,
    Precision.SECOND,
    Precision.FRACTION,
)
_DAY: Final = 3
_SECOND: Final = 6
_DATE: Final = len("YYYYMMDD")
_SECONDS: Final = len("YYYYMMDDHHMMSS")
_MOST_DIGITS: Final = 12
"""Of a fraction."""


Reading = tuple[Timestamp | None, FindingCode | None]
_UNREADABLE: Final[Reading] = (None, FindingCode.TIMESTAMP)
_OFFSETS: Final = {
    minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" for minutes in range(-900, 901)
}
_MISSING: Final = absent(Timestamp)


def timestamp(text: str, *, zone: str, precision: str = "") -> Reading:
    """Read an HL7 timestamp: the value, or None and TIMESTAMP; TIME_AMBIGUOUS and TIME_NONEXISTENT come with a value.

    `zone`: IANA name, for where there is no offset; `precision`: TS.2 of old versions.
    """
    text = text.strip()
    if not precision:
        usual = _usual(text, zone)
        if usual is not None:
            return usual, None
    found = _FORM.fullmatch(text)
    if found is None:
        return _UNREADABLE
    parts = found.groups()
    depth = 7 if parts[6] else _SECOND
    while parts[depth - 1] is None:
        depth -= 1
    if precision in _OLD:
        depth = min(depth, _OLD[precision])
    if depth > 1 and (parts[1] == "00" or (parts[2] == "00" and depth >= _DAY)):
        if any(part and part.strip("0") for part in parts[2 if parts[1] == "00" else 3 : 7]):
            return _UNREADABLE
        depth = 1 if parts[1] == "00" else 2
    try:
        return _members(parts, depth, zone)
    except (ValueError, OverflowError):  # no such date or hour; or beyond the years 1 to 9999 once in UTC
        return _UNREADABLE


def _members(parts: tuple[str | None, ...], depth: int, zone: str) -> Reading:
    """ValueError, OverflowError: it does not exist."""
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = parts
    if year == "0000":
        raise ValueError
    date = f"{year}" if depth == 1 else f"{year}-{month}" if depth == 2 else f"{year}-{month}-{day}"  # noqa: PLR2004 - parts of a date
    offset = None
    if sign:
        offset = int(offset_hours or 0) * 60 + int(offset_minutes or 0)
        if offset > _MOST_OFFSET:
            raise ValueError
        offset = -offset if sign == "-" else offset
    origin = Zone.NONE if offset is None else Zone.EXPLICIT
    if depth < _DAY:
        if depth > 1 and not "01" <= (month or "") <= "12":
            raise ValueError
        return _made({"date": date, "datetime": date, "precision": _PRECISIONS[depth], "zone": origin}), None
    hours, minutes, seconds = (int(part) if at < depth and part else 0 for at, part in enumerate((hour, minute, second), 3))
    local = datetime(int(year or 0), int(month or 0), int(day or 0), hours, minutes, seconds)  # noqa: DTZ001 - its zone is sought
    code = None
    if offset is None:
        local, offset, code = _place(local, zone)
    millis = int((fraction or "")[:3].ljust(3, "0")) if depth > _SECOND else 0
    epoch = (local - _EPOCH) // _MILLISECOND - offset * 60_000 + millis
    if depth == _DAY:
        return _day(date, epoch, origin), None
    wall = local.isoformat()
    text = f"{wall}.{fraction}" if depth > _SECOND else wall
    source = Zone.SITE if origin is Zone.NONE else origin
    return _moment(wall, text, millis, offset, epoch, _PRECISIONS[depth], source, ambiguous=code is not None), code


class _Hour(NamedTuple):
    """What all times of one local hour have in common, where its offset does not change."""

    date: str
    wall: str
    tail: str
    epoch: int


@lru_cache(maxsize=4096)
def _usual(text: str, zone: str) -> Timestamp | None:
    """The forms that nearly all timestamps have, quickly: a day, or a second with or without fraction and offset; None: read it slowly.

    What is not plainly right is left to the slow way, which judges (a test holds the two against each other): 3 us instead of 7 to 10 for one
    with an offset. Kept for a while, since they come back: MSH-7 in EVN-2, an admission in all of a visit's messages.
    """
    offset = text[-5:] if text[-5:-4] in {"+", "-"} else ""
    digits, point, fraction = text.removesuffix(offset).partition(".")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits) == _DATE and not offset and not point:
        hour = _steady(zone, digits)
        return _day(hour.date, hour.epoch, Zone.NONE) if hour is not None else None
    if len(digits) != _SECONDS or (point and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= _MOST_DIGITS)):
        return None
    hour = _fixed(offset, digits[:10]) if offset else _steady(zone, digits[:10])
    minute, second = digits[10:12], digits[12:]
    if hour is None or minute > "59" or second > "59":
        return None
    wall = f"{hour.wall}{minute}:{second}"
    millis = f"{fraction[:3]:0<3}"
    return _made(
        {
            "date": hour.date,
            "datetime": f"{wall}{point}{fraction}{hour.tail}",
            "instant": f"{wall}.{millis}{hour.tail}",
            "epoch_ms": hour.epoch + int(minute) * 60_000 + int(second) * 1000 + int(millis),
            "precision": Precision.FRACTION if point else Precision.SECOND,
            "zone": Zone.EXPLICIT if offset else Zone.SITE,
        }
    )


def _made(members: Members) -> Timestamp:
    return built(Timestamp, _MISSING, members)


def _day(date: str, epoch: int, origin: Zone) -> Timestamp:
    return _made({"date": date, "datetime": date, "epoch_ms": epoch, "precision": Precision.DAY, "zone": origin})


def _moment(  # noqa: PLR0917 - the members of one value
    wall: str, text: str, millis: int, offset: int, epoch: int, precision: Precision, origin: Zone, *, ambiguous: bool
) -> Timestamp:
    tail = _OFFSETS[offset]
    return _made(
        {
            "date": wall[:10],
            "datetime": text + tail,
            "instant": f"{wall}.{millis:03}{tail}",
            "epoch_ms": epoch,
            "precision": precision,
            "zone": origin,
            "ambiguous": ambiguous,
        }
    )


@lru_cache(maxsize=8192)
def _steady(zone: str, hour: str) -> _Hour | None:
    """A local hour (YYYYMMDDHH, or YYYYMMDD for its midnight); None where it does not exist or its offset changes in it."""
    start = _start(hour)
    if start is None:
        return None
    where = _zone(zone)
    first = start.replace(tzinfo=where).utcoffset()
    last = start.replace(minute=59, second=59, tzinfo=where, fold=1).utcoffset()
    return _hour(start, _minutes(first)) if first == last and first is not None else None


@lru_cache(maxsize=8192)
def _fixed(offset: str, hour: str) -> _Hour | None:
    """An hour (YYYYMMDDHH) at an offset (+0200); None where one of them does not exist."""
    start, number = _start(hour), offset[1:]
    if start is None or not (number.isascii() and number.isdigit()) or number[2] > "5":
        return None
    minutes = int(number[:2]) * 60 + int(number[2:])
    return _hour(start, -minutes if offset[0] == "-" else minutes) if minutes <= _MOST_OFFSET else None


def _start(hour: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{hour[:8]}T{hour[8:] or '00'}")
    except ValueError:
        return None


def _hour(start: datetime, minutes: int) -> _Hour:
    wall = start.isoformat()
    return _Hour(wall[:10], wall[:14], _OFFSETS[minutes], (start - _EPOCH) // _MILLISECOND - minutes * 60_000)


def _place(local: datetime, zone: str) -> tuple[datetime, int, FindingCode | None]:
    """The local time with its offset in minutes. One that happens twice is the first; one that never happens moves by the gap."""
    where = _zone(zone)
    first, second = local.replace(tzinfo=where).utcoffset(), local.replace(tzinfo=where, fold=1).utcoffset()
    if first is None or second is None:
        raise ValueError
    if first == second:
        return local, _minutes(first), None
    if first > second:
        return local, _minutes(first), FindingCode.TIME_AMBIGUOUS
    return local + (second - first), _minutes(second), FindingCode.TIME_NONEXISTENT


def _minutes(offset: timedelta) -> int:
    """FHIR has no seconds in an offset; local mean times before the zones had (Amsterdam 1909: +00:19:32)."""
    return round(offset.total_seconds() / 60)


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    return ZoneInfo(name)
