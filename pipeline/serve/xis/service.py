"""A request in, an answer out: who asks, what he asks for, in which format, and how each fault is said. No sockets; one log line for each request.

Logged are the request ids, what was done, and the patient as a keyed hash. Never a URL, a header, a token, an id or a body.
"""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import orjson

from pipeline.errors import StoreError, place_of
from pipeline.fhir.xml import to_xml
from pipeline.serve.xis.capability import PROFILES, statement
from pipeline.serve.xis.context import Context, Tokens, bearer
from pipeline.serve.xis.faults import Fault, Kind, outcome
from pipeline.serve.xis.formats import Format, chosen
from pipeline.serve.xis.limits import Rates
from pipeline.serve.xis.queries import one, pairs
from pipeline.serve.xis.searching import Searching
from pipeline.telemetry import LogEvent, log

METHODS: Final = frozenset({"GET", "HEAD"})
IDS: Final = {"medmij-request-id": "request_id", "x-correlation-id": "correlation_id"}
"""Headers that are logged and given back, where each is a UUID."""
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
ALWAYS: Final = {"Cache-Control": "no-store", "Vary": "Accept, Authorization", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str = field(repr=False)
    """Behind the base URL, decoded."""
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By their names in lower case."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Done:
    """What an interaction gives, as JSON, and what the log says of it."""

    interaction: str
    body: bytes = field(repr=False)
    entries: int | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Service:
    """All interactions."""

    searching: Searching
    tokens: Tokens
    rates: Rates

    def answer(self, asked: Asked) -> Told:
        """Never raises."""
        began = time.perf_counter()
        wanted = Format.JSON
        try:
            wanted = chosen(one(pairs(asked.query), "_format"), asked.headers.get("accept"))
            done = self._interaction(asked)
            told = self._told(200, done.body, wanted, {})
        except Exception as error:  # noqa: BLE001 - a defect is an answer of 500, without its text, which may hold values
            fault = _fault(error)
            said = outcome("error", fault.code, fault.text)
            done = _Done("none", orjson.dumps(said))
            told = self._told(fault.status, done.body, wanted, fault.headers)
        ids = _ids(asked)
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        log(
            LogEvent.REQUEST_ANSWERED,
            interaction=done.interaction,
            status=told.status,
            entries=done.entries,
            patient=done.patient,
            ms=milliseconds,
            **{IDS[name]: value for name, value in ids.items()},
        )
        return replace(told, headers={**told.headers, **ids})

    def ready(self) -> str | None:
        """Why nobody could be served now; None where all can."""
        try:
            self.searching.store.person("")
        except StoreError:
            return "the store of appointments does not answer"
        return self.tokens.ready()

    def _told(self, status: int, body: bytes, wanted: Format, headers: Mapping[str, str]) -> Told:
        content = to_xml(orjson.loads(body)) if wanted is Format.XML else body
        return Told(status, {"Content-Type": f"{wanted.value};charset=utf-8", **ALWAYS, **headers}, content)

    def _interaction(self, asked: Asked) -> _Done:
        parts = [part for part in asked.path.split("/") if part]
        if parts and parts[0] not in {*PROFILES, "metadata"}:
            raise Fault(Kind.NO_SUCH_TYPE, "this type is not supported: metadata says which are")
        if asked.method not in METHODS:
            raise Fault(Kind.METHOD, "only GET and HEAD are supported", Allow="GET, HEAD")
        match parts:
            case ["metadata"]:
                return _Done("capabilities", self._statement)
            case ["Appointment"]:
                return self._search(asked)
            case [kind, name] if kind in PROFILES and _ID.fullmatch(name):
                return self._read(asked, kind, name)
        raise Fault(Kind.NO_SUCH_TYPE, "there is no such endpoint: metadata says what is supported")

    def _search(self, asked: Asked) -> _Done:
        context, patient = self._context(asked)
        found = self.searching.search(context, asked.query, strict=_strict(asked.headers.get("prefer", "")))
        return _Done("search", found.body, found.matches, patient)

    def _read(self, asked: Asked, kind: str, name: str) -> _Done:
        context, patient = self._context(asked)
        return _Done("read", self.searching.read(context, kind, name), None, patient)

    def _context(self, asked: Asked) -> tuple[Context, str]:
        context = self.tokens.context(bearer(asked.headers.get("authorization")))
        patient = self.searching.pseudonyms.person(*context.identities[0])
        wait = self.rates.ask(patient)
        if wait:
            raise Fault(Kind.THROTTLED, "too many requests for this patient", Retry_After=str(math.ceil(wait)))
        return context, patient

    @cached_property
    def _statement(self) -> bytes:
        return orjson.dumps(statement(self.searching.base))


def _strict(prefer: str) -> bool:
    """RFC 7240 section 4.4, which FHIR STU3 uses for unknown parameters."""
    return any(part.split(";")[0].replace(" ", "").replace('"', "").lower() == "handling=strict" for part in prefer.split(","))


def _ids(asked: Asked) -> dict[str, str]:
    """What else is written there may be anything, a number of a person too."""
    found = {name: asked.headers.get(name, "") for name in IDS}
    return {name: value for name, value in found.items() if _UUID.fullmatch(value)}


def _fault(error: Exception) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, StoreError):
        log(LogEvent.SERVE_FAILED, problem="the store of appointments does not answer", do="see this event in the runbook")
        return Fault(Kind.AWAY, "appointments cannot be read now", Retry_After="30")
    log(LogEvent.SERVE_FAILED, problem=f"{type(error).__name__} at {place_of(error)}", do="report it")
    return Fault(Kind.DEFECT, "a defect of ours; it is logged")
