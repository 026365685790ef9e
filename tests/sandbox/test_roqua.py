"""RoQua's stand-in as the dossier has it: documents, responses, reads. Over real TLS, long lists without sockets."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.demo.appointments import free_port
from pipeline.errors import SettingsError
from pipeline.sandbox.log import CREATED, NOTHING, UPDATED
from pipeline.sandbox.process import SandboxProcess
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from tests.sandbox.roqua_client import BUNDLE, CODES, ITEMS, ZPM, Client, Direct, changed, document, submission

Start = Callable[..., RoquaSandbox]


@pytest.fixture
def client(roqua: RoquaSandbox) -> Iterator[Client]:
    with Client(roqua) as client:
        yield client


# documents


def test_the_published_document_makes_a_response_and_stands_in_the_log(roqua: RoquaSandbox, client: Client) -> None:
    answer = client.put()
    assert (answer.status_code, answer.json()["id"]) == (201, BUNDLE)
    effect = roqua.log.effects(operation="document")[0]
    assert (effect.effect, effect.identifier, effect.partner_id, effect.bundle_id) == (CREATED, "2075", "2075", BUNDLE)
    (written,) = effect.written
    stored: dict[str, Any] = written.resource
    assert (written.type, written.keys) == ("Response", (BUNDLE,))
    assert (stored["dossier"], stored["external_id"], stored["questionnaire_key"]) == ("2075", BUNDLE, "honos_plus")
    assert sum(value for value in stored["values"].values() if isinstance(value, int)) == 28


def test_the_same_id_again_changes_the_response(roqua: RoquaSandbox, client: Client) -> None:
    client.put()
    corrected = changed(
        document(), "entry.1.resource.valueQuantity", {"value": 4, "system": f"{ZPM}/HoNOSAnswer", "code": "HA05"}
    )
    assert client.put(corrected).status_code == 200
    (one,) = roqua.dossiers["2075"]
    assert (one["id"], one["values"]["v_1"]) == (1, 4)
    assert [each.effect for each in roqua.log.effects()] == [CREATED, UPDATED]


GOOD = [
    ("identifier", {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{BUNDLE}"}),
    ("entry.8.resource.component", None),
    ("entry.1.resource.effectiveDateTime", "2026-04-19T12:30:00.125Z"),
    ("entry.0.resource.author.0.display", None),
]
BAD = [
    ("id", "30002596-395f-430f-aac8-abdb6de37105"),
    ("id", None),
    ("type", "message"),
    ("type", None),
    ("entry", None),
    ("entry", [1]),
    ("entry.0", None),
    ("entry.19", None),
    ("entry.7", None),
    ("entry.0.resource.status", "preliminary"),
    ("entry.0.resource.subject.identifier", None),
    ("entry.0.resource.subject.identifier.system", None),
    ("entry.0.resource.subject.reference", "urn:uuid:1"),
    ("entry.0.resource.author", None),
    ("entry.0.resource.author.0.identifier.value", None),
    ("entry.0.resource.section.0.entry.3", None),
    ("entry.0.resource.type.text", "HoNOS"),
    ("entry.0.resource.date", "2026-04-19T00:00:00+02:00"),
    ("entry.0.resource.meta.profile.0", "http://hl7.org/fhir/StructureDefinition/Composition"),
    ("entry.0.request", {"method": "PUT"}),
    ("entry.1.resource.id", "other"),
    ("entry.1.fullUrl", f"urn:uuid:{BUNDLE}"),
    ("entry.1.resource.status", "amended"),
    ("entry.1.resource.category", [{"text": "survey"}]),
    ("entry.1.resource.subject.reference", "Patient/other"),
    ("entry.1.resource.subject.display", None),
    ("entry.1.resource.effectiveDateTime", "2026-04-19"),
    ("entry.1.resource.effectiveDateTime", "2026-04-31T00:00:00+02:00"),
    ("entry.1.resource.code.coding.0.code", "HV20"),
    ("entry.1.resource.code.coding.0.code", "HV02"),
    ("entry.1.resource.code.coding.0.system", "urn:other"),
    ("entry.1.resource.valueQuantity", None),
    ("entry.1.resource.valueQuantity.value", 5),
    ("entry.1.resource.valueQuantity.value", True),
    ("entry.1.resource.valueQuantity.code", "HA02"),
    ("entry.1.resource.valueQuantity.system", "urn:other"),
    ("entry.1.resource.component", [{"code": {"text": "x"}}]),
    ("entry.8.resource.component.0.code.coding.0.code", "I9"),
    ("entry.8.resource.component.0.valueCodeableConcept.coding.0.code", "Z"),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_documents_that_are_taken(tmp_path: Path, path: str, value: object) -> None:
    assert Direct(tmp_path).put(changed(document(), path, value)).answer.status == 201


@pytest.mark.parametrize(("path", "value"), BAD)
def test_documents_that_are_refused(tmp_path: Path, path: str, value: object) -> None:
    direct = Direct(tmp_path)
    done = direct.put(changed(document(), path, value))
    assert (done.answer.status, done.effect, direct.roqua.count()) == (422, NOTHING, 0)
    assert json.loads(done.answer.body)["resourceType"] == "OperationOutcome"


def test_the_answer_names_the_items_that_are_missing(client: Client) -> None:
    bundle = document()
    del bundle["entry"][19], bundle["entry"][9]
    changed(bundle, "entry.0.resource.section.0.entry", bundle["entry"][0]["resource"]["section"][0]["entry"][:17])
    answer = client.put(bundle)
    assert answer.status_code == 422
    told = [(one["code"], one["details"]["text"]) for one in answer.json()["issue"]]
    assert ("required", "Bundle.entry: no answer to item 9, Q") in told


def test_the_loose_shape_asks_for_the_answers_alone(tmp_path: Path) -> None:
    bundle = document()
    for entry in bundle["entry"]:
        del entry["fullUrl"], entry["resource"]["meta"], entry["resource"]["id"]
    del bundle["entry"][0]["resource"]["section"]
    assert Direct(tmp_path).put(bundle).answer.status == 422
    assert Direct(tmp_path, document_shape="loose").put(bundle).answer.status == 201
    del bundle["entry"][4]
    done = Direct(tmp_path, document_shape="loose").put(bundle)
    assert done.answer.status == 422
    assert "no answer to item 4" in done.answer.body.decode()


def test_every_answer_code_is_five_times_the_question_plus_the_value(tmp_path: Path) -> None:
    direct, number = Direct(tmp_path), 0
    for index, item in enumerate(ITEMS):
        for value in range(5):
            number += 1
            quantity = {"value": value, "system": f"{ZPM}/HoNOSAnswer", "code": f"HA{number:02}"}
            bundle = changed(document(), f"entry.{index + 1}.resource.valueQuantity", quantity)
            assert direct.put(bundle).answer.status in {200, 201}, (item, value)
            wrong = "HA94" if quantity["code"] != "HA94" else "HA93"
            assert direct.put(changed(bundle, f"entry.{index + 1}.resource.valueQuantity.code", wrong)).answer.status == 422
    assert number == 95
    assert [one["resource"]["valueQuantity"]["code"] for one in document()["entry"][1:]] == CODES


@pytest.mark.parametrize(
    ("knobs", "statuses"),
    [
        ({"document_created": 200, "document_updated": 204}, [200, 204]),
        ({"document_again": "forbidden"}, [201, 403]),
        ({"document_again": "conflict"}, [201, 409]),
        ({"document_again": "twice"}, [201, 201]),
        ({"bundle_identifier": "required"}, [422, 422]),
        ({"known_dossiers": "1,2"}, [404, 404]),
        ({"known_dossiers": "1,2", "unknown_dossier": "invalid"}, [422, 422]),
        ({"known_dossiers": "1,2", "unknown_dossier": "created"}, [201, 200]),
        ({"dossier_system": "urn:other"}, [422, 422]),
        ({"professional_system": "urn:test:professional"}, [201, 200]),
    ],
)
def test_what_is_not_documented_of_documents_is_a_knob(tmp_path: Path, knobs: dict[str, Any], statuses: list[int]) -> None:
    direct = Direct(tmp_path, **knobs)
    assert [direct.put(document()).answer.status for _ in statuses] == statuses
    stored = len(direct.roqua.responses.of("2075"))
    assert stored == (2 if knobs.get("document_again") == "twice" else 1 if statuses[0] < 400 else 0)


def test_bodies_of_documents_are_a_knob(tmp_path: Path) -> None:
    told = {kind: Direct(tmp_path, document_body=kind).put(document()).answer.body for kind in ("empty", "text", "response")}
    assert (told["empty"], told["text"], json.loads(told["response"])["id"]) == (b"", b"OK", 1)
    wrong = changed(document(), "type", "message")
    assert Direct(tmp_path, document_errors="empty").put(wrong).answer.body == b""
    assert json.loads(Direct(tmp_path, document_errors="errors").put(wrong).answer.body) == {"errors": {"base": ["invalid"]}}


def test_a_document_is_json_and_not_fhir_json(client: Client) -> None:
    headers = {"Content-Type": "application/fhir+json"}
    answer = client.send("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", json.dumps(document()).encode(), headers=headers)
    assert answer.status_code == 415
    assert client.send("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", b"{").status_code == 400
    assert client.send("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", b" " * 1_000_001).status_code == 413


# responses


def test_a_post_is_201_with_the_response_and_an_empty_location(roqua: RoquaSandbox, client: Client) -> None:
    answer = client.post()
    assert (answer.status_code, answer.headers["Location"]) == (201, "")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache, no-store, max-age=0, must-revalidate"
    told = answer.json()
    assert (told["id"], told["external_id"], told["status"], told["completer_type"]) == (1, "x-1", "completed", "profess")
    assert (told["started_at"], told["completed_at"]) == ("2022-06-01T15:00:00.000+02:00", "2022-06-01T15:10:00.000+02:00")
    assert told["values"]["v_4"] == 4
    assert told["outcome"]["scores"]["tot"] | {"referenced_values": None} == {
        "score": True,
        "label": "Totaalscore",
        "value": 22,
        "norm": ">= 10",
        "interpretation": "Klinisch",
        "oru_flag": "HH",
        "global": True,
        "referenced_values": None,
    }
    assert [one["entered_by"] for one in roqua.dossiers["2075"]] == ["prof_1"]


def test_the_response_object_has_every_field_of_the_brief(client: Client) -> None:
    client.post()
    fields = (
        "id external_id respondent_id name questionnaire_name questionnaire_key open_from open_till requesters completer_type "
        "completed_at status completing_url values outcome flags textvars started_at measurement_id non_response_id"
    )
    (one,) = client.responses()
    assert set(fields.split()) <= set(one)
    assert set(one["outcome"]) == {"scores", "action", "alarm", "attention", "complete"}


def test_a_post_of_the_same_external_id_changes_the_response(roqua: RoquaSandbox, client: Client) -> None:
    client.post()
    answer = client.post(submission(answer_data={"v_1": "a4"}))
    assert (answer.status_code, answer.json()["id"], answer.json()["values"]) == (201, 1, {"v_1": 4})
    assert [one.effect for one in roqua.log.effects()] == [CREATED, UPDATED]
    assert client.post(dossier="9").json()["id"] == 2  # of another dossier it is another response


@pytest.mark.parametrize(("rule", "status", "value"), [("accepted", 200, 3), ("forbidden", 403, 1)])
def test_a_put_of_what_is_stored_by_both_known_rules(launch: Start, rule: str, status: int, value: int) -> None:
    with Client(launch(update_stored=rule)) as client:
        client.post()
        answer = client.update(body=submission(answer_data={"v_1": "a3"}))
        assert (answer.status_code, answer.content == b"") == (status, status == 403)
        assert client.responses()[0]["values"]["v_1"] == value


def test_a_put_fills_out_a_response_that_waits(launch: Start) -> None:
    roqua = launch(update_stored="forbidden", path_id="either")
    roqua.invite("2075", requesters=["prof_2"])
    with Client(roqua) as client:
        (waiting,) = client.responses()
        assert (waiting["status"], waiting["values"], waiting["completed_at"]) == ("open", {}, None)
        assert waiting["requesters"] == [{"epd_id": "prof_2"}]
        assert waiting["completing_url"]
        assert client.update("1").status_code == 200
        assert client.update("1").status_code == 403


def test_a_delete_is_204_and_then_404(roqua: RoquaSandbox, client: Client) -> None:
    client.post()
    client.put()
    assert [client.delete().status_code for _ in range(2)] == [204, 404]
    assert client.delete(BUNDLE).status_code == 204  # what a document made was uploaded too
    assert client.responses() == []
    assert [one.effect for one in roqua.log.effects(operation="delete")] == ["deleted", NOTHING, "deleted"]


def test_what_roqua_made_itself_cannot_be_deleted(launch: Start) -> None:
    roqua = launch(path_id="internal")
    roqua.complete("2075", values={"v_1": 1})
    with Client(roqua) as client:
        assert client.delete("1").status_code == 403
        assert client.responses()[0]["external_id"] is None


def test_404s(client: Client) -> None:
    assert client.update("never-sent").status_code == 404
    assert client.post(submission(questionnaire_key="sf36")).status_code == 404
    assert client.update(body=submission(questionnaire_key="sf36")).status_code == 404
    assert client.send("GET", "/api/v1/dossiers//responses").status_code == 404
    assert client.send("GET", "/api/v1/dossier/2075/responses").status_code == 404
    assert client.send("POST", f"/medmij_fhir/Bundle/{BUNDLE}", document()).status_code == 404
    assert client.send("PATCH", "/api/v1/dossiers/2075/responses/x-1", {}).status_code == 404


def test_a_trailing_slash_and_a_suffix_are_tolerated(client: Client) -> None:
    paths = ("responses/", "responses.json", "responses")
    assert [client.send("POST", f"/api/v1/dossiers/2075/{one}", submission()).status_code for one in paths] == [201] * 3
    assert client.send("PUT", "/api/v1/dossiers/2075/responses/x-1.json", submission()).status_code == 200


WRONG = [
    ("questionnaire_key", None, {"questionnaire_key": ["missing"]}),
    ("external_id", None, {"external_id": ["missing"]}),
    ("external_id", "", {"external_id": ["blank"]}),
    ("external_id", 5, {"external_id": ["invalid"]}),
    ("answer_data", None, {"answer_data": ["missing"]}),
    ("answer_data", {}, {"answer_data": ["blank"]}),
    ("answer_data", [1], {"answer_data": ["invalid"]}),
    ("answer_data", {"v_1": "a7"}, {"answer_data": ["invalid"]}),
    ("answer_data", {"v_1": 2}, {"answer_data": ["invalid"]}),
    ("answer_data", {"v_99": "a1"}, {"answer_data": ["invalid"]}),
    ("started_at", 1, {"started_at": ["invalid"]}),
    ("filled_out_at", "2022-06-01", {"filled_out_at": ["invalid"]}),
    ("respondent_type", "parent", {"respondent_type": ["invalid"]}),
    ("entered_by", 5, {"entered_by": ["invalid"]}),
]


@pytest.mark.parametrize(("name", "value", "errors"), WRONG)
def test_422_says_field_and_keyword(tmp_path: Path, name: str, value: object, errors: dict[str, Any]) -> None:
    direct = Direct(tmp_path)
    done = direct.post(
        {**{key: one for key, one in submission().items() if key != name}, **({} if value is None else {name: value})}
    )
    assert (done.answer.status, json.loads(done.answer.body), done.effect) == (422, {"errors": errors}, NOTHING)


def test_422_in_its_other_shapes(tmp_path: Path) -> None:
    wrong = submission(answer_data={})
    told = {shape: Direct(tmp_path, errors=shape).post(wrong).answer for shape in ("strings", "nested", "empty", "html")}
    assert {one.status for one in told.values()} == {422}
    assert json.loads(told["strings"].body) == {"errors": {"answer_data": "blank"}}
    assert json.loads(told["nested"].body) == {"errors": {"response": {"answer_data": ["blank"]}}}
    assert (told["empty"].body, told["html"].content_type) == (b"", "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("knobs", "changes", "status"),
    [
        ({"external_id": "optional"}, {"external_id": None}, 201),
        ({"respondents": "patient,parent"}, {"respondent_type": "parent"}, 201),
        ({"respondent_parameter": "respondent"}, {"respondent_type": "parent"}, 201),
        ({"respondent_parameter": "respondent"}, {"respondent": "parent"}, 422),
        ({"answers": "any"}, {"answer_data": {"v_99": 1}}, 201),
        ({"incomplete": "invalid"}, {"answer_data": {"v_1": "a1"}}, 422),
        ({"incomplete": "invalid"}, {}, 201),
        ({"questionnaires": "sf36"}, {"questionnaire_key": "sf36", "answer_data": {"x": "free"}}, 201),
        ({"invalid_status": 400}, {"answer_data": {}}, 400),
        ({"known_dossiers": "1"}, {}, 404),
    ],
)
def test_what_is_not_documented_of_responses_is_a_knob(
    tmp_path: Path, knobs: dict[str, Any], changes: dict[str, Any], status: int
) -> None:
    assert Direct(tmp_path, **knobs).post(submission(**changes)).answer.status == status


@pytest.mark.parametrize(
    ("knobs", "status", "stored"),
    [
        ({"create_again": "forbidden"}, 403, 1),
        ({"create_again": "invalid"}, 422, 1),
        ({"create_again": "twice"}, 201, 2),
        ({"create_again_status": 200}, 200, 1),
    ],
)
def test_a_second_post_is_a_knob(tmp_path: Path, knobs: dict[str, Any], status: int, stored: int) -> None:
    direct = Direct(tmp_path, **knobs)
    direct.post(submission())
    assert direct.post(submission()).answer.status == status
    assert len(direct.roqua.responses.of("2075")) == stored


def test_a_put_of_an_unknown_id_may_be_an_upsert(launch: Start) -> None:
    roqua = launch(update_unknown="created", external_id_shown="absent", profess_completer="null")
    with Client(roqua) as client:
        answer = client.update("new-1")
        assert answer.status_code == 201
        assert "external_id" not in answer.json()
        assert [one["external_id"] for one in roqua.dossiers["2075"]] == ["new-1"]
        client.post()
        assert client.responses()[1]["completer_type"] is None


# reads of responses


def test_the_filters_of_a_list(launch: Start) -> None:
    roqua = launch()
    for day, key in enumerate(("honos_plus", "oq45", "honos_plus"), 1):
        roqua.complete("2075", key, {"v_1": 1}, at=1_700_000_000 + day, protocol_subscription_id=str(day))
    roqua.invite("2075", "oq45", completer_type="parent")
    roqua.invite("2075", "oq45", status="scheduled")
    roqua.complete("9", values={"v_1": 1})
    with Client(roqua) as client:
        asked: list[tuple[dict[str, Any], list[int]]] = [
            ({}, [1, 2, 3, 4, 5]),
            ({"questionnaire_keys[]": "oq45"}, [2, 4, 5]),
            ({"questionnaire_keys[]": ["oq45", "honos_plus"]}, [1, 2, 3, 4, 5]),
            ({"questionnaire_keys": "honos_plus"}, [1, 3]),
            ({"completed_after": 1_700_000_001}, [2, 3]),
            ({"completed_before": 1_700_000_003}, [1, 2]),
            ({"completed_after": "2023-11-14T23:13:21+01:00"}, [2, 3]),
            ({"status": "completed"}, [1, 2, 3]),
            ({"status": "scheduled"}, [5]),
            ({"status": "aborted"}, []),
            ({"respondent_type": "parent"}, [4]),
            ({"respondent_id": 1}, [1, 2, 3, 5]),
            ({"protocol_subscription_id": "2"}, [2]),
            ({"status": "completed", "questionnaire_keys[]": "oq45", "completed_after": 1_700_000_001}, [2]),
            ({"unknown": "1"}, [1, 2, 3, 4, 5]),
        ]
        for filters, ids in asked:
            assert [one["id"] for one in client.responses(**filters)] == ids, filters
        wrong = client.send("GET", "/api/v1/dossiers/2075/responses?completed_after=yesterday")
        assert (wrong.status_code, wrong.json()) == (422, {"errors": {"completed_after": ["invalid"]}})
        assert client.send("GET", "/api/v1/dossiers/2075/responses?respondent_id=me").status_code == 422
        roqua.set(time_filters="inclusive")
        assert [one["id"] for one in client.responses(completed_after=1_700_000_001)] == [1, 2, 3]
        assert client.responses("nobody") == []
        roqua.set(known_dossiers="2075", unknown_dossier_list="not-found")
        assert client.send("GET", "/api/v1/dossiers/nobody/responses").status_code == 404


def test_completions_appear_and_open_ones_are_filled_out(roqua: RoquaSandbox, client: Client) -> None:
    roqua.invite("2075", "honos_plus")
    roqua.complete("2075", "honos_plus", {"v_1": 4, "v_2": "a3"}, at=1_700_000_000)
    (one,) = client.responses()
    assert (one["id"], one["status"], one["values"]) == (1, "completed", {"v_1": 4, "v_2": 3})
    assert (one["outcome"]["action"], one["outcome"]["alarm"], one["outcome"]["attention"]) == ("alarm", ["v_2"], ["v_1"])
    assert one["outcome"]["complete"] is None
    assert "value" not in one["outcome"]["scores"]["tot"]
    roqua.complete("2075", "honos_plus", {"v_1": 0}, hide_values=True)
    assert "values" not in client.responses()[1]


def test_questionnaires_and_health(client: Client) -> None:
    told = client.send("GET", "/api/v1/questionnaires/honos_plus", params={"use_legacy_keys": "false"}).json()["questionnaire"]
    assert len(told["questions"]) == 22
    assert told["questions"]["v_1"]["options"]["a4"]["value"] == 4
    legacy = client.send("GET", "/api/v1/questionnaires/honos_plus.json").json()["questionnaire"]
    assert "honos_plus_v_1" in legacy["questions"]
    assert client.send("GET", "/api/v1/questionnaires/sf36").status_code == 404
    assert set(client.send("GET", "/api/v1/service_health").json()) == {"a19", "oru"}


# reads of Observations


def test_a_response_is_a_parent_with_its_members(client: Client) -> None:
    client.put()
    found = client.observations()
    assert (found["type"], found["total"], len(found["entry"])) == ("searchset", 26, 26)
    parent, *children = (one["resource"] for one in found["entry"])
    members = [one["target"]["reference"] for one in parent["related"]]
    assert members == [f"Observation/{one['id']}" for one in children]
    assert parent["subject"]["identifier"]["value"] == "2075"
    assert parent["effectiveDateTime"] == "2026-04-19T00:00:00.000+02:00"
    by_id = {one["id"]: one for one in children}
    assert by_id["r-1-v_4"]["valueQuantity"] == {"value": 4}
    assert by_id["r-1-tot"]["valueQuantity"] == {"value": 21}
    assert by_id["r-1-v_9"]["valueString"] == "K"
    assert found["entry"][1]["fullUrl"].endswith("/medmij_fhir/Observation/r-1-v_1")


def test_only_the_last_fifty_responses_are_shown_and_total_is_of_all(roqua: RoquaSandbox, client: Client) -> None:
    for number in range(53):
        roqua.complete("2075", "oq45", {"v_1": 1}, at=1_700_000_000 - number)
    found = client.observations()
    shown = {one["resource"]["id"].split("-")[1] for one in found["entry"]}
    assert (found["total"], len(found["entry"])) == (106, 100)
    assert shown == {str(number) for number in range(1, 51)}


def test_the_name_of_the_parameter_is_a_knob_and_an_unknown_dossier_is_empty(roqua: RoquaSandbox, client: Client) -> None:
    client.put()
    path = "/medmij_fhir/Observation"
    assert client.send("GET", path, params={"patient.identifier": "urn:x|2075"}).json()["total"] == 26
    assert client.send("GET", path).json() == {"resourceType": "Bundle", "type": "searchset", "total": 0}
    assert client.observations("nobody")["total"] == 0
    roqua.set(subject_parameter="patient.identifier", no_subject="invalid", answer_media="application/fhir+json")
    refused = client.send("GET", path, params={"subject": "2075"})
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/fhir+json")


# the whole


def test_it_remembers_through_a_kill(folder: Path) -> None:
    with SandboxProcess(folder, partner="roqua", port=free_port()) as process:
        with Client(process) as client:
            client.put()
            client.post()
            client.post(submission("x-2"))
            client.delete("x-2")
            process.tell("complete", dossier="2075", key="oq45", values={"v_1": 2})
            before = client.responses()
        process.kill()
        process.start()
        with Client(process) as client:
            assert client.responses() == before
            assert [one["id"] for one in before] == [1, 2, 4]
            assert client.put().status_code == 200
            assert client.post(submission("x-2")).json()["id"] == 5  # an id is never given twice


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("complete", {}),
        ("complete", {"dossier": "1", "key": "honos_plus", "values": {"v_99": 1}}),
        ("complete", {"dossier": "1", "values": {"v_1": 7}}),
        ("complete", {"dossier": "1", "surprise": 1}),
        ("invite", {"dossier": "1", "at": -1}),
        ("key", {"pem": "no key"}),
        ("revoke", {}),
    ],
)
def test_a_wrong_order_is_refused_and_does_nothing(roqua: RoquaSandbox, name: str, details: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        roqua.tell(name, **details)
    assert roqua.log.effects() == []
