"""What partners have in common where they make requests: ids of one message, and how a finding of a bundle is told. No partner is known here."""

import re
from dataclasses import replace
from typing import Final

from pipeline.ids import uuid5
from pipeline.model import Finding, Identified, Packed, Request, Resource, Timeouts
from pipeline.settings_sections import OperationTimes

OID: Final = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
RESOURCE: Final = re.compile(r"^Bundle\.entry\[(\d+)\]\.resource")


def namespace(identified: Identified) -> bytes:
    """Of the UUIDv5s of a message: the same message gives the same bytes."""
    return bytes.fromhex(identified.routed.request_id.replace("-", ""))


def once_more(packed: Packed, replay: str) -> Packed:
    """A deliberate resend of an upsert by an id of ours: the same bytes, under a request id of its own."""
    (request,) = packed.requests
    own = uuid5(namespace(packed.mapped.identified), f"request-{replay}".encode())
    return replace(packed, requests=(replace(request, request_id=own),))


def asked_again(packed: Packed) -> Request:
    """The probe of such an upsert: the same again, under an id of its own."""
    (request,) = packed.requests
    return replace(request, request_id=uuid5(namespace(packed.mapped.identified), b"probe"))


def timeouts(times: OperationTimes) -> Timeouts:
    """As the settings have them."""
    return Timeouts(times.connect, times.read, times.total)


def path_of(bundle: Resource, finding: Finding) -> str:
    """A finding's path counted from its resource, as the mapping counts."""
    path = finding.fhir or "Bundle"
    found = RESOURCE.match(path)
    if found is None:
        return path
    kind = bundle["entry"][int(found[1])]["resource"].get("resourceType", "Resource")
    return f"{kind}{path[found.end() :]}"


def rule_of(finding: Finding) -> str:
    """What is broken, as a sentence."""
    return f"{finding.code.sentence} ({finding.about})" if finding.about else finding.code.sentence
