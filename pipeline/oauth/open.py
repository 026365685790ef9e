"""A partner's OAuth block put to work: what wiring and the commands call. Secrets and keys are looked at here once, so that a wrong one ends the start."""

from typing import Protocol

from pipeline.oauth import keys
from pipeline.oauth.cache import TokenCache
from pipeline.oauth.source import Source
from pipeline.oauth.store import LoginFile
from pipeline.oauth.wire import Wire
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings_partners import OAuthSettings
from pipeline.settings_sections import TlsFiles
from pipeline.transport.bearer import BearerTransport
from pipeline.transport.port import Transport


class Protected(Protocol):
    """What the settings of a partner with OAuth have."""

    @property
    def base_url(self) -> str:
        """What its paths are put behind; the default of `aud`."""
        ...

    @property
    def tls(self) -> TlsFiles:
        """Towards the partner, and towards the authorization server where that has none of its own."""
        ...

    @property
    def oauth(self) -> OAuthSettings:
        """The block."""
        ...


def source_of(name: str, partner: Protected, pseudonyms: Pseudonyms) -> Source:
    """Where its tokens come from. SettingsError where secret or key cannot be read."""
    oauth, where = partner.oauth, f"partners.{name}.oauth"
    if oauth.client_secret is not None:
        oauth.client_secret.read(f"{where}.client_secret")
    if oauth.private_key is not None:
        keys.read(oauth.private_key, f"{where}.private_key")
    logins = LoginFile(oauth.refresh_file, pseudonyms) if oauth.grant == "authorization_code" and oauth.refresh_file else None
    return Source(oauth, partner.base_url, where, Wire(oauth.tls or partner.tls, oauth.times), logins)


def bearer_of(name: str, partner: Protected, inner: Transport, pseudonyms: Pseudonyms) -> BearerTransport:
    """`inner` with the partner's tokens, one cache for all who share it."""
    source = source_of(name, partner, pseudonyms)
    return BearerTransport(inner, TokenCache(name, source, partner.oauth.early))
