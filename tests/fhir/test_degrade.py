"""Degrading: what a wrong element costs, what it must not cost, and that the rest stays as it was."""

import copy
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fhir.degrade import degrade
from pipeline.fhir.validator import Release, Validator
from schemas.outcomes import FindingCode as Code
from schemas.outcomes import Severity
from tests.fhir.mutations import DELETED, LISTED, UNKNOWN, WRONG, damaged, places
from tests.fhir.samples import condition, everything, full_patient, patient

VALIDATOR: Final = Validator(Release.STU3)


def dropped(resource: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str | None]]:
    mended, findings = degrade(resource, VALIDATOR)
    return mended, [one.fhir for one in findings if one.code is Code.ELEMENT_DROPPED]


def test_what_is_right_comes_back_as_it_is() -> None:
    given_one = full_patient()

    mended, findings = degrade(given_one, VALIDATOR)

    assert mended is given_one
    assert findings == ()


CASES: Final[list[tuple[dict[str, Any], list[str], dict[str, Any]]]] = [
    ({"birthDate": "1980-02-30"}, ["Patient.birthDate"], {}),
    ({"telecom": [{"system": "phone", "value": "", "use": "home"}]}, ["Patient.telecom[0]"], {}),
    (
        {"telecom": [{"system": "phone", "value": " "}, {"system": "email", "value": "a@b.c"}]},
        ["Patient.telecom[0]"],
        {"telecom": [{"system": "email", "value": "a@b.c"}]},
    ),
    ({"name": [{"family": "A", "given": ["", "B", ""]}]}, ["Patient.name[0].given[0]", "Patient.name[0].given[2]"], {"name": [{"family": "A", "given": ["B"]}]}),
    ({"identifier": [{"system": "1.2.3", "value": "9"}]}, ["Patient.identifier[0]"], {}),
    ({"identifier": [{"use": "vorig", "system": "urn:x", "value": "9"}]}, ["Patient.identifier[0]"], {}),
    ({"managingOrganization": {"reference": "x", "display": "y"}}, ["Patient.managingOrganization"], {}),
    ({"maritalStatus": {"coding": [{"system": "M"}], "text": "gehuwd"}}, ["Patient.maritalStatus.coding[0]"], {"maritalStatus": {"text": "gehuwd"}}),
    ({"maritalStatus": {"coding": [{"system": "M"}]}}, ["Patient.maritalStatus.coding[0]"], {}),
    ({"frobnicate": {"a": 1}}, ["Patient.frobnicate"], {}),
    ({"link": [{"type": "zzz", "other": {"reference": "Patient/1"}}]}, ["Patient.link[0]"], {}),
    (
        {"name": [{"family": "A", "given": [None, "x"], "_given": [{"id": "i"}, {"id": 7}]}]},
        ["Patient.name[0]._given[1].id"],
        {"name": [{"family": "A", "given": [None, "x"], "_given": [{"id": "i"}, None]}]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "paths", "left"), CASES)
def test_a_wrong_element_costs_the_smallest_part_that_still_says_something(
    change: dict[str, Any], paths: list[str], left: dict[str, Any]
) -> None:
    plain = {"resourceType": "Patient", "active": True}

    mended, gone = dropped(plain | change)

    assert gone == paths
    assert mended == plain | left


def test_losses_in_an_array_and_its_underscore_array_leave_them_lined_up() -> None:
    name = {"given": ["", "b", "c"], "_given": [{"id": "i"}, {}, {"id": 7}]}

    mended, gone = dropped({"resourceType": "Patient", "name": [name]})

    assert mended == {"resourceType": "Patient", "name": [{"given": ["b", "c"]}]}
    assert set(gone) == {"Patient.name[0].given[0]", "Patient.name[0]._given[1]", "Patient.name[0]._given[2].id"}


def test_each_loss_is_a_warning_with_its_cause() -> None:
    _, findings = degrade(patient() | {"birthDate": "1980-02-30"}, VALIDATOR)

    assert [(one.code, one.severity, one.fhir) for one in findings] == [
        (Code.WRONG_FORMAT, Severity.WARNING, "Patient.birthDate"),
        (Code.ELEMENT_DROPPED, Severity.WARNING, "Patient.birthDate"),
    ]


def test_paths_are_those_of_the_resource_as_it_was_given_over_all_rounds() -> None:
    contacts = [{}, {"name": {"text": ""}}, {"name": {"text": "ok"}}, {"gender": "male"}]

    mended, gone = dropped({"resourceType": "Patient", "contact": contacts})

    assert mended == {"resourceType": "Patient", "contact": [{"name": {"text": "ok"}}]}
    assert set(gone) == {"Patient.contact[0]", "Patient.contact[1].name.text", "Patient.contact[3]"}


@pytest.mark.parametrize(
    "resource",
    [
        condition() | {"verificationStatus": "refutd"},
        condition() | {"clinicalStatus": "aktief"},
        condition() | {"subject": {"reference": "nobody"}},
        condition() | {"modifierExtension": [{"url": "http://example.org/not"}]},
        patient() | {"id": "a b"},
        {"resourceType": "Pasient"},
        {},
    ],
    ids=lambda resource: ",".join(sorted(resource)),
)
def test_what_would_take_or_turn_round_the_resource_is_left_as_errors(resource: dict[str, Any]) -> None:
    mended, findings = degrade(resource, VALIDATOR)

    assert mended is None
    assert {one.severity for one in findings} == {Severity.ERROR}


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_damage_is_mended_or_told_and_the_input_stays(data: st.DataObject) -> None:
    resource = data.draw(st.sampled_from([patient(), full_patient(), everything()["observation"], condition()]))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from([("resourceType",), *places(resource)]))
        if place != ("resourceType",):
            resource = damaged(resource, place, data.draw(st.sampled_from([*WRONG, DELETED, LISTED, UNKNOWN])))
    before = copy.deepcopy(resource)

    mended, findings = degrade(resource, VALIDATOR)

    assert resource == before
    if mended is None:
        assert any(one.severity is Severity.ERROR for one in findings)
    else:
        assert VALIDATOR.check(mended) == ()
        assert all(one.severity is Severity.WARNING for one in findings)
        assert mended == before or findings
