"""A hospital whose appointments patients read, whole and on this machine: MLLP in, the worker, the store, the server; and an issuer of tokens."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
import yaml

from pipeline import wiring
from pipeline.commands.demo.appointments import free_port
from pipeline.delivery.worker import Worker
from pipeline.listen.client import MllpClient
from pipeline.listen.server import MllpServer
from pipeline.listen.tls import server_context
from pipeline.sandbox.medmij.stand_in import MedmijSandbox
from pipeline.serve.xis.web import serving
from pipeline.settings import Settings, load
from schemas.result import Result

ROUTE: Final = "medmij-appointments"
SECONDS: Final = 120.0
"""For whatever ends earlier."""


@dataclass(frozen=True, slots=True)
class Hospital:
    """It runs."""

    settings: Settings
    path: Path
    issuer: MedmijSandbox
    worker: Worker
    listening: MllpServer

    @property
    def base_url(self) -> str:
        """Of its appointments."""
        assert self.settings.serve is not None
        return self.settings.serve.base_url

    def send(self, *messages: bytes) -> None:
        """Each is acknowledged."""
        with MllpClient(self.listening.address) as client:
            for message in messages:
                answer = client.send(message)
                assert answer is not None
                assert answer.code == "CA", answer

    def settled(self, number: int) -> None:
        """Return when the worker has so many behind it."""
        until = time.monotonic() + SECONDS
        while self.worker.progress.read < number:
            assert time.monotonic() < until, "not settled"
            time.sleep(0.01)

    def results(self) -> list[Result]:
        """In order."""
        read = self.worker.bus.read(self.worker.topics.results)
        return [Result.model_validate_json(one.value) for one in read if one.value]

    def token(self, **claims: Any) -> str:  # noqa: ANN401 - JSON
        """For us."""
        return self.issuer.token(aud=self.base_url, **claims)

    def get(self, path: str, token: str, **headers: str) -> requests.Response:
        """What a PHR would ask."""
        sent = {"Authorization": f"Bearer {token}", **headers}
        url = path if path.startswith("https:") else f"{self.base_url}{path}"
        return requests.get(url, headers=sent, verify=str(self.issuer.files.ca), timeout=SECONDS)


@contextmanager
def hospital(folder: Path, **serve: Any) -> Iterator[Hospital]:  # noqa: ANN401 - settings of any type
    """`serve`: settings of the server beside those that it needs."""
    with MedmijSandbox(folder / "issuer") as issuer:
        path = _written(folder, issuer, serve)
        settings = load(path)
        assert settings.serve is not None
        assert settings.serve.tls is not None
        assert settings.listen is not None
        context = server_context(settings.serve.tls, client_certificates=False, where="serve.tls")
        port = int(settings.serve.base_url.rpartition(":")[2].partition("/")[0])
        with (
            wiring.workers(settings, [ROUTE]) as (worker,),
            wiring.xis_of(settings) as service,
            serving(service, ("127.0.0.1", port), context, drain_seconds=5),
        ):
            worker.bus.create_topics(wiring.topic_settings(settings))
            failures: list[BaseException] = []
            thread = threading.Thread(target=_work, args=(worker, failures), daemon=True)
            thread.start()
            with MllpServer(worker.bus, settings.listen, settings.site) as listening:
                yield Hospital(settings, path, issuer, worker, listening)
            worker.stop.set()
            thread.join(SECONDS)
            assert not thread.is_alive()
            assert failures == []


def _work(worker: Worker, failures: list[BaseException]) -> None:
    try:
        worker.run()
    except BaseException as error:  # noqa: BLE001 - looked at when the hospital ends
        failures.append(error)


def _written(folder: Path, issuer: MedmijSandbox, serve: Mapping[str, Any]) -> Path:
    (folder / "key").write_text("a secret of the tests, long enough")
    base_url = f"https://localhost:{free_port()}/fhir"
    ca = {"ca": str(issuer.files.ca)}
    tree = {
        "site": {"name": "demo", "overlay": "demo", "zone": "Europe/Amsterdam"},
        "bus": {"kind": "embedded", "path": str(folder / "bus")},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "appointments": {"url": f"sqlite:///{folder / 'appointments.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "key")}},
        "partners": {
            "medmij": {"kind": "medmij", "organization": {"name": "Ziekenhuis Zuid", "ura": "00001234"}},
            "ours": {"kind": "medmij-xis", "base_url": base_url, "tls": ca, "token": {"file": str(folder / "token")}},
        },
        "routes": {ROUTE: {"partner": "medmij", "source": "his.siu", "start": "earliest"}},
        "listen": {"address": "127.0.0.1:0", "topic": "his.siu"},
        "serve": {
            "base_url": base_url,
            "tls": {"certificate": str(issuer.files.server), "key": str(issuer.files.server_key)},
            "rate": 10_000,
            "tokens": {
                "issuer": issuer.issuer,
                "audience": base_url,
                "jwks_url": issuer.jwks_url,
                "tls": ca,
                "claims": {"bsn": "bsn", "local": {"claim": "local", "system": "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"}},
            },
            **serve,
        },
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
