"""Where a partner's authorization server is: what the settings say, and for the rest what it publishes (SMART App Launch 2, OpenID Discovery).

An address that is set is not asked for, and wins over one that is published. A published one counts only where it is https.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.oauth.granted import NoToken
from pipeline.oauth.wire import Wire, json_object
from pipeline.settings_partners import OAuthSettings
from schemas.outcomes import Reason

OK: Final = 200


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What is known of an authorization server."""

    issuer: str | None = None
    token: str | None = None
    authorize: str | None = None
    jwks: str | None = None
    challenges: tuple[str, ...] | None = None
    """code_challenge_methods_supported; None where it does not say."""
    client_auths: tuple[str, ...] | None = None
    """token_endpoint_auth_methods_supported."""
    scopes: tuple[str, ...] | None = None
    """scopes_supported."""
    source: str = "the settings"
    """Where it is from, for people."""


def discover(oauth: OAuthSettings, base_url: str, wire: Wire) -> Endpoints:
    """All that is set and published. NoToken where no document can be had, though one is needed."""
    said = Endpoints(issuer=oauth.issuer, token=oauth.token_url, authorize=oauth.authorize_url)
    if not oauth.discovery:
        return said
    smart = _document(wire, f"{base_url.rstrip('/')}/.well-known/smart-configuration", "smart-configuration")
    found = _read(smart, "smart-configuration") if smart else None
    if found is None or found.token is None:
        issuer = oauth.issuer or (found and found.issuer) or base_url
        openid = _document(wire, f"{issuer.rstrip('/')}/.well-known/openid-configuration", "openid-configuration")
        found = _read(openid, "openid-configuration") if openid else None
        if found is not None and found.issuer is not None and found.issuer.rstrip("/") != issuer.rstrip("/"):
            # OpenID Connect Discovery section 4.3: the document has to be the issuer's own
            raise NoToken(Reason.NOT_SENT_TOKEN, "openid-configuration names another issuer than the one that was asked")
    if found is None:
        if said.token is None:
            raise NoToken(
                Reason.NOT_SENT_TOKEN, "there is no smart-configuration and no openid-configuration: set oauth.token_url"
            )
        return said
    return replace(
        found,
        issuer=said.issuer or found.issuer,
        token=said.token or found.token,
        authorize=said.authorize or found.authorize,
    )


def token_endpoint(oauth: OAuthSettings, base_url: str, wire: Wire) -> str:
    """Where tokens are had: nothing is asked where it is set. NoToken where nobody says."""
    found = oauth.token_url or discover(oauth, base_url, wire).token
    if found is None:
        raise NoToken(Reason.NOT_SENT_TOKEN, "discovery names no token endpoint: set oauth.token_url")
    return found


def _document(wire: Wire, url: str, what: str) -> dict[str, Any] | None:
    """None where the server has none; NoToken where it does not answer so that one could tell."""
    reply = wire.ask("GET", url, what)
    if reply.status == OK:
        return json_object(reply)
    if reply.status >= 500 or reply.status == 429:  # noqa: PLR2004 - HTTP's own numbers
        raise NoToken(Reason.NOT_SENT_TOKEN, f"{what}: HTTP {reply.status}")
    return None


def _read(document: Mapping[str, Any], source: str) -> Endpoints:
    return Endpoints(
        issuer=_https(document.get("issuer")),
        token=_https(document.get("token_endpoint")),
        authorize=_https(document.get("authorization_endpoint")),
        jwks=_https(document.get("jwks_uri")),
        challenges=_texts(document.get("code_challenge_methods_supported")),
        client_auths=_texts(document.get("token_endpoint_auth_methods_supported")),
        scopes=_texts(document.get("scopes_supported")),
        source=source,
    )


def _https(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
        whole = parts.scheme == "https" and parts.hostname and (parts.port or True)
    except ValueError:
        return None
    return (
        value if whole and "@" not in parts.netloc and not parts.fragment and value.isprintable() and " " not in value else None
    )


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else None
