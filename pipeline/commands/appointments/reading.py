"""A file of FHIR as its resources: one resource, a bundle or ndjson, in JSON or XML. A mistake is a line, and repeats no value."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.fhir.xml import NoFhirXml, from_xml
from pipeline.model import Resource


@dataclass(frozen=True, slots=True)
class Stood:
    """A resource, and where in its file it stood."""

    where: str
    """As `entry 3 (Appointment)` or `line 7 (Patient)`."""
    resource: Resource = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def read(raw: bytes) -> Iterator[Stood | Mistake]:
    """Every resource of a file, entries of bundles one by one."""
    raw = raw.removeprefix(b"\xef\xbb\xbf").strip()
    if raw[:1] == b"<":
        yield from _xml(raw)
        return
    try:
        whole = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        yield from _lines(raw, error)
        return
    yield from _unpacked(whole, "")


def _xml(raw: bytes) -> Iterator[Stood | Mistake]:
    try:
        resource = from_xml(raw)
    except NoFhirXml as error:
        yield Mistake("", str(error))
        return
    yield from _unpacked(resource, "")


def _lines(raw: bytes, error: orjson.JSONDecodeError) -> Iterator[Stood | Mistake]:
    """Ndjson, where the first line is JSON by itself; else a broken file."""
    lines = raw.splitlines()
    if not _json(lines[0] if lines else b""):
        yield Mistake(f"line {error.lineno}", "no JSON, and the file is neither XML nor ndjson")
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            found = _json(line)
            yield from _unpacked(found[0], f"line {number}") if found else (Mistake(f"line {number}", "no JSON"),)


def _json(line: bytes) -> tuple[Any] | None:
    try:
        return (orjson.loads(line),)
    except orjson.JSONDecodeError:
        return None


def _unpacked(found: Any, where: str) -> Iterator[Stood | Mistake]:  # noqa: ANN401 - JSON
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        yield Mistake(where, "no FHIR resource: it has no resourceType")
    elif found["resourceType"] != "Bundle":
        yield Stood(f"{where} ({_kind(found)})".strip(), found)
    else:
        yield from _entries(found, f"{where}, " if where else "")


def _entries(bundle: Resource, before: str) -> Iterator[Stood | Mistake]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        yield Mistake(before.removesuffix(", "), "Bundle.entry is no list")
        return
    for number, entry in enumerate(entries, 1):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            yield Mistake(f"{before}entry {number}", "no FHIR resource in it")
        elif resource["resourceType"] != "OperationOutcome":  # a server's remarks on its own answer
            yield Stood(f"{before}entry {number} ({_kind(resource)})", resource)


def _kind(resource: Resource) -> str:
    kind = str(resource["resourceType"])
    return kind if kind.isascii() and kind.isalpha() else "no type"
