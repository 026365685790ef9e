"""Roche Diabetes Care, Patient services (FHIR STU3 message bundles): create and update, v1 and v2.

What an answer means stands in verdicts.py. No I/O. The client secret never comes here: the transport adds its header.
Sources: the partner's page of Patient services, and the partner dossier (contracts, Roche); what is inferred there is a setting here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from pipeline import __version__
from pipeline.errors import NoAnswer, Parked, ProfileNotMet, SettingsError
from pipeline.fhir import profile, references
from pipeline.ids import uuid5
from pipeline.model import (
    Decoded,
    Finding,
    Identified,
    Identity,
    Intent,
    Learned,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Verdict,
)
from pipeline.partners import answers, packing
from pipeline.partners.answers import Body, Form
from pipeline.partners.roche.verdicts import Flag, Operation, row_of
from pipeline.partners.verdicts import Signal
from pipeline.settings_partners import RocheSettings
from schemas.event import Event, Identifier, Timestamp
from schemas.outcomes import FindingCode, Reason
from schemas.roche import CHECK, DIABETES_TYPES, Terms

WORST_SECONDS: Final = {Intent.CREATE: 10.0, Intent.UPDATE: 4.0}
"""Published worst response times (B; C section 8)."""
ORDER: Final = {"MessageHeader": 0, "Patient": 1, "Condition": 2}
"""Of the entries (C section 5); a message's first entry is its MessageHeader (FHIR STU3, messaging)."""
ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""FHIR's id."""
GIVEN_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
"""What is taken for a partner's id in an answer."""
HEADER: Final = re.compile(r"[\x21-\x7e]+")
ACCEPT: Final = "application/fhir+json, application/json"


class Roche:
    """Implements partners/port.py.

    Args:
        settings: the partner's block of the settings; SettingsError where a header cannot hold its value.
        identifier_systems: which system an identifier is accepted under, from the mapping's tables.
        diabetes: (system, code) pairs of the value set diabetes-type, where the site's table has more than the known ones.

    """

    name: str = "roche"
    secret_headers: tuple[str, ...] = ("client_secret",)
    part2: bool = False
    reads: frozenset[str] = frozenset()

    def __init__(
        self,
        settings: RocheSettings,
        identifier_systems: Callable[[Identifier], str | None],
        diabetes: frozenset[tuple[str, str]] = DIABETES_TYPES,
    ) -> None:
        for setting in ("org_id", "client_id"):
            if not HEADER.fullmatch(getattr(settings, setting)):
                raise SettingsError("is empty or holds characters that no HTTP header may have", where=f"{self.name}.{setting}")
        self._settings = settings
        self._identifier_systems = identifier_systems
        self._terms = Terms(settings.api, diabetes=diabetes, condition_required=settings.diagnosis == "required")
        self._by_business_id = settings.api == "v1" and settings.update_id == "business"
        self._base = "/v2/Bundle" if settings.api == "v2" else "/Bundle"
        self._timeouts = {Intent.CREATE: packing.timeouts(settings.create), Intent.UPDATE: packing.timeouts(settings.update)}
        self.longest = max(each.total for each in self._timeouts.values())
        self._headers_before = (("org_id", settings.org_id),)
        self._headers_after = (("client_id", settings.client_id), ("Content-Type", settings.content_type), ("Accept", ACCEPT))
        self._organization = settings.managing_organization if settings.api == "v2" else None

    def system_of(self, identifier: Identifier) -> str | None:
        """See partners/port.py."""
        return self._identifier_systems(identifier)

    def under(self, event: Event) -> str:  # noqa: ARG002 - the port's signature; an organisation has one connection of its own
        """See partners/port.py."""
        return ""

    unders: frozenset[str] = frozenset()

    @property
    def gives_ids(self) -> bool:
        """See partners/port.py. v1 may go by the patient's identifier (setting update_id)."""
        return not self._by_business_id

    def parts(self, event: Event) -> tuple[Identity, ...]:  # noqa: ARG002 - the port's signature; it keeps patients alone
        """See partners/port.py."""
        return ()

    def variables(self, identified: Identified) -> Mapping[str, str | bool | None]:
        """See partners/port.py. Ids are UUIDv5 of the request id and a name, so that the same message gives the same bytes."""
        namespace = packing.namespace(identified)
        own = uuid5(namespace, b"Patient")
        given = identified.partner_id
        patient = given if identified.intent is Intent.UPDATE and given and ID.fullmatch(given) else own
        return {
            "message_header_id": uuid5(namespace, b"MessageHeader"),
            "patient_id": patient,
            "condition_id": uuid5(namespace, b"Condition"),
            "patient_reference": f"urn:uuid:{own}" if self._settings.full_url else f"Patient/{patient}",
            "endpoint": self._settings.org_id,
            "software": self._settings.software,
            "software_version": __version__,
            "managing_organization": self._organization,
            "received": _received(identified.routed.decoded),
        }

    def absent_is_create(self, identified: Identified) -> bool:  # noqa: ARG002 - the port's signature; here the setting alone decides
        """See partners/port.py."""
        return self._settings.on_absent == "create"

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:
        """See partners/port.py. v1 gives the business id back as its own (C section 6, trap), so none of v1 is shown."""
        if self._settings.api == "v1" or partner_id is None or identity is None or identity.value.lower() in partner_id.lower():
            return None
        return partner_id

    # requests

    def pack(self, mapped: Mapped) -> Packed:
        """One request: the message bundle as a create or an update.

        ProfileNotMet: IDENTIFIER_SYSTEM, DIAGNOSIS_REQUIRED, PROFILE_REQUIRED, PROFILE_INVALID, with the FHIR path.
        Parked(FHIR_INVALID): a reference of the bundle points at nothing, or two resources share an id; with the FHIR path.
        Parked(REJECTED_DUPLICATE): an update, and the partner never said under which id it has the patient.
        """
        identified = mapped.identified
        if identified.identity is None:
            raise ProfileNotMet(Reason.IDENTIFIER_SYSTEM, where="Patient.identifier")
        if self._by_business_id:
            self._id_of(identified)  # nor a create: its probe and every update would have to name the patient in a URL
        bundle = self._bundle(mapped)
        findings = profile.check(CHECK, bundle, "Bundle", self._terms)
        if findings:
            raise _not_met(bundle, findings[0])
        try:
            body = orjson.dumps(bundle)
        except orjson.JSONEncodeError:
            raise Parked(Reason.FHIR_INVALID, where="Bundle", message="a value that JSON cannot carry") from None
        broken = references.check(bundle, full_urls=self._settings.full_url, written=body)
        if broken:
            raise Parked(Reason.FHIR_INVALID, where=packing.path_of(bundle, broken[0]), message=packing.rule_of(broken[0]))
        if identified.intent is Intent.CREATE:
            request = self._post(identified, body, identified.routed.request_id)
        else:
            request = self._put(Operation.UPDATE, self._id_of(identified), body, identified.routed.request_id)
        return Packed(mapped, (request,))

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:
        """See partners/port.py: the setting request_id. The body, and so every id in it, stays the same."""
        if self._settings.request_id == "stable":
            return request
        own = uuid5(packing.namespace(packed.mapped.identified), f"{request.operation}-{attempt}".encode())
        return replace(request, request_id=own, headers=self._headers(own))

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py."""
        (request,) = packed.requests
        namespace = packing.namespace(packed.mapped.identified)
        own = uuid5(namespace, f"request-{replay}".encode())
        bundle = orjson.loads(request.body) | {"id": uuid5(namespace, f"Bundle-{replay}".encode())}
        request = replace(request, body=orjson.dumps(bundle), request_id=own, headers=self._headers(own))
        return replace(packed, requests=(request,))

    def probe(self, packed: Packed) -> Request | None:
        """An update is its own probe. An unknown create: v1, PUT by business id (INFERENCE); v2, the same POST where a setting says so."""
        (request,) = packed.requests
        identified = packed.mapped.identified
        own = uuid5(packing.namespace(identified), b"probe")
        if request.intent is Intent.UPDATE:
            return replace(request, request_id=own, headers=self._headers(own))
        if self._settings.api == "v2":
            return self._post(identified, request.body, own) if self._settings.v2_unknown == "again" else None
        if self._settings.probe == "off" or not self._by_business_id:
            return None
        return self._put(Operation.PROBE, self._id_of(identified), request.body, own)

    def probe_after(self, operation: str) -> float:
        """See partners/port.py."""
        worst = WORST_SECONDS[Intent.CREATE if operation == Operation.CREATE else Intent.UPDATE]
        return worst + self._settings.probe_margin

    def _bundle(self, mapped: Mapped) -> Resource:
        namespace = packing.namespace(mapped.identified)
        resources = sorted(mapped.resources, key=lambda one: ORDER.get(str(one.get("resourceType")), len(ORDER)))
        if self._settings.full_url:
            entries = [
                {"fullUrl": f"urn:uuid:{uuid5(namespace, _name(resources, index).encode())}", "resource": one}
                for index, one in enumerate(resources)
            ]
        else:
            entries = [{"resource": one} for one in resources]
        return {"resourceType": "Bundle", "id": uuid5(namespace, b"Bundle"), "type": "message", "entry": entries}

    def _id_of(self, identified: Identified) -> str:
        if self._by_business_id:
            assert identified.identity is not None  # noqa: S101 - pack saw to it
            given: str | None = identified.identity.value
        else:
            given = identified.partner_id
        if not given:
            raise Parked(Reason.REJECTED_DUPLICATE, where="Patient.id")
        if not given.strip("."):
            # a URL has no way to say "." or "..": they mean the folder, however they are quoted (RFC 3986 section 5.2.4)
            raise ProfileNotMet(Reason.PROFILE_INVALID, where="Patient.identifier", message="the id cannot stand in a URL")
        return given

    def _post(self, identified: Identified, body: bytes, request_id: str) -> Request:
        return Request(
            operation=Operation.CREATE.value,
            method="POST",
            path=self._base,
            path_template=self._base,
            headers=self._headers(request_id),
            body=body,
            request_id=request_id,
            timeouts=self._timeouts[Intent.CREATE],
            intent=identified.intent,
        )

    def _put(self, operation: Operation, given: str, body: bytes, request_id: str) -> Request:
        return Request(
            operation=operation.value,
            method="PUT",
            path=f"{self._base}/{quote(given, safe='')}",
            path_template=f"{self._base}/{{id}}",
            headers=self._headers(request_id),
            body=body,
            request_id=request_id,
            timeouts=self._timeouts[Intent.UPDATE],
            intent=Intent.UPDATE,
        )

    def _headers(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return (*self._headers_before, ("x-origin-request-id", request_id), *self._headers_after)

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:
        """See partners/port.py and verdicts.py."""
        operation = Operation(request.operation)
        if isinstance(came, NoAnswer):
            return self._verdict(packed, Signal(operation, 0, Form.EMPTY), None, came)
        body = answers.read(came.body)
        if body.patients and _the_patient(packed, body) is None:
            body = replace(body, form=Form.OTHER)  # somebody else's: whatever went wrong there, its id is not this patient's
        flags = self._flags(came, body, after_unknown=after_unknown)
        codes = frozenset(body.codes if body.form is Form.ERROR or came.status >= 400 else ())  # noqa: PLR2004 - where errors begin
        return self._verdict(packed, Signal(operation, came.status, body.form, codes, flags), body, came)

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py."""
        return self.judge(packed, probe, came, after_unknown=True)

    def _flags(self, reply: Reply, body: Body, *, after_unknown: bool) -> frozenset[Flag]:
        again = after_unknown and self._settings.api == "v2" and self._settings.v2_unknown == "again"
        said = {
            Flag.CERTIFICATE: body.certificate,
            Flag.RETRY_AFTER: answers.retry_after(reply) is not None,
            Flag.REACHABLE: self._by_business_id,
            Flag.AGAIN: again,
        }
        return frozenset(flag for flag, there in said.items() if there)

    def _verdict(self, packed: Packed, signal: Signal, body: Body | None, came: Reply | NoAnswer) -> Verdict:
        row = row_of(signal)
        lost = isinstance(came, NoAnswer)
        wait = answers.retry_after(came) if isinstance(came, Reply) else None
        if row.pause:
            wait = max(wait or 0.0, WORST_SECONDS[Intent.UPDATE])
        return Verdict(
            decision=row.decision,
            reason=came.reason if isinstance(came, NoAnswer) and row.reason is None else row.reason,
            issue_codes=body.codes if body else (),
            learned=_learned(packed, body, by_business_id=self._by_business_id) if row.decision.value == "delivered" else (),
            retry_after=wait,
            suspect=lost and isinstance(came, NoAnswer) and came.fresh,
        )


def _received(decoded: Decoded) -> str | None:
    """When the record was appended, as an instant, where the message tells no moment itself: MessageHeader.timestamp is mandatory."""
    event = decoded.event
    for time in (event.message_time, event.recorded):
        if isinstance(time, Timestamp) and time.instant:
            return None
    appended = datetime.fromtimestamp(decoded.received.timestamp_ms / 1000, UTC)
    return appended.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _name(resources: list[Resource], index: int) -> str:
    """The name that an entry's UUID is made of: its type, numbered from the second of that type on."""
    kind = str(resources[index].get("resourceType"))
    before = sum(one.get("resourceType") == kind for one in resources[:index])
    return f"{kind}-{before}" if before else kind


def _not_met(bundle: Resource, finding: Finding) -> ProfileNotMet:
    """The first finding of the profile as an end."""
    path, rule = packing.path_of(bundle, finding), packing.rule_of(finding)
    if finding.about == "Condition":
        return ProfileNotMet(Reason.DIAGNOSIS_REQUIRED, where="Condition")
    if finding.about == "identifier-system" or path == "Patient.identifier":
        return ProfileNotMet(Reason.IDENTIFIER_SYSTEM, where=path, message=rule)
    required = finding.code is FindingCode.PROFILE_MANDATORY
    return ProfileNotMet(Reason.PROFILE_REQUIRED if required else Reason.PROFILE_INVALID, where=path, message=rule)


def _the_patient(packed: Packed, body: Body) -> Resource | None:
    """The Patient of an answer that is ours: found by type, not by place (C section 6), and by an identifier where it has any."""
    ours = _values(resource for resource in packed.mapped.resources if resource.get("resourceType") == "Patient")
    for patient in body.patients:
        if ours & _values([patient]):
            return patient
    return next((patient for patient in body.patients if not _values([patient])), None)


def _values(patients: Any) -> set[str]:  # noqa: ANN401 - resources of an answer: any JSON
    """Identifier values, compared without case and space."""
    found: set[str] = set()
    for patient in patients:
        identifiers = patient.get("identifier")
        for one in identifiers if isinstance(identifiers, list) else ():
            value = one.get("value") if isinstance(one, dict) else None
            if isinstance(value, str) and value.strip():
                found.add(value.strip().lower())
    return found


def _learned(packed: Packed, body: Body | None, *, by_business_id: bool) -> tuple[Learned, ...]:
    """Every identity that went out, first the one that the request was about: the partner has one patient under all of them.

    An update that went through proves the id it was sent to; v1 may answer with whichever business id comes first. A create that was told no id, as one
    that a probe found: where the business id is the partner's, all that went out with it are kept under that one, as one patient's.
    """
    identified = packed.mapped.identified
    about = identified.identity
    if about is None:
        return ()
    patient = _the_patient(packed, body) if body else None
    given = patient.get("id") if patient else None
    answered = given if isinstance(given, str) and GIVEN_ID.fullmatch(given) else None
    creating = identified.intent is Intent.CREATE
    reached = about.value if by_business_id else None
    known = (answered or identified.partner_id or reached) if creating else (identified.partner_id or answered)
    sent = {
        (one.get("system"), one.get("value"))
        for resource in packed.mapped.resources
        if resource.get("resourceType") == "Patient"
        for one in resource.get("identifier", ())
    }
    others = (one for one in identified.routed.identities if one != about and (one.system, one.value) in sent)
    return (Learned(about, known, created_with=creating), *(Learned(other, known) for other in others))
