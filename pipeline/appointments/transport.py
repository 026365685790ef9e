"""The transport of partner `medmij`: a request becomes a change of the store. No network; NotSent where the store cannot be reached.

PUT /Appointment/{id} with a collection of the Appointment and what it references; headers `x-patient` (system|value, once for each identifier),
`x-event-ms` (left out: not known), `x-position` (topic/partition/offset), `x-shared` (true: it may have several patients, each with a copy of its own),
`x-says` (what its status counts for: port.Says; left out: it is the status), `x-announces` (false: it shows only where it is there already). A time that is
not told and that FHIR wants is marked (`_start`, data-absent-reason). Answers: 201 created, 200 updated, 202 remembered, for when it is announced, 412
something newer is there, which says all that this does, 409 the identifiers are two persons', 403 the appointment is another's, 422 nothing ever told its
time, 400, 404, 405.
POST /Person/$merge with `x-prior` (the identifiers that end) beside those headers, and no body. Answers: 201 and 200 they are one, 412 a person parted
them since, 409 they are two persons by their BSNs. No header, id or body is in any error.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from pipeline.appointments.bsns import known, without
from pipeline.appointments.changes import Unusable, change_of, keys_of, own_id
from pipeline.appointments.port import Key, Merge, Put, Says, Store
from pipeline.errors import NotSent, StoreError
from pipeline.model import Clock, Position, Reply, Request
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import Reason

STATUS: Final = {
    Put.CREATED: 201,
    Put.UPDATED: 200,
    Put.REMEMBERED: 202,
    Put.STALE: 412,
    Put.CONFLICT: 409,
    Put.ANOTHERS: 403,
    Put.UNTIMED: 422,
}
MERGE: Final = "/Person/$merge"
PATH: Final = re.compile(r"/Appointment/([A-Za-z0-9.\-]{1,64})")
PATIENT: Final = "x-patient"
PRIOR: Final = "x-prior"
EVENT: Final = "x-event-ms"
POSITION: Final = "x-position"
SHARED: Final = "x-shared"
SAYS: Final = "x-says"
ANNOUNCES: Final = "x-announces"


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
        if path is None and request.path != MERGE:
            return 404
        if request.method != ("PUT" if path else "POST"):
            return 405
        try:
            put = self._put(request, path[1]) if path else self._merge(request)
        except Unusable:
            return 400
        except StoreError as error:
            raise _away(error) from None
        return STATUS[put]

    def _put(self, request: Request, appointment: str) -> Put:
        headers = _headers(request)
        bsns = known(_identifiers(headers, PATIENT))
        change = change_of(
            [without(each, bsns) for each in _resources(request.body)],
            appointment,
            self._keys(headers, PATIENT),
            _event_ms(headers.get(EVENT, ())[:1]),
            _position(headers.get(POSITION, ())[:1]),
        )
        shared, hidden = headers.get(SHARED) == ["true"], headers.get(ANNOUNCES) == ["false"]
        says = _says(headers.get(SAYS, ()))
        return self._store.put(replace(change, own=own_id(change), shared=shared, says=says, announces=not hidden))

    def _merge(self, request: Request) -> Put:
        headers = _headers(request)
        prior, survivor = self._keys(headers, PRIOR), self._keys(headers, PATIENT)
        if not prior or not survivor:
            raise Unusable("no identifier that ends, or none that stays")
        told_by, event_ms = _position(headers.get(POSITION, ())[:1]), _event_ms(headers.get(EVENT, ())[:1])
        return self._store.merge(Merge(prior, survivor, event_ms, str(told_by or "")))

    def _keys(self, headers: Mapping[str, Sequence[str]], name: str) -> tuple[Key, ...]:
        return keys_of(_identifiers(headers, name), self._pseudonyms)

    def knock(self) -> None:
        """See Knock."""
        try:
            self._store.person("")
        except StoreError as error:
            raise _away(error) from None

    def close(self) -> None:
        """Let go of connections."""
        self._store.close()


def _headers(request: Request) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def _identifiers(headers: Mapping[str, Sequence[str]], name: str) -> list[tuple[str, str]]:
    return [(system, value) for system, _, value in (each.partition("|") for each in headers.get(name, ()))]


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


def _event_ms(given: Sequence[str]) -> int | None:
    match given:
        case []:
            return None
        case [text] if re.fullmatch(r"-?\d{1,15}", text):
            return int(text)
        case _:
            raise Unusable("an event time that is no number")


def _says(given: Sequence[str]) -> Says:
    try:
        return Says(given[0]) if given else Says.STATUS
    except ValueError:
        raise Unusable("a status that counts for nothing known") from None


def _position(given: Sequence[str]) -> Position | None:
    match given:
        case [text] if found := re.fullmatch(r"(.+)/(\d+)/(\d+)", text):
            return Position(found[1], int(found[2]), int(found[3]))
        case [_]:
            raise Unusable("no position")
        case _:
            return None
