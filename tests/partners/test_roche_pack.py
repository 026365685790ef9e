"""Roche's requests: URL, verb, headers, the bundle and its ids, and what the profile refuses."""

import time
import uuid
from typing import Any

import orjson
import pytest

from pipeline.errors import Parked, ProfileNotMet, SettingsError
from pipeline.model import Identity, Intent, Mapped, Resource, Subject
from schemas.event import Identifier
from schemas.outcomes import Reason
from schemas.roche import CIP, METEDA
from tests.partners.samples import MESSAGE, identified, mapped, resources, roche

HEADERS = (
    ("org_id", "2.16.724.4.2"),
    ("x-origin-request-id", str(MESSAGE)),
    ("client_id", "1234567890"),
    ("Content-Type", "application/json"),
    ("Accept", "application/fhir+json, application/json"),
)


def bundle_of(body: bytes) -> Resource:
    tree: Resource = orjson.loads(body)
    return tree


@pytest.mark.parametrize(("api", "path"), [("v1", "/Bundle"), ("v2", "/v2/Bundle")])
def test_a_create_is_a_post_of_a_message_bundle(api: str, path: str) -> None:
    partner = roche(api=api)
    (request,) = partner.pack(mapped(partner)).requests
    assert (request.operation, request.method, request.path, request.path_template) == ("patient-create", "POST", path, path)
    assert request.headers == HEADERS
    assert (request.request_id, request.intent) == (str(MESSAGE), Intent.CREATE)
    assert (request.timeouts.connect, request.timeouts.read, request.timeouts.total) == (5, 15, 20)
    bundle = bundle_of(request.body)
    assert {name: bundle[name] for name in ("resourceType", "id", "type")} == {
        "resourceType": "Bundle",
        "id": str(uuid.uuid5(MESSAGE, "Bundle")),
        "type": "message",
    }
    assert bundle["entry"] == [{"resource": one} for one in resources(partner, identified())]


def test_an_update_of_v1_is_a_put_by_the_business_id() -> None:
    partner = roche()
    (request,) = partner.pack(mapped(partner, identified(intent=Intent.UPDATE, partner_id="Bj6.1"))).requests
    assert (request.operation, request.method, request.path) == ("patient-update", "PUT", "/Bundle/TEST0000000001")
    assert request.path_template == "/Bundle/{id}"
    assert (request.timeouts.read, request.timeouts.total) == (6, 10)
    assert bundle_of(request.body)["entry"][1]["resource"]["id"] == "Bj6.1"


@pytest.mark.parametrize(("settings", "path"), [({"api": "v2"}, "/v2/Bundle/"), ({"update_id": "returned"}, "/Bundle/")])
def test_an_update_by_the_returned_id_puts_there(settings: dict[str, Any], path: str) -> None:
    partner = roche(**settings)
    (request,) = partner.pack(mapped(partner, identified(intent=Intent.UPDATE, partner_id="Bj6.1Lq-hvb-28"))).requests
    assert (request.method, request.path) == ("PUT", f"{path}Bj6.1Lq-hvb-28")


@pytest.mark.parametrize("settings", [{"api": "v2"}, {"update_id": "returned"}])
def test_an_update_without_the_id_that_it_needs_is_parked(settings: dict[str, Any]) -> None:
    partner = roche(**settings)
    with pytest.raises(Parked) as caught:
        partner.pack(mapped(partner, identified(intent=Intent.UPDATE)))
    assert caught.value.reason is Reason.REJECTED_DUPLICATE


@pytest.mark.parametrize(("value", "quoted"), [("a/b c?d#e%f", "a%2Fb%20c%3Fd%23e%25f"), ("é", "%C3%A9"), ("../x", "..%2Fx")])
def test_an_id_is_percent_encoded_in_the_path(value: str, quoted: str) -> None:
    partner = roche()
    (request,) = partner.pack(mapped(partner, identified(value, Intent.UPDATE))).requests
    assert request.path == f"/Bundle/{quoted}"


@pytest.mark.parametrize("value", [".", ".."])
@pytest.mark.parametrize("intent", [Intent.CREATE, Intent.UPDATE])
def test_an_id_that_no_url_can_carry_is_parked(value: str, intent: Intent) -> None:
    partner = roche()
    with pytest.raises(ProfileNotMet) as caught:
        partner.pack(mapped(partner, identified(value, intent)))
    assert (caught.value.reason, caught.value.where) == (Reason.PROFILE_INVALID, "Patient.identifier")


def test_the_entries_are_in_the_partners_order_whatever_the_mappings_is() -> None:
    partner = roche()
    rendered = resources(partner, identified())
    (request,) = partner.pack(Mapped(identified(), rendered[::-1], "version")).requests
    kinds = [entry["resource"]["resourceType"] for entry in bundle_of(request.body)["entry"]]
    assert kinds == ["MessageHeader", "Patient", "Condition"]


def test_the_same_message_gives_the_same_bytes() -> None:
    assert roche().pack(mapped(roche())).requests == roche().pack(mapped(roche())).requests


def test_another_message_of_the_same_patient_gives_other_ids() -> None:
    partner = roche()
    one, two = (bundle_of(partner.pack(mapped(partner, identified(message=uuid.uuid4()))).requests[0].body) for _ in range(2))
    assert one["id"] != two["id"]
    assert one["entry"][1]["resource"]["id"] != two["entry"][1]["resource"]["id"]


@pytest.mark.parametrize("intent", list(Intent))
def test_with_full_urls_every_entry_has_one_and_the_reference_resolves(intent: Intent) -> None:
    partner = roche(full_url=True)
    what = identified(intent=intent, partner_id="Bj6.1" if intent is Intent.UPDATE else None)
    entries = bundle_of(partner.pack(mapped(partner, what)).requests[0].body)["entry"]
    urls = [entry["fullUrl"] for entry in entries]
    assert len(set(urls)) == 3
    assert all(uuid.UUID(url.removeprefix("urn:uuid:")).version == 5 for url in urls)
    assert entries[2]["resource"]["subject"]["reference"] == urls[1]
    assert urls[0] == f"urn:uuid:{entries[0]['resource']['id']}"


def test_without_full_urls_the_reference_names_the_patient_entry() -> None:
    partner = roche()
    entries = bundle_of(partner.pack(mapped(partner)).requests[0].body)["entry"]
    assert entries[2]["resource"]["subject"]["reference"] == f"Patient/{entries[1]['resource']['id']}"


@pytest.mark.parametrize(
    ("partner_id", "kept"), [("Bj6.1Lq-hvb-28", True), ("with space", False), ("x" * 65, False), (None, False)]
)
def test_on_an_update_the_patients_id_is_the_partners_where_fhir_allows_it(partner_id: str | None, *, kept: bool) -> None:
    partner = roche()
    variables = partner.variables(identified(intent=Intent.UPDATE, partner_id=partner_id))
    assert variables["patient_id"] == (partner_id if kept else str(uuid.uuid5(MESSAGE, "Patient")))


@pytest.mark.parametrize(("api", "expected"), [("v1", None), ("v2", "Organization/7")])
def test_the_managing_organization_is_for_v2_only(api: str, expected: str | None) -> None:
    assert roche(api=api, managing_organization="Organization/7").variables(identified())["managing_organization"] == expected


def test_variables_are_those_that_the_mapping_lists() -> None:
    assert set(roche().variables(identified())) == {
        *("message_header_id", "patient_id", "condition_id", "patient_reference"),
        *("endpoint", "software", "software_version", "managing_organization", "received"),
    }


def test_no_request_holds_the_secret_and_no_repr_holds_a_patient() -> None:
    partner = roche()
    packed = partner.pack(mapped(partner, identified(intent=Intent.UPDATE)))
    assert "client_secret" not in dict(packed.requests[0].headers)
    assert partner.secret_headers == ("client_secret",)
    assert "TEST0000000001" not in repr(packed)
    assert "Example" not in repr(packed)


@pytest.mark.parametrize(
    ("patient", "reason", "where"),
    [
        ({"name": None}, Reason.PROFILE_REQUIRED, "Patient.name"),
        ({"name": [{"family": "Example"}]}, Reason.PROFILE_REQUIRED, "Patient.name[0].given"),
        ({"identifier": None}, Reason.IDENTIFIER_SYSTEM, "Patient.identifier"),
        ({"identifier": [{"system": "urn:oid:1.2", "value": "1"}]}, Reason.IDENTIFIER_SYSTEM, "Patient.identifier[0].system"),
        ({"identifier": [{"system": CIP, "value": 65 * "1"}]}, Reason.PROFILE_INVALID, "Patient.identifier[0].value"),
        ({"address": [{"city": "canary"}]}, Reason.PROFILE_INVALID, "Patient.address"),
        ({"managingOrganization": {"reference": "Organization/1"}}, Reason.PROFILE_INVALID, "Patient.managingOrganization"),
    ],
)
def test_what_the_profile_refuses_says_what_and_where_and_no_value(patient: dict[str, Any], reason: Reason, where: str) -> None:
    partner = roche()
    with pytest.raises(ProfileNotMet) as caught:
        partner.pack(mapped(partner, **patient))
    assert (caught.value.reason, caught.value.where) == (reason, where)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("full_url", [False, True])
def test_a_reference_that_points_at_nothing_parks_the_message_with_its_path(*, full_url: bool) -> None:
    partner = roche(full_url=full_url)
    good = mapped(partner)
    header, patient, condition = good.resources
    elsewhere = condition | {"subject": {"reference": f"urn:uuid:{MESSAGE}" if full_url else "Patient/somebody-else"}}
    with pytest.raises(Parked) as ended:
        partner.pack(Mapped(good.identified, (header, patient, elsewhere), "version"))
    assert (ended.value.reason, ended.value.where) == (Reason.FHIR_INVALID, "Condition.subject.reference")
    assert "somebody-else" not in str(ended.value.message)


def test_two_resources_of_one_id_park_the_message() -> None:
    partner = roche()
    good = mapped(partner)
    with pytest.raises(Parked) as ended:
        partner.pack(Mapped(good.identified, (*good.resources, good.resources[2]), "version"))
    assert (ended.value.reason, ended.value.where) == (Reason.FHIR_INVALID, "Condition.id")


def test_a_patient_with_no_identifier_that_is_accepted_is_parked() -> None:
    partner = roche()
    with pytest.raises(ProfileNotMet) as caught:
        partner.pack(mapped(partner, identified(accepted=False)))
    assert (caught.value.reason, caught.value.where) == (Reason.IDENTIFIER_SYSTEM, "Patient.identifier")


def test_a_message_without_a_diagnosis_goes_or_is_parked_by_the_setting() -> None:
    partner = roche()
    assert len(bundle_of(partner.pack(mapped(partner, diabetes=False)).requests[0].body)["entry"]) == 2
    partner = roche(diagnosis="required")
    with pytest.raises(ProfileNotMet) as caught:
        partner.pack(mapped(partner, diabetes=False))
    assert (caught.value.reason, caught.value.where) == (Reason.DIAGNOSIS_REQUIRED, "Condition")


def test_a_value_that_json_cannot_carry_is_parked_and_not_told() -> None:
    partner = roche()
    with pytest.raises(Parked) as caught:
        partner.pack(mapped(partner, telecom=[{"system": "phone", "value": "\ud800canary"}]))
    assert caught.value.reason is Reason.FHIR_INVALID
    assert caught.value.__suppress_context__
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("setting", "value"), [("org_id", ""), ("org_id", "a\nb"), ("client_id", "é")])
def test_a_header_that_http_cannot_carry_is_refused_at_start(setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=setting):
        roche(**{setting: value})


def test_request_ids_are_the_same_on_every_attempt_or_one_for_each() -> None:
    stable, each = roche(), roche(request_id="per_attempt")
    packed = stable.pack(mapped(stable))
    (request,) = packed.requests
    assert stable.of_attempt(packed, request, 2) == request
    first, second = (each.of_attempt(packed, request, attempt) for attempt in (1, 2))
    assert len({request.request_id, first.request_id, second.request_id}) == 3
    assert dict(second.headers)["x-origin-request-id"] == second.request_id
    assert second.body == request.body
    assert each.of_attempt(packed, first, 2) == second


# probes


def test_an_unknown_create_of_v1_is_probed_by_a_put_with_an_id_of_its_own() -> None:
    partner = roche()
    packed = partner.pack(mapped(partner))
    probe = partner.probe(packed)
    assert probe is not None
    assert (probe.operation, probe.method, probe.path) == ("patient-probe", "PUT", "/Bundle/TEST0000000001")
    assert probe.body == packed.requests[0].body
    assert probe.request_id != str(MESSAGE)
    assert dict(probe.headers)["x-origin-request-id"] == probe.request_id


@pytest.mark.parametrize("settings", [{"probe": "off"}, {"update_id": "returned"}, {"api": "v2"}])
def test_where_nothing_can_tell_there_is_no_probe(settings: dict[str, Any]) -> None:
    partner = roche(**settings)
    assert partner.probe(partner.pack(mapped(partner))) is None


def test_v2_posts_again_where_the_setting_says_so() -> None:
    partner = roche(api="v2", v2_unknown="again")
    packed = partner.pack(mapped(partner))
    probe = partner.probe(packed)
    assert probe is not None
    assert (probe.operation, probe.method, probe.path, probe.body) == (
        "patient-create",
        "POST",
        "/v2/Bundle",
        packed.requests[0].body,
    )
    assert probe.request_id != packed.requests[0].request_id


@pytest.mark.parametrize("settings", [{}, {"probe": "off"}, {"api": "v2"}])
def test_an_update_is_its_own_probe(settings: dict[str, Any]) -> None:
    partner = roche(**settings)
    packed = partner.pack(mapped(partner, identified(intent=Intent.UPDATE, partner_id="Bj6.1")))
    probe = partner.probe(packed)
    assert probe is not None
    assert (probe.method, probe.path, probe.body) == ("PUT", packed.requests[0].path, packed.requests[0].body)
    assert probe.request_id != packed.requests[0].request_id


def test_a_probe_waits_for_the_published_worst_time_and_a_margin() -> None:
    partner = roche(probe_margin=5)
    assert (partner.probe_after("patient-create"), partner.probe_after("patient-update")) == (15, 9)


# the rest of the port


@pytest.mark.parametrize(
    ("api", "partner_id", "shown"),
    [
        ("v1", "12345678Z", None),
        ("v1", "Bj6.1Lq-hvb-28", None),
        ("v2", "Bj6.1Lq-hvb-28", "Bj6.1Lq-hvb-28"),
        ("v2", "12345678z", None),
        ("v2", "es-12345678Z", None),
        ("v2", None, None),
    ],
)
def test_a_business_id_is_never_shown(api: str, partner_id: str | None, shown: str | None) -> None:
    identity = Identity(Subject.PATIENT, CIP, "12345678Z")
    assert roche(api=api).public_partner_id(identity, partner_id) == shown


def test_an_id_of_nobody_known_is_not_shown() -> None:
    assert roche(api="v2").public_partner_id(None, "Bj6.1Lq-hvb-28") is None


def test_identifier_systems_are_the_mappings_business() -> None:
    assert roche().system_of(Identifier(value="1", authority="MTD")) == METEDA
    assert roche().system_of(Identifier(value="1", authority="HOSPITAL")) is None


@pytest.mark.parametrize(("setting", "expected"), [("park", False), ("create", True)])
def test_an_absent_patient_is_created_by_the_setting(setting: str, *, expected: bool) -> None:
    assert roche(on_absent=setting).absent_is_create(identified()) is expected


def test_packing_stays_far_below_a_tenth_of_a_millisecond() -> None:
    partner = roche()
    sample = mapped(partner)
    times = []
    for _ in range(300):
        began = time.perf_counter()
        partner.pack(sample)
        times.append(time.perf_counter() - began)
    assert sorted(times)[150] < 0.0003, "the median of 300; the budget is 30 µs, ten times that is a defect on any machine"
