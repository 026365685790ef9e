"""RoQua, HoNOS+ as documents (FHIR STU3): PUT /medmij_fhir/Bundle/{id}, an upsert by an id of ours. Exactly the shape of the published example.

What an answer means stands in verdicts.py. No I/O. The token never comes here: the transport adds it. Nothing but a whole HoNOS+ goes.
Sources: the partner's page, and the dossier (contracts/roqua.md 4); what is inferred there is a setting here.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import orjson

from pipeline.errors import Filtered, NoAnswer, Parked, ProfileNotMet
from pipeline.fhir import profile
from pipeline.model import (
    Decoded,
    Finding,
    Identified,
    Identity,
    Intent,
    Kind,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Variable,
    Verdict,
)
from pipeline.partners import answers, packing, results
from pipeline.partners.roqua import answers as roqua_answers
from pipeline.partners.roqua import parts as roqua_parts
from pipeline.partners.roqua.ids import reference_id
from pipeline.partners.roqua.verdicts import Flag, Operation, Said, row_of
from pipeline.partners.verdicts import Signal
from pipeline.settings_partners import RoquaSettings, UnknownAnswer
from schemas.event import Coded, Event, Identifier, Timestamp
from schemas.outcomes import FindingCode, Reason
from schemas.roqua import CHECK, ITEMS, Terms, item_of, named

BASE: Final = "/medmij_fhir/Bundle"
JSON: Final = (("Content-Type", "application/json"), ("Accept", "application/json"))
"""BRIEF: not application/fhir+json."""
DOCUMENTS: Final = "urn:emr-pipeline:document"
"""System of Bundle.identifier, where it is sent: the value is the id of the Bundle."""
PLACES: Final = {"Composition.subject.display": "PID-5", "Composition.date": "OBR-7"}
"""Where the message should have had what is mandatory and missing: an element that is not there knows no place."""
ORDER: Final = {item: place for place, item in enumerate(ITEMS)}
SCORES: Final = "honos-score"
"""The table of answers: what it does not have leaves an item without one."""


class Roqua:
    """Implements partners/port.py.

    Args:
        settings: the partner's block of the settings.
        identifier_systems: which system an identifier is accepted under, from the mapping's table: that of dossiers alone.
        items: whether a result (OBX-3) is of a HoNOS+, from the mapping's table.

    """

    name: str = "roqua"
    secret_headers: tuple[str, ...] = ("Authorization",)
    part2: bool = False
    reads: frozenset[str] = results.READS | {"reported", "observations", "code"}

    def __init__(
        self,
        settings: RoquaSettings,
        identifier_systems: Callable[[Identifier], str | None],
        items: Callable[[Coded], bool],
    ) -> None:
        self._settings = settings
        self._identifier_systems, self._items = identifier_systems, items
        unknown = settings.unknown_answer
        self._unknown = unknown.code if isinstance(unknown, UnknownAnswer) else None
        self._terms = Terms(self._unknown, settings.item_8, identifier=settings.bundle_identifier)
        self._timeouts = packing.timeouts(settings.put)
        self.longest = self._timeouts.total
        before = settings.author.removesuffix(".1")
        self._author = {"author": settings.author, "author_family": f"{before}.2", "author_given": f"{before}.3"}

    def system_of(self, identifier: Identifier) -> str | None:
        """See partners/port.py."""
        return self._identifier_systems(identifier)

    def under(self, event: Event) -> str:  # noqa: ARG002 - the port's signature; an organisation has one RoQua
        """See partners/port.py."""
        return ""

    unders: frozenset[str] = frozenset()
    gives_ids: bool = False

    def parts(self, event: Event) -> tuple[Identity, ...]:
        """See partners/port.py: the one questionnaire. Parked: SEVERAL_RESULTS, NUMBER_MISSING. Filtered: results, and none of a HoNOS+.

        Looked at first, since a laboratory's reports may be several in a message, and have no number.
        """
        told = [one.code for report in event.reports for one in report.observations if one.code]
        if told and not any(map(self._items, told)):
            raise Filtered(Reason.EVENT_NOT_FOR_PARTNER, where="OBX-3", message="no item of a HoNOS+: see codes/honos-item.yaml")
        return results.result_of(event)

    def variables(self, identified: Identified) -> Mapping[str, Variable]:
        """See partners/port.py."""
        hl7, dossier = identified.routed.decoded.hl7, roqua_parts.dossier(identified)
        assert identified.identity is not None  # noqa: S101 - route parks a message of nobody
        professional = str(hl7(self._settings.author) or "")
        return {
            "document_id": roqua_parts.own_id(identified),
            "dossier": dossier,
            "dossier_system": identified.identity.system,
            "patient_reference": f"Patient/{reference_id('Patient', dossier)}",
            "professional_system": self._settings.professional_system,
            "practitioner_reference": f"Practitioner/{reference_id('Practitioner', professional)}",
            "unknown_answer": self._unknown,
            **self._author,
        }

    def absent_is_create(self, identified: Identified) -> bool:  # noqa: ARG002 - the port's signature; a PUT is both
        """See partners/port.py."""
        return False

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:  # noqa: ARG002 - the port's signature
        """See partners/port.py: the dossier's number is the hospital's own."""
        return None

    # requests

    def pack(self, mapped: Mapped) -> Packed:
        """One PUT of the whole document.

        Parked(PARTNER_HAS_NO_DELETE): the message takes back what RoQua has.
        ProfileNotMet: PROFILE_REQUIRED, with the items that have no answer, or without who rated; PROFILE_INVALID.
        """
        identified = mapped.identified
        if identified.routed.rule.kind is Kind.CANCEL:
            raise Parked(Reason.PARTNER_HAS_NO_DELETE, where="OBX-11")
        roqua_parts.one_answer_each(identified.routed.decoded, self._items)
        heads, measurements = _sorted(mapped)
        if unread := [str(finding.hl7) for finding in mapped.findings if finding.about == SCORES]:
            raise ProfileNotMet(Reason.PROFILE_INVALID, where=", ".join(unread), message=f"no answer that the table {SCORES} has")
        if not heads:
            raise ProfileNotMet(Reason.PROFILE_REQUIRED, where=f"Composition.author ({self._settings.author})")
        bundle = self._bundle(identified, heads, [one for one in measurements if "valueQuantity" in one])
        findings = profile.check(CHECK, bundle, "Bundle", self._terms)
        if findings:
            raise _not_met(bundle, findings)
        # No check of references and fullUrls: the published shape refers to a Patient and a Practitioner that are not there, and to Observations whose
        # fullUrls are no UUIDs (C 4.4). That it hangs together as published the profile has seen.
        try:
            body = orjson.dumps(bundle)
        except orjson.JSONEncodeError:
            raise Parked(Reason.FHIR_INVALID, where="Bundle", message="a value that JSON cannot carry") from None
        return Packed(mapped, (self._put(str(bundle["id"]), body, identified.routed.request_id),))

    def _bundle(self, identified: Identified, heads: list[Resource], measurements: list[Resource]) -> Resource:
        """The document as published, ids and section made from the items."""
        own = roqua_parts.own_id(identified)
        items = [{"resourceType": one["resourceType"], "id": f"{own}-{item_of(one)}"} | one for one in measurements]
        section = [{"entry": [_target(one) for one in items]}]
        resources = [*({**head, "section": section} for head in heads), *items]
        identifier = {"identifier": {"system": DOCUMENTS, "value": own}} if self._settings.bundle_identifier else {}
        return {
            "id": own,
            "meta": {"lastUpdated": _updated(identified.routed.decoded)},
            "resourceType": "Bundle",
            **identifier,
            "type": "document",
            "entry": [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in resources],
        }

    def _put(self, own: str, body: bytes, request_id: str) -> Request:
        return Request(
            operation=Operation.DOCUMENT.value,
            method="PUT",
            path=f"{BASE}/{own}",
            path_template=f"{BASE}/{{id}}",
            headers=JSON,
            body=body,
            request_id=request_id,
            timeouts=self._timeouts,
            intent=Intent.UPDATE,  # of the first one too: an upsert by an id of ours makes no second one when it is sent again
        )

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:  # noqa: ARG002 - the port's signature
        """See partners/port.py: RoQua has no header for it, so the attempts of a request are one."""
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py. The same bytes: Bundle.id is the upsert key."""
        return packing.once_more(packed, replay)

    def probe(self, packed: Packed) -> Request | None:
        """See partners/port.py: the same PUT again."""
        return packing.asked_again(packed)

    def probe_after(self, operation: str) -> float:  # noqa: ARG002 - the port's signature; it has one
        """See partners/port.py."""
        return self._settings.again_after

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:  # noqa: ARG002 - the port's signature
        """See partners/port.py and verdicts.py. What a 2xx says beside itself is not documented: without an error in it, it is done."""
        operation = Operation(request.operation)
        if isinstance(came, NoAnswer):
            row = row_of(Signal(operation, 0, Said.EMPTY))
            return Verdict(
                row.decision,
                row.reason or came.reason,
                retry_after=self._settings.again_after if row.pause else None,
                suspect=came.fresh,
            )
        told, wait = roqua_answers.read(came), answers.retry_after(came)
        identified = packed.mapped.identified
        there = {Flag.RETRY_AFTER: wait is not None, Flag.KNOWN: roqua_parts.result(identified) in identified.part_ids}
        flags = frozenset(flag for flag, is_there in there.items() if is_there)
        row = row_of(Signal(operation, came.status, told.said, told.keywords, flags))
        return Verdict(
            decision=row.decision,
            reason=row.reason,
            issue_codes=told.codes,
            learned=roqua_parts.learned(identified) if row.decision.value == "delivered" else (),
            retry_after=max(wait or 0.0, self._settings.again_after) if row.pause else wait,
        )

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py."""
        return self.judge(packed, probe, came, after_unknown=True)


def _sorted(mapped: Mapped) -> tuple[list[Resource], list[Resource]]:
    """The Composition, where there is one, and the Observations in the order of the items."""
    heads = [one for one in mapped.resources if one["resourceType"] == "Composition"]
    others = [one for one in mapped.resources if one["resourceType"] == "Observation"]
    return heads, sorted(others, key=lambda one: ORDER.get(item_of(one), len(ORDER)))


def _target(observation: Resource) -> Resource:
    display = observation["code"]["coding"][0].get("display")
    return {"reference": f"Observation/{observation['id']}"} | ({"display": display} if display else {})


def _updated(decoded: Decoded) -> str:
    """When the questionnaire was reported, else sent, else read: never the clock, so that the same message gives the same bytes."""
    event = decoded.event
    for time in (event.reports[0].reported, event.message_time, event.recorded):
        if isinstance(time, Timestamp) and time.instant:
            return time.instant
    return datetime.fromtimestamp(decoded.received.timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _not_met(bundle: Resource, findings: tuple[Finding, ...]) -> ProfileNotMet:
    """The first rule that is not met as an end, with every item that does not meet it."""
    first = findings[0]
    path, rule = packing.path_of(bundle, first), packing.rule_of(first)
    alike = [each for each in findings if (packing.path_of(bundle, each), each.about) == (path, first.about)]
    items = [item for each in alike if (item := _item_at(bundle, each))]
    if path == "Bundle":
        path, about = "Bundle.entry", first.about
    else:
        about = named(items) if items else PLACES.get(path)
    required = first.code is FindingCode.PROFILE_MANDATORY
    return ProfileNotMet(
        Reason.PROFILE_REQUIRED if required else Reason.PROFILE_INVALID,
        where=f"{path} ({about})" if about else path,
        message=rule,
    )


def _item_at(bundle: Resource, finding: Finding) -> str:
    """The item that a finding is about; empty where it is about something else."""
    found = packing.RESOURCE.match(finding.fhir or "")
    resource = bundle["entry"][int(found[1])]["resource"] if found else {}
    return item_of(resource) if resource.get("resourceType") == "Observation" else ""
