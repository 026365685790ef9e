"""Segments to the parts of schemas/event.py: a table for each says which field becomes what, by its number (3 is PID-3).

Only what a message has costs time, and only what somebody reads: empty fields are passed, and of the tables those rows are taken that
`Chosen` names (see event.py, `only`).
"""

from functools import lru_cache
from typing import Final, NamedTuple

from pipeline.hl7.datatypes import Reader, Where
from pipeline.hl7.fields import Fields, Table, each_of, fields_of, one, read
from pipeline.hl7.message import Message
from pipeline.hl7.parts import Members, absent, built
from schemas.event import (
    Address,
    Coded,
    Coverage,
    Diagnosis,
    EntityIdentifier,
    Event,
    Frozen,
    Identifier,
    Interpreter,
    Location,
    Merge,
    Name,
    Observation,
    Patient,
    PatientGroup,
    Practitioner,
    Report,
    Telecom,
    Text,
    Visit,
)

_NO_IDENTIFIER: Final = absent(Identifier)


def _identifier(reader: Reader, raw: str, where: Where) -> Identifier | None:
    members = reader.cx(reader.single(raw), where)
    return built(Identifier, _NO_IDENTIFIER, members) if members else None


def _identifiers(reader: Reader, raw: str, where: Where) -> tuple[Identifier, ...] | None:
    raws = reader.repetitions(raw)
    read = [members for at, each in enumerate(raws, 1) if (members := reader.cx(each, where, at))]
    return tuple([built(Identifier, _NO_IDENTIFIER, members) for members in read]) or None


_NAME, _NAMES = one(Name, Reader.xpn), each_of(Name, Reader.xpn)
_CODED, _CODEDS = one(Coded, Reader.ce), each_of(Coded, Reader.ce)
_ADDRESSES: Final = each_of(Address, Reader.xad)
_TELECOMS: Final = each_of(Telecom, Reader.xtn)
_WORK_TELECOMS: Final = each_of(Telecom, lambda reader, raw: reader.xtn(raw, "WPN"))
_PRACTITIONERS: Final = each_of(Practitioner, Reader.xcn)
_LOCATION: Final = one(Location, Reader.pl)
_ENTITY: Final = one(EntityIdentifier, Reader.ei)
_INTERPRETER: Final = one(Interpreter, Reader.ndl)
_SPECIMEN: Final = one(Coded, Reader.sps)


def _kind(reader: Reader, raw: str, _where: Where) -> Members:
    """MSH-9: message type, trigger event, structure."""
    return reader.ce(reader.single(raw))


def _texts(reader: Reader, raw: str, _where: Where) -> tuple[Text, ...] | None:
    """Each repetition, by its first part."""
    return tuple([text for each in reader.repetitions(raw) if (text := reader.first(each)) is not None]) or None


def _whole(reader: Reader, raw: str, _where: Where) -> Text:
    """The first repetition with all that is in it: what it is made of, this program does not know."""
    return reader.text(reader.single(raw))


_MSH: Final[Table] = {
    3: ("sending_application", Reader.first),
    4: ("sending_facility", Reader.first),
    5: ("receiving_application", Reader.first),
    6: ("receiving_facility", Reader.first),
    7: ("message_time", Reader.time),
    9: ("kind", _kind),
    10: ("control_id", Reader.first),
    11: ("processing_id", Reader.first),
    12: ("version", Reader.first),
}
_EVN: Final[Table] = {1: ("trigger", Reader.first), 2: ("recorded", Reader.time), 6: ("occurred", Reader.time)}
_PID: Final[Table] = {
    3: ("identifiers", _identifiers),
    4: ("alternate_identifiers", _identifiers),
    5: ("names", _NAMES),
    6: ("mother_maiden_name", Reader.first),
    7: ("birth", Reader.time),
    8: ("gender", Reader.first),
    9: ("aliases", _NAMES),
    10: ("race", _CODEDS),
    11: ("addresses", _ADDRESSES),
    13: ("home_telecoms", _TELECOMS),
    14: ("work_telecoms", _WORK_TELECOMS),
    15: ("language", _CODED),
    16: ("marital_status", _CODED),
    18: ("account", _identifier),
    19: ("ssn", Reader.first),
    22: ("ethnic_group", _CODEDS),
    24: ("multiple_birth", Reader.first),
    25: ("birth_order", Reader.first),
    28: ("nationality", _CODED),
    29: ("death", Reader.time),
    30: ("death_indicator", Reader.first),
    33: ("last_update", Reader.time),
}
_PID_OLD: Final[Table] = {2: ("identifiers", _identifiers)}
_PV1: Final[Table] = {
    2: ("patient_class", Reader.first),
    3: ("location", _LOCATION),
    4: ("admission_type", Reader.first),
    6: ("prior_location", _LOCATION),
    7: ("attending", _PRACTITIONERS),
    8: ("referring", _PRACTITIONERS),
    9: ("consulting", _PRACTITIONERS),
    10: ("hospital_service", Reader.first),
    14: ("admit_source", Reader.first),
    17: ("admitting", _PRACTITIONERS),
    18: ("patient_type", Reader.first),
    19: ("number", _identifier),
    20: ("financial_class", Reader.first),
    36: ("discharge_disposition", Reader.first),
    44: ("admitted", Reader.time),
    45: ("discharged", Reader.time),
    50: ("alternate_id", _identifier),
}
_PV2: Final[Table] = {3: ("admit_reason", _CODED), 8: ("expected", Reader.time), 9: ("expected_end", Reader.time)}
_DG1: Final[Table] = {
    1: ("set_id", Reader.first),
    2: ("coding_method", Reader.first),
    3: ("code", _CODED),
    4: ("description", Reader.first),
    5: ("time", Reader.time),
    6: ("type", Reader.first),
    20: ("identifier", Reader.first),
    21: ("action", Reader.first),
}
_IN1: Final[Table] = {
    1: ("set_id", Reader.first),
    2: ("plan", _CODED),
    3: ("company_id", _identifier),
    4: ("company_name", Reader.first),
    8: ("group_number", Reader.first),
    12: ("plan_start", Reader.time),
    13: ("plan_end", Reader.time),
    15: ("plan_type", Reader.first),
    16: ("insured_name", _NAME),
    17: ("relationship", Reader.first),
    36: ("policy_number", Reader.first),
    49: ("insured_id", _identifier),
}
_OBR: Final[Table] = {
    1: ("set_id", Reader.first),
    2: ("placer", _ENTITY),
    3: ("filler", _ENTITY),
    4: ("code", _CODED),
    7: ("observed", Reader.time),
    8: ("observed_end", Reader.time),
    15: ("source", _SPECIMEN),
    16: ("ordering", _PRACTITIONERS),
    22: ("reported", Reader.time),
    25: ("status", Reader.first),
    32: ("interpreter", _INTERPRETER),
}
_OBX: Final[Table] = {
    1: ("set_id", Reader.first),
    2: ("value_type", Reader.first),
    3: ("code", _CODED),
    4: ("sub_id", Reader.first),
    6: ("units", _CODED),
    7: ("reference_range", Reader.first),
    8: ("flags", _texts),
    11: ("status", Reader.first),
    14: ("time", Reader.time),
    16: ("observers", _PRACTITIONERS),
}
_OBX_TEXT: Final[Table] = {5: ("value", _whole)}
_OBX_CODE: Final[Table] = {5: ("value", Reader.first)}
_OBX_CODED: Final[Table] = {5: ("coded", _CODED)}
_CODED_TYPES: Final = frozenset({"CE", "CWE", "CNE"})
"""Of OBX-2: the value is a code."""
_MRG: Final[Table] = {
    1: ("identifiers", _identifiers),
    3: ("account", _identifier),
    5: ("visit", _identifier),
    7: ("names", _NAMES),
}
_MRG_OLD: Final[Table] = {4: ("identifiers", _identifiers)}


class Chosen(NamedTuple):
    """What is read of a message."""

    event: Members
    """Names of schemas.event.Event that are read, with what they are where nothing is said."""
    group: Members
    """The same of PatientGroup."""
    msh: Fields
    evn: Fields
    pid: Fields
    pid_old: Fields
    pv1: Fields
    pv2: Fields
    dg1: Fields
    in1: Fields
    obr: Fields
    obx: Fields
    obx_text: Fields
    obx_code: Fields
    obx_coded: Fields
    mrg: Fields
    mrg_old: Fields


@lru_cache(maxsize=64)
def chosen(only: frozenset[str] | None) -> Chosen:
    """The rows whose names are in `only`, wherever they stand; None: all."""

    def fields(table: Table, model: type[Frozen], *always: str) -> Fields:
        return fields_of(table, model, only, *always)

    return Chosen(
        event=absent(Event, only),
        group=absent(PatientGroup, only),
        msh=fields(_MSH, Event, "kind"),
        evn=fields(_EVN, Event, "trigger"),
        pid=fields(_PID, Patient),
        pid_old=fields(_PID_OLD, Patient),
        pv1=fields(_PV1, Visit),
        pv2=fields(_PV2, Visit),
        dg1=fields(_DG1, Diagnosis),
        in1=fields(_IN1, Coverage),
        obr=fields(_OBR, Report),
        obx=fields(_OBX, Observation),
        obx_text=fields(_OBX_TEXT, Observation),
        obx_code=fields(_OBX_CODE, Observation),
        obx_coded=fields(_OBX_CODED, Observation),
        mrg=fields(_MRG, Merge),
        mrg_old=fields(_MRG_OLD, Merge),
    )


def header(message: Message, reader: Reader, what: Chosen) -> Members:
    """MSH and EVN. The trigger is MSH-9.2, else EVN-1."""
    members = read(message, reader, "MSH", 1, what.msh)
    event = read(message, reader, "EVN", 1, what.evn)
    kind = members.pop("kind", {})
    told = event.pop("trigger", None)
    said = {"type": kind.get("code") or "", "trigger": kind.get("text") or told or "", "structure": kind.get("system")}
    return members | event | {name: text for name, text in said.items() if name in what.event}


def patient(message: Message, reader: Reader, nth: int, what: Chosen) -> Patient:
    """PID. PID-2, the external id of old versions, stands in where PID-3 has nothing."""
    members = read(message, reader, "PID", nth, what.pid)
    if "identifiers" not in members:
        members |= read(message, reader, "PID", nth, what.pid_old)
    return built(Patient, what.pid.missing, members)


def visit(message: Message, reader: Reader, pv1: int, pv2: int, what: Chosen) -> Visit:
    """PV1 and PV2, by their numbers."""
    members = read(message, reader, "PV1", pv1, what.pv1) | read(message, reader, "PV2", pv2, what.pv2)
    return built(Visit, what.pv1.missing, members)


def diagnosis(message: Message, reader: Reader, nth: int, what: Chosen) -> Diagnosis:
    """DG1."""
    return built(Diagnosis, what.dg1.missing, read(message, reader, "DG1", nth, what.dg1))


def coverage(message: Message, reader: Reader, nth: int, what: Chosen) -> Coverage:
    """IN1."""
    return built(Coverage, what.in1.missing, read(message, reader, "IN1", nth, what.in1))


def report(message: Message, reader: Reader, nth: int, observations: list[int], what: Chosen) -> Report:
    """OBR (0: none) and its OBX, by their numbers."""
    members = read(message, reader, "OBR", nth, what.obr) if nth else {}
    if observations and "observations" in what.obr.missing:
        members["observations"] = tuple([_observation(message, reader, each, what) for each in observations])
    return built(Report, what.obr.missing, members | {"nth": nth})


def _observation(message: Message, reader: Reader, nth: int, what: Chosen) -> Observation:
    """OBX. What OBX-5 is, OBX-2 tells."""
    coded = message.field("OBX", nth, 2).strip() in _CODED_TYPES
    members: Members = {"nth": nth}
    for fields in (what.obx, what.obx_code, what.obx_coded) if coded else (what.obx, what.obx_text):
        members |= read(message, reader, "OBX", nth, fields)
    return built(Observation, what.obx.missing, members)


def merge(message: Message, reader: Reader, nth: int, what: Chosen) -> Merge:
    """MRG. MRG-4, the prior external id of old versions, stands in where MRG-1 has nothing."""
    members = read(message, reader, "MRG", nth, what.mrg)
    if "identifiers" not in members:
        members |= read(message, reader, "MRG", nth, what.mrg_old)
    return built(Merge, what.mrg.missing, members)
