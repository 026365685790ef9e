"""The specification's invariants that are checked, by type: a table of key, where it holds, and what breaks it.

Each `broken` sees one object whose elements have passed their own checks, and is true where the rule does not hold. Taken from the
constraints of HL7's StructureDefinitions (severity error) for what partners are sent; the README names what is not checked.
Not here: ele-1 and the choices, which every type has (rules.py), bdl-7 and ref-1, which look across entries (references.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.fhir.metadata import Release
from pipeline.fhir.narrative import xhtml_wrong

Node = dict[str, Any]
BOTH: Final = frozenset(Release)
STU3: Final = frozenset({Release.STU3})
R4B: Final = frozenset({Release.R4B})
UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule of the specification."""

    key: str
    at: str
    """The element that a finding points at; empty: the object itself."""
    broken: Callable[[Node], bool]
    releases: frozenset[Release] = BOTH
    when: str = ""
    """It is asked only where this element is there; empty: always."""


def _has(node: Node, prefix: str) -> bool:
    """Whether a choice element has a value: value[x] by `value`; its `_valueString` counts too."""
    return any(name.lstrip("_").startswith(prefix) for name in node)


def _starts_after_end(node: Node) -> bool:
    start, end = node.get("start"), node.get("end")
    if start is None or end is None:
        return False
    if len(start) > 10 < len(end):  # noqa: PLR2004 - YYYY-MM-DD: both have a time, and so an offset
        return datetime.fromisoformat(start[:19] + start[19:].lstrip(".0123456789")) > datetime.fromisoformat(
            end[:19] + end[19:].lstrip(".0123456789")
        )
    shared = min(len(start), len(end), 10)
    return bool(start[:shared] > end[:shared])


def _low_over_high(node: Node) -> bool:
    low, high = node.get("low", {}), node.get("high", {})
    same = all(low.get(each) == high.get(each) for each in ("system", "code", "unit"))
    return "value" in low and "value" in high and same and bool(low["value"] > high["value"])


def _quantity(key: str) -> Invariant:
    return Invariant(key, "system", lambda node: "system" not in node, when="code")


def _needs(key: str, element: str, other: str, releases: frozenset[Release] = BOTH) -> Invariant:
    """`element` demands `other`."""
    return Invariant(key, other, lambda node: other not in node and f"_{other}" not in node, releases, when=element)


def _one_of(key: str, *elements: str) -> Invariant:
    """At least one of the elements is there."""
    return Invariant(key, "", lambda node: not any(each in node for each in elements))


def _descendants(node: Any) -> Iterator[Node]:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _descendants(value)
    elif isinstance(node, list):
        for value in node:
            yield from _descendants(value)


def _contained_unused(node: Node) -> bool:
    """dom-3: each contained resource is referred to from the one that contains it, or refers to it."""
    seen = list(_descendants(node))
    used = {each.get("reference") for each in seen if isinstance(each.get("reference"), str)}
    whole = "#" in used
    return not whole and any(f"#{one.get('id')}" not in used for one in node["contained"])


def _any_contained(*steps: str) -> Callable[[Node], bool]:
    def found(node: Node) -> bool:
        for one in node.get("contained", ()):
            value: Any = one
            for step in steps:
                value = value.get(step) if isinstance(value, dict) else None
            if value is not None:
                return True
        return False

    return found


def _abated_but_active(node: Node) -> bool:
    """con-4 as STU3's expression has it: of an abatement only `true` counts, not a date (published examples are active with one)."""
    return node["abatementBoolean"] is True and node.get("clinicalStatus") not in {"resolved", "remission", "inactive"}


def _has_code(concept: Node | None, system: str, *codes: str) -> bool:
    return any(one.get("system") == system and one.get("code") in codes for one in (concept or {}).get("coding", ()))


CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


def _entry(node: Node, element: str, *types: str) -> bool:
    return node.get("type") not in types and any(element in each for each in node.get("entry", ()))


def _entry_exactly(node: Node, element: str, *types: str) -> bool:
    wanted = node.get("type") in types
    return any((element in each) is not wanted for each in node.get("entry", ()))


def _first_is_not(node: Node, kind: str, resource: str) -> bool:
    entries = node.get("entry", [])
    return node.get("type") == kind and (not entries or entries[0].get("resource", {}).get("resourceType") != resource)


def _document_unidentified(node: Node) -> bool:
    identifier = node.get("identifier", {})
    return node.get("type") == "document" and not ("system" in identifier and "value" in identifier)


def _home(element: str) -> Callable[[Node], bool]:
    return lambda node: any(one.get("use") == "home" for one in node.get(element, ()))


def _repeats_code(node: Node) -> bool:
    """obs-7, in R4's clearer form: with a value of its own, no component has the observation's code."""
    mine = {(one.get("system"), one.get("code")) for one in node.get("code", {}).get("coding", ()) if "code" in one}
    theirs = [one for part in node.get("component", ()) for one in part.get("code", {}).get("coding", ())]
    return _has(node, "value") and any((one.get("system"), one.get("code")) in mine for one in theirs)


def _parameter_wrong(node: Node) -> bool:
    return sum(("part" in node, _has(node, "value"), "resource" in node)) != 1


INVARIANTS: Final[dict[str, tuple[Invariant, ...]]] = {
    # data types
    "Attachment": (_needs("att-1", "data", "contentType"),),
    "ContactPoint": (_needs("cpt-2", "value", "system"),),
    "Narrative": (Invariant("txt-1", "div", xhtml_wrong, when="div"),),
    "Period": (Invariant("per-1", "", _starts_after_end, when="start"),),
    "Quantity": (_quantity("qty-3"),),
    "Age": (
        _quantity("qty-3"),
        Invariant("age-1", "", lambda node: "code" not in node or node["value"] <= 0, when="value"),
        Invariant("age-1", "system", lambda node: node["system"] != UCUM, when="system"),
    ),
    "Duration": (
        _quantity("qty-3"),
        Invariant("drt-1", "", lambda node: node.get("system") != UCUM or "value" not in node, when="code"),
    ),
    "Count": (_quantity("qty-3"),),
    "Distance": (_quantity("qty-3"),),
    "Money": (
        Invariant("qty-3", "system", lambda node: "system" not in node, STU3, when="code"),
        Invariant("mny-1", "code", lambda node: "code" not in node, STU3, when="value"),
        Invariant("mny-1", "system", lambda node: node["system"] != "urn:iso:std:iso:4217", STU3, when="system"),
    ),
    "Range": (Invariant("rng-2", "", _low_over_high, when="low"),),
    "Ratio": (
        Invariant("rat-1", "", lambda node: ("numerator" in node) != ("denominator" in node)),
        Invariant("rat-1", "", lambda node: "numerator" not in node and "extension" not in node),
    ),
    "TimingRepeat": (
        _needs("tim-1", "duration", "durationUnit"),
        _needs("tim-2", "period", "periodUnit"),
        Invariant("tim-4", "duration", lambda node: node["duration"] < 0, when="duration"),
        Invariant("tim-5", "period", lambda node: node["period"] < 0, when="period"),
        _needs("tim-6", "periodMax", "period"),
        _needs("tim-7", "durationMax", "duration"),
        _needs("tim-8", "countMax", "count"),
        _needs("tim-9", "offset", "when"),
        Invariant(
            "tim-9", "when", lambda node: any(one in {"C", "CM", "CD", "CV"} for one in node.get("when", ())), when="offset"
        ),
        Invariant("tim-10", "timeOfDay", lambda node: "when" in node, when="timeOfDay"),
    ),
    # all resources with text and contained ones
    "DomainResource": (
        Invariant("dom-1", "contained", _any_contained("text"), STU3, when="contained"),
        Invariant("dom-2", "contained", _any_contained("contained"), when="contained"),
        Invariant("dom-3", "contained", _contained_unused, when="contained"),
        Invariant("dom-4", "contained", _any_contained("meta", "versionId"), when="contained"),
        Invariant("dom-4", "contained", _any_contained("meta", "lastUpdated"), when="contained"),
        Invariant("dom-5", "contained", _any_contained("meta", "security"), R4B, when="contained"),
    ),
    # resources
    "Appointment": (
        Invariant("app-2", "", lambda node: ("start" in node) != ("end" in node)),
        Invariant(
            "app-3",
            "start",
            lambda node: not {"start", "_start"} & node.keys() and node.get("status") not in {"proposed", "cancelled"},
            STU3,
        ),
        Invariant(
            "app-3",
            "start",
            lambda node: "start" not in node and node.get("status") not in {"proposed", "cancelled", "waitlist"},
            R4B,
        ),
        Invariant(
            "app-4",
            "cancelationReason",
            lambda node: node.get("status") not in {"no-show", "cancelled"},
            R4B,
            when="cancelationReason",
        ),
    ),
    "AppointmentParticipant": (_one_of("app-1", "type", "actor"),),
    "Bundle": (
        Invariant("bdl-1", "total", lambda node: node.get("type") not in {"searchset", "history"}, when="total"),
        Invariant("bdl-2", "entry", lambda node: _entry(node, "search", "searchset"), when="entry"),
        Invariant("bdl-3", "entry", lambda node: _entry(node, "request", "batch", "transaction", "history"), STU3, when="entry"),
        Invariant("bdl-3", "entry", lambda node: _entry_exactly(node, "request", "batch", "transaction", "history"), R4B),
        Invariant(
            "bdl-4", "entry", lambda node: _entry(node, "response", "batch-response", "transaction-response"), STU3, when="entry"
        ),
        Invariant(
            "bdl-4",
            "entry",
            lambda node: _entry_exactly(node, "response", "batch-response", "transaction-response", "history"),
            R4B,
        ),
        Invariant("bdl-9", "identifier", _document_unidentified),
        Invariant("bdl-10", "timestamp", lambda node: node.get("type") == "document" and "timestamp" not in node, R4B),
        Invariant("bdl-11", "entry", lambda node: _first_is_not(node, "document", "Composition"), R4B),
        Invariant("bdl-12", "entry", lambda node: _first_is_not(node, "message", "MessageHeader"), R4B),
    ),
    "BundleEntry": (
        _one_of("bdl-5", "resource", "request", "response"),
        Invariant("bdl-8", "fullUrl", lambda node: "/_history/" in node["fullUrl"], when="fullUrl"),
    ),
    "CompositionSection": (
        _one_of("cmp-1", "text", "entry", "section"),
        Invariant("cmp-2", "emptyReason", lambda node: "entry" in node, when="emptyReason"),
    ),
    "Condition": (
        Invariant(
            "con-3",
            "clinicalStatus",
            lambda node: (
                not node.keys() & {"clinicalStatus", "_clinicalStatus"} and node.get("verificationStatus") != "entered-in-error"
            ),
            STU3,
        ),
        Invariant("con-4", "clinicalStatus", _abated_but_active, STU3, when="abatementBoolean"),
        Invariant(
            "con-4",
            "clinicalStatus",
            lambda node: (
                _has(node, "abatement")
                and not _has_code(node.get("clinicalStatus"), CLINICAL, "resolved", "remission", "inactive")
            ),
            R4B,
        ),
        Invariant(
            "con-5",
            "clinicalStatus",
            lambda node: _has_code(node.get("verificationStatus"), VERIFICATION, "entered-in-error"),
            R4B,
            when="clinicalStatus",
        ),
    ),
    "ConditionStage": (_one_of("con-1", "summary", "assessment"),),
    "ConditionEvidence": (_one_of("con-2", "code", "detail"),),
    "Observation": (
        Invariant("obs-6", "dataAbsentReason", lambda node: _has(node, "value"), when="dataAbsentReason"),
        Invariant("obs-7", "component", _repeats_code, when="component"),
    ),
    "ObservationReferenceRange": (_one_of("obs-3", "low", "high", "text"),),
    "Organization": (
        _one_of("org-1", "identifier", "name"),
        Invariant("org-2", "address", _home("address"), when="address"),
        Invariant("org-3", "telecom", _home("telecom"), when="telecom"),
    ),
    "ParametersParameter": (Invariant("inv-1", "", _parameter_wrong),),
    "PatientContact": (_one_of("pat-1", "name", "telecom", "address", "organization"),),
    "Procedure": (Invariant("pro-1", "notDoneReason", lambda node: node.get("notDone") is not True, STU3, when="notDoneReason"),),
    "QuestionnaireResponseItem": (Invariant("qrs-1", "", lambda node: "item" in node, when="answer"),),
}


def invariants(release: Release, name: str, *, domain_resource: bool) -> tuple[Invariant, ...]:
    """The invariants of a type in a release."""
    rows = INVARIANTS.get(name, ()) + (INVARIANTS["DomainResource"] if domain_resource else ())
    return tuple(one for one in rows if release in one.releases)
