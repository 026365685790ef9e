"""What `serve` needs beside its certificates: the store of appointments, and an issuer whose tokens can be checked. No token is made or shown."""

from collections.abc import Iterator

from pipeline.commands.doctor.report import Level, Line
from pipeline.errors import SettingsError
from pipeline.settings import Settings


def served(settings: Settings) -> Iterator[Line]:
    """Where there is a section `serve`: the issuer's keys are to be had, or it answers about tokens."""
    if settings.serve is None:
        return
    if settings.appointments is None:
        yield Line(
            Level.FAIL, "serve", "there is no store of appointments", "set `appointments`: serve reads them there", ours=True
        )
    if settings.serve.tls is None:
        found = "answers by plain HTTP: only for a proxy on this machine, which does TLS"
        yield Line(Level.WARN, "serve", found, "set serve.tls where there is none")
    yield _issuer(settings)


def _issuer(settings: Settings) -> Line:
    from pipeline import wiring

    what = "issuer of patients' tokens"
    assert settings.serve is not None  # noqa: S101 - the caller looked
    tokens = wiring.tokens_of(settings.serve)
    try:
        why = tokens.ready()
    except SettingsError as error:
        return Line(Level.FAIL, what, str(error), "put the secret there, or mend the setting", ours=True)
    finally:
        tokens.close()
    if why is not None:
        do = "see whether it is up, and at serve.tokens: its address, tls.ca, client_id and secret"
        return Line(Level.FAIL, what, why, do)
    asked = "answers about tokens" if settings.serve.tokens.introspection else "its keys are there"
    return Line(Level.OK, what, asked)
