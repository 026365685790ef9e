"""What lies on this machine: settings, secrets, certificates, mappings, disk. Files are read, none is made."""

import shutil
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel

from pipeline.commands.doctor.report import Level, Line
from pipeline.database import engine
from pipeline.errors import NotSent, SettingsError
from pipeline.ledger.named import LEDGER
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import DEFAULTS, Embedded, Settings
from pipeline.settings_sections import Secret, TlsFiles
from pipeline.transport import certificates as files

LITTLE, TOO_LITTLE = 2 * 1024**3, 200 * 1024**2
"""Bytes of free disk space that are worth a warning, and a failure."""
EVERYBODY: Final = 0o077


def folder_of(settings: Settings) -> Path:
    """Where the built-in settings keep everything."""
    return settings.bus.path.parent if isinstance(settings.bus, Embedded) else Path()


def settings_line(path: Path, settings: Settings, *, fresh: bool) -> Line:
    """Which settings count, and whether anything has run on them."""
    has = f"{len(settings.routes)} route{'s' * (len(settings.routes) != 1)}, bus {settings.bus.kind}"
    if fresh:
        what = f"the built-in ones ({has}); nothing has run yet, so secrets, certificates, bus and ledger are not there to be looked at"
        return Line(
            Level.WARN, "settings", what, "emr-pipeline demo makes and fills them here; for a hospital write an emr-pipeline.yaml"
        )
    return Line(Level.OK, "settings", f"{'the built-in ones' if path == DEFAULTS else path} ({has})")


def found_in(model: object, kind: type[BaseModel], name: str = "") -> "Iterator[tuple[str, BaseModel]]":
    """Every section of a kind, with the setting's name."""
    if isinstance(model, kind):
        yield name, model
    elif isinstance(model, BaseModel):
        for field in type(model).model_fields:
            yield from found_in(getattr(model, field), kind, f"{name}.{field}".lstrip("."))
    elif isinstance(model, dict):
        for key, value in model.items():
            yield from found_in(value, kind, f"{name}.{key}")


def secrets(settings: Settings) -> Iterator[Line]:
    """Each secret can be read, and by nobody else."""
    for name, secret in found_in(settings, Secret):
        assert isinstance(secret, Secret)  # noqa: S101 - for the type checker
        what = f"secret {name}"
        try:
            value = secret.read(name)
            if name == "keys.patient_hash":
                Pseudonyms(value)
        except SettingsError as error:
            yield Line(Level.FAIL, what, error.message, "put the secret there, or mend the setting", ours=True)
            continue
        if secret.file is not None and secret.file.stat().st_mode & EVERYBODY:
            yield Line(Level.WARN, what, f"{secret.file} can be read by others", f"chmod 600 {secret.file}")
        else:
            yield Line(Level.OK, what, "readable")


def certificates(settings: Settings) -> Iterator[Line]:
    """Dates, chain, key and rights of each set of PEM files."""
    for name, tls in found_in(settings, TlsFiles):
        assert isinstance(tls, TlsFiles)  # noqa: S101 - for the type checker
        try:
            credentials = files.read(tls, ssl.SSLSocket)
        except NotSent as error:
            yield Line(Level.FAIL, f"certificates {name}", error.message, "put the right PEM files there", ours=True)
            continue
        authorities = _read(tls.ca) if tls.ca else []
        if tls.ca is not None:
            yield _dates(f"{name}.ca", tls.ca, authorities)
        if tls.certificate is not None and credentials.not_after is not None:
            chain = _read(tls.certificate)
            yield _dates(f"{name}.certificate", tls.certificate, chain, _leads_to(chain, authorities))
        if tls.key is not None:
            yield _rights(f"{name}.key", tls.key)


def _read(file: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(file.read_bytes())


def _dates(name: str, file: Path, chain: list[x509.Certificate], more: str = "") -> Line:
    now = datetime.now(UTC)
    what = f"certificate {name}"
    until = min(one.not_valid_after_utc for one in chain)
    days = (until - now).days
    if any(one.not_valid_before_utc > now for one in chain):
        return Line(Level.FAIL, what, f"{file} is not valid yet", "look at this machine's clock", ours=True)
    if until < now:
        return Line(Level.FAIL, what, f"{file} expired on {until:%Y-%m-%d}", "put the renewed certificate there", ours=True)
    if days < files.SOON_DAYS:
        return Line(
            Level.WARN, what, f"{file} expires in {days} days ({until:%Y-%m-%d}){more}", "order the renewed certificate now"
        )
    return Line(Level.OK, what, f"valid for {days} days (until {until:%Y-%m-%d}){more}")


def _leads_to(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> str:
    """Whether the file's chain leads to what we trust: what the other side trusts we cannot know."""
    last = chain[-1]
    for authority in (*authorities, *chain):
        try:
            last.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return ", chain complete" if authority in chain else ", issued by a certificate in ca"
    return ", issued by one that is neither in its file nor in ca: the other side has to know the issuer"


def _rights(name: str, file: Path) -> Line:
    if file.stat().st_mode & EVERYBODY:
        return Line(Level.WARN, f"key {name}", f"{file} can be read by others", f"chmod 600 {file}")
    return Line(Level.OK, f"key {name}", "fits its certificate, readable by its owner alone")


def mappings(settings: Settings) -> Iterator[Line]:
    """The mappings pass lint."""
    from pipeline.templates.lint.folder import lint
    from pipeline.wiring import MAPPINGS, catalogue_of

    folder = settings.mappings or MAPPINGS
    if not (folder / "events.yaml").is_file():
        yield Line(Level.FAIL, "mappings", f"{folder} is no mappings folder: it has no events.yaml", "mend `mappings`", ours=True)
        return
    if settings.site.overlay is not None:
        catalogue_of(settings)  # one that is not there is told as `run` tells it
    problems = lint(folder, settings.site.overlay)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield Line(Level.FAIL, "mappings", f"{problems[0]}{more}", "emr-pipeline lint shows every mistake", ours=True)
    else:
        yield Line(Level.OK, "mappings", f"{folder} pass lint")


def disk(settings: Settings) -> Iterator[Line]:
    """Room where the embedded bus and a SQLite ledger write."""
    ledger = engine.sqlite_file(engine.parse(LEDGER, settings.ledger.url, None))
    places = {
        "bus": settings.bus.path if isinstance(settings.bus, Embedded) else None,
        "ledger": ledger.parent if ledger else None,
    }
    for name, place in places.items():
        if place is None:
            continue
        there = next(folder for folder in (place, *place.resolve().parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        level = Level.FAIL if free < TOO_LITTLE else Level.WARN if free < LITTLE else Level.OK
        yield Line(
            level, f"disk of the {name}", f"{free / 1024**3:.1f} GB free", None if level is Level.OK else f"make room at {there}"
        )
