"""Another hospital's appointments as a patient's own environment (PHR) reads them, by MedMij's eAfspraak (contracts/medmij.md sections 2 to 4). No I/O.

No request names a patient. Every request has a MedMij-Request-ID of its own, and all of one fetch an X-Correlation-ID: with these the other side finds
it in its log. What the server says that it really searched by is held against what was asked for.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

import orjson

from pipeline.fhir.xml import NoFhirXml, from_xml
from pipeline.model import Reply, Request, Resource, Timeouts
from pipeline.partners.medmij.reads import RESOURCES
from pipeline.partners.reads import OK, FhirReader, NotRead, Page
from pipeline.partners.searches import Search

MEDIA: Final = {"json": "application/fhir+json", "xml": "application/fhir+xml"}
XML: Final = frozenset({"application/fhir+xml", "application/xml+fhir", "application/xml", "text/xml"})
REQUEST: Final = "MedMij-Request-ID"
CORRELATION: Final = "X-Correlation-ID"
RELEASES: Final = ("3.0.2", "3.0.1")
MEANS: Final = {
    400: ": it could not process the search",
    401: ": our token is missing there, at its end, or not meant for it: the setting token",
    403: ": it refuses this token: no consent, or nobody whom it treats",
    404: ": not there, or it has no such resource",
    405: ": it does not do this",
    406: ": it cannot write what we asked for: the setting format",
    410: ": it was there, and was deleted",
    429: ": it asks us to wait; ask again later",
}
_DATE: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?:?\d{4}[0-9T:.Z+-]{0,32}", re.ASCII)
"""What may be repeated of a link: other texts may hold anything."""


@dataclass(frozen=True, slots=True)
class MedmijReader:
    """A MedMij server's Reader (reads.py)."""

    fhir: FhirReader
    correlation: str
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()), repr=False)

    @classmethod
    def of(cls, settings: Any) -> Self:  # noqa: ANN401 - the settings block
        """By base_url, format and search."""
        times = Timeouts(settings.search.connect, settings.search.read, settings.search.total)
        fhir = FhirReader(settings.base_url, RESOURCES, MEDIA[settings.format], times, release=RELEASES[0], means=MEANS)
        return cls(fhir, str(uuid.uuid4()))

    @property
    def resources(self) -> Mapping[str, tuple[Search, ...]]:
        """See Reader."""
        return RESOURCES

    @property
    def plain(self) -> frozenset[str]:
        """See Reader."""
        return frozenset()

    def by_id(self, resource: str, identifier: str) -> Request:
        """See Reader."""
        return self._numbered(self.fhir.by_id(resource, identifier))

    def by_search(self, resource: str, typed: Mapping[str, str]) -> Request:
        """See Reader. The prefix stands before its value without a colon, and a `+` is percent-encoded (section 3)."""
        return self._numbered(self.fhir.by_search(resource, typed))

    def page(self, asked: Request, reply: Reply) -> Page:
        """See Reader."""
        try:
            read = _as_json(reply)
            page = self.fhir.page(asked, read)
        except NotRead as error:
            raise NotRead(f"{error} ({REQUEST} {asked.request_id})") from None
        following = self._numbered(page.next) if page.next else None
        return replace(page, next=following, told=_told(asked, orjson.loads(read.body)))

    def record(self, asked: Request, resource: Resource) -> tuple[str, Resource]:
        """See Reader."""
        return self.fhir.record(asked, resource)

    def observations(
        self, asked: Request, resource: Resource, *, corrected: bool = False
    ) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
        """See Reader."""
        return self.fhir.observations(asked, resource, corrected=corrected)

    def capabilities(self) -> Request:
        """See Reader."""
        return self._numbered(self.fhir.capabilities())

    def not_listed(self, reply: Reply) -> list[str]:
        """See Reader. Reads are not asked for: a server may put what an appointment references into the Bundle instead."""
        missing = min((replace(self.fhir, release=one).not_listed(reply) for one in RELEASES), key=len)
        return [one for one in missing if one.startswith(("FHIR", "Appointment search"))]

    def _numbered(self, request: Request) -> Request:
        number = self.new_id()
        kept = tuple((name, value) for name, value in request.headers if name not in {REQUEST, CORRELATION})
        return replace(request, request_id=number, headers=(*kept, (REQUEST, number), (CORRELATION, self.correlation)))


def _as_json(reply: Reply) -> Reply:
    """What came as XML, whichever was asked for, as JSON: success or OperationOutcome. An error's body that is no FHIR stays as it is."""
    if reply.headers.get("content-type", "").partition(";")[0].strip().lower() not in XML:
        return reply
    try:
        body = orjson.dumps(from_xml(reply.body), default=float)  # a decimal
    except NoFhirXml as error:
        if reply.status == OK:
            raise NotRead(f"HTTP {reply.status} with XML that is no FHIR resource: {error}") from None
        return reply
    return replace(reply, headers={**reply.headers, "content-type": MEDIA["json"]}, body=body)


def _told(asked: Request, document: Resource) -> tuple[str, ...]:
    """What the server really searched by, where that is not what was asked for (section 4)."""
    wanted = searched_by(asked.path)
    if not wanted or document.get("resourceType") != "Bundle":
        return ()
    links = document.get("link")
    of_self = [one for one in links if isinstance(one, dict) and one.get("relation") == "self"] if isinstance(links, list) else []
    if not of_self:
        return ("the server does not say what it searched by: it gives no self link",)
    used = searched_by(str(of_self[0].get("url")))
    if used == wanted:
        return ()
    instead = f"by date={', date='.join(sorted(used))}" if used else "not by date"
    return (
        f"the server searched {instead}, and was asked for date={', date='.join(sorted(wanted))}: look at the dates yourself",
    )


def searched_by(url: str) -> frozenset[str]:
    """The values of `date` in a link, in the form without a colon; those that are no dates are not repeated."""
    try:
        pairs = parse_qsl(urlsplit(url).query)
    except ValueError:
        return frozenset()
    found = (value if _DATE.fullmatch(value) else "(unreadable)" for name, value in pairs if name == "date")
    return frozenset(value if value[:1].isdigit() or value[2:3] != ":" else value[:2] + value[3:] for value in found)
