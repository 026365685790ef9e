"""NJSAMS, New Jersey Substance Abuse Monitoring System (FHIR R4): transaction bundles, PUT of what is known, then POST of what is new.

What an answer holds stands in answers.py, what it means in verdicts.py. No I/O. The access token never comes here: the transport adds it. No resource goes without
the security label of its facility. Sources: the partner's page, and the dossier (contracts/njsams.md); what is inferred there is a setting here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import orjson

from pipeline.errors import NoAnswer, Parked, ProfileNotMet
from pipeline.fhir import profile, references
from pipeline.ids import uuid5
from pipeline.model import (
    Finding,
    Identified,
    Identity,
    Intent,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Subject,
    Variable,
    Verdict,
)
from pipeline.partners import answers, packing
from pipeline.partners.njsams.answers import Searched, Written, learned_of
from pipeline.partners.njsams.entries import KINDS, Item, all_items, full_url_of, patient_id
from pipeline.partners.njsams.verdicts import SEARCHES, Flag, Operation, Said, row_of
from pipeline.partners.verdicts import Signal
from pipeline.settings_partners import NjsamsSettings
from schemas.event import Coverage, Event, Identifier
from schemas.njsams import CHECK, SYSTEMS, Terms
from schemas.outcomes import FindingCode, Reason

KNOWN: Final = 0
"""Step of the PUT. Updates go first: what is new refers to them."""
NEW: Final = 1
"""Step of the POST."""
PERSON_ONLY: Final = frozenset({f"A{number}" for number in (18, 24, 28, 29, 30, 31, 34, 36, 37, 39, 40, 43, 46, 47)})
"""Events about a person or its identifiers: their PV1, where there is one, tells of no visit."""
NO_VISIT: Final = "N"
"""PV1-2: not applicable."""
VISIT_NUMBER: Final = "urn:emr-pipeline:visit-number:"
"""Identifier system of visit numbers whose authority has no OID: its name follows, or the sending facility's."""
OUTSIDE: Final = frozenset({*KINDS, "Organization"})
"""Types that a relative reference may name: what NJSAMS has."""
PLACES: Final = {
    "Patient.identifier:client-id": "PID-3",
    "Patient.identifier:ssn": "PID-19",
    "Patient.name": "PID-5",
    "Patient.gender": "PID-8",
    "Encounter.type": "PV1-2",
    "Encounter.period": "PV1-44",
}
"""Where the message should have had what is mandatory and missing: an element that is not there knows no place."""
PAUSE: Final = 60.0
"""Seconds until what may still be at work there is tried again (response times are not published)."""


class Njsams:
    """Implements partners/port.py.

    Args:
        settings: the partner's block of the settings.
        identifier_systems: which system an identifier is accepted under, from the mapping's table: client-id alone.

    """

    name: str = "njsams"
    secret_headers: tuple[str, ...] = ("Authorization",)
    part2: bool = True
    reads: frozenset[str] = frozenset(
        {"visit", "number", "patient_class", "coverages", "company_id", "company_name", "plan", "policy_number"}
    )

    def __init__(self, settings: NjsamsSettings, identifier_systems: Callable[[Identifier], str | None]) -> None:
        self._settings = settings
        self._identifier_systems = identifier_systems
        self._terms = Terms(settings.required_identifiers)
        self._write = settings.paths.write
        self._places = PLACES | {"Encounter.serviceType": settings.level_of_care}
        times = {Operation.CREATE: settings.create, Operation.UPDATE: settings.update, **dict.fromkeys(SEARCHES, settings.search)}
        self._timeouts = {operation: packing.timeouts(given) for operation, given in times.items()}
        self.longest = max(each.total for each in self._timeouts.values())
        self._lag = settings.visibility_hours * 3600 + settings.probe_margin
        media = settings.media_type
        self._headers = {"write": (("Content-Type", media), ("Accept", media)), "read": (("Accept", media),)}

    def system_of(self, identifier: Identifier) -> str | None:
        """See partners/port.py."""
        return self._identifier_systems(identifier)

    def under(self, event: Event) -> str:
        """See partners/port.py: the provider id of the facility's label (C 10.2). Of one that is not mapped nothing goes."""
        return self._settings.facilities.get(str(event.sending_facility or ""), "")

    @property
    def unders(self) -> frozenset[str]:
        """See partners/port.py."""
        return frozenset(self._settings.facilities.values())

    @property
    def gives_ids(self) -> bool:
        """See partners/port.py."""
        return True

    def parts(self, event: Event) -> tuple[Identity, ...]:
        """See partners/port.py: the visit, then coverages in the order of IN1. Parked: NUMBER_MISSING, PAYOR_NOT_MAPPED."""
        visit = self._visit(event)
        coverages = (one for one, _ in self._coverages(event) if one is not None)
        return (*(() if visit is None else (visit,)), *coverages)

    def _visit(self, event: Event) -> Identity | None:
        """Not of an event about the person alone, nor of an update that says nothing of a visit."""
        visit = event.visit
        number = visit.number if visit else None
        said = visit is not None and visit.patient_class != NO_VISIT and bool(visit.patient_class or (number and number.value))
        if event.type != "ADT" or event.trigger in PERSON_ONLY or (event.trigger == "A08" and not said):
            return None
        if number is None or not number.value:
            raise Parked(Reason.NUMBER_MISSING, where="PV1-19")
        return Identity(Subject.VISIT, _visit_system(number, event), number.value, "PV1-19.1", self.under(event))

    def _coverages(self, event: Event) -> Iterator[tuple[Identity | None, str | None]]:
        """Of each IN1 its identity and its payor; neither where it is not to go: a payor that is left out, or the same coverage once more.

        The beneficiary is part of what it is known by: a family has one policy.
        """
        if event.trigger in PERSON_ONLY - {"A28", "A31"}:
            return
        seen: set[Identity] = set()
        for number, coverage in enumerate(event.coverages, 1):
            place = f"IN1[{number}]" if number > 1 else "IN1"
            payor = self._payor(coverage, place)
            if payor is None:
                yield None, None
                continue
            if not coverage.policy_number:
                raise Parked(Reason.NUMBER_MISSING, where=f"{place}-36")
            known_by = f"{payor}|{coverage.policy_number}|{self._client(event)}"
            identity = Identity(Subject.COVERAGE, "urn:emr-pipeline:coverage", known_by, f"{place}-36", self.under(event))
            yield (None, None) if identity in seen else (identity, payor)
            seen.add(identity)

    def _payor(self, coverage: Coverage, place: str) -> str | None:
        said = (
            coverage.company_id.value if coverage.company_id else None,
            coverage.plan.code if coverage.plan else None,
            coverage.company_name,
        )
        for name in said:
            if name and name in self._settings.payors:
                return self._settings.payors[name]
        raise Parked(Reason.PAYOR_NOT_MAPPED, where=f"{place}-3")

    def _client(self, event: Event) -> str:
        identifiers = event.patient.identifiers if event.patient else ()
        return min((str(one.value) for one in identifiers if one.value and self.system_of(one)), default="")

    def variables(self, identified: Identified) -> Mapping[str, Variable]:
        """See partners/port.py. Parked(FACILITY_NOT_MAPPED): without a provider id there is no label, and without a label nothing goes."""
        event = identified.routed.decoded.event
        provider = self._settings.facilities.get(str(event.sending_facility or ""))
        if provider is None:
            raise Parked(Reason.FACILITY_NOT_MAPPED, where="MSH-4")
        visit = next((part for part in identified.routed.parts if part.kind is Subject.VISIT), None)
        coverages = tuple(self._coverages(event))
        known = patient_id(identified)
        return {
            "provider_id": provider,
            "patient_id": self._own(known),
            "patient_reference": f"Patient/{known}" if known else full_url_of(identified, "Patient"),
            "visit_system": visit.system if visit else None,
            "encounter_id": self._own(identified.part_ids.get(visit) if visit else None),
            "level_of_care": self._settings.level_of_care,
            "payors": tuple(payor for _, payor in coverages),
            "coverage_ids": tuple(self._own(identified.part_ids.get(one) if one else None) for one, _ in coverages),
        }

    def _own(self, partner_id: str | None) -> str | None:
        return partner_id if self._settings.update_includes_id else None

    def absent_is_create(self, identified: Identified) -> bool:  # noqa: ARG002 - the port's signature
        """See partners/port.py. What it had and has no more is a person's business."""
        return False

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:
        """See partners/port.py."""
        if partner_id is None or identity is None or identity.value.lower() in partner_id.lower():
            return None
        return partner_id

    # requests

    def pack(self, mapped: Mapped) -> Packed:
        """A PUT of what NJSAMS knows, a POST of what it does not; either may be missing.

        ProfileNotMet: PROFILE_REQUIRED, PROFILE_INVALID. Parked: FHIR_INVALID, a reference of the bundle points at nothing; REJECTED_DUPLICATE,
        NJSAMS has the patient and never said under which id.
        """
        identified = mapped.identified
        if identified.intent is Intent.UPDATE and patient_id(identified) is None:
            raise Parked(Reason.REJECTED_DUPLICATE, where="Patient.id")
        known, new = self._items(mapped, KNOWN), self._items(mapped, NEW)
        requests = (
            *((self._request(identified, Operation.UPDATE, known),) if known else ()),
            *((self._request(identified, Operation.CREATE, new),) if new else ()),
        )
        return Packed(mapped, requests)

    def _items(self, mapped: Mapped, step: int) -> tuple[Item, ...]:
        """The entries of a step. Of a patient of whom something newer went, what NJSAMS has stays as it is there: the person, and its coverages."""
        stale = mapped.identified.stale_patient
        return tuple(
            item
            for item in all_items(mapped)
            if (item.partner_id is None) is (step == NEW)
            and not (stale and item.kind != "Encounter" and item.partner_id is not None)
        )

    def _request(self, identified: Identified, operation: Operation, items: tuple[Item, ...]) -> Request:
        create = operation is Operation.CREATE
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {
                    "fullUrl": item.full_url,
                    "resource": item.resource,
                    "request": {"method": "POST", "url": item.kind}
                    if create
                    else {"method": "PUT", "url": f"{item.kind}/{item.partner_id}"},
                }
                for item in items
            ],
        }
        return Request(
            operation=operation.value,
            method="POST" if create else "PUT",
            path=self._write,
            path_template=self._write,
            headers=self._headers["write"],
            body=self._checked(bundle),
            request_id=uuid5(packing.namespace(identified), operation.value.encode()),
            timeouts=self._timeouts[operation],
            intent=Intent.CREATE if create else Intent.UPDATE,
            step=NEW if create else KNOWN,
        )

    def _checked(self, bundle: Resource) -> bytes:
        findings = profile.check(CHECK, bundle, "Bundle", self._terms)
        if findings:
            raise _not_met(bundle, findings[0], self._places)
        try:
            body = orjson.dumps(bundle)
        except orjson.JSONEncodeError:
            raise Parked(Reason.FHIR_INVALID, where="Bundle", message="a value that JSON cannot carry") from None
        broken = references.check(bundle, full_urls=True, outside=OUTSIDE, written=body)
        if broken:
            raise Parked(Reason.FHIR_INVALID, where=packing.path_of(bundle, broken[0]), message=packing.rule_of(broken[0]))
        return body

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:  # noqa: ARG002 - the port's signature
        """See partners/port.py: NJSAMS has no header for it, so the attempts of a request are one."""
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py. The bundle has no id of its own; fullUrls only hold it together."""
        namespace = packing.namespace(packed.mapped.identified)
        requests = (
            replace(request, request_id=uuid5(namespace, f"{request.operation}-{replay}".encode())) for request in packed.requests
        )
        return replace(packed, requests=tuple(requests))

    # the search for an unknown create

    def probe(self, packed: Packed) -> Request | None:
        """The first search that is still to be done: the patient by client-id, then of the patient's own the encounter and the coverages.

        Each finds one more of what the create brought, since their ids are wanted as well; none is needed of what is known by now.
        """
        if self._settings.probe == "off":
            return None
        item = next(iter(self._items(packed.mapped, NEW)), None)
        if item is None:
            return None
        identified = packed.mapped.identified
        if item.kind == "Patient":
            asked, template = f"/Patient?identifier={quote(item.identity.value, safe='')}", "/Patient?identifier={id}"
            return self._search(identified, Operation.PATIENT, asked, template)
        patient = patient_id(identified)
        if patient is None:
            return None
        name, operation = {
            "Encounter": ("subject", Operation.ENCOUNTER),
            "Coverage": ("beneficiary", Operation.COVERAGE),
        }[item.kind]
        return self._search(
            identified, operation, f"/{item.kind}?{name}=Patient/{patient}", f"/{item.kind}?{name}=Patient/{{id}}"
        )

    def _search(self, identified: Identified, operation: Operation, path: str, template: str) -> Request:
        return Request(
            operation=operation.value,
            method="GET",
            path=path,
            path_template=template,
            headers=self._headers["read"],
            body=b"",
            request_id=uuid5(packing.namespace(identified), operation.value.encode()),
            timeouts=self._timeouts[operation],
            intent=Intent.CREATE,
            step=NEW,
        )

    def probe_after(self, operation: str) -> float:
        """See partners/port.py: reads lag by a day; an update of what is not processed yet waits as long."""
        return self._lag if operation in {Operation.CREATE, Operation.UPDATE} else PAUSE

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:
        """See partners/port.py and verdicts.py."""
        operation = Operation(request.operation)
        if isinstance(came, NoAnswer):
            row = row_of(Signal(operation, 0, Said.EMPTY))
            return Verdict(row.decision, row.reason or came.reason, retry_after=PAUSE if row.pause else None, suspect=came.fresh)
        read = Written(self._items(packed.mapped, request.step), came, operation)
        flags = {Flag.AFTER_UNKNOWN} if after_unknown else set()
        return self._verdict(operation, read, came, flags, packed)

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py. A find that leaves more to be found is told as learned and stays unknown."""
        if isinstance(came, NoAnswer) or Operation(probe.operation) not in SEARCHES:
            return self.judge(packed, probe, came, after_unknown=True)
        sought = self._items(packed.mapped, NEW)
        read = Searched(sought, came, Operation(probe.operation))
        flags = {Flag.FURTHER} if read.further else set()
        flags |= {Flag.NOT_FOUND_PARKS} if self._settings.not_found == "park" else set()
        return self._verdict(Operation(probe.operation), read, came, flags, packed)

    def _verdict(self, operation: Operation, read: Written | Searched, reply: Reply, flags: set[Flag], packed: Packed) -> Verdict:
        wait = answers.retry_after(reply)
        flags = flags | ({Flag.RETRY_AFTER} if wait is not None else set())
        flags |= {Flag.SCOPE} if "insufficient_scope" in reply.headers.get("www-authenticate", "") else set()
        row = row_of(Signal(operation, read.status, read.said, flags=frozenset(flags)))
        learns = row.decision.value == "delivered" or read.said is Said.FOUND
        return Verdict(
            decision=row.decision,
            reason=row.reason,
            issue_codes=read.codes,
            learned=learned_of(packed.mapped, read.ids) if learns else (),
            retry_after=max(wait or 0.0, PAUSE) if row.pause else wait,
        )


def _visit_system(number: Identifier, event: Event) -> str:
    oid = number.authority_oid
    if oid and packing.OID.fullmatch(oid):
        return f"urn:oid:{oid}"
    return VISIT_NUMBER + quote(number.authority or str(event.sending_facility or ""), safe="")


def _not_met(bundle: Resource, finding: Finding, places: Mapping[str, str]) -> ProfileNotMet:
    """The first finding of the profile as an end. A mandatory identifier is named, since its path is that of any."""
    path, required = packing.path_of(bundle, finding), finding.code is FindingCode.PROFILE_MANDATORY
    if finding.about in SYSTEMS:
        path = f"{path}:{finding.about}"
    if path in places:
        path = f"{path} ({places[path]})"
    return ProfileNotMet(
        Reason.PROFILE_REQUIRED if required else Reason.PROFILE_INVALID, where=path, message=packing.rule_of(finding)
    )
