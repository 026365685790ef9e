"""Keyed hashes and sealed ids: what stands in the ledger and in results instead of a patient's or partner's id.

One secret of the settings, two keys derived from it (HKDF-SHA256, RFC 5869): one for hashes (BLAKE2b, RFC 7693), one for sealing (AES-256-GCM with a random
nonce). Losing the secret means losing the link to every patient, so `check` is kept in the
ledger and another secret is refused at start.
"""

import base64
import hmac
import os
import re
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b, sha256
from typing import Final

from pipeline.errors import SettingsError
from schemas.event import Event

HASH_LENGTH: Final = 32
"""Hex digits of a keyed hash: 128 bits."""
MINIMUM_SECRET: Final = 16
EVENT: Final = re.compile(r"[A-Z0-9]{3}\^[A-Z0-9]{3}")
"""Message code and trigger event (HL7 v2.5.1, tables 0076 and 0003)."""
CONTROL_ID: Final = re.compile(r"(?!(?:19|20)\d{6}\Z)(?=\D*\d)[!-%'-\[\]_-{}]{1,199}")
"""MSH-10 as it may be shown: at most 199 characters (HL7 v2.7 section 2.14.9.10), printable ASCII without a space or a delimiter (& ^ \\ | ~), with
a digit, and not eight digits that read as a day: so no name, birth date or piece of another field goes with it out of a garbled MSH."""


def event_name(event: Event) -> str | None:
    """MSH-9 as ADT^A01, for results and ledger; None where it does not look like one: then it may be anything, a name too."""
    name = f"{event.type}^{event.trigger}"
    return name if EVENT.fullmatch(name) else None


def _derive(secret: bytes, purpose: bytes) -> bytes:
    extracted = hmac.digest(b"emr-pipeline", secret, sha256)
    return hmac.digest(extracted, purpose + b"\x01", sha256)


class Pseudonyms:
    """Hashes and seals with one secret."""

    def __init__(self, secret: str) -> None:
        """Take the secret of the settings (`keys.patient_hash`), at least 16 bytes; SettingsError where it is shorter."""
        raw = secret.encode()
        if len(raw) < MINIMUM_SECRET:
            raise SettingsError(
                f"the key is shorter than {MINIMUM_SECRET} bytes: make one with `openssl rand -hex 32`", where="keys.patient_hash"
            )
        self._keyed = blake2b(key=_derive(raw, b"hash"), digest_size=HASH_LENGTH // 2)
        self._seal_key = _derive(raw, b"seal")
        self.sender: Callable[[str], str] = lru_cache(maxsize=256)(partial(self.hash, "sender"))
        """Of sending application and facility: a hospital has a few, and every message names one."""

    def hash(self, *parts: str) -> str:
        """A keyed hash of the parts: the same parts give the same 32 hex digits, and without the key nobody gets back."""
        keyed = self._keyed.copy()
        keyed.update("\x1f".join(parts).encode("utf-8", "surrogatepass"))
        return keyed.hexdigest()

    def lane(self, route: str, system: str, value: str) -> str:
        """The patient on a route: lane of the ledger, `patient` of results, what `find --patient-id` asks for."""
        return self.hash("lane", route, system, value)

    def identity(self, kind: str, system: str, value: str, under: str = "") -> str:
        """Something that a partner may know under an id of its own, as it stands in the ledger."""
        return self.hash("identity", kind, system, value, *([under] if under else ()))

    def record(self, route: str, value: bytes | None) -> str:
        """A record by its bytes alone (None: it has none), where nobody could tell whose it is or what it says."""
        return self.hash("record", route, sha256(value).hexdigest() if value is not None else "none")

    def person(self, system: str, value: str) -> str:
        """An identifier of a person whose appointments are kept: how a token finds them. None of ledger and results meets it."""
        return self.hash("person", system, value)

    def control_id(self, event: Event) -> str | None:
        """MSH-10 for results and ledger: as it came, or hashed where it does not look like one, or where MSH-9 shows that the fields are shifted."""
        text = str(event.control_id or "")
        if not text:
            return None
        return text if CONTROL_ID.fullmatch(text) and event_name(event) else self.control_id_hash(text)

    def control_id_hash(self, text: str) -> str:
        """What stands instead of a control id that may not be shown: # and 16 hex digits. `find --control-id` finds it by the original."""
        return f"#{self.hash('control-id', text)[:16]}"

    @property
    def check(self) -> str:
        """A value that tells this secret from another without telling it."""
        return self.hash("check")

    def seal(self, text: str) -> str:
        """Encrypt a partner's id for the ledger; urlsafe base64 of nonce, ciphertext and tag."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 40 ms that `--help` and `map` do not need

        nonce = os.urandom(12)
        return base64.urlsafe_b64encode(nonce + AESGCM(self._seal_key).encrypt(nonce, text.encode(), None)).decode()

    def unseal(self, sealed: str) -> str:
        """Decrypt what `seal` made; SettingsError where the secret is another one."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

        raw = base64.urlsafe_b64decode(sealed)
        try:
            return AESGCM(self._seal_key).decrypt(raw[:12], raw[12:], None).decode()
        except InvalidTag:
            raise SettingsError("an id in the ledger was sealed with another key", where="keys.patient_hash") from None
