"""Checks a resource or bundle against FHIR: elements, cardinalities, types, required codes, choices, targets, invariants.

No I/O, and no value of the resource in any finding: FHIR path, code, the rule's name. Valid input takes the compiled path (some 20 µs for
a message of three resources); only where that fails are findings made.
References across a bundle are references.py's business, a partner's profile is profile.py's.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import ErrorDetails, ValidationError

from pipeline.fhir.compiled import Compiled
from pipeline.fhir.metadata import Release, resource_types
from pipeline.model import Finding
from schemas.outcomes import FindingCode, Severity

__all__ = ["Release", "Validator"]

Place = tuple[str | int, ...]
CODES: Final = {
    "missing": FindingCode.MISSING_ELEMENT,
    "extra_forbidden": FindingCode.UNKNOWN_ELEMENT,
    "too_short": FindingCode.CARDINALITY,
    "too_long": FindingCode.CARDINALITY,
    "literal_error": FindingCode.NOT_IN_BINDING,
    "string_pattern_mismatch": FindingCode.WRONG_FORMAT,
    "string_too_short": FindingCode.WRONG_FORMAT,
    "string_unicode": FindingCode.WRONG_FORMAT,
    "finite_number": FindingCode.WRONG_FORMAT,
    "greater_than_equal": FindingCode.WRONG_FORMAT,
    "less_than_equal": FindingCode.WRONG_FORMAT,
    "recursion_loop": FindingCode.WRONG_TYPE,
}
"""pydantic-core's error types as finding codes; the other ones that occur are those of types, and end in `_type`."""

OURS: Final = {code.value: code for code in FindingCode}
"""The error types that rules of ours raise."""


class Validator:
    """The checks of one FHIR release. Compiles what it meets; safe to share between threads."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._compiled = Compiled(release)

    def check(self, resource: dict[str, Any]) -> tuple[Finding, ...]:
        """What is wrong with a resource or a bundle: errors with FHIR paths from its type on; empty where nothing is.

        An object whose elements are wrong is not asked for its invariants: mend and check again (degrade does).
        """
        try:
            self._compiled.resource(resource)
        except ValidationError as error:
            return tuple(dict.fromkeys(finding for _, finding in _failures(error, self.root_of(resource))))
        return ()

    def failures(self, resource: dict[str, Any]) -> tuple[tuple[Place, Finding], ...]:
        """As `check`, and with each finding its place below the resource: ("name", 0, "given")."""
        try:
            self._compiled.resource(resource)
        except ValidationError as error:
            return tuple(dict.fromkeys(_failures(error, self.root_of(resource))))
        return ()

    def root_of(self, resource: dict[str, Any]) -> str:
        """What the paths of a resource begin with: its type, or `Resource` where it has none that FHIR knows."""
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        return kind if isinstance(kind, str) and kind in resource_types(self.release) else "Resource"


def _failures(error: ValidationError, root: str) -> Iterator[tuple[Place, Finding]]:
    """The input is looked at to tell a wrong type from a wrong form, and goes no further."""
    for one in error.errors(include_url=False):
        yield one["loc"], Finding(code_of(one), Severity.ERROR, fhir=path_of(root, one["loc"]), about=_about(one))


def path_of(root: str, place: Place) -> str:
    """A FHIR path: Patient.name[0].given[1]; of a field that is not there, the path where it would stand."""
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


def code_of(detail: ErrorDetails) -> FindingCode:
    """What an error of pydantic-core says in our vocabulary."""
    kind, value = detail["type"], detail.get("input")
    if kind in OURS:
        return OURS[kind]
    if kind == "literal_error" and not isinstance(value, str):
        return FindingCode.CARDINALITY if isinstance(value, list) else FindingCode.WRONG_TYPE
    if kind == "string_pattern_mismatch" and detail["loc"][-1] == "reference" and "/" in str(value):
        return FindingCode.REFERENCE_TYPE
    if kind in {"dict_type", "string_type"} and isinstance(value, list):
        return FindingCode.CARDINALITY
    return CODES.get(kind, FindingCode.WRONG_TYPE)


def _about(detail: ErrorDetails) -> str | None:
    """The rule's name, of an error that a rule of ours raised."""
    if detail["type"] in OURS:
        return str(detail["ctx"]["about"]) or None
    return None
