"""Each fault that NJSAMS's stand-in has beyond Roche's, and some that both have, as a plain client sees them and as the log of effects tells them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.commands.demo.appointments import free_port
from pipeline.sandbox.log import CREATED, NOTHING
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.sandbox.process import SandboxProcess
from tests.sandbox.client import wait_until
from tests.sandbox.njsams_client import Client, Tree, codes, coverage, encounter, ids, patient

Start = Callable[..., NjsamsSandbox]


@pytest.fixture
def njsams(folder: Path) -> Iterator[NjsamsSandbox]:
    with ExitStack() as stack:
        yield stack.enter_context(NjsamsSandbox(folder))


@pytest.fixture
def client(njsams: NjsamsSandbox) -> Iterator[Client]:
    with Client(njsams) as client:
        yield client


def statuses(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200
    return [one["response"]["status"] for one in answer.json()["entry"]]


# 200, and yet


def test_a_failed_entry_in_200_and_nothing_took_effect(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("failed_entry", next=1, entry=1)
    answer = client.create()
    assert statuses(answer) == ["424 Failed Dependency", "422 Unprocessable Entity", "424 Failed Dependency"]
    assert answer.json()["entry"][1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert answer.headers["Content-Type"] == "application/json+fhir"
    assert [(one.effect, one.fault) for one in njsams.log] == [(NOTHING, "failed_entry")]
    assert njsams.patients() == 0


def test_a_failed_entry_in_200_and_the_others_took_effect(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("failed_entry", next=1, effect=True, status=409)
    assert statuses(client.create()) == ["201 Created", "201 Created", "409 Conflict"]
    assert [one.type for one in njsams.log.effects()[0].written] == ["Patient", "Encounter"]


@pytest.mark.parametrize(
    ("name", "details", "expected"),
    [
        ("missing_entry", {}, ["Patient", "Encounter"]),
        ("missing_entry", {"entry": 0}, ["Encounter", "Coverage"]),
        ("swapped_entries", {}, ["Coverage", "Encounter", "Patient"]),
        ("no_location", {}, [None, None, None]),
    ],
)
def test_an_answer_that_does_not_fit_the_request(
    njsams: NjsamsSandbox, client: Client, name: str, details: dict[str, Any], expected: list[str | None]
) -> None:
    njsams.inject(name, next=1, **details)
    answer = client.create()
    found = [one["response"].get("location") for one in answer.json()["entry"]]
    assert [one and one.split("/")[-2] for one in found] == expected
    assert [one.effect for one in njsams.log] == [CREATED]


def test_such_a_fault_leaves_a_refusal_as_it_is(njsams: NjsamsSandbox, client: Client) -> None:
    for name in ("failed_entry", "missing_entry"):
        njsams.inject(name, next=1)
        assert client.create(patient(gender="F")).status_code == 422
        njsams.inject(name, next=1)
        assert client.get("/Patient").status_code == 200


# a status


@pytest.mark.parametrize(
    ("name", "status", "code"), [("403_label", 403, "forbidden"), ("500", 500, "exception"), ("422", 422, "invalid")]
)
def test_an_outcome_in_the_midst_of_good_answers(
    njsams: NjsamsSandbox, client: Client, name: str, status: int, code: str
) -> None:
    njsams.inject(name, next=2, every=2)
    answers = [client.create(patient(f"TEST-{number}")) for number in range(4)]
    assert [one.status_code for one in answers] == [200, status, 200, status]
    assert (codes(answers[1]), answers[1].headers["Content-Type"]) == ([code], "application/json+fhir")
    assert njsams.patients() == 2


def test_404_of_an_update_alone_whose_id_is_not_processed(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("not_processed", next=1)
    wanted = ids(client.create(patient()))[0]
    assert codes(client.update((wanted, patient()))) == ["not-found"]
    assert client.update((wanted, patient())).status_code == 200


def test_a_401_has_its_challenge(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("401", next=1)
    answer = client.create()
    assert (answer.status_code, 'error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (401, True)


@pytest.mark.parametrize(
    ("name", "status", "body"), [("429", 429, b""), ("503", 503, b""), ("login_page", 200, b"<!DOCTYPE html>")]
)
def test_an_answer_of_something_before_it(njsams: NjsamsSandbox, client: Client, name: str, status: int, body: bytes) -> None:
    njsams.inject(name, next=1, retry_after="7")
    answer = client.create()
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert answer.content.startswith(body)
    assert njsams.patients() == 0


# whom it strikes


def test_a_fault_can_be_for_one_patient_also_where_only_a_visit_is_sent(njsams: NjsamsSandbox, client: Client) -> None:
    one, other = (ids(client.create(patient(name)))[0] for name in ("TEST-1", "TEST-2"))
    njsams.inject("503", patient="TEST-1")
    assert client.create(encounter(f"Patient/{one}")).status_code == 503
    assert client.update((one, patient("TEST-1"))).status_code == 503
    assert client.create(encounter(f"Patient/{other}")).status_code == 200


# no answer


def test_a_create_whose_answer_is_lost_is_there_after_the_lag_and_only_once(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("commit_then_drop", next=1)
    with pytest.raises(requests.ConnectionError):
        client.create()
    assert client.get("/Patient?identifier=TEST-1").json()["total"] == 0
    njsams.set(clock_hours=24.1)
    found = client.get("/Patient?identifier=TEST-1").json()
    assert found["entry"][0]["resource"]["id"] == njsams.log.effects(operation="create")[0].partner_id


def test_a_late_answer_that_nobody_waits_for_has_its_effect(njsams: NjsamsSandbox, client: Client) -> None:
    assert client.get("/metadata").status_code == 200  # the connection is there: what is timed is the answer alone
    njsams.inject("late", effect_after=2)
    client.timeout = 0.3
    with pytest.raises(requests.Timeout):
        client.create()
    wait_until(lambda: njsams.patients() == 1, 20)


def test_an_answer_that_is_cut_or_drips(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("truncated", next=1)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.create()
    njsams.inject("slow_loris", next=1, seconds=0.001)
    assert client.create(patient("TEST-2")).status_code == 200
    assert njsams.patients() == 2


# the authorization server


TOKENS: list[tuple[str, dict[str, Any], Tree]] = [
    ("expires_in", {"value": "-5"}, {"expires_in": -5}),
    ("expires_in", {"value": "99999999999999"}, {"expires_in": 99999999999999}),
    ("expires_in", {"value": "soon"}, {"expires_in": "soon"}),
    ("token_type", {"value": "mac"}, {"token_type": "mac"}),
]


@pytest.mark.parametrize(("name", "details", "expected"), TOKENS)
def test_a_token_with_something_odd(
    njsams: NjsamsSandbox, client: Client, name: str, details: dict[str, Any], expected: Tree
) -> None:
    njsams.inject(name, next=1, **details)
    tree = client.by_secret().json()
    assert {key: tree[key] for key in expected} == expected
    client.token = tree["access_token"]
    assert client.get("/Patient").status_code == 200


@pytest.mark.parametrize(
    ("name", "left_out"), [("expires_in", "expires_in"), ("no_access_token", "access_token"), ("token_type", "token_type")]
)
def test_a_token_with_something_left_out(njsams: NjsamsSandbox, client: Client, name: str, left_out: str) -> None:
    njsams.inject(name, next=1)
    assert left_out not in client.by_secret().json()


@pytest.mark.parametrize(("name", "status"), [("500", 500), ("503", 503), ("login_page", 200)])
def test_the_token_endpoint_fails_and_the_api_does_not(njsams: NjsamsSandbox, client: Client, name: str, status: int) -> None:
    njsams.inject(name, operation="token")
    answer = client.by_secret()
    assert (answer.status_code, "access_token" in answer.text) == (status, False)
    assert client.create().status_code == 200
    assert next((one.operation, one.fault, one.token) for one in njsams.log) == ("token", name, None)


def test_the_token_endpoint_is_slow(njsams: NjsamsSandbox, client: Client) -> None:
    njsams.inject("late", operation="token", answer_after=0.3)
    assert client.by_secret().elapsed.total_seconds() >= 0.3


# another process


def test_it_runs_as_a_process_that_forgets_nothing_when_it_is_killed(folder: Path) -> None:
    process = SandboxProcess(folder, {"token_seconds": 3600}, partner="njsams", port=free_port()).start()
    try:
        http = requests.Session()
        http.trust_env = False
        http.verify = str(process.files.ca)
        asked = {"grant_type": "client_credentials", "scope": "system/*.*"}
        token_url = f"https://localhost:{process.port}/auth/token"
        first = http.post(token_url, data=asked, auth=("emr-pipeline", process.files.secret()), timeout=20).json()
        process.kill()
        process.start()
        bearer = {"Authorization": f"Bearer {first['access_token']}"}
        assert http.get(f"{process.base_url}/Patient", headers=bearer, timeout=20).status_code == 200
        process.tell("revoke")
        assert http.get(f"{process.base_url}/Patient", headers=bearer, timeout=20).status_code == 401
        process.set(clock_hours=25)
        process.inject("503", operation="search")
        assert http.get(f"{process.base_url}/metadata", timeout=20).status_code == 200
        http.close()
    finally:
        process.stop()


def test_everything_a_transaction_wrote_stands_in_one_line(njsams: NjsamsSandbox, client: Client) -> None:
    wanted = ids(client.create())[0]
    client.create(coverage(f"Patient/{wanted}", "P2"))
    written = [[each.type for each in one.written] for one in njsams.log]
    assert written == [["Patient", "Encounter", "Coverage"], ["Coverage"]]
