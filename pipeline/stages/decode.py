"""decode: Received → Decoded. Bytes become a message that can be asked by path, and a typed event."""

from pipeline.errors import Parked
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.model import Decoded, Finding, Received
from pipeline.stages.plan import Plan
from schemas.outcomes import FindingCode, Reason, Severity


def decode(received: Received, plan: Plan) -> Decoded:
    """Read the bytes; Parked where they are no HL7 message, too many, or without a trigger event."""
    value = received.value
    if not value:
        raise Parked(Reason.EMPTY)
    if len(value) > plan.site.most_bytes:
        raise Parked(Reason.TOO_LARGE, message=f"{len(value)} bytes, and site.most_bytes is {plan.site.most_bytes}")
    message = parse(value, charset=plan.site.charset)
    event, findings = typed(message, zone=plan.site.zone)
    findings = (*message.findings, *findings)
    if not event.trigger:
        raise Parked(Reason.EVENT_MISSING, where="MSH-9.2")
    if plan.route.strict:
        from pipeline.hl7.structure import check  # noqa: PLC0415 - hl7apy takes a second to import and is wanted by strict routes only

        found = check(message)
        if any(finding.severity is Severity.ERROR for finding in found):
            raise Parked(Reason.STRUCTURE, where=found[0].hl7)
        findings = (*findings, *found)
    if received.key is None:
        findings = (*findings, Finding(FindingCode.KEY_MISSING, Severity.INFORMATION))
    return Decoded(received, message, event, findings)
