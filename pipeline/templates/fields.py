"""What a template may read of what it holds: the fields of the event's models and of a few values beside them. Closed; nothing is called."""

from typing import Any, Final

from jinja2 import StrictUndefined
from jinja2.runtime import LoopContext
from pydantic import BaseModel

from pipeline.model import Identity
from pipeline.templates.tables import Concept
from schemas import event as event_model
from schemas.event import NULL, Event

MODELS: Final = frozenset(
    value
    for value in vars(event_model).values()
    if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel
)
"""The event's models: their fields can be read, nothing else of them."""
READABLE: Final[dict[type, frozenset[str]]] = {
    Identity: frozenset({"system", "value"}),
    Concept: frozenset({"system", "code", "display"}),
    LoopContext: frozenset({"index", "index0", "first", "last", "length", "previtem", "nextitem"}),
}
"""Of other types, the fields that a template may read."""

ENDS: Final = {"first": 0, "last": -1}


def field(obj: Any, attribute: str) -> Any:  # noqa: ANN401, PLR0911 - whatever a template holds; one return for each kind of it
    """A field of a model, `first` and `last` of a list, a name of `partner`; of what is absent: absent."""
    kind = type(obj)
    if kind in MODELS:
        try:
            return obj.__dict__[attribute]
        except KeyError:
            return obj.time if attribute == "time" and kind is Event else _undefined(attribute, kind.__name__)
    if kind is dict and attribute in obj:
        return obj[attribute]
    if obj is None or obj is NULL:
        return obj
    if kind in READABLE and attribute in READABLE[kind]:
        return getattr(obj, attribute)
    if isinstance(obj, tuple | list) and attribute in ENDS:
        return obj[ENDS[attribute]] if obj else None
    if isinstance(obj, tuple | list) and attribute == "length":
        return len(obj)
    return _undefined(attribute, "partner" if isinstance(obj, dict) else type_named(obj))


def _undefined(attribute: str, owner: str) -> StrictUndefined:
    return StrictUndefined(f"there is no {attribute} in {owner}")


def type_named(value: object) -> str:
    """A type in an analyst's words; never the value."""
    return "a list" if isinstance(value, list | tuple) else f"a whole {type(value).__name__}"
