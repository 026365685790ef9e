"""The strict check of a message's structure with hl7apy: segments, groups, cardinalities, data types, tables, lengths of its version.

Takes milliseconds, so only routes with `strict: true` use it. hl7apy is imported when it is first needed. Its sentences hold values of
the message; only places leave this file.
"""

import os
import re
from collections import Counter
from typing import Any, Final

from pipeline.hl7.message import Message
from pipeline.hl7.paths import place
from pipeline.model import Finding
from schemas.outcomes import FindingCode, Severity

_NAMES: Final = re.compile(r"([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)*)\.([A-Z][A-Z0-9_]*)(?: \(it must be \w+\))?\.?\Z")
_MISFIT: Final = re.compile(r"Invalid children detected for <(?:Segment|Field|Component) ([A-Z0-9_]+)")
_STRANGE: Final = re.compile(r"Invalid children detected for <(?:Message|Group) [^>]*>: \[(.*)\]")
_FIELD: Final = re.compile(r"([A-Z][A-Z0-9]{2})_(\d+)")
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


def check(message: Message) -> tuple[Finding, ...]:
    """STRUCTURE findings: ERROR where the grammar is broken, WARNING where a value breaks a length or a table. Empty: it conforms.

    A message that hl7apy cannot read at all (its version, its MSH-2) is one ERROR that says why in `about`.
    """
    from hl7apy.consts import VALIDATION_LEVEL  # noqa: PLC0415 - lazily, see above
    from hl7apy.exceptions import HL7apyException  # noqa: PLC0415 - the same
    from hl7apy.parser import parse_message  # noqa: PLC0415 - the same
    from hl7apy.validation import Validator  # noqa: PLC0415 - the same

    text = "\r".join(line.encode("utf-8", "replace").decode() for line in message.lines())
    try:
        parsed = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)
        report = os.memfd_create("structure") if hasattr(os, "memfd_create") else None
        try:
            first = _validate(Validator, HL7apyException, parsed, report)
            lines = _read(report) if report is not None else []
        finally:
            if report is not None:
                os.close(report)
    except HL7apyException as error:
        return (_unreadable(type(error).__name__),)
    findings = [_finding(line) for line in lines or ([f"Error: {first}"] if first else [])]
    findings += [Finding(FindingCode.STRUCTURE, Severity.ERROR, hl7=name) for name in _left_out(message, parsed)]
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.severity is not Severity.ERROR))


def _validate(validator: object, failure: type[Exception], parsed: object, report: int | None) -> str:
    """The first error's sentence. All of them go to `report`, a file in memory (hl7apy writes a file or tells the first alone)."""
    try:
        validator.validate(parsed, report_file=None if report is None else os.dup(report))  # type: ignore[attr-defined]
    except failure as error:
        return str(error)
    return ""


def _left_out(message: Message, parsed: Any) -> list[str]:  # noqa: ANN401 - hl7apy has no types
    """Segments for which hl7apy found no place in the structure: it leaves them out without a word. Z-segments may stand anywhere."""
    there: Counter[str] = Counter()
    elements = [parsed]
    while elements:
        element = elements.pop()
        if element.classname == "Segment":
            there[element.name] += 1
        else:
            elements.extend(element.children)
    given = Counter(name for name in message.segments() if name and not name.startswith("Z"))
    return sorted((given - there).keys())


def _read(report: int) -> list[str]:
    """The report's sentences; a value in one may hold line feeds, so what begins with neither word belongs to the line before."""
    os.lseek(report, 0, os.SEEK_SET)
    with os.fdopen(os.dup(report), encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines if line.startswith(("Error: ", "Warning: "))]


def _finding(line: str) -> Finding:
    severity = Severity.ERROR if line.startswith("Error: ") else Severity.WARNING
    where = _place(line)
    if where is None and line.startswith("Error: Unknown element found: None.<Message"):
        where = "MSH-9"  # no structure in it, and none can be told from the event
    named = _NAMES.search(line) if where is None else None
    return Finding(FindingCode.STRUCTURE, severity, hl7=where, about=named[0] if named else None)


def _place(line: str) -> str | None:
    """The place that a sentence of hl7apy names, by its own names of elements alone (PID.PID_3, PID_3.CX_1, ADT_A01.PID)."""
    if strange := _STRANGE.search(line):
        names = [name for name in re.findall(r"'([A-Z0-9_]+)'", strange[1]) if _SEGMENT.fullmatch(name)]
        return min(names) if names else None
    if misfit := _MISFIT.search(line):
        return _named(misfit[1])
    found = _NAMES.search(line)
    if found is None:
        return None
    parent, child = found.groups()
    inside = _FIELD.fullmatch(parent)
    if inside is not None and child.rpartition("_")[2].isdigit():
        return place(inside[1], 1, int(inside[2]), component=int(child.rpartition("_")[2]))
    return _named(child) or _named(parent)


def _named(name: str) -> str | None:
    if field := _FIELD.fullmatch(name):
        return place(field[1], 1, int(field[2]))
    return name if _SEGMENT.fullmatch(name) else None


def _unreadable(failure: str) -> Finding:
    where = {"UnsupportedVersion": "MSH-12", "InvalidEncodingChars": "MSH-2", "InvalidName": "MSH-9"}.get(failure)
    return Finding(FindingCode.STRUCTURE, Severity.ERROR, hl7=where, about=f"hl7apy: {failure}")
