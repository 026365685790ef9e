"""NJSAMS's profiles as typed dicts that pydantic checks: patient, encounter, coverage, and the transaction bundle that holds them (FHIR R4).

Each rule names its section of the dossier (contracts/njsams.md) and its tag: BRIEF, FOUND (0.1.0 where only the draft was seen), INFERENCE. Only
what the profiles add to FHIR stands here: FHIR's own rules are checked before. The element tables of 1.0.0 were not seen whole, so resources are
open, but for `contained`. What a site decides (which identifiers are mandatory) are `Terms`, given as the validation's context.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationInfo, with_config
from pydantic_core import CoreConfig, PydanticCustomError, SchemaValidator
from typing_extensions import TypedDict  # pydantic brings it, and wants it before Python 3.12

from schemas.outcomes import FindingCode

BASE: Final = "https://fhir.njsams.rutgers.edu/NJSAMS-fhir"
"""Of canonicals and identifier systems; the server is another (NJSAMS-FHIR-API). Section 0: of 1.0.0 only."""
LABEL: Final = f"{BASE}/fhir/security/provider-id"
"""Section 4, BRIEF; the odd /NJSAMS-fhir/fhir/ is right."""
CLIENT_ID: Final = f"{BASE}/client-id"
SSN: Final = "http://hl7.org/fhir/sid/us-ssn"
"""Section 8.1, FOUND."""
LEVEL_OF_CARE: Final = f"{BASE}/CodeSystem/LevelOfCare"
LEVELS: Final = frozenset({*map(str, range(1, 19)), "500"})
"""Section 8.5, FOUND."""
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLASSES: Final = frozenset({"AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"})
"""Value set ActEncounterCode. FHIR binds it extensibly; here nothing else goes, so that no letter of PV1-2 ever does (INFERENCE)."""
SYSTEMS: Final = {"client-id": CLIENT_ID, "ssn": SSN}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a site decides."""

    required: tuple[str, ...] = ("client-id", "ssn")
    """Names of SYSTEMS of which a Patient must have an identifier (section 8.1: njsams-client-id-system-required, njsams-ssn-required; FOUND)."""


DEFAULT: Final = Terms()


def _refuse(code: FindingCode, about: str) -> PydanticCustomError:
    return PydanticCustomError(code.value, "{about}", {"about": about})  # a rule's name: no value goes in


closed: Final = with_config(ConfigDict(extra="forbid", strict=True))
"""A part of which every element is known."""
part: Final = with_config(ConfigDict(extra="ignore", strict=True))
"""A part of which the profile says something: the rest is FHIR's business."""


def _never(_: object) -> object:
    raise _refuse(FindingCode.NOT_IN_PROFILE, "no contained resources")


Never = Annotated[Any, AfterValidator(_never)]
"""Section 4: every resource needs a label, and FHIR forbids it of contained ones (dom-5, FOUND): so there are none (INFERENCE)."""


# the security label (section 4)


@part
class Label(TypedDict):
    """A coding of meta.security."""

    system: NotRequired[str | None]
    code: NotRequired[str | None]


def _labelled(labels: list[Label]) -> list[Label]:
    if not any(one.get("system") == LABEL and one.get("code") for one in labels):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "security label")
    return labels


Labels = Annotated[list[Label], AfterValidator(_labelled)]
"""BRIEF: 403 without it."""


@part
class PatientMeta(TypedDict):
    """BRIEF, create sample."""

    profile: list[Literal["https://fhir.njsams.rutgers.edu/NJSAMS-fhir/StructureDefinition/NJSAMSPatient"]]
    security: Labels


@part
class EncounterMeta(TypedDict):
    """BRIEF, read sample."""

    profile: list[Literal["https://fhir.njsams.rutgers.edu/NJSAMS-fhir/StructureDefinition/NJSAMSEncounter"]]
    security: Labels


@part
class CoverageMeta(TypedDict):
    """BRIEF, read sample."""

    profile: list[Literal["https://fhir.njsams.rutgers.edu/NJSAMS-fhir/StructureDefinition/NJSAMSCoverage"]]
    security: Labels


# Patient (section 8.1)


@part
class Identifier(TypedDict):
    """US Core floor: system and value (INFERENCE)."""

    system: str
    value: Annotated[str, Field(min_length=1)]


def _identified(identifiers: list[Identifier], info: ValidationInfo) -> list[Identifier]:
    terms = info.context if isinstance(info.context, Terms) else DEFAULT
    systems = {one["system"] for one in identifiers}
    for name in terms.required:
        if SYSTEMS[name] not in systems:
            raise _refuse(FindingCode.PROFILE_MANDATORY, name)
    if any(one["system"] == SSN and not re.fullmatch(r"\d{9}", one["value"], re.ASCII) for one in identifiers):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "ssn: nine digits")
    return identifiers


@part
class Name(TypedDict):
    """US Core floor: family or given (us-core-8; INFERENCE)."""

    family: NotRequired[str | None]
    given: NotRequired[list[str | None] | None]


def _named(names: list[Name]) -> list[Name]:
    if not all(one.get("family") or one.get("given") for one in names):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "family or given")
    return names


@part
class Patient(TypedDict):
    """NJSAMSPatient."""

    resourceType: Literal["Patient"]
    meta: PatientMeta
    contained: NotRequired[Never]
    identifier: Annotated[list[Identifier], Field(min_length=1), AfterValidator(_identified)]
    """1..* (US Core floor), and FOUND: client-id and SSN."""
    name: Annotated[list[Name], Field(min_length=1), AfterValidator(_named)]
    """1..* (US Core floor)."""
    gender: str
    """1..1 (US Core floor)."""


# Encounter (section 8.2)


@part
class Coding(TypedDict):
    """A coding that says what it is."""

    system: str
    code: str


@part
class Concept(TypedDict):
    """A CodeableConcept with a coding at least."""

    coding: Annotated[list[Coding], Field(min_length=1)]


def _classed(coding: Coding) -> Coding:
    if coding["system"] != ACT_CODE or coding["code"] not in CLASSES:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "encounter class")
    return coding


def _level(concept: Concept) -> Concept:
    if not any(one["system"] == LEVEL_OF_CARE and one["code"] in LEVELS for one in concept["coding"]):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "level of care")
    return concept


@part
class Reference(TypedDict):
    """A reference that says where it points."""

    reference: str


@part
class Period(TypedDict):
    """Section 8.2, FOUND 0.1.0: start and end 0..1 each. FHIR wants one of them (ele-1)."""

    start: NotRequired[str | None]
    end: NotRequired[str | None]


Encounter = TypedDict(  # NJSAMSEncounter; in this form, since `class` is a word of Python's
    "Encounter",
    {
        "resourceType": Literal["Encounter"],
        "meta": EncounterMeta,
        "contained": NotRequired[Never],
        "status": str,  # 1..1, FOUND 0.1.0
        "class": Annotated[Coding, AfterValidator(_classed)],  # 1..1, FOUND 0.1.0
        "type": Annotated[list[Concept], Field(min_length=1)],  # 1..*, FOUND: US Core's, inherited
        "serviceType": Annotated[Concept, AfterValidator(_level)],  # S 1..1, required binding, FOUND 0.1.0
        "subject": Reference,  # 1..1, FOUND 0.1.0
        "period": Period,  # 1..1, FOUND 0.1.0
    },
)
part(Encounter)


# Coverage (section 8.3)


@part
class Coverage(TypedDict):
    """NJSAMSCoverage, on FHIR's own Coverage."""

    resourceType: Literal["Coverage"]
    meta: CoverageMeta
    contained: NotRequired[Never]
    status: str
    """1..1, FOUND 0.1.0."""
    beneficiary: Reference
    """1..1, FOUND 0.1.0."""
    payor: Annotated[list[Reference], Field(min_length=1)]
    """1..*: R4's own."""


# the request (section 5)


@closed
class EntryRequest(TypedDict):
    """BRIEF. ifNoneExist, ifMatch and the like are a GAP, so none is sent."""

    method: Literal["POST", "PUT"]
    url: str


@closed
class Entry(TypedDict):
    """BRIEF samples: fullUrl is a urn:uuid, on updates too."""

    fullUrl: Annotated[str, Field(pattern=r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    resource: Annotated[Patient | Encounter | Coverage, Field(discriminator="resourceType")]
    request: EntryRequest


def _composed(bundle: "Bundle") -> "Bundle":
    if len({one["request"]["method"] for one in bundle["entry"]}) != 1:
        raise _refuse(FindingCode.NOT_IN_PROFILE, "creates and updates in one bundle")  # section 5, INFERENCE
    for one in bundle["entry"]:
        resource: dict[str, Any] = one["resource"]  # type: ignore[assignment]  # one of the three
        create, url = one["request"]["method"] == "POST", one["request"]["url"]
        kind = resource["resourceType"]
        if not (url == kind if create else re.fullmatch(rf"{kind}/[A-Za-z0-9.-]{{1,64}}", url)):
            raise _refuse(FindingCode.PROFILE_SYSTEM, "request.url")  # BRIEF: Type, or Type/id of an update
    return bundle


@closed
class Bundle(TypedDict):
    """BRIEF: transaction bundles only."""

    resourceType: Literal["Bundle"]
    id: NotRequired[str | None]
    type: Literal["transaction"]
    entry: Annotated[list[Entry], Field(min_length=1)]


BUNDLE: Final = TypeAdapter(Annotated[Bundle, AfterValidator(_composed)])
"""All of the above, for the published schema."""
CHECK: Final = SchemaValidator(BUNDLE.core_schema, CoreConfig(title="Bundle", hide_input_in_errors=True))
"""The same, to check with: `CHECK.validate_python(bundle, context=terms)`. Its errors show no values, which only the outermost config decides."""
