"""The read side of a partner: what may be asked, how it is asked, and what an answer brings. No I/O; `emr-pipeline fetch` sends.

What a partner offers is a table of resources and searches; a partner whose reading follows FHIR's REST API needs no more than that
(`FhirReader`). An address that a partner gives (the next page) is asked only where it is that partner's own: our token goes with it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urljoin, urlsplit

import orjson

from pipeline.errors import PipelineError, SettingsError
from pipeline.model import Intent, Reply, Request, Resource, Timeouts
from pipeline.partners import answers
from pipeline.partners.searches import ID, Search

OK: Final = 200
MEDIA: Final = frozenset({"application/fhir+json", "application/json+fhir", "application/json"})
MEANS: Final = {
    401: ": it refuses our token (emr-pipeline doctor)",
    403: ": we may not read this",
    404: ": not there, or not readable yet",
    410: ": it was there, and was deleted",
}
"""What a status says to whoever asked."""


class NotRead(PipelineError):
    """The partner did not give what was asked for. The message has status and issue codes, never an id."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer brings."""

    resources: tuple[Resource, ...] = field(repr=False)
    next: Request | None = None
    """The request for what follows."""
    issues: tuple[str, ...] = ()
    """Issue codes that the partner sent beside what it found."""
    told: tuple[str, ...] = ()
    """What whoever asked should know of how it was searched, a line each."""


class Reader(Protocol):
    """A partner's read side. What it brings may be no FHIR: a plain list of the partner's own."""

    @property
    def resources(self) -> Mapping[str, tuple[Search, ...]]:
        """What may be read by id, and what each may be searched by."""
        ...

    @property
    def plain(self) -> frozenset[str]:
        """Those of the resources that are no FHIR, and can become Observations."""
        ...

    def by_id(self, resource: str, identifier: str) -> Request:
        """One of it. SettingsError where the id is none."""
        ...

    def by_search(self, resource: str, typed: Mapping[str, str]) -> Request:
        """Those that fit, by option and what was typed. SettingsError where one does not go with the resource."""
        ...

    def page(self, asked: Request, reply: Reply) -> Page:
        """What came. NotRead where it is not what was asked for."""
        ...

    def record(self, asked: Request, resource: Resource) -> tuple[str, Resource]:
        """Key and value of what was found, as it goes onto a topic."""
        ...

    def observations(
        self, asked: Request, resource: Resource, *, corrected: bool = False
    ) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
        """What was found as FHIR Observations, and what is to be told of them; SettingsError where it is nothing that can be turned into them.

        `corrected`: it was there before and said something else.
        """
        ...

    def not_listed(self, reply: Reply) -> list[str]:
        """What we use and the partner's CapabilityStatement does not list. NotRead where there is none."""
        ...

    def capabilities(self) -> Request | None:
        """The request for the CapabilityStatement; it needs no token. None of a partner that has none."""
        ...


def fitting(
    resources: Mapping[str, tuple[Search, ...]], resource: str, typed: Mapping[str, str]
) -> list[tuple[Search, list[str]]]:
    """Each search with what is sent for what was typed; SettingsError where one does not go with the resource, or there is none."""
    searches = {search.option: search for search in offered(resources, resource)}
    for option in typed:
        if option not in searches:
            there = ", ".join(f"--{name}" for name in searches) or "nothing"
            raise SettingsError(f"does not go with {resource}; there is {there}", where=f"--{option}")
    if not typed:
        raise SettingsError(f"which one? give its id, or {', '.join(f'--{name}' for name in searches)}", where=resource)
    return [(searches[option], _values(searches[option], value)) for option, value in typed.items()]


def offered(resources: Mapping[str, tuple[Search, ...]], resource: str) -> tuple[Search, ...]:
    """What a resource may be searched by; SettingsError where the partner does not offer it."""
    if resource not in resources:
        raise SettingsError(f"not offered by this partner; there is {', '.join(resources)}", where="RESOURCE")
    return resources[resource]


@dataclass(frozen=True, slots=True)
class FhirReader:
    """Reader of a partner that follows FHIR's REST API. Implements Reader."""

    base_url: str
    resources: Mapping[str, tuple[Search, ...]]
    accept: str
    timeouts: Timeouts
    release: str = "4.0.1"
    bundle_types: frozenset[str] = frozenset({"searchset"})
    writes: tuple[tuple[str, str], ...] = ()
    """Interactions that our deliveries use, as (Bundle, create)."""
    root: str = ""
    """What stands between base_url and a resource's type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent beside Accept."""
    means: Mapping[int, str] = field(default_factory=lambda: MEANS)
    plain: frozenset[str] = frozenset()

    def by_id(self, resource: str, identifier: str) -> Request:
        """See Reader."""
        offered(self.resources, resource)
        if not ID.fullmatch(identifier):
            raise SettingsError("is no id: letters, digits, - and . only, 64 at most", where="ID")
        return self._request(f"{resource.lower()}-read", f"/{resource}/{quote(identifier)}", f"/{resource}/{{id}}")

    def by_search(self, resource: str, typed: Mapping[str, str]) -> Request:
        """See Reader."""
        found = fitting(self.resources, resource, typed)
        query = urlencode([(search.parameter, value) for search, values in found for value in values], safe="/:")
        return self._request(f"{resource.lower()}-search", f"/{resource}?{query}", f"/{resource}?{{search}}")

    def capabilities(self) -> Request:
        """See Reader."""
        return self._request("capabilities", "/metadata?_format=application/json", "/metadata")

    def page(self, asked: Request, reply: Reply) -> Page:
        """See Reader."""
        document = _document(reply, self.means)
        if document.get("resourceType") != "Bundle":
            return Page((document,))
        if document.get("type") not in self.bundle_types:
            raise NotRead(f"the answer is a Bundle of another type than {' or '.join(sorted(self.bundle_types))}")
        entries = [entry for entry in _list(document.get("entry")) if isinstance(entry, dict)]
        found = [one for entry in entries if isinstance(one := entry.get("resource"), dict)]
        outcomes = [one for one in found if one.get("resourceType") == "OperationOutcome"]
        return Page(
            tuple(one for one in found if one.get("resourceType") != "OperationOutcome"),
            self._next(asked, document),
            tuple(code for one in outcomes for code in answers.read(orjson.dumps(one)).codes),
        )

    def record(self, asked: Request, resource: Resource) -> tuple[str, Resource]:  # noqa: ARG002 - the protocol's signature
        """See Reader."""
        return f"{resource.get('resourceType')}/{resource.get('id')}", resource

    def observations(
        self,
        asked: Request,
        resource: Resource,  # noqa: ARG002 - the protocol's signature
        *,
        corrected: bool = False,  # noqa: ARG002 - as above
    ) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
        """See Reader."""
        raise SettingsError(f"{asked.operation} brings FHIR already", where="--observations")

    def not_listed(self, reply: Reply) -> list[str]:
        """See Reader."""
        document = _document(reply, self.means)
        if document.get("resourceType") != "CapabilityStatement":
            raise NotRead("the answer is no CapabilityStatement")
        said = _said(document)
        missing = [] if document.get("fhirVersion") == self.release else [f"FHIR {self.release}"]
        for resource, searches in self.resources.items():
            missing += [f"{resource} {word}" for word in ("read", "search-type") if (resource, word) not in said]
            named = [search.parameter for search in searches if not search.parameter.startswith("_")]
            missing += [f"{resource} search by {name}" for name in named if (resource, f"?{name}") not in said]
        return missing + [f"{resource} {word}" for resource, word in self.writes if (resource, word) not in said]

    def _request(self, operation: str, path: str, template: str) -> Request:
        return Request(
            operation=operation,
            method="GET",
            path=f"{self.root}{path}",
            path_template=f"{self.root}{template}",
            headers=(("Accept", self.accept), *self.headers),
            body=b"",
            request_id="",
            timeouts=self.timeouts,
            intent=Intent.UPDATE,
        )

    def _next(self, asked: Request, bundle: Resource) -> Request | None:
        """The next page: of this partner, below its base, and none that leads back to where we are."""
        links = [link for link in _list(bundle.get("link")) if isinstance(link, dict) and link.get("relation") == "next"]
        if not links:
            return None
        url = links[0].get("url")
        path = self._path(urljoin(f"{self.base_url}{asked.path}", url)) if isinstance(url, str) else None
        if path is None:
            raise NotRead(
                "its link to the next page leads elsewhere than to the partner: not followed, since our token would go there"
            )
        if path == asked.path:
            raise NotRead("its link to the next page leads back to the same page")
        return replace(asked, path=path)

    def _path(self, url: str) -> str | None:
        """What stands behind our base URL; None where that is not what it begins with."""
        try:
            theirs, ours = urlsplit(url), urlsplit(self.base_url)
            same = _origin(theirs.scheme, theirs.hostname, theirs.port) == _origin(ours.scheme, ours.hostname, ours.port)
        except ValueError:
            return None
        base = ours.path.rstrip("/")
        below = theirs.path == base or theirs.path.startswith(f"{base}/")
        plain = re.fullmatch(r"[!-~]*", url) and "@" not in theirs.netloc and "/../" not in f"{theirs.path}/"
        if not (same and below and plain):
            return None
        return theirs.path.removeprefix(base) + (f"?{theirs.query}" if theirs.query else "")


def _origin(scheme: str, host: str | None, port: int | None) -> tuple[str, str | None, int]:
    return scheme.lower(), host, port or 443


def _values(search: Search, typed: str) -> list[str]:
    try:
        return search.values(typed)
    except ValueError as error:
        raise SettingsError(str(error), where=f"--{search.option}") from None


def _document(reply: Reply, means: Mapping[int, str]) -> Resource:
    """The FHIR resource of a success. NotRead with what the status says."""
    read = answers.read(reply.body)
    codes = f" ({', '.join(read.codes)})" if read.codes else ""
    if reply.status != OK:
        raise NotRead(f"HTTP {reply.status}{codes}{means.get(reply.status, '')}")
    if read.form is answers.Form.ERROR:
        raise NotRead(f"HTTP 200 with an error{codes}")
    media = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if read.form in {answers.Form.EMPTY, answers.Form.OTHER, answers.Form.JSON} and not _is_fhir(reply.body):
        raise NotRead("HTTP 200 with a body that is no FHIR resource")
    if media and media not in MEDIA:
        raise NotRead("HTTP 200 with another media type than FHIR's JSON")
    document: Resource = orjson.loads(reply.body.removeprefix(b"\xef\xbb\xbf"))
    return document


def _is_fhir(body: bytes) -> bool:
    try:
        tree = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return False
    return isinstance(tree, dict) and isinstance(tree.get("resourceType"), str)


def _said(statement: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What a CapabilityStatement lists: (type, interaction) and (type, ?parameter)."""
    found: set[tuple[str, str]] = set()
    for rest in _dicts(statement.get("rest")):
        for resource in _dicts(rest.get("resource")):
            kind = str(resource.get("type"))
            found |= {(kind, str(one.get("code"))) for one in _dicts(resource.get("interaction"))}
            found |= {(kind, f"?{one.get('name')}") for one in _dicts(resource.get("searchParam"))}
    return found


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    return (one for one in _list(value) if isinstance(one, dict))
