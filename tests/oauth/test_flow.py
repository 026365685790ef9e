"""A partner behind tokens, over real TLS, with many threads: one refresh, one resend, no herd, nothing of a token in what can be seen."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import NotSent
from pipeline.oauth.open import bearer_of
from pipeline.pseudonyms import Pseudonyms
from pipeline.sandbox.certificates import Files
from pipeline.settings_partners import OAuthSettings
from pipeline.settings_sections import Secret
from pipeline.transport.bearer import BearerTransport
from pipeline.transport.https import HttpsTransport
from schemas.outcomes import Reason
from tests.oauth.authorization import CLIENT, REQUEST, SECRET, Asked, AuthorizationServer, as_json, whole
from tests.oauth.herd import at_once
from tests.oauth.test_tokens import Partner
from tests.transport.tls_server import tls

LONG = 60.0
THREADS = 12


@pytest.fixture
def transport(server: AuthorizationServer, files: Files, tmp_path: Path) -> Iterator[BearerTransport]:
    (tmp_path / "secret").write_text(SECRET)
    oauth = OAuthSettings(client_id=CLIENT, client_secret=Secret(file=tmp_path / "secret"))
    partner = Partner(base_url=server.base, tls=tls(files), oauth=oauth)
    inner = HttpsTransport(server.base, partner.tls, {}, pool=THREADS)
    one = bearer_of("njsams", partner, inner, Pseudonyms("0123456789abcdef"))
    yield one
    one.close()


def test_many_threads_that_begin_together_get_one_token(transport: BearerTransport, server: AuthorizationServer) -> None:
    server.slow = 0.2
    assert at_once(transport, REQUEST, THREADS) == [200] * THREADS
    assert (len(server.tokens), len(server.calls)) == (1, THREADS)


def test_a_401_in_mid_stream_costs_one_refresh_for_all_and_one_resend_each(
    transport: BearerTransport, server: AuthorizationServer
) -> None:
    assert transport.exchange(REQUEST).status == 200
    server.revoke()
    server.slow = 0.2
    server.calls.clear()
    assert at_once(transport, REQUEST, THREADS) == [200] * THREADS
    assert len(server.tokens) == 2
    sent = Counter(call.headers["authorization"] for call in server.calls)
    assert sent["Bearer canary-token-2"] == THREADS
    assert sent["Bearer canary-token-1"] <= THREADS


def test_a_second_401_is_the_answer(transport: BearerTransport, server: AuthorizationServer) -> None:
    class Nobody(set[str]):
        def __contains__(self, _: object) -> bool:
            return False

    server.valid = Nobody()
    assert transport.exchange(REQUEST).status == 401
    assert (len(server.tokens), len(server.calls)) == (2, 2)


def test_a_token_endpoint_that_fails_is_asked_once_for_all_and_nothing_is_sent(
    transport: BearerTransport, server: AuthorizationServer
) -> None:
    server.trouble = lambda _: whole(500, b"canary")
    assert at_once(transport, REQUEST, THREADS) == [Reason.NOT_SENT_TOKEN] * THREADS
    assert server.calls == []
    # those who come after the failure hear the same for a pause; a slow thread may begin after it
    assert len(server.tokens) <= 2
    assert server.most == 1


def test_a_refused_client_is_asked_once_for_all(transport: BearerTransport, server: AuthorizationServer) -> None:
    server.trouble = lambda _: as_json(401, {"error": "invalid_client"})
    assert at_once(transport, REQUEST, THREADS) == [Reason.REFUSED_TOKEN] * THREADS
    assert server.most == 1


def test_a_refresh_that_fails_after_a_401_is_not_sent_and_not_the_partners_refusal(
    transport: BearerTransport, server: AuthorizationServer
) -> None:
    assert transport.exchange(REQUEST).status == 200
    server.revoke()
    server.trouble = lambda _: whole(503, b"")
    with pytest.raises(NotSent) as none:
        transport.exchange(REQUEST)
    assert none.value.reason is Reason.NOT_SENT_TOKEN


def test_nothing_of_a_token_or_secret_is_in_what_can_be_seen(
    transport: BearerTransport, server: AuthorizationServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    transport.exchange(REQUEST)
    server.revoke()
    answers = [
        None,
        whole(500, b"canary"),
        as_json(401, {"error": "invalid_client", "error_description": "canary"}),
        as_json(200, {"access_token": "canary\n", "token_type": "bearer"}),
    ]
    said = [repr(transport), repr(transport._tokens)]
    for answer in answers:
        server.trouble = lambda _, answer=answer: answer  # type: ignore[misc] # mypy sees no default of a lambda
        server.revoke()
        try:
            said.append(repr(transport.exchange(REQUEST)))
        except NotSent as error:
            said += [str(error), repr(error), repr(error.args), repr(error.__cause__), repr(error.__context__)]
    seen = capfd.readouterr()
    every = "".join(said) + seen.out + seen.err + caplog.text
    assert "token_not_renewed" in every
    for secret in ("canary", SECRET, CLIENT):
        assert secret not in every


def asked_of(server: AuthorizationServer) -> Asked:
    return server.calls[-1]


def test_the_partner_sees_the_request_as_it_was_and_the_token_beside(
    transport: BearerTransport, server: AuthorizationServer
) -> None:
    transport.exchange(REQUEST)
    asked = asked_of(server)
    assert (asked.method, asked.path, asked.body) == ("POST", "/base/Bundle", "{}")
    assert asked.headers["content-type"] == "application/json+fhir"
    assert asked.headers["authorization"] == "Bearer canary-token-1"
    transport.knock()
    assert "authorization" not in asked_of(server).headers
