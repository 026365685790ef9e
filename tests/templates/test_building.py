"""The two ways of a template, built at once or by text, give the same: templates put together at random, and those that are shipped."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Template

from pipeline.errors import Parked
from pipeline.model import Resource
from pipeline.templates import catalogue as module
from pipeline.templates.building import BuildingEnvironment
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.environment import MappingEnvironment, begin
from pipeline.templates.filters import filters_of
from pipeline.templates.skeleton import NotUnderstood
from schemas.event import NULL
from schemas.outcomes import Reason
from tests.templates.samples import MAPPINGS, catalogue

NAMES = {"partner": {"id": "1", "text": ' a "]} \n', "none": None, "blank": "  ", "null": NULL, "yes": True, "no": False}}
EXPRESSIONS = [
    *(f"partner.{name}" for name in NAMES["partner"]),
    *("0", "1.5", '"constant"', '""', 'partner.id ~ "x"', "partner.none ~ partner.id", "(partner.none or partner.id)", "x"),
    *('("home" if partner.no else partner.none)', '("home" if partner.yes else partner.none)'),
]
FIXED = ['"home"', '""', "null", "true", "7", '{"p": ["http://p"]}', '{"p": [null, ""]}', "[]", "{}", r'"\u005d"']
MACRO = "{% macro m(x) %}\n<BODY>\n{% endmacro %}"

expressions = st.sampled_from(EXPRESSIONS).map(lambda text: f"{{{{ {text} }}}}")
calls = st.sampled_from(EXPRESSIONS[:5]).map(lambda text: f"{{{{ m({text}) }}}}")
leaves = expressions | calls | st.sampled_from(FIXED)
conditions = st.sampled_from(["partner.yes", "partner.no", "m(partner.none)", "x"])


def values(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects and lists of what `inner` gives, with branches and loops in them."""
    one = inner | st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, conditions, inner, inner)
    members = st.dictionaries(st.sampled_from(["a", "_a", "b", "_b", "c"]), one, max_size=4).map(
        lambda found: [f'"{key}": {value},' for key, value in found.items()]
    )
    branched = st.builds(
        "{{% if {} %}}{}{{% endif %}}".format, conditions, st.sampled_from(['"d": {{ partner.id }},', '"e": 1,'])
    )
    objects = st.builds(lambda found, more: "{ " + "".join([*found, *more]) + " }", members, st.lists(branched, max_size=1))
    items = inner.map("{},".format)
    many = items | st.builds("{{% for i in range({}) %}}{}{{% endfor %}}".format, st.integers(0, 2), items)
    many |= st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, conditions, items, items)
    return objects | st.lists(many, max_size=4).map(lambda found: f"[{''.join(found)}]")


trees = st.recursive(leaves, values, max_leaves=12)
bodies = st.recursive(expressions | st.sampled_from(FIXED), values, max_leaves=5).filter(lambda text: "m(" not in text)
PAIR = """{"a": [{{ partner.id }}, {{ partner.none }}, null], "_a": [null, {"id": {{ partner.none }}}, {"id": {{ partner.id }}}], "b": ["x"]}"""


def rendered(environment: MappingEnvironment, texts: list[str]) -> tuple[Resource, ...] | None:
    """The resources; None where they cannot be rendered."""
    templates = []
    for number, text in enumerate(texts):
        name = f"{number}.json.j2"
        code = environment.compile(environment.parse(text, name, name), name, name)
        templates.append(Template.from_code(environment, code, environment.globals))
    names: dict[str, Any] = {**NAMES, "x": "top", "range": environment.globals["range"]}
    try:
        return module._run(tuple(templates), environment, names, begin(5.0))
    except Parked:
        return None


def both(texts: list[str]) -> tuple[tuple[Resource, ...] | None, tuple[Resource, ...] | None]:
    """By text, and built."""
    return rendered(MappingEnvironment(filters_of({})), texts), rendered(BuildingEnvironment(filters_of({})), texts)


@settings(max_examples=150, deadline=None)
@given(tree=trees, body=bodies, macro=st.sampled_from(["<BODY>", "<BODY>, <BODY>", ""]))
def test_a_template_gives_the_same_built_as_by_text(tree: str, body: str, macro: str) -> None:
    text = MACRO.replace("<BODY>", macro).replace("<BODY>", body) + '{"id": {{ partner.id }}, "tree": ' + tree + "}"
    try:
        by_text, built = both([text])
    except NotUnderstood:
        return
    assert by_text == built
    assert repr(by_text) == repr(built)  # the order of the keys, and str for str


@pytest.mark.parametrize(
    "text",
    [
        PAIR,
        '{"a": [{{ partner.none }}], "_a": [null]}',
        '{"a": [{{ partner.id }}], {% if partner.no %}"_a": [null, {"id": "x"}],{% endif %}}',
        '{"id": {{ partner.id }}, "t": {"a": [], "_a": [null, {"id": "x"}]}}',
        '{"id": {{ partner.id }}, "t": {"c": "x", "a": [], {% if partner.no %}"_a": [{"id": "x"}]{% endif %}}}',
        '[{% for i in range(2) %}{% if loop.first %}{},{% endif %}{"n": {{ i }}},{% else %}{}{% endfor %}]',
        '{% set found = partner.id %}{"a": {{ found }}, {% set b = found %}"b": {{ b }}}, {"c": "two at the top"}',
        '{% macro nil() %}{% endmacro %}{"a": [{{ nil() }}, 1], "b": {{ nil() }}, "c": {{ "yes" if nil() else "no" }}}',
        '{% macro two(x) %}{"a": {{ x }}},{"b": {{ x }}},{% endmacro %}[{{ two(partner.id) }}{{ two(partner.none) }}]',
        '{% macro two(x) %}{{ x }}, {{ x }}{% endmacro %}{"a": {{ two(partner.id) }}}',
        "{{ partner.none }}",
        '["a"]',
        "null",
        "",
    ],
)
def test_what_chance_seldom_makes_is_the_same_too(text: str) -> None:
    by_text, built = both([text])
    assert repr(by_text) == repr(built)


@pytest.mark.parametrize(
    "text",
    [
        '{% if partner.yes %}{"a": 1,{% else %}{"b": 1,{% endif %}"c": {{ partner.id }}}',
        '{"a": 1, "a": {{ partner.id }}}',
        '{"a" {{ partner.id }}}',
        '{"a": ["a" "b"]}',
        '{"a": [1,, 2]}',
        '{"a": {% if partner.yes %}1{% endif %}}',
        '{"_a": [null, {"id": "x"}], "a": [{{ partner.id }}]}',
        '{% for i in range(2) %}"a"{% endfor %}]',
        '{% macro m() %}"a": 1{% endmacro %}{ {{ m() }} }',
    ],
)
def test_what_only_rendering_can_tell_goes_the_way_of_text(text: str, tmp_path: Path) -> None:
    with pytest.raises(NotUnderstood):
        BuildingEnvironment(filters_of({})).parse(text, "t.json.j2", "t.json.j2")
    mappings = catalogue(tmp_path, text.replace("partner.yes", "partner.flag"))
    assert type(mappings._of("p").environment) is MappingEnvironment


def test_the_shipped_mappings_are_built() -> None:
    for overlay in (None, *(path.name for path in (MAPPINGS / "sites").iterdir() if path.is_dir())):
        assert type(Catalogue(MAPPINGS, overlay)._of("roche").environment) is BuildingEnvironment


def test_each_turn_of_a_loop_looks_at_the_deadline() -> None:
    turns: list[int] = []

    def spin(number: int) -> str:
        turns.append(number)
        until = time.thread_time() + 0.0005
        while time.thread_time() < until:
            pass
        return "x"

    environment = BuildingEnvironment({"spin": spin})
    text = "[{% for i in range(1000) %}{% set x = i | spin %}{% endfor %}]"
    template = Template.from_code(
        environment, environment.compile(environment.parse(text, "t", "t"), "t", "t"), environment.globals
    )
    with pytest.raises(Parked) as caught:
        module._run((template,), environment, {"range": environment.globals["range"]}, begin(0.01))
    assert caught.value.reason is Reason.MAPPING_DEADLINE
    assert len(turns) < 200
