"""FHIR's XML from its JSON, and back (STU3 xml.html, json.html): driven by the metadata, without a model of any type.

No DOCTYPE and no entity is ever read, nothing is fetched, and no error shows a value: FHIR paths only. What is written was checked before or is refused
here; what is read is no more than well formed and made of elements that FHIR knows: let the validator look at it.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from xml.etree import ElementTree as ET
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from pipeline.fhir.metadata import Element, Release, Type, resource_types, type_named
from pipeline.fhir.narrative import XHTML
from pipeline.model import Resource

FHIR: Final = "{http://hl7.org/fhir}"
XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
XML: Final = "{http://www.w3.org/XML/1998/namespace}"
HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'
DEEPEST: Final = 100
"""Elements within elements: FHIR needs some twenty."""
NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have."""
INTEGERS: Final = frozenset({"integer", "positiveInt", "unsignedInt"})
WHOLE: Final = re.compile(r"-?\d{1,18}")
NUMBER: Final = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,3})?")
NAME: Final = re.compile(r"[A-Za-z]{1,40}")


class NoFhirXml(Exception):
    """What cannot be read or written as FHIR; its text names places, never a value."""


def to_xml(resource: Resource, release: Release = Release.STU3) -> bytes:
    """A resource as an XML document in UTF-8. NoFhirXml where an element is none that FHIR knows, or a text none that XML has."""
    return "".join((HEAD, *_Writer(release).resource(resource, "", root=True))).encode()


def from_xml(document: bytes, release: Release = Release.STU3) -> Resource:
    """A resource from an XML document. NoFhirXml."""
    return _Reader(release).resource(_tree(document), "")


class _Writer:
    """Writes what FHIR knows, in FHIR's order."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def resource(self, resource: Any, path: str, *, root: bool = False) -> Iterator[str]:  # noqa: ANN401 - JSON
        name = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(name, str) or name not in resource_types(self._release):
            raise NoFhirXml(f"{path or 'the document'}: no resource that FHIR knows")
        known = _type(self._release, name)
        yield f'<{name} xmlns="{FHIR[1:-1]}">' if root else f"<{name}>"
        yield from self._content({key: value for key, value in resource.items() if key != "resourceType"}, known, path or name)
        yield f"</{name}>"

    def _content(self, node: Any, known: Type, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
        if not isinstance(node, dict) or not all(name.removeprefix("_") in known.elements for name in node):
            raise NoFhirXml(f"{path}: an element that FHIR does not know there")
        for name in known.order:
            if (name in node or f"_{name}" in node) and not _attribute(known, name):
                yield from self._element(node, known.elements[name], f"{path}.{name}")

    def _element(self, node: dict[str, Any], element: Element, path: str) -> Iterator[str]:
        value, beside = node.get(element.name), node.get(f"_{element.name}")
        if not element.many:
            yield from self._one(element, value, beside, path)
            return
        if not isinstance(value, list | None) or not isinstance(beside, list | None):
            raise NoFhirXml(f"{path}: no list")
        values, more = value or [], beside or []
        for number in range(max(len(values), len(more))):
            yield from self._one(element, _at(values, number), _at(more, number), f"{path}[{number}]")

    def _one(self, element: Element, value: Any, beside: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
        name = element.name
        if element.type == "xhtml":
            yield _xhtml(value, path)
        elif element.primitive:
            yield from self._primitive(name, value, beside, path)
        elif element.type == "Resource":
            yield f"<{name}>"
            yield from self.resource(value, path)
            yield f"</{name}>"
        else:
            known = _type(self._release, element.type)
            inside = "".join(self._content(value, known, path))
            start = f"<{name}{_attributes(value, known, path)}"
            yield f"{start}>{inside}</{name}>" if inside else f"{start}/>"

    def _primitive(self, name: str, value: Any, beside: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
        if value is None and not beside:
            raise NoFhirXml(f"{path}: no value")
        known = _type(self._release, "Element")
        given = "" if value is None else f" value={_quoted(_text(value, path), path)}"
        start = f"<{name}{_attributes(beside or {}, known, path)}{given}"
        inside = "".join(self._content(beside or {}, known, path))
        yield f"{start}>{inside}</{name}>" if inside else f"{start}/>"


def _attribute(known: Type, name: str) -> bool:
    """What XML has as an attribute: the id of all but resources, the url of an extension."""
    return (name == "id" and not known.resource) or (name == "url" and known.name == "Extension")


def _attributes(node: dict[str, Any], known: Type, path: str) -> str:
    return "".join(
        f" {name}={_quoted(_text(node[name], path), path)}" for name in ("id", "url") if name in node and _attribute(known, name)
    )


def _text(value: Any, path: str) -> str:  # noqa: ANN401 - JSON
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float() if isfinite(value):
            return format(Decimal(repr(value)), "f")
        case _:
            raise NoFhirXml(f"{path}: no value of its type")


def _quoted(text: str, path: str) -> str:
    if NOT_XML.search(text):
        raise NoFhirXml(f"{path}: a character that XML does not have")
    return quoteattr(text)


def _at(values: list[Any], number: int) -> Any:  # noqa: ANN401 - JSON
    return values[number] if number < len(values) else None


def _type(release: Release, name: str) -> Type:
    known = type_named(release, name)
    if known is None:
        raise NoFhirXml("a type that FHIR does not know")
    return known


class _Reader:
    """Reads what FHIR knows, in whatever order it stands."""

    def __init__(self, release: Release) -> None:
        self._release = release

    def resource(self, node: ET.Element, path: str) -> Resource:
        name = node.tag.removeprefix(FHIR)
        if not node.tag.startswith(FHIR) or name not in resource_types(self._release):
            raise NoFhirXml(f"{path or 'the document'}: no resource that FHIR knows")
        return {"resourceType": name, **self._content(node, _type(self._release, name), path or name)}

    def _content(self, node: ET.Element, known: Type, path: str, *, value: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, text in node.attrib.items():
            if _attribute(known, name):
                made[name] = text
            elif not name.startswith(XSI) and not (value and name == "value"):
                raise NoFhirXml(f"{path}: an attribute that FHIR does not know there")
        _no_text(node, path)
        for child in node:
            element = _known(child, known, path)
            self._into(made, child, element, f"{path}.{element.name}")
        return {name: each for name, each in made.items() if not (name[0] == "_" and _all_null(each))}

    def _into(self, made: dict[str, Any], node: ET.Element, element: Element, path: str) -> None:
        value, beside = self._value(node, element, path)
        if element.many:
            made.setdefault(element.name, []).append(value)
            if element.primitive:
                made.setdefault(f"_{element.name}", []).append(beside)
            return
        if element.name in made or f"_{element.name}" in made:
            raise NoFhirXml(f"{path}: more than one")
        made |= {name: each for name, each in ((element.name, value), (f"_{element.name}", beside)) if each is not None}

    def _value(self, node: ET.Element, element: Element, path: str) -> tuple[Any, dict[str, Any] | None]:
        if element.type == "xhtml":
            return _div(node, path), None
        if element.type == "Resource":
            _no_text(node, path)
            if len(node) != 1:
                raise NoFhirXml(f"{path}: not one resource")
            return self.resource(node[0], path), None
        if not element.primitive:
            return self._content(node, _type(self._release, element.type), path), None
        beside = self._content(node, _type(self._release, "Element"), path, value=True) or None
        text = node.get("value")
        if text is None and beside is None:
            raise NoFhirXml(f"{path}: no value")
        return (None if text is None else _read(element.type, text, path)), beside


def _known(child: ET.Element, known: Type, path: str) -> Element:
    namespace, _, name = child.tag.rpartition("}")
    element = known.elements.get(name)
    wanted = XHTML if element is not None and element.type == "xhtml" else FHIR
    if element is None or f"{namespace}}}" != wanted or _attribute(known, name):
        raise NoFhirXml(f"{path}{f'.{name}' if NAME.fullmatch(name) else ''}: an element that FHIR does not know there")
    return element


def _no_text(node: ET.Element, path: str) -> None:
    if any(text and text.strip() for text in (node.text, *(child.tail for child in node))):
        raise NoFhirXml(f"{path}: text between elements")


def _all_null(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, list) and all(each is None for each in value)


def _read(kind: str, text: str, path: str) -> Any:  # noqa: ANN401 - JSON
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    if kind in INTEGERS | {"decimal"} and WHOLE.fullmatch(text):
        return int(text)
    if kind == "decimal" and NUMBER.fullmatch(text):
        return float(text)
    if kind in INTEGERS | {"decimal", "boolean"}:
        raise NoFhirXml(f"{path}: no {kind}")
    return text


def _tree(document: bytes) -> ET.Element:
    """The elements of a document, by expat itself: with a DOCTYPE, and so any entity, it is refused."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise NoFhirXml("elements within elements too deep")
        builder.start(_clark(name), {_clark(each): text for each, text in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_clark(name))

    def doctype(*_: object) -> None:
        raise NoFhirXml("a DOCTYPE, which FHIR does not allow")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document, True)  # noqa: FBT003 - expat's own signature
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError) as error:
        where = f" in line {error.lineno}" if isinstance(error, expat.ExpatError) else ""
        raise NoFhirXml(f"not well-formed XML{where}") from None


def _clark(name: str) -> str:
    return f"{{{name}" if "}" in name else name


def _div(node: ET.Element, path: str) -> str:
    return "".join(_markup(node, path, root=True))


def _markup(node: ET.Element, path: str, *, root: bool = False) -> Iterator[str]:
    """XHTML without prefixes, as FHIR's JSON wants it."""
    name = node.tag.removeprefix(XHTML)
    attributes = {key.replace(XML, "xml:"): text for key, text in node.attrib.items()}
    if not node.tag.startswith(XHTML) or any("}" in key for key in attributes):
        raise NoFhirXml(f"{path}: what is not XHTML")
    given = "".join(f" {key}={quoteattr(text)}" for key, text in attributes.items())
    yield f"<{name}{f' xmlns={quoteattr(XHTML[1:-1])}' if root else ''}{given}"
    if len(node) == 0 and not node.text:
        yield "/>"
        return
    yield f">{escape(node.text or '')}"
    for child in node:
        yield from _markup(child, path)
        yield escape(child.tail or "")
    yield f"</{name}>"


def _xhtml(value: Any, path: str) -> str:  # noqa: ANN401 - JSON
    """A div as it may stand in a document: read, and written anew."""
    if not isinstance(value, str) or NOT_XML.search(value):
        raise NoFhirXml(f"{path}: no XHTML")
    try:
        div = _tree(value.encode())
    except NoFhirXml:
        raise NoFhirXml(f"{path}: no well-formed XHTML") from None
    if div.tag != f"{XHTML}div":
        raise NoFhirXml(f"{path}: no div of XHTML")
    return _div(div, path)
