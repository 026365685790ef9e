"""What a template's JSON becomes: the sentences of DESIGN decision 5, one test each."""

from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import Parked
from pipeline.templates.text import Constant, constant_of, resources_of, text_of
from schemas.event import NULL, Coded, Event, Name, Patient, Telecom, Timestamp
from schemas.outcomes import FindingCode, Reason
from tests.templates.samples import catalogue, context, identity, one, render


def event(**fields: object) -> Event:
    return Event(type="ADT", trigger="A04", patient=Patient.model_validate(fields))


def test_a_value_comes_with_its_own_quotes(tmp_path: Path) -> None:
    assert one(tmp_path, '{"gender": {{ patient.gender }}}', event(gender='F"x')) == {"gender": 'F"x'}


def test_trailing_commas_are_allowed_everywhere(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }},\n  "name": [{"given": [{{ partner.id }},  ],\n },\n ],\n}'
    assert one(tmp_path, template) == {"id": "1", "name": [{"given": ["1"]}]}


@pytest.mark.parametrize("value", [None, "", "  ", NULL])
def test_what_is_absent_empty_or_deleted_vanishes(tmp_path: Path, value: object) -> None:
    assert one(tmp_path, '{"id": {{ partner.id }}, "gender": {{ patient.gender }}}', event(gender=value)) == {"id": "1"}


def test_false_and_nought_stay(tmp_path: Path) -> None:
    assert one(tmp_path, '{"active": {{ partner.flag }}, "n": {{ 0 }}, "constant": false}', flag=False) == {
        "active": False,
        "n": 0,
        "constant": False,
    }


def test_an_object_whose_variables_all_vanished_goes_with_its_constants(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }}, "telecom": [{"system": "phone", "value": {{ partner.none }}, "use": "home"}]}'
    assert one(tmp_path, template) == {"id": "1"}


def test_a_constant_from_an_expression_keeps_no_object_alive(tmp_path: Path) -> None:
    template = """{% macro phone(value, use) %}{"value": {{ value }}, "use": {{ use }}, "rank": {{ "x" if value else "y" }}}{% endmacro %}
      {"id": {{ partner.id }}, "telecom": [{{ phone(partner.none, "home") }}, {{ phone(partner.id, "work") }}]}"""
    assert one(tmp_path, template) == {"id": "1", "telecom": [{"value": "1", "use": "work", "rank": "x"}]}


def test_an_object_of_constants_only_stays(tmp_path: Path) -> None:
    assert one(tmp_path, '{"id": {{ partner.id }}, "meta": {"profile": ["http://p"]}}')["meta"] == {"profile": ["http://p"]}


def test_what_holds_only_what_vanished_vanishes_too(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }}, "a": {"b": [{"c": {"d": {{ partner.none }}}}], "e": "constant"}}'
    assert one(tmp_path, template) == {"id": "1"}


def test_nulls_that_line_up_a_primitive_array_with_its_extensions_stay(tmp_path: Path) -> None:
    template = (
        '{"given": [{{ partner.id }}, {{ partner.none }}, {{ partner.none }}], "_given": [null, {"id": {{ partner.id }}}, null]}'
    )
    assert one(tmp_path, template) == {"given": ["1", None], "_given": [None, {"id": "1"}]}


def test_extensions_that_vanished_leave_no_nulls(tmp_path: Path) -> None:
    template = '{"given": [{{ partner.none }}, {{ partner.id }}], "_given": [{"id": {{ partner.none }}}, null]}'
    assert one(tmp_path, template) == {"given": ["1"]}


def test_a_template_may_render_several_resources_or_none(tmp_path: Path) -> None:
    template = '{% if partner.flag %}[{% for i in range(2) %}{"id": {{ partner.id }}},{% endfor %}]{% endif %}'
    assert render(tmp_path, template, flag=True).resources == ({"id": "1"}, {"id": "1"})
    assert render(tmp_path, template, flag=False).resources == ()


def test_lists_answer_first_which_may_be_absent(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }}, "a": {{ patient.names.first.family }}, "b": {{ (patient.names | first).given }}}'
    assert one(tmp_path, template, event()) == {"id": "1"}
    assert one(tmp_path, template, event(names=(Name(family="A", given="B"),))) == {"id": "1", "a": "A", "b": "B"}


def test_the_fields_of_what_is_absent_or_deleted_are_absent(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }}, "birthDate": {{ patient.birth.date }}, "visit": {{ visit.number.value }}}'
    assert one(tmp_path, template, event(birth=NULL)) == {"id": "1"}


def test_a_deleted_value_is_known_as_such(tmp_path: Path) -> None:
    template = '{"a": {{ "deleted" if patient.gender is deleted else "said" }}, "b": {{ partner.id }}}'
    assert one(tmp_path, template, event(gender=NULL))["a"] == "deleted"


def test_joining_with_something_absent_is_absent(tmp_path: Path) -> None:
    template = '{"id": {{ partner.id }}, "a": {{ "Patient/" ~ partner.id }}, "b": {{ "Patient/" ~ partner.none }}}'
    assert one(tmp_path, template) == {"id": "1", "a": "Patient/1"}


def test_a_path_reaches_what_the_event_does_not_name(tmp_path: Path) -> None:
    assert one(tmp_path, '{"a": {{ hl7("ZPI-3.1") }}, "b": {{ hl7("ZPI-9") }}}') == {"a": "from a Z segment"}


@pytest.mark.parametrize(
    ("template", "where"),
    [
        ('{\n"gender": {{ patient.gendr }}}', "t.json.j2:2"),
        ('{\n\n"birth": {{ patient.birth }}}', "t.json.j2:3"),
        ('{"a": {{ patient.model_dump() }}}', "t.json.j2:1"),
        ('{"a": {{ partner.secret }}}', "t.json.j2:1"),
        ('{"a": {{ patient.gender.__class__ }}}', "t.json.j2:1"),
        ('{"a": {{ patient.gender * 5 }}}', "t.json.j2:1"),
        ('{% macro m(x) %}\n{{ x.nothing }}{% endmacro %}\n{"a": {{ m(patient) }}}', "t.json.j2:2"),
        ('{"a" {{ patient.gender }}}', "t.json.j2"),
        ('["a"]', "t.json.j2"),
    ],
)
def test_a_template_that_fails_names_file_and_line_and_no_value(tmp_path: Path, template: str, where: str) -> None:
    birth = Timestamp.model_validate({"date": "1980-02-03", "datetime": "1980-02-03", "precision": "day", "zone": "none"})
    with pytest.raises(Parked) as caught:
        render(tmp_path, template, event(gender="CANARY", birth=birth))
    assert (caught.value.reason, caught.value.where) == (Reason.MAPPING_FAILED, where)
    assert "CANARY" not in str(caught.value)
    assert "1980" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(1000000) %}{% endfor %}{}",
        "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(99) %}{% endfor %}{% endfor %}{% endfor %}{}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a ~ a ~ a ~ a ~ a ~ a ~ a %}" * 9 + "{}",
    ],
)
def test_a_template_that_runs_away_is_stopped(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.templates.catalogue.BUDGET", 0.05)
    with pytest.raises(Parked) as caught:
        render(tmp_path, template)
    assert caught.value.reason == Reason.MAPPING_DEADLINE


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    value=st.text(st.characters(exclude_categories=()), max_size=40)
    | st.sampled_from(['"', "\\", '\\"', "]},", "\x7f", "\x7f\x7ftrue", "\ue0020\ue002", "{{ 1 }}"])
)
def test_no_value_breaks_out_of_its_text(shared: Path, value: str) -> None:
    rendered = catalogue(shared, TWO).render("p", context(event(gender=value, names=(Name(family=value),))))
    resource = rendered.resources[0] if rendered.resources else {}
    clean = "".join(
        letter
        for letter in value
        if letter in "\t\n\r" or not (ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000)
    )
    expected = {"id": "1", "b": {"c": clean.strip()}, "gender": clean.strip()} if clean.strip() else {"id": "1"}
    assert resource == expected
    orjson.dumps(resource)


TWO = '{"id": {{ partner.id }}, "b": {"c": {{ patient.names.first.family }}}, "gender": {{ patient.gender }}, }'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mappings")


WRITTEN = st.characters(exclude_characters="\x7f\ue002")
"""What a template may hold as text: our marks are refused when it is compiled."""


@given(
    st.recursive(
        st.none() | st.text(WRITTEN, max_size=3) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=12,
    )
)
def test_pruning_leaves_nothing_empty(tree: object) -> None:
    text = orjson.dumps({"id": "\x7f1", "tree": tree}).decode()
    (resource,) = resources_of([text])

    def hollow(value: object) -> bool:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return value in (None, "", [], {}) or any(hollow(child) for child in children)

    assert not hollow(resource)


def test_constants_are_written_as_values_are_but_unmarked() -> None:
    assert (constant_of(Constant("a]")), text_of("a]")) == ('"a\\u005d"', '"\x7fa\\u005d"')


def test_an_unmapped_code_is_left_out_and_told_with_its_place(tmp_path: Path) -> None:
    table = "table: sex\nelement: Patient.gender\nrows: [{code: F, to: female}, {code: Z, to: nothing}]\n"
    mappings = catalogue(
        tmp_path, '{"id": {{ partner.id }}, "gender": {{ patient.gender | code("sex") }}}', **{"codes/sex.yaml": table}
    )

    rendered = {code: mappings.render("p", context(event(gender=code))) for code in "FQZ"}

    assert [rendered[code].resources[0].get("gender") for code in "FQZ"] == ["female", None, None]
    assert [[(f.code, f.hl7, f.about) for f in rendered[code].findings] for code in "FQZ"] == [
        [],
        [(FindingCode.CODE_UNMAPPED, "PID-8", "sex")],
        [],
    ]


def test_a_bad_number_costs_the_field_and_is_told_with_its_repetition(tmp_path: Path) -> None:
    template = '{"telecom": [{% for t in patient.home_telecoms %}{"value": {{ t.number | phone }}, "x": {{ t.email | email }}},{% endfor %}]}'
    telecoms = (Telecom(number="030-1234567"), Telecom(number="onbekend"), Telecom(email="a@b"), Telecom(email="a@example.org"))

    rendered = render(tmp_path, template, event(home_telecoms=telecoms))

    assert rendered.resources == ({"telecom": [{"value": "030-1234567"}, {"x": "a@example.org"}]},)
    assert [(f.code, f.hl7) for f in rendered.findings] == [
        (FindingCode.ELEMENT_DROPPED, "PID-13[2].1"),
        (FindingCode.ELEMENT_DROPPED, "PID-13[3].4"),
    ]


def test_a_trace_says_where_each_element_comes_from(tmp_path: Path) -> None:
    template = """{% macro N(name) %}{"family": {{ name.family }}, "given": [{{ name.given | upper }}]}{% endmacro %}
      {"resourceType": "Patient", "id": {{ partner.id }}, "gender": {{ patient.gender }}, "z": {{ hl7("ZPI-3.1") }},
       "identifier": [{% for i in identifiers %}{"value": {{ i.value }}},{% endfor %}],
       "name": [{% for name in patient.names %}{{ N(name) }},{% endfor %}], "birthDate": {{ patient.birth.date }},
       "language": {{ patient.language.code }}}"""
    birth = Timestamp.model_validate({"date": "1980-02-03", "datetime": "1980-02-03", "precision": "day", "zone": "none"})
    happened = event(gender="F", names=(Name(family="A", given="b"), Name(family="C")), birth=birth, language=Coded(code="nl"))

    places = catalogue(tmp_path, template).trace("p", context(happened, identities=(identity("1"), identity("2", "PID-3[3].1"))))

    assert {path: place for path, place in places.items() if path.startswith("Patient")} == {
        "Patient.gender": "PID-8",
        "Patient.z": "ZPI-3.1",
        "Patient.identifier": "PID-3",
        "Patient.identifier[0]": "PID-3.1",
        "Patient.identifier[0].value": "PID-3.1",
        "Patient.identifier[1]": "PID-3[3].1",
        "Patient.identifier[1].value": "PID-3[3].1",
        "Patient.name": "PID-5",
        "Patient.name[0]": "PID-5",
        "Patient.name[0].family": "PID-5.1.1",
        "Patient.name[0].given": "PID-5.2",
        "Patient.name[0].given[0]": "PID-5.2",
        "Patient.name[1]": "PID-5[2].1.1",
        "Patient.name[1].family": "PID-5[2].1.1",
        "Patient.birthDate": "PID-7",
        "Patient.language": "PID-15.1",
    }
    assert places["Bundle.entry[0].resource.name[1].family"] == "PID-5[2].1.1"
