"""The JSON of a template, read without running it: all branches side by side, loops gone through twice, macros in the place of their call.

What comes out is a tree whose every part knows its file, its line and the branches that it stands in.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from jinja2 import nodes

from pipeline.templates.lint.expressions import UNKNOWN, Expressions, Kind, Loop, MacroAt, Scope
from pipeline.templates.lint.problem import Problems, Rule, near

Branch = tuple[tuple[int, int], ...]
"""Which branch of which `if` a token stands in, outermost first."""
LEXEMES: Final = re.compile(
    r"""\s+|(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{}\[\]:,])|(?P<literal>true|false|null|-?\d+(?:\.\d+)?)|(?P<strange>\S)"""
)
MOST_DEPTH: Final = 12


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the template's JSON, or an expression in it."""

    kind: str
    """One of { } [ ] : , text literal expression."""
    value: Any
    file: Path
    line: int
    branch: Branch


@dataclass(slots=True)
class Part:
    """A value in the tree."""

    file: Path
    line: int
    branch: Branch


@dataclass(slots=True)
class Constant(Part):
    """A text, or true, false, null, a number (`literal`)."""

    value: str
    literal: bool


@dataclass(slots=True)
class Expression(Part):
    """`{{ … }}`."""

    kind: Kind


@dataclass(slots=True)
class Member:
    """A key with its value, or the values of its branches."""

    key: str
    file: Path
    line: int
    branch: Branch
    values: list[Part]


@dataclass(slots=True)
class Object(Part):
    """An object."""

    members: list[Member] = field(default_factory=list)


@dataclass(slots=True)
class Items(Part):
    """A list."""

    items: list[Part] = field(default_factory=list)


def exclusive(one: Branch, other: Branch) -> bool:
    """Whether the two never both apply: other branches of one `if`."""
    taken = dict(one)
    return any(taken.get(number, branch) != branch for number, branch in other)


class Tokens:
    """Turns a template's nodes into tokens, and has every expression looked at on the way."""

    def __init__(self, expressions: Expressions, trees: Mapping[str, tuple[Path, nodes.Template]]) -> None:
        self._expressions = expressions
        self._trees = trees
        self._problems = expressions.world.problems
        self._ifs = count()
        """A number for each time that an `if` is gone through: in two turns of a loop it may go both ways."""

    def of(self, body: Sequence[nodes.Node], scope: Scope, branch: Branch = ()) -> Iterator[Token]:
        """The tokens of some nodes."""
        for node in body:
            match node:
                case nodes.Output():
                    yield from self._output(node, scope, branch)
                case nodes.If():
                    yield from self._if(node, scope, branch)
                case nodes.For():
                    yield from self._for(node, scope, branch)
                case nodes.Assign(target=nodes.Name(name=name)):
                    scope.names[name] = self._expressions.kind(node.node, scope)
                case nodes.FromImport():
                    self._import(node, scope)
                case nodes.Macro():
                    scope.macros[node.name] = MacroAt(node, scope.file)

    def _output(self, node: nodes.Output, scope: Scope, branch: Branch) -> Iterator[Token]:
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                yield from self._data(child, scope, branch)
                continue
            kind = self._expressions.output(child, scope)
            if isinstance(child, nodes.Call) and isinstance(child.node, nodes.Name) and child.node.name in scope.macros:
                yield from self._macro(child, scope, branch)
            else:
                yield Token("expression", kind, scope.file, child.lineno, branch)

    def _macro(self, call: nodes.Call, scope: Scope, branch: Branch) -> Iterator[Token]:
        macro = scope.macros[call.node.name]  # type: ignore[attr-defined]  # a Name: the caller looked
        inside = self._expressions.arguments(call, scope)
        tokens = list(self.of(macro.node.body, inside, branch)) if inside is not None and scope.depth < MOST_DEPTH else []
        yield from tokens or [Token("expression", UNKNOWN, scope.file, call.lineno, branch)]

    def _data(self, node: nodes.TemplateData, scope: Scope, branch: Branch) -> Iterator[Token]:
        for found in LEXEMES.finditer(node.data):
            kind = found.lastgroup
            if kind is None:
                continue
            line = node.lineno + node.data.count("\n", 0, found.start())
            text = found.group()
            if kind == "strange":
                self._problems.add(scope.file, line, Rule.NOT_JSON, f"{text} does not belong into JSON here")
                return
            yield Token(text if kind == "mark" else kind, text, scope.file, line, branch)

    def _if(self, node: nodes.If, scope: Scope, branch: Branch) -> Iterator[Token]:
        self._expressions.kind(node.test, scope)
        one = next(self._ifs)
        yield from self.of(node.body, scope, (*branch, (one, 0)))
        for number, other in enumerate(node.elif_, 1):
            self._expressions.kind(other.test, scope)
            yield from self.of(other.body, scope, (*branch, (one, number)))
        yield from self.of(node.else_, scope, (*branch, (one, len(node.elif_) + 1)))

    def _for(self, node: nodes.For, scope: Scope, branch: Branch) -> Iterator[Token]:
        item = self._expressions.items(node.iter, scope)
        target = {node.target.name: item} if isinstance(node.target, nodes.Name) else {}
        inner = scope.inner(loop=Loop(), **target)
        if node.test is not None:
            self._expressions.kind(node.test, inner)
        yield from self.of(node.body, inner, branch)
        yield from self.of(node.body, inner, branch)  # once more: so that a comma that is missing between two turns is seen
        yield from self.of(node.else_, scope, branch)

    def _import(self, node: nodes.FromImport, scope: Scope) -> None:
        name = node.template.value if isinstance(node.template, nodes.Const) else None
        found = self._trees.get(name) if isinstance(name, str) else None
        if found is None:
            self._problems.add(
                scope.file, node.lineno, Rule.UNKNOWN_MACRO, f"there is no file {name}{near(str(name), self._trees)}"
            )
        path, tree = found if found is not None else (scope.file, nodes.Template([]))
        macros = {macro.name: MacroAt(macro, path) for macro in tree.find_all(nodes.Macro)}
        scope.macros.update({key: macro for key, macro in macros.items() if key not in scope.macros})  # macros that those call
        for wanted in node.names:
            own, alias = wanted if isinstance(wanted, tuple) else (wanted, wanted)
            if own in macros:
                scope.macros[alias] = macros[own]
            elif found is not None:
                message = f"there is no macro {own} in {path.name}{near(own, macros)}"
                self._problems.add(scope.file, node.lineno, Rule.UNKNOWN_MACRO, message)
                scope.names[alias] = UNKNOWN


class Shape:
    """Parses tokens into a tree; forgiving where branches stand side by side, strict where one branch alone is wrong."""

    def __init__(self, tokens: Sequence[Token], problems: Problems) -> None:
        self._tokens = tokens
        self._at = 0
        self._problems = problems

    def values(self) -> list[Part]:
        """What stands at the top: one value, or one per branch."""
        found: list[Part] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            part = self._value()
            if part is None:
                self._wrong(token, f"{token.value} does not belong here")
                break
            if found and not exclusive(found[-1].branch, part.branch):
                self._wrong(token, "a second value: several resources stand in one list")
                break
            found.append(part)
        return found

    def _wrong(self, token: Token, message: str) -> None:
        self._problems.add(token.file, token.line, Rule.NOT_JSON, message)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _value(self) -> Part | None:
        token = self._peek()
        if token is None or token.kind in {"}", "]", ":", ","}:
            return None
        self._at += 1
        where = (token.file, token.line, token.branch)
        match token.kind:
            case "{":
                return self._object(token)
            case "[":
                return self._list(token)
            case "expression":
                return Expression(*where, token.value)
            case _:
                return Constant(*where, token.value.strip('"'), token.kind == "literal")

    def _object(self, start: Token) -> Object:
        found = Object(start.file, start.line, start.branch)
        comma = True
        while (token := self._peek()) is not None and token.kind != "}":
            self._at += 1
            if token.kind == ",":
                comma = True
                continue
            after = self._peek()
            if token.kind != "text" or after is None or after.kind != ":":
                what = "{{ }} where a key must stand" if token.kind == "expression" else f'{token.value} where "key": must stand'
                self._wrong(token, what)
                self._skip(token)
                return found
            if not comma and not (found.members and exclusive(found.members[-1].branch, token.branch)):
                self._wrong(token, f"a comma is missing before {token.value}")
            self._at += 1
            found.members.append(Member(token.value.strip('"'), token.file, token.line, token.branch, self._alternatives(token)))
            comma = False
        if token is None:
            self._wrong(start, "this { is not closed")
        self._at += 1
        return found

    def _alternatives(self, key: Token) -> list[Part]:
        """The value after a key; the values of other branches follow it without a comma."""
        found: list[Part] = []
        while True:
            before = self._at
            token = self._peek()
            part = self._value()
            if part is None:
                break
            if found and not exclusive(found[-1].branch, part.branch):
                self._at = before
                break
            if token is not None and token.kind == "text" and (after := self._peek()) is not None and after.kind == ":":
                self._at = before
                break
            found.append(part)
        if not found:
            self._wrong(key, f"{key.value} has no value")
        return found

    def _list(self, start: Token) -> Items:
        found = Items(start.file, start.line, start.branch)
        comma = True
        while (token := self._peek()) is not None and token.kind != "]":
            if token.kind == ",":
                self._at += 1
                comma = True
                continue
            part = self._value()
            if part is None:
                self._wrong(token, f"{token.value} where a list goes on, or its ] must stand")
                self._skip(token)
                return found
            if not comma and not exclusive(found.items[-1].branch, part.branch):
                self._wrong(token, "a comma is missing before this")
            found.items.append(part)
            comma = False
        if token is None:
            self._wrong(start, "this [ is not closed")
        self._at += 1
        return found

    def _skip(self, _: Token) -> None:
        """Nothing after a broken place can be trusted."""
        self._at = len(self._tokens)
