"""FHIR's XML and JSON are one another's: published examples, any resource that FHIR's types allow, and what neither may hold."""

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from fhir.resources.STU3 import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.fhir.metadata import Element, Release, resource_types, type_named
from pipeline.fhir.validator import Validator
from pipeline.fhir.xml import NoFhirXml, from_xml, to_xml
from tests.fhir.samples import full_patient

SHARED: Final = Path(os.environ.get("EMR_SHARED", Path(__file__).parents[3] / "shared"))
EXAMPLES: Final = sorted((SHARED / "fhir").glob("*/*/*.xml"))
DIV: Final = '<div xmlns="http://www.w3.org/1999/xhtml">'
VALIDATOR: Final = Validator(Release.STU3)


def test_an_appointment_is_written_in_fhirs_order() -> None:
    appointment = {
        "id": "a1",
        "start": "2026-06-20T09:30:00+02:00",
        "resourceType": "Appointment",
        "participant": [{"status": "accepted", "actor": {"display": 'A. "T" <&>', "reference": "Patient/p1"}}],
        "status": "booked",
        "minutesDuration": 15,
        "identifier": [{"value": "1"}],
    }
    assert to_xml(appointment).decode() == (
        '<?xml version="1.0" encoding="UTF-8"?><Appointment xmlns="http://hl7.org/fhir"><id value="a1"/>'
        '<identifier><value value="1"/></identifier><status value="booked"/><start value="2026-06-20T09:30:00+02:00"/>'
        '<minutesDuration value="15"/><participant><actor><reference value="Patient/p1"/>'
        '<display value=\'A. "T" &lt;&amp;&gt;\'/></actor><status value="accepted"/></participant></Appointment>'
    )


def test_a_value_that_is_masked_keeps_its_extension() -> None:
    masked = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "_value": {"extension": [masked]}}]}
    written = to_xml(patient)
    assert (
        b'<value><extension url="http://hl7.org/fhir/StructureDefinition/data-absent-reason"><valueCode value="masked"/>'
        in written
    )
    assert from_xml(written) == patient


@pytest.mark.parametrize(
    "resource",
    [
        full_patient(),
        {"resourceType": "Patient", "name": [{"given": ["A", None], "_given": [None, {"id": "x"}]}]},
        {"resourceType": "Patient", "name": [{"given": [None], "_given": [{"id": "x"}]}]},
        {"resourceType": "Patient", "active": False, "multipleBirthInteger": 0},
        {"resourceType": "Patient", "text": {"status": "generated", "div": f'{DIV}a &amp; <b class="x">b</b> c<br/></div>'}},
        {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": "Patient", "id": "p"}}]},
        {"resourceType": "Patient", "name": [{"text": "tab\tline\nreturn\r and 😀"}]},
        {"resourceType": "MedicationAdministration", "note": [{"authorReference": {"display": "x"}}]},
        {"resourceType": "Observation", "valueQuantity": {"value": 0.0000001}},
        {"resourceType": "Observation", "valueQuantity": {"value": 12345678901234.5}},
    ],
    ids=str,
)
def test_there_and_back_is_the_same(resource: dict[str, Any]) -> None:
    assert from_xml(to_xml(resource)) == resource


@pytest.mark.skipif(not EXAMPLES, reason=f"no Nictiz packages below {SHARED / 'fhir'}")
def test_nictizs_packages_there_and_back() -> None:
    read = 0
    for path in EXAMPLES:
        resource = from_xml(path.read_bytes())
        assert from_xml(to_xml(resource)) == resource, path.name
        read += 1
    assert read > 100


@pytest.mark.skipif(not EXAMPLES, reason=f"no Nictiz packages below {SHARED / 'fhir'}")
def test_nictizs_examples_are_what_the_validator_takes_and_fhir_resources_reads() -> None:
    for path in (each for each in EXAMPLES if each.parent.name == "Examples"):
        resource = from_xml(path.read_bytes())
        assert VALIDATOR.check(resource) == (), path.name
        get_fhir_model_class(resource["resourceType"]).model_validate_json(json.dumps(resource))


# any resource


TEXT: Final = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=5
)
VALUES: Final = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "unsignedInt": st.integers(0, 2**31 - 1),
    "positiveInt": st.integers(1, 2**31 - 1),
    "decimal": st.floats(-1e9, 1e9).map(lambda number: int(number) if number.is_integer() else number),
    "xhtml": TEXT.map(lambda text: f"{DIV}{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</div>"),
}
BESIDE: Final = st.fixed_dictionaries({"id": TEXT}, optional={"extension": st.just([{"url": "urn:x", "valueCode": "y"}])})


@st.composite
def made(draw: st.DrawFn, name: str, depth: int) -> dict[str, Any]:
    """Any value of a type, as far as its elements say: what a validator would say of it does not matter here."""
    known = type_named(Release.STU3, name)
    assert known is not None
    chosen = draw(st.lists(st.sampled_from(known.order), min_size=1, max_size=3, unique=True))
    found: dict[str, Any] = {"resourceType": name} if known.resource else {}
    for element in (known.elements[each] for each in chosen):
        found |= draw(_made(element, depth))
    return found or {"id": "x"}


@st.composite
def _made(draw: st.DrawFn, element: Element, depth: int) -> dict[str, Any]:
    if not element.primitive:
        if depth == 0:
            return {}
        inner = made(draw(st.sampled_from(["Patient", "Appointment"])) if element.type == "Resource" else element.type, depth - 1)
        return {element.name: draw(st.lists(inner, min_size=1, max_size=2)) if element.many else draw(inner)}
    values = VALUES.get(element.type, TEXT)
    if element.type == "xhtml" or not element.extensible:
        return {element.name: draw(values)}
    if not element.many:
        both = {element.name: draw(st.none() | values), f"_{element.name}": draw(st.none() | BESIDE)}
        kept = {key: value for key, value in both.items() if value is not None}
        return kept or {element.name: draw(values)}
    pairs = draw(st.lists(st.tuples(st.none() | values, st.none() | BESIDE).filter(any_of), min_size=1, max_size=3))
    beside = {f"_{element.name}": [two for _, two in pairs]} if any(two for _, two in pairs) else {}
    return {element.name: [one for one, _ in pairs], **beside}


def any_of(pair: tuple[Any, Any]) -> bool:
    return pair[0] is not None or pair[1] is not None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_resource_there_and_back_is_the_same(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(resource_types(Release.STU3))))
    resource = data.draw(made(name, 2))
    assert from_xml(to_xml(resource)) == resource


# what is refused


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ('<!DOCTYPE x [<!ENTITY e "CANARY">]><Patient xmlns="http://hl7.org/fhir"><id value="&e;"/></Patient>', "DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><Patient xmlns="http://hl7.org/fhir"/>', "DOCTYPE"),
        ('<Patient xmlns="http://hl7.org/fhir"><id value="&e;"/></Patient>', "not well-formed XML in line 1"),
        ('<Patient xmlns="http://hl7.org/fhir">', "not well-formed"),
        ("", "not well-formed"),
        ("<Patient/>", "the document: no resource"),
        ('<Canary xmlns="http://hl7.org/fhir"/>', "the document: no resource"),
        ('<Patient xmlns="http://hl7.org/fhir"><canary value="1"/></Patient>', "Patient.canary: an element"),
        ('<Patient xmlns="http://hl7.org/fhir"><id xmlns="urn:x" value="1"/></Patient>', "Patient.id: an element"),
        ('<Patient xmlns="http://hl7.org/fhir"><id value="1" canary="1"/></Patient>', "Patient.id: an attribute"),
        ('<Patient xmlns="http://hl7.org/fhir"><id value="1"/><id value="2"/></Patient>', "Patient.id: more than one"),
        ('<Patient xmlns="http://hl7.org/fhir"><active value="CANARY"/></Patient>', "Patient.active: no boolean"),
        ('<Patient xmlns="http://hl7.org/fhir"><multipleBirthInteger value="1e3"/></Patient>', "no integer"),
        ('<Patient xmlns="http://hl7.org/fhir"><active/></Patient>', "Patient.active: no value"),
        ('<Patient xmlns="http://hl7.org/fhir">CANARY</Patient>', "Patient: text"),
        ('<Patient xmlns="http://hl7.org/fhir"><contained/></Patient>', "Patient.contained: not one resource"),
        ('<Patient xmlns="http://hl7.org/fhir"><text><div>x</div></text></Patient>', "Patient.text.div: an element"),
        ('<?xml version="1.0" encoding="canary"?><Patient xmlns="http://hl7.org/fhir"/>', "not well-formed"),
        (f'<Patient xmlns="http://hl7.org/fhir">{"<extension>" * 200}{"</extension>" * 200}</Patient>', "too deep"),
    ],
)
def test_a_document_that_is_no_resource_is_told_without_its_values(document: str, what: str) -> None:
    with pytest.raises(NoFhirXml) as caught:
        from_xml(document.encode())
    assert what in str(caught.value)
    assert "CANARY" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("resource", "what"),
    [
        ({"resourceType": "Canary"}, "the document: no resource"),
        ({"resourceType": "Patient", "canary": 1}, "Patient: an element"),
        ({"resourceType": "Patient", "name": {"text": "CANARY"}}, "Patient.name: no list"),
        ({"resourceType": "Patient", "name": ["CANARY"]}, "Patient.name[0]: an element"),
        ({"resourceType": "Patient", "active": {"CANARY": 1}}, "Patient.active: no value"),
        ({"resourceType": "Observation", "valueQuantity": {"value": float("nan")}}, "Observation.valueQuantity.value: no value"),
        ({"resourceType": "Patient", "gender": "CANARY\x00"}, "Patient.gender: a character"),
        ({"resourceType": "Patient", "gender": "CANARY\ud800"}, "Patient.gender: a character"),
        ({"resourceType": "Patient", "text": {"div": "<div>CANARY</div>"}}, "Patient.text.div: no div"),
        ({"resourceType": "Patient", "text": {"div": f"{DIV}<p>CANARY</div>"}}, "Patient.text.div: no well-formed"),
        ({"resourceType": "Patient", "text": {"div": "<!DOCTYPE div><div/>"}}, "Patient.text.div: no well-formed"),
        ({"resourceType": "Patient", "contained": [{"id": "CANARY"}]}, "Patient.contained[0]: no resource"),
    ],
)
def test_what_cannot_be_written_is_told_without_its_values(resource: dict[str, Any], what: str) -> None:
    with pytest.raises(NoFhirXml) as caught:
        to_xml(resource)
    assert what in str(caught.value)
    assert "CANARY" not in repr(caught.value)
