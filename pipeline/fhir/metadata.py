"""What FHIR says of its types: elements, cardinalities, required codes, choices, reference targets. Read from the data files beside it.

STU3 is 3.0.2, R4B is 4.3.0 (R4's own element where both have it). No I/O after the first question about a release (two files, 3 ms).
No profile and no patient is known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

ROOM: Final = Path(__file__).parent
ABSTRACT: Final = frozenset({"Resource", "DomainResource", "MetadataResource", "FHIRResourceModel"})
"""Types that only others are built on; the last is fhir.resources' own."""
NAMES: Final = 2048
"""Types and value sets that are kept as found: more than a release has, since a message may name what is none."""


class Release(StrEnum):
    """A FHIR release; the value names its data files."""

    STU3 = "stu3"
    R4B = "r4b"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, under its name in JSON (deceasedBoolean, not deceased[x])."""

    name: str
    type: str
    """FHIR's type name: code, HumanName, PatientContact; Resource where any resource may stand."""
    many: bool = False
    required: bool = False
    codes: frozenset[str] | None = None
    """The codes of the required binding, of an element of type code; None: no required binding, or one that cannot be listed."""
    value_set: str | None = None
    """The required binding's value set, of any coded type."""
    choice: str | None = None
    """The choice element that it is a type of: deceased, of deceasedBoolean."""
    choice_required: bool = False
    """One of the choice must be there."""
    targets: tuple[str, ...] = ()
    """The resource types that a Reference may point at; `Resource` is any."""
    extensible: bool = False
    """A primitive beside which `_name` may stand: all but ids and an extension's url, which are attributes in XML."""

    @property
    def primitive(self) -> bool:
        """Whether JSON has a plain value here (and `_name` beside it)."""
        return self.type[0].islower()

    modifier: bool = False
    """It changes what the object around it means (isModifier), as Identifier.use `old` does: to leave it out alone may be wrong."""


@dataclass(frozen=True, slots=True)
class Type:
    """A resource, a data type, or a backbone element (PatientContact is Patient.contact)."""

    name: str
    resource: bool
    elements: Mapping[str, Element]
    """By name in JSON, inherited ones too; `resourceType` and `_name` are not among them."""
    order: tuple[str, ...] = ()
    """Their names in the order that XML wants."""


Codes = Mapping[str, tuple[str, ...]]
"""Codes by their system."""


@cache
def _types(release: Release) -> dict[str, Any]:
    types: dict[str, Any] = orjson.loads((ROOM / f"{release}.json").read_bytes())["types"]
    return types


@cache
def _definitions(release: Release) -> dict[str, Any]:
    definitions: dict[str, Any] = orjson.loads((ROOM / f"definitions-{release}.json").read_bytes())
    return definitions


@lru_cache(maxsize=NAMES)
def type_named(release: Release, name: str) -> Type | None:
    """The type `Patient`, `HumanName`, `PatientContact`; None where the release has none of that name, or it is primitive."""
    raw = _types(release).get(name)
    if raw is None:
        return None
    base = type_named(release, raw["base"]) if "base" in raw else None
    bound = _definitions(release)["bindings"].get(name, {})
    modifiers = _definitions(release)["modifiers"].get(name, ())
    own = {
        each: _element(release, f"{name}.{each}", data, bound.get(each), modifier=each in modifiers)
        for each, data in raw["elements"].items()
    }
    return Type(name, raw.get("resource", False), {**(base.elements if base else {}), **own}, tuple(raw.get("order", ())))


def _element(release: Release, path: str, data: dict[str, Any], value_set: str | None, *, modifier: bool) -> Element:
    name = path.rsplit(".", 1)[1]
    return Element(
        name,
        data["type"],
        many=data.get("many", False),
        required=data.get("required", False),
        codes=_plain(release, value_set) if value_set and data["type"] == "code" else None,
        value_set=value_set,
        choice=data.get("choice"),
        choice_required=data.get("choice_required", False),
        targets=tuple(data.get("targets", ())),
        extensible=data["type"][0].islower() and name != "id" and path != "Extension.url",
        modifier=modifier,
    )


@lru_cache(maxsize=NAMES)
def _plain(release: Release, value_set: str) -> frozenset[str]:
    return frozenset(code for codes in value_set_codes(release, value_set).values() for code in codes)


@lru_cache(maxsize=NAMES)
def value_set_codes(release: Release, url: str) -> Codes:
    """The codes of a value set of a required binding, by system."""
    found: dict[str, list[str]] = _definitions(release)["value_sets"][url]
    return {system: tuple(codes) for system, codes in found.items()}


@cache
def resource_types(release: Release) -> frozenset[str]:
    """All types that can stand alone, as Patient or Bundle."""
    return frozenset(name for name, raw in _types(release).items() if raw.get("resource")) - ABSTRACT


def element(release: Release, path: str) -> Element | None:
    """The element at `Patient.contact.gender` or `HumanName.given` (indexes are ignored); None where FHIR has none there."""
    owner, *steps = path.split(".")
    found: Element | None = None
    for step in steps:
        known = type_named(release, owner)
        found = known.elements.get(step.split("[", 1)[0]) if known else None
        if found is None:
            return None
        owner = found.type
    return found
