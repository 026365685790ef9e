"""The authorization server of NJSAMS's stand-in: discovery, /authorize, /token, keys (contracts/njsams.md section 2, SMART App Launch 2). No sockets.

One registered client. Tokens are opaque; the log of effects has their digests, from which a server that starts again knows them. What it
issues, refuses and revokes stands in that log, so that a herd of requests for tokens can be counted.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.errors import SettingsError
from pipeline.sandbox import certificates
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.jose import ALGORITHMS, BadSignature, encode, public, read, sign
from pipeline.sandbox.log import Effect
from pipeline.sandbox.njsams.client_keys import client_keys, write_keys
from pipeline.sandbox.njsams.knobs import NjsamsKnobs
from pipeline.sandbox.partner import Done
from pipeline.sandbox.wire import Answer, Request, as_json

PREFIX: Final = "/auth"
OPENID: Final = f"{PREFIX}/.well-known/openid-configuration"
SMART: Final = "/NJSAMS-FHIR-API/.well-known/smart-configuration"
OPERATIONS: Final = {
    ("GET", SMART): "discovery",
    ("GET", OPENID): "discovery",
    ("GET", f"{PREFIX}/jwks"): "jwks",
    ("GET", f"{PREFIX}/authorize"): "authorize",
    ("POST", f"{PREFIX}/approve"): "authorize",
    ("POST", f"{PREFIX}/token"): "token",
}
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM: Final = "application/x-www-form-urlencoded"
NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
KID: Final = "sandbox"
_VERIFIER: Final = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_LEEWAY: Final = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """A request to it."""

    operation: str
    request: Request


class Refused(Exception):
    """An OAuth error."""

    def __init__(self, code: str, text: str, *, status: int = 400, basic: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.basic = basic


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token, a refresh token or a code stands for."""

    scope: str
    expires: float = float("inf")
    redirect_uri: str = ""
    challenge: str = ""
    nonce: str = ""


@dataclass(slots=True)
class Authorization:
    """Of one folder; used by one thread. Times are the true clock's."""

    folder: Path
    secret: str = field(repr=False)
    now: Callable[[], float] = time.time
    origin: str = "https://localhost"
    base: str = "https://localhost/NJSAMS-FHIR-API"
    _key: ec.EllipticCurvePrivateKey = field(init=False, repr=False)
    _access: dict[str, Grant] = field(default_factory=dict, repr=False)
    _refresh: dict[str, Grant] = field(default_factory=dict, repr=False)
    _codes: dict[str, Grant] = field(default_factory=dict, repr=False)
    _asked: dict[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Requests whose page waits for a button."""
    _jtis: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._key = certificates.signing_key(self.folder / "authorization.key")

    def listening(self, origin: str, base: str) -> None:
        """Where it and the FHIR server are."""
        self.origin, self.base = origin, base

    @property
    def issuer(self) -> str:
        """Its name."""
        return f"{self.origin}{PREFIX}"

    def urls(self) -> dict[str, str]:
        """Of its endpoints."""
        return {name: f"{self.issuer}/{name}" for name in ("authorize", "token", "jwks")}

    def restore(self, effects: Iterable[Effect]) -> None:
        """Tokens that were issued, ended and revoked before; the newest line counts."""
        for effect in effects:
            if effect.token:
                self._remember(effect.token)

    def _remember(self, token: Mapping[str, Any]) -> None:
        if "revoked" in token:
            self._access.clear()
            if token["revoked"] == "all":
                self._refresh.clear()
            return
        self._refresh.pop(token.get("ended") or "", None)
        if token.get("jti"):
            self._jtis[token["jti"]] = token["jti_expires"]
        if token.get("access"):
            self._access[token["access"]] = Grant(token["scope"], token["expires"])
        if token.get("refresh"):
            self._refresh[token["refresh"]] = Grant(token["scope"])

    def scope_of(self, token: str) -> str | None:
        """What an access token may do; None where it is not one, or not any more."""
        grant = self._access.get(_digest(token))
        return grant.scope if grant and grant.expires > self.now() else None

    def given(self) -> str:
        """An access token without a request, for whoever drives it; not in the log, gone after a restart."""
        token = secrets.token_urlsafe(32)
        self._access[_digest(token)] = Grant("user/*.read user/*.write")
        return token

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """`revoke` (all access tokens; with `refresh` refresh tokens too), `keys` (the client's JWKS). What is to stand in the log."""
        if name == "revoke":
            note = {"revoked": "all" if details.get("refresh") else "access"}
            self._remember(note)
            return note
        if name == "keys":
            write_keys(self.folder, details.get("jwks"))
            return {}
        raise SettingsError("no such order; there are revoke, keys", where=f"order {name}")

    # requests

    def operation(self, request: Request) -> str | None:
        """Whether the request is for it, and which it is."""
        found = OPERATIONS.get((request.method, request.path))
        return found or ("authorize" if request.path.startswith(f"{PREFIX}/") else None)

    def apply(self, call: Call, knobs: NjsamsKnobs) -> Done:
        """Answer it."""
        if (call.request.method, call.request.path) not in OPERATIONS:
            return Done(Answer(404))
        if call.operation == "token":
            return self._token(call.request, knobs)
        if call.operation == "authorize":
            return self._authorize(call.request, knobs)
        if call.operation == "jwks":
            return Done(as_json(200, {"keys": [public(self._key, KID)]}))
        served = knobs.smart_configuration if call.request.path == SMART else knobs.openid_configuration
        return Done(as_json(200, self._configuration(knobs)) if served == "served" else Answer(404))

    def altered(self, call: Call, knobs: NjsamsKnobs, fault: Rule) -> Done:
        """A token's answer with something odd in it."""
        done = self.apply(call, knobs)
        if call.operation != "token" or done.answer.status != 200:  # noqa: PLR2004 - a success
            return done
        tree = json.loads(done.answer.body)
        name = {"expires_in": "expires_in", "no_access_token": "access_token", "token_type": "token_type"}.get(fault.name, "")
        tree.pop(name, None)
        if fault.value:
            tree[name] = _json(fault.value)
        return replace(done, answer=replace(done.answer, body=as_json(200, tree).body))

    def _configuration(self, knobs: NjsamsKnobs) -> dict[str, Any]:
        urls = self.urls()
        methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
        return {
            "issuer": self.issuer,
            "authorization_endpoint": urls["authorize"],
            "token_endpoint": urls["token"],
            "jwks_uri": urls["jwks"],
            "response_types_supported": ["code"],
            "grant_types_supported": list(knobs.grants),
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": methods if knobs.client_auth == "any" else [knobs.client_auth],
            "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
            "id_token_signing_alg_values_supported": ["ES384"],
            "subject_types_supported": ["public"],
            "scopes_supported": [
                "openid",
                "fhirUser",
                "offline_access",
                "user/*.read",
                "user/*.write",
                "system/*.read",
                "system/*.write",
            ],
            "capabilities": [
                "client-public",
                "client-confidential-symmetric",
                "client-confidential-asymmetric",
                "permission-user",
            ],
        }

    # /authorize

    def _authorize(self, request: Request, knobs: NjsamsKnobs) -> Done:
        if request.path == f"{PREFIX}/approve":
            asked = self._asked.pop(dict(parse_qsl(request.body.decode("latin-1"))).get("request", ""), None)
            return self._send_back(asked, self._code(asked)) if asked else Done(_page(400, "This page is not valid any more."))
        asked = dict(parse_qsl(request.query, keep_blank_values=True))
        if asked.get("client_id") != knobs.client_id or not _registered(asked.get("redirect_uri", ""), knobs):
            return Done(_page(400, "The app or its redirect_uri is not registered."), issues=("invalid_request",))
        wrong = self._wrong(asked, knobs)
        if wrong:
            return self._send_back(asked, {"error": wrong})
        if knobs.approval == "page":
            ticket = secrets.token_urlsafe(16)
            self._asked[ticket] = asked
            return Done(_page(200, "May the app read and write for you?", ticket))
        return self._send_back(asked, self._code(asked) if knobs.approval == "auto" else {"error": "access_denied"})

    def _wrong(self, asked: Mapping[str, str], knobs: NjsamsKnobs) -> str | None:
        if asked.get("response_type") != "code":
            return "unsupported_response_type"
        if "authorization_code" not in knobs.grants:
            return "unauthorized_client"
        if not asked.get("state") or not asked.get("scope"):
            return "invalid_request"
        if asked.get("aud", self.base if knobs.aud == "optional" else None) != self.base:
            return "invalid_request"
        if asked.get("code_challenge"):
            return None if asked.get("code_challenge_method") == "S256" else "invalid_request"
        return "invalid_request" if knobs.pkce == "required" else None

    def _code(self, asked: Mapping[str, str]) -> dict[str, str]:
        code = secrets.token_urlsafe(24)
        self._codes[code] = Grant(
            asked["scope"], self.now(), asked["redirect_uri"], asked.get("code_challenge", ""), asked.get("nonce", "")
        )
        return {"code": code}

    def _send_back(self, asked: Mapping[str, str], answer: Mapping[str, str]) -> Done:
        state = {"state": asked["state"]} if asked.get("state") else {}
        uri = asked["redirect_uri"]
        location = f"{uri}{'&' if '?' in uri else '?'}{urlencode({**answer, **state})}"
        return Done(Answer(302, headers=(("Location", location),)), issues=(answer["error"],) if "error" in answer else ())

    # /token

    def _token(self, request: Request, knobs: NjsamsKnobs) -> Done:
        try:
            form = _form(request)
            note = self._client(request, form, knobs)
            return self._grant(form, note, knobs)
        except Refused as error:
            challenge = (("WWW-Authenticate", 'Basic realm="NJSAMS"'),) if error.basic else ()
            tree = {"error": error.code, "error_description": str(error)}
            return Done(as_json(error.status, tree, headers=(*NO_STORE, *challenge)), issues=(error.code,))

    def _grant(self, form: Mapping[str, str], note: Mapping[str, Any], knobs: NjsamsKnobs) -> Done:
        kind = form.get("grant_type", "")
        if kind not in knobs.grants or kind not in {"authorization_code", "refresh_token", "client_credentials"}:
            raise Refused("unsupported_grant_type", "The grant is not supported")
        if kind == "authorization_code":
            return self._issue(kind, self._of_code(form, knobs), note, knobs, fresh=True)
        if kind == "client_credentials":
            return self._issue(kind, Grant(form.get("scope", "")), note, knobs)
        old = _digest(form.get("refresh_token", ""))
        grant = self._refresh.get(old)
        if grant is None:
            raise Refused("invalid_grant", "The refresh token is unknown, ended or revoked")
        narrowed = form.get("scope", grant.scope)
        if not set(narrowed.split()) <= set(grant.scope.split()):
            raise Refused("invalid_scope", "More scope than was granted")
        rotated = knobs.rotation == "rotated"
        return self._issue(kind, grant, {**note, **({"ended": old} if rotated else {})}, knobs, fresh=rotated)

    def _of_code(self, form: Mapping[str, str], knobs: NjsamsKnobs) -> Grant:
        grant = self._codes.pop(form.get("code", ""), None)  # once, whatever comes of it
        if grant is None or self.now() > grant.expires + knobs.code_seconds:
            raise Refused("invalid_grant", "The code is unknown, used or expired")
        if form.get("redirect_uri") != grant.redirect_uri:
            raise Refused("invalid_grant", "redirect_uri is another than at /authorize")
        verifier = form.get("code_verifier", "")
        made = encode(hashlib.sha256(verifier.encode()).digest())
        if grant.challenge and not (_VERIFIER.fullmatch(verifier) and hmac.compare_digest(made, grant.challenge)):
            raise Refused("invalid_grant", "code_verifier does not fit code_challenge")
        return grant

    def _issue(self, kind: str, grant: Grant, note: Mapping[str, Any], knobs: NjsamsKnobs, *, fresh: bool = False) -> Done:
        """A token, and a refresh token where one is due; the note is what the log gets, and what it is remembered by."""
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        scope = knobs.granted_scope or grant.scope
        wanted = knobs.refresh == "always" or (knobs.refresh == "offline_access" and "offline_access" in scope.split())
        fresh = fresh and (wanted or kind == "refresh_token")
        expires = self.now() + knobs.token_seconds
        said = {"access": _digest(access), "expires": expires, "scope": scope, "refresh": _digest(refresh) if fresh else None}
        token = {"grant": kind, "client": knobs.client_id, **note, **said}
        self._remember(token)
        tree: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": knobs.token_seconds, "scope": scope}
        tree |= {"refresh_token": refresh} if fresh else {}
        tree |= {"id_token": self._id_token(grant, knobs)} if kind == "authorization_code" and "openid" in scope.split() else {}
        return Done(as_json(200, tree, headers=NO_STORE), token=token)

    def _id_token(self, grant: Grant, knobs: NjsamsKnobs) -> str:
        now = int(self.now())
        claims = {"iss": self.issuer, "sub": "analyst-1", "aud": knobs.client_id, "iat": now, "exp": now + 300}
        claims |= {"fhirUser": f"{self.base}/Practitioner/1"} | ({"nonce": grant.nonce} if grant.nonce else {})
        return sign(claims, self._key, KID)

    # who asks

    def _client(self, request: Request, form: Mapping[str, str], knobs: NjsamsKnobs) -> dict[str, Any]:
        """The one registered client, proved in exactly one way; what of it the log keeps."""
        header = request.headers.get("authorization", "")
        ways = [
            name
            for name, used in (
                ("client_secret_basic", bool(header)),
                ("client_secret_post", "client_secret" in form),
                ("private_key_jwt", "client_assertion" in form),
            )
            if used
        ]
        if len(ways) > 1:
            raise Refused("invalid_request", "More than one way of authentication")
        way = ways[0] if ways else "none"
        basic = way == "client_secret_basic"
        if knobs.client_auth not in {"any", way} or way == "none":
            raise Refused("invalid_client", "The client must prove who it is in another way", status=401, basic=basic)
        if way == "private_key_jwt":
            return {"auth": way, **self._assertion(form, knobs)}
        given = _basic(header) if basic else (form.get("client_id", ""), form["client_secret"])
        right = hmac.compare_digest(given[1].encode(), self.secret.encode())
        if given[0] != knobs.client_id or not right:
            raise Refused("invalid_client", "Unknown client or wrong secret", status=401, basic=basic)
        return {"auth": way}

    def _assertion(self, form: Mapping[str, str], knobs: NjsamsKnobs) -> dict[str, Any]:
        if form.get("client_assertion_type") != ASSERTION:
            raise Refused("invalid_client", "client_assertion_type is not jwt-bearer", status=401)
        try:
            claims = read(form["client_assertion"], client_keys(self.folder, knobs.jwks_url))
            return self._claims(claims, knobs)
        except BadSignature as error:
            raise Refused("invalid_client", str(error), status=401) from None

    def _claims(self, claims: Mapping[str, Any], knobs: NjsamsKnobs) -> dict[str, Any]:
        now, expires, jti = self.now(), claims.get("exp"), claims.get("jti")
        audiences = {
            "token_endpoint": [self.urls()["token"]],
            "issuer": [self.issuer],
            "either": [self.urls()["token"], self.issuer],
        }
        if claims.get("iss") != knobs.client_id or claims.get("sub") != knobs.client_id:
            raise BadSignature("iss and sub are not the client id")
        given = claims.get("aud")
        if not set(given if isinstance(given, list) else [given]) & set(audiences[knobs.assertion_aud]):
            raise BadSignature("aud is not this server")
        if not isinstance(expires, (int, float)) or not now - _LEEWAY < expires <= now + knobs.assertion_seconds + _LEEWAY:
            raise BadSignature("exp is past or too far ahead")
        if not isinstance(jti, str) or not jti:
            raise BadSignature("jti is missing")
        digest = _digest(jti)
        if self._jtis.get(digest, 0.0) > now - _LEEWAY:
            raise BadSignature("jti was used before")
        self._jtis[digest] = expires
        return {"jti": digest, "jti_expires": expires}


def _registered(uri: str, knobs: NjsamsKnobs) -> bool:
    """Compared whole; by a knob without the port of 127.0.0.1."""
    if uri in knobs.redirect_uris:
        return True
    given = urlsplit(uri)
    if knobs.redirect_port == "exact" or given.hostname != "127.0.0.1":
        return False
    known = [urlsplit(one) for one in knobs.redirect_uris]
    return any(
        (one.scheme, one.hostname, one.path, one.query) == (given.scheme, given.hostname, given.path, given.query)
        for one in known
    )


def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refused("invalid_request", f"Content-Type is not {FORM}")
    pairs = parse_qsl(request.body.decode("latin-1"), keep_blank_values=True)
    if len(dict(pairs)) != len(pairs):
        raise Refused("invalid_request", "A parameter stands twice")
    return dict(pairs)


def _basic(header: str) -> tuple[str, str]:
    """Id and secret, each form-encoded first (RFC 6749 section 2.3.1)."""
    scheme, _, given = header.partition(" ")
    try:
        name, colon, secret = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "Not Basic authentication", status=401, basic=True)
    return unquote_plus(name), unquote_plus(secret)


def _page(status: int, text: str, ticket: str | None = None) -> Answer:
    """What a person sees; the button is there where a ticket is."""
    field_ = f"<input type='hidden' name='request' value='{escape(ticket)}'><button>Approve</button>" if ticket else ""
    form = f"<form method='post' action='{PREFIX}/approve'>{field_}</form>"
    body = f"<!DOCTYPE html><html><head><title>NJSAMS sandbox</title></head><body><p>{escape(text)}</p>{form}</body></html>"
    return Answer(status, body.encode(), "text/html; charset=utf-8")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _json(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except ValueError:
        return text
