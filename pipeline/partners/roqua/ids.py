"""RoQua's upsert key of a questionnaire: the same for its corrections, and by whichever of its two ways in it goes. No I/O, no settings."""

from typing import Final

from pipeline.ids import uuid5
from pipeline.model import Identity

NAMESPACE: Final = bytes.fromhex("0d9c3a1f5b7e5d2a8c46e1f07b92a35d")
"""Namespace of our UUIDv5 ids at RoQua (RFC 9562 section 5.5)."""


def result_id(dossier: str, identity: Identity) -> str:
    """Bundle.id of the document and external_id of the response: of the dossier and the number that the sender knows the questionnaire by (DESIGN, decision 8)."""
    return _named("result", dossier, identity.system, identity.value)


def reference_id(kind: str, *names: str) -> str:
    """The id in a reference to what is not sent along, as Patient or Practitioner: a UUID that says nothing of whom it stands for."""
    return _named(kind, *names)


def _named(*names: str) -> str:
    """Each name behind its length, so that no two lists of names read alike."""
    return uuid5(NAMESPACE, b"".join(b"%d:%s" % (len(name := one.encode()), name) for one in ("roqua", *names)))
