"""Roche's profiles, rule by rule (guide pages as the models name them)."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas import roche
from tests.fhir.samples import message

DEFAULT = roche.Terms()


def wrong(bundle: dict[str, Any], terms: roche.Terms = DEFAULT) -> list[tuple[str, str]]:
    """Error type and last named step of each rule that is not met."""
    try:
        roche.CHECK.validate_python(bundle, context=terms)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        return [(one["type"], str([step for step in one["loc"] if isinstance(step, str)][-1:])) for one in details]
    return []


def changed(at: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    bundle = message()
    bundle["entry"][at]["resource"] |= changes
    return bundle


def without(at: int, name: str) -> dict[str, Any]:
    bundle = message()
    del bundle["entry"][at]["resource"][name]
    return bundle


def test_the_guides_sample_meets_the_profile_with_and_without_a_condition() -> None:
    bundle = message()
    assert wrong(bundle) == []

    del bundle["entry"][2]
    assert wrong(bundle) == []
    assert wrong(bundle, roche.Terms(condition_required=True)) == [("profile_mandatory", "[]")]


@pytest.mark.parametrize(
    "name",
    [
        "verificationStatus",
        "identifier",
        "category",
        "severity",
        "bodySite",
        "context",
        "onsetDateTime",
        "onsetAge",
        "onsetString",
        "abatementDateTime",
        "abatementBoolean",
        "assertedDate",
        "asserter",
        "stage",
        "evidence",
        "note",
    ],
)
def test_what_the_condition_must_not_have(name: str) -> None:
    assert wrong(changed(2, **{name: "x"})) == [("extra_forbidden", f"['{name}']")]


@pytest.mark.parametrize(
    "name", ["address", "deceasedBoolean", "maritalStatus", "contact", "communication", "link", "photo", "text"]
)
def test_what_the_patient_must_not_have(name: str) -> None:
    assert wrong(changed(1, **{name: "x"})) == [("extra_forbidden", f"['{name}']")]


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (0, "event"),
        (0, "timestamp"),
        (0, "source"),
        (1, "identifier"),
        (1, "name"),
        (2, "clinicalStatus"),
        (2, "code"),
        (2, "subject"),
    ],
)
def test_what_is_mandatory(at: int, name: str) -> None:
    assert wrong(without(at, name)) == [("missing", f"['{name}']")]


@pytest.mark.parametrize("name", ["gender", "birthDate", "telecom", "managingOrganization", "active", "id", "meta"])
def test_what_is_optional(name: str) -> None:
    assert wrong(without(1, name)) == []


def test_every_name_has_given_and_family() -> None:
    assert wrong(changed(1, name=[{"family": "A", "given": ["B"]}, {"text": "C"}])) == [
        ("missing", "['family']"),
        ("missing", "['given']"),
    ]
    assert wrong(changed(1, name=[{"family": "A", "given": []}])) == [("too_short", "['given']")]
    assert wrong(changed(1, name=[])) == [("too_short", "['name']")]


def test_identifiers_are_of_the_systems_that_the_partner_accepts_and_not_too_long() -> None:
    assert wrong(changed(1, identifier=[{"system": roche.METEDA, "value": "1" * 64}])) == []
    assert wrong(changed(1, identifier=[{"system": roche.CIP, "value": "1" * 65}])) == [("string_too_long", "['value']")]
    assert wrong(changed(1, identifier=[{"system": "urn:oid:2.16.840.1", "value": "1"}])) == [("profile_system", "['system']")]
    assert wrong(changed(1, identifier=[{"value": "1"}])) == [("missing", "['system']")]
    assert wrong(changed(1, identifier=[{"system": "urn:x", "value": "1"}]), roche.Terms(systems=frozenset({"urn:x"}))) == []


def test_managing_organization_came_with_version_2() -> None:
    assert wrong(message(), roche.Terms(version="v1")) == [("not_in_profile", "['managingOrganization']")]
    assert wrong(without(1, "managingOrganization"), roche.Terms(version="v1")) == []


def test_the_code_is_of_the_value_set_diabetes_type_which_a_site_can_extend() -> None:
    local = ("urn:oid:1.2.3", "DM3c")
    code = {"coding": [{"system": local[0], "code": local[1]}]}

    assert wrong(changed(2, code=code)) == [("profile_system", "['code']")]
    assert wrong(changed(2, code=code), roche.Terms(diabetes=roche.DIABETES_TYPES | {local})) == []
    assert wrong(changed(2, code={"text": "diabetes"})) == [("profile_system", "['code']")]


@pytest.mark.parametrize("name", ["version", "userSelected", "extension"])
def test_what_a_coding_must_not_have(name: str) -> None:
    code = {"coding": [{"system": roche.SNOMED, "code": "46635009", name: "x"}]}

    assert wrong(changed(2, code=code)) == [("extra_forbidden", f"['{name}']")]


def test_the_event_is_new_bundle_and_the_claimed_profile_is_roches() -> None:
    assert wrong(changed(0, event={"system": roche.MESSAGE_TYPE, "code": "other"})) == [("literal_error", "['code']")]
    assert wrong(changed(1, meta={"profile": ["http://example.org/patient"]})) == [("literal_error", "['profile']")]


def test_a_message_has_one_header_first_and_one_patient() -> None:
    turned = message()
    turned["entry"].reverse()
    twice = message()
    twice["entry"].append(twice["entry"][1])

    assert wrong(turned) == [("profile_mandatory", "[]")]
    assert wrong(twice) == [("profile_mandatory", "[]")]
    assert wrong(message() | {"type": "transaction"}) == [("literal_error", "['type']")]


def test_an_error_of_the_profile_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        roche.CHECK.validate_python(changed(1, gender=["CANARY"], address="CANARY"), context=DEFAULT)
    assert caught.value.error_count() == 2
    assert "CANARY" not in str(caught.value)
