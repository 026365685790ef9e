"""RoQua's read side: what is asked, what an answer brings, and that each documented error is one clear line."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.model import Request
from pipeline.partners.reads import NotRead, Reader
from tests.partners.roqua_recorded import CAPABILITY, answered, completed, invited, reader

LIST = "/api/v1/dossiers/2075/responses"


def asked(resource: str = "responses", **typed: str) -> Request:
    return reader().by_search(resource, {"dossier": "2075"} | typed if resource == "responses" else typed)


def test_observations_are_asked_as_documented() -> None:
    request = reader().by_search("Observation", {"subject": "2075"})
    assert (request.method, request.path) == ("GET", "/medmij_fhir/Observation?subject=2075")
    assert dict(request.headers) == {"Accept": "application/json", "Content-Type": "application/json"}
    assert request.subject == "2075"
    assert "2075" not in repr(request)


def test_the_other_spelling_of_the_subject_is_a_setting() -> None:
    request = reader(subject_parameter="patient.identifier").by_search("Observation", {"subject": "A/1"})
    assert request.path == "/medmij_fhir/Observation?patient.identifier=A/1"


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ({}, ""),
        ({"questionnaire-keys": "oq45, honos_plus"}, "?questionnaire_keys%5B%5D=oq45&questionnaire_keys%5B%5D=honos_plus"),
        ({"completed-before": "2026-01-31T00:00:00+01:00"}, "?completed_before=2026-01-30T23%3A00%3A00.000%2B00%3A00"),
        ({"completed-after": "2026-01-31"}, "?completed_after=2026-01-31T00%3A00%3A00.000%2B00%3A00"),
        ({"respondent-type": "second_parent"}, "?respondent_type=second_parent"),
        ({"respondent-id": "5"}, "?respondent_id=5"),
        ({"status": "completed"}, "?status=completed"),
        ({"protocol-subscription-id": "7"}, "?protocol_subscription_id=7"),
        ({"status": "open", "respondent-id": "5"}, "?status=open&respondent_id=5"),
    ],
)
def test_each_filter_is_asked_as_documented(typed: dict[str, str], query: str) -> None:
    request = reader().by_search("responses", {"dossier": "2075"} | typed)
    assert (request.method, request.path, request.subject) == ("GET", LIST + query, "2075")
    assert (request.operation, request.path_template) == ("responses-list", "/api/v1/dossiers/{id}/responses")
    assert "2075" not in repr(request)


def test_times_may_be_asked_as_unix_seconds() -> None:
    request = reader(filter_times="unix").by_search("responses", {"dossier": "1", "completed-after": "1970-01-01T01:00:01+01:00"})
    assert request.path == "/api/v1/dossiers/1/responses?completed_after=1"


@given(st.text(min_size=1))
def test_whatever_a_dossier_is_called_it_stays_one_step_of_the_path(dossier: str) -> None:
    try:
        path = reader().by_search("responses", {"dossier": dossier}).path
    except SettingsError:
        return
    assert path.startswith("/api/v1/dossiers/")
    assert path.endswith("/responses")
    step = path.removeprefix("/api/v1/dossiers/").removesuffix("/responses")
    assert step not in {"", ".", ".."}
    assert not set(step) & set("/?# ")


@pytest.mark.parametrize(
    ("resource", "typed", "said"),
    [
        ("responses", {"status": "completed"}, "responses: which dossier? give --dossier"),
        ("responses", {}, "responses: which dossier? give --dossier"),
        ("Observation", {}, "Observation: which dossier? give --subject"),
        ("responses", {"dossier": "1", "status": "done"}, "--status: there is completed, aborted, open, scheduled"),
        ("responses", {"dossier": "1", "respondent-id": "x"}, "--respondent-id: must be a whole number"),
        ("responses", {"dossier": "1", "subject": "1"}, "--subject: does not go with responses; there is --dossier, "),
        ("responses", {"dossier": "1", "completed-after": "2026-01-31T00:00"}, "--completed-after: the time has no offset"),
        ("responses", {"dossier": "1", "completed-after": "0001-01-01T00:00+23:00"}, "--completed-after: must be a time"),
        ("responses", {"dossier": "1", "questionnaire-keys": "a,,b"}, "--questionnaire-keys: is empty"),
        ("responses", {"dossier": ".."}, "--dossier: is no dossier's id"),
        ("Observation", {"dossier": "1"}, "--dossier: does not go with Observation; there is --subject"),
        ("Patient", {"subject": "1"}, "RESOURCE: not offered by this partner; there is Observation, responses"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_asked(resource: str, typed: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        reader().by_search(resource, typed)
    assert str(wrong.value).startswith(said)


@pytest.mark.parametrize(
    ("resource", "said"),
    [("responses", "give --dossier"), ("Observation", "give --subject"), ("Patient", "there is Observation, responses")],
)
def test_nothing_is_read_by_an_id(resource: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        reader().by_id(resource, "12")


def bundle(total: int, *found: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {"resourceType": "Bundle", "type": "searchset", "total": total, "entry": [{"resource": one} for one in found]}
    )


def test_more_in_total_than_what_came_is_no_error() -> None:
    one = {"resourceType": "Observation", "id": "r-4-v_1"}
    page = reader().page(asked("Observation", subject="2075"), answered(bundle(137, one)))
    assert (page.resources, page.next, page.issues) == ((one,), None, ())


def test_an_unknown_dossier_is_an_empty_bundle() -> None:
    assert reader().page(asked("Observation", subject="nobody"), answered(bundle(0))).resources == ()


def test_a_list_of_responses_is_a_page_without_a_next_one() -> None:
    page = reader().page(asked(), answered(orjson.dumps([completed(), invited()])))
    assert [one["id"] for one in page.resources] == [4, 2]
    assert (page.next, page.issues) == (None, ())


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"", "HTTP 401: it refuses our token: key, secret, or the addresses that the token may be used from"),
        (401, b"HTTP Basic: Access denied. canary\n", "HTTP 401: it refuses our token: "),
        (403, b"", "HTTP 403: our token has not the right to read this, or not for this dossier"),
        (403, b'{"error":"canary has no access"}', "HTTP 403: our token has not the right"),
        (404, b"", "HTTP 404: no such dossier there, or the address is wrong"),
        (404, b"<html>canary</html>", "HTTP 404: no such dossier"),
        (
            422,
            b'{"errors":{"completed_after":["invalid"]}}',
            "HTTP 422 (completed_after.invalid): it does not take what was asked",
        ),
        (422, b'{"errors":{"questionnaire_keys":"missing"}}', "HTTP 422 (questionnaire_keys.missing): it does not take"),
        (
            422,
            b'{"errors":{"filters":{"questionnaire_keys":["invalid","canary"]}}}',
            "HTTP 422 (filters.questionnaire_keys.invalid",
        ),
        (422, b'{"errors":["canary"]}', "HTTP 422: it does not take what was asked for"),
        (422, b"", "HTTP 422: it does not take what was asked for"),
        (429, b"", "HTTP 429: it asks us to wait"),
        (500, b"<html>canary</html>", "HTTP 500"),
        (302, b"", "HTTP 302"),
        (200, b"", "HTTP 200 with nothing"),
        (200, b"<!doctype html><title>canary</title>", "HTTP 200 with a page that is no JSON: a login page, or a gateway's"),
        (200, b'{"errors":{"base":["canary"]}}', "HTTP 200 with something else than a list of responses"),
        (200, b'["canary"]', "HTTP 200 with something else than a list of responses"),
        (200, b'[{"canary":1}]', "HTTP 200 with something else than a list of responses"),
    ],
)
def test_each_answer_that_brings_no_responses_is_one_clear_line_without_a_word_of_it(status: int, body: bytes, said: str) -> None:
    with pytest.raises(NotRead) as wrong:
        reader().page(asked(), answered(body, status))
    assert str(wrong.value).startswith(said)
    assert "canary" not in str(wrong.value)
    assert "2075" not in str(wrong.value)


@given(st.binary(max_size=60), st.sampled_from([204, 401, 403, 404, 422, 429, 500]))
def test_any_answer_that_is_no_success_is_one_line(body: bytes, status: int) -> None:
    with pytest.raises(NotRead) as wrong:
        reader().page(asked(), answered(body, status))
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_an_error_of_the_fhir_surface_is_told_in_the_same_way(status: int) -> None:
    outcome = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","diagnostics":"canary"}]}'
    with pytest.raises(NotRead) as wrong:
        reader().page(asked("Observation", subject="2075"), answered(outcome, status))
    assert str(wrong.value).startswith(f"HTTP {status} (forbidden): ")


def test_onto_a_topic_a_response_goes_by_its_dossier_and_without_its_link() -> None:
    key, value = reader().record(asked(), invited())
    assert (key, value["dossier_id"], value["id"]) == ("2075", "2075", 2)
    assert CAPABILITY not in str(value)
    assert "completing_url" not in value


def test_an_observation_onto_a_topic_goes_by_its_type_and_id() -> None:
    one = {"resourceType": "Observation", "id": "r-4-v_1"}
    assert reader().record(asked("Observation", subject="1"), one) == ("Observation/r-4-v_1", one)


def test_responses_are_turned_into_observations_and_observations_are_not() -> None:
    found, told = reader().observations(asked(), completed())
    assert {one["resourceType"] for one in found} == {"Observation"}
    assert told == ()
    with pytest.raises(SettingsError, match="brings FHIR already"):
        reader().observations(asked("Observation", subject="1"), {})


def test_there_is_no_capability_statement_to_ask_for() -> None:
    as_port: Reader = reader()
    assert as_port.capabilities() is None
    assert as_port.not_listed(answered(b"")) == []
