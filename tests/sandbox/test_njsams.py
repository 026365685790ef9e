"""NJSAMS's stand-in as the dossier has it: transactions, labels, elements, reads and searches with their lag. Over real TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SettingsError
from pipeline.sandbox.log import CREATED, NOTHING, UPDATED
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from tests.sandbox.njsams_client import (
    COVERAGE,
    ENCOUNTER,
    IG,
    LABEL,
    PATIENT,
    Client,
    Tree,
    codes,
    coverage,
    creates,
    encounter,
    ids,
    meta,
    patient,
    updates,
)

Start = Callable[..., NjsamsSandbox]


@pytest.fixture
def client(njsams: NjsamsSandbox) -> Iterator[Client]:
    with Client(njsams) as client:
        yield client


def changed(tree: Tree, path: str, value: object) -> Tree:
    """The tree with one value changed, or None: taken away; the path by dots."""
    *way, last = path.split(".")
    place: Any = tree
    for one in way:
        place = place[int(one) if one.isdecimal() else one]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return tree


# transactions


def test_a_create_gives_an_id_for_each_entry_in_order(njsams: NjsamsSandbox, client: Client) -> None:
    answer = client.create()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json+fhir")
    responses = [one["response"] for one in answer.json()["entry"]]
    assert [one["status"] for one in responses] == ["201 Created"] * 3
    kinds = [one["location"].removeprefix(njsams.base_url).split("/")[1] for one in responses]
    assert kinds == ["Patient", "Encounter", "Coverage"]
    effect = njsams.log.effects(operation="create")[0]
    assert (effect.effect, effect.identifier, effect.partner_id) == (CREATED, "TEST-1", ids(answer)[0])
    assert [(one.type, one.id, one.keys) for one in effect.written] == [
        ("Patient", ids(answer)[0], ("TEST-1",)),
        ("Encounter", ids(answer)[1], ("urn:test:visit|V1",)),
        ("Coverage", ids(answer)[2], ("Organization/12|P1",)),
    ]
    assert effect.written[1].resource["subject"] == {"reference": f"Patient/{ids(answer)[0]}"}


def test_an_update_of_known_ids_is_200_and_another_encounter_can_name_the_patient(njsams: NjsamsSandbox, client: Client) -> None:
    wanted, visit, _ = ids(client.create())
    answer = client.update((wanted, patient(gender="male")), (visit, encounter(f"Patient/{wanted}", status="finished")))
    assert [one["response"]["status"] for one in answer.json()["entry"]] == ["200 OK"] * 2
    assert ids(answer) == [wanted, visit]
    assert client.create(encounter(f"Patient/{wanted}", "V2")).status_code == 200
    effects = njsams.log.effects()
    assert [one.effect for one in effects] == [CREATED, UPDATED, CREATED]
    assert [one.identifier for one in effects] == ["TEST-1"] * 3


GOOD = [
    ("entry.0.resource.id", "any"),
    ("entry.0.resource.meta.profile", None),
    ("entry.0.resource.birthDate", None),
    ("entry.0.resource.name", [{"given": ["Pat"]}]),
    ("entry.0.resource._birthDate", {"extension": [{"url": "urn:x", "valueCode": "a"}]}),
    ("entry.1.resource.period", {"start": "2024-05-02", "end": "2024-05"}),
    ("entry.2.resource.contained", [{"resourceType": "Organization", "id": "o", "name": "x"}]),
    ("id", "b1"),
    ("entry.1.resource.period", {"start": "2024-05-02T00:30:00+02:00", "end": "2024-05-01T23:00:00-04:00"}),
]

BAD = [
    ("type", "message", 400),
    ("type", "batch", 400),
    ("entry", None, 400),
    ("entry.0.request", None, 400),
    ("entry.0.resource", None, 400),
    ("entry.0.fullUrl", None, 400),
    ("entry.0.fullUrl", "https://example.org/Patient/1", 400),
    ("entry.1.fullUrl", PATIENT, 400),
    ("entry.0.request.method", "PUT", 400),
    ("entry.0.request.method", "DELETE", 400),
    ("entry.0.request.url", "Patient/1", 400),
    ("entry.0.request.url", "Encounter", 400),
    ("entry.0.request.ifNoneExist", "identifier=1", 400),
    ("entry.0.resource.resourceType", "Practitioner", 400),
    ("surprise", True, 400),
    ("entry.0.resource.meta.security", None, 403),
    ("entry.2.resource.meta.security", None, 403),
    ("entry.1.resource.meta", None, 403),
    ("entry.1.resource.meta.security.0.code", "999999", 403),
    ("entry.1.resource.meta.security.0.system", f"{IG}/security/provider-id", 403),
    ("entry.1.resource.meta.security", [LABEL, {**LABEL, "code": "999999"}], 403),
    ("entry.0.resource.meta.profile", [f"{IG}/StructureDefinition/NJSAMSBasePatient"], 422),
    ("entry.0.resource.identifier", None, 422),
    ("entry.0.resource.identifier.0.system", "urn:other", 422),
    ("entry.0.resource.identifier.1.system", "urn:other", 422),
    ("entry.0.resource.identifier.1.value", None, 422),
    ("entry.0.resource.name", None, 422),
    ("entry.0.resource.gender", None, 422),
    ("entry.0.resource.gender", "F", 422),
    ("entry.0.resource.birthDate", "1980-13-01", 422),
    ("entry.0.resource.surprise", True, 422),
    ("entry.0.resource.gender", ["female"], 422),
    ("entry.0.resource.contained", [{"resourceType": "Organization", "meta": {"security": [LABEL]}}], 422),
    ("entry.1.resource.status", "I", 422),
    ("entry.1.resource.class.code", "I", 422),
    ("entry.1.resource.class", None, 422),
    ("entry.1.resource.type", None, 422),
    ("entry.1.resource.serviceType", None, 422),
    ("entry.1.resource.serviceType.coding.0.code", "19", 422),
    ("entry.1.resource.subject", None, 422),
    ("entry.1.resource.subject.reference", "urn:uuid:99999999-9999-4999-8999-999999999999", 422),
    ("entry.1.resource.subject.reference", "Patient/never-given", 422),
    ("entry.1.resource.period", None, 422),
    ("entry.1.resource.period", {"start": "2024-05-02", "end": "2024-05-01"}, 422),
    ("entry.1.resource.period", {"start": "yesterday"}, 422),
    ("entry.2.resource.status", None, 422),
    ("entry.2.resource.beneficiary", None, 422),
    ("entry.2.resource.payor", None, 422),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_is_taken(client: Client, path: str, value: object) -> None:
    assert client.send("POST", "/Bundle", changed(creates(), path, value)).status_code == 200


@pytest.mark.parametrize(("path", "value", "status"), BAD)
def test_what_is_refused_takes_no_effect_at_all(
    njsams: NjsamsSandbox, client: Client, path: str, value: object, status: int
) -> None:
    answer = client.send("POST", "/Bundle", changed(creates(), path, value))
    assert answer.status_code == status
    assert (codes(answer)[0] == "forbidden") == (status == 403)
    assert [one.effect for one in njsams.log] == [NOTHING]
    assert njsams.patients() == 0


def test_an_update_of_an_id_that_it_never_gave_is_404_and_the_others_stay_as_they_were(
    client: Client, njsams: NjsamsSandbox
) -> None:
    wanted = ids(client.create(patient()))[0]
    answer = client.update((wanted, patient(gender="male")), ("never-given", encounter()))
    assert (answer.status_code, codes(answer)) == (404, ["not-found"])
    assert [one.effect for one in njsams.log] == [CREATED, NOTHING]
    njsams.set(update_unknown="created")
    answer = client.update(("never-given", patient("TEST-2")))
    assert answer.json()["entry"][0]["response"]["status"] == "201 Created"


def test_an_updates_own_id_must_be_that_of_its_url(client: Client, njsams: NjsamsSandbox) -> None:
    wanted = ids(client.create(patient()))[0]
    assert client.update((wanted, patient(id="other"))).status_code == 400
    assert client.update((wanted, patient(id=wanted))).status_code == 200
    njsams.set(update_id="required")
    assert client.update((wanted, patient())).status_code == 400


def test_the_same_resource_twice_in_one_update_is_refused(client: Client) -> None:
    wanted = ids(client.create(patient()))[0]
    tree = updates((wanted, patient()), (wanted, patient()))
    tree["entry"][1]["fullUrl"] = COVERAGE
    assert client.send("PUT", "/Bundle", tree).status_code == 400


def test_mixed_verbs_by_a_knob(client: Client, njsams: NjsamsSandbox) -> None:
    wanted = ids(client.create(patient()))[0]
    mixed = updates((wanted, patient()))
    mixed["entry"] += creates(encounter())["entry"]
    assert client.send("POST", "/Bundle", mixed).status_code == 400
    njsams.set(mixed="accepted")
    answer = client.send("POST", "/Bundle", mixed)
    assert [one["response"]["status"] for one in answer.json()["entry"]] == ["200 OK", "201 Created"]


def test_a_second_create_is_taken_without_a_word_or_409(client: Client, njsams: NjsamsSandbox) -> None:
    wanted = ids(client.create())[0]
    assert client.create().status_code == 200
    assert njsams.log.creates() == {"TEST-1": 2}
    njsams.set(duplicate="conflict")
    for one in (patient(), encounter(f"Patient/{wanted}"), coverage(f"Patient/{wanted}")):
        answer = client.create(one)
        assert (answer.status_code, codes(answer)) == (409, ["duplicate"])
    assert client.create(patient("TEST-2")).status_code == 200


@pytest.mark.parametrize(
    ("knobs", "form"),
    [
        ({}, "{base}/Patient/{id}"),
        ({"location_history": "with"}, "{base}/Patient/{id}/_history/1"),
        ({"location": "relative"}, "Patient/{id}"),
        ({"location": "path", "location_history": "with"}, "/NJSAMS-FHIR-API/Patient/{id}/_history/1"),
    ],
)
def test_the_forms_of_a_location(begin: Start, knobs: Tree, form: str) -> None:
    sandbox = begin(**knobs)
    with Client(sandbox) as client:
        answer = client.create(patient())
    wanted = sandbox.log.effects()[0].partner_id
    assert answer.json()["entry"][0]["response"]["location"] == form.format(base=sandbox.base_url, id=wanted)


# media types, methods, tokens


@pytest.mark.parametrize(
    ("media", "strict", "loose"), [("application/fhir+json", 415, 200), ("application/json", 415, 200), ("text/xml", 415, 415)]
)
def test_the_media_type_of_a_body(client: Client, njsams: NjsamsSandbox, media: str, strict: int, loose: int) -> None:
    assert client.create(patient(), Content_Type=media).status_code == strict
    njsams.set(content_type="any", answer_media="application/fhir+json")
    answer = client.create(patient(), Content_Type=media)
    assert (answer.status_code, answer.headers["Content-Type"]) == (loose, "application/fhir+json")


def test_accept_by_a_knob(client: Client, njsams: NjsamsSandbox) -> None:
    assert client.get("/Patient", Accept="application/fhir+json").status_code == 200
    njsams.set(accept="checked")
    assert client.get("/Patient", Accept="application/fhir+json").status_code == 406
    assert client.get("/Patient", Accept="application/json+fhir, */*").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/Patient", 405),
        ("PUT", "/Patient/1", 405),
        ("DELETE", "/Patient/1", 405),
        ("PATCH", "/Encounter/1", 405),
        ("GET", "/Bundle", 405),
        ("PUT", "/Bundle/1", 405),
        ("POST", "", 404),
        ("GET", "/Practitioner/1", 404),
    ],
)
def test_only_bundles_are_written(client: Client, method: str, path: str, status: int) -> None:
    answer = client.send(method, path, patient())
    assert (answer.status_code, "Allow" in answer.headers) == (status, status == 405)


def test_a_body_that_is_too_long_or_no_json(client: Client, njsams: NjsamsSandbox) -> None:
    assert client.send("POST", "/Bundle", b"{").status_code == 400
    njsams.set(most_bytes=100)
    assert client.create().status_code == 413


# the read side


def test_what_is_written_can_be_read_after_the_lag_and_not_before(client: Client, njsams: NjsamsSandbox) -> None:
    wanted, visit, _ = ids(client.create())
    assert client.get(f"/Patient/{wanted}").status_code == 404
    njsams.set(clock_hours=23.9)
    assert client.get("/Patient?identifier=TEST-1").json()["total"] == 0
    assert client.update((wanted, patient(gender="male"))).status_code == 200
    njsams.set(clock_hours=24.1)
    assert client.get(f"/Patient/{wanted}").json()["gender"] == "female"
    assert client.get(f"/Encounter/{visit}").json()["id"] == visit
    njsams.set(clock_hours=48.1)
    assert client.get(f"/Patient/{wanted}").json()["gender"] == "male"


@pytest.mark.parametrize(
    ("knob", "status", "code"), [("accepted", 200, None), ("not-found", 404, "not-found"), ("conflict", 409, "conflict")]
)
def test_an_update_of_what_cannot_be_read_yet(
    client: Client, njsams: NjsamsSandbox, knob: str, status: int, code: str | None
) -> None:
    njsams.set(update_unprocessed=knob)
    wanted = ids(client.create(patient()))[0]
    answer = client.update((wanted, patient()))
    assert answer.status_code == status
    assert code is None or codes(answer) == [code]
    njsams.set(clock_hours=24.1)
    assert client.update((wanted, patient())).status_code == 200


SEARCHES = [
    ("/Patient?family=exam", 1),
    ("/Patient?family=xample", 0),
    ("/Patient?identifier=TEST-1", 1),
    (f"/Patient?identifier={IG}/client-id|TEST-1", 1),
    ("/Patient?identifier=urn:other|TEST-1", 0),
    ("/Encounter?subject=Patient/{0}", 2),
    ("/Encounter?subject={0}", 2),
    ("/Encounter?subject=Patient/other", 0),
    ("/Encounter?date=2024-05-02", 1),
    ("/Encounter?date=2024-05-04", 2),
    ("/Encounter?date=2024-05-01", 0),
    ("/Encounter?date=ge2024-06-01", 1),
    ("/Encounter?date=lt2024-05-03", 1),
    ("/Encounter?subject=Patient/{0}&date=2024-05-02", 1),
    ("/Coverage?beneficiary=Patient/{0}", 1),
    ("/Coverage?payor=Organization/12", 1),
    ("/Coverage?payor=Organization/13", 0),
]


@pytest.mark.parametrize(("path", "number"), SEARCHES)
def test_searches(begin: Start, path: str, number: int) -> None:
    with Client(begin(visible_after_hours=0)) as client:
        wanted = ids(client.create())[0]
        later = {"start": "2024-05-03T10:00:00Z", "end": "2024-05-05T10:00:00Z"}
        client.create(encounter(f"Patient/{wanted}", "V2", period=later))
        found = client.get(path.format(wanted)).json()
    assert (found["type"], found["total"], len(found.get("entry", []))) == ("search-result", number, number)


def test_encounters_bring_their_subject_once_when_asked(begin: Start) -> None:
    with Client(begin(visible_after_hours=0, search_type="searchset")) as client:
        wanted = ids(client.create())[0]
        client.create(encounter(f"Patient/{wanted}", "V2"))
        found = client.get("/Encounter?_include=Encounter:subject").json()
    assert found["type"] == "searchset"
    assert [one["search"]["mode"] for one in found["entry"]] == ["match", "match", "include"]
    assert found["entry"][2]["resource"]["id"] == wanted


def test_pages_are_linked_until_the_last(begin: Start) -> None:
    with Client(begin(visible_after_hours=0, page_size=2)) as client:
        for number in range(5):
            client.create(patient(f"TEST-{number}"))
        url, seen, pages = "/Patient?family=example", [], 0
        while url:
            page = client.get(url).json()
            seen += [one["resource"]["identifier"][0]["value"] for one in page["entry"]]
            url = next((one["url"] for one in page["link"] if one["relation"] == "next"), "")
            pages += 1
        assert (seen, pages) == ([f"TEST-{number}" for number in range(5)], 3)
        assert len(client.get("/Patient?_count=1").json()["entry"]) == 1


@pytest.mark.parametrize("query", ["_count=x", "_offset=-1"])
def test_a_search_that_cannot_be_understood(client: Client, query: str) -> None:
    assert client.get(f"/Patient?{query}").status_code == 400


def test_an_unknown_parameter_by_a_knob(client: Client, njsams: NjsamsSandbox) -> None:
    assert client.get("/Patient?shoe=9").status_code == 200
    njsams.set(unknown_parameter="refused")
    assert client.get("/Patient?shoe=9").status_code == 400


def test_the_capability_statement_is_public_and_says_what_the_knob_says(client: Client, njsams: NjsamsSandbox) -> None:
    client.token = None
    tree = client.get("/metadata?_format=application/json").json()
    listed = {one["type"]: [each["code"] for each in one["interaction"]] for one in tree["rest"][0]["resource"]}
    both = ["read", "search-type"]
    assert listed == {"Patient": both, "Encounter": both, "Coverage": both, "Bundle": ["create", "update"]}
    assert tree["fhirVersion"] == "4.0.1"
    njsams.set(capability="no_writes")
    assert "Bundle" not in client.get("/metadata").text


# memory


def test_it_starts_again_with_all_that_it_had(folder: Path) -> None:
    with NjsamsSandbox(folder, {"clock_hours": 30}) as before, Client(before) as client:
        wanted = ids(client.create())[0]
        issued = client.by_secret().json()["access_token"]
        ended = client.by_code().json()["access_token"]
        before.revoke()
        kept = client.by_secret().json()["access_token"]
    with NjsamsSandbox(folder, {"duplicate": "conflict", "clock_hours": 53.9}) as after, Client(after) as client:
        assert client.get(f"/Patient/{wanted}").status_code == 404
        after.set(clock_hours=54.1)
        assert client.get(f"/Patient/{wanted}").status_code == 200
        assert client.create(patient()).status_code == 409
        for token, status in ((issued, 401), (ended, 401), (kept, 200)):
            client.token = token
            assert client.get("/Patient").status_code == status


def test_an_order_or_a_knob_that_is_not_there_is_refused(njsams: NjsamsSandbox) -> None:
    with pytest.raises(SettingsError, match="there are revoke, keys"):
        njsams.tell("explode")
    with pytest.raises(SettingsError, match="no such knob"):
        njsams.set(message_header="first")
    with pytest.raises(SettingsError, match="a private key among them"):
        njsams.register_keys({"keys": [{"kty": "EC", "d": "x"}]})


def test_labels_and_profiles_can_be_let_go(begin: Start) -> None:
    sandbox = begin(label="ignored", profiles="required", required_identifiers="client-id", other_types="accepted")
    with Client(sandbox) as client:
        assert client.create(patient(meta={})).status_code == 400  # an empty object is no JSON of FHIR
        bare = patient(meta={"profile": meta("Patient")["profile"]})
        bare["identifier"].pop()
        other = {
            "resourceType": "Organization",
            "meta": {"profile": [f"{IG}/StructureDefinition/NJSAMSOrganization"]},
            "name": "x",
        }
        tree = creates(bare, other)
        tree["entry"][1]["fullUrl"] = ENCOUNTER
        assert client.send("POST", "/Bundle", tree).status_code == 200
