"""The key that signs our tokens for RoQua: made and published by jwks, looked at by doctor, taken by the stand-in."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc.jwk import RSAKey

from pipeline.cli import main
from pipeline.commands.doctor.protected import tokens
from pipeline.commands.doctor.report import Level
from pipeline.model import Intent, Request, Timeouts
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.settings import load
from pipeline.wiring import transport_of

NAME = "roqua-responses"


def written(folder: Path, base_url: str = "https://localhost:1", ca: Path | None = None) -> Path:
    (folder / "hash").write_text("a secret of the tests, long enough")
    jwt = {"consumer_key": "token_key", "file": str(folder / "key.pem"), "issuer": "hospital", "algorithm": "RS512", "minutes": 5}
    block: dict[str, Any] = {"kind": NAME, "base_url": base_url, "jwt": jwt} | ({"tls": {"ca": str(ca)}} if ca else {})
    tree = {
        "site": {"name": "test"},
        "bus": {"kind": "embedded", "path": str(folder / "bus")},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "hash")}},
        "partners": {NAME: block},
        "routes": {NAME: {"partner": NAME, "source": "his.adt", "start": "earliest"}},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def published(capsys: pytest.CaptureFixture[str], settings: Path, *words: str) -> dict[str, Any]:
    assert main(["jwks", NAME, *words, "--settings", str(settings)]) == 0
    (key,) = json.loads(capsys.readouterr().out)["keys"]
    found: dict[str, Any] = key
    return found


def test_a_key_that_jwks_made_and_published_is_what_our_tokens_are_known_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RoquaSandbox(tmp_path / "roqua") as roqua:
        settings = written(tmp_path, roqua.base_url, roqua.files.ca)
        key = published(capsys, settings, "--new")
        assert ((tmp_path / "key.pem").stat().st_mode & 0o777, "d" in key) == (0o600, False)
        assert (key["kid"], key["alg"], key["kty"]) == ("token_key", "RS512", "RSA")
        assert main(["jwks", "--pem", "--settings", str(settings)]) == 0
        pem = capsys.readouterr().out
        assert (RSAKey.import_key(pem).as_dict(private=False)["n"], "PRIVATE" in pem) == (key["n"], False)
        roqua.tell("key", pem=pem)
        transport = transport_of(load(settings), NAME)
        path = "/api/v1/dossiers/2075/responses"
        asked = Request("list", "GET", path, path, (), b"", "r", Timeouts(5, 15, 20), Intent.UPDATE, subject="2075")
        status = transport.exchange(asked).status
        transport.close()
    assert status == 200


def test_the_doctor_says_whether_a_token_can_be_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = written(tmp_path)
    (without,) = tokens(load(settings))
    published(capsys, settings, "--new")
    (line,) = tokens(load(settings))
    assert (without.level, without.ours, "jwks roqua-responses --new" in str(without)) == (Level.FAIL, True, True)
    assert (line.level, line.found) == (Level.OK, "one can be signed (RS512), for 5 minutes and one dossier each")
