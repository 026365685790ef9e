"""Tokens over real TLS: discovery, each way to prove who we are, what an authorization server may answer instead of a token."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.errors import NotSent, SettingsError
from pipeline.oauth import keys
from pipeline.oauth.endpoints import discover
from pipeline.oauth.granted import NoToken
from pipeline.oauth.open import bearer_of, source_of
from pipeline.oauth.source import Source
from pipeline.pseudonyms import Pseudonyms
from pipeline.sandbox.certificates import Files
from pipeline.settings_partners import OAuthSettings, SigningKey
from pipeline.settings_sections import OperationTimes, Secret, TlsFiles
from pipeline.transport.https import HttpsTransport
from schemas.outcomes import Reason
from tests.oauth.authorization import CLIENT, REQUEST, SECRET, Asked, AuthorizationServer, as_json, whole
from tests.transport.tls_server import tls

PSEUDONYMS = Pseudonyms("0123456789abcdef")


class Partner(BaseModel):
    base_url: str
    tls: TlsFiles
    oauth: OAuthSettings


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    (tmp_path / "secret").write_text(SECRET)
    return Secret(file=tmp_path / "secret")


def partner_of(server: AuthorizationServer, files: Files, **block: Any) -> Partner:  # noqa: ANN401 - settings of any type
    return Partner(
        base_url=server.base, tls=tls(files), oauth=OAuthSettings(**{"client_id": CLIENT, "scope": "system/*.write", **block})
    )


OPEN: list[Source] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def source(server: AuthorizationServer, files: Files, **block: Any) -> Source:  # noqa: ANN401 - as above
    one = source_of("njsams", partner_of(server, files, **block), PSEUDONYMS)
    OPEN.append(one)
    return one


@pytest.mark.parametrize("how", ["client_secret_basic", "client_secret_post"])
def test_a_secret_with_signs_that_a_form_encodes_arrives_as_it_is(files: Files, secret: Secret, how: str) -> None:
    with AuthorizationServer(files) as server:
        granted = source(server, files, client_secret=secret, client_auth=how)()
    assert (granted.access_token, granted.lifetime) == ("canary-token-1", 3600.0)
    assert server.tokens[0].form["scope"] == "system/*.write"
    assert ("client_secret" in server.tokens[0].form) == (how == "client_secret_post")


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_an_assertion_is_signed_for_this_token_endpoint_for_five_minutes_at_most_and_never_used_twice(
    files: Files,
    tmp_path: Path,
    algorithm: Any,  # noqa: ANN401 - as above
) -> None:
    signing = SigningKey(file=tmp_path / "key.pem", key_id="2026-01", algorithm=algorithm)
    keys.make(signing, "x")
    with AuthorizationServer(files, public=keys.public(signing, "x")) as server:
        tokens = source(server, files, client_auth="private_key_jwt", private_key=signing)
        assert [tokens().access_token, tokens().access_token] == ["canary-token-1", "canary-token-2"]
    assert len(server.jtis) == 2
    assert server.tokens[0].form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_a_key_that_the_authorization_server_does_not_know_is_refused_in_one_clear_line(files: Files, tmp_path: Path) -> None:
    ours, theirs = (SigningKey(file=tmp_path / name, key_id=name) for name in ("ours", "theirs"))
    keys.make(ours, "x")
    keys.make(theirs, "x")
    with AuthorizationServer(files, public=keys.public(theirs, "x")) as server, pytest.raises(NoToken) as none:
        source(server, files, client_auth="private_key_jwt", private_key=ours)()
    assert str(none.value) == f"{Reason.REFUSED_TOKEN.sentence}: invalid_client"


def test_a_secret_that_was_mended_counts_without_a_restart(files: Files, secret: Secret) -> None:
    assert secret.file is not None
    secret.file.write_text("wrong")
    with AuthorizationServer(files) as server:
        tokens = source(server, files, client_secret=secret)
        with pytest.raises(NoToken) as none:
            tokens()
        assert none.value.reason is Reason.REFUSED_TOKEN
        secret.file.unlink()
        with pytest.raises(NoToken, match="cannot be read"):
            tokens()
        secret.file.write_text(SECRET)
        assert tokens().access_token == "canary-token-1"


def test_a_secret_or_key_that_cannot_be_read_ends_the_start(files: Files, tmp_path: Path) -> None:
    with AuthorizationServer(files) as server:
        with pytest.raises(SettingsError, match=r"partners.njsams.oauth.client_secret"):
            source(server, files, client_secret=Secret(file=tmp_path / "nothing"))
        missing = SigningKey(file=tmp_path / "nothing", key_id="1")
        with pytest.raises(SettingsError, match=r"partners.njsams.oauth.private_key"):
            source(server, files, client_auth="private_key_jwt", private_key=missing)


@pytest.mark.parametrize(
    ("documents", "asked"),
    [
        (("smart-configuration",), ["/base/.well-known/smart-configuration"]),
        (("openid-configuration",), ["/base/.well-known/smart-configuration", "/base/.well-known/openid-configuration"]),
    ],
)
def test_the_token_endpoint_is_discovered_once(
    files: Files, secret: Secret, documents: tuple[str, ...], asked: list[str]
) -> None:
    with AuthorizationServer(files, documents=documents) as server:
        tokens = source(server, files, client_secret=secret)
        tokens()
        tokens()
    assert server.discoveries == asked


def test_an_address_that_is_set_wins_and_nobody_is_asked(files: Files, secret: Secret) -> None:
    with AuthorizationServer(files, more={"token_endpoint": "https://localhost:1/token"}) as server:
        source(server, files, client_secret=secret, token_url=f"{server.origin}/token")()
    assert server.discoveries == []


def test_what_is_set_is_laid_over_what_is_published(files: Files, secret: Secret) -> None:
    with AuthorizationServer(files) as server:
        one = source(server, files, client_secret=secret, authorize_url="https://login.example/authorize")
        found = discover(one.oauth, one.base_url, one.wire)
    assert (found.authorize, found.token) == ("https://login.example/authorize", f"{server.origin}/token")


@pytest.mark.parametrize(
    ("documents", "more", "said"),
    [
        ((), {}, "there is no smart-configuration and no openid-configuration: set oauth.token_url"),
        (
            ("openid-configuration",),
            {"issuer": "https://canary.example"},
            "openid-configuration names another issuer than the one that was asked",
        ),
        (("openid-configuration",), {"token_endpoint": "http://canary.example/token"}, "discovery names no token endpoint"),
        (("openid-configuration",), {"token_endpoint": "https://a:b@canary.example/"}, "discovery names no token endpoint"),
        (("openid-configuration",), {"token_endpoint": ["canary"]}, "discovery names no token endpoint"),
    ],
)
def test_a_discovery_that_names_no_safe_token_endpoint_says_what_to_set(
    files: Files, secret: Secret, documents: tuple[str, ...], more: dict[str, object], said: str
) -> None:
    with AuthorizationServer(files, documents=documents, more=more) as server, pytest.raises(NoToken) as none:
        source(server, files, client_secret=secret)()
    assert said in str(none.value)
    assert "canary" not in str(none.value)


def fixed(answer: bytes) -> Callable[[Asked], bytes | None]:
    return lambda _: answer


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (whole(500, b"canary"), Reason.NOT_SENT_TOKEN, "HTTP 500"),
        (as_json(503, {"error": "temporarily_unavailable"}), Reason.NOT_SENT_TOKEN, "HTTP 503 temporarily_unavailable"),
        (as_json(503, {"error": "canary"}), Reason.NOT_SENT_TOKEN, "HTTP 503"),
        (whole(200, b"<html>canary: please log in</html>"), Reason.NOT_SENT_TOKEN, "something that is no token (HTTP 200)"),
        (whole(302, b"", "Location: https://canary.example/"), Reason.NOT_SENT_TOKEN, "HTTP 302"),
        (as_json(200, ["canary"]), Reason.NOT_SENT_TOKEN, "something that is no token"),
        (as_json(200, {"token_type": "bearer"}), Reason.NOT_SENT_TOKEN, "no access_token"),
        (as_json(200, {"access_token": "canary\r\nX: y", "token_type": "bearer"}), Reason.NOT_SENT_TOKEN, "no access_token"),
        (as_json(200, {"access_token": "canary", "token_type": "mac"}), Reason.NOT_SENT_TOKEN, "not Bearer tokens"),
        (whole(200, b"x" * 300_000), Reason.NOT_SENT_TOKEN, Reason.ANSWER_TOO_LARGE.sentence),
        (b"canary\r\n\r\n", Reason.NOT_SENT_TOKEN, "the token endpoint: "),
        (b"", Reason.NOT_SENT_TOKEN, "the token endpoint: "),
        (as_json(400, {"error": "invalid_scope"}), Reason.REFUSED_TOKEN, "invalid_scope"),
        (as_json(400, {"error": "unauthorized_client"}), Reason.REFUSED_TOKEN, "unauthorized_client"),
        (as_json(400, {"error": "invalid_grant"}), Reason.REFUSED_TOKEN, "invalid_grant"),
        (as_json(200, {"error": "invalid_client"}), Reason.REFUSED_TOKEN, "invalid_client"),
        (as_json(400, {"error": "canary"}), Reason.NOT_SENT_TOKEN, "HTTP 400"),
        (whole(401, b"canary"), Reason.REFUSED_TOKEN, "HTTP 401"),
    ],
)
def test_what_is_no_token_is_told_without_a_word_of_the_servers_own(
    files: Files, secret: Secret, answer: bytes, reason: Reason, said: str
) -> None:
    with AuthorizationServer(files, trouble=fixed(answer)) as server:
        tokens = source(server, files, client_secret=secret, times=OperationTimes(read=2, total=4))
        with pytest.raises(NoToken) as none:
            tokens()
    assert none.value.reason is reason
    assert said in str(none.value)
    assert "canary" not in str(none.value)


def test_retry_after_is_heard(files: Files, secret: Secret) -> None:
    with AuthorizationServer(files, trouble=fixed(as_json(429, {}, "Retry-After: 7"))) as server, pytest.raises(NoToken) as none:
        source(server, files, client_secret=secret)()
    assert none.value.retry_after == 7


def test_a_token_endpoint_that_nobody_listens_at_is_not_sent(files: Files, secret: Secret) -> None:
    with AuthorizationServer(files) as server, pytest.raises(NoToken) as none:
        source(server, files, client_secret=secret, token_url="https://localhost:1/token")()
    assert none.value.reason is Reason.NOT_SENT_TOKEN
    assert Reason.NOT_SENT_CONNECT.sentence in str(none.value)


@pytest.mark.parametrize(
    ("said", "lifetime"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (0.5, 0.5),
        (None, None),
        (0, None),
        (-1, None),
        ("soon", None),
        (True, None),
        ([3600], None),
        (1e300, 1e300),
    ],
)
def test_an_absurd_expires_in_counts_as_none(files: Files, secret: Secret, said: object, lifetime: float | None) -> None:
    with AuthorizationServer(files, lifetime=said) as server:
        assert source(server, files, client_secret=secret)().lifetime == lifetime


def test_a_key_set_has_the_public_half_alone(tmp_path: Path) -> None:
    for algorithm, private in (("RS384", {"d", "p", "q"}), ("ES384", {"d"})):
        signing = SigningKey(file=tmp_path / algorithm, key_id="2026-01", algorithm=algorithm)  # type: ignore[arg-type] # both are
        keys.make(signing, "x")
        shown = keys.public(signing, "x")
        assert not private & set(shown)
        assert (shown["kid"], shown["alg"], shown["use"]) == ("2026-01", algorithm, "sig")
        assert signing.file.stat().st_mode & 0o777 == 0o600
        json.dumps(shown)


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    signing = SigningKey(file=tmp_path / "key.pem", key_id="1")
    keys.make(signing, "x")
    before = signing.file.read_bytes()
    with pytest.raises(SettingsError, match="is there already"):
        keys.make(signing, "x")
    assert signing.file.read_bytes() == before


def test_a_key_that_does_not_go_with_its_algorithm_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    keys.make(SigningKey(file=tmp_path / "key.pem", key_id="1", algorithm="ES384"), "x")
    with pytest.raises(SettingsError, match="does not go with RS384, which wants an RSA key"):
        keys.read(SigningKey(file=tmp_path / "key.pem", key_id="1", algorithm="RS384"), "x")
    (tmp_path / "key.pem").write_text("canary")
    with pytest.raises(SettingsError, match="is no PEM key") as mistake:
        keys.read(SigningKey(file=tmp_path / "key.pem", key_id="1"), "x")
    assert "canary" not in str(mistake.value)


def test_through_the_house_a_refused_client_is_not_sent_with_its_reason(files: Files, secret: Secret) -> None:
    with AuthorizationServer(files, trouble=fixed(as_json(401, {"error": "invalid_client"}))) as server:
        partner = partner_of(server, files, client_secret=secret)
        transport = bearer_of("njsams", partner, HttpsTransport(server.base, partner.tls, {}), PSEUDONYMS)
        with pytest.raises(NotSent) as none:
            transport.exchange(REQUEST)
        transport.close()
    assert none.value.reason is Reason.REFUSED_TOKEN
    assert server.calls == []
