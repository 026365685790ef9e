"""Whose a request is: what makes a token good, and what becomes of keys that change or cannot be had."""

import base64
import hmac
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from pipeline.model import Reply
from pipeline.oauth.granted import NoToken
from pipeline.oauth.wire import Wire
from pipeline.serve.xis.context import BSN, Identity, Names, context_of, is_bsn
from pipeline.serve.xis.faults import Fault
from pipeline.serve.xis.jwks import KEEP, OLD, PAUSE, Keys, NotFetched, from_file, from_url, read
from pipeline.serve.xis.tokens import Introspection
from pipeline.settings_sections import OperationTimes, Secret, TlsFiles
from pipeline.settings_serve import IntrospectionSettings
from schemas.outcomes import Reason
from tests.serve.xis.stand_ins import ANNA, BASE, BRAM, ISSUER, LOCAL, NOW, WALL, House, Issuer, fault


def house(**parts: Any) -> House:  # noqa: ANN401 - the parts of a House
    made = House(**parts)
    made.change("a0", NOW, (BSN, ANNA))
    return made


def test_without_a_token_one_is_asked_for() -> None:
    told = house().asked("/Appointment", "")
    assert fault(told) == (401, "security")
    assert told.headers["WWW-Authenticate"] == 'Bearer realm="appointments"'


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer  ", "", "token"])
def test_what_is_no_bearer_token_is_none(header: str) -> None:
    assert fault(house().asked("/Appointment", "", authorization=header)) == (401, "security")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "https://other.example"},
        {"aud": None},
        {"exp": WALL - 30},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": WALL + 31},
        {"iat": WALL + 31},
    ],
)
def test_a_token_of_another_issuer_audience_or_time_is_not_good(claims: dict[str, Any]) -> None:
    made = house()
    told = made.asked("/Appointment", made.issuer.token(**claims))
    assert fault(told) == (401, "security")
    assert 'error="invalid_token"' in told.headers["WWW-Authenticate"]


@pytest.mark.parametrize("claims", [{"exp": WALL - 29}, {"nbf": WALL + 30}, {"aud": ["x", BASE]}])
def test_clocks_may_differ_a_little_and_a_token_may_be_for_several(claims: dict[str, Any]) -> None:
    made = house()
    assert made.asked("/Appointment", made.issuer.token(**claims)).status == 200


def test_a_token_that_a_stranger_signed_or_that_was_changed_is_not_good() -> None:
    made = house()
    stranger = Issuer([ECKey.generate_key("P-256", {"kid": "one"})])
    head, claims, signature = made.issuer.token().split(".")
    other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(claims + "==").replace(ANNA.encode(), BRAM.encode()))
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for token in (
        stranger.token(),
        f"{head}.{other.decode().rstrip('=')}.{signature}",
        f"{none}.{claims}.",
        f"{head}.{claims}.",
        f"{head}.{claims}",
        "x",
        "x.y.z",
        "é.é.é",
        "a" * 20_000,
    ):
        assert fault(made.asked("/Appointment", token)) == (401, "security"), token


def test_a_shared_secret_signs_nothing_even_where_it_is_a_public_key() -> None:
    made = house()
    public = made.issuer.keys[0].as_pem(private=False)  # type: ignore[union-attr]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').decode().rstrip("=")
    signed = f"{head}.{made.issuer.token().split('.')[1]}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
    assert fault(made.asked("/Appointment", f"{signed}.{signature}")) == (401, "security")
    with_secret = Issuer([OctKey.import_key("a secret that both sides know, of 32 bytes", {"kid": "one"})])
    assert fault(made.asked("/Appointment", with_secret.token())) == (401, "security")


def test_rsa_keys_count_too() -> None:
    made = house(issuer=Issuer([RSAKey.generate_key(2048, {"kid": "r"})]))
    assert made.asked("/Appointment").status == 200


@pytest.mark.parametrize(
    "claims", [{"bsn": None}, {"bsn": "123456789"}, {"bsn": ""}, {"bsn": ["999900006"]}, {"bsn": True}, {"bsn": "000000000"}]
)
def test_a_token_that_names_no_patient_is_refused(claims: dict[str, Any]) -> None:
    made = house()
    assert fault(made.asked("/Appointment", made.issuer.token(claims["bsn"]))) == (403, "forbidden")


def test_a_token_without_the_scope_is_refused() -> None:
    made = house(names=Names(scope="appointments"))
    told = made.asked("/Appointment")
    assert fault(told) == (403, "forbidden")
    assert 'error="insufficient_scope"' in told.headers["WWW-Authenticate"]
    for scope in ("openid appointments", ["appointments"]):
        assert made.asked("/Appointment", made.issuer.token(scope=scope)).status == 200


def test_a_bsn_that_is_a_number_has_its_zeros_back() -> None:
    made = House()
    made.change("z0", NOW, (BSN, "010000008"))
    assert is_bsn("010000008")
    assert made.found("", made.issuer.token(10_000_008)) == ["z0"]


def test_a_local_number_stays_as_it_is() -> None:
    made = House()
    made.change("l0", NOW, (LOCAL, "123"))
    assert made.found("", made.issuer.token(None, patient_number=123)) == ["l0"]


def test_a_key_that_is_new_is_fetched_when_a_token_names_it() -> None:
    now = [0.0]
    made = house(clock=lambda: now[0])
    assert made.asked("/Appointment").status == 200
    made.issuer.keys = [ECKey.generate_key("P-256", {"kid": "two"})]
    assert made.asked("/Appointment").status == 401, "not before the pause is over"
    now[0] += PAUSE
    assert made.asked("/Appointment").status == 200
    assert made.issuer.asked == 2


def test_a_key_that_was_taken_back_counts_no_longer_than_a_key_set_is_kept() -> None:
    now = [0.0]
    made = house(clock=lambda: now[0])
    old = made.issuer.token()
    assert made.asked("/Appointment", old).status == 200
    made.issuer.keys = [ECKey.generate_key("P-256", {"kid": "two"})]
    now[0] += OLD + 1
    assert made.asked("/Appointment", old).status == 401


def test_made_up_key_ids_do_not_make_us_ask_without_end() -> None:
    now = [0.0]
    made = house(clock=lambda: now[0])
    for number in range(20):
        now[0] += 0.1
        made.asked("/Appointment", made.issuer.token(header={"kid": f"made-up-{number}"}))
    assert made.issuer.asked == 1


def test_an_issuer_that_is_away_is_told_and_keys_that_were_there_serve_for_a_day(capfd: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    made = house(clock=lambda: now[0])
    made.issuer.away = True
    assert fault(made.asked("/Appointment")) == (503, "transient")
    assert made.service.tokens.ready() is not None
    made.issuer.away = False
    now[0] += PAUSE
    assert made.asked("/Appointment").status == 200
    assert made.service.tokens.ready() is None
    made.issuer.away = True
    now[0] += OLD + 1
    assert made.asked("/Appointment").status == 200
    now[0] += KEEP
    assert fault(made.asked("/Appointment")) == (503, "transient")
    events = [orjson.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert [event for event in events if event.startswith("keys")] == ["keys_not_fetched", "keys_fetched", "keys_not_fetched"]


def test_many_threads_fetch_the_keys_once() -> None:
    issuer = Issuer()
    keys = Keys(issuer.fetch, time.monotonic)
    threads = [threading.Thread(target=keys.of, args=("one",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "document",
    [None, {}, {"keys": []}, {"keys": "x"}, {"keys": [{"kty": "oct", "k": "AAAA"}]}, {"keys": [{"kty": "RSA", "use": "enc"}]}],
)
def test_a_document_without_public_keys_is_no_key_set(document: object) -> None:
    with pytest.raises(NotFetched):
        read(document)


def test_a_key_for_encryption_signs_nothing() -> None:
    pair = [ECKey.generate_key("P-256", {"kid": use, "use": use}).as_dict(private=False) for use in ("enc", "sig")]
    assert [key.kid for key in read({"keys": pair})] == ["sig"]


@dataclass
class Script(Wire):
    """Answers from a list; what was asked stands in `asked`."""

    replies: list[Reply | None] = field(default_factory=list)
    asked: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(TlsFiles(), OperationTimes(read=1, total=1))

    def ask(
        self, method: str, url: str, what: str, *, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"", accept: str = ""
    ) -> Reply:
        """See Wire."""
        del what, accept
        self.asked.append((method, url, headers, body))
        reply = self.replies.pop(0)
        if reply is None:
            raise NoToken(Reason.NOT_SENT_TOKEN)
        return reply


def said(status: int, **document: object) -> Reply:
    return raw(status, orjson.dumps(document))


def raw(status: int, body: bytes) -> Reply:
    return Reply(status, {}, body, elapsed_ms=0.0, sent_ms=0, answered_ms=0)


def test_keys_come_by_https_or_from_a_file(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", {"kid": "one"})
    wire = Script([said(200, keys=[key.as_dict(private=False)]), said(500), None])
    fetch = from_url(wire, f"{ISSUER}/jwks")
    assert [one.kid for one in fetch()] == ["one"]
    for _ in range(2):
        with pytest.raises(NotFetched):
            fetch()
    file = tmp_path / "keys.json"
    with pytest.raises(NotFetched):
        from_file(file)()
    file.write_bytes(b"{")
    with pytest.raises(NotFetched):
        from_file(file)()
    file.write_bytes(orjson.dumps({"keys": [key.as_dict(private=False)]}))
    assert [one.kid for one in from_file(file)()] == ["one"]


def introspection(*replies: Reply | None, now: list[float] | None = None) -> tuple[Introspection, Script]:
    wire, clock = Script(list(replies)), now or [1000.0]
    asked = IntrospectionSettings(url=f"{ISSUER}/introspect", client_id="us", client_secret=Secret(env="PATH"), kept_seconds=10)
    names = Names(local="patient_number", local_system=LOCAL)
    made = Introspection(wire, asked, names, ISSUER, BASE, leeway=30, clock=lambda: clock[0])
    return made, wire


def test_an_issuer_is_asked_about_a_token_as_rfc_7662_says() -> None:
    made, wire = introspection(said(200, active=True, bsn=ANNA, exp=2000, aud=[BASE], iss=ISSUER))
    assert made.context("opaque&token").identities == (Identity(BSN, ANNA),)
    ((method, url, headers, body),) = wire.asked
    assert (method, url, body) == ("POST", f"{ISSUER}/introspect", b"token=opaque%26token&token_type_hint=access_token")
    assert (
        dict(headers)["Authorization"]
        == "Basic " + base64.b64encode(f"us:{quote(os.environ['PATH'], safe='')}".encode()).decode()
    )


def test_a_good_answer_is_kept_for_a_while_and_not_past_its_end() -> None:
    now = [1000.0]
    good = said(200, active=True, bsn=ANNA, exp=2000)
    made, wire = introspection(good, good, said(200, active=False), now=now)
    for _ in range(3):
        made.context("one")
    assert len(wire.asked) == 1
    now[0] += 10
    made.context("one")
    now[0] += 10
    with pytest.raises(Fault):
        made.context("one")
    assert len(wire.asked) == 3


def test_a_good_answer_is_not_kept_past_the_end_of_its_token() -> None:
    now = [1000.0]
    made, wire = introspection(*[said(200, active=True, bsn=ANNA, exp=975)] * 2, now=now)
    made.context("one")
    now[0] += 6  # of the ten seconds that it is kept, and past its end with all that clocks may differ
    with pytest.raises(Fault):
        made.context("one")
    assert len(wire.asked) == 2


def test_another_token_is_asked_about_anew() -> None:
    made, wire = introspection(said(200, active=True, bsn=ANNA), said(200, active=True, bsn=BRAM))
    assert [made.context(token).identities[0].value for token in ("one", "two", "one")] == [ANNA, BRAM, ANNA]
    assert len(wire.asked) == 2


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (said(200, active=False), 401),
        (said(200), 401),
        (said(200, active="true", bsn=ANNA), 401),
        (said(200, active=True, bsn=ANNA, aud="https://other.example"), 401),
        (said(200, active=True, bsn=ANNA, iss="https://other.example"), 401),
        (said(200, active=True, bsn=ANNA, exp=900), 401),
        (said(200, active=True, bsn=ANNA, exp="x"), 401),
        (said(200, active=True, bsn=ANNA, nbf=5000), 401),
        (said(200, active=True), 403),
        (said(401, error="invalid_client"), 503),
        (raw(200, b"<html>"), 503),
        (None, 503),
    ],
)
def test_what_an_issuer_says_decides(reply: Reply | None, status: int) -> None:
    made, _ = introspection(reply)
    with pytest.raises(Fault) as refused:
        made.context("one")
    assert refused.value.status == status


def test_whether_an_issuer_answers_is_asked_no_more_often_than_it_should_be() -> None:
    now = [1000.0]
    made, wire = introspection(None, said(200, active=False), now=now)
    assert made.ready() is not None
    assert made.ready() is not None
    now[0] += PAUSE
    assert made.ready() is None
    assert len(wire.asked) == 2


def test_a_client_secret_whose_file_is_gone_is_an_outage_and_over_when_it_is_back(tmp_path: Path) -> None:
    """It was a 500: the error of a setting that is missing went past."""
    now, file = [1000.0], tmp_path / "secret"
    wire = Script([said(200, active=True, bsn=ANNA)] * 2)
    asked = IntrospectionSettings(url=f"{ISSUER}/introspect", client_id="us", client_secret=Secret(file=file))
    failed: list[None] = []
    made = Introspection(wire, asked, Names(), ISSUER, BASE, leeway=30, clock=lambda: now[0], failed=lambda: failed.append(None))
    with pytest.raises(Fault) as refused:
        made.context("one")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "30")
    assert str(file) not in refused.value.text
    assert str(file) in str(made.ready())
    file.write_text("a secret")
    now[0] += PAUSE
    assert made.ready() is None
    assert made.context("one").identities == (Identity(BSN, ANNA),)
    assert len(failed) == 1


def test_half_a_character_names_nobody() -> None:
    """JSON can write it, and nothing can hash it."""
    with pytest.raises(Fault, match="names no patient"):
        context_of({"exp": 1, "patient_number": "\ud800"}, Names(local="patient_number", local_system=LOCAL))


@pytest.mark.parametrize("claims", [{"exp": 10**400}, {"bsn": [ANNA]}, {"exp": True}])
def test_a_token_whose_claims_are_odd_is_no_defect(claims: dict[str, Any]) -> None:
    made = House()
    assert made.asked("/Appointment", made.issuer.token(**claims)).status in {200, 401, 403}
