"""Our certificate, its key and what we trust: read, checked and made into a TLS context. Read anew when a file changes.

A certificate that cannot work is found here, before a byte is sent: dates, chain, key. No error names more than a file.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pipeline.errors import NotSent
from pipeline.settings_sections import TlsFiles
from schemas.outcomes import Reason

SOON_DAYS: Final = 30
"""A certificate that ends within so many days is to be renewed now: a partner takes weeks to register one."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one reading of the files gave."""

    context: ssl.SSLContext
    not_before: datetime | None
    """Latest begin in our certificate's chain; None without a certificate."""
    not_after: datetime | None
    """Earliest end in our certificate's chain."""
    file: Path | None
    stamp: tuple[int, ...]

    def check(self, now: datetime) -> None:
        """NotSent(NOT_SENT_CERTIFICATE) where our certificate is not valid at `now`."""
        if self.not_before is not None and now < self.not_before:
            raise _unusable(f"{self.file} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC: look at this machine's clock")
        if self.not_after is not None and now > self.not_after:
            raise _unusable(f"{self.file} expired at {self.not_after:%Y-%m-%d %H:%M} UTC: put the renewed certificate there")


def stamp(tls: TlsFiles) -> tuple[int, ...]:
    """Changes when a file does. A file that is not there counts as 0: `read` says so."""
    return tuple(_stamp(path) for path in (tls.ca, tls.certificate, tls.key) if path is not None)


def _stamp(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return hash((status.st_mtime_ns, status.st_ino, status.st_size))


def read(tls: TlsFiles, socket_class: type[ssl.SSLSocket]) -> Credentials:
    """A context that trusts `ca` alone (without one, the system's roots), TLS 1.2 and above.

    NotSent(NOT_SENT_CERTIFICATE) where our certificate or key cannot be used, NotSent(NOT_SENT_TLS) where `ca` cannot.
    """
    seen = stamp(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = socket_class
    _trust(context, tls.ca)
    if tls.certificate is None or tls.key is None:
        return Credentials(context, None, None, None, seen)
    chain = _chain(tls.certificate)
    _load(context, tls.certificate, tls.key, chain[0])
    return Credentials(
        context,
        max(each.not_valid_before_utc for each in chain),
        min(each.not_valid_after_utc for each in chain),
        tls.certificate,
        seen,
    )


def warning(tls: TlsFiles, at: datetime) -> str | None:
    """One line for a person where our certificate cannot be used at `at`, or soon cannot: what, which file, what to do. None where all is well.

    Expired, not valid yet, not the key's, not readable, ending within 30 days; also where `ca` cannot be read. Raises nothing for these.
    """
    try:
        credentials = read(tls, ssl.SSLSocket)
        credentials.check(at)
    except NotSent as error:
        return str(error)
    end = credentials.not_after
    if end is None or (end - at).days >= SOON_DAYS:
        return None
    days = (end - at).days
    left = f"in {days} day{'s' * (days != 1)}" if days else "within a day"
    return f"{credentials.file} expires {left} ({end:%Y-%m-%d}): order the renewed certificate now"


def now() -> datetime:
    """The wall clock, as certificates have it."""
    return datetime.now(UTC)


def _trust(context: ssl.SSLContext, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    try:
        context.load_verify_locations(cafile=str(ca))
    except FileNotFoundError:
        raise NotSent(Reason.NOT_SENT_TLS, f"{ca} (tls.ca) is not there") from None
    except (OSError, ssl.SSLError):
        raise NotSent(Reason.NOT_SENT_TLS, f"{ca} (tls.ca) has no readable certificates in PEM") from None


def _chain(file: Path) -> list[x509.Certificate]:
    """Our certificate and those in its file that lead up from it."""
    try:
        leaf, *others = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise _unusable(f"{file} (tls.certificate) cannot be read ({error.strerror})") from None
    except ValueError:
        raise _unusable(f"{file} (tls.certificate) has no readable certificate in PEM") from None
    chain = [leaf]
    while issuer := next((other for other in others if other.subject == chain[-1].issuer), None):
        others.remove(issuer)
        chain.append(issuer)
    return chain


def _load(context: ssl.SSLContext, certificate: Path, key: Path, leaf: x509.Certificate) -> None:
    try:
        ours = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise _unusable(f"{key} (tls.key) cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(f"{key} (tls.key) cannot be read as a PEM key without a passphrase") from None
    if _public(ours.public_key()) != _public(leaf.public_key()):
        raise _unusable(f"{key} (tls.key) is not the key of {certificate}")
    try:
        # a passphrase is never asked for at a terminal that nobody watches
        context.load_cert_chain(str(certificate), str(key), password="")
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror
        raise _unusable(f"{certificate} and {key} cannot be used for TLS ({why})") from None


def _public(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _unusable(message: str) -> NotSent:
    return NotSent(Reason.NOT_SENT_CERTIFICATE, message)
