"""RoQua's FHIR read: responses as GeneralMeasurement Observations, a parent with its answers and scores (contracts/roqua.md section 3).

The shape is inferred there: parent and children by related has-member. Knows no routes; the records are handed in.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.roqua.questionnaires import KNOWN, name_of
from pipeline.sandbox.roqua.records import Record
from pipeline.sandbox.roqua.rest import iso

PROFILE: Final = "http://nictiz.nl/fhir/StructureDefinition/zib-GeneralMeasurement"
SURVEY: Final = [{"coding": [{"system": "http://hl7.org/fhir/observation-category", "code": "survey"}]}]
RECORD_NUMBER: Final = {"coding": [{"system": "http://hl7.org/fhir/v2/0203", "code": "MR"}]}

Tree = dict[str, Any]


def searched(records: Iterable[Record], knobs: RoquaKnobs, base: str) -> Tree:
    """The searchset: the last responses alone, `total` of all."""
    completed = sorted((one for one in records if one["status"] == "completed"), key=lambda one: one["completed_at"] or 0.0)
    told = [list(_observations(one, knobs)) for one in completed]
    shown = [one for each in told[-knobs.last_responses :] for one in each]
    entries = [{"fullUrl": f"{base}/Observation/{one['id']}", "resource": one} for one in shown]
    tree = {"resourceType": "Bundle", "type": "searchset", "total": sum(len(each) for each in told)}
    return {**tree, **({"entry": entries} if entries else {})}


def _observations(one: Record, knobs: RoquaKnobs) -> Iterator[Tree]:
    key = one["questionnaire_key"]
    questionnaire = KNOWN.get(key)
    children = [] if one["hide_values"] else [(name, value) for name, value in one["values"].items() if value is not None]
    scores = questionnaire.outcome(one["values"])["scores"] if questionnaire and not one["hide_values"] else {}
    children += [(name, score["value"]) for name, score in scores.items() if "value" in score]
    members = [f"Observation/{_id(one, name)}" for name, _ in children]
    yield {**_observation(one, None, knobs), **_members(members)}
    for name, value in children:
        yield {**_observation(one, name, knobs), **_valued(value)}


def _id(one: Record, name: str | None) -> str:
    return f"r-{one['id']}" + (f"-{name}" if name else "")


def _members(references: Sequence[str]) -> Tree:
    related = [{"type": "has-member", "target": {"reference": one}} for one in references]
    return {"related": related} if related else {}


def _valued(value: Any) -> Tree:  # noqa: ANN401 - JSON
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"valueQuantity": {"value": value}}
    return {"valueString": str(value)}


def _observation(one: Record, name: str | None, knobs: RoquaKnobs) -> Tree:
    system = {"system": knobs.patient_system} if knobs.patient_system else {}
    at = iso(one["completed_at"])
    return {
        "resourceType": "Observation",
        "id": _id(one, name),
        "meta": {**({"lastUpdated": at} if at else {}), "profile": [PROFILE]},
        "status": "final",
        "category": SURVEY,
        "code": {"text": f"{name_of(one['questionnaire_key'])}{f' {name}' if name else ''}"},
        "subject": {"identifier": {"type": RECORD_NUMBER, **system, "value": one["dossier"]}, "display": "Stand-in patient"},
        **({"effectiveDateTime": at} if at else {}),
    }
