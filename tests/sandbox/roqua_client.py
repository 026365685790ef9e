"""A plain client of RoQua's two APIs, written from the dossier alone: by `requests`. No import of the product's sender."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pipeline.sandbox.knobs import turned
from pipeline.sandbox.partner import Done
from pipeline.sandbox.process import SandboxProcess
from pipeline.sandbox.roqua.access import Access
from pipeline.sandbox.roqua.contract import Roqua
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.sandbox.wire import Request

Tree = dict[str, Any]
BUNDLE = "30002596-395f-430f-aac8-abdb6de37104"
ITEMS = [*(str(number) for number in range(1, 14)), *"ABCDEQ"]
VALUES = (0, 0, 0, 4, 2, 3, 0, 4, 3, 1, 3, 1, 0, 1, 0, 0, 2, 3, 1)
"""Of the published example."""
CODES = "HA01 HA06 HA11 HA20 HA23 HA29 HA31 HA40 HA44 HA47 HA54 HA57 HA61 HA67 HA71 HA76 HA83 HA89 HA92".split()  # noqa: SIM905 - nineteen of them
ZPM = "https://zorgprestatiemodel.nl/fhir/CodingSystem"
PATIENT = {"reference": "Patient/e3a6f0e2-9ac7-4f3c-8b8e-0d8fb4b4a5b1", "display": "A. Tester"}


def document(bundle_id: str = BUNDLE, dossier: str = "2075") -> Tree:
    """A HoNOS+ document in the published form, with the published answers."""
    observations = [_observation(bundle_id, *one) for one in zip(ITEMS, range(19), VALUES, CODES, strict=True)]
    composition = {
        "resourceType": "Composition",
        "id": bundle_id,
        "meta": {"profile": ["http://hl7.org/fhir/STU3/Composition"]},
        "status": "final",
        "type": {"text": "HoNOS+"},
        "date": "2026-04-19",
        "title": "HoNOS+ vragenlijst",
        "subject": {**PATIENT, "identifier": {"system": "urn:test:dossier", "value": dossier}},
        "author": [
            {
                "reference": "Practitioner/95a6ba9c-8e3d-4a3c-9d5b-5a4b8b1d1f10",
                "identifier": {"system": "urn:test:professional", "value": "prof_1"},
                "display": "B. Behandelaar",
            }
        ],
        "section": [{"entry": [{"reference": f"Observation/{bundle_id}-{item}", "display": item} for item in ITEMS]}],
    }
    resources: list[Tree] = [composition, *observations]
    return {
        "resourceType": "Bundle",
        "id": bundle_id,
        "meta": {"lastUpdated": "2026-04-19T14:44:52+02:00"},
        "type": "document",
        "entry": [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources],
    }


def _observation(bundle_id: str, item: str, index: int, value: int, code: str) -> Tree:
    other: Tree = {
        "code": {"coding": [{"system": "https://code24.nl/fhir/CodingSystem/HoNOSItem8Question", "code": "I8"}]},
        "valueCodeableConcept": {
            "coding": [{"system": "https://code24.nl/fhir/CodingSystem/HoNOSItem8Answer", "code": "K", "display": "Overig"}]
        },
    }
    return {
        "resourceType": "Observation",
        "id": f"{bundle_id}-{item}",
        "meta": {"profile": ["http://nictiz.nl/fhir/StructureDefinition/zib-GeneralMeasurement"]},
        "status": "final",
        "code": {"coding": [{"system": f"{ZPM}/HoNOSQuestion", "code": f"HV{index + 1:02}", "display": f"item {item}"}]},
        "subject": dict(PATIENT),
        "effectiveDateTime": "2026-04-19T00:00:00+02:00",
        "valueQuantity": {"value": value, "system": f"{ZPM}/HoNOSAnswer", "code": code},
        **({"component": [other]} if item == "8" else {}),
    }


def submission(external_id: str = "x-1", **changed: object) -> Tree:
    """A POST's body; None takes away."""
    answers = {f"v_{number}": f"a{number % 5}" for number in (*range(1, 9), 11, *range(14, 24))}
    body = {
        "questionnaire_key": "honos_plus",
        "external_id": external_id,
        "respondent_type": "profess",
        "entered_by": "prof_1",
        "started_at": 1654088400,
        "filled_out_at": 1654089000,
        "answer_data": {**answers, "v_9": None, "v_10": None},
        **changed,
    }
    return {name: value for name, value in body.items() if value is not None}


def changed(tree: Tree, path: str, value: object) -> Tree:
    """The tree with one value changed, or None: taken away; the path by dots."""
    *way, last = path.split(".")
    place: Any = tree
    for one in way:
        place = place[int(one) if one.isdecimal() else one]
    key = int(last) if last.isdecimal() else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    return tree


class Direct:
    """The contract without sockets, for long lists."""

    def __init__(self, folder: Path, **knobs: object) -> None:
        self.roqua = Roqua(Access(folder, "secret"), turned(RoquaKnobs(), knobs))
        self.headers = {"authorization": f"Basic {base64.b64encode(b'token_key:secret').decode()}"}
        self.headers |= {"content-type": "application/json"}
        self.number = 0

    def send(self, method: str, path: str, body: object = b"", query: str = "") -> Done:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reading = self.roqua.read(Request(method, path, self.headers, data, query=query))
        self.roqua.named(reading)
        self.roqua.sent(reading)
        self.number += 1
        return self.roqua.apply(reading, self.number)

    def put(self, tree: object, bundle_id: str = BUNDLE) -> Done:
        return self.send("PUT", f"/medmij_fhir/Bundle/{bundle_id}", tree)

    def post(self, body: object) -> Done:
        return self.send("POST", "/api/v1/dossiers/2075/responses", body)


class Client:
    """Of one stand-in; Basic unless a header says otherwise."""

    def __init__(self, sandbox: RoquaSandbox | SandboxProcess, key: str = "token_key") -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(sandbox.files.ca)
        self.session.auth = (key, sandbox.files.secret())

    def send(self, method: str, path: str, body: object = None, **more: Any) -> requests.Response:  # noqa: ANN401 - as requests
        if body is not None:
            more["data"] = body if isinstance(body, (bytes, str)) else json.dumps(body)
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        return self.session.request(method, f"{self.sandbox.base_url}{path}", timeout=60, allow_redirects=False, **more)

    def put(self, bundle: Tree | None = None, bundle_id: str = BUNDLE) -> requests.Response:
        """A document."""
        return self.send("PUT", f"/medmij_fhir/Bundle/{bundle_id}", document() if bundle is None else bundle)

    def post(self, body: object = None, dossier: str = "2075") -> requests.Response:
        return self.send("POST", f"/api/v1/dossiers/{dossier}/responses", submission() if body is None else body)

    def update(self, external_id: str = "x-1", body: object = None, dossier: str = "2075") -> requests.Response:
        path = f"/api/v1/dossiers/{dossier}/responses/{external_id}"
        return self.send("PUT", path, submission() if body is None else body)

    def delete(self, external_id: str = "x-1", dossier: str = "2075") -> requests.Response:
        return self.send("DELETE", f"/api/v1/dossiers/{dossier}/responses/{external_id}")

    def responses(self, dossier: str = "2075", **filters: Any) -> list[Tree]:  # noqa: ANN401 - as requests
        answer = self.send("GET", f"/api/v1/dossiers/{dossier}/responses", params=filters)
        assert answer.status_code == 200, answer.text
        found: list[Tree] = answer.json()
        return found

    def observations(self, dossier: str = "2075") -> Tree:
        answer = self.send("GET", "/medmij_fhir/Observation", params={"subject": dossier})
        assert answer.status_code == 200, answer.text
        found: Tree = answer.json()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(key: Path | rsa.RSAPrivateKey, head: Mapping[str, object] | None = None, **changed: object) -> str:
    """A token as section 2.2 has it, with something changed; None takes a claim away."""
    private = key if isinstance(key, rsa.RSAPrivateKey) else serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    header = {"typ": "JWT", "alg": "RS256", "kid": "token_key", **(head or {})}
    now = int(time.time())
    claims = {"iss": "hospital", "aud": "api", "iat": now, "exp": now + 3600, "sub": "2075", **changed}
    parts: Sequence[Mapping[str, object]] = (header, {name: value for name, value in claims.items() if value is not None})
    signed = ".".join(b64(json.dumps(one).encode()) for one in parts)
    hashing = hashes.SHA512() if header["alg"] == "RS512" else hashes.SHA256()
    return f"{signed}.{b64(private.sign(signed.encode(), padding.PKCS1v15(), hashing))}"
