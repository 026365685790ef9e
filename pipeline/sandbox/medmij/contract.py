"""Another hospital's appointment server (XIS) as contracts/medmij.md describes it, and its token issuer. No sockets, no faults.

`read` checks (token, headers, format, query) and nothing changes ever: appointments are only read here.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qs

from pipeline.sandbox.faults import Rule
from pipeline.sandbox.log import Effect
from pipeline.sandbox.medmij import issuer as issuing
from pipeline.sandbox.medmij import xml as medmij_xml
from pipeline.sandbox.medmij.issuer import Issuer
from pipeline.sandbox.medmij.knobs import MedmijKnobs
from pipeline.sandbox.medmij.records import PEOPLE, appointments, referenced
from pipeline.sandbox.medmij.search import PAGE, Query, Unreadable, parsed
from pipeline.sandbox.partner import Done, Reading, Sent
from pipeline.sandbox.wire import Answer, Request, as_json

BASE: Final = "/fhir"
TYPES: Final = frozenset({"Appointment", "Patient", "Practitioner", "PractitionerRole", "Location", "Organization"})
FORMATS: Final = {
    "json": ("json", "application/json", "application/fhir+json", "application/json+fhir"),
    "xml": ("xml", "text/xml", "application/xml", "application/fhir+xml", "application/xml+fhir"),
}
MEDIA: Final = {"json": "application/fhir+json; charset=UTF-8", "xml": "application/fhir+xml; charset=UTF-8"}
ANY: Final = frozenset({"", "*/*", "application/*"})
IDS: Final = ("medmij-request-id", "x-correlation-id")
_PATH: Final = re.compile(rf"{BASE}/([A-Za-z]+)(?:/([A-Za-z0-9.-]{{1,64}}))?/?")

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about."""

    request: Request | None = field(default=None, repr=False)
    """Of the issuer."""
    person: str | None = None
    format: str = "json"
    kind: str = "Appointment"
    query: Query = field(default_factory=Query, repr=False)
    raw: str = field(default="", repr=False)
    correlation: str | None = None


@dataclass(slots=True)
class Medmij:
    """The server: knobs and issuer. Used by one thread."""

    issuer: Issuer
    knobs: MedmijKnobs = field(default_factory=MedmijKnobs)
    now: Callable[[], float] = time.time
    base: str = f"https://localhost{BASE}"

    @property
    def asks_certificate(self) -> bool:
        """A token says who asks."""
        return False

    def turn(self, knobs: MedmijKnobs) -> None:
        """Other knobs from now on."""
        self.knobs = knobs

    def listening(self, port: int) -> None:
        """It names its own address in links."""
        origin = f"https://localhost:{port}"
        self.base = f"{origin}{BASE}"
        self.issuer.origin, self.issuer.audience = origin, self.base

    def restore(self, effects: Iterable[Effect]) -> None:
        """What was issued."""
        self.issuer.restore(effects)

    def count(self) -> int:
        """How many patients it has."""
        return len(PEOPLE)

    # reading

    def read(self, request: Request, *, certificate: bool = True) -> Reading[Asked]:  # noqa: ARG002 - the port's: it asks for none
        """Check it; nothing changes."""
        operation = issuing.OPERATIONS.get((request.method, request.path))
        if operation:
            return Reading(operation, submission=Asked(request))
        format_ = _format(request, self.knobs.formats)
        reading = self._route(request, format_)
        if reading.refusal or reading.operation == "metadata":
            return reading
        person, status = self._person(request.headers.get("authorization", ""))
        if person is None:
            return self._refuse(reading, status, self.knobs.security_code, "The token is missing, unknown or at its end")
        asked = replace(reading.submission or Asked(), person=person)
        return self._query(request, replace(reading, submission=asked), asked)

    def _route(self, request: Request, format_: str | None) -> Reading[Asked]:
        asked = Asked(format=format_ or "json", raw=request.query, correlation=request.headers.get(IDS[1]))
        reading = Reading[Asked](submission=asked, request_id=request.headers.get(IDS[0]))
        match = _PATH.fullmatch(request.path)
        if format_ is None:
            return self._refuse(reading, 406, "not-supported", "It cannot be written in the format that was asked for")
        if request.path == f"{BASE}/metadata":
            return replace(reading, operation="metadata")
        if match is None or match[1] not in TYPES:
            return self._refuse(reading, 404, "not-supported", "There is no such resource type")
        if request.method != "GET" or (match[2] is None and match[1] != "Appointment"):
            return self._refuse(reading, 405, "not-supported", "There is no such interaction")
        operation = "search" if match[2] is None else "read"
        return replace(reading, operation=operation, id=match[2], submission=replace(asked, kind=match[1]))

    def _person(self, authorization: str) -> tuple[str | None, int]:
        """Whose the token is; else the status: 401, or 403 for a token of nobody that is treated here."""
        scheme, _, token = authorization.partition(" ")
        claims = self.issuer.claims_of(token.strip()) if scheme.lower() == "bearer" else None
        if claims is None:
            return None, 401
        bsn, local = claims.get(self.knobs.bsn_claim), claims.get(self.knobs.local_claim)
        found = [one.id for one in PEOPLE.values() if one.bsn == bsn or (bsn is None and one.local == local)]
        return (found[0], 200) if found else (None, 403)

    def _query(self, request: Request, reading: Reading[Asked], asked: Asked) -> Reading[Asked]:
        if self.knobs.request_ids == "required" and not all(_is_uuid(request.headers.get(name, "")) for name in IDS):
            return self._refuse(reading, 400, "required", "MedMij-Request-ID and X-Correlation-ID must each be a UUID")
        if reading.operation != "search":
            return reading
        try:
            return replace(reading, submission=replace(asked, query=parsed(request.query, self.knobs)))
        except Unreadable as error:
            code = "not-supported" if str(error) != "date" else "invalid"
            return self._refuse(reading, 400, code, f"The parameter {error} cannot be processed")

    def _refuse(self, reading: Reading[Asked], status: int, code: str, text: str) -> Reading[Asked]:
        format_ = (reading.submission or Asked()).format
        return replace(reading, refusal=self._error(status, code, text, format_), issues=(code,))

    def _error(self, status: int, code: str, text: str, format_: str = "json") -> Answer:
        headers = (("WWW-Authenticate", 'Bearer realm="fhir"'),) if status == 401 else ()  # noqa: PLR2004 - Unauthorized
        if self.knobs.errors == "empty":
            return Answer(status, headers=headers)
        if self.knobs.errors == "html":
            return Answer(status, b"<!DOCTYPE html><title>Error</title><p>Something went wrong", "text/html", headers)
        return replace(_answer(status, _outcome("error", code, text), format_), headers=headers)

    # answering

    def apply(self, reading: Reading[Asked], number: int) -> Done:
        """Answer it; the correlation id stands in the log."""
        asked = reading.submission or Asked()
        if asked.request is not None:
            return self.issuer.answer(reading.operation, asked.request, self.knobs)
        note = {"correlation": asked.correlation}
        if reading.refusal:
            return Done(reading.refusal, issues=reading.issues, token=note)
        if reading.operation == "metadata":
            return Done(_answer(200, self._capabilities(), asked.format))
        if reading.operation == "read":
            return replace(self._read(asked, str(reading.id)), token=note)
        return Done(_answer(200, self._searched(asked, number), asked.format), token=note)

    def _read(self, asked: Asked, identifier: str) -> Done:
        person = str(asked.person)
        own = {("Appointment", one["id"]): one for one in appointments(person, self.now(), self.knobs.zone)}
        found = {**own, **referenced(person)}.get((asked.kind, identifier))
        if found is None:
            return Done(self._error(404, "not-found", "It is not there", asked.format), issues=("not-found",))
        return Done(_answer(200, found, asked.format))

    def _searched(self, asked: Asked, number: int) -> Tree:
        """The page of what is found."""
        query, person = asked.query, str(asked.person)
        found = [] if query.nothing else [one for one in appointments(person, self.now(), self.knobs.zone) if query.has(one)]
        size = self.knobs.page_size or max(len(found), 1)
        shown = found[(query.page - 1) * size : query.page * size]
        entries = [self._entry(one, "match") for one in shown]
        if self.knobs.referenced == "included" and shown:
            entries += [self._entry(one, "include") for one in referenced(person).values()]
        total = {"page": len(shown), "all": len(found)}.get(self.knobs.total)
        return {
            "resourceType": "Bundle",
            "id": f"page-{number}",
            "type": self.knobs.bundle_type,
            **({} if total is None else {"total": total}),
            **_unless_empty("link", self._links(asked, more=query.page * size < len(found))),
            **_unless_empty("entry", [*entries, *self._outcomes(query)]),
        }

    def _entry(self, resource: Tree, mode: str) -> Tree:
        url = f"{self.base}/{resource['resourceType']}/{resource['id']}"
        return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}

    def _outcomes(self, query: Query) -> list[Tree]:
        issues: list[tuple[str, str, str]] = []
        if self.knobs.outcome != "none":
            issues.append((self.knobs.outcome, "informational", "As the knob has it"))
        issues += [("warning", "not-supported", f"The parameter {name} was not looked at") for name in query.ignored]
        return [
            {"resource": {**_outcome(*one), "id": f"o-{index}"}, "search": {"mode": "outcome"}}
            for index, one in enumerate(issues)
        ]

    def _links(self, asked: Asked, *, more: bool) -> list[Tree]:
        used = asked.query.encoded()
        says = {"used": used, "as_sent": asked.raw, "wider": "date=ge1900"}.get(self.knobs.self_link)
        links = [] if says is None else [{"relation": "self", "url": f"{self.base}/Appointment{'?' * bool(says)}{says}"}]
        if more:
            page = f"Appointment?{used}{'&' * bool(used)}{PAGE}={asked.query.page + 1}"
            links.append({"relation": "next", "url": self._next(page, asked.raw)})
        return links

    def _next(self, page: str, raw: str) -> str:
        return {
            "relative": page,
            "foreign": f"https://elsewhere.example/fhir/{page}",
            "below": f"{self.base.removesuffix(BASE)}/other/{page}",
            "loop": f"{self.base}/Appointment?{raw}",
            "insecure": f"{self.base}/{page}".replace("https:", "http:", 1),
        }.get(self.knobs.next_link, f"{self.base}/{page}")

    def _capabilities(self) -> Tree:
        parameter = {"name": "date", "type": "date"}
        others = [{"type": kind, "interaction": [{"code": "read"}]} for kind in sorted(TYPES - {"Appointment"})]
        appointment = {
            "type": "Appointment",
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "searchParam": [parameter],
        }
        formats = ["xml", "json"] if self.knobs.formats == "both" else [self.knobs.formats]
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-01-01",
            "kind": "instance",
            "software": {"name": "MedMij stand-in"},
            "fhirVersion": "3.0.2",
            "acceptUnknown": "both",
            "format": formats,
            "rest": [{"mode": "server", "resource": [appointment, *others]}],
        }

    # orders and faults

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's signature
        """As Issuer.order."""
        return self.issuer.order(name)

    def altered(self, reading: Reading[Asked], number: int, fault: Rule) -> Done:  # noqa: ARG002 - the port's signature
        """No fault of that kind is its own."""
        return self.apply(reading, number)

    def instead(self, fault: Rule) -> Answer:
        """An OperationOutcome, or a gateway's JSON."""
        if fault.body == "json":
            return as_json(fault.status, {"error": fault.issue})
        return _answer(fault.status, _outcome("error", fault.issue, "Ordered by a fault"), "json")

    def named(self, reading: Reading[Asked]) -> frozenset[str]:
        """The patient."""
        asked = reading.submission or Asked()
        return frozenset((asked.person,)) if asked.person else frozenset()

    def sent(self, reading: Reading[Asked]) -> Sent:
        """For the log."""
        return Sent((reading.submission or Asked()).person)


def _format(request: Request, can: str) -> str | None:
    """`_format` over `Accept`; None where it is none that the server can write."""
    wanted = parse_qs(request.query).get("_format") or request.headers.get("accept", "").split(",")
    there = [*FORMATS] if can == "both" else [can]
    return next((found for one in wanted if (found := _format_of(one, there)) in there), None)


def _format_of(text: str, there: Sequence[str]) -> str | None:
    media = text.partition(";")[0].strip().lower().replace(" ", "+")
    return there[0] if media in ANY else next((name for name, words in FORMATS.items() if media in words), None)


def _answer(status: int, resource: Tree, format_: str) -> Answer:
    body = as_json(status, resource).body if format_ == "json" else medmij_xml.written(resource)
    return Answer(status, body, MEDIA[format_])


def _outcome(severity: str, code: str, text: str) -> Tree:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "details": {"text": text}}],
    }


def _unless_empty(name: str, values: Sequence[Tree]) -> Tree:
    return {name: values} if values else {}


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
