"""The authorization server of NJSAMS's stand-in: the code with PKCE, refresh, client credentials, client authentication, discovery. Over real TLS."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from pipeline.sandbox.jose import read
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from tests.sandbox.njsams_client import REDIRECT, VERIFIER, Client, Key, Tree, patient, sent_back

Start = Callable[..., NjsamsSandbox]


@pytest.fixture
def client(njsams: NjsamsSandbox) -> Iterator[Client]:
    with Client(njsams) as client:
        yield client


# what the FHIR side takes


def test_without_a_token_it_is_401_with_a_challenge(client: Client) -> None:
    for token, error in ((None, False), ("made-up", True)):
        client.token = token
        answer = client.create(patient())
        assert (answer.status_code, 'error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (401, error)


def test_a_token_ends_when_its_time_is_over_or_when_it_is_revoked(client: Client, njsams: NjsamsSandbox) -> None:
    client.token = client.by_secret().json()["access_token"]
    assert client.get("/Patient").status_code == 200
    njsams.revoke()
    assert client.get("/Patient").status_code == 401
    njsams.set(token_seconds=1)
    answer = client.by_secret().json()
    assert answer["expires_in"] == 1
    client.token = answer["access_token"]
    time.sleep(1.1)  # what is asserted is that the second has passed: more of it does no harm
    assert client.get("/Patient").status_code == 401


@pytest.mark.parametrize(
    ("scope", "reads", "writes"),
    [
        ("user/*.read", 200, 403),
        ("system/*.write", 403, 200),
        ("user/*.*", 200, 200),
        ("system/Patient.rs", 200, 403),
        ("system/*.cruds", 200, 200),
        ("openid fhirUser", 403, 403),
        ("user/*.", 403, 403),
    ],
)
def test_scopes_by_a_knob(client: Client, njsams: NjsamsSandbox, scope: str, reads: int, writes: int) -> None:
    client.token = client.by_secret(scope=scope).json()["access_token"]
    assert (client.get("/Patient").status_code, client.create(patient()).status_code) == (200, 200)
    njsams.set(scopes="checked")
    assert (client.get("/Patient").status_code, client.create(patient()).status_code) == (reads, writes)


# the code


def test_the_whole_way_of_a_code(client: Client, njsams: NjsamsSandbox) -> None:
    back = sent_back(client.authorize(nonce="n1"))
    assert set(back) == {"code", "state"}
    assert back["state"] == "s1"
    answer = client.by_code(code=back["code"])
    tree = answer.json()
    assert (answer.status_code, tree["token_type"], tree["scope"]) == (
        200,
        "Bearer",
        "openid fhirUser user/*.read offline_access",
    )
    assert answer.headers["Cache-Control"] == "no-store"
    keys = client.get(f"{njsams.issuer}/jwks").json()["keys"]
    claims = read(tree["id_token"], keys)
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (njsams.issuer, "emr-pipeline", "n1")
    client.token = tree["access_token"]
    assert client.get("/Patient").status_code == 200
    again = client.by_code(code=back["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "other"},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": "http://127.0.0.1:8401/callback"},
        {"redirect_uri": None},
    ],
)
def test_a_wrong_client_or_redirect_uri_is_never_sent_back(client: Client, changed: Tree) -> None:
    answer = client.authorize(**changed)
    assert (answer.status_code, "Location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"aud": "https://elsewhere"}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"state": None}, "invalid_request"),
        ({"scope": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
    ],
)
def test_other_mistakes_are_sent_back(client: Client, changed: Tree, error: str) -> None:
    assert sent_back(client.authorize(**changed))["error"] == error


@pytest.mark.parametrize(
    "changed",
    [{"code_verifier": "w" * 43}, {"code_verifier": ""}, {"redirect_uri": "http://localhost:8765/callback"}, {"code": "made-up"}],
)
def test_a_code_is_for_him_alone_who_asked(client: Client, changed: dict[str, str]) -> None:
    answer = client.by_code(**changed)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_code_lives_for_a_short_time(client: Client, njsams: NjsamsSandbox) -> None:
    njsams.set(code_seconds=1)
    code = sent_back(client.authorize())["code"]
    time.sleep(1.1)  # as above: it must have passed
    assert client.by_code(code=code).json()["error"] == "invalid_grant"


def test_aud_and_pkce_can_be_optional_and_a_loopback_port_any(begin: Start) -> None:
    with Client(begin(aud="optional", pkce="optional", redirect_port="any")) as client:
        uri = "http://127.0.0.1:54321/callback"
        back = sent_back(client.authorize(aud=None, code_challenge=None, code_challenge_method=None, redirect_uri=uri))
        assert client.by_code(code=back["code"], code_verifier="", redirect_uri=uri).status_code == 200
        assert client.authorize(aud="https://elsewhere", redirect_uri="http://127.0.0.1:54321/other").status_code == 400


def test_a_page_with_a_button_and_a_refusal(client: Client, njsams: NjsamsSandbox) -> None:
    njsams.set(approval="page")
    page = client.authorize()
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    ticket = page.text.partition("value='")[2].partition("'")[0]
    approve = f"{njsams.issuer}/approve"
    assert "code" in sent_back(client.session.post(approve, data={"request": ticket}, allow_redirects=False, timeout=20))
    assert client.session.post(approve, data={"request": ticket}, allow_redirects=False, timeout=20).status_code == 400
    njsams.set(approval="denied")
    assert sent_back(client.authorize())["error"] == "access_denied"


# refresh


def refreshed(client: Client, token: str) -> Tree:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    tree: Tree = client.ask(form, basic=("emr-pipeline", client.secret)).json()
    return tree


def test_a_refresh_token_ends_with_its_use_or_stays(client: Client, njsams: NjsamsSandbox) -> None:
    first = client.by_code().json()["refresh_token"]
    second = refreshed(client, first)["refresh_token"]
    assert refreshed(client, first)["error"] == "invalid_grant"
    njsams.set(rotation="kept")
    answer = refreshed(client, second)
    assert ("access_token" in answer, "refresh_token" in answer) == (True, False)
    assert "access_token" in refreshed(client, second)
    njsams.revoke(refresh=True)
    assert refreshed(client, second)["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("knob", "offline", "there"),
    [("offline_access", True, True), ("offline_access", False, False), ("always", False, True), ("never", True, False)],
)
def test_when_a_refresh_token_comes(client: Client, njsams: NjsamsSandbox, knob: str, *, offline: bool, there: bool) -> None:
    njsams.set(refresh=knob)
    scope = "openid user/*.read" + (" offline_access" if offline else "")
    code = sent_back(client.authorize(scope=scope))["code"]
    assert ("refresh_token" in client.by_code(code=code).json()) is there


# who asks


def test_client_credentials_bring_no_refresh_token_and_can_be_switched_off(client: Client, njsams: NjsamsSandbox) -> None:
    assert set(client.by_secret().json()) == {"access_token", "token_type", "expires_in", "scope"}
    njsams.set(granted_scope="system/*.read")
    assert client.by_secret().json()["scope"] == "system/*.read"
    njsams.set(grants="authorization_code,refresh_token")
    assert client.by_secret().json()["error"] == "unsupported_grant_type"
    assert client.by_code().status_code == 200


def test_a_secret_in_the_header_or_in_the_form_but_not_in_both(client: Client, njsams: NjsamsSandbox) -> None:
    form = {"grant_type": "client_credentials", "client_id": "emr-pipeline", "client_secret": client.secret}
    assert client.ask(form).status_code == 200
    assert client.ask(form, basic=("emr-pipeline", client.secret)).json()["error"] == "invalid_request"
    wrong = client.ask({"grant_type": "client_credentials"}, basic=("emr-pipeline", "wrong"))
    assert (wrong.status_code, wrong.json()["error"], wrong.headers["WWW-Authenticate"]) == (
        401,
        "invalid_client",
        'Basic realm="NJSAMS"',
    )
    assert client.ask({"grant_type": "client_credentials"}).status_code == 401
    njsams.set(client_auth="client_secret_basic")
    assert client.ask(form).status_code == 401
    assert client.by_secret().status_code == 200


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_a_signed_assertion_counts_once(client: Client, njsams: NjsamsSandbox, algorithm: str) -> None:
    key = Key(algorithm)
    njsams.register_keys(key.jwks)
    njsams.set(client_auth="private_key_jwt")
    assertion = key.assertion(njsams)
    assert client.by_assertion(assertion).status_code == 200
    again = client.by_assertion(assertion)
    assert (again.status_code, again.json()) == (401, {"error": "invalid_client", "error_description": "jti was used before"})
    assert client.by_assertion(Key(algorithm).assertion(njsams)).status_code == 401
    head, claims, signature = key.assertion(njsams).split(".")
    other = key.assertion(njsams).split(".")[1]
    assert claims != other
    assert client.by_assertion(f"{head}.{other}.{signature}").status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://elsewhere/token"},
        {"iss": "other"},
        {"sub": "other"},
        {"exp": 1},
        {"exp": int(time.time()) + 3600},
        {"exp": "soon"},
        {"exp": None},
        {"jti": None},
    ],
)
def test_an_assertion_that_says_something_wrong(client: Client, njsams: NjsamsSandbox, changed: dict[str, object]) -> None:
    key = Key("ES384")
    njsams.register_keys(key.jwks)
    answer = client.by_assertion(key.assertion(njsams, **changed))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("assertion", ["", "a.b", "a.b.c", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30.", "é.é.é"])
def test_an_assertion_that_is_none(client: Client, njsams: NjsamsSandbox, assertion: str) -> None:
    njsams.register_keys(Key("ES384").jwks)
    assert client.by_assertion(assertion).status_code == 401


def test_an_assertion_for_the_issuer_by_a_knob(client: Client, njsams: NjsamsSandbox) -> None:
    key = Key("ES384")
    njsams.register_keys(key.jwks)
    assert client.by_assertion(key.assertion(njsams, aud=njsams.issuer)).status_code == 401
    njsams.set(assertion_aud="either")
    assert client.by_assertion(key.assertion(njsams, aud=[njsams.issuer])).status_code == 200


def test_keys_can_be_fetched_from_the_client(client: Client, njsams: NjsamsSandbox) -> None:
    key = Key("ES384")

    class Hosted(http.server.BaseHTTPRequestHandler):
        body: ClassVar[bytes] = json.dumps(key.jwks).encode()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hosted) as hosted:
        thread = threading.Thread(target=hosted.serve_forever, daemon=True)
        thread.start()
        njsams.set(jwks_url=f"http://127.0.0.1:{hosted.server_port}/jwks.json")
        assert client.by_assertion(key.assertion(njsams)).status_code == 200
        hosted.shutdown()
        thread.join(20)
    assert client.by_assertion(key.assertion(njsams)).status_code == 401


# discovery, and what the log says


def test_discovery_names_endpoints_that_are_there(client: Client, njsams: NjsamsSandbox) -> None:
    client.token = None
    smart = client.get("/.well-known/smart-configuration").json()
    openid = client.get(f"{njsams.issuer}/.well-known/openid-configuration").json()
    assert smart["token_endpoint"] == openid["token_endpoint"] == njsams.token_url
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert openid["issuer"] == njsams.issuer
    assert client.get(openid["jwks_uri"]).status_code == 200
    njsams.set(smart_configuration="absent", openid_configuration="absent")
    assert client.get("/.well-known/smart-configuration").status_code == 404
    assert client.get(f"{njsams.issuer}/.well-known/openid-configuration").status_code == 404
    assert client.get(f"{njsams.issuer}/nothing").status_code == 404


def test_the_log_counts_requests_for_tokens_and_holds_no_token(client: Client, njsams: NjsamsSandbox) -> None:
    secrets = [client.by_secret().json()["access_token"] for _ in range(3)]
    code = client.by_code().json()
    client.ask({"grant_type": "client_credentials"}, basic=("emr-pipeline", "wrong"))
    asked = njsams.log.effects(operation="token")
    assert [one.token and one.token["grant"] for one in asked] == ["client_credentials"] * 3 + ["authorization_code", None]
    assert (asked[-1].status, asked[-1].issues) == (401, ("invalid_client",))
    text = njsams.log.path.read_text(encoding="utf-8")
    assert not [one for one in (*secrets, code["access_token"], code["refresh_token"], client.secret, VERIFIER) if one in text]
