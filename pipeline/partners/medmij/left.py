"""What is left of what an appointment needs (AIS, AIP, AIL, AIG), once a message has deleted parts of it. No I/O, no settings.

HL7 v2.5 chapter 10: S18 to S22 are about a service or a resource of an appointment that goes on; a segment of what is deleted has the action code D (AIS-2,
table 0206), what is cancelled or discontinued its filler status (table 0278).
"""

from collections.abc import Sequence
from typing import Final, TypeVar

from schemas.event import Appointment, Personnel, Place, Resource, Service

WHOLE: Final = frozenset({"S15", "S16", "S17"})
"""Of these the whole appointment goes, with all its parts: it is shown as it was."""
OVER: Final = frozenset({"CANCELLED", "CANCELED", "DC", "DELETED"})
Part = TypeVar("Part", bound=Service | Resource | Personnel | Place)


def is_left(one: Service | Resource | Personnel | Place, trigger: str) -> bool:
    """Whether it still belongs to the appointment. Who or what is cancelled was to take part, and shows as declined; what is deleted was not."""
    return trigger in WHOLE or not (str(one.action or "").upper() == "D" or _status(one) == "DELETED")


def going_on(parts: Sequence[Part]) -> Sequence[Part]:
    """Those that take place; where none does, all."""
    return [one for one in parts if str(one.action or "").upper() != "D" and _status(one) not in OVER] or parts


def service_status(booked: Appointment) -> str | None:
    """The filler status (AIS-10) that all services have which are left: that of one says nothing of the appointment."""
    services = [one for one in booked.services if str(one.action or "").upper() != "D"] or booked.services
    told = {str(one.status.code) if one.status and one.status.code else "" for one in services}
    return told.pop() or None if len(told) == 1 else None


def description(booked: Appointment) -> str | None:
    """What is done, by the first service that takes place."""
    first = next(iter(going_on(booked.services)), None)
    return str(first.code.text) if first and first.code and first.code.text else None


def _status(one: Service | Resource | Personnel | Place) -> str:
    return str((one.status.code if one.status else None) or "").upper()
