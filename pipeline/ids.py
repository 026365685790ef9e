"""Ids that follow from what they name: the same message gives the same bytes (DESIGN decision 8)."""

from hashlib import sha1


def uuid5(namespace: bytes, name: bytes) -> str:
    """UUIDv5 (RFC 9562 section 5.5) as text. What uuid.uuid5 gives, at a third of its cost: each message needs five or six."""
    digest = bytearray(sha1(namespace + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
