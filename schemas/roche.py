"""Roche's partner profiles as typed dicts that pydantic checks: message-header, patient-v2, condition, and the message bundle that holds them (FHIR STU3).

Each rule names the page of Roche's guide that it comes from; `inferred` where the guide is silent and the safe reading was taken.
Only what the profile adds to FHIR stands here: FHIR's own rules are checked before. What a site or the endpoint decides (identifier
systems, codes of diabetes-type, v1 or v2, whether a Condition must be there) are `Terms`, given as the validation's context.
Typed dicts and no models, since every message goes through here and nobody needs the objects: half the time.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationInfo, with_config
from pydantic_core import CoreConfig, PydanticCustomError, SchemaValidator
from typing_extensions import TypedDict  # pydantic brings it, and wants it before Python 3.12

from schemas.outcomes import FindingCode

HEADER_PROFILE: Final = "http://roche.com/fhir/rdc/StructureDefinition/message-header"
PATIENT_PROFILE: Final = "http://roche.com/fhir/rdc/StructureDefinition/patient-v2"
CONDITION_PROFILE: Final = "http://roche.com/fhir/rdc/StructureDefinition/condition"
MESSAGE_TYPE: Final = "http://roche.com/fhir/rdc/message-type"
NEW_BUNDLE: Final = "new-bundle"

METEDA: Final = "urn:oid:1.3.6.1.4.1.56221.2.2"
CIP: Final = "urn:oid:2.16.724.4.41"
SYSTEMS: Final = frozenset({METEDA, CIP})
"""Identifier systems (the Patient services page, and guide page Profiles)."""

SNOMED: Final = "http://snomed.info/sct"
DIABETES_TYPES: Final = frozenset({(SNOMED, "46635009"), (SNOMED, "44054006"), (SNOMED, "11687002")})
"""Codes of the value set diabetes-type. Type 1 is in the guide's sample; type 2 and gestational are inferred: the set is not published."""

MOST: Final = 64
"""Characters of a patient id (guide page Profiles, note)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a site or the endpoint decides."""

    version: Literal["v1", "v2"] = "v2"
    systems: frozenset[str] = SYSTEMS
    """Identifier systems that the partner accepts."""
    diabetes: frozenset[tuple[str, str]] = DIABETES_TYPES
    """(system, code) pairs of diabetes-type; a site's code table may have more than the known ones."""
    condition_required: bool = False
    """Whether a diabetes diagnosis must be there: the Patient services page names it, the guide says optional."""


DEFAULT: Final = Terms()


def _terms(info: ValidationInfo) -> Terms:
    return info.context if isinstance(info.context, Terms) else DEFAULT


def _refuse(code: FindingCode, about: str) -> PydanticCustomError:
    return PydanticCustomError(code.value, "{about}", {"about": about})  # a rule's name: no value goes in


profile: Final = with_config(ConfigDict(extra="forbid", strict=True))
"""A resource of the profile. Closed: what its page does not list is 0..0 (inferred)."""
part: Final = with_config(ConfigDict(extra="ignore", strict=True))
"""A data type of which the profile says only a part: the rest is FHIR's business."""


Id = Annotated[str, Field(max_length=MOST)]


# message-header: minor changes to the standard (guide page Profiles)


@part
class HeaderMeta(TypedDict):
    """Which profile the resource claims (guide samples)."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/message-header"]]


@profile
class HeaderEvent(TypedDict):
    """MessageHeader.event, bound to a value set of Roche's (guide page Profiles); only new-bundle is known, for updates too."""

    system: Literal["http://roche.com/fhir/rdc/message-type"]
    code: Literal["new-bundle"]
    display: NotRequired[str | None]


@part
class HeaderSource(TypedDict):
    """MessageHeader.source: the organisation's OID stands in `endpoint` (guide samples of v2)."""

    endpoint: str


@profile
class MessageHeader(TypedDict):
    """The message-header profile."""

    resourceType: Literal["MessageHeader"]
    id: NotRequired[Id | None]
    meta: NotRequired[HeaderMeta | None]
    event: HeaderEvent
    timestamp: str
    source: HeaderSource


# patient-v2: "very restricted demographic information" (guide page Profiles)


@part
class PatientMeta(TypedDict):
    """As above. The guide's samples claim patient-v2 towards both versions of the endpoint."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/patient-v2"]]


def _known_system(value: str, info: ValidationInfo) -> str:
    if value not in _terms(info).systems:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "identifier-system")
    return value


@part
class Identifier(TypedDict):
    """Patient.identifier: system and value are mandatory (guide page Profiles)."""

    system: Annotated[str, AfterValidator(_known_system)]
    value: Id


@part
class Name(TypedDict):
    """Patient.name: given and family are mandatory (guide page Profiles)."""

    family: str
    given: Annotated[list[str | None], Field(min_length=1)]


@part
class Reference(TypedDict):
    """A reference that says where it points."""

    reference: str


def _version_2(value: Reference | None, info: ValidationInfo) -> Reference | None:
    if _terms(info).version == "v1":
        raise _refuse(FindingCode.NOT_IN_PROFILE, "v1")
    return value


@profile
class Patient(TypedDict):
    """The patient-v2 profile.

    0..0 (inferred): address, deceased[x], maritalStatus, contact, communication and whatever else is not listed here.
    """

    resourceType: Literal["Patient"]
    id: NotRequired[Id | None]
    meta: NotRequired[PatientMeta | None]
    identifier: Annotated[list[Identifier], Field(min_length=1)]
    active: NotRequired[bool | None]
    """True in the samples; the cardinality is not published."""
    name: Annotated[list[Name], Field(min_length=1)]
    telecom: NotRequired[list[Any] | None]
    gender: NotRequired[str | None]
    birthDate: NotRequired[str | None]
    managingOrganization: NotRequired[Annotated[Reference | None, AfterValidator(_version_2)]]
    """Optional, from v2 on (guide page Patient-Creation-v2)."""


# condition (guide page Condition-duplicate-2, the full table)


@part
class ConditionMeta(TypedDict):
    """As above."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/condition"]]


@profile
class Coding(TypedDict):
    """Condition.code.coding: system, code and display 0..1; version and userSelected are 0..0."""

    system: NotRequired[str | None]
    code: NotRequired[str | None]
    display: NotRequired[str | None]


@profile
class CodeableConcept(TypedDict):
    """Condition.code, bound to diabetes-type: one coding at least is of it, and none is of anything else (the latter inferred)."""

    coding: NotRequired[list[Coding] | None]
    text: NotRequired[str | None]


def _bound(concept: CodeableConcept, info: ValidationInfo) -> CodeableConcept:
    codings, diabetes = concept.get("coding"), _terms(info).diabetes
    if not codings or not diabetes.issuperset([(one.get("system"), one.get("code")) for one in codings]):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "diabetes-type")
    return concept


@profile
class Condition(TypedDict):
    """The condition profile.

    0..0: verificationStatus, identifier, category, severity, bodySite, context, onset[x], abatement[x], assertedDate, asserter, stage.
    evidence and note are not in the table at all, and so not sent either (inferred).
    """

    resourceType: Literal["Condition"]
    id: NotRequired[Id | None]
    meta: NotRequired[ConditionMeta | None]
    clinicalStatus: Literal["active", "recurrence", "inactive", "remission", "resolved"]
    """1..1."""
    code: Annotated[CodeableConcept, AfterValidator(_bound)]
    """1..1."""
    subject: Reference
    """1..1."""


# the request (guide pages Patient-Creation-v2 and Patient-Update-v2, profile overview and samples)


@profile
class Entry(TypedDict):
    """The samples hold `resource` alone; fullUrl is FHIR's demand, by a setting."""

    fullUrl: NotRequired[str | None]
    resource: Annotated[MessageHeader | Patient | Condition, Field(discriminator="resourceType")]


def _composed(bundle: "Bundle", info: ValidationInfo) -> "Bundle":
    kinds = [one["resource"]["resourceType"] for one in bundle["entry"]]
    if kinds[0] != "MessageHeader" or kinds.count("MessageHeader") != 1:
        raise _refuse(FindingCode.PROFILE_MANDATORY, "one MessageHeader, first")
    if kinds.count("Patient") != 1:
        raise _refuse(FindingCode.PROFILE_MANDATORY, "one Patient")
    if _terms(info).condition_required and "Condition" not in kinds:
        raise _refuse(FindingCode.PROFILE_MANDATORY, "Condition")
    return bundle


@profile
class Bundle(TypedDict):
    """The message: one message-header, first; one patient; conditions, optional. For create and update alike."""

    resourceType: Literal["Bundle"]
    id: NotRequired[str | None]
    type: Literal["message"]
    entry: Annotated[list[Entry], Field(min_length=1)]


BUNDLE: Final = TypeAdapter(Annotated[Bundle, AfterValidator(_composed)])
"""All of the above, for the published schema."""
CHECK: Final = SchemaValidator(BUNDLE.core_schema, CoreConfig(title="Bundle", hide_input_in_errors=True))
"""The same, to check with: `CHECK.validate_python(bundle, context=terms)`. Its errors show no values, which only the outermost config decides."""
