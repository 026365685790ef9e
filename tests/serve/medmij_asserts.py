"""The asserts of the official MedMij suite on an answer to a search (contracts/medmij.md section 4, 1 to 19), over XML; JSON is turned into it first.

Number 8 is no more than the base here: profiles are the business of HAPI's validator. Imports nothing of the server that it judges.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree as ET

from fhir.resources.STU3.bundle import Bundle
from pydantic import ValidationError

from pipeline.sandbox.medmij.xml import written

BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
ZIB: Final = "urn:oid:2.16.840.1.113883.2.4.3.11.60.40.2"
WITHOUT_PROFILE: Final = frozenset({"OperationOutcome", "Binary"})
_URN: Final = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|urn:oid:[0-2](\.(0|[1-9]\d*))+")

Found = Iterator[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer."""

    query: str
    """Of the request, as it was sent."""
    status: int
    tree: dict[str, Any]
    """What it was as JSON."""
    root: ET.Element
    """The same as XML."""


def heard(query: str, status: int, tree: dict[str, Any], xml: bytes | None = None) -> Heard:
    """`xml`: what came as XML; else it is made of the tree."""
    return Heard(query, status, tree, _plain(ET.fromstring(xml or written(tree))))  # noqa: S314 - of a test's own server


def _plain(root: ET.Element) -> ET.Element:
    """Without namespaces."""
    for one in root.iter():
        one.tag = one.tag.rpartition("}")[2]
    return root


def broken(answer: Heard, appointments: int) -> list[tuple[int, str]]:
    """Each rule that does not hold, by number and place."""
    checks = (_bundle(answer, appointments), _entries(answer), _codes(answer), _elements(answer), _links(answer), _base(answer))
    return [problem for check in checks for problem in check]


def _value(element: ET.Element, path: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get("value")


def _resources(root: ET.Element) -> list[ET.Element]:
    return [one[0] for one in root.findall("entry/resource")]


def _bundle(answer: Heard, appointments: int) -> Found:
    root = answer.root
    if answer.status not in {200, 201}:
        yield 1, str(answer.status)
    if root.tag != "Bundle":
        yield 2, root.tag
    if _value(root, "type") != "searchset":
        yield 3, str(_value(root, "type"))
    total, matches = _value(root, "total"), sum(_value(one, "search/mode") == "match" for one in root.findall("entry"))
    if total is not None and int(total) > matches:
        yield 15, f"{total} of {matches}"
    there = sum(one.tag == "Appointment" for one in _resources(root))
    if there != appointments:
        yield 19, f"{there} instead of {appointments}"


def _entries(answer: Heard) -> Found:
    for entry in answer.root.findall("entry"):
        resource, url = entry.find("resource/*"), _value(entry, "fullUrl")
        if resource is None:
            continue
        identifier, urn = _value(resource, "id"), str(url).startswith("urn:")
        if identifier is None and not urn:
            yield 4, resource.tag
        if resource.tag not in WITHOUT_PROFILE and resource.find("meta/profile") is None:
            yield 5, resource.tag
        if url is not None and not urn and not url.endswith(f"/{identifier}"):
            yield 6, resource.tag
        if url is not None and not (re.match(r"https?://[^/]+/", url) or _URN.fullmatch(url)):
            yield 7, resource.tag


def _codes(answer: Heard) -> Found:
    for one in answer.root.iter():
        if one.tag in {"coding", "valueCoding", "security", "tag"}:
            if _value(one, "system") is None or _value(one, "code") is None:
                yield 9, one.tag
            if str(_value(one, "system")).startswith(ZIB):
                yield 10, one.tag
        if one.find("coding") is not None:
            said = (
                one.findall("coding/display") + one.findall("text") + one.findall("extension") + one.findall("coding/extension")
            )
            if not said:
                yield 11, one.tag


def _elements(answer: Heard) -> Found:
    for one in answer.root.iter():
        if one.find("reference") is not None and one.find("display") is None and one.find("extension") is None:
            yield 12, one.tag
        if one.tag == "identifier":
            if one.find("value") is None or (one.find("system") is None and one.find("type") is None):
                yield 13, one.tag
            if _value(one, "system") == BSN and (_value(one, "value") is not None or one.find("value/extension") is None):
                yield 14, one.tag


def _links(answer: Heard) -> Found:
    of_self = [str(_value(one, "url")) for one in answer.root.findall("link") if _value(one, "relation") == "self"]
    if len(of_self) != 1:
        yield 16, f"{len(of_self)} self links"
    if any(BSN in unquote(str(_value(one, "url"))) for one in answer.root.findall("link")):
        yield 17, "link"
    said = parse_qsl(urlsplit(of_self[0]).query) if of_self else []
    for pair in parse_qsl(answer.query):
        if pair not in said:
            yield 18, pair[0]


def _base(answer: Heard) -> Found:
    try:
        Bundle.model_validate(answer.tree)
    except ValidationError as error:
        yield 8, str(error.errors(include_input=False, include_url=False)[0]["loc"])
