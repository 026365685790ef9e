"""decode: Received → Decoded. Bytes become a message that can be asked by path, and a typed event."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from pipeline.errors import Parked
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.hl7.message import Message
from pipeline.model import Decoded, Finding, Received
from pipeline.stages.plan import Plan
from schemas.outcomes import FindingCode, Reason, Severity

READ_HERE: Final = frozenset(
    {
        *("type", "trigger", "control_id", "sending_application", "sending_facility", "processing_id"),  # route, ledger, results
        *("message_time", "recorded"),  # Event.time: the order of events; partners, for when it was said
        *("patient", "prior", "others", "identifiers"),  # route: whose message it is
        *("names", "birth", "gender"),  # mapping.MUST_NOT_LOSE: that they could not be read has to be found
    }
)
"""Fields of the event that the program itself reads, whatever the templates do."""


def decode(received: Received, plan: Plan, *, whole: bool = False) -> Decoded:
    """Read the bytes; Parked where they are no HL7 message, too many, or without a trigger event.

    The event is built of what the route's templates and the hops read, or with `whole` of everything.
    """
    value = received.value
    if not value:
        raise Parked(Reason.EMPTY)
    if len(value) > plan.site.most_bytes:
        raise Parked(Reason.TOO_LARGE, message=f"{len(value)} bytes, and site.most_bytes is {plan.site.most_bytes}")
    message = parse(value, charset=plan.site.charset)
    decoded = _read(received, message, plan, whole=whole)
    findings = decoded.findings
    if plan.route.strict:
        from pipeline.hl7.structure import check  # noqa: PLC0415 - hl7apy takes a second to import and is wanted by strict routes only

        found = check(message)
        if any(finding.severity is Severity.ERROR for finding in found):
            raise Parked(Reason.STRUCTURE, where=found[0].hl7 or found[0].about)
        findings = (*findings, *found)
    if received.key is None:
        findings = (*findings, Finding(FindingCode.KEY_MISSING, Severity.INFORMATION))
    return decoded if findings is decoded.findings else replace(decoded, findings=findings)


def as_it_stands(received: Received, plan: Plan) -> Decoded | None:
    """Whatever is wanted of a message today (its size, its structure): so that one of which the ledger knows more is known again. None where it is no HL7 message."""
    try:
        return _read(received, parse(received.value or b"", charset=plan.site.charset), plan)
    except Parked:
        return None


def _read(received: Received, message: Message, plan: Plan, *, whole: bool = False) -> Decoded:
    fields = None if whole else plan.catalogue.fields(plan.partner.name)
    event, findings = typed(message, zone=plan.site.zone, only=_with_ours(fields, plan.partner.reads))
    if not event.trigger:
        raise Parked(Reason.EVENT_MISSING, where="MSH-9.2")
    return Decoded(received, message, event, (*message.findings, *findings), fields)


@lru_cache(maxsize=64)
def _with_ours(fields: frozenset[str] | None, partners: frozenset[str]) -> frozenset[str] | None:
    return None if fields is None else fields | READ_HERE | partners
