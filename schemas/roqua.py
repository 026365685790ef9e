"""RoQua's HoNOS+ document as typed dicts that pydantic checks: Composition, 19 GeneralMeasurement Observations, the document Bundle (FHIR STU3).

The shape is that of the one published example, and closed: what it does not have does not go. Each rule names its section of the dossier
(contracts/roqua.md) and its tag: BRIEF, FOUND, INFERENCE. Names of items are no patient data, so a rule may say which items it is about. What a site
decides are `Terms`, given as the validation's context.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationInfo, with_config
from pydantic_core import CoreConfig, PydanticCustomError, SchemaValidator
from typing_extensions import TypedDict  # pydantic brings it, and wants it before Python 3.12

from schemas.outcomes import FindingCode

QUESTION: Final = "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSQuestion"
ANSWER: Final = "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSAnswer"
"""Section 4.2, FOUND."""
ITEMS: Final = (*map(str, range(1, 14)), *"ABCDEQ")
"""In the order of the document (section 4.1, FOUND); question codes are HV01 to HV19 in the same order (4.2)."""
WORST: Final = 4
"""Scores go from 0 to 4."""
UNKNOWN: Final = 9
"""HoNOS's own for an item that could not be rated."""
OTHER_PROBLEMS: Final = "8"
"""The one item with a component."""


def question_code(item: str) -> str:
    """HV01 to HV19."""
    return f"HV{ITEMS.index(item) + 1:02}"


def answer_code(item: str, score: int) -> str:
    """HA01 to HA95: five to a question, from the first on (section 4.2, INFERENCE that holds for all published answers)."""
    return f"HA{5 * ITEMS.index(item) + score + 1:02}"


ITEM_OF: Final[dict[str, str]] = {question_code(item): item for item in ITEMS}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a site decides."""

    unknown_answer: str | None = None
    """Code of an answer 9; None: such are not taken."""
    item_8: Literal["scored", "always", "optional"] = "scored"
    """When item 8 says which other problem it rates."""
    identifier: bool = False
    """Bundle.identifier is there."""


DEFAULT: Final = Terms()


def _terms(info: ValidationInfo) -> Terms:
    return info.context if isinstance(info.context, Terms) else DEFAULT


def _refuse(code: FindingCode, about: str) -> PydanticCustomError:
    return PydanticCustomError(code.value, "{about}", {"about": about})  # a rule's name: no value goes in


closed: Final = with_config(ConfigDict(extra="forbid", strict=True))
"""A part of which every element is known: those of the published example (section 4.1)."""

Text = Annotated[str, Field(min_length=1)]


@closed
class Identifier(TypedDict):
    """A number of RoQua's single sign-on, with the organisation's own system (section 4.1, FOUND)."""

    system: Text
    value: Text


@closed
class Patient(TypedDict):
    """Who is meant, though not sent along: reference, number, and how to show it (section 4.1, FOUND)."""

    reference: Text
    identifier: Identifier
    display: Text


@closed
class Professional(TypedDict):
    """The same; that the display may be missing is INFERENCE, since many messages have the number alone."""

    reference: Text
    identifier: Identifier
    display: NotRequired[str]


@closed
class Shown(TypedDict):
    """The patient of an Observation (section 4.1, FOUND)."""

    reference: Text
    display: Text


@closed
class Target(TypedDict):
    """An Observation in the section (section 4.1, FOUND)."""

    reference: Text
    display: NotRequired[str]


# Observation (sections 4.1 and 4.2)


@closed
class MeasurementMeta(TypedDict):
    """FOUND."""

    profile: list[Literal["http://nictiz.nl/fhir/StructureDefinition/zib-GeneralMeasurement"]]


@closed
class Coding(TypedDict):
    """System, code, display."""

    system: Text
    code: Text
    display: NotRequired[str]


@closed
class Concept(TypedDict):
    """One coding, and no text (FOUND)."""

    coding: Annotated[list[Coding], Field(min_length=1, max_length=1)]


@closed
class QuestionCoding(TypedDict):
    """FOUND."""

    system: Literal["https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSQuestion"]
    code: Annotated[str, Field(pattern=r"^HV(0[1-9]|1[0-9])$")]
    display: NotRequired[str]


@closed
class Question(TypedDict):
    """One coding (FOUND)."""

    coding: Annotated[list[QuestionCoding], Field(min_length=1, max_length=1)]


@closed
class ProblemCoding(TypedDict):
    """FOUND."""

    system: Literal["https://code24.nl/fhir/CodingSystem/HoNOSItem8Question"]
    code: Literal["I8"]
    display: NotRequired[str]


@closed
class Problem(TypedDict):
    """As above."""

    coding: Annotated[list[ProblemCoding], Field(min_length=1, max_length=1)]


@closed
class Component(TypedDict):
    """Which other problem item 8 rates (FOUND)."""

    code: Problem
    valueCodeableConcept: Concept


@closed
class Answer(TypedDict):
    """A Quantity that is used as a coded value (FOUND); no unit."""

    value: Annotated[int, Field(ge=0, le=UNKNOWN)]
    system: Literal["https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSAnswer"]
    code: NotRequired[Text]


def _with_offset(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value, re.ASCII):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "a time with an offset")
    return value


@closed
class Observation(TypedDict):
    """One item. No category, identifier or performer (FOUND)."""

    resourceType: Literal["Observation"]
    id: Text
    meta: MeasurementMeta
    status: Literal["final"]
    code: Question
    subject: Shown
    effectiveDateTime: Annotated[str, AfterValidator(_with_offset)]
    valueQuantity: Answer
    component: NotRequired[Annotated[list[Component], Field(min_length=1, max_length=1)]]


def item_of(observation: Any) -> str:  # noqa: ANN401 - JSON
    """Its item; of none that is known an empty text."""
    return ITEM_OF.get(str(observation["code"]["coding"][0].get("code")), "")


def _answered(observation: Observation, info: ValidationInfo) -> Observation:
    """The answer code is that of question and score; the component is item 8's."""
    terms, item, answer = _terms(info), item_of(observation), observation["valueQuantity"]
    score, code = answer["value"], answer.get("code")
    if score == UNKNOWN and terms.unknown_answer is None:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "answer 9, which the setting unknown_answer parks")
    if score != UNKNOWN and score > WORST:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "scores are 0 to 4, or 9")
    if code != (terms.unknown_answer if score == UNKNOWN else answer_code(item, score)):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "answer code")
    needed = terms.item_8 == "always" or (terms.item_8 == "scored" and 0 < score <= WORST)
    if "component" in observation and item != OTHER_PROBLEMS:
        raise _refuse(FindingCode.NOT_IN_PROFILE, "a component of another item than 8")
    if item == OTHER_PROBLEMS and needed and "component" not in observation:
        raise _refuse(FindingCode.PROFILE_MANDATORY, "which other problem item 8 rates")
    return observation


# Composition (section 4.1)


@closed
class CompositionMeta(TypedDict):
    """A page's address and no canonical, as the example has it (sections 4.1 and 4.4, FOUND)."""

    profile: list[Literal["http://hl7.org/fhir/STU3/Composition"]]


@closed
class CompositionType(TypedDict):
    """No coding (FOUND)."""

    text: Literal["HoNOS+"]


@closed
class Section(TypedDict):
    """The items in their order (FOUND)."""

    entry: list[Target]


@closed
class Composition(TypedDict):
    """The document's head: one subject, one author, one section (FOUND)."""

    resourceType: Literal["Composition"]
    id: Text
    meta: CompositionMeta
    status: Literal["final"]
    type: CompositionType
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    """A day alone (FOUND)."""
    title: Text
    subject: Patient
    author: Annotated[list[Professional], Field(min_length=1, max_length=1)]
    section: Annotated[list[Section], Field(min_length=1, max_length=1)]


# Bundle (section 4.1)


@closed
class BundleMeta(TypedDict):
    """FOUND."""

    lastUpdated: Text


@closed
class Entry(TypedDict):
    """FOUND."""

    fullUrl: Text
    resource: Annotated[
        Composition | Annotated[Observation, AfterValidator(_answered)],
        Field(discriminator="resourceType"),
    ]


def named(items: Iterable[str]) -> str:
    """Items in a rule's name: `items 3, B`."""
    found = list(items)
    return f"{'item' if len(found) == 1 else 'items'} {', '.join(found)}"


def _composed(bundle: "Bundle", info: ValidationInfo) -> "Bundle":
    if ("identifier" in bundle) is not _terms(info).identifier:
        raise _refuse(FindingCode.PROFILE_MANDATORY, "identifier as the setting bundle_identifier says")
    first, *others = [entry["resource"] for entry in bundle["entry"]]
    if first["resourceType"] != "Composition" or any(one["resourceType"] != "Observation" for one in others):
        raise _refuse(FindingCode.PROFILE_MANDATORY, "one Composition, first")
    items = [item_of(one) for one in others]
    if missing := [item for item in ITEMS if item not in items]:
        raise _refuse(FindingCode.PROFILE_MANDATORY, named(missing))  # BRIEF: only what has all that one response needs
    if twice := [item for item in ITEMS if items.count(item) > 1]:
        raise _refuse(FindingCode.NOT_IN_PROFILE, f"{named(twice)} more than once")
    if items != list(ITEMS):
        raise _refuse(FindingCode.PROFILE_SYSTEM, "the order of the items")
    own = str(bundle["id"])
    ids = [own, *(f"{own}-{item}" for item in ITEMS)]
    if [entry["resource"]["id"] for entry in bundle["entry"]] != ids:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "ids that follow from Bundle.id and item")
    if [entry["fullUrl"] for entry in bundle["entry"]] != [f"urn:uuid:{one}" for one in ids]:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "fullUrls that follow from the ids")
    if [one["reference"] for one in first["section"][0]["entry"]] != [f"Observation/{one}" for one in ids[1:]]:
        raise _refuse(FindingCode.PROFILE_SYSTEM, "a section of the items in their order")
    return bundle


@closed
class Bundle(TypedDict):
    """The document. No timestamp and no total (FOUND); `identifier` by a setting, since FHIR demands it (bdl-9) and the example has none."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    """BRIEF: that of the URL."""
    meta: BundleMeta
    resourceType: Literal["Bundle"]
    identifier: NotRequired[Identifier]
    type: Literal["document"]
    entry: Annotated[list[Entry], Field(min_length=1)]


BUNDLE: Final = TypeAdapter(Annotated[Bundle, AfterValidator(_composed)])
"""All of the above, for the published schema."""
CHECK: Final = SchemaValidator(BUNDLE.core_schema, CoreConfig(title="Bundle", hide_input_in_errors=True))
"""The same, to check with: `CHECK.validate_python(bundle, context=terms)`. Its errors show no values, which only the outermost config decides."""
