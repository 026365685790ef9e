"""`emr-pipeline serve` as a process: it answers a patient out of the store of its settings, and stops as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import orjson
import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey

from pipeline import cli, settings, wiring
from pipeline.appointments.port import Change, Key
from pipeline.errors import SettingsError
from pipeline.serve.xis.context import BSN
from pipeline.settings import DEFAULTS
from tests.serve.xis.stand_ins import ANNA, BASE, BRAM, ISSUER, NOW, ids

SECRET = "a secret of sixteen bytes and more"


@dataclass
class Hospital:
    """Settings, a store with an appointment of Anna, and an issuer's key."""

    folder: Path
    key: ECKey

    @property
    def file(self) -> Path:
        return self.folder / "settings.yaml"

    def token(self, bsn: str) -> str:
        claims = {"iss": ISSUER, "aud": BASE, "exp": int(time.time()) + 3600, "bsn": bsn}
        return jwt.encode({"alg": "ES256", "kid": "one"}, claims, self.key, algorithms=["ES256"])


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    made = Hospital(tmp_path, ECKey.generate_key("P-256", {"kid": "one"}))
    monkeypatch.setenv("PATIENT_HASH", SECRET)
    tree = yaml.safe_load(DEFAULTS.read_text())
    tree["keys"]["patient_hash"] = {"env": "PATIENT_HASH"}
    tree["appointments"] = {"url": "sqlite:///appointments.sqlite"}
    tokens = {"issuer": ISSUER, "audience": BASE, "jwks_file": "keys.json"}
    tree["serve"] = {"address": "127.0.0.1:0", "base_url": BASE, "tokens": tokens}
    made.file.write_text(yaml.safe_dump(tree))
    (tmp_path / "keys.json").write_bytes(orjson.dumps({"keys": [made.key.as_dict(private=False)]}))
    loaded = settings.load(made.file)
    store, pseudonyms = wiring.store_of(loaded), wiring.pseudonyms_of(loaded)
    body = orjson.dumps({"resourceType": "Appointment", "id": "a0", "status": "booked"})
    key = Key(pseudonyms.person(BSN, ANNA), sole=True)
    store.put(Change("a0", (key,), 1, None, NOW, {("Appointment", "a0"): body}))
    store.close()
    return made


@pytest.fixture
def process(hospital: Hospital) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--settings", str(hospital.file)]
    environment = {**os.environ, "PATIENT_HASH": SECRET}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    yield running
    if running.poll() is None:
        running.kill()
    running.communicate(timeout=60)


def test_a_patient_is_answered_out_of_the_store_until_it_is_told_to_stop(
    hospital: Hospital, process: subprocess.Popen[str]
) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving appointments on 127.0.0.1:")
    port = int(line.split(":")[1].split()[0])
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for bsn, expected in ((ANNA, ["a0"]), (BRAM, [])):
        connection.request("GET", "/fhir/Appointment?date=ge2025", headers={"Authorization": f"Bearer {hospital.token(bsn)}"})
        answer = connection.getresponse()
        assert (answer.status, ids(orjson.loads(answer.read()))) == (200, expected)
    connection.close()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as garbled:
        garbled.sendall(b"no http\r\n\r\n")
        assert garbled.recv(65536).startswith(b"HTTP/1.1 400")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n")
    events = [json.loads(one)["event"] for one in err.splitlines()]
    assert events == ["serve_started", "request_answered", "request_answered", "serve_stopped"]
    assert ANNA not in err


def test_without_its_section_it_says_so(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    tree = yaml.safe_load(hospital.file.read_text())
    del tree["serve"]
    hospital.file.write_text(yaml.safe_dump(tree))
    assert cli.main(["serve", "--settings", str(hospital.file)]) == 2
    assert "there is no section `serve`" in capsys.readouterr().err


def test_without_a_store_it_says_so(hospital: Hospital) -> None:
    loaded = settings.load(hospital.file).model_copy(update={"appointments": None})
    with pytest.raises(SettingsError, match="where appointments are kept"), wiring.xis_of(loaded):
        pass


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ({}, "give one of jwks_url, jwks_file and introspection"),
        ({"jwks_url": "https://i.example/k", "jwks_file": "k"}, "give one of jwks_url, jwks_file and introspection"),
        ({"jwks_url": "http://i.example/k"}, "must be https://"),
        ({"jwks_file": "k", "claims": {"bsn": None}}, "name the claim of the BSN, or a local one"),
        ({"jwks_file": "k", "leeway": 4000}, "less than or equal to 300"),
    ],
)
def test_tokens_that_cannot_be_checked_are_a_wrong_setting(hospital: Hospital, tokens: dict[str, object], said: str) -> None:
    tree = yaml.safe_load(hospital.file.read_text())
    tree["serve"]["tokens"] = {"issuer": ISSUER, "audience": BASE, **tokens}
    hospital.file.write_text(yaml.safe_dump(tree))
    with pytest.raises(SettingsError, match="tokens") as mistake:
        settings.load(hospital.file)
    assert said in str(mistake.value)


def test_the_doctor_looks_at_the_issuer(hospital: Hospital) -> None:
    from pipeline.commands.doctor.served import served  # noqa: PLC0415 - beside what it looks at

    loaded = settings.load(hospital.file)
    assert [(line.level, line.what) for line in served(loaded)] == [("WARN", "serve"), ("OK", "issuer of patients' tokens")]
    (hospital.folder / "keys.json").unlink()
    assert [line.level for line in served(loaded)] == ["WARN", "FAIL"]
    assert list(served(loaded.model_copy(update={"serve": None}))) == []
