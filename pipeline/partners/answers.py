"""Reads an HTTP answer defensively: what form the body has, which issue codes it carries, how long we are asked to wait.

Nothing here knows a partner, and no body makes it fail: what cannot be read is OTHER. No text of an answer goes further than this file,
but ids that the partner gave, and codes of FHIR's closed list.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from pipeline.model import Reply, Resource

ISSUE_TYPES: Final = frozenset(
    {
        *("invalid", "structure", "required", "value", "invariant"),
        *("security", "login", "unknown", "expired", "forbidden", "suppressed"),
        *("processing", "not-supported", "duplicate", "not-found", "too-long", "code-invalid", "extension", "too-costly"),
        *("business-rule", "conflict", "incomplete", "deleted", "multiple-matches"),
        *("transient", "lock-error", "no-store", "exception", "timeout", "throttled", "informational"),
    }
)
"""FHIR STU3's issue-type (http://hl7.org/fhir/STU3/valueset-issue-type.html), and two of R4."""
ERRORS: Final = frozenset({"error", "fatal"})
MOST_WAIT: Final = 300.0
"""Seconds of a Retry-After that are believed: longer, and nobody would see the route come back."""


class Form(StrEnum):
    """What a body is."""

    EMPTY = "empty"
    PATIENT = "patient"
    """A Patient, or a Bundle with one in it, and no error beside it."""
    BUNDLE = "bundle"
    """A Bundle without a Patient and without an error."""
    FINE = "fine"
    """An OperationOutcome without an error in it."""
    ERROR = "error"
    """An OperationOutcome with an error, alone or in a Bundle."""
    JSON = "json"
    """Other JSON: a gateway speaks."""
    OTHER = "other"
    """No JSON at all: HTML, text, bytes, a JSON that is cut off."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body, read."""

    form: Form
    codes: tuple[str, ...] = ()
    """Issue codes of the errors, or of all issues where none says how bad it is."""
    patients: tuple[Resource, ...] = field(default=(), repr=False)
    certificate: bool = False
    """A gateway's text that speaks of a certificate."""


def read(body: bytes) -> Body:
    """Any bytes."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return Body(Form.EMPTY)
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Body(Form.OTHER, certificate=b"certificate" in text.lower())
    if isinstance(tree, dict) and isinstance(tree.get("resourceType"), str):
        return _fhir(tree)
    return Body(Form.JSON, certificate=b"certificate" in text.lower())


def _fhir(tree: Resource) -> Body:
    resources = tuple(_resources(tree))
    outcomes = [one for one in resources if one.get("resourceType") == "OperationOutcome"]
    errors, codes = _issues(outcomes)
    if errors:
        return Body(Form.ERROR, codes)
    patients = tuple(one for one in resources if one.get("resourceType") == "Patient")
    if patients:
        return Body(Form.PATIENT, patients=patients)
    if tree["resourceType"] == "Bundle":
        return Body(Form.BUNDLE)
    return Body(Form.FINE, codes) if outcomes else Body(Form.JSON)


def _resources(tree: Resource) -> Iterator[Resource]:
    """The resource itself, and those in its entries."""
    yield tree
    entries = tree.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict):
            yield resource


def _issues(outcomes: list[Resource]) -> tuple[bool, tuple[str, ...]]:
    """Whether there is an error, and the codes that count. An OperationOutcome that names no severity counts as an error."""
    issues = [issue for one in outcomes for issue in _list(one.get("issue")) if isinstance(issue, dict)]
    errors = [issue for issue in issues if issue.get("severity") in ERRORS]
    unsaid = [issue for issue in issues if issue.get("severity") not in {"warning", "information"}]
    counted = errors or unsaid or issues
    codes = (code for issue in counted if isinstance(code := issue.get("code"), str) and code in ISSUE_TYPES)
    empty = bool(outcomes) and not issues
    return bool(errors or unsaid or empty), tuple(dict.fromkeys(codes))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def retry_after(reply: Reply) -> float | None:
    """Seconds that the answer asks us to wait (RFC 9110 section 10.2.3), 0 to MOST_WAIT; None where it does not say, or not readably.

    A date is measured from the answer's own Date, so that two clocks that differ do no harm.
    """
    said = reply.headers.get("retry-after", "").strip()
    if not said:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", said, re.ASCII):
        seconds = float(said[:32])
        return min(seconds, MOST_WAIT)
    until = _date(said)
    if until is None:
        return None
    since = _date(reply.headers.get("date", "")) or reply.answered_ms / 1000
    return min(max(until - since, 0.0), MOST_WAIT)


def _date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date."""
    try:
        seconds = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
    return seconds if math.isfinite(seconds) else None
