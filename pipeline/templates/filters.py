"""The filters that templates have, documented in mappings/README.md. Pure; what they leave out they note as a finding.

A filter answers absent with absent. Each is registered in `filters_of`; a filter that looks codes up closes over the site's tables.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
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


def prefer(values: Iterable[Any] | Null | None, *types: str) -> tuple[Any, ...]:
    """A list of names, addresses, diagnoses … by their `type`: those named first, in that order, then the others as they came.

    `""` stands for those without a type.
    """
    order = {kind: place for place, kind in enumerate(types)}
    return tuple(sorted(values or (), key=lambda value: order.get(value.type or "", len(order))))


def email(value: Text) -> Text:
    """An e-mail address; what cannot be one is left out with a finding."""
    return _checked(value, lambda text: EMAIL.fullmatch(text) is not None and ".." not in text, "email")


def phone(value: Text) -> Text:
    """A telephone number; what cannot be one is left out with a finding."""
    return _checked(value, lambda text: PHONE.fullmatch(text) is not None, "phone")


def _checked(value: Text, good: Callable[[str], bool], about: str) -> Text:
    if not value or not value.strip():
        return value
    if good(value.strip()):
        return value
    note(FindingCode.ELEMENT_DROPPED, place_of(value), about)
    return None


def instant(value: Timestamp | Null | None) -> Text:
    """A timestamp as a FHIR instant. A day alone counts from its start; less than a day is absent."""
    if not isinstance(value, Timestamp):
        return value
    if value.instant or value.epoch_ms is None:
        return value.instant
    return datetime.fromtimestamp(value.epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def filters_of(tables: Mapping[str, CodeTable]) -> dict[str, Callable[..., Any]]:
    """Every filter, by the name that templates use."""

    def table_of(name: str) -> CodeTable:
        try:
            return tables[name]
        except KeyError:
            raise Mistake(f"there is no code table {name}") from None

    def code(value: Text | Coded, table: str) -> str | Concept | Null | None:
        """What the code table has for a code, or for a coded element; absent with a finding where it has nothing."""
        if value is None or value is NULL or value == "":
            return value  # type: ignore[return-value]  # absent or deleted, as it came
        codes = table_of(table)
        found = codes.find_coded(value) if isinstance(value, Coded) else codes.find(str(value))
        if found is None and not (isinstance(value, str) and codes.knows(str(value))):
            note(FindingCode.CODE_UNMAPPED, place_of(value), table)
        return found

    def diagnosis(rows: Sequence[Diagnosis] | Null | None, table: str) -> Concept | str | None:
        """The one diagnosis that the partner takes, as the table's target.

        Of several the final one (DG1-6 F) counts before the working (W) and the admitting one (A), then the order of the message.
        Deleted rows (DG1-21 D) do not count. Each row that is left out leaves a finding, unless it says the same as the chosen one.
        """
        codes = table_of(table)
        best, chosen, at = len(RANK) + 1, None, 0
        seen: list[tuple[int, str | Concept | None]] = []
        for number, row in enumerate(rows or (), 1):
            target = _target(row, codes)
            if target is NOT_SAID:
                continue
            seen.append((number, target))
            rank = RANK.get(row.type or "", len(RANK))
            if target is not None and rank < best:
                best, chosen, at = rank, target, number
        for number, target in seen:
            if target is None or target != chosen:
                note(FindingCode.DIAGNOSIS_DROPPED, _dg1(number), table)
        if chosen is None:
            note(FindingCode.DIAGNOSIS_NONE, "DG1", table, Severity.INFORMATION)
        return with_place(chosen, _dg1(at)) if chosen is not None and isinstance(rows, PlacedTuple) else chosen

    return {
        "code": code,
        "diagnosis": diagnosis,
        "digits": digits,
        "email": email,
        "first": first,
        "instant": instant,
        "join_names": join_names,
        "lower": lower,
        "phone": phone,
        "prefer": prefer,
        "strip": strip,
        "upper": upper,
    }


RANK: Final = {"F": 0, "W": 1, "A": 2}
DELETED: Final = "D"


def _dg1(number: int) -> str:
    return f"DG1[{number}]-3" if number > 1 else "DG1-3"


NOT_SAID: Final = ""


def _target(row: Diagnosis, codes: CodeTable) -> Concept | str | None:
    """What the table has for a row; None where it has nothing or the row is deleted, NOT_SAID where the row has no code."""
    coded = row.code
    if coded is None or not (coded.code or coded.alternate_code):
        return NOT_SAID
    return None if row.action == DELETED else codes.find_coded(coded, row.coding_method or None)
