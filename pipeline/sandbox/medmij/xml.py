"""FHIR's XML of what the stand-in has as JSON, in its own few lines: elements stand in the order of the JSON. No narrative, no reading."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

NAMESPACE = "http://hl7.org/fhir"


def written(resource: Mapping[str, Any]) -> bytes:
    """A whole document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>{_resource(resource, f" xmlns={quoteattr(NAMESPACE)}")}'.encode()


def _resource(resource: Mapping[str, Any], namespace: str = "") -> str:
    kind = resource["resourceType"]
    return f"<{kind}{namespace}>{_children(resource)}</{kind}>"


def _children(tree: Mapping[str, Any]) -> str:
    names = dict.fromkeys(name.removeprefix("_") for name in tree if name != "resourceType")
    return "".join(_element(name, tree.get(name), tree.get(f"_{name}")) for name in names)


def _element(name: str, value: Any, beside: Any) -> str:  # noqa: ANN401 - JSON
    """`beside` is what JSON has under the name with an underscore: id and extensions of a primitive."""
    if isinstance(value, list) or isinstance(beside, list):
        values, besides = value or [None] * len(beside), beside or [None] * len(value)
        return "".join(_element(name, one, other) for one, other in zip(values, besides, strict=True))
    if isinstance(value, dict):
        if "resourceType" in value:
            return f"<{name}>{_resource(value)}</{name}>"
        attributes = _attributes(value, ("id", "url") if name == "extension" else ("id",))
        rest = {key: one for key, one in value.items() if key != "id" and not (name == "extension" and key == "url")}
        return f"<{name}{attributes}>{_children(rest)}</{name}>"
    inner = _children({key: one for key, one in (beside or {}).items() if key != "id"})
    attributes = _attributes(beside or {}, ("id",)) + ("" if value is None else f" value={quoteattr(_text(value))}")
    return f"<{name}{attributes}>{inner}</{name}>" if inner else f"<{name}{attributes}/>"


def _attributes(tree: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return "".join(f" {name}={quoteattr(str(tree[name]))}" for name in names if name in tree)


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return str(value).lower() if isinstance(value, bool) else str(value)
