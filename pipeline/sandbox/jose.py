"""JSON Web Signatures for the stand-ins: RS384 and ES384 checked and ES384 made for NJSAMS, RS256 and RS512 checked for RoQua. Knows no OAuth and no clock."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

ALGORITHMS: Final = ("RS384", "ES384")
_HASHES: Final = {"RS256": hashes.SHA256, "RS512": hashes.SHA512}
_HALF: Final = 48
"""Bytes of r and of s on P-384."""


class BadSignature(Exception):
    """Not a token of one of these keys."""


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Back; BadSignature where it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadSignature("not base64url") from None


def read(token: str, keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The claims of a compact JWS that one of the keys signed; the header's kid chooses where it names one."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        raise BadSignature("not a compact JWS")
    header, claims = _object(parts[0]), _object(parts[1])
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise BadSignature("alg is neither RS384 nor ES384")
    signed, signature = f"{parts[0]}.{parts[1]}".encode(), decode(parts[2])
    named = [key for key in keys if kid is None or key.get("kid") == kid]
    if not any(_signed_by(key, algorithm, signed, signature) for key in named):
        raise BadSignature("no key of the client signed it")
    return claims


def header(token: str) -> dict[str, Any]:
    """What a compact JWS says of itself, not yet believed."""
    return _object(token.partition(".")[0])


def signed_with(token: str, algorithm: str, key: rsa.RSAPublicKey) -> dict[str, Any]:
    """The claims of a compact JWS that this RSA key signed, by one of RS256 and RS512."""
    signed, dot, signature = token.rpartition(".")
    if not dot or signed.count(".") != 1:
        raise BadSignature("not a compact JWS")
    try:
        key.verify(decode(signature), signed.encode("utf-8", "replace"), padding.PKCS1v15(), _HASHES[algorithm]())
    except InvalidSignature:
        raise BadSignature("the key did not sign it") from None
    return _object(signed.partition(".")[2])


def _object(part: str) -> dict[str, Any]:
    try:
        tree = json.loads(decode(part))
    except (ValueError, RecursionError):
        raise BadSignature("not JSON") from None
    if not isinstance(tree, dict):
        raise BadSignature("not an object")
    return tree


def _signed_by(key: Mapping[str, Any], algorithm: str, signed: bytes, signature: bytes) -> bool:
    if key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig" or "d" in key:
        return False
    try:
        if algorithm == "RS384" and key.get("kty") == "RSA":
            numbers = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"]))
            numbers.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA384())
            return True
        if algorithm == "ES384" and (key.get("kty"), key.get("crv")) == ("EC", "P-384") and len(signature) == 2 * _HALF:
            point = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), ec.SECP384R1())
            r, s = int.from_bytes(signature[:_HALF]), int.from_bytes(signature[_HALF:])
            point.public_key().verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
            return True
    except (InvalidSignature, ValueError, TypeError, KeyError):
        return False
    return False


def _number(text: str) -> int:
    return int.from_bytes(decode(text))


def sign(claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey, kid: str) -> str:
    """A compact JWS, ES384."""
    head = encode(json.dumps({"alg": "ES384", "kid": kid, "typ": "JWT"}).encode())
    signed = f"{head}.{encode(json.dumps(dict(claims)).encode())}"
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA384())))
    return f"{signed}.{encode(r.to_bytes(_HALF) + s.to_bytes(_HALF))}"


def public(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, str]:
    """The key as others may have it."""
    numbers = key.public_key().public_numbers()
    half = {"x": encode(numbers.x.to_bytes(_HALF)), "y": encode(numbers.y.to_bytes(_HALF))}
    return {"kty": "EC", "crv": "P-384", "alg": "ES384", "use": "sig", "kid": kid, **half}
