"""The transport of partner `medmij`: a request becomes a change of the store. No network; NotSent where the store cannot be reached.

PUT /Appointment/{id} with a collection of the Appointment and what it references; headers `x-patient` (system|value, once for each identifier),
`x-event-ms`, `x-position` (topic/partition/offset). Answers: 201 created, 200 updated, 412 something newer is there, 409 the identifiers are two
persons' (or the appointment is another's), 400, 404, 405. No header, id or body is in any error.
"""

import re
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from pipeline.appointments.changes import Unusable, change_of, keys_of
from pipeline.appointments.port import Change, Put, Store
from pipeline.errors import NotSent, StoreError
from pipeline.model import Clock, Position, Reply, Request
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import Reason

STATUS: Final = {Put.CREATED: 201, Put.UPDATED: 200, Put.STALE: 412, Put.CONFLICT: 409}
PATH: Final = re.compile(r"/Appointment/([A-Za-z0-9.\-]{1,64})")
PATIENT: Final = "x-patient"
EVENT: Final = "x-event-ms"
POSITION: Final = "x-position"


class StoreTransport:
    """A Transport (transport/port.py) into the store."""

    def __init__(self, store: Store, pseudonyms: Pseudonyms, clock: Clock) -> None:
        self._store, self._pseudonyms, self._clock = store, pseudonyms, clock

    def exchange(self, request: Request) -> Reply:
        """See Transport."""
        sent_ms, begun = self._clock(), time.monotonic()
        status = self._status(request)
        elapsed = (time.monotonic() - begun) * 1000
        return Reply(status, {}, b"", elapsed, sent_ms, self._clock())

    def _status(self, request: Request) -> int:
        path = PATH.fullmatch(request.path)
        if path is None:
            return 404
        if request.method != "PUT":
            return 405
        try:
            change = self._change(request, path[1])
        except Unusable:
            return 400
        try:
            return STATUS[self._store.put(change)]
        except StoreError as error:
            raise _away(error) from None

    def _change(self, request: Request, appointment: str) -> Change:
        headers: dict[str, list[str]] = {}
        for name, value in request.headers:
            headers.setdefault(name.lower(), []).append(value)
        identifiers = [(system, value) for system, _, value in (each.partition("|") for each in headers.get(PATIENT, ()))]
        return change_of(
            _resources(request.body),
            appointment,
            keys_of(identifiers, self._pseudonyms),
            _event_ms(headers.get(EVENT, ())[:1]),
            _position(headers.get(POSITION, ())[:1]),
        )

    def knock(self) -> None:
        """See Knock."""
        try:
            self._store.person("")
        except StoreError as error:
            raise _away(error) from None

    def close(self) -> None:
        """Let go of connections."""
        self._store.close()


def _away(error: StoreError) -> NotSent:
    return NotSent(Reason.NOT_SENT_CONNECT, str(error))


def _resources(body: bytes) -> list[dict[str, Any]]:
    try:
        bundle = orjson.loads(body)
        resources = [entry["resource"] for entry in bundle["entry"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Unusable("no bundle") from None
    if not all(isinstance(each, dict) for each in resources):
        raise Unusable("no bundle of resources")
    return resources


def _event_ms(given: Sequence[str]) -> int:
    match given:
        case [text] if re.fullmatch(r"-?\d{1,15}", text):
            return int(text)
        case _:
            raise Unusable("no event time")


def _position(given: Sequence[str]) -> Position | None:
    match given:
        case [text] if found := re.fullmatch(r"(.+)/(\d+)/(\d+)", text):
            return Position(found[1], int(found[2]), int(found[3]))
        case [_]:
            raise Unusable("no position")
        case _:
            return None
