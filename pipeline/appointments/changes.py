"""From FHIR to a change of the store: an appointment, what it references, whose it is. No I/O, and no value in any error."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from pipeline.appointments.bsns import BSN
from pipeline.appointments.port import Change, Key, Says
from pipeline.ids import uuid5
from pipeline.model import Position, Resource
from pipeline.pseudonyms import Pseudonyms

OWN: Final = bytes.fromhex("e1c2b7a09d5f5d0f8a3c6b2e4f7d9013")
"""Namespace of the ids of copies (RFC 9562 section 5.5)."""
EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
Place = tuple[str, str]


class Unusable(Exception):
    """What cannot become a change; its text names no value."""


def keys_of(identifiers: Iterable[tuple[str, str]], pseudonyms: Pseudonyms) -> tuple[Key, ...]:
    """The keyed hashes of identifiers (system, value)."""
    found = dict.fromkeys((system.strip(), value.strip()) for system, value in identifiers)
    return tuple(Key(pseudonyms.person(system, value), sole=system == BSN) for system, value in found if system and value)


def change_of(
    resources: Iterable[Resource], appointment: str, keys: tuple[Key, ...], event_ms: int | None, position: Position | None
) -> Change:
    """A version of the appointment with that id. Unusable where it is not among the resources, or two of them are one."""
    found: dict[Place, Mapping[str, Any]] = {}
    for each in resources:
        place = (str(each.get("resourceType", "")), str(each.get("id", "")))
        if not all(place):
            raise Unusable("a resource has no type or no id")
        if place in found and found[place] != each:
            raise Unusable(f"two resources of type {place[0]} have one id")
        found[place] = each
    if ("Appointment", appointment) not in found:
        raise Unusable("the appointment itself is missing")
    if not keys:
        raise Unusable("no identifier of the patient")
    start = found["Appointment", appointment].get("start")
    return Change(
        appointment=appointment,
        keys=keys,
        event_ms=event_ms,
        position=position,
        start_ms=None if start is None else instant_ms(start),
        resources={place: orjson.dumps(each) for place, each in found.items()},
    )


def own_id(change: Change) -> str | None:
    """The id of its patient's own copy of it; None where it has no patient."""
    patient = next((name for kind, name in change.resources if kind == "Patient"), None)
    return copy_id(change.appointment, patient) if patient else None


def copy_id(appointment: str, patient: str) -> str:
    """The id of the copy that came with this Patient."""
    return uuid5(OWN, f"{appointment}\0{patient}".encode())


def as_own(change: Change) -> Change:
    """The same under the id of the patient's own copy."""
    assert change.own is not None  # noqa: S101 - asked for by whoever looked
    resources = dict(change.resources)
    body = as_id(resources.pop(("Appointment", change.appointment)), change.own)
    return replace(
        change, appointment=change.own, copy_of=change.appointment, resources={("Appointment", change.own): body, **resources}
    )


def as_id(appointment: bytes, name: str) -> bytes:
    """The same under another id."""
    return orjson.dumps(orjson.loads(appointment) | {"id": name})


def named_only(patient: bytes, name: str, appointment: bytes) -> bytes:
    """A Patient of whom nothing is told but the name that this appointment shows."""
    profiles = orjson.loads(patient).get("meta", {}).get("profile")
    actors = [one.get("actor", {}) for one in orjson.loads(appointment).get("participant", ())]
    shown = [one["display"] for one in actors if one.get("reference") == f"Patient/{name}" and "display" in one]
    meta = {"meta": {"profile": profiles}} if profiles else {}
    return orjson.dumps({"resourceType": "Patient", "id": name, **meta, **({"name": [{"text": shown[0]}]} if shown else {})})


def is_over(body: bytes) -> bool:
    """Whether nobody goes on seeing it as booked."""
    return orjson.loads(body).get("status") in {"cancelled", "entered-in-error"}


def books(change: Change) -> bool:
    """Whether it says that somebody is to come, and takes nothing back."""
    status = orjson.loads(change.resources["Appointment", change.appointment]).get("status")
    return status in {"proposed", "pending", "booked"} and change.says is not Says.AGAIN


def with_body(change: Change, body: bytes) -> Change:
    """The same with another body of the appointment, and its start."""
    place = ("Appointment", change.appointment)
    if body == change.resources[place]:
        return change
    start = orjson.loads(body).get("start")
    return replace(change, start_ms=start and instant_ms(start), resources={**change.resources, place: body})


def instant_ms(text: object) -> int:
    """A FHIR instant in milliseconds since 1970; finer digits are dropped."""
    try:
        when = datetime.fromisoformat(str(text))
        return (when - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError, OverflowError):
        raise Unusable("a start or a time that is no instant") from None
