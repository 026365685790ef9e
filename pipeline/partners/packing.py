"""What partners have in common where they make requests: ids of one message, and how a finding of a bundle is told. No partner is known here."""

import re
from typing import Final

from pipeline.model import Finding, Identified, Resource, Timeouts
from pipeline.settings_sections import OperationTimes

OID: Final = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
RESOURCE: Final = re.compile(r"^Bundle\.entry\[(\d+)\]\.resource")


def namespace(identified: Identified) -> bytes:
    """Of the UUIDv5s of a message: the same message gives the same bytes."""
    return bytes.fromhex(identified.routed.request_id.replace("-", ""))


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
