"""mapping: what fails costs its field, if it may; an update never erases what could not be read."""

from typing import Any

import pytest

from pipeline import flow
from pipeline.errors import Parked
from pipeline.model import Knowledge, Mapped, Outcome, Packed
from pipeline.stages.identify import identify
from pipeline.stages.mapping import mapping
from schemas.outcomes import FindingCode, Reason, State
from tests.delivery.partner_script import adt
from tests.stages.plans import known, plan_with, read

PLAN = plan_with()


def mapped(value: bytes, *, update: bool = False) -> Mapped:
    routed = read(value, PLAN)
    return mapping(identify(routed, known(routed) if update else Knowledge()), PLAN)


def patient(one: Mapped) -> dict[str, Any]:
    return next(resource for resource in one.resources if resource["resourceType"] == "Patient")


def test_a_message_becomes_header_patient_and_condition_in_that_order() -> None:
    assert [resource["resourceType"] for resource in mapped(adt()).resources] == ["MessageHeader", "Patient", "Condition"]


def test_without_a_diabetes_diagnosis_there_is_no_condition_and_a_finding() -> None:
    one = mapped(adt(diagnosis="J45"))
    assert [resource["resourceType"] for resource in one.resources] == ["MessageHeader", "Patient"]
    assert {finding.code for finding in one.findings} == {FindingCode.DIAGNOSIS_DROPPED, FindingCode.DIAGNOSIS_NONE}


def test_a_bad_birth_date_costs_the_birth_date_of_a_create() -> None:
    assert "birthDate" not in patient(mapped(adt().replace(b"19800203", b"19801399")))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b"19800203", b"19801399", "Patient.birthDate (PID-7)"),
        (b"|F|", b"|Q9|", "Patient.gender (PID-8)"),
    ],
)
def test_an_update_parks_where_it_would_erase_what_could_not_be_read(old: bytes, new: bytes, where: str) -> None:
    with pytest.raises(Parked) as ended:
        mapped(adt().replace(old, new), update=True)
    assert (ended.value.reason, ended.value.where) == (Reason.WOULD_ERASE, where)


def test_an_explicit_null_deletes_on_an_update() -> None:
    assert "birthDate" not in patient(mapped(adt().replace(b"19800203", b'""'), update=True))


def test_where_absent_means_unchanged_an_update_that_would_erase_is_parked() -> None:
    def unchanged(tree: dict[str, Any]) -> None:
        tree["site"]["absent"] = "unchanged"

    plan = plan_with(unchanged)
    routed = read(adt().replace(b"19800203", b""), plan)
    outcome = flow.prepare(routed, known(routed), plan)
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.WOULD_ERASE)


def test_the_same_message_gives_the_same_bytes() -> None:
    bodies = []
    for _ in range(2):
        routed = read(adt(), PLAN)
        packed = flow.prepare(routed, Knowledge(), PLAN)
        assert isinstance(packed, Packed)
        bodies.append(packed.requests[0].body)
    assert bodies[0] == bodies[1]
