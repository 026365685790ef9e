"""A plain client of Roche's API, written from the contract alone: bundles and headers, by `requests`. No import of the product's sender."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Protocol, Self

import requests

from pipeline.sandbox.certificates import Files

CIP = "urn:oid:2.16.724.4.41"
METEDA = "urn:oid:1.3.6.1.4.1.56221.2.2"
PROFILE = "http://roche.com/fhir/rdc/StructureDefinition/"
PATIENT_ID = "5d2a4a4a-0000-4000-8000-000000000001"


Body = dict[str, Any] | bytes | None
Headers = Mapping[str, str | None]
NONE: Headers = {}


class Sandbox(Protocol):
    """In this process or in another."""

    @property
    def base_url(self) -> str: ...
    @property
    def files(self) -> Files: ...


def header() -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "id": "5d2a4a4a-0000-4000-8000-000000000000",
        "meta": {"profile": [f"{PROFILE}message-header"]},
        "event": {"system": "http://roche.com/fhir/rdc/message-type", "code": "new-bundle", "display": "New bundle generated"},
        "timestamp": "2024-05-02T10:15:30.000Z",
        "source": {"endpoint": "2.16.724.4.2", "software": "emr-pipeline", "version": "1.0.0"},
    }


def patient(value: str = "12345678Z", **elements: object) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": PATIENT_ID,
        "meta": {"profile": [f"{PROFILE}patient-v2"]},
        "identifier": [{"system": CIP, "value": value}],
        "active": True,
        "name": [{"family": "Example", "given": ["Ana"]}],
        "telecom": [{"system": "phone", "value": "600000001", "use": "home"}],
        "gender": "female",
        "birthDate": "1980-02-03",
        **elements,
    }


def condition(**elements: object) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "5d2a4a4a-0000-4000-8000-000000000002",
        "meta": {"profile": [f"{PROFILE}condition"]},
        "clinicalStatus": "active",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "46635009", "display": "Diabetes mellitus type 1"}]},
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        **elements,
    }


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    """A message of these resources; without any, the usual three."""
    chosen = resources or (header(), patient(), condition())
    return {"resourceType": "Bundle", "type": "message", "entry": [{"resource": deepcopy(one)} for one in chosen]}


def of(value: str, **elements: object) -> dict[str, Any]:
    """The usual message for another patient."""
    return bundle(header(), patient(value, **elements), condition())


def codes(answer: requests.Response) -> list[str]:
    """Issue codes of an OperationOutcome."""
    tree = answer.json()
    assert tree["resourceType"] == "OperationOutcome"
    assert all(one["severity"] == "error" and one["details"]["text"] for one in tree["issue"])
    return [one["code"] for one in tree["issue"]]


class Client:
    """One keep-alive session with the good certificate."""

    def __init__(self, sandbox: Sandbox, *, timeout: float = 10.0) -> None:
        self.sandbox = sandbox
        self.timeout = timeout
        self.session = requests.Session()
        self.session.trust_env = False
        files: Files = sandbox.files
        self.session.verify = str(files.ca)
        self.session.cert = (str(files.client), str(files.client_key))
        self.headers: dict[str, str | None] = {
            "org_id": "2.16.724.4.2",
            "client_id": "1234567890",
            "client_secret": files.secret(),
            "Content-Type": "application/json",
        }

    def send(self, method: str, path: str, body: Body = None, headers: Headers = NONE) -> requests.Response:
        """`body` is sent as it is where it is bytes; a header None is left out."""
        sent = {"x-origin-request-id": str(uuid.uuid4()), **self.headers, **headers}
        named = {name: value for name, value in sent.items() if value is not None}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        return self.session.request(method, f"{self.sandbox.base_url}{path}", data=data, headers=named, timeout=self.timeout)

    def create(self, body: Body = None, api: str = "v1", headers: Headers = NONE) -> requests.Response:
        return self.send("POST", "/v2/Bundle" if api == "v2" else "/Bundle", bundle() if body is None else body, headers)

    def update(self, wanted: str, body: Body = None, api: str = "v1", headers: Headers = NONE) -> requests.Response:
        prefix = "/v2" if api == "v2" else ""
        return self.send("PUT", f"{prefix}/Bundle/{wanted}", bundle() if body is None else body, headers)

    def read(self, wanted: str, headers: Headers = NONE) -> requests.Response:
        return self.send("GET", f"/Patient/{wanted}", None, {"x-origin-request-id": None, "Content-Type": None, **headers})

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """The client may know before the log does, where no answer is waited for."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)
