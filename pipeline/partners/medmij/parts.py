"""What a message tells of an appointment: its number, who and what takes part, and the ids that we give them. No I/O, no settings.

Ids are UUIDv5 of what each is, so that the same doctor is the same in every appointment. That of a patient is made of a keyed hash: of a BSN, which has
nine digits, an id without a key could be counted back.
"""

import re
from typing import Final
from urllib.parse import quote

from pipeline.errors import Parked
from pipeline.ids import uuid5
from pipeline.model import Identified, Identity, Intent, Learned, Subject
from pipeline.partners.medmij.admissions import admission_of
from pipeline.partners.packing import OID
from schemas.event import Coded, EntityIdentifier, Event, Location, Place, Practitioner
from schemas.outcomes import Reason

NAMESPACE: Final = bytes.fromhex("5b1f6c1de7c05a5e9a7d3c9f2b84d061")
"""Namespace of our UUIDv5 ids of what patients read (RFC 9562 section 5.5)."""
READS: Final = frozenset(
    {
        *("appointment", "filler", "placer", "start", "end", "duration", "duration_units", "status"),
        *("action", "code", "services", "resources", "personnel", "person", "places", "location", "type"),
        *(
            "visit",
            "number",
            "expected",
            "expected_end",
            "admitted",
            "discharged",
            "occurred",
            "attending",
            "admitting",
            "patient_class",
        ),
    }
)
"""Names of the event's fields that are read here."""
FILLER: Final = "urn:emr-pipeline:filler-number:"
PLACER: Final = "urn:emr-pipeline:placer-number:"
BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
BSN_DIGITS: Final = 9
WEIGHTS: Final = (9, 8, 7, 6, 5, 4, 3, 2, -1)
"""Of the digits of a BSN: their sum is divisible by 11."""


def whole_bsn(value: str) -> str | None:
    """A BSN with its nine digits; None of what is none, as the 000000000 or 999999999 of somebody who has none: it would make two people one."""
    digits = value.zfill(BSN_DIGITS)
    if not re.fullmatch(r"[0-9]{9}", digits) or len(set(digits)) == 1:
        return None
    total = sum(weight * int(digit) for weight, digit in zip(WEIGHTS, digits, strict=True))
    return None if total % 11 else digits


def appointment_of(event: Event) -> tuple[Identity, ...]:
    """The appointment of the message; none of a message without one. Parked: NUMBER_MISSING, CHARSET; of an ADT see admissions.py.

    Its number is the filler's (SCH-2), who keeps the agenda, or where there is none the placer's (SCH-1).
    """
    if event.prior or event.type not in {"SIU", "ADT"}:
        return ()
    if event.type == "ADT":
        return admission_of(event)
    booked = event.appointment
    if booked is not None:
        for number, place, names in ((booked.filler, "SCH-2.1", FILLER), (booked.placer, "SCH-1.1", PLACER)):
            if number is not None and number.value:
                if "\N{REPLACEMENT CHARACTER}" in number.value:
                    raise Parked(Reason.CHARSET, where=place)
                return (Identity(Subject.APPOINTMENT, _system(number, names, event), number.value, place),)
    raise Parked(Reason.NUMBER_MISSING, where="SCH-2")


def _system(number: EntityIdentifier, names: str, event: Event) -> str:
    """Whose number it is: the authority's by its OID or its name, else the sending application's."""
    oid = number.authority_oid
    if oid and OID.fullmatch(oid):
        return f"urn:oid:{oid}"
    return names + quote(number.authority or str(event.sending_application or ""), safe="")


def own_id(kind: str, *names: str) -> str:
    """Our id of something: each name behind its length, so that no two lists of names read alike."""
    return uuid5(NAMESPACE, b"".join(b"%d:%s" % (len(name := one.encode("utf-8", "replace")), name) for one in (kind, *names)))


def about(identified: Identified) -> Identity:
    """The appointment that a message which is to go is about."""
    return next(part for part in identified.routed.parts if part.kind is Subject.APPOINTMENT)


def appointment_id(identified: Identified) -> str:
    """What the store has it under; of one that is new it follows from its number."""
    this = about(identified)
    return identified.part_ids.get(this) or own_id("Appointment", this.system, this.value)


def patient_id(identified: Identified) -> str:
    """What the store has the patient under: it follows from a keyed hash of the number that the first message was known by."""
    routed = identified.routed
    known_by = identified.identity if identified.intent is Intent.UPDATE else None
    numbers = sorted((one.system, one.value) for one in routed.identities)  # in the order of the lanes
    lane = routed.lanes[numbers.index((known_by.system, known_by.value))] if known_by else routed.lane
    return identified.partner_id or own_id("Patient", lane)


def learned(identified: Identified, *, shown: bool = True) -> tuple[Learned, ...]:
    """The patient, under every number that the message has, and the appointment where it shows; not whose it is, which the store knows better."""
    routed = identified.routed
    least = min(routed.identities, key=lambda one: (one.system, one.value))
    created = Learned(least, None, created_with=identified.intent is Intent.CREATE)
    others = (Learned(one, None) for one in (*routed.identities, *routed.prior) if one != least)
    parts = (Learned(about(identified), appointment_id(identified)),) if routed.parts and shown else ()
    return (created, *others, *parts)


def practitioner_id(person: Practitioner | None, hospital: str) -> str | None:
    """By the number of who gave it, else by the name in this hospital; None of one without a family name, whom nothing could show."""
    if person is None or not person.family:
        return None
    if person.identifier:
        whose = person.authority_oid or person.authority or person.type or ""
        return own_id("Practitioner", hospital, str(whose), person.identifier)
    return own_id("Practitioner", hospital, "", "", str(person.family), str(person.given or ""))


def location_id(location: Location | None, type_: Coded | None, hospital: str) -> str | None:
    """By all its parts in this hospital; None of one that cannot be named."""
    named = [location.description, location.point_of_care, location.room] if location else []
    if location is None or not any([*named, type_.text if type_ else None]):
        return None
    parts = (
        location.facility,
        location.building,
        location.floor,
        location.point_of_care,
        location.room,
        location.bed,
        location.description,
    )
    return own_id("Location", hospital, *(str(part or "") for part in parts), str((type_.text if type_ else None) or ""))


def place_id(place: Place, hospital: str) -> str | None:
    """Of an AIL."""
    return location_id(place.location, place.type, hospital)
