"""TLS at the stand-in's door: who may come in. One context per choice of knobs; nothing here knows HTTP."""

import datetime as dt
import ssl
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pipeline.sandbox.certificates import Files
from pipeline.sandbox.knobs import Common

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which Python's ssl has no name for: dates are looked at afterwards, for the 403."""

_VERSIONS: Final = {
    "any": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
    "1.2": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    "1.3": (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
}


class Gateway:
    """Contexts by knob, and the second look at a certificate where the knob wants a 403 instead of an alert."""

    def __init__(self, files: Files, *, mutual: bool = True) -> None:
        self._files = files
        self._mutual = mutual
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self._root = x509.load_pem_x509_certificate(files.ca.read_bytes())

    def context(self, knobs: Common) -> ssl.SSLContext:
        """For new connections."""
        key = (knobs.tls, knobs.wrong_certificate)
        if key not in self._contexts:
            self._contexts[key] = self._make(*key)
        return self._contexts[key]

    def _make(self, versions: str, wrong_certificate: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = _VERSIONS[versions]
        context.load_cert_chain(self._files.server, self._files.server_key)
        if not self._mutual:
            return context
        context.load_verify_locations(self._files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        if wrong_certificate == "403":  # let them in, so that HTTP can refuse them
            context.load_verify_locations(self._files.foreign_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= NO_CHECK_TIME
        return context

    def accepts(self, tls: ssl.SSLObject | None, knobs: Common) -> bool:
        """Whether the client's certificate is good; where the handshake was strict, it is."""
        if not self._mutual or knobs.wrong_certificate == "alert":
            return True
        der = tls.getpeercert(binary_form=True) if tls else None
        if not der:
            return False
        certificate = x509.load_der_x509_certificate(der)
        try:
            certificate.verify_directly_issued_by(self._root)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return certificate.not_valid_before_utc <= dt.datetime.now(dt.UTC) <= certificate.not_valid_after_utc
