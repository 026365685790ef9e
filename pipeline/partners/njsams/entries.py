"""The entries of an NJSAMS bundle: each resource of a message with what the ledger knows it by. No I/O."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.ids import uuid5
from pipeline.model import Identified, Identity, Intent, Mapped, Resource, Subject
from pipeline.partners import packing

KINDS: Final = {"Patient": Subject.PATIENT, "Encounter": Subject.VISIT, "Coverage": Subject.COVERAGE}
"""What a resource is to the ledger, in the order of the entries."""
ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""FHIR's id."""


@dataclass(frozen=True, slots=True)
class Item:
    """An entry: what it is known by, and as what."""

    resource: Resource = field(repr=False)
    identity: Identity
    partner_id: str | None = field(repr=False)
    """None: it is new."""
    full_url: str

    @property
    def kind(self) -> str:
        """Its resource type."""
        return str(self.resource["resourceType"])


def all_items(mapped: Mapped) -> Iterator[Item]:
    """Every resource with what the ledger knows it by: the patient, its visit, and coverages in the order of the message."""
    identified = mapped.identified
    parts = {kind: iter([part for part in identified.routed.parts if part.kind is kind]) for kind in KINDS.values()}
    order = list(KINDS)
    count = 0
    for resource in sorted(mapped.resources, key=lambda one: order.index(str(one["resourceType"]))):
        kind = str(resource["resourceType"])
        if kind == "Patient":
            assert identified.identity is not None  # noqa: S101 - route parks a message of nobody
            yield Item(resource, identified.identity, patient_id(identified), full_url_of(identified, kind))
            continue
        part = next(parts[KINDS[kind]])
        name = kind if kind == "Encounter" else f"{kind}-{count}"
        count += kind == "Coverage"
        yield Item(resource, part, identified.part_ids.get(part), full_url_of(identified, name))


def patient_id(identified: Identified) -> str | None:
    """NJSAMS's own id of the patient; None where it has none yet, or what stands there is none of FHIR's."""
    given = identified.partner_id if identified.intent is Intent.UPDATE else None
    return given if given and ID.fullmatch(given) else None


def full_url_of(identified: Identified, name: str) -> str:
    """UUIDv5 of the request id and a name, so that the same message gives the same bytes."""
    return f"urn:uuid:{uuid5(packing.namespace(identified), name.encode())}"
