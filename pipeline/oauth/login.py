"""A person says yes once: the authorization code grant of SMART on FHIR, with PKCE (S256), state and nonce.

`begin` makes the address for the browser, `redirected` or `Loopback` takes what came back, `finish` fetches the tokens and checks the ID
token. The code, the verifier and the tokens are in no output, log, error or repr; the address that is printed holds none of them.
"""

import time
from dataclasses import dataclass, field
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

import orjson
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from pipeline.errors import SettingsError
from pipeline.oauth.endpoints import Endpoints, discover
from pipeline.oauth.granted import Granted
from pipeline.oauth.source import Source
from pipeline.oauth.wire import json_object

OFFLINE: Final = "offline_access"
SIGNED: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures of an ID token that are taken: never `none`, never one with a shared secret."""
SKEW: Final = 120
"""Seconds that two clocks may differ."""
SAID_NO: Final = frozenset(
    {
        "access_denied",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
    }
)
"""Error codes of a redirect (RFC 6749 section 4.1.2.1) that are repeated."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that waits for a person."""

    url: str
    """For the browser."""
    redirect_uri: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    endpoints: Endpoints


def begin(source: Source) -> Begun:
    """The address to open. SettingsError where the settings or the authorization server leave something out; NotSent where it is away."""
    oauth = source.oauth
    endpoints = discover(oauth, source.base_url, source.wire)
    if endpoints.authorize is None:
        raise SettingsError(f"{endpoints.source} names no authorization endpoint: set authorize_url", where=source.where)
    if endpoints.challenges is not None and "S256" not in endpoints.challenges:
        raise SettingsError(
            "the authorization server does not take PKCE with S256, which this program insists on", where=source.where
        )
    words = oauth.scope.split()
    scope = " ".join(words if OFFLINE in words else [*words, OFFLINE])
    state, nonce, verifier = generate_token(43), generate_token(43), generate_token(64)
    url = prepare_grant_uri(
        endpoints.authorize,
        oauth.client_id,
        "code",
        redirect_uri=oauth.redirect_uri,
        scope=scope,
        state=state,
        aud=oauth.aud or source.base_url,
        nonce=nonce,
        code_challenge=create_s256_code_challenge(verifier),
        code_challenge_method="S256",
    )
    return Begun(url, oauth.redirect_uri, state, nonce, verifier, endpoints)


def redirected(begun: Begun, address: str) -> str:
    """The code, out of the address at which the browser ended. SettingsError where it is not this login's, or says no."""
    try:
        answer = dict(parse_qsl(urlsplit(address.strip()).query))
    except ValueError:
        answer = {}
    if not compare_digest(answer.get("state", "").encode(), begun.state.encode()):
        raise SettingsError("that is not the answer to this login (its state is another one): begin again", where="login")
    issuer = answer.get("iss")
    if issuer is not None and begun.endpoints.issuer is not None and issuer.rstrip("/") != begun.endpoints.issuer.rstrip("/"):
        raise SettingsError("the answer is another authorization server's (iss, RFC 9207)", where="login")
    if "error" in answer:
        code = answer["error"] if answer["error"] in SAID_NO else "an error that is not on our list"
        raise SettingsError(f"the authorization server says no: {code}", where="login")
    if not answer.get("code"):
        raise SettingsError("the answer has no code", where="login")
    return answer["code"]


def finish(source: Source, begun: Begun, code: str) -> Granted:
    """The tokens. NotSent, SettingsError where there are none, or the ID token is not ours."""
    granted = source.asked("authorization_code", code=code, redirect_uri=begun.redirect_uri, code_verifier=begun.verifier)
    if "openid" in source.oauth.scope.split():
        _check_id_token(source, begun, granted)
    return granted


def _check_id_token(source: Source, begun: Begun, granted: Granted) -> None:
    """OpenID Connect Core section 3.1.3.7. It came straight from the token endpoint over TLS; where the server publishes keys, they count too."""
    if granted.id_token is None:
        raise SettingsError(
            "scope has openid, and the authorization server gave no ID token: take openid out, or ask the partner", where="login"
        )
    client = source.oauth.client_id
    registry = jwt.JWTClaimsRegistry(
        leeway=SKEW,
        iss={"essential": True, **({"value": begun.endpoints.issuer} if begun.endpoints.issuer else {})},
        aud={"essential": True, "value": client},
        exp={"essential": True},
        nonce={"essential": True, "value": begun.nonce},
    )
    try:
        claims = _claims(source, begun.endpoints, granted.id_token)
        registry.validate(claims)
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != client:
            raise ValueError  # noqa: TRY301 - told below, with the others
    except (JoseError, ValueError) as error:
        what = getattr(error, "claim", None) or type(error).__name__
        raise SettingsError(f"the ID token is not one for this login ({what}): nothing was kept", where="login") from None


def _claims(source: Source, endpoints: Endpoints, token: str) -> dict[str, Any]:
    if endpoints.jwks is None:
        _, payload, _ = token.split(".")
        from joserfc.util import urlsafe_b64decode  # noqa: PLC0415 - needed where a server publishes no keys

        claims = orjson.loads(urlsafe_b64decode(payload.encode()))
        if not isinstance(claims, dict):
            raise ValueError
        return claims
    document = json_object(source.wire.ask("GET", endpoints.jwks, "the key set"))
    if document is None or not isinstance(document.get("keys"), list):
        raise ValueError
    return jwt.decode(token, KeySet.import_key_set({"keys": document["keys"]}), algorithms=SIGNED).claims


class _Answers(BaseHTTPRequestHandler):
    """Takes the one redirect. It logs nothing: the path holds the code."""

    timeout = 10
    server: "Loopback"
    protocol_version = "HTTP/1.0"
    PAGE: ClassVar[bytes] = (
        b"<!doctype html><title>emr-pipeline</title><p>Done: you can close this window and look at the terminal.</p>"
    )

    def do_GET(self) -> None:
        """The browser's redirect, or anything else that knocks here."""
        if urlsplit(self.path).path != self.server.path:
            self.send_error(404)
            return
        self.server.arrived(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.PAGE)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(self.PAGE)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the standard library's signature
        """Nothing."""


class Loopback(HTTPServer):
    """Listens on redirect_uri, on this machine alone, until the browser comes with this login's state."""

    def __init__(self, begun: Begun) -> None:
        """SettingsError where redirect_uri is not loopback, or its port is taken."""
        parts = urlsplit(begun.redirect_uri)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK or not parts.port:
            message = "not an address on this machine, as http://127.0.0.1:8765/callback: open the page elsewhere and use --paste"
            raise SettingsError(message, where="oauth.redirect_uri")
        self.begun, self.path = begun, parts.path or "/"
        self.code: str | None = None
        self.refused: SettingsError | None = None
        try:
            super().__init__(("127.0.0.1" if parts.hostname == "localhost" else parts.hostname, parts.port), _Answers)
        except OSError as error:
            raise SettingsError(
                f"port {parts.port} cannot be listened on ({error.strerror})", where="oauth.redirect_uri"
            ) from None

    def arrived(self, address: str) -> None:
        """Someone came to the redirect's path. One with another state is passed over: it may be anybody on this machine."""
        answer = dict(parse_qsl(urlsplit(address).query))
        if not compare_digest(answer.get("state", "").encode(), self.begun.state.encode()):
            return
        try:
            self.code = redirected(self.begun, address)
        except SettingsError as error:
            self.refused = error

    def wait(self, seconds: float) -> str:
        """The code. SettingsError where the server says no, or nobody came in time."""
        end = time.monotonic() + seconds
        while self.code is None and self.refused is None and (left := end - time.monotonic()) > 0:
            self.timeout = left
            self.handle_request()
        if self.refused is not None:
            raise self.refused
        if self.code is None:
            raise SettingsError(f"nobody came back from the browser in {seconds:.0f} s: begin again", where="login")
        return self.code

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the standard library's signature
        """A browser that went away: nothing to say, and no traceback of it."""
