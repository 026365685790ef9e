"""Roche's partner profiles as pydantic models: message-header, patient-v2, condition, and the message bundle that holds them (FHIR STU3).

Each rule names the page of Roche's guide that it comes from; `inferred` where the guide is silent and the safe reading was taken.
Only what the profile adds to FHIR stands here: FHIR's own rules are checked before. What a site or the endpoint decides (identifier
systems, codes of diabetes-type, v1 or v2, whether a Condition must be there) are `Terms`, given as the validation's context.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

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


class Profile(BaseModel):
    """A resource of the profile. Closed: what its page does not list is 0..0 (inferred)."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Open(BaseModel):
    """A data type of which the profile says only a part: the rest is FHIR's business."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


Id = Annotated[str, Field(max_length=MOST)]


# message-header: minor changes to the standard (guide page Profiles)


class HeaderMeta(Open):
    """Which profile the resource claims (guide samples)."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/message-header"]]


class HeaderEvent(Profile):
    """MessageHeader.event, bound to a value set of Roche's (guide page Profiles); only new-bundle is known, for updates too."""

    system: Literal["http://roche.com/fhir/rdc/message-type"]
    code: Literal["new-bundle"]
    display: str | None = None


class HeaderSource(Open):
    """MessageHeader.source: the organisation's OID stands in `endpoint` (guide samples of v2)."""

    endpoint: str


class MessageHeader(Profile):
    """The message-header profile."""

    resourceType: Literal["MessageHeader"]  # noqa: N815 - FHIR's name, here and below
    id: Id | None = None
    meta: HeaderMeta | None = None
    event: HeaderEvent
    timestamp: str
    source: HeaderSource


# patient-v2: "very restricted demographic information" (guide page Profiles)


class PatientMeta(Open):
    """As above. The guide's samples claim patient-v2 towards both versions of the endpoint."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/patient-v2"]]


def _known_system(value: str, info: ValidationInfo) -> str:
    if value not in _terms(info).systems:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "identifier-system")
    return value


class Identifier(Open):
    """Patient.identifier: system and value are mandatory (guide page Profiles)."""

    system: Annotated[str, AfterValidator(_known_system)]
    value: Id


class Name(Open):
    """Patient.name: given and family are mandatory (guide page Profiles)."""

    family: str
    given: Annotated[list[str | None], Field(min_length=1)]


class Reference(Open):
    """A reference that says where it points."""

    reference: str


def _version_2(value: Reference | None, info: ValidationInfo) -> Reference | None:
    if _terms(info).version == "v1":
        raise _refuse(FindingCode.NOT_IN_PROFILE, "v1")
    return value


class Patient(Profile):
    """The patient-v2 profile.

    0..0 (inferred): address, deceased[x], maritalStatus, contact, communication and whatever else is not listed here.
    """

    resourceType: Literal["Patient"]  # noqa: N815
    id: Id | None = None
    meta: PatientMeta | None = None
    identifier: Annotated[list[Identifier], Field(min_length=1)]
    active: bool | None = None
    """True in the samples; the cardinality is not published."""
    name: Annotated[list[Name], Field(min_length=1)]
    telecom: list[Any] | None = None
    gender: str | None = None
    birthDate: str | None = None  # noqa: N815
    managingOrganization: Annotated[Reference | None, AfterValidator(_version_2)] = None  # noqa: N815
    """Optional, from v2 on (guide page Patient-Creation-v2)."""


# condition (guide page Condition-duplicate-2, the full table)


class ConditionMeta(Open):
    """As above."""

    profile: list[Literal["http://roche.com/fhir/rdc/StructureDefinition/condition"]]


class Coding(Profile):
    """Condition.code.coding: system, code and display 0..1; version and userSelected are 0..0."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(Profile):
    """Condition.code, bound to diabetes-type: one coding at least is of it, and none is of anything else (the latter inferred)."""

    coding: list[Coding] | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _bound(self, info: ValidationInfo) -> Self:
        diabetes = _terms(info).diabetes
        if not self.coding or any((one.system, one.code) not in diabetes for one in self.coding):
            raise _refuse(FindingCode.PROFILE_SYSTEM, "diabetes-type")
        return self


class Condition(Profile):
    """The condition profile.

    0..0: verificationStatus, identifier, category, severity, bodySite, context, onset[x], abatement[x], assertedDate, asserter, stage.
    evidence and note are not in the table at all, and so not sent either (inferred).
    """

    resourceType: Literal["Condition"]  # noqa: N815
    id: Id | None = None
    meta: ConditionMeta | None = None
    clinicalStatus: Literal["active", "recurrence", "inactive", "remission", "resolved"]  # noqa: N815
    """1..1."""
    code: CodeableConcept
    """1..1."""
    subject: Reference
    """1..1."""


# the request (guide pages Patient-Creation-v2 and Patient-Update-v2, profile overview and samples)


class Entry(Profile):
    """The samples hold `resource` alone; fullUrl is FHIR's demand, by a setting."""

    fullUrl: str | None = None  # noqa: N815
    resource: Annotated[MessageHeader | Patient | Condition, Field(discriminator="resourceType")]


class Bundle(Profile):
    """The message: one message-header, first; one patient; conditions, optional. For create and update alike."""

    resourceType: Literal["Bundle"]  # noqa: N815
    id: str | None = None
    type: Literal["message"]
    entry: Annotated[list[Entry], Field(min_length=1)]

    @model_validator(mode="after")
    def _composed(self, info: ValidationInfo) -> Self:
        kinds = [one.resource.resourceType for one in self.entry]
        if kinds[0] != "MessageHeader" or kinds.count("MessageHeader") != 1:
            raise _refuse(FindingCode.PROFILE_MANDATORY, "one MessageHeader, first")
        if kinds.count("Patient") != 1:
            raise _refuse(FindingCode.PROFILE_MANDATORY, "one Patient")
        if _terms(info).condition_required and "Condition" not in kinds:
            raise _refuse(FindingCode.PROFILE_MANDATORY, "Condition")
        return self
