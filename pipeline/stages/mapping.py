"""mapping: Identified → Mapped. Jinja renders the resources, the compiled checks look at each; what fails costs its field, if it may.

Per field (DESIGN decision 7): an optional element that fails its check is left out with a finding; what an update must not lose
parks the message instead of erasing (RELIABILITY section 2, absent and deleted).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from pipeline.errors import Parked
from pipeline.fhir.degrade import degrade
from pipeline.model import Action, Finding, Identified, Intent, Kind, Mapped, Resource, Subject
from pipeline.settings import Absent
from pipeline.stages.decode import decode
from pipeline.stages.plan import Plan
from pipeline.templates.catalogue import NotBuilt
from pipeline.templates.context import Context
from schemas.event import Null
from schemas.outcomes import FindingCode, Reason, Severity

MUST_NOT_LOSE: Final = (
    ("Patient", "identifier", "PID-3"),
    ("Patient", "name", "PID-5"),
    ("Patient", "birthDate", "PID-7"),
    ("Patient", "gender", "PID-8"),
)
"""(resource, element, where the message has it): an update never erases these because they could not be read."""
OF_THE_VISIT: Final = (("start", "PV1-44"), ("end", "PV1-45"))
"""The same of the period of a visit that the partner has: without its end it would be open again."""
MANDATORY: Final = {"Encounter.class": "PV1-2", "Appointment": "SCH-11.5", "Appointment.start": "SCH-11.4"}
"""Where the message should have had what FHIR makes mandatory: an element that is not there knows no place."""
OF_ADMISSIONS: Final = {"Appointment": "PV2-9", "Appointment.start": "PV2-8"}
"""The same of an ADT."""
TIMES: Final = frozenset({"Appointment", "Appointment.start", "Appointment.end"})
"""What FHIR's rules app-2 and app-3 are about."""


def mapping(identified: Identified, plan: Plan) -> Mapped:
    """Render and check; Parked where the template fails or a resource breaks FHIR's rules beyond what can be left out."""
    if identified.routed.rule.action is Action.JOIN:  # it tells of nothing but who is who
        return Mapped(identified, (), plan.catalogue.version(plan.partner.name))
    context = context_of(identified, plan)
    try:
        rendered = plan.catalogue.render(plan.partner.name, context)
    except NotBuilt:
        identified = _with_whole_event(identified, plan)
        context = context_of(identified, plan)
        rendered = plan.catalogue.render(plan.partner.name, context)
    resources, findings = _checked(rendered.resources, context, plan)
    findings = (*rendered.findings, *findings)
    if identified.intent is Intent.UPDATE:
        _loses_nothing(identified, resources, findings, plan)
    return Mapped(identified, resources, plan.catalogue.version(plan.partner.name), findings)


def context_of(identified: Identified, plan: Plan) -> Context:
    """What the templates see."""
    decoded = identified.routed.decoded
    return Context(
        event=decoded.event,
        hl7=decoded.hl7,
        intent=identified.intent,
        identities=identified.routed.identities,
        partner=plan.partner.variables(identified),
        site=plan.site.name,
        fields=decoded.fields,
    )


def _with_whole_event(identified: Identified, plan: Plan) -> Identified:
    """Decoded anew with every field: the mapping was changed while this message was on its way, and reads more of it now."""
    routed = identified.routed
    return replace(identified, routed=replace(routed, decoded=decode(routed.decoded.received, plan, whole=True)))


def _checked(resources: tuple[Resource, ...], context: Context, plan: Plan) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    kept: list[Resource] = []
    findings: list[Finding] = []
    places: Mapping[str, str] | None = None
    for resource in resources:
        if not plan.validator.check(resource):
            kept.append(resource)
            continue
        mandatory = MANDATORY | (OF_ADMISSIONS if context.event.type == "ADT" else {})
        places = {**mandatory, **plan.catalogue.trace(plan.partner.name, context)} if places is None else places
        mended, found = degrade(resource, plan.validator)
        found = tuple(with_place(finding, places) for finding in found)
        errors = [finding for finding in found if finding.severity is Severity.ERROR]
        if mended is None or errors:
            first = (errors or found)[0]
            untimed = first.code is FindingCode.INVARIANT and first.fhir in TIMES
            raise Parked(Reason.TIME_MISSING if untimed else Reason.FHIR_INVALID, where=where_of(first))
        kept.append(mended)
        findings.extend(found)
    return tuple(kept), tuple(findings)


def with_place(finding: Finding, places: Mapping[str, str]) -> Finding:
    """The finding with the HL7 place of its element, or the field of the nearest element around it that has one."""
    path = finding.fhir
    while path and finding.hl7 is None:
        if path in places:
            return replace(finding, hl7=places[path] if path == finding.fhir else places[path].partition(".")[0])
        path = path.rpartition(".")[0] if not path.endswith("]") else path.rpartition("[")[0]
    return finding


def where_of(finding: Finding) -> str:
    """A finding's places in one line: `Patient.birthDate (PID-7)`."""
    return f"{finding.fhir} ({finding.hl7})" if finding.fhir and finding.hl7 else finding.fhir or finding.hl7 or ""


def _loses_nothing(identified: Identified, resources: Iterable[Resource], findings: tuple[Finding, ...], plan: Plan) -> None:
    """RELIABILITY section 2: what was there and could not be read is neither absent nor deleted."""
    decoded = identified.routed.decoded
    noticed = (*decoded.findings, *findings)
    for resource in resources:
        for kind, element, place in MUST_NOT_LOSE:
            if resource.get("resourceType") != kind or element in resource:
                continue
            unreadable = any(_about(finding, kind, element, place) for finding in noticed)
            unsaid = plan.site.absent is Absent.UNCHANGED and not isinstance(decoded.hl7(place), Null)
            if unreadable or unsaid:
                raise Parked(Reason.WOULD_ERASE, where=f"{kind}.{element} ({place})")
        if resource.get("resourceType") == "Encounter" and any(part.kind is Subject.VISIT for part in identified.part_ids):
            _keeps_the_period(resource, noticed, OF_THE_VISIT[:1] if identified.routed.rule.kind is Kind.CANCEL else OF_THE_VISIT)


def _keeps_the_period(encounter: Resource, noticed: tuple[Finding, ...], held: Iterable[tuple[str, str]]) -> None:
    """What takes back a discharge takes its end, readable or not."""
    period = encounter.get("period", {})
    for element, place in held:
        if element not in period and any(_about(finding, "Encounter", f"period.{element}", place) for finding in noticed):
            raise Parked(Reason.WOULD_ERASE, where=f"Encounter.period.{element} ({place})")


LOSSES: Final = frozenset(
    {FindingCode.TIMESTAMP, FindingCode.UNDECODABLE, FindingCode.CODE_UNMAPPED, FindingCode.ELEMENT_DROPPED}
)


def _about(finding: Finding, kind: str, element: str, place: str) -> bool:
    if finding.code not in LOSSES:
        return False
    at_place = finding.hl7 is not None and (finding.hl7 == place or finding.hl7.startswith((f"{place}.", f"{place}[")))
    at_element = finding.fhir is not None and (
        finding.fhir == f"{kind}.{element}" or finding.fhir.startswith((f"{kind}.{element}.", f"{kind}.{element}["))
    )
    return at_place or at_element
