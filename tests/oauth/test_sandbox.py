"""Our OAuth against the stand-in's authorization server, which shares no line and no library call of it: each grant, each proof, the faults of F9."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.oauth import keys
from pipeline.oauth.granted import NoToken
from pipeline.oauth.login import begin, finish, redirected
from pipeline.oauth.open import bearer_of, source_of
from pipeline.oauth.source import Source
from pipeline.oauth.store import Login
from pipeline.pseudonyms import Pseudonyms
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.settings_partners import OAuthSettings, SigningKey
from pipeline.settings_sections import Secret
from pipeline.transport.bearer import BearerTransport
from pipeline.transport.https import HttpsTransport
from schemas.outcomes import Reason
from tests.oauth.authorization import REQUEST
from tests.oauth.herd import at_once
from tests.oauth.test_tokens import Partner
from tests.transport.tls_server import tls

PSEUDONYMS = Pseudonyms("0123456789abcdef")
SEARCH = replace(REQUEST, method="GET", path="/Patient", headers=(("Accept", "application/json+fhir"),), body=b"")
THREADS = 12
LONG = 60.0
Block = Callable[..., Partner]


@pytest.fixture
def open_until() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def njsams(files: Files, open_until: ExitStack) -> NjsamsSandbox:
    (files.folder / "effects.jsonl").unlink(missing_ok=True)
    return open_until.enter_context(NjsamsSandbox(files.folder))


@pytest.fixture
def partner(njsams: NjsamsSandbox) -> Block:
    """Settings for it."""

    def made(**block: Any) -> Partner:  # noqa: ANN401 - settings of any type
        given = {"client_id": "emr-pipeline", "scope": "system/*.write", **block}
        if "private_key" not in given:
            given["client_secret"] = Secret(file=njsams.files.client_secret)
        return Partner(base_url=njsams.base_url, tls=tls(njsams.files), oauth=OAuthSettings(**given))

    return made


@pytest.fixture
def source(partner: Block, open_until: ExitStack) -> Callable[..., Source]:
    def made(**block: Any) -> Source:  # noqa: ANN401 - as above
        one = source_of("njsams", partner(**block), PSEUDONYMS)
        open_until.callback(one.close)
        return one

    return made


@pytest.fixture
def transport(partner: Block, open_until: ExitStack) -> BearerTransport:
    chosen = partner()
    inner = HttpsTransport(chosen.base_url, chosen.tls, {}, pool=THREADS)
    one = bearer_of("njsams", chosen, inner, PSEUDONYMS)
    open_until.callback(one.close)
    return one


def granted(njsams: NjsamsSandbox) -> list[str]:
    """The grant of each token that was issued."""
    return [one.token["grant"] for one in njsams.log.effects(operation="token") if one.token]


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_a_secret_is_taken_in_either_form(njsams: NjsamsSandbox, source: Callable[..., Source], way: str) -> None:
    njsams.set(client_auth=way)
    assert njsams.knobs.token_seconds == source(client_auth=way)().lifetime
    assert granted(njsams) == ["client_credentials"]


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_an_assertion_is_taken_each_time_it_is_made(
    njsams: NjsamsSandbox, source: Callable[..., Source], tmp_path: Path, algorithm: str
) -> None:
    signing = SigningKey.model_validate({"file": tmp_path / "key.pem", "key_id": "k1", "algorithm": algorithm})
    keys.make(signing, "here")
    one = source(client_auth="private_key_jwt", private_key=signing)
    with pytest.raises(NoToken) as refused:
        one()
    assert refused.value.reason is Reason.REFUSED_TOKEN
    njsams.register_keys({"keys": [keys.public(signing, "here")]})
    assert [bool(one().access_token) for _ in range(2)] == [True, True]


@pytest.mark.parametrize("rotation", ["rotated", "kept"])
def test_a_login_gives_a_refresh_token_that_goes_on(
    njsams: NjsamsSandbox, source: Callable[..., Source], tmp_path: Path, rotation: str
) -> None:
    njsams.set(rotation=rotation)
    one = source(grant="authorization_code", scope="openid fhirUser user/*.read", refresh_file=tmp_path / "login")
    begun = begin(one)
    with requests.Session() as browser:
        browser.trust_env = False
        answer = browser.get(begun.url, verify=str(njsams.files.ca), allow_redirects=False, timeout=LONG)
    given = finish(one, begun, redirected(begun, answer.headers["Location"]))
    assert one.logins is not None
    one.logins.write(Login(given.refresh_token))
    assert [bool(one().access_token) for _ in range(3)] == [True] * 3
    assert Counter(granted(njsams)) == {"authorization_code": 1, "refresh_token": 3}
    njsams.revoke(refresh=True)
    with pytest.raises(NoToken) as ended:
        one()
    assert ended.value.reason is Reason.LOGIN_NEEDED


def test_tokens_that_are_revoked_in_mid_stream_cost_one_request_and_no_search(
    njsams: NjsamsSandbox, transport: BearerTransport
) -> None:
    assert at_once(transport, SEARCH, THREADS) == [200] * THREADS
    njsams.revoke()
    njsams.inject("late", operation="token", answer_after=0.2)
    assert at_once(transport, SEARCH, THREADS) == [200] * THREADS
    assert granted(njsams) == ["client_credentials"] * 2


@pytest.mark.parametrize(
    ("fault", "details"),
    [
        ("500", {}),
        ("503", {}),
        ("login_page", {}),
        ("drop", {}),
        ("truncated", {}),
        ("no_access_token", {}),
        ("token_type", {"value": "mac"}),
    ],
)
def test_a_token_endpoint_that_fails_leaves_all_unsent_without_a_herd(
    njsams: NjsamsSandbox, transport: BearerTransport, fault: str, details: dict[str, str]
) -> None:
    njsams.inject(fault, operation="token", **details)
    assert at_once(transport, SEARCH, THREADS) == [Reason.NOT_SENT_TOKEN] * THREADS
    assert not njsams.log.effects(operation="search")
    assert len(njsams.log.effects(operation="token")) <= THREADS // 2


@pytest.mark.parametrize("value", ["", "0", "-5", "1e400", "soon", "null"])
def test_an_absurd_lifetime_is_no_reason_to_ask_for_each_search(
    njsams: NjsamsSandbox, transport: BearerTransport, value: str
) -> None:
    njsams.inject("expires_in", value=value)
    assert [transport.exchange(SEARCH).status for _ in range(5)] == [200] * 5
    assert len(granted(njsams)) == 1
