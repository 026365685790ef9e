"""HL7 timestamps (v2.8.2 chapter 2.A.77 TS, 2.A.21 DT, 2.A.22 DTM) of every precision, to FHIR's forms. Pure: text in, value out.

YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ], with TS's old second component (Y L D H M S) as a cut. Also read: digits beyond the seconds
without a point (a fraction), and month or day `00` with nothing behind (how senders say "unknown"): a year or a month. Not read:
dashes, colons, `T`, `Z`, year 0, dates and hours that do not exist, words.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.event import Precision, Timestamp, Zone
from schemas.outcomes import FindingCode

_FORM: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.?(\d+))?)?)?)?)?)?(?:([+-])(\d\d)([0-5]\d))?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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


class Reading(NamedTuple):
    """The members of a schemas.event.Timestamp, or why there is none; TIME_AMBIGUOUS and TIME_NONEXISTENT come with a value."""

    members: dict[str, Any] | None
    code: FindingCode | None = None


_UNREADABLE: Final = Reading(None, FindingCode.TIMESTAMP)
_OFFSETS: Final = {
    minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" for minutes in range(-840, 841)
}


def timestamp(text: str, *, zone: str, precision: str = "") -> tuple[Timestamp | None, FindingCode | None]:
    """Read an HL7 timestamp. `zone`: IANA name, for where there is no offset; `precision`: TS.2 of old versions."""
    members, code = read(text, zone, precision)
    return (None if members is None else Timestamp(**members)), code


def read(text: str, zone: str, precision: str = "") -> Reading:
    """The same as plain members, for a whole event to be validated at once."""
    found = _FORM.fullmatch(text.strip())
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
    date = year if depth == 1 else f"{year}-{month}" if depth == 2 else f"{year}-{month}-{day}"  # noqa: PLR2004 - parts of a date
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
        return Reading({"date": date, "datetime": date, "precision": _PRECISIONS[depth], "zone": origin})
    hours, minutes, seconds = (int(part) if at < depth and part else 0 for at, part in enumerate((hour, minute, second), 3))
    local = datetime(int(year or 0), int(month or 0), int(day or 0), hours, minutes, seconds)  # noqa: DTZ001 - its zone is sought
    code = None
    if offset is None:
        local, offset, code = _place(local, zone)
    millis = int((fraction or "")[:3].ljust(3, "0")) if depth > _SECOND else 0
    epoch = (local.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND - offset * 60_000 + millis
    if depth == _DAY:
        return Reading({"date": date, "datetime": date, "epoch_ms": epoch, "precision": Precision.DAY, "zone": origin})
    wall = local.isoformat()
    tail = _OFFSETS[offset]
    return Reading(
        {
            "date": wall[:10],
            "datetime": f"{wall}.{fraction}{tail}" if depth > _SECOND else wall + tail,
            "instant": f"{wall}.{millis:03}{tail}",
            "epoch_ms": epoch,
            "precision": _PRECISIONS[depth],
            "zone": Zone.SITE if origin is Zone.NONE else origin,
            "ambiguous": code is not None,
        },
        code,
    )


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
