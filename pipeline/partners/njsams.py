"""NJSAMS, New Jersey Substance Abuse Monitoring System (FHIR R4): transaction bundles, PUT of what is known, then POST of what is new.

What an answer means stands in njsams_verdicts.py. No I/O. The access token never comes here: the transport adds it. No resource goes without
the security label of its facility. Sources: the partner's page, and the dossier (contracts/njsams.md); what is inferred there is a setting here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final
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
    Learned,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Subject,
    Timeouts,
    Variable,
    Verdict,
)
from pipeline.partners import answers
from pipeline.partners.njsams_verdicts import SEARCHES, Flag, Operation, Said, Signal, row_of
from pipeline.settings import NjsamsSettings, OperationTimes
from schemas.event import Coverage, Event, Identifier
from schemas.njsams import CHECK, LABEL, SYSTEMS, Terms
from schemas.outcomes import FindingCode, Reason

KNOWN: Final = 0
"""Step of the PUT. Updates go first: what is new refers to them."""
NEW: Final = 1
"""Step of the POST."""
KINDS: Final = {"Patient": Subject.PATIENT, "Encounter": Subject.VISIT, "Coverage": Subject.COVERAGE}
"""What a resource is to the ledger, in the order of the entries."""
PERSON_ONLY: Final = frozenset({f"A{number}" for number in (18, 24, 28, 29, 30, 31, 34, 36, 37, 39, 40, 43, 46, 47)})
"""Events about a person or its identifiers: their PV1, where there is one, tells of no visit."""
NO_VISIT: Final = "N"
"""PV1-2: not applicable."""
VISIT_NUMBER: Final = "urn:emr-pipeline:visit-number:"
"""Identifier system of visit numbers whose authority has no OID: its name follows, or the sending facility's."""
OID: Final = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""FHIR's id."""
LOCATION: Final = re.compile(r"(?:.*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?/?")
RESOURCE: Final = re.compile(r"^Bundle\.entry\[(\d+)\]\.resource")
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
        self._timeouts = {operation: _timeouts(given) for operation, given in times.items()}
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
        known = _patient_id(identified)
        return {
            "provider_id": provider,
            "patient_id": self._own(known),
            "patient_reference": f"Patient/{known}" if known else _full_url(identified, "Patient"),
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
        if identified.intent is Intent.UPDATE and _patient_id(identified) is None:
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
            for item in _all_items(mapped)
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
            request_id=uuid5(_namespace(identified), operation.value.encode()),
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
            raise Parked(Reason.FHIR_INVALID, where=_path(bundle, broken[0]), message=_rule(broken[0]))
        return body

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:  # noqa: ARG002 - the port's signature
        """See partners/port.py: NJSAMS has no header for it, so the attempts of a request are one."""
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py. The bundle has no id of its own; fullUrls only hold it together."""
        namespace = _namespace(packed.mapped.identified)
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
        patient = _patient_id(identified)
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
            request_id=uuid5(_namespace(identified), operation.value.encode()),
            timeouts=self._timeouts[operation],
            intent=Intent.CREATE,
            step=NEW,
        )

    def probe_after(self, operation: str) -> float:
        """See partners/port.py: reads lag by a day; an update of what is not processed yet waits as long."""
        return self._lag if operation in {Operation.CREATE, Operation.UPDATE} else PAUSE

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:
        """See partners/port.py and njsams_verdicts.py."""
        operation = Operation(request.operation)
        if isinstance(came, NoAnswer):
            row = row_of(Signal(operation, 0, Said.EMPTY))
            return Verdict(row.decision, row.reason or came.reason, retry_after=PAUSE if row.pause else None, suspect=came.fresh)
        read = _Written(self._items(packed.mapped, request.step), came, operation)
        flags = {Flag.AFTER_UNKNOWN} if after_unknown else set()
        return self._verdict(operation, read, came, flags, packed)

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py. A find that leaves more to be found is told as learned and stays unknown."""
        if isinstance(came, NoAnswer) or Operation(probe.operation) not in SEARCHES:
            return self.judge(packed, probe, came, after_unknown=True)
        sought = self._items(packed.mapped, NEW)
        read = _Searched(sought, came, Operation(probe.operation))
        flags = {Flag.FURTHER} if read.further else set()
        flags |= {Flag.NOT_FOUND_PARKS} if self._settings.not_found == "park" else set()
        return self._verdict(Operation(probe.operation), read, came, flags, packed)

    def _verdict(
        self, operation: Operation, read: "_Written | _Searched", reply: Reply, flags: set[Flag], packed: Packed
    ) -> Verdict:
        wait = answers.retry_after(reply)
        flags = flags | ({Flag.RETRY_AFTER} if wait is not None else set())
        flags |= {Flag.SCOPE} if "insufficient_scope" in reply.headers.get("www-authenticate", "") else set()
        row = row_of(Signal(operation, read.status, read.said, frozenset(flags)))
        learns = row.decision.value == "delivered" or read.said is Said.FOUND
        return Verdict(
            decision=row.decision,
            reason=row.reason,
            issue_codes=read.codes,
            learned=_learned(packed.mapped, read.ids) if learns else (),
            retry_after=max(wait or 0.0, PAUSE) if row.pause else wait,
        )


class _Written:
    """The answer to a bundle, entry by entry (C section 5: by index)."""

    def __init__(self, items: tuple[Item, ...], reply: Reply, operation: Operation) -> None:
        body = answers.read(reply.body)
        self.status, self.codes = reply.status, body.codes if body.form is answers.Form.ERROR else ()
        self.ids: dict[Identity, str] = {}
        self.said = _outcome(body)
        if reply.status in {200, 201} and (entries := _entries(reply.body, "transaction-response")) is not None:
            self._read(items, entries, operation)

    def _read(self, items: tuple[Item, ...], entries: list[Any], operation: Operation) -> None:
        if len(entries) != len(items):
            self.said = Said.OTHER
            return
        statuses = [_status(entry) for entry in entries]
        failed = [status for status in statuses if not 200 <= status < 300]  # noqa: PLR2004 - HTTP's success
        if failed:
            whole = operation is Operation.UPDATE or len(failed) == len(entries)
            self.said = Said.OUTCOME if whole else Said.PARTLY
            self.status = max(failed, key=_tells) if whole else self.status
            self.codes = self.codes or tuple(code for entry in entries for code in _codes(entry))
            return
        located = [_located(entry, item.kind) for entry, item in zip(entries, items, strict=True)]
        if operation is Operation.CREATE and None in located:
            self.said = Said.OTHER
            return
        self.said = Said.DONE
        self.ids = {item.identity: item.partner_id or str(given) for item, given in zip(items, located, strict=True)}


class _Searched:
    """The answer to a search: which of what is sought it has."""

    def __init__(self, sought: tuple[Item, ...], reply: Reply, operation: Operation) -> None:
        body = answers.read(reply.body)
        self.status, self.codes = reply.status, body.codes if body.form is answers.Form.ERROR else ()
        self.ids: dict[Identity, str] = {}
        self.said = _outcome(body)
        kind = {Operation.PATIENT: "Patient", Operation.ENCOUNTER: "Encounter", Operation.COVERAGE: "Coverage"}[operation]
        wanted = [item for item in sought if item.kind == kind]
        if reply.status == 200 and self.said is Said.OTHER:  # noqa: PLR2004 - HTTP's OK
            entries = _entries(reply.body, "searchset", "search-result")
            if entries is not None:
                self._read(wanted, entries, more=_has_next(reply.body))
        self.further = len(self.ids) < len(sought)

    def _read(self, wanted: list[Item], entries: list[Any], *, more: bool) -> None:
        there = [one for entry in entries if isinstance(one := entry.get("resource") if isinstance(entry, dict) else None, dict)]
        matches = {item.identity: {str(one.get("id")) for one in there if _same(item, one)} for item in wanted}
        unclear = any(len(ids) > 1 or not all(ID.fullmatch(one) for one in ids) for ids in matches.values())
        if unclear or any(_nearly(item, one) for item in wanted if not matches[item.identity] for one in there):
            self.said = Said.UNCLEAR
            return
        self.ids = {identity: next(iter(ids)) for identity, ids in matches.items() if ids}
        missing = len(self.ids) < len(matches)
        self.said = Said.UNCLEAR if missing and more else Said.FOUND if self.ids else Said.NONE


def _same(item: Item, there: Resource) -> bool:
    """Whether a resource of NJSAMS's is what we sent: by identifier, a coverage by payor and policy number; and not under another's label."""
    return _ours(item, there) and bool(_keys(item, item.resource) & _keys(item, there))


def _nearly(item: Item, there: Resource) -> bool:
    """Whether it is what we sent but for its label, its number's system or case: ours or another's, which nobody here can tell."""
    its = _policy(there) if item.kind == "Coverage" else _identifiers(there, {item.identity.system, None})
    mine = {key.lower() for key in _keys(item, item.resource)}
    return there.get("resourceType") == item.kind and bool(mine & {key.lower() for key in its})


def _ours(item: Item, there: Resource) -> bool:
    """Of the kind that we sent, and under our label; one that is shown without a label may be ours (B: read sample)."""
    labels = _labels(there)
    return there.get("resourceType") == item.kind and (not labels or bool(labels & _labels(item.resource)))


def _keys(item: Item, resource: Resource) -> set[str]:
    """What it is known by there."""
    return _policy(resource) if item.kind == "Coverage" else _identifiers(resource, {item.identity.system})


def _labels(resource: Resource) -> set[str]:
    """The provider ids whose label it has."""
    meta = resource.get("meta")
    given = meta.get("security") if isinstance(meta, dict) else None
    return {
        str(one["code"])
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and one.get("system") == LABEL and one.get("code")
    }


def _identifiers(resource: Resource, systems: AbstractSet[str | None]) -> set[str]:
    """Values of these systems; None: of those without one."""
    given = resource.get("identifier")
    return {
        str(one["value"]).strip()
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and one.get("system") in systems and one.get("value")
    }


def _policy(resource: Resource) -> set[str]:
    payors, number = resource.get("payor"), resource.get("subscriberId")
    first = payors[0] if isinstance(payors, list) and payors else None
    reference = first.get("reference") if isinstance(first, dict) else None
    found = LOCATION.fullmatch(reference) if isinstance(reference, str) else None
    return {f"{found['id']}|{str(number).strip()}"} if found and number else set()


def _all_items(mapped: Mapped) -> Iterator[Item]:
    """Every resource with what the ledger knows it by: the patient, its visit, and coverages in the order of the message."""
    identified = mapped.identified
    parts = {kind: iter([part for part in identified.routed.parts if part.kind is kind]) for kind in KINDS.values()}
    order = list(KINDS)
    count = 0
    for resource in sorted(mapped.resources, key=lambda one: order.index(str(one["resourceType"]))):
        kind = str(resource["resourceType"])
        if kind == "Patient":
            assert identified.identity is not None  # noqa: S101 - route parks a message of nobody
            yield Item(resource, identified.identity, _patient_id(identified), _full_url(identified, kind))
            continue
        part = next(parts[KINDS[kind]])
        name = kind if kind == "Encounter" else f"{kind}-{count}"
        count += kind == "Coverage"
        yield Item(resource, part, identified.part_ids.get(part), _full_url(identified, name))


def _patient_id(identified: Identified) -> str | None:
    given = identified.partner_id if identified.intent is Intent.UPDATE else None
    return given if given and ID.fullmatch(given) else None


def _full_url(identified: Identified, name: str) -> str:
    """UUIDv5 of the request id and a name, so that the same message gives the same bytes."""
    return f"urn:uuid:{uuid5(_namespace(identified), name.encode())}"


def _namespace(identified: Identified) -> bytes:
    return bytes.fromhex(identified.routed.request_id.replace("-", ""))


def _visit_system(number: Identifier, event: Event) -> str:
    oid = number.authority_oid
    if oid and OID.fullmatch(oid):
        return f"urn:oid:{oid}"
    return VISIT_NUMBER + quote(number.authority or str(event.sending_facility or ""), safe="")


def _timeouts(times: OperationTimes) -> Timeouts:
    return Timeouts(times.connect, times.read, times.total)


def _outcome(body: answers.Body) -> Said:
    """What a body says that is no bundle of the kind that was asked for."""
    return {answers.Form.ERROR: Said.OUTCOME, answers.Form.EMPTY: Said.EMPTY}.get(body.form, Said.OTHER)


def _tree(body: bytes) -> Resource:
    try:
        tree = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _entries(body: bytes, *types: str) -> list[Any] | None:
    """The entries of a bundle of one of these types; None where it is none. A search that found nothing may leave them out."""
    tree = _tree(body)
    if tree.get("resourceType") != "Bundle" or tree.get("type") not in types:
        return None
    entries = tree.get("entry", [])
    return entries if isinstance(entries, list) else None


def _has_next(body: bytes) -> bool:
    links = _tree(body).get("link")
    return isinstance(links, list) and any(isinstance(one, dict) and one.get("relation") == "next" for one in links)


def _response(entry: object) -> Mapping[str, Any]:
    response = entry.get("response") if isinstance(entry, dict) else None
    return response if isinstance(response, dict) else {}


def _status(entry: object) -> int:
    """Of `201 Created` 201; 0 where there is none."""
    found = re.match(r"\s*([1-9]\d\d)\b", str(_response(entry).get("status", "")), re.ASCII)
    return int(found[1]) if found else 0


def _tells(status: int) -> tuple[bool, int]:
    """Which of several failed entries says most: not one that failed because another did (424)."""
    return status != 424, status  # noqa: PLR2004 - RFC 4918 section 11.4


def _located(entry: object, kind: str) -> str | None:
    """The id in an entry's location, absolute or relative, with or without a version; None where it is of another type."""
    location = _response(entry).get("location")
    found = LOCATION.fullmatch(location) if isinstance(location, str) else None
    return found["id"] if found and found["type"] == kind else None


def _codes(entry: object) -> Iterable[str]:
    outcome = _response(entry).get("outcome")
    return answers.read(orjson.dumps(outcome)).codes if isinstance(outcome, dict) else ()


def _learned(mapped: Mapped, ids: Mapping[Identity, str]) -> tuple[Learned, ...]:
    """What NJSAMS has, and under which id: the patient under every client-id that went out; a part with the patient that it belongs to."""
    identified = mapped.identified
    creating = identified.intent is Intent.CREATE
    about = identified.identity
    assert about is not None  # noqa: S101 - route parks a message of nobody
    patient = ids.get(about) or _patient_id(identified)
    if patient is None:
        return ()
    found = [Learned(about, patient, created_with=creating)]
    found += [Learned(other, patient) for other in identified.routed.identities if other != about]
    parts = {**identified.part_ids, **{one: given for one, given in ids.items() if one.kind is not Subject.PATIENT}}
    found += [Learned(part, given, belongs_to=patient) for part, given in parts.items()]
    return tuple(found)


def _path(bundle: Resource, finding: Finding) -> str:
    """A finding's path counted from its resource, as the mapping counts."""
    path = finding.fhir or "Bundle"
    found = RESOURCE.match(path)
    if found is None:
        return path
    kind = bundle["entry"][int(found[1])]["resource"].get("resourceType", "Resource")
    return f"{kind}{path[found.end() :]}"


def _rule(finding: Finding) -> str:
    return f"{finding.code.sentence} ({finding.about})" if finding.about else finding.code.sentence


def _not_met(bundle: Resource, finding: Finding, places: Mapping[str, str]) -> ProfileNotMet:
    """The first finding of the profile as an end. A mandatory identifier is named, since its path is that of any."""
    path, required = _path(bundle, finding), finding.code is FindingCode.PROFILE_MANDATORY
    if finding.about in SYSTEMS:
        path = f"{path}:{finding.about}"
    if path in places:
        path = f"{path} ({places[path]})"
    return ProfileNotMet(Reason.PROFILE_REQUIRED if required else Reason.PROFILE_INVALID, where=path, message=_rule(finding))
