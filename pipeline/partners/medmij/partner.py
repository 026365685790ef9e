"""MedMij eAfspraak (FHIR STU3): what patients read as their appointments. There is nobody to send it to: it goes into our own store, which they ask.

One PUT for each message: the Appointment with all that it refers to, as a collection, an upsert by an id of ours; of a merge one POST of who is who. No I/O.
Whose a number or an appointment is, the store knows and the ledger does not: patients are learned without an id, and the store says what is two persons'. A BSN is in the header
`x-patient`, by which its patient finds the appointment, and in no body; such headers are never logged. Sources: contracts/medmij.md 4 to 6.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import orjson

from pipeline.errors import NoAnswer, Parked, ProfileNotMet
from pipeline.fhir import profile
from pipeline.model import (
    Action,
    Finding,
    Identified,
    Identity,
    Intent,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Variable,
    Verdict,
)
from pipeline.partners import packing
from pipeline.partners.medmij import parts as medmij_parts
from pipeline.partners.medmij.admissions import announces, is_withdrawn, leaves_when, says, says_when
from pipeline.partners.medmij.left import description, is_left, service_status
from pipeline.partners.medmij.parts import BSN, own_id, whole_bsn
from pipeline.partners.medmij.times import Times, expected_times, times
from pipeline.partners.medmij.verdicts import Operation, row_of
from pipeline.settings_partners import MedmijSettings
from schemas.event import Event, Identifier
from schemas.medmij import CHECK
from schemas.outcomes import FindingCode, Reason

PLACES: Final = {
    "Appointment.start": "SCH-11.4",
    "Appointment.end": "SCH-11.5",
    "Appointment.participant[0].actor": "PID-5",
    "Appointment.participant[0].actor.display": "PID-5",
}
"""Where the message should have had what is mandatory and missing: an element that is not there knows no place."""
PATIENT_HEADER: Final = "x-patient"
PRIOR_HEADER: Final = "x-prior"
TIME_HEADER: Final = "x-event-ms"
POSITION_HEADER: Final = "x-position"
SHARED_HEADER: Final = "x-shared"
SAYS_HEADER: Final = "x-says"
ANNOUNCES_HEADER: Final = "x-announces"
REMEMBERED: Final = 202
"""Nothing shows: the appointment is not known by it."""
HOUR_MS: Final = 3_600_000


class Medmij:
    """Implements partners/port.py.

    Args:
        settings: the partner's block of the settings.
        identifier_systems: which system an identifier is known under, from the mapping's table: the BSN and the hospital's own numbers.

    """

    name: str = "medmij"
    secret_headers: tuple[str, ...] = ()
    part2: bool = False
    reads: frozenset[str] = medmij_parts.READS
    unders: frozenset[str] = frozenset()
    gives_ids: bool = False

    def __init__(self, settings: MedmijSettings, identifier_systems: Callable[[Identifier], str | None]) -> None:
        self._settings = settings
        self._identifier_systems = identifier_systems
        self._timeouts = packing.timeouts(settings.put)
        self.longest = self._timeouts.total
        hospital = settings.organization
        self._hospital = hospital.ura or hospital.agb or hospital.name
        self._organization_id = own_id("Organization", self._hospital)

    def system_of(self, identifier: Identifier) -> str | None:
        """See partners/port.py. What only looks like a BSN is none: it would make two people one."""
        system = self._identifier_systems(identifier)
        return None if system == BSN and whole_bsn(str(identifier.value)) is None else system

    def under(self, event: Event) -> str:  # noqa: ARG002 - the port's signature; the store is the hospital's own
        """See partners/port.py."""
        return ""

    def parts(self, event: Event) -> tuple[Identity, ...]:
        """See partners/port.py: the one appointment. Parked: NUMBER_MISSING, CHARSET."""
        return medmij_parts.appointment_of(event)

    def variables(self, identified: Identified) -> Mapping[str, Variable]:
        """See partners/port.py. Filtered: EXPECTED_MISSING."""
        event, hl7, hospital = identified.routed.decoded.event, identified.routed.decoded.hl7, self._settings.organization
        if event.type == "ADT":
            says_when(event, hl7, known=bool(identified.part_ids))
        booked, visit, about = event.appointment, event.visit, medmij_parts.about(identified)
        when = self._times(event)
        people, places = self._taking_part(event)
        attending, admitting = self._doctors(event) if not any(people) else (None, None)
        reason = booked.reason if booked else None
        ward = medmij_parts.location_id(visit.location, reason, self._hospital) if visit and not any(places) else None
        return {
            "appointment_id": medmij_parts.appointment_id(identified),
            "appointment_system": about.system,
            "appointment_number": about.value,
            "patient_id": medmij_parts.patient_id(identified),
            "start": when.start,
            "end": when.end,
            "service_status": service_status(booked) if booked else None,
            "description": description(booked) if booked else None,
            "withdrawn": is_withdrawn(event),
            "left": when.start is None and leaves_when(event, hl7),
            "minutes": None if when.minutes is None else str(when.minutes),
            "practitioner_ids": people,
            "role_ids": tuple([self._role(one, identified) for one in people]),
            "attending_id": attending,
            "attending_role_id": self._role(attending, identified),
            "admitting_id": admitting,
            "admitting_role_id": self._role(admitting, identified),
            "location_ids": places,
            "visit_location_id": ward,
            "organization_id": self._organization_id,
            "organization_name": hospital.name,
            "ura": hospital.ura,
            "agb": hospital.agb,
            "specialty": self._settings.specialty,
            "untyped_notes": self._settings.untyped_notes == "instructions",
        }

    def _taking_part(self, event: Event) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """Ids of the people and the places of the schedule, in its order; None of who is not shown, and of what the message deletes."""
        booked, trigger = event.appointment, str(event.trigger)
        if booked is None:
            return (), ()
        people = [(one, medmij_parts.practitioner_id(one.person, self._hospital)) for one in booked.personnel]
        places = [(one, medmij_parts.place_id(one, self._hospital)) for one in booked.places]
        return (
            tuple([name if is_left(one, trigger) else None for one, name in people]),
            tuple([name if is_left(one, trigger) else None for one, name in places]),
        )

    def _times(self, event: Event) -> Times:
        if event.appointment is not None:
            return times(event.appointment, self._settings.default_minutes)
        if is_withdrawn(event):
            return Times(None, None, None)
        return expected_times(event, self._settings.admission_time)

    def _doctors(self, event: Event) -> tuple[str | None, str | None]:
        """PV1-7, and of an admission PV1-17 where it is somebody else. Who refers (PV1-8) or is asked (PV1-9) is not whom the patient comes to."""
        visit = event.visit
        if visit is None:
            return None, None
        admitting = visit.admitting if event.type == "ADT" else ()
        ids = [medmij_parts.practitioner_id(one[0] if one else None, self._hospital) for one in (visit.attending, admitting)]
        return ids[0], ids[1] if ids[1] != ids[0] else None

    def _role(self, practitioner: str | None, identified: Identified) -> str | None:
        """What somebody does for one specialty."""
        specialty = str(identified.routed.decoded.hl7(self._settings.specialty) or "")
        return own_id("PractitionerRole", self._hospital, practitioner, specialty) if practitioner else None

    def absent_is_create(self, identified: Identified) -> bool:  # noqa: ARG002 - the port's signature; a PUT is both
        """See partners/port.py."""
        return False

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:  # noqa: ARG002 - the port's signature
        """See partners/port.py: what patients read about a patient is no business of results."""
        return None

    # requests

    def pack(self, mapped: Mapped) -> Packed:
        """One PUT of the appointment and what it refers to, or a merge. Parked: SEVERAL_APPOINTMENTS. ProfileNotMet: PROFILE_REQUIRED, PROFILE_INVALID."""
        identified = mapped.identified
        if identified.routed.rule.action is Action.JOIN:
            return Packed(mapped, (self._merge(identified),))
        if identified.routed.decoded.hl7.count("SCH") > 1:
            raise Parked(Reason.SEVERAL_APPOINTMENTS, where="SCH[2]")
        once = {(one["resourceType"], one.get("id")): one for one in reversed(mapped.resources)}  # a doctor may be there twice
        entry = [{"resource": one} for one in reversed(once.values())]
        bundle: Resource = {"resourceType": "Bundle", "type": "collection", "entry": entry}
        if findings := profile.check(CHECK, bundle, "Bundle"):
            raise _not_met(bundle, findings[0])
        try:
            body = orjson.dumps(bundle)
        except orjson.JSONEncodeError:
            raise Parked(Reason.FHIR_INVALID, where="Bundle", message="a value that JSON cannot carry") from None
        request = Request(
            operation=Operation.APPOINTMENT.value,
            method="PUT",
            path=f"/Appointment/{medmij_parts.appointment_id(identified)}",
            path_template="/Appointment/{id}",
            headers=(
                ("Content-Type", "application/fhir+json"),
                *_headers(identified),
                *self._shared(identified),
                *_weighed(identified, mapped.resources),
            ),
            body=body,
            request_id=identified.routed.request_id,
            timeouts=self._timeouts,
            intent=Intent.UPDATE,  # of the first one too: an upsert by an id of ours makes no second one when it is sent again
        )
        return Packed(mapped, (request,))

    def _shared(self, identified: Identified) -> tuple[tuple[str, str], ...]:
        """A schedule's number may be a group's; a visit's is one patient's."""
        group = self._settings.shared_numbers == "group" and identified.routed.decoded.event.appointment is not None
        return ((SHARED_HEADER, "true"),) if group else ()

    def _merge(self, identified: Identified) -> Request:
        return Request(
            operation=Operation.MERGE.value,
            method="POST",
            path="/Person/$merge",
            path_template="/Person/$merge",
            headers=(*_people(PRIOR_HEADER, identified.routed.prior), *_headers(identified, or_recorded=True)),
            body=b"",
            request_id=identified.routed.request_id,
            timeouts=self._timeouts,
            intent=Intent.UPDATE,  # told twice, they are one all the same
        )

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:  # noqa: ARG002 - the port's signature
        """See partners/port.py: the attempts of a request are one."""
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py. The same bytes: the id is the upsert key."""
        return packing.once_more(packed, replay)

    def probe(self, packed: Packed) -> Request | None:
        """See partners/port.py: the same PUT again."""
        return packing.asked_again(packed)

    def probe_after(self, operation: str) -> float:  # noqa: ARG002 - the port's signature; it has one
        """See partners/port.py."""
        return self._settings.again_after

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:  # noqa: ARG002 - the port's signature
        """See partners/port.py and verdicts.py."""
        row = row_of(Operation(request.operation), came.status if isinstance(came, Reply) else 0)
        done = row.decision.value == "delivered"
        return Verdict(
            row.decision,
            row.reason if isinstance(came, Reply) else row.reason or came.reason,
            learned=medmij_parts.learned(packed.mapped.identified, shown=came.status != REMEMBERED)
            if isinstance(came, Reply) and done
            else (),
            retry_after=self._settings.again_after if row.pause else None,
        )

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py."""
        return self.judge(packed, probe, came, after_unknown=True)


def _headers(identified: Identified, *, or_recorded: bool = False) -> tuple[tuple[str, str], ...]:
    """Whose it is, how old (`or_recorded`: where nobody knows, as its record) and where it stood: what the store keeps beside it."""
    event_ms = _event_ms(identified)
    if event_ms is None and or_recorded:
        event_ms = identified.routed.decoded.received.timestamp_ms
    return (
        *_people(PATIENT_HEADER, identified.routed.identities),
        *(((TIME_HEADER, str(event_ms)),) if event_ms is not None else ()),
        (POSITION_HEADER, str(identified.routed.decoded.received.position)),
    )


def _weighed(identified: Identified, resources: Iterable[Resource]) -> Iterable[tuple[str, str]]:
    """What the store is to make of it beside what it has; nothing where it is the appointment, whole."""
    event = identified.routed.decoded.event
    if (means := says(event)) != "status":
        yield SAYS_HEADER, means
    if not announces(event, timed=any("start" in one for one in resources)):
        yield ANNOUNCES_HEADER, "false"


def _people(header: str, identities: Iterable[Identity]) -> tuple[tuple[str, str], ...]:
    people = [(one.system, (whole_bsn(one.value) or one.value) if one.system == BSN else one.value) for one in identities]
    return tuple((header, f"{system}|{value}") for system, value in dict.fromkeys(people))


def _event_ms(identified: Identified) -> int | None:
    """How old it is; None where that is not known. A local hour that is there twice (or never) has one time for all of it: its place says which was later."""
    routed = identified.routed
    time = routed.decoded.event.time
    if routed.event_ms is not None or time is None or time.epoch_ms is None or not time.ambiguous:
        return routed.event_ms
    return time.epoch_ms // HOUR_MS * HOUR_MS


def _not_met(bundle: Resource, finding: Finding) -> ProfileNotMet:
    path = packing.path_of(bundle, finding)
    required = finding.code is FindingCode.PROFILE_MANDATORY
    return ProfileNotMet(
        Reason.PROFILE_REQUIRED if required else Reason.PROFILE_INVALID,
        where=f"{path} ({PLACES[path]})" if path in PLACES else path,
        message=packing.rule_of(finding),
    )
