"""The tree of a template against FHIR's metadata: elements, shapes, required ones, choices, references, required bindings."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pipeline.fhir.metadata import Element, Release, Type, resource_types, type_named
from pipeline.templates.lint.expressions import Fragment, Several, Text, Unknown, Whole
from pipeline.templates.lint.json_shape import Constant, Expression, Items, Member, Object, Part, exclusive
from pipeline.templates.lint.problem import Problems, Rule, near
from pipeline.templates.tables import NOTHING, CodeTable, Concept

REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]+)/")
NUMBERS: Final = frozenset({"integer", "decimal", "positiveInt", "unsignedInt"})


class Elements:
    """Checks one release."""

    def __init__(self, release: Release, tables: Mapping[str, CodeTable], problems: Problems) -> None:
        self._release = release
        self._tables = tables
        self._problems = problems

    def top(self, part: Part) -> None:
        """What a template renders: a resource, or a list of them."""
        if isinstance(part, Object):
            self._resource(part, None)
        elif isinstance(part, Items):
            for item in part.items:
                self.top(item)
        else:
            self._note(part, Rule.WRONG_SHAPE, "a template renders an object, a list of objects, or nothing")

    def _note(self, at: Part | Member, rule: Rule, message: str) -> None:
        self._problems.add(at.file, at.line, rule, message)

    def _resource(self, tree: Object, element: Element | None) -> None:
        named = next((member for member in tree.members if member.key == "resourceType"), None)
        if named is None:
            self._note(tree, Rule.MISSING_ELEMENT, "resourceType is missing")
            return
        for value in named.values:
            name = value.value if isinstance(value, Constant) else ""
            known = resource_types(self._release)
            if name not in known:
                self._note(named, Rule.UNKNOWN_ELEMENT, f"FHIR {self._release.name} has no resource {name}{near(name, known)}")
            elif (kind := type_named(self._release, name)) is not None:
                self._object(tree, kind, name, resource=True)
        if element is not None and element.type != "Resource":
            self._note(tree, Rule.WRONG_SHAPE, f"{element.name} is a {element.type}, no resource")

    def _object(self, tree: Object, kind: Type, path: str, *, resource: bool = False) -> None:
        self._repeated(tree.members)
        for member in tree.members:
            if member.key == "resourceType" and resource:
                continue
            element = kind.elements.get(member.key.removeprefix("_"))
            if element is None or (member.key.startswith("_") and not element.extensible):
                names = f"FHIR {self._release.name} has no {path}.{member.key}{near(member.key, kind.elements)}"
                self._note(member, Rule.UNKNOWN_ELEMENT, names)
            elif not member.key.startswith("_"):
                for value in member.values:
                    self._value(value, element, f"{path}.{member.key}")
        self._missing(tree, kind, path)
        self._choices(tree.members, kind, path)

    def _repeated(self, members: Iterable[Member]) -> None:
        seen: list[Member] = []
        for member in members:
            for other in seen:
                if (
                    other.key == member.key
                    and (other.file, other.line) != (member.file, member.line)
                    and not exclusive(other.branch, member.branch)
                ):
                    self._note(member, Rule.DUPLICATE_KEY, f"{member.key} stands twice, first on line {other.line}")
            seen.append(member)

    def _missing(self, tree: Object, kind: Type, path: str) -> None:
        there = {member.key for member in tree.members}
        for element in kind.elements.values():
            if element.required and not element.choice and element.name not in there:
                self._note(tree, Rule.MISSING_ELEMENT, f"{path}.{element.name} must be there")
        for choice in {element.choice for element in kind.elements.values() if element.choice_required}:
            if not any(element.name in there for element in kind.elements.values() if element.choice == choice):
                self._note(tree, Rule.MISSING_ELEMENT, f"one of {path}.{choice}[x] must be there")

    def _choices(self, members: Iterable[Member], kind: Type, path: str) -> None:
        chosen: list[tuple[str, Member]] = []
        for member in members:
            element = kind.elements.get(member.key)
            if element is None or element.choice is None:
                continue
            for choice, other in chosen:
                if choice == element.choice and other.key != member.key and not exclusive(other.branch, member.branch):
                    self._note(
                        member, Rule.CHOICE, f"{path}.{choice}[x] has one type: {other.key} stands on line {other.line} already"
                    )
            chosen.append((element.choice, member))

    def _value(self, value: Part, element: Element, path: str) -> None:
        if isinstance(value, Items):
            if not element.many:
                self._note(value, Rule.WRONG_SHAPE, f"{path} is no list in FHIR {self._release.name}")
            for item in value.items:
                self._single(item, element, path)
            return
        if element.many and not (isinstance(value, Expression) and isinstance(value.kind, Unknown | Fragment)):
            self._note(value, Rule.WRONG_SHAPE, f"{path} is a list in FHIR {self._release.name}: write [ ] around it")
        self._single(value, element, path)

    def _single(self, value: Part, element: Element, path: str) -> None:
        match value:
            case Object() if element.type == "Resource" or element.type in resource_types(self._release):
                self._resource(value, element)
            case Object() if element.primitive:
                self._note(value, Rule.WRONG_SHAPE, f"{path} is a {element.type}, no object")
            case Object() if (kind := type_named(self._release, element.type)) is not None:
                self._object(value, kind, path)
                self._references(value, element, path)
            case Constant(literal=True, value="null"):
                return
            case Constant() | Expression(kind=Text()) if not element.primitive:
                self._note(value, Rule.WRONG_SHAPE, f"{path} is a {element.type}, no text")
            case Constant():
                self._constant(value, element, path)
            case Expression(kind=Text() as text):
                self._text(text, element, path)
            case _:
                return

    def _constant(self, value: Constant, element: Element, path: str) -> None:
        wanted = "boolean" if element.type == "boolean" else "number" if element.type in NUMBERS else "text"
        got = "text" if not value.literal else "boolean" if value.value in {"true", "false"} else "number"
        if wanted != got:
            self._note(value, Rule.WRONG_SHAPE, f"{path} is a {element.type}: write a {wanted}")
        elif element.codes is not None and value.value not in element.codes:
            self._note(value, Rule.BINDING, self._not_bound(value.value, element, path))

    def _text(self, text: Text, element: Element, path: str) -> None:
        if element.codes is None:
            return
        for constant, file, line in text.constants:
            if constant not in element.codes:
                self._problems.add(file, line, Rule.BINDING, self._not_bound(constant, element, path))
        for name in text.tables:
            for row in self._tables[name].rows:
                if row.to not in element.codes and row.to != NOTHING:
                    self._problems.add(row.path, row.line, Rule.BINDING, self._not_bound(row.to, element, path))

    def _not_bound(self, code: str, element: Element, path: str) -> str:
        codes = element.codes or frozenset()
        there = f"; there is {', '.join(sorted(codes))}" if len(codes) <= MOST_SHOWN else near(code, codes)
        return f"{path} is bound to a value set that has no {code}{there}"

    def _references(self, tree: Object, element: Element, path: str) -> None:
        if element.type != "Reference" or not element.targets or "Resource" in element.targets:
            return
        for member, start in _starts(tree):
            found = REFERENCE.match(start)
            if found is not None and found[1] not in element.targets:
                self._note(member, Rule.REFERENCE, f"{path} refers to {' or '.join(element.targets)}, not to {found[1]}")


MOST_SHOWN: Final = 12


def _starts(tree: Object) -> Iterator[tuple[Member, str]]:
    """What a Reference's `reference` can begin with, as far as it stands in the template."""
    for member in tree.members:
        for value in member.values if member.key == "reference" else ():
            match value:
                case Constant(value=text):
                    yield member, text
                case Expression(kind=Text(constants=constants, start=start)):
                    yield from ((member, text) for text in (*(constant for constant, _, _ in constants), start or ""))
                case _:
                    continue


def table_targets(table: CodeTable, element: Element, path: str, problems: Problems) -> None:
    """A table that names the element which it is for: each target must be in that element's required binding."""
    for row in table.rows:
        if row.to == NOTHING:
            continue
        if element.codes is not None and row.to not in element.codes:
            codes = ", ".join(sorted(element.codes)) if len(element.codes) <= MOST_SHOWN else f"{len(element.codes)} codes"
            problems.add(
                row.path, row.line, Rule.BINDING, f"{path} is bound to a value set that has no {row.to}; there is {codes}"
            )
        if element.type == "uri" and not URI.fullmatch(row.to):
            problems.add(row.path, row.line, Rule.BINDING, f"{path} is a URI, as urn:oid:2.16.724.4.41; this is none")


URI: Final = re.compile(r"urn:oid:[0-2](\.(0|[1-9]\d*))+|urn:uuid:[0-9a-f-]{36}|https?://\S+|urn:(?!oid:|uuid:)\S+")

__all__ = ["Concept", "Elements", "Several", "Whole", "table_targets"]
