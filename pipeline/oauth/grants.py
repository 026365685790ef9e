"""Token requests built and token answers read. Authlib builds forms, proofs and assertions; it sends nothing, and what comes back is read here.

Pure but for the secret and the key, which are read anew for each request: one that was mended counts without a restart.
"""

import math
import re
from typing import Any, Final
from urllib.parse import quote

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from authlib.oauth2.rfc7523.client import ASSERTION_TYPE

from pipeline.model import Reply
from pipeline.oauth import keys
from pipeline.oauth.granted import Granted, NoToken
from pipeline.oauth.wire import FORM, json_object
from pipeline.partners.answers import retry_after
from pipeline.settings_partners import OAuthSettings
from schemas.outcomes import Reason

ASSERTED: Final = 180
"""Seconds that an assertion is good for. SMART allows five minutes; ours leaves two for clocks that differ."""
REFUSALS: Final = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "invalid_scope",
        "unsupported_grant_type",
        "invalid_request",
        "access_denied",
        "invalid_target",
    }
)
"""Error codes (RFC 6749 section 5.2, RFC 8707) that trying again does not mend. Only these, and the next one, are ever repeated."""
ENDED: Final = "invalid_grant"
"""Code, login or refresh token are not good, or not any more."""
AWAY: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
OK, UNAUTHORIZED, BAD = 200, 401, frozenset({400, 401, 403})


def request(
    oauth: OAuthSettings, endpoint: str, where: str, grant: str, **fields: str
) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Headers and form of a token request; both hold secrets. SettingsError where secret or key cannot be read."""
    body: str = prepare_token_request(grant, "", **fields)
    headers: dict[str, str] = {"Content-Type": FORM}
    if oauth.client_auth == "private_key_jwt":
        body = prepare_token_request(
            grant, "", **fields, client_assertion_type=ASSERTION_TYPE, client_assertion=_assertion(oauth, endpoint, where)
        )
    else:
        assert oauth.client_secret is not None  # noqa: S101 - the settings saw to it
        secret, client = oauth.client_secret.read(f"{where}.client_secret"), oauth.client_id
        if oauth.client_auth == "client_secret_basic":
            # RFC 6749 section 2.3.1: both are form-encoded first, which Authlib leaves to its caller
            client, secret = quote(client, safe=""), quote(secret, safe="")
        _, headers, body = ClientAuth(client, secret, oauth.client_auth).prepare("POST", endpoint, headers, body)
    return tuple(headers.items()), body.encode()


def _assertion(oauth: OAuthSettings, endpoint: str, where: str) -> str:
    """Who we are, signed: a fresh jti each time, for this token endpoint alone (RFC 7523, SMART backend services)."""
    assert oauth.private_key is not None  # noqa: S101 - the settings saw to it
    made: str = private_key_jwt_sign(
        keys.read(oauth.private_key, f"{where}.private_key"),
        oauth.client_id,
        endpoint,
        alg=oauth.private_key.algorithm,
        header={"kid": oauth.private_key.key_id},
        expires_in=ASSERTED,
    )
    return made


def read(reply: Reply, *, of_login: bool) -> Granted:
    """The token of an answer. NoToken where it has none; `of_login`: a code or refresh token was sent, so a person can mend `invalid_grant`."""
    document = json_object(reply)
    if reply.status == OK and document is not None and "error" not in document:
        return _granted(document)
    code = document.get("error") if document is not None else None
    if code == ENDED and of_login:
        raise NoToken(Reason.LOGIN_NEEDED)
    if reply.status in {OK, *BAD} and isinstance(code, str) and code in REFUSALS | {ENDED}:
        raise NoToken(Reason.REFUSED_TOKEN, code)
    if reply.status == UNAUTHORIZED:
        raise NoToken(Reason.REFUSED_TOKEN, "HTTP 401")
    if reply.status == OK:
        raise NoToken(Reason.NOT_SENT_TOKEN, "the token endpoint answers something that is no token (HTTP 200)")
    said = f" {code}" if isinstance(code, str) and code in AWAY else ""
    raise NoToken(Reason.NOT_SENT_TOKEN, f"the token endpoint answers HTTP {reply.status}{said}", retry_after=retry_after(reply))


def _granted(document: dict[str, Any]) -> Granted:
    token, kind = document.get("access_token"), document.get("token_type", "Bearer")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        raise NoToken(Reason.NOT_SENT_TOKEN, "the token endpoint's answer has no access_token that a header can carry")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise NoToken(Reason.NOT_SENT_TOKEN, "the token endpoint gives tokens that are not Bearer tokens")
    return Granted(
        access_token=token,
        lifetime=_lifetime(document.get("expires_in")),
        refresh_token=_text(document.get("refresh_token")),
        id_token=_text(document.get("id_token")),
        scope=_text(document.get("scope")),
    )


def _lifetime(said: object) -> float | None:
    """expires_in in seconds; None where it is missing or absurd: nothing, not a number, zero, negative, infinite."""
    if isinstance(said, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", said.strip()):
        said = float(said)
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return float(said) if math.isfinite(said) and said > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
