"""Logging in: PKCE, state and nonce, the loopback redirect, and the file in which the login is kept."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.errors import SettingsError
from pipeline.oauth.granted import NoToken
from pipeline.oauth.login import Begun, Loopback, begin, finish, redirected
from pipeline.oauth.open import source_of
from pipeline.oauth.source import Source
from pipeline.oauth.store import Login, LoginFile
from pipeline.pseudonyms import Pseudonyms
from pipeline.sandbox.certificates import Files
from pipeline.settings_partners import OAuthSettings
from pipeline.settings_sections import Secret
from schemas.outcomes import Reason
from tests.oauth.authorization import CLIENT, SECRET, AuthorizationServer
from tests.oauth.test_tokens import Partner
from tests.transport.tls_server import tls

PSEUDONYMS = Pseudonyms("0123456789abcdef")
LONG = 60.0


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else takes meanwhile: bound here, and listened on by whoever also says SO_REUSEADDR."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def logins(tmp_path: Path) -> LoginFile:
    return LoginFile(tmp_path / "login", PSEUDONYMS)


@pytest.fixture
def source(server: AuthorizationServer, files: Files, tmp_path: Path, port: int) -> Iterator[Source]:
    (tmp_path / "secret").write_text(SECRET)
    oauth = OAuthSettings(
        grant="authorization_code",
        client_id=CLIENT,
        client_secret=Secret(file=tmp_path / "secret"),
        redirect_uri=f"http://127.0.0.1:{port}/callback",
        refresh_file=tmp_path / "login",
    )
    one = source_of("njsams", Partner(base_url=server.base, tls=tls(files), oauth=oauth), PSEUDONYMS)
    yield one
    one.close()


def with_oauth(source: Source, **changes: object) -> Source:
    source.oauth = source.oauth.model_copy(update=changes)
    return source


def test_the_address_has_what_the_brief_and_smart_ask_for_and_no_secret(source: Source, server: AuthorizationServer) -> None:
    begun = begin(source)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.url).query).items()}
    assert asked.pop("code_challenge") != begun.verifier
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": source.oauth.redirect_uri,
        "scope": "openid fhirUser user/*.read offline_access",
        "state": begun.state,
        "aud": server.base,
        "nonce": begun.nonce,
        "code_challenge_method": "S256",
    }
    assert begun.verifier not in begun.url
    for secret in (begun.verifier, begun.state, begun.nonce):
        assert secret not in repr(begun).replace(begun.url, "")


def test_two_logins_share_nothing(source: Source) -> None:
    one, other = begin(source), begin(source)
    assert not {one.state, one.nonce, one.verifier} & {other.state, other.nonce, other.verifier}


def test_a_login_ends_in_tokens(source: Source, server: AuthorizationServer) -> None:
    begun = begin(source)
    granted = finish(source, begun, redirected(begun, server.approve(begun.url)))
    assert (granted.access_token, granted.refresh_token) == ("canary-token-1", "canary-refresh-1")


def test_a_code_is_good_for_its_own_verifier_alone(source: Source, server: AuthorizationServer) -> None:
    begun, other = begin(source), begin(source)
    code = redirected(begun, server.approve(begun.url))
    with pytest.raises(NoToken) as none:
        finish(source, other, code)
    assert none.value.reason is Reason.LOGIN_NEEDED


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("{uri}?code=canary&state=wrong", "its state is another one"),
        ("{uri}?code=canary", "its state is another one"),
        ("canary", "its state is another one"),
        ("{uri}?state={state}&error=access_denied&error_description=canary", "says no: access_denied"),
        ("{uri}?state={state}&error=canary", "says no: an error that is not on our list"),
        ("{uri}?state={state}", "has no code"),
        ("{uri}?state={state}&code=canary&iss=https://canary.example", "another authorization server's"),
    ],
)
def test_an_answer_that_is_not_ours_or_says_no_is_one_line(source: Source, address: str, said: str) -> None:
    begun = begin(source)
    with pytest.raises(SettingsError) as wrong:
        redirected(begun, address.format(uri=begun.redirect_uri, state=begun.state))
    assert said in str(wrong.value)
    assert "canary" not in str(wrong.value)


def test_an_id_token_with_another_nonce_ends_the_login(source: Source, server: AuthorizationServer) -> None:
    server.nonce = "canary"
    begun = begin(source)
    code = redirected(begun, server.approve(begun.url))
    with pytest.raises(SettingsError, match=r"not one for this login \(nonce\)"):
        finish(source, begun, code)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "canary"}, "aud"),
        ({"aud": [CLIENT, "canary"]}, "ValueError"),
        ({"iss": "https://canary.example"}, "iss"),
        ({"exp": int(time.time()) - 3600}, "exp"),
    ],
)
@pytest.mark.parametrize("keys", ["published", "not published"])
def test_an_id_token_of_somebody_else_ends_the_login(
    source: Source, server: AuthorizationServer, claims: dict[str, object], said: str, keys: str
) -> None:
    given = server.id_token
    server.id_token = lambda **others: given(**others | claims)  # type: ignore[method-assign]
    server.more = {"jwks_uri": None} if keys == "not published" else {}
    begun = begin(source)
    code = redirected(begun, server.approve(begun.url))
    with pytest.raises(SettingsError) as wrong:
        finish(source, begun, code)
    assert f"({said}" in str(wrong.value) or (said == "exp" and "Expired" in str(wrong.value))
    assert "canary" not in str(wrong.value)


def test_an_id_token_whose_signature_is_not_the_servers_ends_the_login(source: Source, server: AuthorizationServer) -> None:
    given = server.id_token
    server.id_token = lambda **claims: given(**claims)[:-8] + "AAAAAAAA"  # type: ignore[method-assign]
    begun = begin(source)
    code = redirected(begun, server.approve(begun.url))
    with pytest.raises(SettingsError, match="BadSignatureError"):
        finish(source, begun, code)


def test_without_pkce_there_is_no_login(source: Source, server: AuthorizationServer) -> None:
    server.more = {"code_challenge_methods_supported": ["plain"]}
    with pytest.raises(SettingsError, match="PKCE"):
        begin(source)


def test_without_an_authorization_endpoint_there_is_no_login(source: Source, server: AuthorizationServer) -> None:
    server.more = {"authorization_endpoint": None}
    with pytest.raises(SettingsError, match="set authorize_url"):
        begin(source)


def browse(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=LONG) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def waiting(begun: Begun, visit: Callable[[], None]) -> str:
    """What the loopback gives while a browser visits it."""
    with Loopback(begun) as loopback:
        visitor = threading.Thread(target=visit, daemon=True)
        visitor.start()
        try:
            return loopback.wait(LONG)
        finally:
            visitor.join(LONG)


def test_the_loopback_takes_this_logins_redirect_and_passes_others_over(
    source: Source, server: AuthorizationServer, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = begin(source)
    found: list[int] = []

    def visit() -> None:
        favicon = begun.redirect_uri.replace("/callback", "/favicon.ico")
        found.append(browse(favicon))
        found.append(browse(f"{begun.redirect_uri}?code=canary&state=somebody-elses"))
        found.append(browse(server.approve(begun.url)))

    assert waiting(begun, visit) == "canary-code-0"
    assert found == [404, 200, 200]
    shown = capfd.readouterr()
    assert "canary" not in shown.out + shown.err


def test_the_loopback_hears_a_no(source: Source) -> None:
    begun = begin(source)

    def visit() -> None:
        browse(f"{begun.redirect_uri}?error=access_denied&state={begun.state}")

    with pytest.raises(SettingsError, match="access_denied"):
        waiting(begun, visit)


def test_the_loopback_does_not_wait_for_ever_and_needs_an_address_of_this_machine(source: Source, port: int) -> None:
    begun = begin(source)
    with Loopback(begun) as loopback, pytest.raises(SettingsError, match="nobody came back"):
        loopback.wait(0.05)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SettingsError, match="cannot be listened on"):
        Loopback(begun)
    elsewhere = begin(with_oauth(source, redirect_uri="https://app.example/callback"))
    with pytest.raises(SettingsError, match="--paste"):
        Loopback(elsewhere)


def test_a_login_is_kept_encrypted_for_us_alone(logins: LoginFile) -> None:
    assert logins.read() is None
    logins.write(Login("canary-refresh"))
    assert logins.read() == Login("canary-refresh")
    assert logins.path.stat().st_mode & 0o777 == 0o600
    assert b"canary" not in logins.path.read_bytes()
    assert "canary" not in repr(logins.read()) + repr(logins)


def test_a_login_that_another_key_sealed_or_that_is_none_says_so(logins: LoginFile, tmp_path: Path) -> None:
    logins.write(Login("canary"))
    with pytest.raises(SettingsError, match=r"was not written with this keys\.patient_hash: log in again"):
        LoginFile(logins.path, Pseudonyms("another key of ours")).read()
    logins.path.write_text("canary")
    with pytest.raises(SettingsError, match="log in again"):
        logins.read()
    logins.path.write_text(PSEUDONYMS.seal("canary"))
    with pytest.raises(SettingsError, match="holds no login"):
        logins.read()
    with pytest.raises(SettingsError, match="cannot be written"):
        LoginFile(tmp_path / "no" / "login", PSEUDONYMS).write(Login("canary"))


def test_a_refresh_token_that_was_replaced_is_kept_before_its_access_token_is_used(source: Source, logins: LoginFile) -> None:
    logins.write(Login("canary-refresh-0"))
    assert [source().access_token, source().access_token] == ["canary-token-1", "canary-token-2"]
    assert logins.read() == Login("canary-refresh-2")


def test_two_processes_do_not_use_one_refresh_token_at_once(
    source: Source, server: AuthorizationServer, logins: LoginFile
) -> None:
    logins.write(Login("canary-refresh-0"))
    server.slow = 0.05
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(source().access_token), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(found) == [f"canary-token-{number}" for number in range(1, 5)]


def test_without_a_login_or_with_one_that_ended_a_person_is_needed(source: Source, logins: LoginFile) -> None:
    with pytest.raises(NoToken) as none:
        source()
    assert none.value.reason is Reason.LOGIN_NEEDED
    logins.write(Login("canary-long-gone"))
    with pytest.raises(NoToken) as ended:
        source()
    assert ended.value.reason is Reason.LOGIN_NEEDED


def test_a_login_without_a_refresh_token_serves_until_its_access_token_ends(source: Source, logins: LoginFile) -> None:
    now = source._clock()
    logins.write(Login(None, "canary-token", now + 100))
    granted = source()
    assert granted.access_token == "canary-token"
    assert granted.lifetime is not None
    assert 0 < granted.lifetime <= 100
    logins.write(Login(None, "canary-token", now - 1))
    with pytest.raises(NoToken):
        source()
    logins.write(Login(None, "canary-token"))
    assert source().lifetime is None


def test_a_login_file_that_cannot_be_locked_is_a_mistake_of_the_settings(source: Source, tmp_path: Path) -> None:
    source.logins = LoginFile(tmp_path / "no" / "login", PSEUDONYMS)
    with pytest.raises(NoToken, match="cannot be written") as none:
        source()
    assert none.value.reason is Reason.REFUSED_TOKEN
    assert not (tmp_path / "no").exists()
