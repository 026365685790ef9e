"""A request in, an answer out: who asks, what he asks for, in which format, and how each fault is said. No sockets; one log line for each request.

Logged are the request ids, what was done, and the patient as a keyed hash. Never a URL, a header, a token, an id or a body. No BSN of the patient goes out.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import orjson

from pipeline.errors import StoreError, place_of
from pipeline.fhir.xml import to_xml
from pipeline.health import NotReady
from pipeline.serve.xis.capability import PROFILES, statement
from pipeline.serve.xis.condition import Condition
from pipeline.serve.xis.context import Context, Tokens, bearer
from pipeline.serve.xis.faults import Fault, Kind, outcome
from pipeline.serve.xis.formats import Format, chosen
from pipeline.serve.xis.limits import Rates, Refusals
from pipeline.serve.xis.masking import without_bsn
from pipeline.serve.xis.queries import Pair, one, pairs
from pipeline.serve.xis.searching import Searching
from pipeline.tally import NobodyCounts, ServeFigures, ServeTally
from pipeline.telemetry import LogEvent, log

READ: Final = ("GET", "HEAD")
POSTED: Final = ("POST",)
FORM: Final = "application/x-www-form-urlencoded"
SINGLE: Final = ("authorization", "medmij-request-id", "x-correlation-id", "content-type")
"""Headers that stand once: of two, which one counts is anybody's guess, and a proxy may guess otherwise."""
REFUSED: Final = frozenset({Kind.BAD_TOKEN, Kind.FORBIDDEN})
IDS: Final = {"medmij-request-id": "request_id", "x-correlation-id": "correlation_id"}
"""Headers that are logged and given back, where each is a UUID."""
LARGEST_FORM: Final = 64 * 1024
"""Bytes, as of a URL."""
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
    repeated: frozenset[str] = frozenset()
    """Names of headers that stand more than once."""
    body: bytes = field(default=b"", repr=False)
    client: str = field(default="", repr=False)
    """Its address."""

    @property
    def parts(self) -> list[str]:
        """Of the path; a slash at its end is none."""
        return [part for part in self.path.split("/") if part]


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
    reason: str | None = None


@dataclass(frozen=True)
class Service:
    """All interactions."""

    searching: Searching
    tokens: Tokens
    rates: Rates
    refusals: Refusals
    tally: ServeTally = field(default_factory=NobodyCounts)
    condition: Condition = field(default_factory=Condition)

    def answer(self, asked: Asked) -> Told:
        """Never raises."""
        began = time.perf_counter()
        wanted = Format.JSON
        try:
            wanted = chosen(one(pairs(asked.query), "_format"), asked.headers.get("accept"))
            given = _parameters(asked)
            wanted = chosen(one(given, "_format"), asked.headers.get("accept"))
            done = self._interaction(asked, given)
            told = self._told(200, done.body, wanted, {})
        except Exception as error:  # noqa: BLE001 - a defect is an answer of 500, without its text, which may hold values
            fault = self._fault(error)
            said = outcome("error", fault.code, fault.text)
            done = _Done("none", orjson.dumps(said), reason=fault.kind.name.lower())
            told = self._told(fault.status, done.body, wanted, fault.headers)
        ids = _ids(asked)
        self._noted(done, told.status, time.perf_counter() - began, ids)
        return replace(told, headers={**told.headers, **ids})

    def _noted(self, done: _Done, status: int, seconds: float, ids: Mapping[str, str]) -> None:
        log(
            LogEvent.REQUEST_ANSWERED,
            interaction=done.interaction,
            status=status,
            reason=done.reason,
            entries=done.entries,
            patient=done.patient,
            ms=round(seconds * 1000, 1),
            **{IDS[name]: value for name, value in ids.items()},
        )
        self.tally.served(done.interaction, status, done.reason, seconds)

    def look(self) -> None:
        """See whether patients could be served now. Never raises."""
        try:
            self.searching.store.person("")
        except StoreError as error:
            self.condition.store(error)
        else:
            self.condition.store(None)
        self.condition.tokens(self.tokens.ready())

    def figures(self, connections: int) -> ServeFigures:
        """For the metrics, from memory."""
        return ServeFigures(connections, NotReady.STORE_AWAY in self.condition.reasons(), self.tokens.keys_age())

    def refused(self, kind: Kind, text: str) -> Told:
        """What never became a request: said as FHIR all the same, and counted."""
        fault = Fault(kind, text)
        self.tally.served("none", fault.status, kind.name.lower(), 0.0)
        return self._told(fault.status, orjson.dumps(outcome("error", fault.code, fault.text)), Format.JSON, {})

    def _told(self, status: int, body: bytes, wanted: Format, headers: Mapping[str, str]) -> Told:
        content = to_xml(orjson.loads(body)) if wanted is Format.XML else body
        return Told(status, {"Content-Type": f"{wanted.value};charset=utf-8", **ALWAYS, **headers}, content)

    def _interaction(self, asked: Asked, given: Sequence[Pair]) -> _Done:
        for name in SINGLE:
            if name in asked.repeated:
                raise Fault(Kind.SYNTAX, f"the header {name} stands more than once")
        match asked.parts:
            case ["metadata"]:
                _only(READ, asked)
                return _Done("capabilities", self._statement)
            case ["Appointment"]:
                _only(READ, asked)
                return self._search(asked, given)
            case ["Appointment", "_search"]:
                _only(POSTED, asked)
                return self._search(asked, given)
            case [kind, name] if kind in PROFILES and _ID.fullmatch(name):
                _only(READ, asked)
                return self._read(asked, kind, name)
            case [kind, *_] if kind not in PROFILES:
                raise Fault(Kind.NO_SUCH_TYPE, "this type is not supported: metadata says which are")
        _only(READ, asked)
        raise Fault(Kind.NO_SUCH_TYPE, "there is no such endpoint: metadata says what is supported")

    def _search(self, asked: Asked, given: Sequence[Pair]) -> _Done:
        context, patient = self._context(asked)
        found = self.searching.search(context, given, strict=_strict(asked.headers.get("prefer", "")))
        return _Done("search", without_bsn(found.body, context), found.matches, patient)

    def _read(self, asked: Asked, kind: str, name: str) -> _Done:
        context, patient = self._context(asked)
        return _Done("read", without_bsn(self.searching.read(context, kind, name), context), None, patient)

    def _context(self, asked: Asked) -> tuple[Context, str]:
        token = bearer(asked.headers.get("authorization"))
        wait = self.refusals.wait(asked.client)
        if wait:
            raise Fault(Kind.TOO_MANY_REFUSED, "too many tokens were refused", Retry_After=str(math.ceil(wait)))
        context = self._checked(token, asked.client)
        patient = self.searching.pseudonyms.person(*context.identities[0])
        wait = self.rates.ask(patient)
        if wait:
            raise Fault(Kind.THROTTLED, "too many requests for this patient", Retry_After=str(math.ceil(wait)))
        return context, patient

    def _checked(self, token: str, client: str) -> Context:
        try:
            context = self.tokens.context(token)
        except Fault as fault:
            if fault.kind in REFUSED:
                self.refusals.refused(client)
            raise
        self.refusals.good(client)
        return context

    @cached_property
    def _statement(self) -> bytes:
        return orjson.dumps(statement(self.searching.base))

    def _fault(self, error: Exception) -> Fault:
        if isinstance(error, Fault):
            return error
        if isinstance(error, StoreError):
            self.condition.store(error)
            return Fault(Kind.AWAY, "appointments cannot be read now", Retry_After="30")
        log(LogEvent.SERVE_FAILED, problem=f"{type(error).__name__} at {place_of(error)}", do="report it")
        return Fault(Kind.DEFECT, "a defect of ours; it is logged")


def _only(methods: tuple[str, ...], asked: Asked) -> None:
    if asked.method not in methods:
        said = " and ".join(methods)
        raise Fault(Kind.METHOD, f"only {said} {'is' if len(methods) == 1 else 'are'} supported here", Allow=", ".join(methods))


def _parameters(asked: Asked) -> list[Pair]:
    """Those of the URL, and of a form that was posted (STU3, http.html#search: both count, as if they stood together)."""
    given = pairs(asked.query)
    if asked.method != "POST" or asked.parts != ["Appointment", "_search"]:
        return given
    if asked.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Fault(Kind.MEDIA_TYPE, f"a search is posted as {FORM}")
    if asked.headers.get("content-encoding", "identity").lower() != "identity":
        raise Fault(Kind.MEDIA_TYPE, "a search is posted without a content encoding")
    if len(asked.body) > LARGEST_FORM:
        raise Fault(Kind.TOO_LARGE, f"a search has at most {LARGEST_FORM} bytes")
    try:
        form = asked.body.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise Fault(Kind.SYNTAX, "the form is not UTF-8") from None
    return pairs(f"{asked.query}&{form}")


def _strict(prefer: str) -> bool:
    """RFC 7240 section 4.4, which FHIR STU3 uses for unknown parameters."""
    return any(part.split(";")[0].replace(" ", "").replace('"', "").lower() == "handling=strict" for part in prefer.split(","))


def _ids(asked: Asked) -> dict[str, str]:
    """What else is written there may be anything, a number of a person too."""
    found = {name: asked.headers.get(name, "") for name in IDS}
    return {name: value for name, value in found.items() if _UUID.fullmatch(value)}
