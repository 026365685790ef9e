"""A message tried without ledger, bus or partner: what `map`, the golden pairs and `bench convert` do. No I/O."""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from pipeline import flow
from pipeline.model import Knowledge, Known, Outcome, Packed, Position, Received, Request
from pipeline.stages.mapping import context_of
from pipeline.stages.plan import Plan
from schemas.outcomes import State

NOWHERE: Final = Position("file", 0, 0)
MASK: Final = "********"
RESOURCE: Final = re.compile(r"Bundle\.entry\[(\d+)\]\.resource(.*)")


def convert(
    value: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = (), received_ms: int = 0
) -> Packed | Outcome:
    """The requests of a message, in order, or why it has none.

    `known` is the partner's id of its patient, and makes it an update; `parts` are the ids of what else it brings, in the order of `Routed.parts`,
    None where the partner does not know it. `received_ms` stands for the record's time, which counts only where the message tells none.
    """
    routed = flow.read(Received(NOWHERE, value, key=b"offline", timestamp_ms=received_ms), plan)
    if isinstance(routed, Outcome):
        return routed
    ids = {routed.identities[0]: known, **dict(zip(routed.parts, parts, strict=False))}
    there = {identity: Known(given) for identity, given in ids.items() if given is not None}
    return flow.prepare(routed, Knowledge(known=there), plan)


def request_json(request: Request, plan: Plan) -> dict[str, Any]:
    """A request as `map --json` prints it: secrets masked, the body as JSON."""
    headers: dict[str, str] = {}
    for name, said in request.headers:  # one may be there several times
        headers[name] = f"{headers[name]}, {said}" if name in headers else said
    headers |= dict.fromkeys(plan.partner.secret_headers, MASK)
    return {
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "body": orjson.loads(request.body) if request.body else None,
    }


def findings_json(converted: Packed | Outcome) -> list[dict[str, str]]:
    """What was noticed, as places and codes."""
    if isinstance(converted, Outcome):
        findings = converted.findings
    else:
        mapped = converted.mapped
        routed = mapped.identified.routed
        findings = routed.decoded.findings + routed.findings + mapped.identified.findings + mapped.findings
    rows = ({"code": f.code, "severity": f.severity, "hl7": f.hl7, "fhir": f.fhir, "about": f.about} for f in findings)
    return [{name: str(value) for name, value in row.items() if value is not None} for row in rows]


def line_json(file: str, index: int, converted: Packed | Outcome, plan: Plan) -> dict[str, Any]:
    """A line of `map --jsonl`."""
    decoded = converted.decoded if isinstance(converted, Outcome) else converted.mapped.identified.routed.decoded
    event = decoded.event if decoded else None
    ended = converted if isinstance(converted, Outcome) else None
    return {
        "file": file,
        "index": index,
        "event": f"{event.type}^{event.trigger}" if event else None,
        "control_id": str(event.control_id) if event and event.control_id else None,
        "outcome": "mapped" if ended is None else "filtered" if ended.state is State.FILTERED else "parked",
        "reason": ended.reason if ended else None,
        "where": ended.where if ended else None,
        "findings": findings_json(converted),
        "requests": [] if isinstance(converted, Outcome) else [request_json(request, plan) for request in converted.requests],
    }


def explain(packed: Packed, plan: Plan) -> dict[str, str]:
    """For each FHIR element that comes from the message, its path from the resource and its HL7 place; constants are not named.

    Of several resources of one type each has its number, from 0 as FHIR counts: `Observation[3].valueQuantity.value` is from `OBX[4]-5`.
    """
    places = plan.catalogue.trace(plan.partner.name, context_of(packed.mapped.identified, plan))
    names = _numbered([str(resource["resourceType"]) for resource in packed.mapped.resources])
    found = [(match, place) for path, place in places.items() if (match := RESOURCE.match(path)) is not None and match[2]]
    told = {f"{names[int(match[1])]}{match[2]}": place for match, place in found}
    inner = {path.rpartition(".")[0] for path in told} | {path.rpartition("[")[0] for path in told}
    return {path: place for path, place in told.items() if path not in inner}


def _numbered(kinds: Sequence[str]) -> list[str]:
    """Each by its type, and by its number among those of its type where it is not the only one."""
    return [f"{kind}[{kinds[:at].count(kind)}]" if kinds.count(kind) > 1 else kind for at, kind in enumerate(kinds)]
