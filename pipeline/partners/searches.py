"""What a resource may be searched by, and how what was typed becomes what is asked. Light: `fetch --help` shows it. No I/O."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
"""A logical id (FHIR R4, datatypes)."""
DATE: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?\d{4}(-\d{2}(-\d{2})?)?")
"""A search date: a year, month or day, with a prefix where one is wanted (FHIR R4, search)."""
DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
SHORT: Final = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?", re.ASCII)
BOUND: Final = "must be a day as 2026-01-31, a month, a year, or a time with its offset, as 2026-01-31T09:00:00+01:00"
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def text(value: str) -> str:
    """As it is typed."""
    if not value.strip() or not value.isprintable():
        raise ValueError("is empty, or holds what cannot be printed")
    return value.strip()


def date(value: str) -> str:
    """A day, month or year, with or without ge, le, gt, lt and their like."""
    if not DATE.fullmatch(value):
        raise ValueError("must be a date, as 2026-01-31 (ge, le, gt or lt may stand before it)")
    return value


def moment(value: str) -> str:
    """A time with its offset, or a day, which begins at midnight UTC: as ISO 8601 in UTC."""
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time with its offset, as 2026-01-31T00:00:00+01:00, or a day (of UTC)") from None
    if read.tzinfo is None and not DAY.fullmatch(value):
        raise ValueError("the time has no offset, as +01:00")
    try:
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    except OverflowError:
        raise ValueError("must be a time that UTC has too") from None


def bound(prefix: str) -> Callable[[str], str]:
    """A year, a month, a day, or a time with its offset, behind `ge` or `le`: as it was typed, since its precision counts (FHIR STU3, search)."""

    def of(value: str) -> str:
        short = SHORT.fullmatch(value)
        if not short and not TIME.fullmatch(value):
            raise ValueError(BOUND)
        try:
            datetime.fromisoformat(f"{value}-01-01"[:10] if short else value)
        except ValueError:
            raise ValueError(BOUND) from None
        return f"{prefix}{value}"

    return of


def number(value: str) -> str:
    """A whole number."""
    if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
        raise ValueError("must be a whole number")
    return value


def reference(kind: str) -> Callable[[str], str]:
    """An id, or Kind/id: always asked with its type."""

    def of(value: str) -> str:
        found = value.removeprefix(f"{kind}/")
        if not ID.fullmatch(found):
            raise ValueError(f"must be an id, as 12 or {kind}/12")
        return f"{kind}/{found}"

    return of


def one_of(words: Mapping[str, str]) -> Callable[[str], str]:
    """A word of ours for a value of the partner's."""

    def of(value: str) -> str:
        if value not in words:
            raise ValueError(f"there is {', '.join(words)}")
        return words[value]

    return of


@dataclass(frozen=True, slots=True)
class Search:
    """Something that a resource may be searched by."""

    option: str
    """What it is called on the command line, without --."""
    parameter: str
    """The search parameter."""
    value: Callable[[str], str] = field(default=text, repr=False)
    """What is sent for what was typed; ValueError says what it must be."""
    several: bool = False
    """Several may be given, with commas between them."""

    def values(self, typed: str) -> list[str]:
        """What is sent for what was typed."""
        return [self.value(one.strip()) for one in typed.split(",")] if self.several else [self.value(typed)]

    @property
    def name(self) -> str:
        """What argparse keeps it as."""
        return self.option.replace("-", "_")
