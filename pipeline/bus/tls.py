"""TLS towards Kafka: a context from the PEM files of the settings. Certificates are always verified; nothing here can switch that off."""

import ssl
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings_sections import TlsFiles


def context_of(files: TlsFiles, where: str = "bus.tls") -> ssl.SSLContext:
    """TLS 1.2 or newer; SettingsError naming the setting whose file is not there or is no PEM."""
    for name, path in (("ca", files.ca), ("certificate", files.certificate), ("key", files.key)):
        _check_readable(path, f"{where}.{name}")
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (ssl.SSLError, OSError):
        raise SettingsError(f"the file {files.ca} holds no PEM certificates", where=f"{where}.ca") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None and files.key is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (ssl.SSLError, OSError):
            raise SettingsError(
                f"{files.certificate} and {files.key} are no PEM certificate and its unencrypted key",
                where=f"{where}.certificate",
            ) from None
    return context


def _no_password() -> str:
    """An encrypted key would make OpenSSL ask at the terminal; an empty password makes it fail instead."""
    return ""


def _check_readable(path: Path | None, where: str) -> None:
    if path is None:
        return
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise SettingsError(f"the file {path} cannot be read ({error.strerror})", where=where) from None
