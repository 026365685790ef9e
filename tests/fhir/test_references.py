"""References, ids and fullUrls across a bundle."""

from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fhir import references
from schemas.outcomes import FindingCode as Code
from tests.fhir.samples import PATIENT_ID, everything, full_patient, message, message_with_full_urls, patient

BASE: Final = "https://example.org/fhir"
URN: Final = "urn:uuid:0b1f6f0e-6c1a-5d0f-9a51-1c1f8f3f0a01"


def found(resource: dict[str, Any], **settings: Any) -> list[tuple[Code, str | None]]:  # noqa: ANN401 - the settings of check
    return [(one.code, one.fhir) for one in references.check(resource, **settings)]


def bundle(*resources: dict[str, Any], kind: str = "collection", urls: tuple[str | None, ...] = ()) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [{"resource": one} for one in resources]
    for entry, url in zip(entries, urls, strict=False):
        if url:
            entry["fullUrl"] = url
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def test_the_samples_hang_together() -> None:
    for name, resource in everything().items():
        assert found(resource, outside=("Patient", "Practitioner", "Organization")) == [], name
    assert found(message()) == []
    assert found(message_with_full_urls(), full_urls=True) == []


def test_full_urls_are_missed_only_where_they_are_demanded() -> None:
    missing = [(Code.MISSING_ELEMENT, f"Bundle.entry[{at}].fullUrl") for at in range(3)]

    assert [one for one in found(message(), full_urls=True) if one[0] is Code.MISSING_ELEMENT] == missing
    assert found(bundle(patient(), kind="transaction"), full_urls=True) == []


def test_a_reference_within_the_bundle_has_to_resolve() -> None:
    sent = message()
    sent["entry"][2]["resource"]["subject"]["reference"] = "Patient/somebody-else"

    assert found(sent) == [(Code.REFERENCE_BROKEN, "Bundle.entry[2].resource.subject.reference")]
    assert found(sent, outside=("Organization", "Patient")) == []
    assert found(message(), outside=()) == [(Code.REFERENCE_BROKEN, "Bundle.entry[1].resource.managingOrganization.reference")]


def test_with_full_urls_a_relative_reference_resolves_only_through_a_restful_one() -> None:
    sent = message_with_full_urls()
    sent["entry"][2]["resource"]["subject"]["reference"] = f"Patient/{PATIENT_ID}"
    assert found(sent, full_urls=True) == [(Code.REFERENCE_BROKEN, "Bundle.entry[2].resource.subject.reference")]

    for entry in sent["entry"]:
        entry["fullUrl"] = f"{BASE}/{entry['resource']['resourceType']}/{entry['resource']['id']}"
    assert found(sent, full_urls=True) == []


def test_a_urn_has_to_be_a_full_url_of_the_bundle() -> None:
    sent = message_with_full_urls()
    sent["entry"][2]["resource"]["subject"]["reference"] = "urn:uuid:0b1f6f0e-0000-0000-0000-000000000000"

    assert found(sent, full_urls=True) == [(Code.REFERENCE_BROKEN, "Bundle.entry[2].resource.subject.reference")]


def test_another_servers_resource_is_not_looked_for() -> None:
    sent = message()
    sent["entry"][2]["resource"]["subject"]["reference"] = f"{BASE}/Patient/1"

    assert found(sent) == []


def test_a_search_may_stand_for_a_reference_in_a_transaction_only() -> None:
    searching = {"resourceType": "Condition", "subject": {"reference": "Patient?identifier=1"}}

    assert found(bundle(searching, kind="transaction")) == []
    assert found(bundle(searching)) == [(Code.REFERENCE_BROKEN, "Bundle.entry[0].resource.subject.reference")]


def test_two_entries_never_share_an_id_or_a_full_url() -> None:
    assert found(bundle(patient(), patient())) == [(Code.ID_COLLISION, "Bundle.entry[1].resource.id")]
    assert found(bundle({"resourceType": "Patient"}, {"resourceType": "Patient"}, urls=(URN, URN))) == [
        (Code.ID_COLLISION, "Bundle.entry[1].fullUrl")
    ]
    assert found(bundle({"resourceType": "Patient", "id": "1"}, {"resourceType": "Group", "id": "1"})) == []


def test_two_versions_of_one_resource_may_stand_beside_each_other() -> None:
    versions = [{"resourceType": "Patient", "id": "1", "meta": {"versionId": str(one)}} for one in range(2)]

    assert found(bundle(*versions, urls=(f"{BASE}/Patient/1", f"{BASE}/Patient/1"))) == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("Patient/1", Code.WRONG_FORMAT),
        (f"{BASE}/Patient/2", Code.INVARIANT),
        (f"{BASE}/Person/1", Code.INVARIANT),
        (f"{BASE}/Patient/1", None),
        (URN, None),
        ("urn:uuid:1", Code.WRONG_FORMAT),
        (URN.upper(), Code.WRONG_FORMAT),
    ],
)
def test_a_full_url_is_absolute_and_agrees_with_the_id(url: str, code: Code | None) -> None:
    named = bundle({"resourceType": "Patient", "id": "1"}, urls=(url,))

    assert found(named) == ([(code, "Bundle.entry[0].fullUrl")] if code else [])


def test_a_message_begins_with_its_one_header() -> None:
    turned = message()
    turned["entry"].reverse()
    twice = message()
    twice["entry"].append({"resource": {"resourceType": "MessageHeader"}})

    assert found(turned) == [(Code.INVARIANT, "Bundle.entry[0].resource")]
    assert found(twice) == [(Code.CARDINALITY, "Bundle.entry[3].resource")]
    assert found({"resourceType": "Bundle", "type": "message"}) == [(Code.MISSING_ELEMENT, "Bundle.entry")]


def test_a_local_reference_finds_what_its_resource_contains() -> None:
    one = full_patient()
    assert found(one) == []

    one["managingOrganization"] = {"reference": "#elsewhere"}
    assert found(one) == [(Code.REFERENCE_BROKEN, "Patient.managingOrganization.reference")]
    assert found(bundle(one), outside=("Patient", "Practitioner")) == [
        (Code.REFERENCE_BROKEN, "Bundle.entry[0].resource.managingOrganization.reference")
    ]


def test_contained_resources_have_ids_of_their_own() -> None:
    one = full_patient()
    one["contained"] += [one["contained"][0], {"resourceType": "Organization", "name": "x"}]

    assert found(one) == [(Code.ID_COLLISION, "Patient.contained[1].id"), (Code.MISSING_ELEMENT, "Patient.contained[2].id")]


REFERENCES = (
    "Patient/p",
    "Patient/x",
    "Organization/o",
    "#a",
    "#",
    "urn:uuid:x",
    URN,
    "Patient?name=x",
    f"{BASE}/Patient/p",
    "no form",
    "",
    'Patient/p","reference":"Patient/x',
    "Organization/\\",
)
RESOURCES = st.fixed_dictionaries(
    {"resourceType": st.sampled_from(["MessageHeader", "Patient", "Condition"])},
    optional={
        "id": st.sampled_from(["p", "q", "r"]),
        "subject": st.sampled_from(REFERENCES).map(lambda reference: {"reference": reference}),
        "contained": st.just([{"resourceType": "Organization", "id": "a"}]),
        "meta": st.sampled_from([{"versionId": "1"}, {"versionId": '"reference":"Patient/x"'}]),
        "extension": st.lists(st.sampled_from(REFERENCES).map(lambda one: {"valueReference": {"reference": one}}), max_size=2),
    },
)
ENTRIES = st.fixed_dictionaries(
    {"resource": RESOURCES},
    optional={"fullUrl": st.sampled_from([URN, URN[:-1] + "2", URN[:-1] + "3", f"{BASE}/Patient/p", "x"])},
)


@settings(max_examples=400)
@given(
    st.sampled_from(["message", "collection", "transaction"]),
    st.lists(ENTRIES, max_size=4),
    st.booleans(),
    st.sampled_from([None, (), ("Organization",)]),
    st.booleans(),
)
def test_the_quick_way_lets_nothing_pass_that_the_slow_way_finds(
    kind: str, entries: list[dict[str, Any]], full_urls: bool, outside: tuple[str, ...] | None, written: bool
) -> None:
    whole = {"resourceType": "Bundle", "type": kind, "entry": entries}
    slow = tuple(dict.fromkeys(references._Bundle(whole, full_urls=full_urls, outside=outside).findings()))
    text = orjson.dumps(whole) if written else None
    assert references.check(whole, full_urls=full_urls, outside=outside, written=text) == slow


def test_the_messages_that_we_send_take_the_quick_way() -> None:
    assert references._plainly_right(message(), full_urls=False, outside=None, written=None)
    assert references._plainly_right(message_with_full_urls(), full_urls=True, outside=None, written=None)
