"""Partners that want access tokens, and those with a read side: a token is asked for or signed, and the CapabilityStatement read. No patient is asked about.

A login's refresh token may be replaced by this, as by any use of it; the new one is kept.
"""

from collections.abc import Iterator
from typing import Any, Final

from pipeline.commands.doctor.report import Level, Line
from pipeline.errors import NoAnswer, NotSent, SettingsError
from pipeline.settings import Settings
from schemas.outcomes import Reason

DO: Final = {
    Reason.REFUSED_TOKEN: "mend the partner's oauth settings, secret or key (emr-pipeline jwks), or ask the partner",
    Reason.LOGIN_NEEDED: "emr-pipeline login",
}
AWAY: Final = "see whether the authorization server is up and the way to it; where discovery fails, set oauth.token_url"


def tokens(settings: Settings) -> Iterator[Line]:
    """Each partner's authorization server gives us a token, or we can sign one."""
    from pipeline.wiring import has_oauth

    for name, partner in settings.partners.items():
        if has_oauth(settings, name):
            yield _token(settings, name)
        if getattr(partner, "jwt", None) is not None:
            yield _signed(settings, name)


def _signed(settings: Settings, name: str) -> Line:
    from pipeline import wiring

    what = f"token of {name}"
    try:
        signer = wiring.signer_of(settings, name)
        signer.token(None, 0)
    except SettingsError as error:
        do = f"put the key there, or make one: emr-pipeline jwks {name} --new"
        return Line(Level.FAIL, what, f"not signed: {error}", do, ours=True)
    return Line(
        Level.OK, what, f"one can be signed ({signer.algorithm}), for {signer.seconds / 60:.0f} minutes and one dossier each"
    )


def _token(settings: Settings, name: str) -> Line:
    from pipeline import wiring
    from pipeline.oauth.open import source_of

    what = f"token of {name}"
    try:
        source = source_of(name, wiring.protected_of(settings, name), wiring.pseudonyms_of(settings))
    except SettingsError as error:
        return Line(Level.FAIL, what, f"not asked for: {error}", "put the secret or key there, or mend the setting", ours=True)
    try:
        granted = source()
    except NotSent as error:
        do = DO.get(error.reason, AWAY)
        login = f"{do} {name}" if error.reason is Reason.LOGIN_NEEDED else do
        return Line(Level.FAIL, what, error.message, login, ours=error.reason is Reason.REFUSED_TOKEN)
    finally:
        source.close()
    lasts = "it does not say for how long" if granted.lifetime is None else f"for {granted.lifetime / 60:.0f} minutes"
    less = set(source.oauth.scope.split()) - set(granted.scope.split()) if granted.scope is not None else set()
    if less:
        missing = " ".join(sorted(less))
        return Line(
            Level.WARN, what, f"one came, {lasts}, without a part of the scope: {missing}", "ask the partner for the scope"
        )
    return Line(Level.OK, what, f"one came, {lasts}")


def capabilities(settings: Settings) -> Iterator[Line]:
    """Each partner with a read side lists what we use of it."""
    from pipeline.partners.readers import READERS

    for name, partner in settings.partners.items():
        if partner.kind in READERS:
            yield _capabilities(settings, name)


def _capabilities(settings: Settings, name: str) -> Line:
    from pipeline import wiring
    from pipeline.partners.reads import NotRead
    from pipeline.transport.https import HttpsTransport

    what, reader = f"capabilities of {name}", wiring.reader_of(settings, name)
    partner: Any = settings.partners[name]
    request = reader.capabilities()
    if request is None:
        return Line(Level.OK, what, "it has no CapabilityStatement: what it offers stands in its documents alone")
    transport = HttpsTransport(partner.base_url, partner.tls, {}, pool=1, body_cap=16 * 1024 * 1024)
    try:
        missing = reader.not_listed(transport.exchange(request))
    except (NotSent, NoAnswer, NotRead) as error:
        return Line(Level.WARN, what, f"not read: {error}", "see whether base_url is right; the partner's /metadata is public")
    finally:
        transport.close()
    if missing:
        return Line(
            Level.WARN,
            what,
            f"its CapabilityStatement does not list: {', '.join(missing)}",
            "ask the partner whether it is offered",
        )
    return Line(Level.OK, what, "its CapabilityStatement lists all that we use")
