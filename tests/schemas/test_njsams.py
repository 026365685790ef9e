"""NJSAMS's profiles, rule by rule (sections of the dossier as the models name them)."""

from copy import deepcopy
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from schemas import njsams
from tests.partners.njsams_samples import adt, packed, plan_with

PATIENT, ENCOUNTER, COVERAGE = 0, 1, 2
SENT = packed(adt(policies=[("MEDICAID", "P-1")]), plan_with()).requests[0].body


def bundle() -> dict[str, Any]:
    tree: dict[str, Any] = orjson.loads(SENT)
    return tree


def wrong(tree: dict[str, Any], *required: str) -> list[str]:
    """What each rule that is not met says of itself: the rule's name, else the error's type and the last named step."""
    try:
        njsams.CHECK.validate_python(tree, context=njsams.Terms(required or ("client-id", "ssn")))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        return [one.get("ctx", {}).get("about") or f"{one['type']} {one['loc'][-1]}" for one in details]
    return []


def changed(at: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """None takes the element out."""
    tree = bundle()
    tree["entry"][at]["resource"] |= changes
    for name in [name for name, change in changes.items() if change is None]:
        del tree["entry"][at]["resource"][name]
    return tree


def test_what_we_send_meets_it() -> None:
    assert wrong(bundle()) == []


@pytest.mark.parametrize("at", [PATIENT, ENCOUNTER, COVERAGE])
@pytest.mark.parametrize(
    "labels", [[], [{"system": njsams.LABEL}], [{"system": njsams.LABEL, "code": ""}], [{"system": "x", "code": "123456"}]]
)
def test_every_resource_needs_the_label_with_a_code(at: int, labels: list[dict[str, str]]) -> None:
    tree = bundle()
    tree["entry"][at]["resource"]["meta"]["security"] = labels
    assert wrong(tree) == ["security label"]


@pytest.mark.parametrize("at", [PATIENT, ENCOUNTER, COVERAGE])
def test_every_resource_claims_its_own_profile_and_contains_none(at: int) -> None:
    tree = bundle()
    tree["entry"][at]["resource"]["meta"]["profile"] = [f"{njsams.BASE}/StructureDefinition/NJSAMSOrganization"]
    assert wrong(tree) == ["literal_error 0"]
    assert wrong(changed(at, contained=[{"resourceType": "Organization", "id": "1"}])) == ["no contained resources"]


def test_client_id_and_ssn_are_mandatory_as_the_setting_says() -> None:
    client, ssn = bundle()["entry"][PATIENT]["resource"]["identifier"]
    assert wrong(changed(PATIENT, identifier=[client])) == ["ssn"]
    assert wrong(changed(PATIENT, identifier=[ssn])) == ["client-id"]
    assert wrong(changed(PATIENT, identifier=[client]), "client-id") == []
    assert wrong(changed(PATIENT, identifier=None)) == ["missing identifier"]


@pytest.mark.parametrize("value", ["900-01-0001", "90001000", "9000100012", "٩٠٠٠١٠٠٠١", "unknown"])
def test_an_ssn_has_nine_digits(value: str) -> None:
    client, ssn = bundle()["entry"][PATIENT]["resource"]["identifier"]
    assert wrong(changed(PATIENT, identifier=[client, ssn | {"value": value}])) == ["ssn: nine digits"]


def test_the_floor_of_us_core_for_a_patient() -> None:
    assert wrong(changed(PATIENT, gender=None)) == ["missing gender"]
    assert wrong(changed(PATIENT, name=None)) == ["missing name"]
    assert wrong(changed(PATIENT, name=[{"use": "official"}])) == ["family or given"]
    assert wrong(changed(PATIENT, name=[{"given": ["Pat"]}])) == []
    assert wrong(changed(PATIENT, birthDate=None)) == []


@pytest.mark.parametrize("name", ["status", "class", "type", "serviceType", "subject", "period"])
def test_what_an_encounter_must_have(name: str) -> None:
    assert wrong(changed(ENCOUNTER, **{name: None})) == [f"missing {name}"]


@pytest.mark.parametrize(
    "coding",
    [
        {"system": njsams.ACT_CODE, "code": "I"},
        {"system": njsams.ACT_CODE, "code": "O"},
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": "I"},
        {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": "IMP"},
    ],
)
def test_a_letter_of_pv1_2_never_is_a_class(coding: dict[str, str]) -> None:
    assert wrong(changed(ENCOUNTER, **{"class": coding})) == ["encounter class"]


@pytest.mark.parametrize(
    ("code", "right"),
    [("1", True), ("18", True), ("500", True), ("0", False), ("19", False), ("01", False), ("Intensive Outpatient", False)],
)
def test_the_level_of_care_is_one_of_njsamss_own(code: str, right: bool) -> None:
    level = {"coding": [{"system": njsams.LEVEL_OF_CARE, "code": code}]}
    assert wrong(changed(ENCOUNTER, serviceType=level)) == ([] if right else ["level of care"])
    other = {"coding": [{"system": "http://snomed.info/sct", "code": code}]}
    assert wrong(changed(ENCOUNTER, serviceType=other)) == ["level of care"]


@pytest.mark.parametrize("name", ["status", "beneficiary", "payor"])
def test_what_a_coverage_must_have(name: str) -> None:
    assert wrong(changed(COVERAGE, **{name: None})) == [f"missing {name}"]


def entry(**changes: object) -> dict[str, Any]:
    tree = bundle()
    tree["entry"][PATIENT] |= changes
    return tree


def test_the_bundle_is_a_transaction_of_one_kind() -> None:
    assert wrong(bundle() | {"type": "batch"}) == ["literal_error type"]
    assert wrong(bundle() | {"entry": []}) == ["too_short entry"]
    mixed = entry(request={"method": "PUT", "url": "Patient/1"})
    assert wrong(mixed) == ["creates and updates in one bundle"]


@pytest.mark.parametrize(
    ("method", "url", "right"),
    [
        ("POST", "Patient", True),
        ("POST", "Patient/1", False),
        ("POST", "Encounter", False),
        ("PUT", "Patient/1", True),
        ("PUT", "Patient", False),
        ("PUT", "Encounter/1", False),
        ("PUT", "Patient?identifier=1", False),
        ("PUT", "Patient/1/_history/2", False),
    ],
)
def test_an_entrys_url_is_its_type_and_of_an_update_its_id(method: str, url: str, right: bool) -> None:
    tree = entry(request={"method": method, "url": url})
    tree["entry"] = tree["entry"][:1]
    assert wrong(tree) == ([] if right else ["request.url"])


@pytest.mark.parametrize("name", ["ifNoneExist", "ifMatch", "ifNoneMatch"])
def test_nothing_conditional_is_sent(name: str) -> None:
    request = {"method": "POST", "url": "Patient", name: "x"}
    assert wrong(entry(request=request)) == [f"extra_forbidden {name}"]


@pytest.mark.parametrize("url", ["Patient/1", "https://x/Patient/1", "urn:uuid:1"])
def test_every_entry_is_named_by_a_uuid(url: str) -> None:
    assert wrong(entry(fullUrl=url)) == ["string_pattern_mismatch fullUrl"]


def test_no_error_shows_a_value() -> None:
    tree = deepcopy(bundle())
    tree["entry"][PATIENT]["resource"]["identifier"][1]["value"] = "canary"
    with pytest.raises(ValidationError) as refused:
        njsams.CHECK.validate_python(tree)
    assert "canary" not in str(refused.value)
