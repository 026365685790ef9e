"""Nictiz's published STU3 examples (XML, CC0) pass the compiled checks: resources that others wrote. It runs where the examples are."""

import os
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from pipeline.fhir.metadata import Element, Release, Type, type_named
from pipeline.fhir.validator import Validator

SHARED: Final = Path(os.environ.get("EMR_SHARED", Path(__file__).parents[3] / "shared"))
EXAMPLES: Final = sorted((SHARED / "fhir").glob("*/Examples/*.xml"))
FHIR: Final = "{http://hl7.org/fhir}"
READ: Final = {
    "boolean": {"true": True, "false": False}.get,
    "integer": int,
    "positiveInt": int,
    "unsignedInt": int,
    "decimal": float,
}
"""XML's text as JSON's own types."""
VALIDATOR: Final = Validator(Release.STU3)


def from_xml(node: ET.Element) -> dict[str, Any]:
    """A resource's JSON, by the metadata (STU3 json.html)."""
    name = node.tag.removeprefix(FHIR)
    known = type_named(Release.STU3, name)
    assert known is not None, name
    return {"resourceType": name, **_content(node, known)}


def _content(node: ET.Element, known: Type) -> dict[str, Any]:
    made: dict[str, Any] = {name: value for name, value in node.attrib.items() if name in {"id", "url"}}
    for child in node:
        element = known.elements[child.tag.removeprefix(FHIR)] if child.tag.startswith(FHIR) else known.elements["div"]
        value, beside = _value(child, element)
        for key, one in ((element.name, value), (f"_{element.name}", beside)):
            if element.many and (one is not None or key == element.name):
                made.setdefault(key, []).append(one)
            elif one is not None:
                made[key] = one
    return made


def _value(node: ET.Element, element: Element) -> tuple[Any, dict[str, Any] | None]:
    if element.type == "xhtml":
        ET.register_namespace("", "http://www.w3.org/1999/xhtml")  # else <html:div>, which FHIR's JSON does not allow
        return ET.tostring(node, encoding="unicode").strip(), None
    if element.type == "Resource":
        return from_xml(node[0]), None
    if not element.primitive:
        known = type_named(Release.STU3, element.type)
        assert known is not None, element.type
        return _content(node, known), None
    text = node.get("value")
    extra = type_named(Release.STU3, "Element")
    assert extra is not None
    beside = _content(node, extra) or None
    read: Any = READ.get(element.type, str)
    return (None if text is None else read(text)), beside


@pytest.mark.skipif(not EXAMPLES, reason=f"no Nictiz examples below {SHARED / 'fhir'}")
def test_nictizs_examples_pass() -> None:
    findings = {
        path.name: VALIDATOR.check(from_xml(ET.fromstring(path.read_bytes())))  # noqa: S314 - a file of this machine
        for path in EXAMPLES
    }

    assert len(findings) > 40
    assert {name: found for name, found in findings.items() if found} == {}
