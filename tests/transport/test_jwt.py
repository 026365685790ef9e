"""Tokens of our own: what stands in them, for whom they are kept and how long, and that nothing of them is seen anywhere."""

import base64
import json
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey

from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.transport.jwt import KEPT, JwtTransport, Signer

PRIVATE = rsa.generate_private_key(65537, 2048)
KEY = RSAKey.import_key(PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
REQUEST = Request("response-create", "POST", "/x", "/x", (), b"", "r", Timeouts(5, 15, 20), Intent.UPDATE)
LIFE = 600


@dataclass
class Script:
    """Time, and a transport that answers as told."""

    answers: list[int] = field(default_factory=list)
    now: float = 1_800_000_000.0
    sent: list[Request] = field(default_factory=list)

    def exchange(self, request: Request) -> Reply:
        self.sent.append(request)
        return Reply(self.answers.pop(0) if self.answers else 200, {}, b"", 1.0, 0, 1)

    def knock(self) -> None:
        self.sent.append(REQUEST)

    def close(self) -> None:
        self.answers.clear()

    @property
    def tokens(self) -> list[str]:
        return [
            str(value).removeprefix("Bearer ")
            for request in self.sent
            for name, value in request.headers
            if name == "Authorization"
        ]


def transport(script: Script, algorithm: str = "RS256", seconds: int = LIFE) -> JwtTransport:
    return JwtTransport(script, Signer("hospital", "consumer", algorithm, KEY, seconds), clock=lambda: script.now)


def about(subject: str | None) -> Request:
    return replace(REQUEST, subject=subject)


def read(token: str, algorithm: str = "RS256") -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, the signature checked without the library that made it."""
    parts = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    digest = {"RS256": hashes.SHA256(), "RS512": hashes.SHA512()}[algorithm]
    PRIVATE.public_key().verify(parts[2], token.rpartition(".")[0].encode(), padding.PKCS1v15(), digest)
    return json.loads(parts[0]), json.loads(parts[1])


@pytest.mark.parametrize("algorithm", ["RS256", "RS512"])
def test_a_token_has_what_the_partner_asks_for_and_nothing_else(algorithm: str) -> None:
    script = Script()
    transport(script, algorithm).exchange(about("2075"))
    header, claims = read(script.tokens[0], algorithm)
    assert header == {"typ": "JWT", "alg": algorithm, "kid": "consumer"}
    assert claims == {"iss": "hospital", "aud": "api", "iat": 1_800_000_000, "exp": 1_800_000_000 + LIFE, "sub": "2075"}


def test_a_request_about_nobody_has_no_sub() -> None:
    script = Script()
    transport(script).exchange(about(None))
    assert "sub" not in read(script.tokens[0])[1]


def test_each_dossier_has_its_own_token_and_keeps_it_until_a_quarter_of_its_life_is_left() -> None:
    script = Script()
    through = transport(script)
    for subject in ("1", "2", "1"):
        through.exchange(about(subject))
    script.now += LIFE * 0.75 - 1
    through.exchange(about("1"))
    script.now += 1
    through.exchange(about("1"))
    one, two, again, late, renewed = script.tokens
    assert (one == again == late, one != two, renewed != one) == (True, True, True)


def test_a_clock_that_was_set_back_makes_a_new_one() -> None:
    script = Script()
    through = transport(script)
    through.exchange(about("1"))
    script.now -= 3600
    through.exchange(about("1"))
    assert read(script.tokens[1])[1]["iat"] == 1_800_000_000 - 3600


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400)), max_size=12))
def test_whatever_goes_out_is_of_its_dossier_and_good_for_a_while_yet(steps: list[tuple[str, int]]) -> None:
    script = Script()
    through = transport(script)
    for subject, passed in steps:
        script.now += passed
        through.exchange(about(subject))
        claims = json.loads(base64.urlsafe_b64decode(script.tokens[-1].split(".")[1] + "=="))
        assert claims["sub"] == subject
        assert claims["iat"] <= script.now < claims["exp"] - LIFE * 0.2


def test_only_the_last_dossiers_tokens_are_kept() -> None:
    script = Script()
    through = transport(script)
    for number in range(KEPT + 5):
        through.exchange(about(str(number)))
    assert len(through._kept) == KEPT
    through.exchange(about(str(KEPT + 4)))
    assert script.tokens[-1] == script.tokens[-2]


def test_a_kept_token_that_is_refused_is_made_anew_once() -> None:
    script = Script([200, 401, 200])
    through = transport(script)
    through.exchange(about("1"))
    script.now += 1
    assert through.exchange(about("1")).status == 200
    first, kept, anew = script.tokens
    assert (kept == first, anew != first) == (True, True)


def test_a_new_token_that_is_refused_is_the_partners_word() -> None:
    script = Script([401])
    assert transport(script).exchange(about("1")).status == 401
    assert len(script.sent) == 1


def test_nothing_of_it_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    with caplog.at_level(logging.DEBUG):
        through = transport(script)
        through.exchange(about("dossier-2075"))
    shown = f"{script.sent[0]!r}{through!r}{through._signer!r}{caplog.text}"
    assert script.tokens[0] not in shown
    assert "dossier-2075" not in shown


def test_threads_share_a_dossiers_token() -> None:
    script = Script()
    through = transport(script)
    through.exchange(about("1"))
    threads = [threading.Thread(target=through.exchange, args=(about("1"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(script.tokens)) == 1


def test_a_knock_has_no_token_and_an_end_closes_what_is_inside() -> None:
    script = Script([200])
    through = transport(script)
    through.knock()
    through.close()
    assert (script.tokens, script.answers) == ([], [])
