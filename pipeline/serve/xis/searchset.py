"""Searchset Bundles, joined from the bytes that are stored, and their links. Pure but for the random ids. No identifier of a person is in a link."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import orjson

from pipeline.appointments.port import Found
from pipeline.serve.xis.faults import outcome
from pipeline.serve.xis.queries import Pair

_UNQUOTED: Final = ":,/"
"""A date reads as it was written; a plus becomes %2B, since others take it for a blank."""


@dataclass(frozen=True, slots=True)
class Links:
    """Of one page. First and next only where there is more than this page."""

    self: str
    first: str | None = None
    next: str | None = None


def url(base: str, used: Sequence[Pair]) -> str:
    """The search, with the parameters that were used."""
    said = "&".join(f"{quote(pair.name, safe='')}={quote(pair.value, safe=_UNQUOTED)}" for pair in used)
    return f"{base}/Appointment?{said}" if said else f"{base}/Appointment"


def bundle(base: str, links: Links, found: Sequence[Found], total: int | None, told: Sequence[str]) -> bytes:
    """The Bundle as JSON. `told`: what the client is to know of its search, in an entry of its own."""
    head: dict[str, object] = {"resourceType": "Bundle", "id": str(uuid.uuid4()), "type": "searchset"}
    if total is not None:
        head |= {"total": total}
    entries = [_match(base, one) for one in found]
    if told:
        entries.append(_outcome(told))
    parts = [orjson.dumps(head | {"link": _links(links)})[:-1]]
    if entries:  # an empty array is no FHIR
        parts += [b',"entry":[', b",".join(entries), b"]"]
    return b"".join([*parts, b"}"])


def _links(links: Links) -> list[dict[str, str]]:
    every = (("self", links.self), ("first", links.first), ("next", links.next))
    return [{"relation": relation, "url": one} for relation, one in every if one is not None]


def _match(base: str, one: Found) -> bytes:
    full_url = orjson.dumps(f"{base}/Appointment/{one.id}")
    return b'{"fullUrl":' + full_url + b',"resource":' + one.body + b',"search":{"mode":"match"}}'


def _outcome(told: Sequence[str]) -> bytes:
    """With an id and a urn that ends with it: MedMij's tests want both of every entry."""
    name = str(uuid.uuid4())
    said = outcome("warning", "not-supported", *told)
    resource = {"resourceType": "OperationOutcome", "id": name, "issue": said["issue"]}
    return orjson.dumps({"fullUrl": f"urn:uuid:{name}", "resource": resource, "search": {"mode": "outcome"}})
