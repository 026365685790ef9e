"""Which fields of the event a template can read: told by names, and everything where names do not tell."""

import ast
import inspect
from pathlib import Path
from textwrap import dedent

import pytest

from pipeline.templates import catalogue as module
from pipeline.templates import filters, tables
from pipeline.templates.environment import MappingEnvironment
from pipeline.templates.filters import READS, filters_of
from pipeline.templates.reads import FIELDS, fields_read
from schemas.event import Coded, Identifier, Name, Timestamp
from tests.templates.samples import catalogue


def read(template: str) -> set[str] | None:
    names = fields_read(MappingEnvironment(filters_of({})).parse(template))
    return None if names is None else set(names)


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ('{"id": {{ patient.birth.date }}}', {"patient", "birth"}),
        ('{"id": {{ event.patient["birth"].date }}}', {"patient", "birth"}),
        ('{"id": {{ event["visit"]["number"].value }}}', {"visit", "number", "value"}),
        ("{% for r in reports %}{{ r.observations[0].coded.text }}{% endfor %}", {"reports", "observations", "coded"}),
        ("{% set p = patient %}{% for n in p.names %}{{ n.family }}{% endfor %}", {"patient", "names"}),
        ('{% macro M(visit) %}{{ visit.location.room }}{% endmacro %}{"id": {{ M(event.visit) }}}', {"visit", "location"}),
        ("{{ patient.addresses[0].city }}{{ patient.names[-1].family }}", {"patient", "addresses", "names"}),
        ('{{ (diagnoses | diagnosis("t")).code }}', {"diagnoses", "code", "coding_method", "type", "action"}),
        ('{{ (patient.names | prefer("L")).first.given }}', {"patient", "names", "type"}),
        ('{{ (diagnoses | prefer("F")).first.time.date }}', {"diagnoses", "type", "time"}),
        ('{% if coverages %}{"id": {{ partner.id }}}{% endif %}', {"coverages"}),
        ('{{ patient.death is absent }}{{ "a" if patient.race is deleted }}', {"patient", "death", "race"}),
        ('{{ hl7("PID-11.3") }}', set()),
    ],
)
def test_a_field_is_read_where_it_is_named(template: str, names: set[str]) -> None:
    assert read(template) == names


@pytest.mark.parametrize(
    "template",
    [
        '{% if telecom.equipment not in ["FX", "MD"] and telecom.use == "PRN" %}{% endif %}',
        "{% if name.family != name.own_family %}{% endif %}",
        '{% if (x | lower) == y or x is eq("A") or "A" in patient.names %}{% endif %}',
    ],
)
def test_comparing_texts_and_data_types_tells_what_is_read(template: str) -> None:
    assert read(template) is not None


@pytest.mark.parametrize(
    "template",
    [
        "{{ patient[partner.id] }}",
        "{{ diagnoses[n].code }}",
        "{{ diagnoses[1:] }}",
        "{% if diagnoses[0] == diagnoses[1] %}{% endif %}",
        "{% if event.patient != x %}{% endif %}",
        "{% if diagnoses.first == diagnoses.last %}{% endif %}",
        "{% if diagnoses[0] is eq(diagnoses[1]) %}{% endif %}",
        "{% if x in diagnoses %}{% endif %}",
        "{% if x is in(y) %}{% endif %}",
        '{% if ("gender", "F") in patient %}{% endif %}',
        "{% if (diagnoses | first) == x %}{% endif %}",
        "{% if [diagnoses] == x %}{% endif %}",
        "{% if reports[0].observations == x %}{% endif %}",
    ],
)
def test_a_template_that_may_look_into_a_part_without_naming_fields_reads_everything(template: str) -> None:
    assert read(template) is None


def test_every_file_of_a_partner_counts_and_one_that_reads_everything_counts_for_all(tmp_path: Path) -> None:
    macros = {"p/m.json.j2": "{% macro M(x) %}{{ x.gender }}{% endmacro %}"}
    template = '{% from "m.json.j2" import M %}{"id": {{ M(patient) }}, "b": {{ patient.birth.date }}}'
    assert catalogue(tmp_path / "1", template, **macros).fields("p") == frozenset({"gender", "patient", "birth"})
    macros = {"p/m.json.j2": "{% macro M(x) %}{{ x[patient.gender] }}{% endmacro %}"}
    assert catalogue(tmp_path / "2", template, **macros).fields("p") is None


def test_the_fields_are_the_same_object_until_a_file_changes_and_then_at_once_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    mappings = catalogue(tmp_path, '{"id": {{ patient.gender }}}')
    before = mappings.fields("p")
    assert mappings.fields("p") is before
    (tmp_path / "p" / "t.json.j2").write_text('{"id": {{ patient.gender }}, "d": {{ patient.death.date }}}')
    now = mappings.fields("p")
    assert (before, now) == (frozenset({"patient", "gender"}), frozenset({"patient", "gender", "death"}))


def test_what_filters_read_of_segments_is_declared() -> None:
    whole = {name for model in (Coded, Identifier, Name, Timestamp) for name in model.model_fields}
    named = {
        node.attr
        for source in (inspect.getsource(filters), dedent(inspect.getsource(tables.CodeTable.find_coded)))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
    }
    declared = {name for names in READS.values() for name in names}
    assert (named & FIELDS) - declared - whole == set()
    assert declared <= named
