"""Our private keys, for private_key_jwt and tokens of our own: made, read, and their public halves as the key set that a partner is given (RFC 7517).

A private key is written once, for us alone, and never over another one. No error says more of it than its file.
"""

import os
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from joserfc.jwk import ECKey, RSAKey

from pipeline.errors import SettingsError

RSA_BITS: Final = 3072
RSA_LEAST: Final = 2048


class Signing(Protocol):
    """What a block of the settings says of a key: its file, under which name the partner has it, and what it signs with."""

    @property
    def file(self) -> Path:
        """PEM (PKCS 8)."""
        ...

    @property
    def key_id(self) -> str:
        """`kid`."""
        ...

    @property
    def algorithm(self) -> str:
        """RS256, RS384, RS512 or ES384."""
        ...


def read(signing: Signing, where: str) -> RSAKey | ECKey:
    """The private key; SettingsError with the file where it cannot be used with its algorithm."""
    try:
        pem = signing.file.read_bytes()
    except OSError as error:
        raise SettingsError(f"the file {signing.file} cannot be read ({error.strerror})", where=where) from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise SettingsError(f"{signing.file} is no PEM key without a passphrase", where=where) from None
    match signing.algorithm, key:
        case "RS256" | "RS384" | "RS512", rsa.RSAPrivateKey() if key.key_size >= RSA_LEAST:
            return RSAKey.import_key(pem)
        case "ES384", ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP384R1):
            return ECKey.import_key(pem)
    wanted = f"an RSA key of {RSA_LEAST} bits or more" if signing.algorithm.startswith("RS") else "a key on the curve P-384"
    raise SettingsError(f"{signing.file} does not go with {signing.algorithm}, which wants {wanted}", where=where)


def make(signing: Signing, where: str) -> None:
    """A new private key in its file, which must not be there yet; SettingsError where it is."""
    key = (
        rsa.generate_private_key(65537, RSA_BITS)
        if signing.algorithm.startswith("RS")
        else ec.generate_private_key(ec.SECP384R1())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_new(signing.file, pem)
    except FileExistsError:
        message = f"{signing.file} is there already: name another file and another key_id, and publish both until the partner knows the new one"
        raise SettingsError(message, where=where) from None
    except OSError as error:
        raise SettingsError(f"{signing.file} cannot be written ({error.strerror})", where=where) from None


def write_new(file: Path, content: bytes) -> None:
    """A file for us alone from its first moment on; FileExistsError where there is one."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def public(signing: Signing, where: str) -> dict[str, Any]:
    """The public half, as it stands in the key set."""
    key = read(signing, where)
    return {**key.as_dict(private=False), "kid": signing.key_id, "alg": signing.algorithm, "use": "sig", "key_ops": ["verify"]}


def public_pem(signing: Signing, where: str) -> str:
    """The public half as PEM, for a partner that takes no key set."""
    return read(signing, where).as_pem(private=False).decode()
