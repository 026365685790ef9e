"""What Roche's contract says (contracts/roche.md, the brief), asked over a real connection with a plain client."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import CIP, METEDA, Client, bundle, codes, condition, header, of, patient

Start = Callable[..., RocheSandbox]


@pytest.fixture
def client(roche: RocheSandbox) -> Iterator[Client]:
    with Client(roche) as one:
        yield one


def entry(tree: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one["resource"] for one in tree["entry"] if one["resource"]["resourceType"] == kind)
    return found


# section 6: what success looks like


def test_v1_create_answers_200_with_roches_id_as_bundle_id_and_patient_id(client: Client) -> None:
    answer = client.create()
    tree = answer.json()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/fhir+json"
    assert re.fullmatch(r"[A-Za-z0-9.\-]{1,64}", tree["id"])
    assert tree["id"] == entry(tree, "Patient")["id"] != "12345678Z"
    assert [one["resource"]["resourceType"] for one in tree["entry"]] == ["MessageHeader", "Patient", "Condition"]


def test_the_echoed_condition_still_points_at_the_id_of_the_request(client: Client) -> None:
    sent = bundle()
    assert entry(client.create(sent).json(), "Condition")["subject"] == entry(sent, "Condition")["subject"]


def test_v1_create_can_return_the_business_id_as_in_the_published_sample(start: Start) -> None:
    with Client(start(v1_create_id="business")) as client:
        tree = client.create().json()
    assert entry(tree, "Patient")["id"] == "12345678Z"


def test_v1_update_by_business_id_answers_200_with_an_empty_body(client: Client) -> None:
    client.create()
    answer = client.update("12345678Z", of("12345678Z", gender="male"))
    assert (answer.status_code, answer.content) == (200, b"")


def test_v2_create_answers_201_and_its_id_updates_and_reads(client: Client) -> None:
    created = client.create(api="v2")
    wanted = entry(created.json(), "Patient")["id"]
    updated = client.update(wanted, of("12345678Z", gender="male"), api="v2")
    read = client.read(wanted)
    assert (created.status_code, updated.status_code, read.status_code) == (201, 200, 200)
    assert (read.json()["id"], read.json()["gender"]) == (wanted, "male")


def test_v2_update_does_not_know_the_business_id(client: Client) -> None:
    client.create(api="v2")
    answer = client.update("12345678Z", api="v2")
    assert (answer.status_code, codes(answer)) == (404, ["not-found"])


@pytest.mark.parametrize(
    ("update_id", "by_business", "by_returned"), [("business", 200, 404), ("returned", 404, 200), ("either", 200, 200)]
)
def test_v1_update_takes_the_id_that_the_knob_says(start: Start, update_id: str, by_business: int, by_returned: int) -> None:
    with Client(start(update_id=update_id)) as client:
        returned = client.create().json()["id"]
        assert client.update("12345678Z").status_code == by_business
        assert client.update(returned).status_code == by_returned


def test_the_returned_business_id_of_the_sample_updates_where_updates_take_the_returned_id(start: Start) -> None:
    with Client(start(update_id="returned", v1_create_id="business")) as client:
        returned = entry(client.create().json(), "Patient")["id"]
        assert client.update(returned).status_code == 200


def test_v2_answers_as_the_knobs_say(start: Start) -> None:
    with Client(start(v2_create_status=200, v2_update_body="bundle")) as client:
        created = client.create(api="v2")
        wanted = created.json()["id"]
        assert created.status_code == 200
        assert client.update(wanted, api="v2").json()["id"] == wanted


@pytest.mark.parametrize("content_type", ["application/json", "application/fhir+json", "application/json; charset=utf-8"])
def test_both_media_types_are_taken(client: Client, content_type: str) -> None:
    assert client.create(headers={"Content-Type": content_type}).status_code == 200


def test_an_identifier_with_strange_characters_is_found_by_its_encoded_url(client: Client) -> None:
    client.create(of("A/B ñ"))
    assert client.update("A%2FB%20%C3%B1", of("A/B ñ")).status_code == 200


# section 7.2: the gateway


@pytest.mark.parametrize("missing", ["org_id", "client_id", "client_secret", "x-origin-request-id"])
def test_a_missing_header_is_an_empty_403(client: Client, missing: str) -> None:
    answer = client.create(headers={missing: None})
    assert (answer.status_code, answer.content) == (403, b"")


def test_a_request_id_that_is_no_uuid_is_an_empty_403(client: Client) -> None:
    answer = client.create(headers={"x-origin-request-id": "17"})
    assert (answer.status_code, answer.content) == (403, b"")


def test_any_request_id_will_do_by_a_knob(start: Start) -> None:
    with Client(start(request_id="any")) as client:
        assert client.create(headers={"x-origin-request-id": "17"}).status_code == 200


def test_read_needs_no_request_id(client: Client) -> None:
    wanted = client.create().json()["id"]
    assert client.read(wanted).status_code == 200


@pytest.mark.parametrize("wrong", ["client_id", "client_secret"])
def test_a_wrong_client_is_a_401_in_plain_json(client: Client, wrong: str) -> None:
    answer = client.create(headers={wrong: "wrong"})
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid Client"})


def test_an_unknown_organisation_is_an_empty_403(client: Client) -> None:
    answer = client.create(headers={"org_id": "2.16.724.4.3"})
    assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/xml", "application/json; charset=latin1"])
def test_another_content_type_is_415_or_400(start: Start, content_type: str | None) -> None:
    roche = start()
    with Client(roche) as client:
        first = client.create(headers={"Content-Type": content_type}).status_code
        roche.set(content_type="400")
        assert (first, client.create(headers={"Content-Type": content_type}).status_code) == (415, 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Bundle", 405),
        ("DELETE", "/Bundle/12345678Z", 405),
        ("PATCH", "/v2/Bundle/12345678Z", 405),
        ("POST", "/Patient", 405),
        ("GET", "/Practitioner/1", 404),
        ("POST", "/v3/Bundle", 404),
        ("GET", "/../../etc/passwd", 404),
    ],
)
def test_there_is_no_other_endpoint(client: Client, method: str, path: str, status: int) -> None:
    assert client.send(method, path).status_code == status


@pytest.mark.parametrize(("method", "path"), [("GET", "/Patient"), ("GET", "/Patient/"), ("PUT", "/Bundle")])
def test_a_missing_id_is_not_supported(client: Client, method: str, path: str) -> None:
    answer = client.send(method, path, bundle())
    assert (answer.status_code, codes(answer)) == (400, ["not-supported"])


# who is there already


@pytest.mark.parametrize(
    ("duplicate", "status", "code"), [("duplicate", 400, "duplicate"), ("invalid", 400, "invalid"), ("with_id", 400, "duplicate")]
)
def test_a_second_create_of_a_patient_is_refused(start: Start, duplicate: str, status: int, code: str) -> None:
    roche = start(duplicate=duplicate)
    with Client(roche) as client:
        first = client.create().json()["id"]
        second = client.create()
    assert (second.status_code, codes(second)) == (status, [code])
    assert (first in second.text) == (duplicate == "with_id")
    assert roche.log.creates() == {"12345678Z": 1}


def test_the_worst_partner_creates_twice(start: Start) -> None:
    roche = start(duplicate="twice")
    with Client(roche) as client:
        ids = {client.create().json()["id"], client.create().json()["id"]}
    assert len(ids) == 2
    assert roche.log.creates() == {"12345678Z": 2}


def test_the_same_value_in_the_other_system_is_another_patient(client: Client) -> None:
    client.create()
    other = client.create(of("12345678Z", identifier=[{"system": METEDA, "value": "12345678Z"}]))
    assert other.status_code == 200


@pytest.mark.parametrize(("knob", "status"), [("duplicate", 400), ("invalid", 400), ("accepted", 200)])
def test_an_email_address_is_one_patients(start: Start, knob: str, status: int) -> None:
    with Client(start(email_duplicate=knob)) as client:
        client.create(of("A1", telecom=[{"system": "email", "value": "ana@example.org"}]))
        second = client.create(of("A2", telecom=[{"system": "email", "value": "ANA@example.org"}]))
        assert second.status_code == status
        assert status == 200 or codes(second) == [knob]


def test_a_patient_keeps_its_own_email_address_on_update_and_frees_the_old_one(client: Client) -> None:
    def mail(name: str) -> dict[str, Any]:
        return {"telecom": [{"system": "email", "value": f"{name}@example.org"}]}

    client.create(of("A1", **mail("ana")))
    assert client.update("A1", of("A1", **mail("ana"))).status_code == 200
    assert client.update("A1", of("A1", **mail("new"))).status_code == 200
    assert client.create(of("A2", **mail("ana"))).status_code == 200
    assert client.update("A2", of("A2", **mail("new"))).status_code == 400


@pytest.mark.parametrize(("knob", "status", "effect"), [("not-found", 404, 0), ("invalid", 400, 0), ("created", 200, 1)])
def test_an_update_of_nobody(start: Start, knob: str, status: int, effect: int) -> None:
    roche = start(update_unknown=knob)
    with Client(roche) as client:
        answer = client.update("12345678Z")
    assert answer.status_code == status
    assert status == 200 or codes(answer) == [knob]
    assert len(roche.log.effects(effect="created")) == effect


def test_an_update_cannot_take_another_patients_identifier(client: Client) -> None:
    client.create(of("A1"))
    client.create(of("A2"))
    assert codes(client.update("A1", of("A2"))) == ["invalid"]


@pytest.mark.parametrize(("knob", "status", "new"), [("invalid", 400, 404), ("rekeyed", 200, 200)])
def test_an_update_with_a_new_identifier(start: Start, knob: str, status: int, new: int) -> None:
    with Client(start(update_other_identifier=knob)) as client:
        client.create(of("A1"))
        assert client.update("A1", of("A9")).status_code == status
        assert client.update("A9", of("A9")).status_code == new


# section 5: the body

GOOD: dict[str, Any] = {
    "no condition": bundle(header(), patient()),
    "two conditions": bundle(header(), patient(), condition(), condition()),
    "the least": bundle(
        {k: v for k, v in header().items() if k not in {"id", "meta"}},
        {"resourceType": "Patient", "identifier": [{"system": METEDA, "value": "1"}], "name": [{"family": "B", "given": ["A"]}]},
    ),
    "64 characters": of("9" * 64),
    "both systems": of("1", identifier=[{"system": CIP, "value": "1"}, {"system": METEDA, "value": "2"}]),
    "a year": of("1", birthDate="1980"),
    "a month": of("1", birthDate="1980-02"),
    "text beside a coding": bundle(
        header(),
        patient(),
        condition(code={"text": "DM1", "coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}),
    ),
    "full urls": {
        **bundle(),
        "entry": [{"fullUrl": f"urn:uuid:{one['resource']['id']}", "resource": one["resource"]} for one in bundle()["entry"]],
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_body_is_taken(client: Client, name: str) -> None:
    answer = client.create(GOOD[name])
    assert answer.status_code == 200, answer.text


def without(resource: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != name}


BAD: dict[str, tuple[Any, list[str]]] = {
    # structure
    "no JSON": (b"{", ["structure"]),
    "nothing": (b"", ["structure"]),
    "not UTF-8": (b'{"resourceType":"Bundle\xff"}', ["structure"]),
    "a list": (b"[]", ["structure"]),
    "a name twice": (b'{"resourceType":"Bundle","type":"message","type":"message"}', ["structure"]),
    "NaN": (b'{"resourceType":"Bundle","type":NaN}', ["structure"]),
    "nested": (b'{"resourceType":"Bundle","entry":' + b"[" * 60 + b"1" + b"]" * 60 + b"}", ["structure"]),
    "very nested": (b"[" * 100_000, ["structure"]),
    "a bare patient": (patient(), ["structure"]),
    "null": (of("1", gender=None), ["structure"]),
    "an empty string": (of("1", gender=""), ["structure"]),
    "an empty list": (of("1", telecom=[]), ["structure"]),
    "entry is an object": ({**bundle(), "entry": {"resource": patient()}}, ["structure"]),
    "a resource without type": (bundle(header(), patient(), without(condition(), "resourceType")), ["structure"]),
    "a resource is text": (
        {**bundle(), "entry": [{"resource": header()}, {"resource": patient()}, {"resource": "x"}]},
        ["structure"],
    ),
    "name is an object": (of("1", name={"family": "B", "given": ["A"]}), ["structure"]),
    "given is a string": (of("1", name=[{"family": "B", "given": "A"}]), ["structure"]),
    "active is text": (of("1", active="true"), ["structure"]),
    "clinicalStatus of R4": (
        bundle(header(), patient(), condition(clinicalStatus={"coding": [{"code": "active"}]})),
        ["structure"],
    ),
    # required
    "no header": (bundle(patient()), ["required"]),
    "no patient": (bundle(header()), ["required"]),
    "no entry": (without(bundle(), "entry"), ["required"]),
    "no type": (without(bundle(), "type"), ["required"]),
    "no event": (bundle(without(header(), "event"), patient()), ["required"]),
    "no timestamp": (bundle(without(header(), "timestamp"), patient()), ["required"]),
    "no source": (bundle(without(header(), "source"), patient()), ["required"]),
    "no endpoint": (bundle({**header(), "source": {"software": "x"}}, patient()), ["required"]),
    "no identifier": (bundle(header(), without(patient(), "identifier")), ["required"]),
    "no system": (of("1", identifier=[{"value": "1"}]), ["required"]),
    "no value": (of("1", identifier=[{"system": CIP}]), ["required"]),
    "no name": (bundle(header(), without(patient(), "name")), ["required"]),
    "no family": (of("1", name=[{"given": ["A"]}]), ["required"]),
    "no given": (of("1", name=[{"family": "B"}]), ["required"]),
    "no clinicalStatus": (bundle(header(), patient(), without(condition(), "clinicalStatus")), ["required"]),
    "no code": (bundle(header(), patient(), without(condition(), "code")), ["required"]),
    "no subject": (bundle(header(), patient(), without(condition(), "subject")), ["required"]),
    "two things missing": (bundle(header(), without(without(patient(), "identifier"), "name")), ["required", "required"]),
    # invalid
    "another bundle type": ({**bundle(), "type": "transaction"}, ["invalid"]),
    "a total": ({**bundle(), "total": 3}, ["invalid"]),
    "a request in an entry": (
        {**bundle(), "entry": [{**one, "request": {"method": "POST", "url": "Patient"}} for one in bundle()["entry"]]},
        ["invalid"] * 3,
    ),
    "header second": (bundle(patient(), header()), ["invalid"]),
    "two headers": (bundle(header(), header(), patient()), ["invalid"]),
    "two patients": (bundle(header(), patient(), patient()), ["invalid"]),
    "another resource": (bundle(header(), patient(), {"resourceType": "Observation"}), ["invalid"]),
    "another event": (
        bundle({**header(), "event": {"system": "http://hl7.org/fhir/message-events", "code": "x"}}, patient()),
        ["invalid"],
    ),
    "R4's eventCoding": (
        bundle({**without(header(), "event"), "eventCoding": {"code": "x"}}, patient()),
        ["invalid", "required"],
    ),
    "a timestamp without offset": (bundle({**header(), "timestamp": "2024-05-02T10:15:30"}, patient()), ["invalid"]),
    "a timestamp of no day": (bundle({**header(), "timestamp": "2024-02-30T10:15:30Z"}, patient()), ["invalid"]),
    "another profile": (
        bundle(header(), patient(meta={"profile": ["http://hl7.org/fhir/StructureDefinition/Patient"]})),
        ["invalid"],
    ),
    "another system": (of("1", identifier=[{"system": "urn:oid:2.16.840.1.113883.2.4.6.3", "value": "1"}]), ["invalid"]),
    "one good, one other system": (
        of("1", identifier=[{"system": CIP, "value": "1"}, {"system": "urn:oid:1.2", "value": "1"}]),
        ["invalid"],
    ),
    "a gender": (of("1", gender="vrouw"), ["invalid"]),
    "a birth date": (of("1", birthDate="19800203"), ["invalid"]),
    "no such day": (of("1", birthDate="1981-02-29"), ["invalid"]),
    "a birth time": (of("1", birthDate="1980-02-03T10:00:00Z"), ["invalid"]),
    "a telecom system": (of("1", telecom=[{"system": "telefoon", "value": "1"}]), ["invalid"]),
    "a telecom use": (of("1", telecom=[{"system": "phone", "value": "1", "use": "PRN"}]), ["invalid"]),
    "a telecom without system": (of("1", telecom=[{"value": "1"}]), ["invalid"]),
    "an email": (of("1", telecom=[{"system": "email", "value": "ana"}]), ["invalid"]),
    "a name use": (of("1", name=[{"use": "L", "family": "B", "given": ["A"]}]), ["invalid"]),
    "an id": (bundle(header(), patient(id="a_b")), ["invalid"]),
    "managingOrganization in v1": (of("1", managingOrganization={"reference": "Organization/1"}), ["invalid"]),
    **{
        f"Patient.{name}": (of("1", **{name: value}), ["invalid"])
        for name, value in {
            "address": [{"city": "Delft"}],
            "deceasedBoolean": False,
            "maritalStatus": {"text": "M"},
            "contact": [{"name": {"text": "x"}}],
            "communication": [{"language": {"text": "nl"}}],
            "multipleBirthBoolean": True,
            "generalPractitioner": [{"reference": "Practitioner/1"}],
            "link": [{"other": {"reference": "Patient/2"}, "type": "replaces"}],
            "text": {"status": "empty"},
            "extension": [{"url": "http://example.org", "valueString": "x"}],
            "_birthDate": {"extension": [{"url": "http://example.org"}]},
            "surname": "x",
        }.items()
    },
    **{
        f"Condition.{name}": (bundle(header(), patient(), condition(**{name: value})), ["invalid"])
        for name, value in {
            "verificationStatus": "confirmed",
            "identifier": [{"value": "1"}],
            "category": [{"text": "x"}],
            "severity": {"text": "x"},
            "bodySite": [{"text": "x"}],
            "context": {"reference": "Encounter/1"},
            "onsetDateTime": "2020",
            "onsetString": "x",
            "abatementDateTime": "2020",
            "assertedDate": "2020",
            "asserter": {"reference": "Practitioner/1"},
            "stage": {"summary": {"text": "x"}},
            "clinicalStatus": "confirmed",
        }.items()
    },
    "coding.version": (
        bundle(
            header(),
            patient(),
            condition(code={"coding": [{"system": "http://snomed.info/sct", "code": "46635009", "version": "1"}]}),
        ),
        ["invalid"],
    ),
    "an ICD-10 code": (
        bundle(header(), patient(), condition(code={"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "E10.9"}]})),
        ["invalid"],
    ),
    "another disease": (
        bundle(header(), patient(), condition(code={"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]})),
        ["invalid"],
    ),
    "code.text alone": (bundle(header(), patient(), condition(code={"text": "DM1"})), ["invalid"]),
    "a subject elsewhere": (bundle(header(), patient(), condition(subject={"reference": "Patient/other"})), ["invalid"]),
    "a full url twice": (
        {**bundle(), "entry": [{"fullUrl": "urn:uuid:1", "resource": one["resource"]} for one in bundle()["entry"]]},
        ["invalid"],
    ),
    # too long
    "65 characters": (of("9" * 65), ["too-long"]),
    "a large body": (of("1", name=[{"family": "B" * 1_000_001, "given": ["A"]}]), ["too-long"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_a_400_with_its_issue_codes_and_no_effect(roche: RocheSandbox, client: Client, name: str) -> None:
    body, expected = BAD[name]
    answer = client.create(body)
    assert (answer.status_code, codes(answer)) == (400, expected), answer.text
    assert [(one.effect, one.status, list(one.issues)) for one in roche.log] == [("nothing", 400, expected)]


def test_no_issue_text_repeats_what_was_sent(client: Client) -> None:
    body = of("CANARY1", gender="CANARY2", canary3="CANARY3", telecom=[{"system": "CANARY4", "value": "CANARY5"}])
    assert "CANARY" not in client.create(body).text.upper()


def test_an_update_is_checked_as_a_create_is(client: Client) -> None:
    client.create()
    assert codes(client.update("12345678Z", of("12345678Z", gender="vrouw"))) == ["invalid"]


# section 5, where brief and found differ or the dossier infers: each value of each knob


@pytest.mark.parametrize(
    ("knob", "value", "body"),
    [
        ("message_header", "optional", bundle(patient())),
        ("message_header", "anywhere", bundle(patient(), header())),
        ("extra_elements", "accepted", of("1", address=[{"city": "Delft"}])),
        ("profiles", "ignored", bundle(header(), patient(meta={"profile": ["http://example.org"]}))),
        ("references", "ignored", bundle(header(), patient(), condition(subject={"reference": "Patient/other"}))),
        ("code_text_only", "accepted", bundle(header(), patient(), condition(code={"text": "DM1"}))),
        (
            "diabetes_codes",
            "38341003,46635009",
            bundle(header(), patient(), condition(code={"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]})),
        ),
    ],
)
def test_a_loosening_knob(start: Start, knob: str, value: str, body: dict[str, Any]) -> None:
    roche = start()
    with Client(roche) as client:
        assert client.create(body).status_code == 400
        roche.set(**{knob: value})
        assert client.create(body).status_code == 200


@pytest.mark.parametrize(
    ("knob", "value", "body", "expected"),
    [
        ("condition", "required", bundle(header(), patient()), "required"),
        ("profiles", "required", bundle(header(), without(patient(), "meta")), "required"),
        ("full_url", "invalid", GOOD["full urls"], "invalid"),
        ("diabetes_codes", "44054006", bundle(), "invalid"),
        ("most_bytes", "600", bundle(), "too-long"),
    ],
)
def test_a_tightening_knob(start: Start, knob: str, value: str, body: dict[str, Any], expected: str) -> None:
    roche = start()
    with Client(roche) as client:
        roche.set(**{knob: value})
        assert codes(client.create(body)) == [expected]
        roche.set(**{knob: type(roche.knobs)().model_dump()[knob]})
        assert client.create(body).status_code == 200


def test_found_zero_elements_of_a_condition_stay_refused_where_inferred_ones_are_accepted(start: Start) -> None:
    with Client(start(extra_elements="accepted")) as client:
        assert codes(client.create(bundle(header(), patient(), condition(onsetDateTime="2020")))) == ["invalid"]


def test_a_long_identifier_may_be_invalid_and_a_large_body_413(start: Start) -> None:
    with Client(start(identifier_too_long="invalid", too_long_status=413, most_bytes=2000)) as client:
        assert codes(client.create(of("9" * 65))) == ["invalid"]
        assert client.create(b" " * 2001).status_code == 413


def test_managing_organization_is_taken_in_v2(client: Client) -> None:
    assert client.create(of("1", managingOrganization={"reference": "Organization/1"}), api="v2").status_code == 201


def test_a_chunked_body_is_read(client: Client) -> None:
    pieces = json.dumps(bundle()).encode()
    answer = client.session.post(
        f"{client.sandbox.base_url}/Bundle",
        data=(pieces[i : i + 100] for i in range(0, len(pieces), 100)),
        headers={**client.headers, "x-origin-request-id": "5109d51b-421e-4746-b673-16e3fe2b3442"},
        timeout=60,
    )
    assert answer.status_code == 200
