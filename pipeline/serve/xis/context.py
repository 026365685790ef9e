"""Whose appointments a request may see: what a checked token says of its patient. Values here are identities; no repr, error or log shows one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from pipeline.serve.xis.faults import BEARER, Fault, Kind

BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
NEVER: Final = 1e12
"""The year 33658: a time beyond it may be no float."""
REALM: Final = 'Bearer realm="appointments"'


class Identity(NamedTuple):
    """An identifier of a patient."""

    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Context:
    """The patient of a token."""

    identities: tuple[Identity, ...] = field(repr=False)
    expires: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which claims name the patient, and what the token has to allow."""

    bsn: str | None = "bsn"
    local: str | None = None
    """A claim with a patient number of the hospital's own, below `local_system`."""
    local_system: str = ""
    scope: str | None = None
    """A scope that a token needs."""


class Tokens(Protocol):
    """Who checks tokens."""

    def context(self, token: str) -> Context:
        """Of whom it is. Fault 401 where it is not good, 403 where it does not allow this, 503 where nobody can say now."""
        ...

    def ready(self) -> str | None:
        """Why no token could be checked now, for people who look after us; None where it could. It may ask the issuer."""
        ...

    def keys_age(self) -> float | None:
        """How many seconds ago the issuer's keys were fetched; None where none were, or none are needed."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def bearer(header: str | None) -> str:
    """The token of an Authorization header. Fault 401 without an error code where there is none (RFC 6750 section 3.1)."""
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Fault(Kind.NO_TOKEN, "a Bearer token of the patient is needed", **{BEARER: REALM})
    return token.strip()


def bad_token(text: str) -> Fault:
    """The token is there, and not good."""
    return Fault(Kind.BAD_TOKEN, text, **{BEARER: f'{REALM}, error="invalid_token"'})


def context_of(claims: Mapping[str, Any], names: Names) -> Context:
    """Of claims whose signature, issuer, audience and times are checked. Fault 403 where they name no patient, or lack the scope."""
    if names.scope is not None and names.scope not in _scopes(claims):
        challenge = f'{REALM}, error="insufficient_scope", scope="{names.scope}"'
        raise Fault(Kind.FORBIDDEN, "the token does not allow appointments to be read", **{BEARER: challenge})
    found = ((BSN, _bsn(claims, names)), (names.local_system, _text(claims.get(names.local)) if names.local else None))
    identities = tuple(Identity(system, value) for system, value in found if value is not None)
    if not identities:
        raise Fault(Kind.FORBIDDEN, "the token names no patient")
    return Context(identities, float(min(claims["exp"], NEVER)))


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    said = claims.get("scope", claims.get("scp"))
    return (
        said.split() if isinstance(said, str) else [one for one in said if isinstance(one, str)] if isinstance(said, list) else []
    )


def _bsn(claims: Mapping[str, Any], names: Names) -> str | None:
    said = claims.get(names.bsn) if names.bsn else None
    value = _text(said)
    if value is None:
        return None
    if isinstance(said, int):
        value = value.zfill(9)  # the zeros that it begins with
    if not is_bsn(value):
        raise Fault(Kind.FORBIDDEN, "what the token gives as BSN is none")
    return value


def is_bsn(value: str) -> bool:
    """Nine digits that pass the eleven test."""
    if not (len(value) == 9 and value.isascii() and value.isdigit()) or value == "000000000":  # noqa: PLR2004 - a BSN's length
        return False
    digits = [int(one) for one in value]
    return (sum(weight * digit for weight, digit in zip(range(9, 1, -1), digits, strict=False)) - digits[8]) % 11 == 0


def _text(value: object) -> str | None:
    """A claim's text; a number as a text. Nothing else is one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) and _is_unicode(value) else None


def _is_unicode(value: str) -> bool:
    """JSON can write half a character."""
    return not any("\ud800" <= one <= "\udfff" for one in value)
