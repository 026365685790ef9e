"""Templates as code that builds the resources at once, without text in between: what every message takes.

Jinja compiles the expressions, the loops and the macros as ever; the JSON around them (skeleton.py) becomes assignments to dicts and lists,
and what is to vanish is never put in. What vanishes, and what a value becomes, is told in text.py and is the same; tests hold the two ways
against each other. In the generated code `part3` is an object or a list and `part3_state` what text.py calls its state.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from jinja2 import nodes
from jinja2.compiler import Frame

from pipeline.model import Resource
from pipeline.templates.environment import MappingCode, MappingEnvironment, Mistake, finalize, tick
from pipeline.templates.skeleton import skeleton
from pipeline.templates.steps import Close, Container, Fixed, Into, Open, Turn, Value, steps_of
from pipeline.templates.text import ABSENT, GONE, LIVE, TYPED, Constant, NotResources, aligned_pair, cleaned
from schemas.event import NULL

__all__ = ["BuildingEnvironment", "Built", "align", "item", "loose", "member", "slot", "tick"]


class Built:
    """What a macro gave: its values, None where one vanished, and their state. It is true where there was anything at all."""

    __slots__ = ("items", "state")

    def __init__(self, items: list[Any], state: int) -> None:
        self.items = items
        self.state = state

    def __bool__(self) -> bool:
        return bool(self.items)


def member(into: dict[str, Any], key: str, value: object) -> int:
    """`"key": {{ … }}`: put it in unless it vanishes; its state."""
    if type(value) is str:
        # Letters and digits alone, the most frequent by far, need nothing; what can be printed, no more than this.
        text = value if value.isalnum() else value.strip() if value.isprintable() else cleaned(value)
        if text:
            into[key] = text
            return LIVE
        return GONE
    if value is None:
        return GONE
    one, state = _single(value)
    if one is not None:
        into[key] = one
    return state


def item(into: list[Any], value: object) -> int:
    """`{{ … }}` in a list: put in what does not vanish; its state."""
    if type(value) is Built and value.items:
        for one in value.items:
            if one is not None:
                into.append(one)  # noqa: PERF401 - mostly one, and a comprehension is a call
        return value.state
    one, state = _single(value)
    if one is not None:
        into.append(one)
    return state


def slot(into: list[Any], value: object) -> int:
    """The same where None has to stand for what vanishes."""
    if type(value) is Built and value.items:
        into.extend(value.items)
        return value.state
    one, state = _single(value)
    into.append(one)
    return state


def loose(value: object) -> list[Any]:
    """`{{ … }}` that stands in nothing."""
    made: list[Any] = []
    slot(made, value)
    return made


def _single(value: object) -> tuple[Any, int]:
    """What one `{{ … }}` becomes, None where it vanishes, and its state."""
    if type(value) is str:
        text = cleaned(value)
        return (text, LIVE) if text else (None, GONE)
    if value is None or value is NULL:
        return None, GONE
    if type(value) is Built:
        if len(value.items) > 1:
            raise Mistake("a macro gives several values where one must stand")
        return (value.items[0], value.state) if value.items else (None, GONE)
    if type(value) is Constant:
        text = cleaned(str(value))
        return (text, 0) if text else (None, GONE)
    return _rare(finalize(value))


def _rare(emitted: str) -> tuple[Any, int]:
    """Numbers, booleans, and what has no business in a template: as the way of text has it."""
    if emitted == ABSENT:
        return None, GONE
    text = orjson.loads(emitted)
    return orjson.loads(text.removeprefix(TYPED)) if text.startswith(TYPED) else text[1:], LIVE


def align(into: dict[str, Any], key: str) -> int:
    """An array and its `_` array, both with their gaps; either may not be there. Put in what is left of them; the state that comes to it."""
    beside = f"_{key}"
    if key in into and beside in into:
        left, empty = dict(zip((key, beside), aligned_pair(into[key], into[beside]), strict=True)), 0
    else:
        left, empty = {name: [one for one in into[name] if one is not None] for name in (key, beside) if name in into}, GONE
    state = 0
    for name, items in left.items():
        if items:
            into[name] = items
        else:
            del into[name]
            state |= empty
    return state


class BuildingCode(MappingCode):
    """Writes the steps of skeleton.py."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802 - Jinja's name
        self.writeline(f"from {__name__} import {', '.join(USED)}")
        super().visit_Template(node, frame)

    def buffer(self, frame: Frame) -> None:
        """What a macro gives is kept here, until its end."""
        super().buffer(frame)
        self.writeline(f"{frame.buffer}_state = 0")

    def return_buffer_contents(self, frame: Frame, force_unescaped: bool = False) -> None:  # noqa: ARG002 - Jinja's signature
        """The end of a macro."""
        self.writeline(f"return Built({frame.buffer}, {frame.buffer}_state)")

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        for step in steps_of(node):
            match step:
                case Turn():
                    self.writeline("tick()")
                case Open(container):
                    self.writeline(f"{container.name} = {'{}' if container.mark == '{' else '[]'}")
                    self.writeline(f"{container.name}_state = 0")
                case Fixed(value, state, into):
                    self._put(into, repr(value), str(state), None if value is not None else "False", frame)
                case Close(container, into):
                    self._close(container, into, frame)
                case Value(expression, into):
                    self._value(expression, into, frame)

    def _value(self, expression: nodes.Expr, into: Into, frame: Frame) -> None:
        """A function puts it where it belongs, or not, and gives the state."""
        holder = self._holder(into, frame)
        if holder is None:
            self.writeline("yield from loose(", expression)
        elif into.container is None or into.container.raw:
            self.writeline(f"{holder}_state |= slot({holder}, ", expression)
        elif into.container.mark == "[":
            self.writeline(f"{holder}_state |= item({holder}, ", expression)
        else:
            self.writeline(f"{holder}_state |= member({holder}, {into.key!r}, ", expression)
        self.visit(expression, frame)
        self.write(")")

    def _close(self, container: Container, into: Into, frame: Frame) -> None:
        """An object or a list is put where it belongs, if it does not vanish."""
        name = container.name
        for key in container.pairs:
            self.writeline(f"{name}_state |= align({name}, {key!r})")
        left = f"{name} and {name}_state != {GONE}" if container.mark == "{" else None if container.raw else name
        self._put(into, name, f"{name}_state", left, frame)

    def _put(self, into: Into, value: str, state: str, condition: str | None, frame: Frame) -> None:
        """`value`, `state` and `condition` (None: always) are code. What vanishes leaves GONE, and None where its place counts."""
        holder = self._holder(into, frame)
        if condition is None:
            self._store(into, holder, value, state)
        elif condition == "False":
            self._leave_out(into, holder)
        else:
            self.writeline(f"if {condition}:")
            self.indent()
            self._store(into, holder, value, state)
            self.outdent()
            self.writeline("else:")
            self.indent()
            self._leave_out(into, holder)
            self.outdent()

    def _store(self, into: Into, holder: str | None, value: str, state: str) -> None:
        if holder is None:
            self.writeline(f"yield {value}")
            return
        member_of = into.container is not None and into.container.mark == "{"
        self.writeline(f"{holder}[{into.key!r}] = {value}" if member_of else f"{holder}.append({value})")
        if state != "0":
            self.writeline(f"{holder}_state |= {state}")

    def _leave_out(self, into: Into, holder: str | None) -> None:
        if holder is None:
            self.writeline("yield None")
            return
        if into.container is None or into.container.raw:
            self.writeline(f"{holder}.append(None)")
        self.writeline(f"{holder}_state |= {GONE}")

    @staticmethod
    def _holder(into: Into, frame: Frame) -> str | None:
        """The variable that a value goes into; None: it is one of those that the template gives."""
        return into.container.name if into.container is not None else frame.buffer


USED: Final = ("Built", "align", "item", "loose", "member", "slot", "tick")
"""What the generated code names."""


class BuildingEnvironment(MappingEnvironment):
    """The same language; what comes out are resources. `parse` raises NotUnderstood where a template has to go the way of text."""

    code_generator_class = BuildingCode

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        skeleton(tree)
        return tree

    def resources_of(self, rendered: Sequence[Sequence[Any]]) -> tuple[Resource, ...]:
        """The resources, of what each template gave. NotResources."""
        kept: list[Resource] = []
        for number, values in enumerate(rendered):
            for value in values:
                for one in value if type(value) is list else (value,):
                    if type(one) is dict:
                        kept.append(one)
                    elif one is not None:
                        raise NotResources(number, "renders something that is neither an object nor a list of objects")
        return tuple(kept)
