"""JSON to a FHIR Bundle, as strictly as FHIR has its JSON: for every stand-in. Knows no resource and no partner."""

import json
from collections.abc import Collection
from typing import Any, Final

from pipeline.sandbox.shapes import Issue

DEEPEST: Final = 32


class Refusal(Exception):
    """The body cannot be read at all."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.issue = Issue(code, text)


def read(body: bytes, names: Collection[str]) -> dict[str, Any]:
    """JSON to a Bundle; Refusal `structure` where it is none. `names` are those that an issue's text may repeat: others are the sender's."""
    try:
        tree = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise Refusal("structure", "The body is not JSON in UTF-8") from None
    if not isinstance(tree, dict) or tree.get("resourceType") != "Bundle":
        raise Refusal("structure", "The body is not a Bundle resource")
    _no_nothing(tree, "Bundle", 0, names)
    return tree


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refusal("structure", "A name stands twice in one JSON object")
    return found


def _no_constant(_: str) -> None:
    raise Refusal("structure", "NaN and Infinity are not JSON")


def _no_nothing(value: Any, path: str, depth: int, names: Collection[str]) -> None:  # noqa: ANN401 - JSON
    """FHIR's JSON has no null (but in arrays beside `_name`), no empty array, object or string."""
    if depth > DEEPEST:
        raise Refusal("structure", "The body is nested too deep")
    if value is None:
        raise Refusal("structure", f"{path} is null")
    if isinstance(value, (dict, list, str)) and not value:
        raise Refusal("structure", f"{path} is empty")
    if isinstance(value, str) and not _is_text(value):
        raise Refusal("structure", f"{path} has half a character")
    if isinstance(value, dict):
        for name, one in value.items():
            if not _is_text(name):
                raise Refusal("structure", f"{path} has an element whose name has half a character")
            _no_nothing(one, f"{path}.{name}" if name in names else path, depth + 1, names)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _no_nothing(one, f"{path}[{index}]", depth + 1, names)


def _is_text(value: str) -> bool:
    """No half of a surrogate pair, which JSON can escape and UTF-8 cannot say."""
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)


def tree(body: bytes) -> dict[str, Any]:
    """JSON that we made ourselves."""
    found: dict[str, Any] = json.loads(body)
    return found
