"""NJSAMS with its settings, and real messages through the hops before it: what the tests of pack, verdicts and sandbox start from."""

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline import offline, wiring
from pipeline.commands.test import changed
from pipeline.model import Outcome, Packed, Reply, Request
from pipeline.partners.njsams.partner import Njsams
from pipeline.settings import DEFAULTS, load_offline
from pipeline.stages.plan import Plan

ROUTE = "njsams-clients"
PATIENT, ENCOUNTER, COVERAGE = "8d5802a8-14ea-4198-ba0d-bd1884e63053", "9c9ee5c7-f972", "d06175bc-1513"
BASE = "https://fhir.njsams.rutgers.edu/NJSAMS-FHIR-API"


def plan_with(**settings: Any) -> Plan:  # noqa: ANN401 - any setting
    return wiring.plan_offline(changed(load_offline(DEFAULTS), "njsams", settings), ROUTE)


def njsams(**settings: Any) -> Njsams:  # noqa: ANN401 - any setting
    partner = plan_with(**settings).partner
    assert isinstance(partner, Njsams)
    return partner


def adt(
    trigger: str = "A04",
    *,
    client: str = "C-1001",
    visit: str | None = "V-5001",
    service: str = "SUD-IOP",
    policies: Sequence[tuple[str, str]] = (),
    facility: str = "DEMO",
) -> bytes:
    pv1 = [""] * 45
    pv1[1], pv1[2], pv1[10], pv1[44] = "1", "O", service, "20260115100000-0500"
    pv1[19] = f"{visit}^^^HIS^VN" if visit else ""
    lines = [
        f"MSH|^~\\&|HIS|{facility}|PIPELINE|NJSAMS|20260115101530-0500||ADT^{trigger}|{client}{trigger}|P|2.5.1",
        f"EVN|{trigger}|20260115101500-0500",
        f"PID|1||{client}^^^NJSAMS^PI||Example^Pat^^^^^L||19800203|F|||||||||||900-01-0001",
        "|".join(["PV1", *pv1[1:]]),
    ]
    for number, (payor, policy) in enumerate(policies, 1):
        in1 = [""] * 37
        in1[1], in1[3], in1[36] = str(number), payor, policy
        lines.append("|".join(["IN1", *in1[1:]]))
    return "\r".join([*lines, ""]).encode()


def converted(message: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = ()) -> Packed | Outcome:
    return offline.convert(message, plan, known=known, parts=parts)


def packed(message: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = ()) -> Packed:
    came = converted(message, plan, known=known, parts=parts)
    assert isinstance(came, Packed), came
    return came


def entries(request: Request) -> list[dict[str, Any]]:
    return list(orjson.loads(request.body)["entry"])


def answer(*locations: str | None, status: str = "201 Created", statuses: Sequence[str] = ()) -> bytes:
    """A transaction-response; None is an entry without a location."""
    said = list(statuses) or [status] * len(locations)
    listed = [{"status": one} | ({"location": where} if where else {}) for where, one in zip(locations, said, strict=True)]
    return orjson.dumps(
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": one} for one in listed]}
    )


def found(*resources: dict[str, Any], kind: str = "search-result", **more: Any) -> bytes:  # noqa: ANN401 - JSON
    return orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": [{"resource": one} for one in resources], **more})


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, body, elapsed_ms=12.0, sent_ms=1_790_000_000_000, answered_ms=1_790_000_000_012)
