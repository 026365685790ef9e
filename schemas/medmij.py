"""What a patient may read as an appointment (MedMij eAfspraak, FHIR STU3), as a collection of the Appointment and all that it refers to.

FHIR's own rules and the shapes of the resources are checked before; here stands what MedMij adds. Each rule names its section of the dossier
(contracts/medmij.md). No rule's text has a value in it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from pydantic_core import CoreConfig, PydanticCustomError, SchemaValidator
from typing_extensions import TypedDict  # pydantic brings it, and wants it before Python 3.12

from schemas.outcomes import FindingCode

PROFILES: Final = {
    "Appointment": "http://nictiz.nl/fhir/StructureDefinition/eAfspraak-Appointment",
    "Patient": "http://fhir.nl/fhir/StructureDefinition/nl-core-patient",
    "Practitioner": "http://fhir.nl/fhir/StructureDefinition/nl-core-practitioner",
    "PractitionerRole": "http://fhir.nl/fhir/StructureDefinition/nl-core-practitionerrole",
    "Location": "http://fhir.nl/fhir/StructureDefinition/nl-core-location",
    "Organization": "http://fhir.nl/fhir/StructureDefinition/nl-core-organization",
}
"""Sections 2, 5 and 6."""
BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
ZIB_VALUE_SET: Final = "urn:oid:2.16.840.1.113883.2.4.3.11.60.40.2"
"""Section 4, assert 10: an OID of a value set is no code system."""
WITHOUT_TIMES: Final = frozenset({"proposed", "cancelled"})


def _refuse(code: FindingCode, about: str) -> PydanticCustomError:
    return PydanticCustomError(code.value, "{about}", {"about": about})  # a rule's name: no value goes in


class Meta(TypedDict):
    """Section 4, assert 5."""

    profile: Annotated[list[str], Field(min_length=1)]


class Reference(TypedDict):
    """Section 4, assert 12."""

    reference: NotRequired[str]
    display: Annotated[str, Field(min_length=1)]


class Participant(TypedDict):
    """Section 5: the status is required, and whom we name can be shown."""

    actor: Reference
    status: Literal["accepted", "declined", "tentative", "needs-action"]


class Identifier(TypedDict):
    """Section 4, assert 13."""

    system: Annotated[str, Field(min_length=1)]
    value: NotRequired[Annotated[str, Field(min_length=1)]]


class Appointment(TypedDict):
    """Section 5: identifier 1..*, participant 1..*, the patient first."""

    resourceType: Literal["Appointment"]
    id: str
    meta: Meta
    identifier: Annotated[list[Identifier], Field(min_length=1)]
    status: Literal["proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error"]
    start: NotRequired[str]
    end: NotRequired[str]
    participant: Annotated[list[Participant], Field(min_length=1)]


class Other(TypedDict):
    """What an Appointment refers to (section 6)."""

    resourceType: Literal["Patient", "Practitioner", "PractitionerRole", "Location", "Organization"]
    id: str
    meta: Meta


def _timed(one: Appointment) -> Appointment:
    """Section 5: app-2 (both or neither) and app-3 (both, but of what is proposed or cancelled), told at the one that is missing."""
    if one["status"] in WITHOUT_TIMES and ("start" in one) is ("end" in one):
        return one
    there = {name.removeprefix("_") for name in one}  # of an absent one that is said to be unknown, the store may know
    for element in ("start", "end"):
        if element not in there:
            raise _refuse(FindingCode.PROFILE_MANDATORY, element)
    return one


class Entry(TypedDict):
    """No fullUrl: the store serves each under an address of its own."""

    resource: Annotated[Annotated[Appointment, AfterValidator(_timed)] | Other, Field(discriminator="resourceType")]


@with_config(ConfigDict(extra="allow"))
class Bundle(TypedDict):
    """What goes into the store. Extra elements are kept, here and below: the rules over all that is in it have to see them."""

    resourceType: Literal["Bundle"]
    type: Literal["collection"]
    entry: Annotated[list[Entry], Field(min_length=1)]


def _nodes(node: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - JSON
    """Every object with the name of its element."""
    if isinstance(node, dict):
        yield name, node
        for key, value in node.items():
            yield from _nodes(value, key)
    elif isinstance(node, list):
        for one in node:
            yield from _nodes(one, name)


def _said(bundle: "Bundle") -> "Bundle":
    """Section 4, asserts 5 to 14, over all that is in it."""
    resources: list[Any] = [entry["resource"] for entry in bundle["entry"]]
    for one in resources:
        if PROFILES[one["resourceType"]] not in one["meta"]["profile"]:
            raise _refuse(FindingCode.PROFILE_MANDATORY, f"meta.profile of {one['resourceType']}")
    names = [f"{one['resourceType']}/{one['id']}" for one in resources]
    if len(set(names)) < len(names) or [one["resourceType"] for one in resources].count("Appointment") != 1:
        raise _refuse(FindingCode.ID_COLLISION, "one Appointment, and each resource once")
    for name, node in _nodes(resources):
        _object(name, node, names)
    return bundle


def _object(name: str, node: dict[str, Any], names: list[str]) -> None:
    if "reference" in node:
        if not node.get("display"):
            raise _refuse(FindingCode.PROFILE_MANDATORY, "a display beside every reference (assert 12)")
        if node["reference"] not in names:
            raise _refuse(FindingCode.REFERENCE_BROKEN, "every reference is to what is there")
    if name == "coding" and not (node.get("system") and node.get("code")):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "system and code of every coding (assert 9)")
    if name == "coding" and str(node["system"]).startswith(ZIB_VALUE_SET):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "no value set as the system of a coding (assert 10)")
    if "coding" in node and not (node.get("text") or "extension" in node or all(one.get("display") for one in node["coding"])):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "display or text of every concept (assert 11)")
    if name == "identifier":
        _identifier(node)


def _identifier(node: dict[str, Any]) -> None:
    if node.get("system") == BSN:
        masked = [one.get("valueCode") for one in node.get("_value", {}).get("extension", ())]
        if "value" in node or masked != ["masked"]:
            raise _refuse(FindingCode.NOT_IN_PROFILE, "a BSN is masked, and has no value (assert 14)")
    elif not node.get("value") or not (node.get("system") or node.get("type")):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "value, and system or type, of every identifier (assert 13)")


BUNDLE: Final = TypeAdapter(Annotated[Bundle, AfterValidator(_said)])
"""All of the above, for the published schema."""
CHECK: Final = SchemaValidator(BUNDLE.core_schema, CoreConfig(title="Bundle", hide_input_in_errors=True))
"""The same, to check with. Its errors show no values, which only the outermost config decides."""
