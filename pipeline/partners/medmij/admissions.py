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
NEEDS_A_TIME: Final = frozenset({*ANNOUNCES, "A08"})
"""These book it: without any time they say nothing of an appointment. The others say what became of it, and the store knows when it is."""
TAKES_BACK: Final = frozenset({"A11", "A13"})
"""These take an event back: an update (A08) that still has what was taken back, PV1-44 or PV1-45, does not undo them."""
CANCELS: Final = frozenset({"A27", "A38"})
"""Of a pending admission: one that has its time was told to somebody."""
PENDING: Final = "P"
"""Of PV1-2 (table 0004): nobody has come yet."""


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


def says_when(event: Event, hl7: Hl7, *, known: bool) -> None:
    """Filtered, EXPECTED_MISSING, where it does not. That it is not known any more (an explicit null) says it too, and what cannot be read parks.

    What is not `known` yet is announced by PV2-8 alone.
    """
    if (
        event.trigger in NEEDS_A_TIME
        and hl7("PV2-8") is None
        and not (known and event.trigger not in ANNOUNCES and _has_times(event))
    ):
        raise Filtered(Reason.EXPECTED_MISSING, where="PV2-8")


def leaves_when(event: Event, hl7: Hl7) -> bool:
    """Whether the time is left to what was told before, where the message has none to show."""
    return event.type == "ADT" and event.trigger not in ANNOUNCES and hl7("PV2-8") is None


def is_withdrawn(event: Event) -> bool:
    """Whether the admission is still to come, and its time is not known any more."""
    visit = event.visit
    to_come = event.trigger in {*ANNOUNCES, "A08", "A11"} and not (event.trigger == "A08" and _has_begun(event))
    return to_come and visit is not None and visit.expected is NULL


def says(event: Event) -> str:
    """What its status counts for (appointments/port.py, Says). An update (A08) may be of one that was cancelled, or that has begun or is over."""
    if event.type == "ADT" and event.trigger == "A08":
        return "least" if _has_begun(event) else "nothing"
    return "again" if event.type == "ADT" and event.trigger in TAKES_BACK else "status"


def announces(event: Event, *, timed: bool) -> bool:
    """Whether it shows from now on. A cancel of a pending admission that tells when it was to be does: whoever read of it elsewhere must know.

    Of one without a time there is nothing to show, and what was deleted (A23) was nobody's to expect.
    """
    return event.type != "ADT" or event.trigger not in {*CANCELS, "A23"} or (event.trigger in CANCELS and timed)


def _has_times(event: Event) -> bool:
    visit = event.visit
    return visit is not None and bool(visit.admitted or visit.discharged)


def _has_begun(event: Event) -> bool:
    """Whether the visit says that somebody came, or left."""
    visit = event.visit
    return visit is not None and bool(visit.discharged or (visit.admitted and visit.patient_class != PENDING))
