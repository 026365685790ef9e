"""JSON to a FHIR Bundle, as strictly as FHIR has its JSON, or to a plain object: for every stand-in. Knows no resource and no partner."""

import json
from collections.abc import Collection
from typing import Any, Final

from pipeline.sandbox.roche.shapes import Issue

DEEPEST: Final = 32
MOST: Final = 2**63


class Refusal(Exception):
    """The body cannot be read at all."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.issue = Issue(code, text)


def read(body: bytes, names: Collection[str]) -> dict[str, Any]:
    """JSON to a Bundle; Refusal `structure` where it is none. `names` are those that an issue's text may repeat: others are the sender's."""
    tree = _parsed(body)
    if not isinstance(tree, dict) or tree.get("resourceType") != "Bundle":
        raise Refusal("structure", "The body is not a Bundle resource")
    _no_nothing(tree, "Bundle", 0, names)
    return tree


def plain(body: bytes) -> dict[str, Any]:
    """JSON to an object of a partner whose JSON is not FHIR's: null and empty values are values."""
    tree = _parsed(body)
    if not isinstance(tree, dict):
        raise Refusal("structure", "The body is not an object")
    _no_half(tree, 0)
    return tree


def _no_half(value: Any, depth: int) -> None:  # noqa: ANN401 - JSON
    """Nothing that cannot be said again in UTF-8 JSON: half characters, depths, numbers beyond all computers."""
    if depth > DEEPEST or (isinstance(value, int) and abs(value) >= MOST):
        raise Refusal("structure", "The body is nested too deep or has a number too large")
    if isinstance(value, str) and not _is_text(value):
        raise Refusal("structure", "The body has half a character")
    if isinstance(value, dict):
        for name, one in value.items():
            _no_half(name, depth + 1)
            _no_half(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _no_half(one, depth + 1)


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of thousands of digits, too deep
        raise Refusal("structure", "The body is not JSON in UTF-8") from None


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
