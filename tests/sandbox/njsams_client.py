"""A plain client of NJSAMS's API and of its authorization server, written from the dossier alone: by `requests`. No import of the product's sender."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from pipeline.sandbox.njsams.stand_in import NjsamsSandbox

IG = "https://fhir.njsams.rutgers.edu/NJSAMS-fhir"
LABEL = {"system": f"{IG}/fhir/security/provider-id", "code": "123456"}
MEDIA = "application/json+fhir"
PATIENT = "urn:uuid:11111111-1111-4111-8111-111111111111"
ENCOUNTER = "urn:uuid:22222222-2222-4222-8222-222222222222"
COVERAGE = "urn:uuid:33333333-3333-4333-8333-333333333333"
REDIRECT = "http://127.0.0.1:8765/callback"

Tree = dict[str, Any]


def meta(kind: str) -> Tree:
    return {"profile": [f"{IG}/StructureDefinition/NJSAMS{kind}"], "security": [LABEL]}


def patient(value: str = "TEST-1", **elements: object) -> Tree:
    return {
        "resourceType": "Patient",
        "meta": meta("Patient"),
        "identifier": [
            {"system": f"{IG}/client-id", "value": value},
            {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "000000000"},
        ],
        "name": [{"family": "Example", "given": ["Pat"]}],
        "gender": "female",
        "birthDate": "1980-02-03",
        **elements,
    }


def encounter(subject: str = PATIENT, visit: str = "V1", **elements: object) -> Tree:
    return {
        "resourceType": "Encounter",
        "meta": meta("Encounter"),
        "identifier": [{"system": "urn:test:visit", "value": visit}],
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "308335008"}]}],
        "serviceType": {"coding": [{"system": f"{IG}/CodeSystem/LevelOfCare", "code": "2"}]},
        "subject": {"reference": subject},
        "period": {"start": "2024-05-02T10:00:00-04:00"},
        **elements,
    }


def coverage(beneficiary: str = PATIENT, policy: str = "P1", **elements: object) -> Tree:
    return {
        "resourceType": "Coverage",
        "meta": meta("Coverage"),
        "status": "active",
        "subscriberId": policy,
        "beneficiary": {"reference": beneficiary},
        "payor": [{"reference": "Organization/12"}],
        **elements,
    }


URNS = {"Patient": PATIENT, "Encounter": ENCOUNTER, "Coverage": COVERAGE}


def creates(*resources: Tree) -> Tree:
    """A transaction of POSTs; without any, the dossier's three."""
    chosen = resources or (patient(), encounter(), coverage())
    return _bundle([(one, {"method": "POST", "url": one["resourceType"]}) for one in chosen])


def updates(*pairs: tuple[str, Tree]) -> Tree:
    """A transaction of PUTs: logical id and resource."""
    return _bundle([(one, {"method": "PUT", "url": f"{one['resourceType']}/{wanted}"}) for wanted, one in pairs])


def _bundle(pairs: list[tuple[Tree, Tree]]) -> Tree:
    entries = [{"fullUrl": URNS.get(one["resourceType"], PATIENT), "resource": one, "request": way} for one, way in pairs]
    return deepcopy({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def ids(answer: requests.Response) -> list[str]:
    """Logical ids of a transaction-response, from absolute locations."""
    tree = answer.json()
    assert tree["type"] == "transaction-response"
    return [one["response"]["location"].rpartition("/")[2] for one in tree["entry"]]


def codes(answer: requests.Response) -> list[str]:
    """Issue codes of an OperationOutcome."""
    tree = answer.json()
    assert tree["resourceType"] == "OperationOutcome"
    return [one["code"] for one in tree["issue"]]


class Client:
    """One keep-alive session with a token."""

    def __init__(self, sandbox: NjsamsSandbox, *, timeout: float = 20.0) -> None:
        self.sandbox = sandbox
        self.timeout = timeout
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(sandbox.files.ca)
        self.token: str | None = sandbox.token()

    def send(self, method: str, path: str, body: Tree | bytes | None = None, /, **headers: str | None) -> requests.Response:
        """`path` behind the base, or a whole URL; a header None is left out."""
        sent: dict[str, str | None] = {
            "Authorization": f"Bearer {self.token}" if self.token else None,
            "Accept": MEDIA,
            "Content-Type": MEDIA if body is not None else None,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        named = {name: value for name, value in sent.items() if value is not None}
        url = path if path.startswith("https://") else f"{self.sandbox.base_url}{path}"
        return self.session.request(method, url, data=data, headers=named, timeout=self.timeout, allow_redirects=False)

    def create(self, *resources: Tree, **headers: str | None) -> requests.Response:
        return self.send("POST", "/Bundle", creates(*resources), **headers)

    def update(self, *pairs: tuple[str, Tree], **headers: str | None) -> requests.Response:
        return self.send("PUT", "/Bundle", updates(*pairs), **headers)

    def get(self, path: str, **headers: str | None) -> requests.Response:
        return self.send("GET", path, **headers)

    # tokens

    def ask(self, form: Mapping[str, str], *, basic: tuple[str, str] | None = None) -> requests.Response:
        """POST /token."""
        return self.session.post(self.sandbox.token_url, data=dict(form), auth=basic, timeout=self.timeout)

    @property
    def secret(self) -> str:
        return self.sandbox.files.secret()

    def by_secret(self, **form: str) -> requests.Response:
        return self.ask(
            {"grant_type": "client_credentials", "scope": "system/*.write", **form}, basic=("emr-pipeline", self.secret)
        )

    def authorize(self, **changed: str | None) -> requests.Response:
        """GET /authorize as the dossier has it; the verifier is VERIFIER."""
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "emr-pipeline",
            "redirect_uri": REDIRECT,
            "scope": "openid fhirUser user/*.read offline_access",
            "state": "s1",
            "aud": self.sandbox.base_url,
            "code_challenge": challenge(VERIFIER),
            "code_challenge_method": "S256",
            **changed,
        }
        named = {name: value for name, value in asked.items() if value is not None}
        return self.session.get(f"{self.sandbox.issuer}/authorize", params=named, timeout=self.timeout, allow_redirects=False)

    def by_code(self, **changed: str) -> requests.Response:
        """The whole way; changes are of the token request."""
        form = {"grant_type": "authorization_code", "code": sent_back(self.authorize())["code"], "redirect_uri": REDIRECT}
        return self.ask({**form, "code_verifier": VERIFIER, **changed}, basic=("emr-pipeline", self.secret))

    def by_assertion(self, assertion: str) -> requests.Response:
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        form = {"grant_type": "client_credentials", "scope": "system/*.write", "client_assertion_type": kind}
        return self.ask({**form, "client_assertion": assertion})

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


VERIFIER = "v" * 43


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def challenge(verifier: str) -> str:
    return b64(hashlib.sha256(verifier.encode()).digest())


def sent_back(answer: requests.Response) -> dict[str, str]:
    """The query of a redirect."""
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


class Key:
    """A client's key pair, made for one test, and the assertions that it signs."""

    def __init__(self, algorithm: str, kid: str = "k1") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self._ec = ec.generate_private_key(ec.SECP384R1()) if algorithm == "ES384" else None
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048) if algorithm == "RS384" else None

    @property
    def jwks(self) -> Tree:
        if self._ec:
            point = self._ec.public_key().public_numbers()
            named = {"kty": "EC", "crv": "P-384", "x": b64(point.x.to_bytes(48)), "y": b64(point.y.to_bytes(48))}
        else:
            assert self._rsa is not None
            numbers = self._rsa.public_key().public_numbers()
            named = {"kty": "RSA", "n": b64(numbers.n.to_bytes(256)), "e": b64(numbers.e.to_bytes(3))}
        return {"keys": [{**named, "kid": self.kid, "alg": self.algorithm, "use": "sig"}]}

    def assertion(self, sandbox: NjsamsSandbox, **changed: object) -> str:
        claims = {"iss": "emr-pipeline", "sub": "emr-pipeline", "aud": sandbox.token_url, "exp": int(time.time()) + 240}
        claims |= {"jti": secrets.token_hex(8), **changed}
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{signed}.{b64(self._sign(signed.encode()))}"

    def _sign(self, signed: bytes) -> bytes:
        if self._ec:
            r, s = utils.decode_dss_signature(self._ec.sign(signed, ec.ECDSA(hashes.SHA384())))
            return r.to_bytes(48) + s.to_bytes(48)
        assert self._rsa is not None
        return self._rsa.sign(signed, padding.PKCS1v15(), hashes.SHA384())
