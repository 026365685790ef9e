"""The token issuer of MedMij's stand-in: keys (JWKS), tokens that stand for one patient, introspection (RFC 7662). No sockets, no FHIR.

Of a patient's consent and login there is nothing: whoever knows the client's secret names the patient. The log of effects has what was issued by a
request, as digests; what `given` made is gone after a restart.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.errors import SettingsError
from pipeline.sandbox import certificates
from pipeline.sandbox.jose import public, sign
from pipeline.sandbox.log import Effect
from pipeline.sandbox.medmij.knobs import MedmijKnobs
from pipeline.sandbox.medmij.records import PEOPLE
from pipeline.sandbox.partner import Done
from pipeline.sandbox.wire import Answer, Request, as_json

PREFIX: Final = "/issuer"
OPERATIONS: Final = {
    ("GET", f"{PREFIX}/.well-known/openid-configuration"): "discovery",
    ("GET", f"{PREFIX}/jwks"): "jwks",
    ("POST", f"{PREFIX}/token"): "token",
    ("POST", f"{PREFIX}/introspect"): "introspect",
}
CLIENT: Final = "medmij"
"""The one client, of /token and of /introspect; its secret is the file client-secret."""
NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))

Claims = dict[str, Any]


@dataclass(slots=True)
class Issuer:
    """Of one folder; used by one thread."""

    folder: Path
    secret: str = field(repr=False)
    now: Callable[[], float] = time.time
    origin: str = "https://localhost"
    audience: str = "https://localhost/fhir"
    _keys: list[ec.EllipticCurvePrivateKey] = field(default_factory=list, repr=False)
    """The last one signs."""
    _issued: dict[str, Claims] = field(default_factory=dict, repr=False)
    """By digest of the token."""

    def __post_init__(self) -> None:
        self._keys.append(certificates.signing_key(self.folder / "issuer.key"))

    @property
    def url(self) -> str:
        """Its name: `iss`."""
        return f"{self.origin}{PREFIX}"

    def restore(self, effects: Iterable[Effect]) -> None:
        """What was issued and revoked before."""
        for token in (one.token for one in effects if one.token):
            if token.get("revoked"):
                self._issued.clear()
            elif token.get("issued"):
                self._issued[token["issued"]] = dict(token["claims"])

    def claims_of(self, token: str) -> Claims | None:
        """Of a token that it issued, is not revoked and has not ended."""
        claims = self._issued.get(_digest(token))
        return claims if claims and claims["exp"] > self.now() else None

    def given(self, knobs: MedmijKnobs, claims: Mapping[str, Any]) -> str:
        """A token with these claims beside its own; one that is None is left out. It is good from now on."""
        now = int(self.now())
        own = {"iss": self.url, "aud": self.audience, "iat": now, "exp": now + knobs.token_seconds, "jti": secrets.token_hex(8)}
        whole = {name: value for name, value in {**own, **claims}.items() if value is not None}
        made = sign(whole, self._keys[-1], _kid(len(self._keys))) if knobs.token == "jwt" else secrets.token_urlsafe(24)  # noqa: S105 - its form
        self._issued[_digest(made)] = {"exp": 0, **whole}
        return made

    def order(self, name: str) -> Mapping[str, Any]:
        """`revoke`: no token is good any more; `rotate`: another key signs, the former is still published."""
        if name == "revoke":
            self._issued.clear()
            return {"revoked": "all"}
        if name == "rotate":
            self._keys.append(ec.generate_private_key(ec.SECP384R1()))
            return {}
        raise SettingsError("the orders are revoke and rotate", where=f"order {name}")

    # requests

    def answer(self, operation: str, request: Request, knobs: MedmijKnobs) -> Done:
        """One request."""
        if operation == "jwks":
            return Done(as_json(200, {"keys": [public(key, _kid(number)) for number, key in enumerate(self._keys, 1)]}))
        if operation == "discovery":
            return Done(as_json(200, self._discovery()))
        if not self._is_client(request.headers.get("authorization", "")):
            return Done(_error("invalid_client", 401), issues=("invalid_client",))
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        return self._token(form, knobs) if operation == "token" else self._introspected(form)

    def _discovery(self) -> Mapping[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint": f"{self.url}/token",
            "introspection_endpoint": f"{self.url}/introspect",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def _token(self, form: Mapping[str, str], knobs: MedmijKnobs) -> Done:
        """Of a patient that it has (`patient`), or of any by `bsn` or `local`."""
        claims: Claims = {knobs.bsn_claim: form.get("bsn"), knobs.local_claim: form.get("local")}
        if form.get("patient") in PEOPLE:
            claims = claims_of_person(form["patient"], knobs)
        if form.get("grant_type") != "client_credentials" or not any(claims.values()):
            return Done(_error("invalid_request", 400), issues=("invalid_request",))
        token = self.given(knobs, claims)
        digest = _digest(token)
        tree = {"access_token": token, "token_type": "Bearer", "expires_in": max(knobs.token_seconds, 0)}
        note = {"issued": digest, "claims": self._issued[digest]}
        return Done(as_json(200, tree, headers=NO_STORE), token=note)

    def _introspected(self, form: Mapping[str, str]) -> Done:
        claims = self.claims_of(form.get("token", ""))
        tree = {"active": False} if claims is None else {"active": True, "token_type": "Bearer", "client_id": CLIENT, **claims}
        return Done(as_json(200, tree, headers=NO_STORE))

    def _is_client(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        try:
            pair = base64.b64decode(given.strip(), validate=True)
        except (ValueError, binascii.Error):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(pair, f"{CLIENT}:{self.secret}".encode())


def claims_of_person(person: str, knobs: MedmijKnobs) -> Claims:
    """What a token of a patient says of them."""
    one = PEOPLE[person]
    return {knobs.bsn_claim: one.bsn, knobs.local_claim: one.local}


def _error(code: str, status: int) -> Answer:
    headers = (*NO_STORE, ("WWW-Authenticate", 'Basic realm="issuer"')) if status == 401 else NO_STORE  # noqa: PLR2004 - Unauthorized
    return as_json(status, {"error": code}, headers=headers)


def _kid(number: int) -> str:
    return f"key-{number}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
