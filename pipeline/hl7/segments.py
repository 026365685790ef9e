"""Segments to the members of schemas/event.py: each function names the fields that it reads by their number. Plain dicts, see datatypes.py.

A segment comes as its raw fields (its name at 0, so [3] is PID-3) and its number among those of its name, for the places in findings.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from pipeline.hl7.datatypes import Members, Reader
from pipeline.hl7.message import Message

Fields = Sequence[str]
Names = tuple[tuple[int, str], ...]

_MSH: Final[Names] = (
    (3, "sending_application"),
    (4, "sending_facility"),
    (5, "receiving_application"),
    (6, "receiving_facility"),
    (10, "control_id"),
    (11, "processing_id"),
    (12, "version"),
)
_PID: Final[Names] = (
    (6, "mother_maiden_name"),
    (8, "gender"),
    (19, "ssn"),
    (24, "multiple_birth"),
    (25, "birth_order"),
    (30, "death_indicator"),
)
_PV1: Final[Names] = (
    (2, "patient_class"),
    (4, "admission_type"),
    (10, "hospital_service"),
    (14, "admit_source"),
    (18, "patient_type"),
    (20, "financial_class"),
    (36, "discharge_disposition"),
)
_DG1: Final[Names] = (
    (1, "set_id"),
    (2, "coding_method"),
    (4, "description"),
    (6, "type"),
    (20, "identifier"),
    (21, "action"),
)
_IN1: Final[Names] = (
    (1, "set_id"),
    (4, "company_name"),
    (8, "group_number"),
    (15, "plan_type"),
    (17, "relationship"),
    (36, "policy_number"),
)


def header(message: Message, reader: Reader) -> Members:
    """MSH and EVN. The trigger is MSH-9.2, else EVN-1."""
    fields = message.fields("MSH")
    members = texts(reader, fields, _MSH)
    members["message_time"] = time_of(reader, fields, "MSH", 1, 7)
    kind = one_of(reader, fields, 9, reader.ce) or {}
    members["type"] = kind.get("code") or ""
    members["structure"] = kind.get("system")
    trigger = kind.get("text")
    event = message.fields("EVN")
    if event:
        members["recorded"] = time_of(reader, event, "EVN", 1, 2)
        members["occurred"] = time_of(reader, event, "EVN", 1, 6)
        trigger = trigger or (reader.first(event[1]) if len(event) > 1 else None)
    members["trigger"] = trigger or ""
    return members


def patient(reader: Reader, fields: Fields, nth: int) -> Members:
    """PID. PID-2, the external id of old versions, stands in where PID-3 has nothing."""
    members = texts(reader, fields, _PID)
    identifiers = identifiers_of(reader, fields, "PID", nth, 3) or identifiers_of(reader, fields, "PID", nth, 2)
    put(members, "identifiers", identifiers)
    put(members, "alternate_identifiers", identifiers_of(reader, fields, "PID", nth, 4))
    put(members, "names", all_of(reader, fields, 5, reader.xpn))
    put(members, "birth", time_of(reader, fields, "PID", nth, 7))
    put(members, "addresses", all_of(reader, fields, 11, reader.xad))
    put(members, "home_telecoms", all_of(reader, fields, 13, reader.xtn))
    if len(fields) > 14:  # noqa: PLR2004 - most messages end before
        put(members, "work_telecoms", all_of(reader, fields, 14, lambda raw: reader.xtn(raw, "WPN")))
        put(members, "language", one_of(reader, fields, 15, reader.ce))
        put(members, "marital_status", one_of(reader, fields, 16, reader.ce))
        put(members, "account", identifier_of(reader, fields, "PID", nth, 18))
        put(members, "ethnic_group", all_of(reader, fields, 22, reader.ce))
        put(members, "nationality", one_of(reader, fields, 28, reader.ce))
        put(members, "death", time_of(reader, fields, "PID", nth, 29))
        put(members, "last_update", time_of(reader, fields, "PID", nth, 33))
    put(members, "aliases", all_of(reader, fields, 9, reader.xpn))
    put(members, "race", all_of(reader, fields, 10, reader.ce))
    return members


def visit(reader: Reader, pv1: Fields, pv2: Fields, nth: int) -> Members:
    """PV1, the `nth`, and PV2."""
    members = texts(reader, pv1, _PV1)
    put(members, "location", one_of(reader, pv1, 3, reader.pl))
    put(members, "prior_location", one_of(reader, pv1, 6, reader.pl))
    put(members, "attending", all_of(reader, pv1, 7, reader.xcn))
    put(members, "referring", all_of(reader, pv1, 8, reader.xcn))
    put(members, "consulting", all_of(reader, pv1, 9, reader.xcn))
    put(members, "number", identifier_of(reader, pv1, "PV1", nth, 19))
    put(members, "admitted", time_of(reader, pv1, "PV1", nth, 44))
    put(members, "discharged", time_of(reader, pv1, "PV1", nth, 45))
    put(members, "alternate_id", identifier_of(reader, pv1, "PV1", nth, 50))
    put(members, "admit_reason", one_of(reader, pv2, 3, reader.ce))
    return members


def diagnosis(reader: Reader, fields: Fields, nth: int) -> Members:
    """DG1."""
    members = texts(reader, fields, _DG1)
    put(members, "code", one_of(reader, fields, 3, reader.ce))
    put(members, "time", time_of(reader, fields, "DG1", nth, 5))
    return members


def coverage(reader: Reader, fields: Fields, nth: int) -> Members:
    """IN1."""
    members = texts(reader, fields, _IN1)
    put(members, "plan", one_of(reader, fields, 2, reader.ce))
    put(members, "company_id", identifier_of(reader, fields, "IN1", nth, 3))
    put(members, "plan_start", time_of(reader, fields, "IN1", nth, 12))
    put(members, "plan_end", time_of(reader, fields, "IN1", nth, 13))
    put(members, "insured_name", one_of(reader, fields, 16, reader.xpn))
    put(members, "insured_id", identifier_of(reader, fields, "IN1", nth, 49))
    return members


def merge(reader: Reader, fields: Fields, nth: int) -> Members:
    """MRG. MRG-4, the prior external id of old versions, stands in where MRG-1 has nothing."""
    members: Members = {}
    identifiers = identifiers_of(reader, fields, "MRG", nth, 1) or identifiers_of(reader, fields, "MRG", nth, 4)
    put(members, "identifiers", identifiers)
    put(members, "account", identifier_of(reader, fields, "MRG", nth, 3))
    put(members, "visit", identifier_of(reader, fields, "MRG", nth, 5))
    put(members, "names", all_of(reader, fields, 7, reader.xpn))
    return members


def put(members: Members, name: str, value: object) -> None:
    """Set what is there: None and an empty list are not."""
    if value is not None and value != []:
        members[name] = value


def texts(reader: Reader, fields: Sequence[str], names: tuple[tuple[int, str], ...]) -> Members:
    """Fields of which one text is wanted, by name."""
    members: Members = {}
    count = len(fields)
    for number, name in names:
        if number < count and fields[number] and (value := reader.first(fields[number])) is not None:
            members[name] = value
    return members


def time_of(reader: Reader, fields: Sequence[str], segment: str, nth: int, number: int) -> Any:  # noqa: ANN401 - as Reader.time
    """A timestamp field."""
    return reader.time(fields[number], segment, nth, number) if number < len(fields) else None


def all_of(reader: Reader, fields: Sequence[str], number: int, make: Callable[[str], Members]) -> list[Members]:
    """The repetitions of a field that have something in them."""
    if number >= len(fields) or not fields[number]:
        return []
    return [members for raw in reader.repetitions(fields[number]) if (members := make(raw))]


def one_of(reader: Reader, fields: Sequence[str], number: int, make: Callable[[str], Members]) -> Members | None:
    """The first repetition of a field; None of an empty one."""
    if number >= len(fields) or not fields[number]:
        return None
    return make(reader.single(fields[number])) or None


def identifiers_of(reader: Reader, fields: Sequence[str], segment: str, nth: int, number: int) -> list[Members]:
    """The repetitions of a CX field that have something in them."""
    if number >= len(fields) or not fields[number]:
        return []
    raws = reader.repetitions(fields[number])
    return [members for at, raw in enumerate(raws, 1) if (members := reader.cx(raw, segment, nth, number, at))]


def identifier_of(reader: Reader, fields: Sequence[str], segment: str, nth: int, number: int) -> Members | None:
    """The first repetition of a CX field; None of an empty one."""
    if number >= len(fields) or not fields[number]:
        return None
    return reader.cx(reader.single(fields[number]), segment, nth, number) or None
