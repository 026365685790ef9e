"""`emr-pipeline serve` as a process: it answers a patient out of the store of its settings, and stops as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


def asked(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


@contextmanager
def running(hospital: Hospital, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--settings", str(hospital.file), *words]
    environment = {**os.environ, "PATIENT_HASH": SECRET}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split(":")[1].split()[0])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def test_health_and_metrics_are_told_where_the_command_says_and_not_to_patients(hospital: Hospital) -> None:
    with running(hospital, "--http", "127.0.0.1:0") as (process, port):
        assert asked(port, "/fhir/Appointment")[0] == 401
        assert [asked(port, path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [404, 404, 404]
        assert process.stderr is not None
        said = next(one for one in map(json.loads, process.stderr) if one["event"] == "http_started")
        assert asked(said["port"], "/readyz") == (200, '{"ready": true}\n')
        metrics = asked(said["port"], "/metrics")[1]
        assert 'emr_served_refused_total{reason="no_token"} 1.0' in metrics
        assert "emr_store_away 0.0" in metrics
        assert "emr_keys_age_seconds " in metrics


def test_keys_that_were_never_there_make_it_not_ready_until_they_are(hospital: Hospital) -> None:
    keys = hospital.folder / "keys.json"
    kept = keys.read_bytes()
    keys.unlink()
    with running(hospital, "--http", "127.0.0.1:0") as (process, port):
        assert process.stderr is not None
        said = next(one for one in map(json.loads, process.stderr) if one["event"] == "http_started")
        assert asked(said["port"], "/readyz") == (503, '{"ready": false, "routes": {"serve": ["tokens_unchecked"]}}\n')
        assert asked(port, "/fhir/metadata")[0] == 200
        keys.write_bytes(kept)
        waiting, until = threading.Event(), time.monotonic() + 60
        while asked(said["port"], "/readyz")[0] != 200:
            assert time.monotonic() < until
            waiting.wait(0.2)


@pytest.mark.parametrize("signals", [1, 2])
def test_what_hangs_does_not_hold_up_a_stop(hospital: Hospital, signals: int) -> None:
    """An issuer that takes a connection and says nothing: one SIGTERM waits for drain_seconds and a little, the second one for nothing.

    Fails where nothing ends the process but itself.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tree = yaml.safe_load(hospital.file.read_text())
        where = f"https://127.0.0.1:{silent.getsockname()[1]}/jwks"
        tree["serve"]["tokens"] = {
            "issuer": ISSUER,
            "audience": BASE,
            "jwks_url": where,
            "times": {"connect": 600, "read": 600, "total": 600},
        }
        tree["serve"]["drain_seconds"] = 1 if signals == 1 else 600
        hospital.file.write_text(yaml.safe_dump(tree))
        command = [sys.executable, "-c", HURRY, "serve", "--settings", str(hospital.file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATIENT_HASH": SECRET})
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split(":")[1].split()[0])
            with socket.create_connection(("127.0.0.1", port), timeout=60) as asking:
                asking.sendall(
                    f"GET /fhir/Appointment HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hospital.token(ANNA)}\r\n\r\n".encode()
                )
                with silent.accept()[0]:
                    for _ in range(signals):
                        process.send_signal(signal.SIGTERM)
                        refused(port)
                    assert process.wait(120) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.communicate(timeout=60)


HURRY = """
import sys, threading
from pipeline import cli
from pipeline.commands import serve
from pipeline.serve.xis import condition, service
looks = []
def look(self):
    looks.append(self)
    if len(looks) > 1:
        threading.Event().wait()
service.Service.look, condition.EVERY, serve.LATE = look, 0.01, 0.5
sys.exit(cli.main(sys.argv[1:]))
"""
"""From its second look on, `serve` hangs at its issuer for good, as its request does."""


def refused(port: int) -> None:
    """Return when it accepts no more."""
    waiting, until = threading.Event(), time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except OSError:
            return
        waiting.wait(0.05)
    raise AssertionError


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
