"""What a template does with its JSON, step by step: skeleton.py finds the steps, building.py writes code of them. No code but one cast."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes


@dataclass(eq=False, slots=True)
class Container:
    """An object or a list of the template; `name` is its variable in the generated code."""

    name: str
    mark: str
    """{ or [."""
    members: dict[str, list["Container | nodes.Expr | None"]] = field(default_factory=dict)
    """Of an object, by key in the order of the template: what may stand there, one for each branch; None is a constant."""
    pairs: tuple[str, ...] = ()
    """Of an object: keys of primitive arrays that have a `_` array beside them."""
    raw: bool = False
    """A list of such a pair: None stands where an item has vanished."""


@dataclass(frozen=True, slots=True)
class Into:
    """Where a value goes: a member, an item, or (no container) what a macro or the whole template gives."""

    container: Container | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """An object or a list begins."""

    container: Container


@dataclass(frozen=True, slots=True)
class Close:
    """It ends."""

    container: Container
    into: Into


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant, as it is left when it has been pruned; None: it vanishes."""

    value: Any
    state: int
    into: Into


@dataclass(frozen=True, slots=True)
class Value:
    """`{{ … }}`."""

    expression: nodes.Expr
    into: Into


@dataclass(frozen=True, slots=True)
class Turn:
    """A loop begins another turn."""


Step = Open | Close | Fixed | Value | Turn


def steps_of(node: nodes.Output) -> Sequence[Step]:
    """What `skeleton` left in an Output."""
    steps: Sequence[Step] = node.steps  # type: ignore[attr-defined]  # Jinja lets nobody make node types of his own
    return steps
