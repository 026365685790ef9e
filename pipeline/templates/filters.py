"""The filters that templates have, documented in mappings/README.md. Pure; what they leave out they note as a finding.

A filter answers absent with absent. Each is registered in `filters_of`; a filter that looks codes up closes over the site's tables.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from pipeline.model import Finding
from pipeline.templates.environment import Mistake, now
from pipeline.templates.places import PlacedTuple, place_of, with_place
from pipeline.templates.tables import CodeTable, Concept
from schemas.event import NULL, Coded, Diagnosis, Null, Text, Timestamp
from schemas.outcomes import FindingCode, Severity

EMAIL: Final = re.compile(r"[^\s@<>\"',;:()\[\]\\]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?\.[A-Za-z]{2,24}")
"""An address that a mail server could take: RFC 5321's lengths, without its quoted forms."""
PHONE: Final = re.compile(
    r"(?=(?:[^0-9]*[0-9]){3,20}[^0-9]*\Z)[+]?[0-9()\[\]./ \-\u2013]*(?:(?:x|ext\.?|#|tst\.?)\s*[0-9]{1,6})?", re.IGNORECASE
)
"""A telephone number: 3 to 20 digits (E.164 has up to 15, an extension may follow) and what people write between them."""


SSN: Final = re.compile(r"[0-9]{3}-?[0-9]{2}-?[0-9]{4}")
"""A social security number of the United States."""
NO_SSN: Final = frozenset({"123456789", *(digit * 9 for digit in "0123456789")})
"""What registrars type where they know none."""


LEAST_DIGITS: Final = 3
MOST_DIGITS: Final = 20
"""Of a telephone number, as PHONE has them."""


def note(code: FindingCode, hl7: str | None, about: str | None = None, severity: Severity = Severity.WARNING) -> None:
    """Keep a finding with the rendering of this thread."""
    finding = Finding(code, severity, hl7=hl7, about=about)
    if hl7 is None or finding not in now.rendering.findings:
        now.rendering.findings.append(finding)


def first(values: Sequence[Any] | Null | None) -> Any:  # noqa: ANN401 - an item of whatever the list holds
    """The first of a list; absent where it is empty."""
    return values[0] if values else None


def strip(value: Text) -> Text:
    """Without blanks around it. Every value is stripped when it is emitted; this is for comparing."""
    return value.strip() if value else value


def upper(value: Text) -> Text:
    """In upper case."""
    return value.upper() if value else value


def lower(value: Text) -> Text:
    """In lower case."""
    return value.lower() if value else value


def digits(value: Text) -> Text:
    """The digits alone."""
    return "".join(re.findall("[0-9]", value)) or None if value else value


def join_names(parts: Iterable[Text], by: str = " ") -> Text:
    """The parts that are there, with a blank (or `by`) between them."""
    return by.join(part.strip() for part in parts if part and part.strip()) or None


def keyed(value: Text, *keys: Text) -> Text:
    """The value behind its keys, blanks between: what a table of several keys is asked with. Absent where a key is."""
    return value and (" ".join((*map(str, keys), value)) if all(keys) else None)


def prefer(values: tuple[Any, ...] | Null | None, *types: str) -> tuple[Any, ...]:
    """A list of names, addresses, diagnoses … by their `type`: those named first, in that order, then the others as they came.

    `""` stands for those without a type.
    """
    if not values or len(values) == 1:
        return values or ()
    order = {kind: place for place, kind in enumerate(types)}
    return tuple(sorted(values, key=lambda value: order.get(value.type or "", len(order))))


def email(value: Text) -> Text:
    """An e-mail address; what cannot be one is left out with a finding."""
    return _checked(value, lambda text: EMAIL.fullmatch(text) is not None and ".." not in text, "email")


def phone(value: Text) -> Text:
    """A telephone number; what cannot be one is left out with a finding."""
    if value and value.isascii() and value.isdigit() and MOST_DIGITS >= len(value) >= LEAST_DIGITS:
        return value  # what most are: PHONE takes 1.5 us to say so
    return _checked(value, lambda text: PHONE.fullmatch(text) is not None, "phone")


def ssn(value: Text) -> Text:
    """A social security number as its nine digits; what cannot be one, and what stands for none, is left out with a finding."""
    checked = _checked(value, lambda text: SSN.fullmatch(text) is not None and digits(text) not in NO_SSN, "ssn")
    return digits(checked)


def _checked(value: Text, good: Callable[[str], bool], about: str) -> Text:
    if not value or not value.strip():
        return value
    if good(value.strip()):
        return value
    note(FindingCode.ELEMENT_DROPPED, place_of(value), about)
    return None


POSTCODE: Final = re.compile(r"([1-9][0-9]{3})\s*([A-Za-z]{2})")


def dutch_postcode(value: Text) -> Text:
    """A Dutch postal code as nl-core-address has it, without a blank: 1015CS. Absent of another: the profile's rule takes none, whatever the country."""
    found = POSTCODE.fullmatch(value.strip()) if value else None
    return f"{found[1]}{found[2].upper()}" if found else None


def instant(value: Timestamp | Null | None) -> Text:
    """A timestamp as a FHIR instant. A day alone counts from its start; less than a day is absent."""
    if not isinstance(value, Timestamp):
        return value
    if value.instant or value.epoch_ms is None:
        return value.instant
    return datetime.fromtimestamp(value.epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def moment(value: Timestamp | Null | None) -> Text:
    """A timestamp as a FHIR dateTime with a time and its offset. A day alone counts from its start, in the zone that it was read in; less is absent."""
    if not isinstance(value, Timestamp):
        return value
    if value.instant:
        return value.datetime
    if value.epoch_ms is None:
        return None
    start = datetime.fromisoformat(value.date).replace(tzinfo=UTC)
    there = start.replace(tzinfo=timezone(timedelta(milliseconds=start.timestamp() * 1000 - value.epoch_ms))).isoformat()
    place = place_of(value.date)
    return with_place(there, place) if place else there


def number(value: Text) -> int | Text:
    """A whole number, for an element that wants one; what is none is left out with a finding."""
    checked = _checked(value, lambda text: re.fullmatch(r"-?[0-9]{1,9}", text) is not None, "number")
    return int(checked) if checked else checked


@dataclass(frozen=True, slots=True)
class Lookups:
    """The filters that look something up in a site's tables."""

    tables: Mapping[str, CodeTable]

    def _table(self, name: str) -> CodeTable:
        try:
            return self.tables[name]
        except KeyError:
            raise Mistake(f"there is no code table {name}") from None

    def code(self, value: Text | Coded, table: str) -> str | Concept | Null | None:
        """What the code table has for a code, or for a coded element; absent with a finding where it has nothing."""
        if value is None or value is NULL or value == "":
            return None if value == "" else value
        codes = self._table(table)
        found = codes.find_coded(value) if isinstance(value, Coded) else codes.find(value)
        if found is None and not codes.leaves_out(value):
            note(FindingCode.CODE_UNMAPPED, place_of(value), table)
        return found

    def diagnosis(self, rows: Sequence[Diagnosis] | Null | None, table: str) -> Concept | str | None:
        """The one diagnosis that the partner takes, as the table's target.

        Of several the final one (DG1-6 F) counts before the working (W) and the admitting one (A), then the order of the message.
        Deleted rows (DG1-21 D) do not count. Each row that is left out leaves a finding, unless it says the same as the chosen one.
        """
        codes = self._table(table)
        said = [(number, row) for number, row in enumerate(rows or (), 1) if _says_something(row)]
        found = [(number, row, _target(row, codes)) for number, row in said]
        taken = [(RANK.get(row.type or "", len(RANK)), number, target) for number, row, target in found if target is not None]
        _, at, chosen = min(taken, key=_rank) if taken else (0, 0, None)
        for number, _, target in found:
            if target is None or target != chosen:
                note(FindingCode.DIAGNOSIS_DROPPED, _dg1(number), table)
        if chosen is None:
            note(FindingCode.DIAGNOSIS_NONE, "DG1", table, Severity.INFORMATION)
        return with_place(chosen, _dg1(at)) if chosen is not None and isinstance(rows, PlacedTuple) else chosen


def filters_of(tables: Mapping[str, CodeTable]) -> dict[str, Callable[..., Any]]:
    """Every filter, by the name that templates use."""
    lookups = Lookups(tables)
    plain = (
        digits,
        dutch_postcode,
        email,
        first,
        instant,
        join_names,
        keyed,
        lower,
        moment,
        number,
        phone,
        prefer,
        ssn,
        strip,
        upper,
    )
    return {"code": lookups.code, "diagnosis": lookups.diagnosis} | {filter_.__name__: filter_ for filter_ in plain}


READS: Final[Mapping[str, frozenset[str]]] = {
    "diagnosis": frozenset({"action", "code", "coding_method", "type"}),
    "prefer": frozenset({"type"}),
}
"""Fields of segments (schemas/event.py) that a filter reads by itself, which no template names: reads.py goes by it."""
RANK: Final = {"F": 0, "W": 1, "A": 2}
DELETED: Final = "D"


def _dg1(number: int) -> str:
    return f"DG1[{number}]-3" if number > 1 else "DG1-3"


def _rank(taken: tuple[int, int, object]) -> tuple[int, int]:
    return taken[:2]


def _says_something(row: Diagnosis) -> bool:
    return row.code is not None and bool(row.code.code or row.code.alternate_code)


def _target(row: Diagnosis, codes: CodeTable) -> Concept | str | None:
    """What the table has for a row; None where it has nothing, or the row is deleted."""
    return None if row.action == DELETED or row.code is None else codes.find_coded(row.code, row.coding_method or None)
