"""TLS contexts for MLLP, both sides. TLS 1.2 at least; a key with a passphrase is refused, since nobody is there to type it."""

import ssl
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings_sections import TlsFiles


def server_context(files: TlsFiles, *, client_certificates: bool, where: str) -> ssl.SSLContext:
    """What `listen` speaks; with `client_certificates` (mutual TLS) only to clients whose certificate `files.ca` vouches for."""
    if files.certificate is None:
        raise SettingsError("a TLS server needs a certificate and its key", where=where)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(context, files, where)
    if client_certificates:
        if files.ca is None:
            raise SettingsError(
                "client certificates are required, so the CA that vouches for them is needed", where=f"{where}.ca"
            )
        context.verify_mode = ssl.CERT_REQUIRED
        _load_ca(context, files.ca, where)
    return context


def client_context(files: TlsFiles, *, where: str) -> ssl.SSLContext:
    """What `send` speaks: the server's name and certificate are checked, against `files.ca` or the system's own list."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_ca(context, files.ca, where)
    if files.certificate is not None:
        _load_own(context, files, where)
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles, where: str) -> None:
    assert files.certificate is not None  # noqa: S101 - the callers looked; the key goes with it by the settings
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except ssl.SSLError as error:
        raise SettingsError(
            f"certificate {files.certificate} and key {files.key} cannot be used ({_reason(error)}); both are PEM, the key without a passphrase",
            where=where,
        ) from None
    except OSError as error:
        missing = next((path for path in (files.certificate, files.key) if path and not _readable(path)), files.certificate)
        raise SettingsError(f"{missing} cannot be read ({error.strerror})", where=where) from None


def _load_ca(context: ssl.SSLContext, ca: Path, where: str) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{ca} is no PEM file with certificates ({_reason(error)})", where=f"{where}.ca") from None
    except OSError as error:
        raise SettingsError(f"{ca} cannot be read ({error.strerror})", where=f"{where}.ca") from None


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").lower().replace("_", " ")
