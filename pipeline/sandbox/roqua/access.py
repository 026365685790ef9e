"""Who may call RoQua's stand-in: an API token with its rights (Basic), or a JWT that the token's key signed (contracts/roqua.md section 2).

RS256 and RS512 in our own few lines on jose.py's, not with the library that the client uses. Knows no route and no body.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.errors import SettingsError
from pipeline.sandbox.jose import BadSignature, header, signed_with
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.wire import Answer, as_json

ALGORITHMS: Final = ("RS256", "RS512")
LONGEST_SECONDS: Final = 3600
LEEWAY: Final = 5.0
LATEST: Final = 1e11
"""A Unix time beyond it is none."""
KEY: Final = "jwt-public.pem"
"""The client's public key in the folder; where it is not there, that of the folder's client certificate: client.key signs."""
ALL: Final = "all"


class NotAllowed(Exception):
    """401 or 403; the text is the reason."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    rights: frozenset[str]
    jwt: bool = False
    dossier: str | None = None
    """Of a JWT: its sub."""


@dataclass(slots=True)
class Access:
    """Of one folder. Times are the true clock's."""

    folder: Path
    secret: str = field(repr=False)
    now: Callable[[], float] = time.time

    def caller(self, authorization: str, knobs: RoquaKnobs, *, fhir: bool) -> Caller:
        """NotAllowed(401) where nobody is known by it; `fhir`: of /medmij_fhir."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            return self._basic(given.strip(), rights(knobs))
        if scheme.lower() == "bearer" and knobs.jwt in (("everywhere",) if fhir else ("rest", "everywhere")):
            return self._bearer(given.strip(), knobs)
        raise NotAllowed(401, "a token is needed")

    def _basic(self, given: str, known: Mapping[str, frozenset[str]]) -> Caller:
        try:
            key, colon, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            raise NotAllowed(401, "not Basic") from None
        if not (colon and key in known and hmac.compare_digest(secret.encode(), self.secret.encode())):
            raise NotAllowed(401, "the token is unknown or revoked")
        return Caller(known[key])

    def _bearer(self, token: str, knobs: RoquaKnobs) -> Caller:
        known = rights(knobs)
        try:
            head = header(token)
            if head.get("typ") != "JWT" or head.get("alg") not in ALGORITHMS:
                raise NotAllowed(401, "typ is not JWT or alg is not RS256 or RS512")
            kid = head.get("kid")
            if not isinstance(kid, str) or kid not in known:
                raise NotAllowed(401, "kid is no consumer_key")
            claims = signed_with(token, str(head["alg"]), self._key())
        except BadSignature:
            raise NotAllowed(401, "the signature is not the client's") from None
        self._claims(claims, knobs)
        subject = claims.get("sub")
        return Caller(known[kid], jwt=True, dossier=subject if isinstance(subject, str) else None)

    def _claims(self, claims: Mapping[str, Any], knobs: RoquaKnobs) -> None:
        issuer, issued, expires, begins = (claims.get(name) for name in ("iss", "iat", "exp", "nbf"))
        now = self.now()
        if not (isinstance(issuer, str) and issuer and issuer == (knobs.jwt_issuer or issuer)):
            raise NotAllowed(401, "iss is missing or unknown")
        if claims.get("aud") != "api":
            raise NotAllowed(401, "aud is not api")
        if not (_time(issued) and _time(expires)) or issued > now + LEEWAY or expires <= now - LEEWAY:
            raise NotAllowed(401, "iat or exp is missing or not now")
        if expires - issued > LONGEST_SECONDS:
            raise NotAllowed(401, "exp is more than one hour after iat")
        if begins is not None and not (_time(begins) and begins <= now + LEEWAY):
            raise NotAllowed(401, "nbf has not come")

    def _key(self) -> rsa.RSAPublicKey:
        own = self.folder / KEY
        if own.exists():
            return _public(own.read_bytes())
        key = x509.load_pem_x509_certificate((self.folder / "client.pem").read_bytes()).public_key()
        return key if isinstance(key, rsa.RSAPublicKey) else _no_key()

    def register(self, pem: object) -> None:
        """From now on this public key; SettingsError where it is none."""
        try:
            _public(str(pem).encode())
        except (BadSignature, ValueError, TypeError):
            raise SettingsError("write the PEM of an RSA public key", where="order key") from None
        (self.folder / KEY).write_text(str(pem), encoding="utf-8")


def _public(pem: bytes) -> rsa.RSAPublicKey:
    key = serialization.load_pem_public_key(pem)
    return key if isinstance(key, rsa.RSAPublicKey) else _no_key()


def _no_key() -> rsa.RSAPublicKey:
    raise BadSignature("not RSA")


def _time(value: Any) -> TypeGuard[float]:  # noqa: ANN401 - JSON
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LATEST


def rights(knobs: RoquaKnobs) -> dict[str, frozenset[str]]:
    """Of each token, by its key."""
    pairs = (one.partition("=") for one in knobs.tokens)
    return {key.strip(): frozenset(given.split("+")) for key, _, given in pairs}


def allow(caller: Caller, right: str, dossier: str | None) -> None:
    """NotAllowed(403) where the right is missing, or the JWT is not of the dossier (the number is inferred: section 5)."""
    if not caller.rights & {right, ALL}:
        raise NotAllowed(403, "access denied: the token does not have the right")
    if caller.jwt and dossier is not None and caller.dossier != dossier:
        raise NotAllowed(403, "access denied: sub is not the dossier")


def denied(error: NotAllowed, knobs: RoquaKnobs) -> Answer:
    """401 or 403, with the body that the knob says."""
    challenge = (("WWW-Authenticate", 'Basic realm="RoQua"'),) if error.status == 401 else ()  # noqa: PLR2004 - Unauthorized
    if knobs.unauthorized_body == "json":
        return as_json(error.status, {"error": str(error)}, headers=challenge)
    if knobs.unauthorized_body == "text":
        return Answer(error.status, f"{error}\n".encode(), "text/plain; charset=utf-8", challenge)
    return Answer(error.status, headers=challenge)
