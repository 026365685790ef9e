"""The JSON between a template's expressions, read when it is compiled: which object or list each value goes into.

`skeleton` puts steps (Open, Close, Fixed, Value) in the place of Jinja's Output nodes; building.py writes code of them. Understood is what
mappings/README.md teaches: inside an `if` or a `for` stand whole members, items or values. Anything else is NotUnderstood, and the
partner's templates go the way of text (text.py), which takes every text that is JSON in the end. Nothing is rendered here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final

import orjson
from jinja2 import nodes

from pipeline.templates.steps import Close, Container, Fixed, Into, Open, Step, Turn, Value
from pipeline.templates.text import DROPPED, GONE, pruned

LEXEMES: Final = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{}\[\]:,])|(?P<literal>true|false|null|-?\d[\d.eE+-]*)|(?P<strange>\S)'
)


class NotUnderstood(Exception):
    """Written in a way that only rendering can tell the JSON of."""


def skeleton(tree: nodes.Template) -> None:
    """Change the tree: every Output has `steps` instead of text. NotUnderstood."""
    tree.body = _Parser().everything(tree.body)


Token = tuple[str, str]
"""Kind (one of { } [ ] : , text literal) and text."""
Unit = Token | nodes.Expr | nodes.Stmt


class _Body:
    """The units of one block, taken one after the other, and the block that comes of them."""

    def __init__(self, body: Sequence[nodes.Node]) -> None:
        self._units = list(_units(body))
        self._at = 0
        self._done: list[nodes.Node] = []

    def take(self) -> Unit | None:
        """The next unit; None at the end."""
        self._at += 1
        return self._units[self._at - 1] if self._at <= len(self._units) else None

    def constant(self) -> str | None:
        """The text of the object that has just been opened, where it has no expression and no statement in it; then it is taken whole."""
        depth, text = 1, ["{"]
        for at in range(self._at, len(self._units)):
            unit = self._units[at]
            if not isinstance(unit, tuple):
                return None
            depth += {"{": 1, "}": -1}.get(unit[0], 0)
            text.append(unit[1])
            if not depth:
                self._at = at + 1
                return "".join(text)
        return None

    def add(self, step: Step) -> None:
        """A step goes into the Output at the end of what is done; its expression is Jinja's to look at, too."""
        last = self._done[-1] if self._done else None
        if not isinstance(last, nodes.Output):
            last = nodes.Output([], lineno=step.expression.lineno if isinstance(step, Value) else 1)
            last.steps = []  # type: ignore[attr-defined]  # see steps_of
            self._done.append(last)
        last.steps.append(step)  # type: ignore[attr-defined]  # see steps_of
        if isinstance(step, Value):
            last.nodes.append(step.expression)

    def keep(self, statement: nodes.Stmt) -> None:
        self._done.append(statement)

    def end(self) -> list[nodes.Node]:
        """The new block; commas may be left. NotUnderstood where more is."""
        while (unit := self.take()) is not None:
            if unit != (",", ","):
                raise NotUnderstood
        return self._done


class _Commas:
    """NotUnderstood where a comma is missing or one too many, as far as it can be told: a statement, or a macro, may bring its own."""

    def __init__(self, *, closed: bool) -> None:
        self._may_follow = {"value": True, "comma": closed}

    def see(self, unit: Unit) -> None:
        """The next one."""
        kind = "statement" if isinstance(unit, nodes.Stmt) else "comma" if unit == (",", ",") else "value"
        if not self._may_follow.get(kind, True) and unit not in {("]", "]"), ("}", "}")}:
            raise NotUnderstood
        unknown = isinstance(unit, nodes.Stmt | nodes.Call)
        self._may_follow = {"value": unknown or kind == "comma", "comma": unknown or kind == "value"}


def _units(body: Sequence[nodes.Node]) -> Iterator[Unit]:
    for node in body:
        if isinstance(node, nodes.Output):
            for child in node.nodes:
                if isinstance(child, nodes.TemplateData):
                    yield from _tokens(child.data)
                else:
                    yield child
        elif isinstance(node, nodes.Stmt):
            yield node


def _tokens(data: str) -> Iterator[Token]:
    for found in LEXEMES.finditer(data):
        kind, text = str(found.lastgroup), found.group()
        if kind == "strange":
            raise NotUnderstood
        yield text if kind == "mark" else kind, text


Parse = Callable[[_Body], None]


class _Parser:
    """Goes through a template's blocks."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def everything(self, body: Sequence[nodes.Node]) -> list[nodes.Node]:
        """What a macro or a whole template gives: values, with or without commas between them."""
        return self._block(body, lambda inner: self._items(inner, Into(), closed=True))

    def _block(self, body: Sequence[nodes.Node], parse: Parse) -> list[nodes.Node]:
        inner = _Body(body)
        parse(inner)
        return inner.end()

    def _items(self, body: _Body, into: Into, *, closed: bool) -> None:
        """Values up to `]`, or to the end of the block."""
        commas = _Commas(closed=closed)
        while (unit := body.take()) is not None:
            commas.see(unit)
            if unit == ("]", "]"):
                if closed:
                    raise NotUnderstood
                return
            if isinstance(unit, nodes.Stmt):
                self._statement(body, unit, lambda inner: self._items(inner, into, closed=True), loops=True)
            elif unit != (",", ","):
                self._value(body, unit, into)
        if not closed:
            raise NotUnderstood

    def _members(self, body: _Body, container: Container, seen: set[str], *, closed: bool) -> None:
        """Members up to `}`, or to the end of the block. `seen`: keys that stand there already."""
        commas = _Commas(closed=closed)
        while (unit := body.take()) is not None:
            commas.see(unit)
            if unit == ("}", "}"):
                if closed:
                    raise NotUnderstood
                return
            if isinstance(unit, nodes.Stmt):
                before = frozenset(seen)

                def branch(inner: _Body, before: frozenset[str] = before) -> None:
                    mine = set(before)
                    self._members(inner, container, mine, closed=True)
                    seen.update(mine)

                self._statement(body, unit, branch, loops=False)
            elif unit != (",", ","):
                self._member(body, unit, container, seen)
        if not closed:
            raise NotUnderstood

    def _member(self, body: _Body, unit: Unit, container: Container, seen: set[str]) -> None:
        if not isinstance(unit, tuple) or unit[0] != "text" or body.take() != (":", ":"):
            raise NotUnderstood
        key = orjson.loads(unit[1])
        if key in seen:
            raise NotUnderstood
        seen.add(key)
        self._one(body, Into(container, key))

    def _one(self, body: _Body, into: Into) -> None:
        """The value of a member: one, or one in each branch."""
        unit = body.take()
        while isinstance(unit, nodes.Assign):
            body.keep(unit)
            unit = body.take()
        if isinstance(unit, nodes.If) and unit.else_:
            self._statement(body, unit, lambda inner: self._one(inner, into), loops=False)
        elif unit is None or isinstance(unit, nodes.Stmt):
            raise NotUnderstood
        else:
            self._value(body, unit, into)

    def _value(self, body: _Body, unit: tuple[str, str] | nodes.Expr, into: Into) -> None:
        container: Container | None = None
        if isinstance(unit, nodes.Expr):
            body.add(Value(unit, into))
        elif unit[0] in {"text", "literal"}:
            body.add(_fixed(unit[1], into))
        elif unit[0] == "{" and (text := body.constant()) is not None:
            body.add(_fixed(text, into))
        elif unit[0] in {"{", "["}:
            container = Container(f"part{next(self._numbers)}", unit[0])
            body.add(Open(container))
            if unit[0] == "{":
                self._members(body, container, set(), closed=False)
                _find_pairs(container)
            else:
                self._items(body, Into(container), closed=False)
            body.add(Close(container, into))
        else:
            raise NotUnderstood
        if into.container is not None and into.container.mark == "{":
            there = unit if isinstance(unit, nodes.Expr) else container
            into.container.members.setdefault(into.key, []).append(there)

    def _statement(self, body: _Body, node: nodes.Stmt, parse: Parse, *, loops: bool) -> None:
        match node:
            case nodes.If():
                for branch in (node, *node.elif_):
                    branch.body = self._block(branch.body, parse)
                node.else_ = self._block(node.else_, parse) if node.else_ else node.else_
            case nodes.For(recursive=False) if loops:
                turn = _Body(())
                turn.add(Turn())
                node.body = turn.end() + self._block(node.body, parse)
                node.else_ = self._block(node.else_, parse)
            case nodes.Macro():
                node.body = self.everything(node.body)
            case nodes.Assign() | nodes.FromImport():
                pass
            case _:
                raise NotUnderstood
        body.keep(node)


def _fixed(text: str, into: Into) -> Fixed:
    try:
        tree, state = pruned(orjson.loads(text.replace(",]", "]").replace(",}", "}")))
    except orjson.JSONDecodeError:
        raise NotUnderstood from None
    return Fixed(None, GONE, into) if state & DROPPED else Fixed(tree, state, into)


def _find_pairs(found: Container) -> None:
    """Arrays that have their `_` array beside them keep their gaps. NotUnderstood where it cannot be told that both are arrays."""
    keys = list(found.members)
    for key in keys:
        values, extensions = found.members[key], found.members.get(f"_{key}", [])
        if not any(map(_may_be_list, values)) or not any(map(_may_be_list, extensions)):
            continue
        if keys.index(key) > keys.index(f"_{key}") or not all(isinstance(one, Container) for one in (*values, *extensions)):
            raise NotUnderstood
        found.pairs = (*found.pairs, key)
        for one in (*values, *extensions):
            if isinstance(one, Container):
                one.raw = True


def _may_be_list(value: Container | nodes.Expr | None) -> bool:
    return isinstance(value, nodes.Expr) or (value is not None and value.mark == "[")
