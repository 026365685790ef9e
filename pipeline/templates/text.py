"""From rendered text to resources: what a value looks like in the text, how the text is parsed, what vanishes.

Every value that a template emits carries a private mark, so that after parsing a variable can be told from a constant of the
template. The mark is always put before the value and always taken off once, so no value of a message can forge or lose one.
Nothing here knows FHIR or HL7.
"""

import json
import re
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any, Final

import orjson

from pipeline.model import Resource

TEXT: Final = "\x7f"
"""Before a variable's text. DEL may stand bare in JSON, keeps the text ASCII (which orjson reads without a copy), and is in no value."""
TYPED: Final = "\x7f\x7f"
"""Before the JSON of a variable that is no text: true, 7."""
ABSENT: Final = "null"
MARKS: Final = re.compile("[\x7f\ue002]")
"""No template may contain one."""

_CONTROL: Final = dict.fromkeys([*(code for code in range(32) if code not in {9, 10, 13}), 127, *range(0xD800, 0xE000)])
"""What FHIR's string forbids (control characters) and what UTF-8 cannot carry (lone surrogates)."""


class NotResources(Exception):
    """The rendered text is no JSON, or no resources; the message is ours and carries no value."""

    def __init__(self, template: int, message: str) -> None:
        super().__init__(message)
        self.template = template


class Fragment(str):
    """JSON text made by a macro: it is emitted as it is, where any other string becomes a JSON string."""

    __slots__ = ()


class Constant(str):
    """A text that stands in the template itself, also where it is emitted by an expression: it keeps no object alive."""

    __slots__ = ()

    def __repr__(self) -> str:
        """As the compiled template writes it down."""
        return f"environment.constants[{str(self)!r}]"


class Constants(dict[str, Constant]):
    """Each constant once."""

    def __missing__(self, text: str) -> Constant:
        self[text] = Constant(text)
        return self[text]


def constant_of(value: str) -> str:
    """A constant as JSON, without the mark of a variable."""
    text = text_of(str(value))
    return f'"{text[2:]}' if text is not ABSENT else ABSENT


def text_of(value: str) -> str:
    r"""A text as marked JSON. Blanks around it go; nothing but blanks is absent. No `]` or `}` stands bare (`\u005d`, `\u007d`)."""
    if not value.isprintable():
        value = value.translate(_CONTROL)
    value = value.strip()
    if not value:
        return ABSENT
    quoted: str = encode_basestring(value)
    if "]" in quoted or "}" in quoted:
        quoted = quoted.replace("]", "\\u005d").replace("}", "\\u007d")
    return f'"{TEXT}{quoted[1:]}'


def typed_of(value: float) -> str:
    """A boolean or a number as marked JSON."""
    return f'"{TYPED}{json.dumps(value)}"'


def resources_of(texts: Sequence[str]) -> tuple[Resource, ...]:
    """Parse the text of each template (an object, a list of objects, or nothing) and prune. NotResources with the number of the template."""
    there = [text for text in texts if text]
    try:
        trees = orjson.loads(f"[{','.join(there)}]".replace(",]", "]").replace(",}", "}"))
    except orjson.JSONDecodeError:
        raise NotResources(_first_wrong(texts), "is not JSON after rendering") from None
    kept: list[Resource] = []
    for tree in trees:
        for item in tree if type(tree) is list else (tree,):
            if type(item) is dict:
                pruned, _ = _object(item)
                if pruned:
                    kept.append(pruned)
            elif item is not None:
                raise NotResources(_first_wrong(texts), "renders something that is neither an object nor a list of objects")
    return tuple(kept)


def _first_wrong(texts: Sequence[str]) -> int:
    """Which text is not what it should be, on its own; 0 where each is."""
    for number, text in enumerate(texts):
        try:
            tree = orjson.loads(text.replace(",]", "]").replace(",}", "}")) if text else None
        except orjson.JSONDecodeError:
            return number
        if any(item is not None and type(item) is not dict for item in (tree if type(tree) is list else [tree])):
            return number
    return 0


LIVE: Final = 1
"""A variable has a value somewhere in here."""
GONE: Final = 2
"""A variable in here has vanished."""


def _object(tree: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """An object without what vanished; None where all its variables did, its constants notwithstanding."""
    kept: dict[str, Any] = {}
    state = 0
    for key, value in tree.items():
        kind = type(value)
        if kind is str:
            if value[:1] == TEXT:
                text = value[1:]
                kept[key] = text if text[0] != TEXT else orjson.loads(text[1:])
                state |= LIVE
            elif value:
                kept[key] = value
            else:
                state |= GONE
            continue
        child: Any
        if kind is dict:
            child, below = _object(value)
        elif kind is list:
            twin = tree.get(f"_{key}" if key[:1] != "_" else key[1:])
            child, below = _list(value) if type(twin) is not list else _aligned(value, twin)
        else:
            child, below = (value, 0) if value is not None else (None, GONE)
        state |= below
        if child is not None:
            kept[key] = child
    if kept and (state & LIVE or not state & GONE):
        return kept, state
    return None, state & LIVE | GONE


def _item(value: Any) -> tuple[Any, int]:  # noqa: ANN401 - JSON's own types
    """One item of a list; None where it vanished."""
    kind = type(value)
    if kind is dict:
        return _object(value)
    if kind is str:
        if value[:1] == TEXT:
            return (value[1:] if value[1] != TEXT else orjson.loads(value[2:])), LIVE
        return (value, 0) if value else (None, GONE)
    if kind is list:
        return _list(value)
    return (None, GONE) if value is None else (value, 0)


def _list(tree: list[Any]) -> tuple[list[Any] | None, int]:
    kept: list[Any] = []
    state = 0
    for value in tree:
        item, below = _item(value)
        state |= below
        if item is not None:
            kept.append(item)
    return (kept, state) if kept else (None, state | GONE)


def _aligned(tree: list[Any], twin: list[Any]) -> tuple[list[Any] | None, int]:
    """A primitive array beside its `_` array (FHIR JSON, primitives that repeat): nulls that hold a place for the other one stay."""
    mine = [_item(value) for value in tree]
    other = [_item(value)[0] for value in twin]
    state = 0
    for _, below in mine:
        state |= below
    if all(item is None for item, _ in mine):
        return None, state | GONE
    if all(item is None for item in other):
        return [item for item, _ in mine if item is not None], state
    length = max(len(mine), len(other))
    filled = [item for item, _ in mine] + [None] * (length - len(mine))
    return [
        item for place, item in enumerate(filled) if item is not None or (place < len(other) and other[place] is not None)
    ], state
