"""The stand-in's own certificate authority, its server certificate, a client certificate, and three client certificates that must be refused.

Made once into a folder that only its owner reads, used again afterwards, made anew as a whole when one that must be valid is about to
expire. Shapes follow contracts/roche.md section 4 (RSA 2048, SHA-256, the environment code in the CN). For loopback only.
"""

import datetime as dt
import fcntl
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.errors import SettingsError

LIFETIME: Final = dt.timedelta(days=730)
RENEW: Final = dt.timedelta(days=7)
CN: Final = "emr-pipeline.demo@sandbox.invalid"
"""The CN is a mailbox-like string that contains the environment code (contracts/roche.md section 4)."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything is."""

    folder: Path

    @property
    def ca(self) -> Path:
        """What a client trusts."""
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        """The server's certificate."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """Its key."""
        return self.folder / "server.key"

    @property
    def client(self) -> Path:
        """The client certificate that is accepted."""
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        """Its key."""
        return self.folder / "client.key"

    @property
    def client_secret(self) -> Path:
        """The secret that goes with the client id; one line."""
        return self.folder / "client-secret"

    @property
    def foreign_ca(self) -> Path:
        """A CA that the stand-in does not know."""
        return self.folder / "foreign-ca.pem"

    def wrong(self, kind: str) -> tuple[Path, Path]:
        """Certificate and key of a client that must be refused: `expired`, `not-yet-valid` or `foreign`."""
        return self.folder / f"{kind}-client.pem", self.folder / f"{kind}-client.key"

    def secret(self) -> str:
        """The client secret."""
        return self.client_secret.read_text(encoding="ascii").strip()


def ensure(folder: Path) -> Files:
    """Make what is not there or about to expire; safe where two processes do so at once. SettingsError where the folder cannot be written.

    A folder that is made is its owner's alone; the rights of one that is there stay as they are.
    """
    files = Files(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / "certificates.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _usable(files):
                _make(files)
    except OSError as error:
        raise SettingsError(f"the sandbox's folder cannot be made or written ({error.strerror})", where=str(folder)) from None
    return files


def _usable(files: Files) -> bool:
    wrong = [path for kind in ("expired", "not-yet-valid", "foreign") for path in files.wrong(kind)]
    needed = [files.ca, files.server, files.server_key, files.client, files.client_key, files.client_secret, files.foreign_ca]
    if not all(path.is_file() and path.stat().st_size for path in needed + wrong):
        return False
    soon = dt.datetime.now(dt.UTC) + RENEW
    pems = (files.ca, files.server, files.client)
    try:
        return all(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc > soon for path in pems)
    except ValueError:  # a file that is no certificate any more
        return False


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _make(files: Files) -> None:
    now = dt.datetime.now(dt.UTC)
    root = _authority("emr-pipeline sandbox root", now)
    foreign = _authority("a certificate authority that the sandbox does not know", now)
    _write(files.ca, _pem(root.certificate))
    _write(files.foreign_ca, _pem(foreign.certificate))
    server_key = ec.generate_private_key(ec.SECP256R1())
    _write(files.server_key, _key_pem(server_key))
    _write(files.server, _pem(_leaf(root, server_key, "localhost", (now - dt.timedelta(hours=1), now + LIFETIME), server=True)))
    client_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write(files.client_key, _key_pem(client_key))
    _write(files.client, _pem(_leaf(root, client_key, CN, (now - dt.timedelta(hours=1), now + LIFETIME))))
    day = dt.timedelta(days=1)
    refused = {
        "expired": (root, (now - 30 * day, now - day)),
        "not-yet-valid": (root, (now + 365 * day, now + 730 * day)),
        "foreign": (foreign, (now - day, now + LIFETIME)),
    }
    for kind, (issuer, valid) in refused.items():
        certificate, key_file = files.wrong(kind)
        key = ec.generate_private_key(ec.SECP256R1())
        _write(key_file, _key_pem(key))
        _write(certificate, _pem(_leaf(issuer, key, CN, valid)))
    if not files.client_secret.is_file():  # a new certificate does not make a new secret
        _write(files.client_secret, secrets.token_urlsafe(24).encode() + b"\n")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority(common_name: str, now: dt.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=800))  # older than the expired certificate that it issues
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(certificate, key)


def _leaf(
    issuer: _Authority,
    key: CertificateIssuerPrivateKeyTypes,
    common_name: str,
    valid: tuple[dt.datetime, dt.datetime],
    *,
    server: bool = False,
) -> x509.Certificate:
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=isinstance(key, rsa.RSAPrivateKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    if server:
        loopback = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *loopback]), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.rename(path)


def signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Of a stand-in that issues tokens; made once. SettingsError where another sort of key stands there."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP384R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.touch(mode=0o600)
        path.write_bytes(made.private_bytes(*form))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError("is not the key that was made here; take it away", where=str(path))
    return key
