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


def cleaned(value: str) -> str:
    """A text as FHIR takes it: without control characters, and without blanks around it; nothing may be left."""
    return (value if value.isprintable() else value.translate(_CONTROL)).strip()


def text_of(value: str) -> str:
    r"""A text as marked JSON. Blanks around it go; nothing but blanks is absent. No `]` or `}` stands bare (`\u005d`, `\u007d`)."""
    if value.isalnum():  # letters and digits alone, the most frequent by far, need nothing
        return f'"{TEXT}{value}"'
    value = cleaned(value)
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
    joined = f"[{','.join([text for text in texts if text])}]".replace(",]", "]").replace(",}", "}")
    try:
        trees = orjson.loads(joined)
    except orjson.JSONDecodeError:
        raise NotResources(_first_wrong(texts), "is not JSON after rendering") from None
    aligned = '"_' in joined
    kept: list[Resource] = []
    for tree in trees:
        for item in tree if type(tree) is list else (tree,):
            if type(item) is dict:
                if not _object(item, aligned) & DROPPED:
                    kept.append(item)
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
DROPPED: Final = 4
"""This itself vanishes: nothing is left, or only the constants of an object whose variables have all vanished."""


def pruned(tree: Any) -> tuple[Any, int]:  # noqa: ANN401 - JSON's own types
    """A value out of a template's JSON, pruned where it stands, and its state: what there is to know of a constant before rendering."""
    holder = [tree]
    state = _items(holder, aligned=True)
    return holder[0], state | (DROPPED if holder[0] is None else 0)


def _object(tree: dict[str, Any], aligned: bool) -> int:  # noqa: C901 - one pass over every node, and calls cost
    """Prune an object where it stands; its state."""
    state = 0
    vanished: list[str] = []
    skipped: set[str] = set()
    for key, value in tree.items():
        kind = type(value)
        if kind is str:
            if value and value[0] != TEXT:
                continue
            if value:
                text = value[1:]
                tree[key] = text if text[0] != TEXT else orjson.loads(text[1:])
                state |= LIVE
                continue
            below = GONE | DROPPED
        elif kind is dict:
            below = _object(value, aligned)
        elif kind is list:
            if aligned and (key in skipped or type(tree.get(f"_{key}")) is list):
                state |= _pair(tree, key, vanished) if key not in skipped else 0
                skipped.add(f"_{key}")
                continue
            below = _list(value, aligned)
        elif value is None:
            below = GONE | DROPPED
        else:
            continue
        if below & DROPPED:
            vanished.append(key)
            below -= DROPPED
        state |= below
    for key in vanished:
        tree.pop(key, None)  # an array that stands behind its `_` array has both vanish twice
    return state if tree and state != GONE else state | GONE | DROPPED


def _list(tree: list[Any], aligned: bool) -> int:
    """Prune a list where it stands; its state."""
    state = _items(tree, aligned)
    if None in tree:
        tree[:] = [item for item in tree if item is not None]
    return state if tree else state | GONE | DROPPED


def _items(tree: list[Any], aligned: bool) -> int:
    """Prune the items of a list; None stands where one vanished."""
    state = 0
    for place, value in enumerate(tree):
        kind = type(value)
        if kind is str:
            if value and value[0] == TEXT:
                text = value[1:]
                tree[place] = text if text[0] != TEXT else orjson.loads(text[1:])
                state |= LIVE
                continue
            below = 0 if value else GONE | DROPPED
        elif kind is dict:
            below = _object(value, aligned)
        elif kind is list:
            below = _list(value, aligned)
        else:
            below = GONE | DROPPED if value is None else 0
        state |= below & (LIVE | GONE)
        if below & DROPPED:
            tree[place] = None
    return state


def _pair(tree: dict[str, Any], key: str, vanished: list[str]) -> int:
    """A primitive array and its `_` array (FHIR JSON, primitives that repeat): nulls that hold a place for the other one stay."""
    values, extensions = tree[key], tree[f"_{key}"]
    state = _items(values, aligned=True) | _items(extensions, aligned=True)
    kept = aligned_pair(values, extensions)
    for name, left in zip((key, f"_{key}"), kept, strict=True):
        tree[name] = left
        if not left:
            vanished.append(name)
    return state


def aligned_pair(values: list[Any], extensions: list[Any]) -> tuple[list[Any], list[Any]]:
    """Of a primitive array and its `_` array, None standing where an item has vanished, what is left: None only where the other has something."""
    length = max(len(values), len(extensions))
    values, extensions = _filled(values, length), _filled(extensions, length)
    return _beside(values, extensions), _beside(extensions, values)


def _beside(items: list[Any], others: list[Any]) -> list[Any]:
    if all(item is None for item in items):
        return []
    if all(other is None for other in others):
        return [item for item in items if item is not None]
    return [item for item, other in zip(items, others, strict=True) if item is not None or other is not None]


def _filled(items: list[Any], length: int) -> list[Any]:
    return items + [None] * (length - len(items))
