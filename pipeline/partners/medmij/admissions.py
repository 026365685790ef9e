"""An admission that is expected (A05, A14), as an appointment, and what becomes of it. No I/O, no settings.

Its number is the visit's (PV1-19) in a namespace of its own: it is never one of an agenda (SCH). Whoever was never announced has no appointment: the row of
the other events in mappings/events.yaml says `only: known`.
"""

from typing import Final
from urllib.parse import quote

from pipeline.errors import Filtered, Parked
from pipeline.model import Hl7, Identity, Subject
from schemas.event import NULL, Event
from schemas.outcomes import Reason

VISIT_NUMBER: Final = "urn:emr-pipeline:visit-number:"
ANNOUNCES: Final = frozenset({"A05", "A14"})
NEEDS_A_TIME: Final = frozenset({*ANNOUNCES, "A08", "A11"})
"""These book it: without any time they say nothing of an appointment. The others say what became of it."""


def admission_of(event: Event) -> tuple[Identity, ...]:
    """Its identity. Filtered: EXPECTED_MISSING, APPOINTMENT_NOT_KNOWN. Parked: NUMBER_MISSING, CHARSET."""
    visit = event.visit
    number = visit.number if visit else None
    if number is None or not number.value:
        if event.trigger not in ANNOUNCES:
            raise Filtered(Reason.APPOINTMENT_NOT_KNOWN, where="PV1-19")
        if visit is None or not visit.expected:
            raise Filtered(Reason.EXPECTED_MISSING, where="PV2-8")
        raise Parked(Reason.NUMBER_MISSING, where="PV1-19")
    if "\N{REPLACEMENT CHARACTER}" in number.value:
        raise Parked(Reason.CHARSET, where="PV1-19.1")
    whose = number.authority_oid or number.authority or event.sending_application or ""
    return (Identity(Subject.APPOINTMENT, VISIT_NUMBER + quote(str(whose), safe=""), number.value, "PV1-19.1"),)


def says_when(event: Event, hl7: Hl7) -> None:
    """Filtered, EXPECTED_MISSING, where it does not. That it is not known any more (an explicit null) says it too, and what cannot be read parks."""
    visit = event.visit
    there = visit is not None and event.trigger not in ANNOUNCES and bool(visit.admitted or visit.discharged)
    if event.trigger in NEEDS_A_TIME and not there and hl7("PV2-8") is None:
        raise Filtered(Reason.EXPECTED_MISSING, where="PV2-8")


def is_withdrawn(event: Event) -> bool:
    """Whether the admission is still to come, and its time is not known any more."""
    visit = event.visit
    return event.trigger in NEEDS_A_TIME and visit is not None and visit.expected is NULL


def says_no_status(event: Event) -> bool:
    """An update (A08) of a visit that nobody is said to have come to: it may be of one that was cancelled, or that has begun."""
    visit = event.visit
    if event.type != "ADT" or event.trigger != "A08" or visit is None:
        return False
    return not (visit.discharged or (visit.admitted and visit.patient_class != "P"))
