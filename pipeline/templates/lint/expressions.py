"""What a Jinja expression can be, found without running it.

Each path is resolved against the event model, each filter, macro and table against what there is. The walk follows `for`, `set`, `if`, macros with the types of their arguments.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from jinja2 import nodes
from pydantic import BaseModel

from pipeline.templates.fields import ENDS, READABLE
from pipeline.templates.lint.problem import Problems, Rule, near
from pipeline.templates.tables import NOTHING, CodeTable, Concept
from schemas.event import Coded, Diagnosis, Event, Timestamp

HL7_PATH: Final = re.compile(r"[A-Z][A-Z0-9]{2}(\[[1-9]\d*\])?-[1-9]\d*(\[[1-9]\d*\])?(\.[1-9]\d*){0,2}")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything: nothing can be said, or something was said already."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text. `constants` are texts of the template that it may be (with their file and line), `tables` code tables that it may come from."""

    constants: tuple[tuple[str, Path, int], ...] = ()
    tables: tuple[str, ...] = ()
    start: str | None = None
    """What it certainly starts with, of `"Patient/" ~ x`."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A boolean or a number."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A value with fields: a model, an identity, a concept (of a table)."""

    kind: type
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Several:
    """A list."""

    item: "Kind"


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a macro makes."""


@dataclass(frozen=True, slots=True)
class Partner:
    """The variables of the partner."""


@dataclass(frozen=True, slots=True)
class Function:
    """`hl7` and `range`."""

    name: str


@dataclass(frozen=True, slots=True)
class Loop:
    """Jinja's `loop`."""


Kind = Unknown | Text | Plain | Whole | Several | Fragment | Partner | Function | Loop
UNKNOWN: Final = Unknown()
LOOP: Final = frozenset({"index", "index0", "first", "last", "length", "previtem", "nextitem"})


@dataclass(frozen=True, slots=True)
class MacroAt:
    """A macro and the file that it stands in."""

    node: nodes.Macro
    file: Path


@dataclass(slots=True)
class Scope:
    """Names and macros at one place of one file."""

    file: Path
    names: dict[str, Kind]
    macros: dict[str, MacroAt]
    depth: int = 0

    def inner(self, **names: Kind) -> "Scope":
        """The same with more names."""
        return Scope(self.file, self.names | names, self.macros, self.depth)


@dataclass(slots=True)
class World:
    """What one partner's templates can name."""

    tables: Mapping[str, CodeTable]
    filters: Mapping[str, Callable[..., Any]]
    tests: frozenset[str]
    variables: Mapping[str, "Kind"]
    problems: Problems
    used_tables: set[str] = field(default_factory=set)
    used_macros: set[tuple[Path, str]] = field(default_factory=set)


def kind_of_annotation(annotation: Any) -> Kind:  # noqa: ANN401 - a type
    """The kind of a field of the event model."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Union, types.UnionType}:
        kinds = [kind for part in typing.get_args(annotation) if (kind := kind_of_annotation(part)) != UNKNOWN]
        return kinds[0] if kinds else UNKNOWN
    if origin is tuple:
        return Several(kind_of_annotation(typing.get_args(annotation)[0]))
    if not isinstance(annotation, type):
        return UNKNOWN
    if issubclass(annotation, BaseModel):
        return Whole(annotation)
    if issubclass(annotation, str):
        return Text()
    return Plain() if issubclass(annotation, int | float) and not issubclass(annotation, Enum) else UNKNOWN


class Expressions:
    """Kinds of expressions, with every mistake noted on the way."""

    def __init__(self, world: World) -> None:
        self.world = world

    def kind(self, node: nodes.Node | None, scope: Scope) -> Kind:
        """What an expression is."""
        if node is None:
            return UNKNOWN
        walker = WALKERS.get(type(node))
        if walker is not None:
            return walker(self, node, scope)
        for child in node.iter_child_nodes():
            self.kind(child, scope)
        return Plain() if isinstance(node, nodes.Compare | nodes.Test | nodes.Not | nodes.BinExpr | nodes.UnaryExpr) else UNKNOWN

    def output(self, node: nodes.Node, scope: Scope) -> Kind:
        """What `{{ … }}` emits: it must be a text, a plain value or a macro's."""
        kind = self.kind(node, scope)
        if isinstance(kind, Whole | Several | Partner | Function | Loop):
            self._note(node, scope, Rule.WHOLE_VALUE, f"{{{{ }}}} of {described(kind)}: name one of its fields, or go through it")
        return kind

    def items(self, node: nodes.Node, scope: Scope) -> Kind:
        """What a `for` over it goes through."""
        kind = self.kind(node, scope)
        if isinstance(kind, Several):
            return kind.item
        if not isinstance(kind, Unknown):
            self._note(node, scope, Rule.WRONG_ARGUMENT, f"for over {described(kind)}: only lists can be gone through")
        return UNKNOWN

    def _note(self, node: nodes.Node, scope: Scope, rule: Rule, message: str) -> None:
        self.world.problems.add(scope.file, node.lineno, rule, message)

    def _name(self, node: nodes.Name, scope: Scope) -> Kind:
        if node.name in scope.names:
            return scope.names[node.name]
        if node.name not in scope.macros:
            names = (*scope.names, *scope.macros)
            self._note(node, scope, Rule.UNKNOWN_NAME, f"there is no {node.name} here{near(node.name, names)}")
        return UNKNOWN

    def _const(self, node: nodes.Const, scope: Scope) -> Kind:
        return Text(constants=((node.value, scope.file, node.lineno),)) if isinstance(node.value, str) else Plain()

    def _getattr(self, node: nodes.Getattr, scope: Scope) -> Kind:
        return self._field(self.kind(node.node, scope), node.attr, node, scope)

    def _field(self, owner: Kind, name: str, node: nodes.Node, scope: Scope) -> Kind:
        fields = self._fields(owner)
        if fields is None:
            return UNKNOWN
        if name not in fields:
            self._note(node, scope, Rule.UNKNOWN_FIELD, f"there is no {name} in {described(owner)}{near(name, fields)}")
            return UNKNOWN
        return fields[name]

    def _fields(self, owner: Kind) -> Mapping[str, Kind] | None:  # noqa: PLR0911 - one line per kind
        """Fields by name; None where nothing can be said."""
        match owner:
            case Unknown():
                return None
            case Whole(kind=kind) if issubclass(kind, BaseModel):
                own = {name: kind_of_annotation(info.annotation) for name, info in kind.model_fields.items()}
                return own | ({"time": Whole(Timestamp)} if kind is Event else {})
            case Whole(kind=kind):
                return dict.fromkeys(READABLE.get(kind, ()), Text())
            case Several(item=item):
                return {**dict.fromkeys(ENDS, item), "length": Plain()}
            case Partner():
                return self.world.variables
            case Loop():
                return dict.fromkeys(LOOP, UNKNOWN)
            case _:
                return {}

    def _getitem(self, node: nodes.Getitem, scope: Scope) -> Kind:
        owner = self.kind(node.node, scope)
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._field(owner, node.arg.value, node, scope)
        self.kind(node.arg, scope)
        if isinstance(owner, Several):
            return owner.item
        if not isinstance(owner, Unknown):
            self._note(node, scope, Rule.WRONG_ARGUMENT, f"[…] of {described(owner)}: only lists have numbers")
        return UNKNOWN

    def _condition(self, node: nodes.CondExpr, scope: Scope) -> Kind:
        self.kind(node.test, scope)
        return either(self.kind(node.expr1, scope), self.kind(node.expr2, scope) if node.expr2 is not None else UNKNOWN)

    def _either(self, node: nodes.BinExpr, scope: Scope) -> Kind:
        return either(self.kind(node.left, scope), self.kind(node.right, scope))

    def _concat(self, node: nodes.Concat, scope: Scope) -> Kind:
        for part in node.nodes:
            kind = self.kind(part, scope)
            if not isinstance(kind, Text | Plain | Unknown):
                self._note(part, scope, Rule.WHOLE_VALUE, f"~ with {described(kind)}: it joins texts")
        first = node.nodes[0]
        return Text(start=first.value if isinstance(first, nodes.Const) and isinstance(first.value, str) else None)

    def _list(self, node: nodes.List | nodes.Tuple, scope: Scope) -> Kind:
        kinds = [self.kind(item, scope) for item in node.items]
        return Several(kinds[0] if kinds else UNKNOWN)

    def _filter(self, node: nodes.Filter, scope: Scope) -> Kind:
        taken = self.kind(node.node, scope)
        for argument in node.args:
            self.kind(argument, scope)
        filter_ = self.world.filters.get(node.name)
        if filter_ is None:
            self._note(node, scope, Rule.UNKNOWN_FILTER, f"there is no filter {node.name}{near(node.name, self.world.filters)}")
            return UNKNOWN
        try:
            inspect.signature(filter_).bind(None, *node.args, **{str(pair.key): pair.value for pair in node.kwargs})
        except TypeError as mistake:
            self._note(node, scope, Rule.WRONG_ARGUMENT, f"{node.name}: {mistake}")
            return UNKNOWN
        wants = WANTS.get(node.name, (Text,))
        if not isinstance(taken, (Unknown, *wants)) or not _fits(node.name, taken):
            self._note(node, scope, Rule.WRONG_ARGUMENT, f"{node.name} does not take {described(taken)}")
            return UNKNOWN
        if node.name in {"code", "diagnosis"}:
            return self._looked_up(node, scope)
        if node.name == "first":
            return taken.item if isinstance(taken, Several) else UNKNOWN
        return {"prefer": taken, "number": Plain()}.get(node.name, Text())

    def _looked_up(self, node: nodes.Filter, scope: Scope) -> Kind:
        name = node.args[0].value if node.args and isinstance(node.args[0], nodes.Const) else None
        table = self.world.tables.get(name) if isinstance(name, str) else None
        if table is None or not isinstance(name, str):
            tables = self.world.tables
            self._note(node, scope, Rule.UNKNOWN_TABLE, f"there is no code table {name}{near(str(name), tables)}")
            return UNKNOWN
        self.world.used_tables.add(name)
        return Whole(Concept, name) if table.concepts else Text(tables=(name,))

    def _test(self, node: nodes.Test, scope: Scope) -> Kind:
        self.kind(node.node, scope)
        for argument in node.args:
            self.kind(argument, scope)
        if node.name not in self.world.tests:
            self._note(node, scope, Rule.UNKNOWN_FILTER, f"there is no test {node.name}{near(node.name, self.world.tests)}")
        return Plain()

    def _call(self, node: nodes.Call, scope: Scope) -> Kind:
        if isinstance(node.node, nodes.Name) and node.node.name in scope.macros:
            self.arguments(node, scope)
            return Fragment()
        if isinstance(node.node, nodes.Name) and node.node.name not in scope.names:
            name = node.node.name
            self._note(node, scope, Rule.UNKNOWN_MACRO, f"there is no macro {name} here: import it{near(name, scope.macros)}")
            return UNKNOWN
        called = self.kind(node.node, scope)
        for argument in node.args:
            self.kind(argument, scope)
        if called == Function("hl7"):
            self._hl7_path(node, scope)
            return Text()
        if called == Function("range"):
            return Several(Plain())
        if not isinstance(called, Unknown):
            self._note(
                node, scope, Rule.UNKNOWN_MACRO, f"{described(called)} cannot be called: only macros, hl7() and range() can"
            )
        return UNKNOWN

    def _hl7_path(self, node: nodes.Call, scope: Scope) -> None:
        path = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], nodes.Const) else None
        if path is not None and not (isinstance(path, str) and HL7_PATH.fullmatch(path)):
            self._note(node, scope, Rule.UNKNOWN_FIELD, f"{path} is not an HL7 path, as PID-3[2].4.1 or ZPI-3.1")

    def arguments(self, node: nodes.Call, scope: Scope) -> Scope | None:
        """The scope inside a macro that is called; None where the arguments do not fit."""
        macro = scope.macros[node.node.name]  # type: ignore[attr-defined]  # a Name: the caller looked
        self.world.used_macros.add((macro.file, macro.node.name))
        names = [argument.name for argument in macro.node.args]
        given: dict[str, Kind] = dict(zip(names, [self.kind(argument, scope) for argument in node.args], strict=False))
        for pair in node.kwargs:
            given[pair.key] = self.kind(pair.value, scope)
        needed = names[: len(names) - len(macro.node.defaults)]
        missing = [name for name in needed if name not in given]
        strange = [name for name in given if name not in names]
        if missing or strange or len(node.args) > len(names):
            self._note(node, scope, Rule.WRONG_ARGUMENT, f"{macro.node.name} takes {', '.join(names) or 'no arguments'}")
            return None
        outer = Scope(macro.file, {"range": Function("range")}, scope.macros, scope.depth + 1)
        for name, default in zip(reversed(names), reversed(macro.node.defaults), strict=False):
            given.setdefault(name, self.kind(default, outer))
        return outer.inner(**given)


WALKERS: Final[Mapping[type, Callable[..., Kind]]] = {
    nodes.Name: Expressions._name,  # noqa: SLF001 - the table of this class's own methods
    nodes.Const: Expressions._const,  # noqa: SLF001
    nodes.Getattr: Expressions._getattr,  # noqa: SLF001
    nodes.Getitem: Expressions._getitem,  # noqa: SLF001
    nodes.CondExpr: Expressions._condition,  # noqa: SLF001
    nodes.Or: Expressions._either,  # noqa: SLF001
    nodes.And: Expressions._either,  # noqa: SLF001
    nodes.Concat: Expressions._concat,  # noqa: SLF001
    nodes.List: Expressions._list,  # noqa: SLF001
    nodes.Tuple: Expressions._list,  # noqa: SLF001
    nodes.Filter: Expressions._filter,  # noqa: SLF001
    nodes.Test: Expressions._test,  # noqa: SLF001
    nodes.Call: Expressions._call,  # noqa: SLF001
}
WANTS: Final[Mapping[str, tuple[type, ...]]] = {
    "code": (Text, Whole),
    "diagnosis": (Several,),
    "first": (Several,),
    "prefer": (Several,),
    "join_names": (Several,),
    "instant": (Whole,),
    "moment": (Whole,),
}
"""What a filter takes; the others take a text."""


def _fits(name: str, taken: Kind) -> bool:
    """What kind of whole value, or list, a filter takes."""
    match taken:
        case Whole(kind=kind):
            return {"code": Coded, "instant": Timestamp, "moment": Timestamp}.get(name, kind) is kind
        case Several(item=Whole(kind=kind)):
            return {
                "diagnosis": kind is Diagnosis,
                "join_names": False,
                "prefer": "type" in getattr(kind, "model_fields", {}),
            }.get(name, True)
        case _:
            return True


def either(one: Kind, other: Kind) -> Kind:
    """What `one or other` is."""
    if isinstance(one, Text) and isinstance(other, Text):
        return Text((*one.constants, *other.constants), (*one.tables, *other.tables))
    return other if isinstance(one, Unknown) else one


def described(kind: Kind) -> str:  # noqa: PLR0911 - one line per kind
    """A kind in an analyst's words."""
    match kind:
        case Whole(kind=own):
            return f"a {own.__name__}"
        case Several():
            return "a list"
        case Text():
            return "a text"
        case Fragment():
            return "what a macro makes"
        case Partner():
            return "partner"
        case Function(name=name):
            return f"{name}()"
        case Loop():
            return "loop"
        case _:
            return "a value"


__all__ = ["NOTHING", "Expressions", "Scope", "World"]
