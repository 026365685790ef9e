"""The typed event: what an HL7 v2 message says about a patient, in names that a mapping can use.

`hl7/event.py` fills it, templates read it (`patient.names[0].family`). It is lossless by company, not by itself: what it does not
name stays reachable by path (`hl7("ZPI-3.1")`). Each field says in `hl7=` where it comes from; `r` stands for the repetition and `n`
for the n-th segment, so that a finding on a FHIR path can name its HL7 place.

Values: absent is None (or an empty tuple), HL7's explicit null (`""`) is NULL, which is false and means "delete this".
"""

from enum import Enum, StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field


class Null(Enum):
    """HL7's explicit null (v2.5 chapter 2.5.3): the sender wants the value deleted. False, and unlike absent (None)."""

    NULL = '""'

    def __bool__(self) -> Literal[False]:
        return False


NULL: Final = Null.NULL

Text = str | Null | None

CONTRADICTING: Final = "?"
"""Status of a message whose results have several."""


def At(hl7: str, default: Any = None) -> Any:  # noqa: ANN401, N802 - reads as a type beside pydantic's Field
    """A field with the HL7 place that it comes from."""
    return Field(default=default, json_schema_extra={"hl7": hl7})


class Frozen(BaseModel):
    """What all parts of an event share: unchangeable, closed, silent about values when printed in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Precision(StrEnum):
    """How much of a timestamp was there."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    SECOND = "second"
    FRACTION = "fraction"


class Zone(StrEnum):
    """Where a timestamp's offset comes from."""

    EXPLICIT = "explicit"
    SITE = "site"
    NONE = "none"


class Timestamp(Frozen):
    """An HL7 timestamp (v2.5 chapter 2.A.77 TS, 2.A.22 DTM) in FHIR's forms, at the precision it came with."""

    date: str
    """FHIR date: YYYY, YYYY-MM or YYYY-MM-DD."""
    datetime: str
    """FHIR dateTime at its precision, with offset where there is a time (an hour alone is completed with :00:00)."""
    instant: str | None = None
    """FHIR instant with milliseconds where a day and a time are there, else None."""
    epoch_ms: int | None = None
    """Milliseconds since 1970 UTC: for comparing, where a day is there (a day alone counts from its start)."""
    precision: Precision
    zone: Zone
    ambiguous: bool = False
    """A local hour that happens twice or never, without an offset in the message."""


class Identifier(Frozen):
    """A CX (v2.5 chapter 2.A.14), or the number of PID-18, PID-19."""

    value: Text = At(".1")
    check_digit: Text = At(".2")
    authority: Text = At(".4.1")
    """Namespace of the assigning authority (CX.4.1)."""
    authority_oid: Text = At(".4.2")
    """Universal id of the assigning authority (CX.4.2); its type is `authority_oid_type` (ISO, DNS, …)."""
    authority_oid_type: Text = At(".4.3")
    type: Text = At(".5")
    """Identifier type code (table 0203): MR, PI, SS, NNNLD, …"""
    facility: Text = At(".6.1")
    start: Timestamp | Null | None = At(".7")
    end: Timestamp | Null | None = At(".8")


class Name(Frozen):
    """An XPN (v2.5 chapter 2.A.88); the FN parts carry the Dutch own and partner names."""

    family: Text = At(".1.1")
    """The surname as it is used (FN.1)."""
    own_prefix: Text = At(".1.2")
    own_family: Text = At(".1.3")
    partner_prefix: Text = At(".1.4")
    partner_family: Text = At(".1.5")
    given: Text = At(".2")
    middle: Text = At(".3")
    """Second and further given names or initials (XPN.3)."""
    suffix: Text = At(".4")
    prefix: Text = At(".5")
    degree: Text = At(".6")
    type: Text = At(".7")
    """Name type code (table 0200): L legal, M maiden, N nickname, …"""


class Address(Frozen):
    """An XAD (v2.5 chapter 2.A.86); the SAD parts are the Dutch street and house number."""

    line: Text = At(".1.1")
    street: Text = At(".1.2")
    house_number: Text = At(".1.3")
    other: Text = At(".2")
    city: Text = At(".3")
    state: Text = At(".4")
    postal_code: Text = At(".5")
    country: Text = At(".6")
    type: Text = At(".7")
    """Address type (table 0190): H home, M mailing, B business, …"""


class Telecom(Frozen):
    """An XTN (v2.5 chapter 2.A.89): a number, or an e-mail address in XTN.4 (or in XTN.1 of older senders)."""

    number: Text = At(".1")
    """The number as it is to be dialled: XTN.12, else XTN.1, else put together from XTN.5 to XTN.8."""
    email: Text = At(".4")
    use: Text = At(".2")
    """Telecommunication use code (table 0201): PRN, WPN, NET, …; where PID-14 holds it and it has none, WPN."""
    equipment: Text = At(".3")
    """Equipment type (table 0202): PH, CP, FX, Internet, …"""


class Coded(Frozen):
    """A CE or CWE (v2.5 chapter 2.A.13)."""

    code: Text = At(".1")
    text: Text = At(".2")
    system: Text = At(".3")
    """Name of the coding system as sent (table 0396): I10, I9C, SCT, L, …"""
    alternate_code: Text = At(".4")
    alternate_text: Text = At(".5")
    alternate_system: Text = At(".6")


class Patient(Frozen):
    """The PID segment."""

    identifiers: tuple[Identifier, ...] = At("PID-3[r]", ())
    alternate_identifiers: tuple[Identifier, ...] = At("PID-4[r]", ())
    names: tuple[Name, ...] = At("PID-5[r]", ())
    mother_maiden_name: Text = At("PID-6.1")
    birth: Timestamp | Null | None = At("PID-7")
    gender: Text = At("PID-8")
    """Administrative sex (table 0001) as sent."""
    aliases: tuple[Name, ...] = At("PID-9[r]", ())
    race: tuple[Coded, ...] = At("PID-10[r]", ())
    addresses: tuple[Address, ...] = At("PID-11[r]", ())
    home_telecoms: tuple[Telecom, ...] = At("PID-13[r]", ())
    work_telecoms: tuple[Telecom, ...] = At("PID-14[r]", ())
    language: Coded | None = At("PID-15")
    marital_status: Coded | None = At("PID-16")
    account: Identifier | None = At("PID-18")
    ssn: Text = At("PID-19")
    ethnic_group: tuple[Coded, ...] = At("PID-22[r]", ())
    multiple_birth: Text = At("PID-24")
    birth_order: Text = At("PID-25")
    nationality: Coded | None = At("PID-28")
    death: Timestamp | Null | None = At("PID-29")
    death_indicator: Text = At("PID-30")
    last_update: Timestamp | Null | None = At("PID-33")


class Practitioner(Frozen):
    """An XCN (v2.5 chapter 2.A.87)."""

    identifier: Text = At(".1")
    family: Text = At(".2.1")
    """The surname as it is used (FN.1); its parts as of a Name."""
    own_prefix: Text = At(".2.2")
    own_family: Text = At(".2.3")
    partner_prefix: Text = At(".2.4")
    partner_family: Text = At(".2.5")
    given: Text = At(".3")
    prefix: Text = At(".6")
    authority: Text = At(".9.1")
    authority_oid: Text = At(".9.2")
    type: Text = At(".13")


class Location(Frozen):
    """A PL (v2.5 chapter 2.A.53)."""

    point_of_care: Text = At(".1")
    room: Text = At(".2")
    bed: Text = At(".3")
    facility: Text = At(".4.1")
    building: Text = At(".7")
    floor: Text = At(".8")
    description: Text = At(".9")


class Visit(Frozen):
    """The PV1 and PV2 segments."""

    patient_class: Text = At("PV1-2")
    """Patient class (table 0004): I, O, E, P, …"""
    location: Location | None = At("PV1-3")
    admission_type: Text = At("PV1-4")
    prior_location: Location | None = At("PV1-6")
    attending: tuple[Practitioner, ...] = At("PV1-7[r]", ())
    referring: tuple[Practitioner, ...] = At("PV1-8[r]", ())
    consulting: tuple[Practitioner, ...] = At("PV1-9[r]", ())
    hospital_service: Text = At("PV1-10")
    admitting: tuple[Practitioner, ...] = At("PV1-17[r]", ())
    admit_source: Text = At("PV1-14")
    patient_type: Text = At("PV1-18")
    number: Identifier | None = At("PV1-19")
    financial_class: Text = At("PV1-20.1")
    discharge_disposition: Text = At("PV1-36")
    admitted: Timestamp | Null | None = At("PV1-44")
    discharged: Timestamp | Null | None = At("PV1-45")
    alternate_id: Identifier | None = At("PV1-50")
    admit_reason: Coded | None = At("PV2-3")
    expected: Timestamp | Null | None = At("PV2-8")
    """When an admission is expected."""
    expected_end: Timestamp | Null | None = At("PV2-9")
    """When the discharge from it is expected."""


class Diagnosis(Frozen):
    """A DG1 segment. Before v2.3 the code stood in DG1-3 and the text in DG1-4, as now; the method may stand in DG1-2."""

    set_id: Text = At("DG1[n]-1")
    coding_method: Text = At("DG1[n]-2")
    code: Coded | None = At("DG1[n]-3")
    description: Text = At("DG1[n]-4")
    time: Timestamp | Null | None = At("DG1[n]-5")
    type: Text = At("DG1[n]-6")
    """Diagnosis type (table 0052): A admitting, W working, F final."""
    identifier: Text = At("DG1[n]-20.1")
    action: Text = At("DG1[n]-21")
    """Diagnosis action code (table 0206): A add, D delete, U update."""


class Coverage(Frozen):
    """An IN1 segment."""

    set_id: Text = At("IN1[n]-1")
    plan: Coded | None = At("IN1[n]-2")
    company_id: Identifier | None = At("IN1[n]-3")
    company_name: Text = At("IN1[n]-4.1")
    group_number: Text = At("IN1[n]-8")
    plan_start: Timestamp | Null | None = At("IN1[n]-12")
    plan_end: Timestamp | Null | None = At("IN1[n]-13")
    plan_type: Text = At("IN1[n]-15")
    insured_name: Name | None = At("IN1[n]-16")
    relationship: Text = At("IN1[n]-17.1")
    policy_number: Text = At("IN1[n]-36")
    insured_id: Identifier | None = At("IN1[n]-49")


class EntityIdentifier(Frozen):
    """An EI (v2.5 chapter 2.A.28): the number of an order or of a result."""

    value: Text = At(".1")
    authority: Text = At(".2")
    """Namespace of who gave the number (EI.2)."""
    authority_oid: Text = At(".3")
    authority_oid_type: Text = At(".4")


class Interpreter(Frozen):
    """An NDL (v2.5 chapter 2.A.47), by its first component: who stands in for a result."""

    identifier: Text = At(".1.1")
    family: Text = At(".1.2")
    given: Text = At(".1.3")
    prefix: Text = At(".1.6")
    authority: Text = At(".1.9")
    authority_oid: Text = At(".1.10")


class Observation(Frozen):
    """An OBX segment."""

    nth: int = 0
    """Which OBX of the message it is, from 1."""
    set_id: Text = At("OBX[n]-1")
    value_type: Text = At("OBX[n]-2")
    """Type of the value (table 0125): NM, ST, CWE, …"""
    code: Coded | None = At("OBX[n]-3")
    sub_id: Text = At("OBX[n]-4")
    value: Text = At("OBX[n]-5")
    """The first repetition: the code of a coded one (CE, CWE, CNE), else the whole text."""
    coded: Coded | None = At("OBX[n]-5")
    """The first repetition of a coded one."""
    units: Coded | None = At("OBX[n]-6")
    reference_range: Text = At("OBX[n]-7")
    flags: tuple[Text, ...] = At("OBX[n]-8[r]", ())
    """Abnormal flags (table 0078): L, H, LL, HH, …"""
    status: Text = At("OBX[n]-11")
    """Result status (table 0085): F final, C corrected, D deleted, …"""
    time: Timestamp | Null | None = At("OBX[n]-14")
    observers: tuple[Practitioner, ...] = At("OBX[n]-16[r]", ())


class Report(Frozen):
    """An OBR segment and the OBX that follow it; OBX before any OBR make a report without anything of an OBR."""

    nth: int = 0
    """Which OBR of the message it is, from 1; 0: none."""
    set_id: Text = At("OBR[n]-1")
    placer: EntityIdentifier | None = At("OBR[n]-2")
    filler: EntityIdentifier | None = At("OBR[n]-3")
    code: Coded | None = At("OBR[n]-4")
    observed: Timestamp | Null | None = At("OBR[n]-7")
    observed_end: Timestamp | Null | None = At("OBR[n]-8")
    source: Coded | None = At("OBR[n]-15.1")
    """Specimen source; RoQua's questionnaire key (contracts/roqua.md 8.2)."""
    ordering: tuple[Practitioner, ...] = At("OBR[n]-16[r]", ())
    reported: Timestamp | Null | None = At("OBR[n]-22")
    status: Text = At("OBR[n]-25")
    """Result status (table 0123)."""
    interpreter: Interpreter | None = At("OBR[n]-32")
    observations: tuple[Observation, ...] = At("OBX", ())


class Note(Frozen):
    """An NTE segment."""

    nth: int = 0
    """Which NTE of the message it is, from 1."""
    comment: Text = At("NTE[n]-3")
    """All repetitions, one to a line."""
    type: Coded | None = At("NTE[n]-4")
    """Comment type (table 0364): PI patient instructions, GI general instructions, RE remark, …"""


class Service(Frozen):
    """An AIS segment: what is going to be done."""

    nth: int = 0
    """Which AIS of the message it is, from 1; of the other parts of an appointment the same."""
    action: Text = At("AIS[n]-2")
    """Segment action code (table 0206): A add, D delete, U update."""
    code: Coded | None = At("AIS[n]-3")
    """Universal service identifier."""
    start: Timestamp | Null | None = At("AIS[n]-4")
    offset: Text = At("AIS[n]-5")
    """How long after the start of the appointment."""
    offset_units: Coded | None = At("AIS[n]-6")
    duration: Text = At("AIS[n]-7")
    duration_units: Coded | None = At("AIS[n]-8")
    status: Coded | None = At("AIS[n]-10")
    """Filler status (table 0278)."""
    notes: tuple[Note, ...] = At("NTE", ())


class Resource(Frozen):
    """An AIG segment: equipment, or whatever else is reserved."""

    nth: int = 0
    action: Text = At("AIG[n]-2")
    resource: Coded | None = At("AIG[n]-3")
    type: Coded | None = At("AIG[n]-4")
    group: Coded | None = At("AIG[n]-5")
    start: Timestamp | Null | None = At("AIG[n]-8")
    duration: Text = At("AIG[n]-11")
    duration_units: Coded | None = At("AIG[n]-12")
    status: Coded | None = At("AIG[n]-14")
    notes: tuple[Note, ...] = At("NTE", ())


class Personnel(Frozen):
    """An AIP segment: who is there."""

    nth: int = 0
    action: Text = At("AIP[n]-2")
    person: Practitioner | None = At("AIP[n]-3")
    """The first, where it lists alternatives."""
    type: Coded | None = At("AIP[n]-4")
    group: Coded | None = At("AIP[n]-5")
    start: Timestamp | Null | None = At("AIP[n]-6")
    duration: Text = At("AIP[n]-9")
    duration_units: Coded | None = At("AIP[n]-10")
    status: Coded | None = At("AIP[n]-12")
    notes: tuple[Note, ...] = At("NTE", ())


class Place(Frozen):
    """An AIL segment: where it is."""

    nth: int = 0
    action: Text = At("AIL[n]-2")
    location: Location | None = At("AIL[n]-3")
    type: Coded | None = At("AIL[n]-4")
    group: Coded | None = At("AIL[n]-5")
    start: Timestamp | Null | None = At("AIL[n]-6")
    duration: Text = At("AIL[n]-9")
    duration_units: Coded | None = At("AIL[n]-10")
    status: Coded | None = At("AIL[n]-12")
    notes: tuple[Note, ...] = At("NTE", ())


class Appointment(Frozen):
    """The SCH segment and the resources of all its groups (RGS); of v2.5 and later the TQ1 behind it, where SCH-11 says nothing."""

    placer: EntityIdentifier | None = At("SCH-1")
    filler: EntityIdentifier | None = At("SCH-2")
    occurrence: Text = At("SCH-3")
    schedule: Coded | None = At("SCH-5")
    event_reason: Coded | None = At("SCH-6")
    """Why the event came about (table 0276, of old senders the reason of a cancel)."""
    reason: Coded | None = At("SCH-7")
    type: Coded | None = At("SCH-8")
    """Appointment type (table 0277)."""
    duration: Text = At("SCH-9")
    duration_units: Coded | None = At("SCH-10")
    start: Timestamp | Null | None = At("SCH-11.4")
    end: Timestamp | Null | None = At("SCH-11.5")
    contact: tuple[Practitioner, ...] = At("SCH-16[r]", ())
    """Whom to speak to of the department that planned it (filler contact)."""
    contact_telecoms: tuple[Telecom, ...] = At("SCH-17[r]", ())
    entered_by: tuple[Practitioner, ...] = At("SCH-20[r]", ())
    status: Coded | None = At("SCH-25")
    """Filler status (table 0278): Booked, Complete, Cancelled, Noshow, …"""
    notes: tuple[Note, ...] = At("NTE", ())
    services: tuple[Service, ...] = At("AIS", ())
    resources: tuple[Resource, ...] = At("AIG", ())
    personnel: tuple[Personnel, ...] = At("AIP", ())
    places: tuple[Place, ...] = At("AIL", ())


class Merge(Frozen):
    """An MRG segment: the prior identifiers, which end."""

    identifiers: tuple[Identifier, ...] = At("MRG[n]-1[r]", ())
    account: Identifier | None = At("MRG[n]-3")
    visit: Identifier | None = At("MRG[n]-5")
    names: tuple[Name, ...] = At("MRG[n]-7[r]", ())


class PatientGroup(Frozen):
    """A further PID of the same message with the MRG segments that follow it: an A40 may merge several pairs, an A24 links two."""

    patient: Patient = At("PID[n]")
    prior: tuple[Merge, ...] = At("MRG", ())


class Event(Frozen):
    """One HL7 v2 message as a typed event."""

    type: str = At("MSH-9.1", "")
    """Message type: ADT, SIU, ORU, …"""
    trigger: str = At("MSH-9.2", "")
    """Trigger event: A01, …; from EVN-1 where MSH-9 has none; empty where neither says."""
    structure: Text = At("MSH-9.3")
    version: Text = At("MSH-12.1")
    control_id: Text = At("MSH-10")
    sending_application: Text = At("MSH-3.1")
    sending_facility: Text = At("MSH-4.1")
    receiving_application: Text = At("MSH-5.1")
    receiving_facility: Text = At("MSH-6.1")
    processing_id: Text = At("MSH-11.1")
    message_time: Timestamp | Null | None = At("MSH-7")
    recorded: Timestamp | Null | None = At("EVN-2")
    occurred: Timestamp | Null | None = At("EVN-6")
    patient: Patient | None = At("PID")
    prior: tuple[Merge, ...] = At("MRG", ())
    others: tuple[PatientGroup, ...] = At("PID", ())
    """Further patients of the message (with finding PATIENTS_SEVERAL); all else here belongs to the first."""
    visit: Visit | None = At("PV1")
    diagnoses: tuple[Diagnosis, ...] = At("DG1", ())
    coverages: tuple[Coverage, ...] = At("IN1", ())
    reports: tuple[Report, ...] = At("OBR", ())
    appointment: Appointment | None = At("SCH")

    @property
    def result_status(self) -> str:
        """What all of OBR-25 and OBX-11 say: one status, C of final ones of which some are corrected; empty: nothing, `?`: they contradict each other."""
        said = {report.status for report in self.reports}
        said |= {observation.status for report in self.reports for observation in report.observations}
        told = {status for status in said if isinstance(status, str)}
        if len(told) == 1:
            return told.pop()
        return ("C" if told == {"C", "F"} else CONTRADICTING) if told else ""

    @property
    def time(self) -> Timestamp | None:
        """When it happened, for order: EVN-2, else MSH-7 (RELIABILITY section 2, stale)."""
        for when in (self.recorded, self.message_time):
            if isinstance(when, Timestamp):
                return when
        return None
