"""RoQua's read side: what is asked, and what an answer brings. Two surfaces: a FHIR search, and a plain JSON list that is no FHIR. No I/O.

No text of an answer goes into an error, only its status and codes of closed lists. A response's `completing_url` lets whoever has it fill in the
questionnaire: it is shown to nobody but who asks for the JSON itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import orjson

from pipeline.errors import SettingsError
from pipeline.model import Intent, Reply, Request, Resource, Timeouts
from pipeline.partners.reads import OK, FhirReader, NotRead, Page, fitting
from pipeline.partners.roqua import answers as roqua_answers
from pipeline.partners.roqua.observations import Origin, observations_of
from pipeline.partners.roqua.reads import RESOURCES
from pipeline.partners.searches import Search

LIST: Final = "responses-list"
"""The operation."""
LINK: Final = "completing_url"
JSON: Final = "application/json"
FHIR: Final = "/medmij_fhir"
RESPONSES: Final = "/api/v1/dossiers/{}/responses"
ASKED_BY: Final = {"Observation": "subject", "responses": "dossier"}
"""The search that says whose; nothing is given by an id."""
BUNDLES: Final = frozenset({"searchset", "collection"})
"""Of the answer's type nothing is documented."""
TIMES: Final = frozenset({"completed_before", "completed_after"})
BOM: Final = b"\xef\xbb\xbf"
MEANS: Final = {
    401: ": it refuses our token: key, secret, or the addresses that the token may be used from",
    403: ": our token has not the right to read this, or not for this dossier",
    404: ": no such dossier there, or the address is wrong",
    422: ": it does not take what was asked for",
    429: ": it asks us to wait; ask again later",
}


@dataclass(frozen=True, slots=True)
class RoquaReader:
    """RoQua's Reader (reads.py)."""

    fhir: FhirReader
    unix_times: bool
    """Times of a filter as Unix seconds, else as ISO 8601."""
    dossier_system: str | None = None
    """Identifier system of dossier ids, for Observations made of responses."""

    @classmethod
    def of(cls, settings: Any) -> Self:  # noqa: ANN401 - the settings block of either kind
        """By base_url, subject_parameter, filter_times and search."""
        observations = (replace(RESOURCES["Observation"][0], parameter=settings.subject_parameter),)
        fhir = FhirReader(
            settings.base_url,
            RESOURCES | {"Observation": observations},
            JSON,
            Timeouts(settings.search.connect, settings.search.read, settings.search.total),
            bundle_types=BUNDLES,
            root=FHIR,
            headers=(("Content-Type", JSON),),  # the documented call has it
        )
        return cls(fhir, settings.filter_times == "unix", settings.dossier_system)

    @property
    def resources(self) -> Mapping[str, tuple[Search, ...]]:
        """See Reader."""
        return self.fhir.resources

    @property
    def plain(self) -> frozenset[str]:
        """See Reader."""
        return frozenset({"responses"})

    def by_id(self, resource: str, identifier: str) -> Request:  # noqa: ARG002 - the protocol's signature
        """See Reader."""
        searches = self.resources.get(resource, ())
        instead = f"give --{searches[0].option}" if searches else f"there is {', '.join(self.resources)}"
        raise SettingsError(f"RoQua gives nothing by an id of its own: {instead}", where="ID")

    def by_search(self, resource: str, typed: Mapping[str, str]) -> Request:
        """See Reader."""
        found = fitting(self.resources, resource, typed) if typed or resource not in ASKED_BY else []
        if resource == "Observation" and found:
            return replace(self.fhir.by_search(resource, typed), subject=found[0][1][0])
        if ASKED_BY[resource] not in typed:
            raise SettingsError(f"which dossier? give --{ASKED_BY[resource]}", where=resource)
        return self.responses(
            typed["dossier"],
            [(one.parameter, value) for one, values in found if one.option != "dossier" for value in values],
        )

    def responses(self, dossier: str, filters: list[tuple[str, str]]) -> Request:
        """Those of a dossier; times as ISO 8601."""
        where = quote(dossier, safe="")
        if where in {"", ".", ".."}:
            raise SettingsError("is no dossier's id", where="--dossier")
        query = urlencode([(name, self._time(value) if name in TIMES else value) for name, value in filters])
        path = RESPONSES.format(where)
        return Request(
            operation=LIST,
            method="GET",
            path=f"{path}?{query}" if query else path,
            path_template=RESPONSES.format("{id}"),
            headers=(("Accept", JSON), ("Content-Type", JSON)),
            body=b"",
            request_id="",
            timeouts=self.fhir.timeouts,
            intent=Intent.UPDATE,
            subject=dossier,
        )

    def _time(self, iso: str) -> str:
        return str(int(datetime.fromisoformat(iso).timestamp())) if self.unix_times else iso

    def page(self, asked: Request, reply: Reply) -> Page:
        """See Reader. More in `total` than entries is no truncation: RoQua counts all, and gives the last 50 responses (section 3)."""
        if reply.status != OK:
            codes = ", ".join(roqua_answers.read(reply).codes)
            raise NotRead(f"HTTP {reply.status}{f' ({codes})' if codes else ''}{MEANS.get(reply.status, '')}")
        return Page(responses_of(reply)) if asked.operation == LIST else self.fhir.page(asked, reply)

    def record(self, asked: Request, resource: Resource) -> tuple[str, Resource]:
        """See Reader. A response says not whose it is, so it is keyed by its dossier and has it; its link is left out."""
        if asked.operation != LIST or asked.subject is None or "resourceType" in resource:
            return self.fhir.record(asked, resource)
        return asked.subject, {"dossier_id": asked.subject} | {name: one for name, one in resource.items() if name != LINK}

    def observations(
        self, asked: Request, resource: Resource, *, corrected: bool = False
    ) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
        """See Reader."""
        if asked.operation != LIST or asked.subject is None:
            return self.fhir.observations(asked, resource)
        turned = observations_of(resource, Origin(self.fhir.base_url, asked.subject, self.dossier_system), corrected=corrected)
        return turned.observations, turned.told

    def capabilities(self) -> None:
        """RoQua has no CapabilityStatement."""

    def not_listed(self, reply: Reply) -> list[str]:  # noqa: ARG002 - the protocol's signature
        """See Reader."""
        return []


def responses_of(reply: Reply) -> tuple[Resource, ...]:
    """The responses of a 200. NotRead where it is no list of them."""
    text = reply.body.removeprefix(BOM).strip()
    try:
        tree = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        raise NotRead("HTTP 200 with a page that is no JSON: a login page, or a gateway's") from None
    if not isinstance(tree, list) or not all(isinstance(one, dict) and "questionnaire_key" in one for one in tree):
        raise NotRead(f"HTTP 200 with {'nothing' if tree is None else 'something else than a list of responses'}")
    return tuple(tree)
