"""Who may call RoQua's stand-in: tokens and their rights, JWTs, the rate limiter, faults. Over real TLS."""

import base64
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.errors import SettingsError
from pipeline.sandbox.log import CREATED, NOTHING
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from tests.sandbox.roqua_client import Client, b64, jwt

Start = Callable[..., RoquaSandbox]


@pytest.fixture
def client(roqua: RoquaSandbox) -> Iterator[Client]:
    with Client(roqua) as client:
        yield client


def statuses(client: Client) -> list[int]:
    """Of each endpoint: document, POST, list, DELETE, Observations, questionnaire, health."""
    answers = [
        client.put(),
        client.post(),
        client.send("GET", "/api/v1/dossiers/2075/responses"),
        client.delete(),
        client.send("GET", "/medmij_fhir/Observation?subject=2075"),
        client.send("GET", "/api/v1/questionnaires/honos_plus"),
        client.send("GET", "/api/v1/service_health"),
    ]
    return [one.status_code for one in answers]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("token_key", [201, 201, 200, 204, 200, 200, 200]),
        ("fhir_writer", [201, 403, 403, 403, 403, 403, 403]),
        ("fhir_reader", [403, 403, 403, 403, 200, 403, 403]),
        ("responses", [403, 201, 200, 204, 403, 403, 403]),
        ("unknown", [401] * 7),
    ],
)
def test_a_token_opens_what_it_has_the_right_to(roqua: RoquaSandbox, key: str, expected: list[int]) -> None:
    with Client(roqua, key) as client:
        assert statuses(client) == expected


def test_a_revoked_token_and_a_wrong_secret_are_401(roqua: RoquaSandbox, client: Client) -> None:
    client.session.auth = ("token_key", "wrong")
    refused = client.put()
    assert (refused.status_code, refused.content, refused.headers["WWW-Authenticate"]) == (401, b"", 'Basic realm="RoQua"')
    client.session.auth = None
    client.session.trust_env = False
    for header in ({}, {"Authorization": "Basic"}, {"Authorization": "Basic !"}, {"Authorization": "Digest x"}):
        assert client.send("GET", "/api/v1/service_health", headers=header).status_code == 401
    roqua.set(tokens="other=all", unauthorized_body="json")
    client.session.auth = ("token_key", roqua.token_secret)
    assert client.put().json() == {"error": "the token is unknown or revoked"}
    roqua.set(tokens="token_key=fhir_read", unauthorized_body="text")
    assert client.put().text == "access denied: the token does not have the right\n"
    assert [one.effect for one in roqua.log.effects()] == [NOTHING] * 7


# JWT


def called(client: Client, token: str, path: str = "/api/v1/dossiers/2075/responses") -> int:
    client.session.auth = None
    return client.send("GET", path, headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_jwt_of_the_dossier_is_taken_on_the_rest_api_alone(roqua: RoquaSandbox, client: Client) -> None:
    token = jwt(roqua.files.client_key)
    assert called(client, token) == 200
    assert called(client, jwt(roqua.files.client_key, {"alg": "RS512"})) == 200
    assert called(client, token, "/medmij_fhir/Observation?subject=2075") == 401
    roqua.set(jwt="everywhere")
    assert called(client, token, "/medmij_fhir/Observation?subject=2075") == 200
    roqua.set(jwt="refused")
    assert called(client, token) == 401


NOW = int(time.time())


@pytest.mark.parametrize(
    ("head", "claims", "status"),
    [
        ({}, {"nbf": NOW - 60}, 200),
        ({"kid": "responses"}, {}, 200),
        ({}, {"sub": None}, 403),
        ({}, {"sub": "9"}, 403),
        ({"kid": "fhir_reader"}, {}, 403),
        ({"kid": "unknown"}, {}, 401),
        ({"kid": None}, {}, 401),
        ({"typ": "at+jwt"}, {}, 401),
        ({"alg": "none"}, {}, 401),
        ({"alg": "RS384"}, {}, 401),
        ({"alg": ["RS256"]}, {}, 401),
        ({}, {"iss": None}, 401),
        ({}, {"aud": None}, 401),
        ({}, {"aud": ["api"]}, 401),
        ({}, {"aud": "https://localhost"}, 401),
        ({}, {"iat": None}, 401),
        ({}, {"exp": None}, 401),
        ({}, {"exp": NOW - 3600, "iat": NOW - 7200}, 401),
        ({}, {"iat": NOW + 100_000, "exp": NOW + 100_100}, 401),
        ({}, {"iat": NOW - 3600, "exp": NOW + 3600}, 401),
        ({}, {"nbf": NOW + 100_000}, 401),
        ({}, {"exp": "soon"}, 401),
        ({}, {"exp": 10**40}, 401),
    ],
)
def test_what_a_jwt_must_say(client: Client, head: dict[str, object], claims: dict[str, object], status: int) -> None:
    key = client.sandbox.files.client_key
    assert called(client, jwt(key, {**head, "kid": head.get("kid", "token_key")}, **claims)) == status


def test_another_key_and_a_changed_token_are_401(roqua: RoquaSandbox, client: Client) -> None:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert called(client, jwt(own)) == 401
    roqua.register_key(
        own.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    )
    token = jwt(own)
    assert called(client, token) == 200
    assert called(client, jwt(roqua.files.client_key)) == 401
    head, claims, signature = token.split(".")
    padded = claims + "=" * (-len(claims) % 4)
    other = b64(base64.urlsafe_b64decode(padded).replace(b"2075", b"2076"))
    for wrong in (
        f"{head}.{other}.{signature}",
        f"{head}.{claims}.",
        f"{head}.{claims}",
        "x",
        "",
        "..",
        f"{b64(b'[' * 9000)}.e.s",
    ):
        assert called(client, wrong) == 401


def test_the_issuer_may_be_known(launch: Start) -> None:
    roqua = launch(jwt_issuer="hospital")
    with Client(roqua) as client:
        assert called(client, jwt(roqua.files.client_key)) == 200
        assert called(client, jwt(roqua.files.client_key, iss="other")) == 401


# the rate limiter


@pytest.mark.parametrize(("knob", "header"), [("absent", None), ("seconds", str), ("date", str)])
def test_the_rate_limiter_answers_429_and_does_nothing(launch: Start, knob: str, header: type | None) -> None:
    roqua = launch(rate_limit=2, rate_seconds=3600, rate_retry_after=knob)
    with Client(roqua) as client:
        answers = [client.post() for _ in range(3)]
        assert [one.status_code for one in answers] == [201, 201, 429]
        told = answers[-1].headers.get("Retry-After")
        assert isinstance(told, header or type(None))
        assert (knob == "seconds") == (told or "").isdecimal()
        assert roqua.log.effects()[-1].effect == NOTHING
        roqua.set(rate_limit=0)
        assert client.post().status_code == 201


# faults


def test_faults_strike_by_operation_and_dossier(roqua: RoquaSandbox, client: Client) -> None:
    roqua.inject("503", operation="document", next=1, retry_after="7")
    roqua.inject("commit_then_drop", operation="create", next=1, patient="2075")
    assert client.post(dossier="9").status_code == 201
    assert (client.put().status_code, client.put().status_code) == (503, 201)
    with pytest.raises(requests.ConnectionError):
        client.post()
    assert [one.effect for one in roqua.log.effects(identifier="2075")] == [NOTHING, CREATED, CREATED]
    assert len(roqua.dossiers["2075"]) == 2


def test_faults_answer_in_its_own_shapes(roqua: RoquaSandbox, client: Client) -> None:
    roqua.inject("answer", status=422, body="json", issue="in_past", next=1)
    assert client.post().json() == {"errors": {"base": ["in_past"]}}
    roqua.inject("error_in_200", next=1)
    assert client.put().json()["resourceType"] == "OperationOutcome"
    roqua.inject("enveloped", next=2)
    assert set(client.post().json()) == {"data"}
    assert client.send("GET", "/api/v1/dossiers/2075/responses").json()["data"][0]["external_id"] == "x-1"
    assert client.responses()


def test_knobs_of_another_partner_are_refused(launch: Start) -> None:
    with pytest.raises(SettingsError, match="no such knob"):
        launch(visible_after_hours=0)
