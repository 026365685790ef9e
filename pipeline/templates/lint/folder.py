"""All files of a mappings folder: each partner as it comes, then with each site's overlay; then what nobody uses."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from pipeline.errors import SettingsError
from pipeline.fhir.metadata import Release, element
from pipeline.model import Identity
from pipeline.templates import events, tables
from pipeline.templates.catalogue import SUFFIX, Files, files_of, table_files
from pipeline.templates.environment import FORBIDDEN, MappingEnvironment
from pipeline.templates.filters import filters_of
from pipeline.templates.lined import Lined, YamlMistake, load
from pipeline.templates.lint.elements import Elements, table_targets
from pipeline.templates.lint.expressions import (
    Expressions,
    Function,
    Kind,
    Partner,
    Scope,
    Several,
    Text,
    Whole,
    World,
    kind_of_annotation,
)
from pipeline.templates.lint.json_shape import Shape, Tokens
from pipeline.templates.lint.problem import Problem, Problems, Rule
from pipeline.templates.quotes import misquoted
from pipeline.templates.tables import CodeTable
from schemas.event import Event

MAPPING_KEYS: Final = frozenset({"partner", "fhir", "templates", "variables"})
UNREADABLE: Final = frozenset({Rule.SYNTAX, Rule.QUOTES, Rule.NOT_JSON})
OTHER_FOLDERS: Final = frozenset({"codes", "sites"})


@dataclass(slots=True)
class Seen:
    """What was used somewhere."""

    tables: set[str] = field(default_factory=set)
    macros: set[tuple[Path, str]] = field(default_factory=set)
    templates: set[Path] = field(default_factory=set)
    macros_there: dict[tuple[Path, str], int] = field(default_factory=dict)


def lint(folder: Path, site: str | None = None) -> list[Problem]:
    """Every mistake of the folder, in order of file and line; with `site` only that overlay is laid over it, else each in turn."""
    problems = Problems()
    seen = Seen()
    partners = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in OTHER_FOLDERS)
    sites = [folder / "sites" / site] if site else sorted(path for path in (folder / "sites").glob("*") if path.is_dir())
    for overlay in [None, *sites]:
        code_tables = _tables(folder, overlay, problems)
        for partner in partners:
            _partner(folder, overlay, partner, code_tables=code_tables, seen=seen, problems=problems)
    _events(folder, sites, partners, problems)
    if not any(problem.rule in UNREADABLE for problem in problems):  # what a broken file uses is not known
        _unused(folder, sites, partners, seen, problems)
    for overlay in sites:
        _replaces(folder, overlay, partners, problems)
    return list(problems)


def _tables(folder: Path, site: Path | None, problems: Problems) -> dict[str, CodeTable]:
    found: dict[str, CodeTable] = {}
    for name, (base, theirs) in table_files(folder, site).items():
        try:
            found[name] = tables.joined(*(tables.read(path) if path else None for path in (base, theirs)))
        except YamlMistake as mistake:
            problems.add(mistake.path, mistake.line, Rule.YAML, mistake.message)
    return found


def _partner(
    folder: Path, site: Path | None, partner: str, *, code_tables: Mapping[str, CodeTable], seen: Seen, problems: Problems
) -> None:
    """One partner's mapping with one overlay."""
    try:
        files = files_of(folder, site, partner)
        mapping = load(files.mapping)
    except YamlMistake as mistake:
        problems.add(mistake.path, mistake.line, Rule.YAML, mistake.message)
        return
    except SettingsError as mistake:
        problems.add(folder / partner, 1, Rule.YAML, mistake.message)
        return
    release = _mapping(mapping, files.mapping, partner, problems)
    if release is None:
        return
    used = _templates(files, mapping, release, code_tables=code_tables, seen=seen, problems=problems)
    used |= {tables.identifier_table(partner, code_tables)}  # the program looks there by itself, before anything is rendered
    seen.tables |= used
    _elements_of_tables((table for name, table in code_tables.items() if name in used), release, problems)


def _mapping(mapping: Lined, path: Path, partner: str, problems: Problems) -> Release | None:
    for key in mapping:
        if key not in MAPPING_KEYS:
            problems.add(
                path, mapping.line_of(key), Rule.YAML, f"there is no {key} here; there is {', '.join(sorted(MAPPING_KEYS))}"
            )
    if mapping.get("partner") != partner:
        problems.add(path, mapping.line_of("partner"), Rule.YAML, f"partner must be the folder's name, {partner}")
    variables = mapping.get("variables", Lined(1))
    if not isinstance(variables, Lined):
        problems.add(path, mapping.line_of("variables"), Rule.YAML, "variables must be a mapping: name and a sentence")
    else:
        for name, said in variables.items():
            sentence = said[0] if isinstance(said, list) and len(said) == 1 else said
            if not sentence or not isinstance(sentence, str):
                problems.add(path, variables.line_of(name), Rule.YAML, f"{name} has no sentence that says what it is")
    releases = {release.name: release for release in Release}
    if mapping.get("fhir") not in releases:
        problems.add(path, mapping.line_of("fhir"), Rule.YAML, f"fhir must be one of {', '.join(releases)}")
        return None
    return releases[str(mapping["fhir"])]


def _elements_of_tables(code_tables: Iterable[CodeTable], release: Release, problems: Problems) -> None:
    for table in code_tables:
        if table.element is None or not table.rows:
            continue
        bound = element(release, table.element)
        if bound is None:
            problems.add(table.path, table.element_line, Rule.UNKNOWN_ELEMENT, f"FHIR {release.name} has no {table.element}")
        else:
            table_targets(table, bound, table.element, problems)


def _templates(
    files: Files, mapping: Lined, release: Release, *, code_tables: Mapping[str, CodeTable], seen: Seen, problems: Problems
) -> set[str]:
    """All templates of a partner; the tables that they look things up in."""
    trees = dict(_trees(files, problems))
    listed = mapping.get("templates") if isinstance(mapping.get("templates"), list) else []
    if not listed:
        problems.add(files.mapping, mapping.line_of("templates"), Rule.YAML, "templates must be a list of files")
    variables = mapping.get("variables", {})
    filters = filters_of(code_tables)
    world = World(
        tables=code_tables,
        filters=filters,
        tests=frozenset(MappingEnvironment(filters).tests),
        variables={name: Several(Text()) if isinstance(said, list) else Text() for name, said in dict(variables).items()}
        if isinstance(variables, Lined)
        else {},
        problems=problems,
    )
    expressions = Expressions(world)
    for name in listed or ():
        if name not in files.templates:
            problems.add(files.mapping, mapping.line_of("templates"), Rule.YAML, f"there is no template file {name}")
        elif name in trees:
            _template(name, trees, expressions, Elements(release, code_tables, problems), problems)
    for path, tree in trees.values():
        seen.templates |= {files.templates[name] for name in _imported(tree) if name in files.templates}
        seen.macros_there |= {(path, macro.name): macro.lineno for macro in tree.find_all(nodes.Macro)}
    seen.templates |= {files.templates[name] for name in listed or () if name in files.templates}
    seen.macros |= world.used_macros
    return world.used_tables


def _trees(files: Files, problems: Problems) -> Iterator[tuple[str, tuple[Path, nodes.Template]]]:
    """Each template file as Jinja's tree; those that cannot be one are noted."""
    reader = Environment(autoescape=False)  # noqa: S701 - it only parses; nothing is rendered with it
    quotes = MappingEnvironment({})
    for name, path in files.templates.items():
        try:
            source = path.read_text(encoding="utf-8")
            tree = reader.parse(source, name, str(path))
        except TemplateSyntaxError as mistake:
            problems.add(path, mistake.lineno, Rule.SYNTAX, mistake.message or "is not a template")
            continue
        except (OSError, UnicodeDecodeError):
            problems.add(path, 1, Rule.SYNTAX, "cannot be read as UTF-8")
            continue
        for kind, why in FORBIDDEN.items():
            for node in tree.find_all(kind):
                problems.add(path, node.lineno, Rule.SYNTAX, why)
        mistakes = list(misquoted(quotes, source))
        for line, message in mistakes:
            problems.add(path, line, Rule.QUOTES, message)
        if not mistakes:
            yield name, (path, tree)


def _template(
    name: str, trees: Mapping[str, tuple[Path, nodes.Template]], expressions: Expressions, elements: Elements, problems: Problems
) -> None:
    path, tree = trees[name]
    tokens = list(Tokens(expressions, trees).of(tree.body, Scope(path, names(), {})))
    broken = len(list(problems))
    parts = Shape(tokens, problems).values()
    if len(list(problems)) == broken:
        for part in parts:
            elements.top(part)


def names() -> dict[str, Kind]:
    """What every template sees (catalogue.py), as kinds."""
    fields = {name: kind_of_annotation(info.annotation) for name, info in Event.model_fields.items()}
    return {
        "event": Whole(Event),
        **{name: fields[name] for name in ("patient", "visit", "diagnoses", "coverages", "reports", "appointment")},
        "hl7": Function("hl7"),
        "intent": Text(),
        "identifiers": Several(Whole(Identity)),
        "partner": Partner(),
        "site": Text(),
        "range": Function("range"),
    }


def _imported(tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all(nodes.FromImport):
        if isinstance(node.template, nodes.Const):
            yield str(node.template.value)


def _events(folder: Path, sites: list[Path], partners: list[str], problems: Problems) -> None:
    base = folder / "events.yaml"
    paths = [base, *(path for site in sites if (path := site / "events.yaml").is_file())]
    for path in paths:
        try:
            tree: Any = load(path)
            for partner in tree:
                if partner not in partners:
                    problems.add(
                        path, tree.line_of(partner), Rule.EVENTS, f"there is no partner {partner}: no such folder in mappings"
                    )
            for partner in partners:
                rows = events.read(path, partner)
                gaps = events.missing(rows) if path == base else []
                for event in gaps:
                    problems.add(path, tree.line_of(partner), Rule.EVENTS, f"{partner} has no row for {event}")
        except YamlMistake as mistake:
            problems.add(mistake.path, mistake.line, Rule.EVENTS, mistake.message)


def _unused(folder: Path, sites: list[Path], partners: list[str], seen: Seen, problems: Problems) -> None:
    for room in [folder, *sites]:
        for path in sorted((room / "codes").glob("*.yaml")):
            if path.stem not in seen.tables:
                problems.add(path, 1, Rule.UNUSED, f"no template looks anything up in {path.stem}")
    for partner in partners:
        for path in sorted((folder / partner).glob(f"*{SUFFIX}")):
            if path not in seen.templates:
                problems.add(path, 1, Rule.UNUSED, f"neither listed in {partner}/mapping.yaml nor imported")
    for (path, name), line in seen.macros_there.items():
        if (path, name) not in seen.macros:
            problems.add(path, line, Rule.UNUSED, f"no template calls the macro {name}")


def _replaces(folder: Path, site: Path, partners: list[str], problems: Problems) -> None:
    """An overlay's files must replace or add something: a name that the base has, a row that differs from its."""
    for path in sorted(site.glob(f"*/*{SUFFIX}")):
        base = folder / path.parent.name / path.name
        if path.parent.name not in partners or not base.is_file():
            problems.add(path, 1, Rule.OVERLAY, f"replaces nothing: there is no {path.parent.name}/{path.name} in mappings")
        elif base.read_bytes() == path.read_bytes():
            problems.add(path, 1, Rule.OVERLAY, f"replaces nothing: it is the same as {path.parent.name}/{path.name}")
    for path in sorted(site.iterdir()):
        if path.is_dir() and path.name not in {*partners, "codes"}:
            problems.add(path, 1, Rule.OVERLAY, f"replaces nothing: there is no partner {path.name}")
    try:
        _same_rows(folder, site, problems)
        for partner in partners if (site / "events.yaml").is_file() else ():
            base_rows = events.read(folder / "events.yaml", partner)
            site_rows = events.read(site / "events.yaml", partner)
            _lacks_older(base_rows, site_rows, problems)
            for event, row in site_rows.items():
                if event in base_rows and base_rows[event].rule == row.rule:
                    problems.add(
                        row.path,
                        row.line,
                        Rule.OVERLAY,
                        f"replaces nothing: the row of {event} says the same as mappings/events.yaml",
                    )
    except YamlMistake:
        return  # told already


def _lacks_older(base: dict[str, events.Row], site: dict[str, events.Row], problems: Problems) -> None:
    """A row that was copied before the base said `older: goes`: what comes late would be lost without a word."""
    lacking: dict[int, list[str]] = {}
    for event, row in site.items():
        if event in base and base[event].rule.older_goes and row.drops_older and not row.says_older:
            lacking.setdefault(row.line, []).append(event.removeprefix("ADT^"))
    path = next((row.path for row in site.values()), Path())
    for line, names in lacking.items():
        told = f"{', '.join(names)}: the row lacks `older: goes`, which mappings/events.yaml has"
        problems.add(
            path, line, Rule.OVERLAY, f"{told}; what is read late is lost. Add it, or `older: stale` where that is meant"
        )


def _same_rows(folder: Path, site: Path, problems: Problems) -> None:
    for base, theirs in table_files(folder, site).values():
        if base is None or theirs is None:
            continue
        base_file = tables.read(base)
        there = {(row.system, row.form, tables.folded(row.key, base_file.ignore)): row.to for row in base_file.rows}
        for row in tables.read(theirs).rows:
            if there.get((row.system, row.form, tables.folded(row.key, base_file.ignore))) == row.to:
                problems.add(
                    row.path, row.line, Rule.OVERLAY, f"replaces nothing: the row of {row.key} says the same as codes/{base.name}"
                )
