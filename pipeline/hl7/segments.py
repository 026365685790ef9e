"""Segments to the members of schemas/event.py: a table for each says which field becomes what, by its number (3 is PID-3).

Plain dicts and tuples, which pydantic takes as they are (see datatypes.py). Only what a message has costs time: empty fields are passed.
"""

from collections.abc import Callable
from typing import Any, Final

from pipeline.hl7.datatypes import Members, Reader, Where
from pipeline.hl7.message import Message

Make = Callable[[Reader, str, Where], Any]
Table = dict[int, tuple[str, Make]]


def _identifier(reader: Reader, raw: str, where: Where) -> Any:  # noqa: ANN401 - Members
    return reader.cx(reader.single(raw), where) or None


def _identifiers(reader: Reader, raw: str, where: Where) -> Any:  # noqa: ANN401 - a tuple of Members
    raws = reader.repetitions(raw)
    return tuple([members for at, each in enumerate(raws, 1) if (members := reader.cx(each, where, at))]) or None


def _one(read: Callable[[Reader, str], Members]) -> Make:
    """The first repetition, by the function of its type."""
    return lambda reader, raw, _where: read(reader, reader.single(raw)) or None


def _all(read: Callable[[Reader, str], Members]) -> Make:
    """Each repetition that has something in it."""
    return lambda reader, raw, _where: tuple([got for each in reader.repetitions(raw) if (got := read(reader, each))]) or None


_COMPOSITE: Final = {
    name: (_one(read), _all(read))
    for name, read in (
        ("xpn", Reader.xpn),
        ("xad", Reader.xad),
        ("xtn", Reader.xtn),
        ("ce", Reader.ce),
        ("xcn", Reader.xcn),
        ("pl", Reader.pl),
    )
}
_NAME, _NAMES = _COMPOSITE["xpn"]
_CODED, _CODEDS = _COMPOSITE["ce"]
_, _ADDRESSES = _COMPOSITE["xad"]
_, _TELECOMS = _COMPOSITE["xtn"]
_, _PRACTITIONERS = _COMPOSITE["xcn"]
_LOCATION, _ = _COMPOSITE["pl"]
_WORK_TELECOMS: Final = _all(lambda reader, raw: reader.xtn(raw, "WPN"))

_MSH: Final[Table] = {
    3: ("sending_application", Reader.first),
    4: ("sending_facility", Reader.first),
    5: ("receiving_application", Reader.first),
    6: ("receiving_facility", Reader.first),
    7: ("message_time", Reader.time),
    9: ("kind", _CODED),
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
    18: ("patient_type", Reader.first),
    19: ("number", _identifier),
    20: ("financial_class", Reader.first),
    36: ("discharge_disposition", Reader.first),
    44: ("admitted", Reader.time),
    45: ("discharged", Reader.time),
    50: ("alternate_id", _identifier),
}
_PV2: Final[Table] = {3: ("admit_reason", _CODED)}
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
_MRG: Final[Table] = {
    1: ("identifiers", _identifiers),
    3: ("account", _identifier),
    5: ("visit", _identifier),
    7: ("names", _NAMES),
}
_MRG_OLD: Final[Table] = {4: ("identifiers", _identifiers)}


def header(message: Message, reader: Reader) -> Members:
    """MSH and EVN. The trigger is MSH-9.2, else EVN-1."""
    members = _read(message, reader, "MSH", 1, _MSH)
    event = _read(message, reader, "EVN", 1, _EVN)
    kind = members.pop("kind", {})
    members["type"] = kind.get("code") or ""
    members["structure"] = kind.get("system")
    members["trigger"] = kind.get("text") or event.pop("trigger", None) or ""
    event.pop("trigger", None)
    return members | event


def patient(message: Message, reader: Reader, nth: int) -> Members:
    """PID. PID-2, the external id of old versions, stands in where PID-3 has nothing."""
    members = _read(message, reader, "PID", nth, _PID)
    return members if "identifiers" in members else members | _read(message, reader, "PID", nth, _PID_OLD)


def visit(message: Message, reader: Reader, pv1: int, pv2: int) -> Members:
    """PV1 and PV2, by their numbers."""
    return _read(message, reader, "PV1", pv1, _PV1) | _read(message, reader, "PV2", pv2, _PV2)


def diagnosis(message: Message, reader: Reader, nth: int) -> Members:
    """DG1."""
    return _read(message, reader, "DG1", nth, _DG1)


def coverage(message: Message, reader: Reader, nth: int) -> Members:
    """IN1."""
    return _read(message, reader, "IN1", nth, _IN1)


def merge(message: Message, reader: Reader, nth: int) -> Members:
    """MRG. MRG-4, the prior external id of old versions, stands in where MRG-1 has nothing."""
    members = _read(message, reader, "MRG", nth, _MRG)
    return members if "identifiers" in members else members | _read(message, reader, "MRG", nth, _MRG_OLD)


def _read(message: Message, reader: Reader, segment: str, nth: int, table: Table) -> Members:
    members: Members = {}
    for number, raw in enumerate(message.fields(segment, nth)):
        if raw and number in table:
            name, make = table[number]
            value = make(reader, raw, (segment, nth, number))
            if value is not None:
                members[name] = value
    return members
