"""The published JSON Schemas: what the models say, and what a reader of our topics can rely on."""

import json
from typing import Any

import jsonschema
import pytest

from schemas import publish
from schemas.dead_letter import DeadLetter
from schemas.outcomes import FindingCode, Reason, Severity, State
from schemas.result import Result, ResultFinding
from tests.fhir.samples import message


def published(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((publish.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def test_the_published_schemas_are_what_the_models_say() -> None:
    assert publish.stale() == [], "stale: run python -m schemas.publish"


def test_a_changed_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(publish.PUBLISHED, "result", DeadLetter)

    assert [path.name for path in publish.stale()] == ["result.schema.json"]
    assert publish.main(["--check"]) == 3


@pytest.mark.parametrize("name", publish.PUBLISHED)
def test_each_is_a_json_schema_of_its_own_draft(name: str) -> None:
    schema = published(name)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_result_record_fits_its_schema_and_a_wrong_one_does_not() -> None:
    finding = ResultFinding(code=FindingCode.WRONG_FORMAT, severity=Severity.WARNING, fhir="Patient.birthDate")
    record = Result(
        result_id="r",
        request_id=None,
        route="roche-patients",
        partner="roche",
        settled=True,
        state=State.PARKED,
        reason=Reason.TIMEOUT,
        source_topic="adt",
        source_partition=0,
        source_offset=1,
        settled_ms=1,
        findings=(finding,),
    )
    data = json.loads(record.model_dump_json())
    validator = jsonschema.Draft202012Validator(published("result"))

    assert list(validator.iter_errors(data)) == []
    assert [one.validator for one in validator.iter_errors(data | {"state": "lost"})] == ["enum"]
    assert [one.validator for one in validator.iter_errors(data | {"patient_name": "x"})] == ["additionalProperties"]


def test_roches_message_fits_the_shape_that_is_published() -> None:
    validator = jsonschema.Draft202012Validator(published("roche-bundle"))
    forbidden = message()
    forbidden["entry"][2]["resource"]["onsetDateTime"] = "2020"

    assert list(validator.iter_errors(message())) == []
    assert list(validator.iter_errors(forbidden)) != []
