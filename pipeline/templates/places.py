"""Where values come from: an event whose every text knows its HL7 place. The slow path, for findings and for `map --explain`.

The places stand in schemas/event.py (`hl7=`), `[r]` for the repetition and `[n]` for the segment; both count from 1. The copy has the
same types as the event itself, so templates and filters notice nothing. Only tracing makes one.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, Self, TypeVar

from pipeline.hl7.parts import built
from pipeline.model import Hl7, Identity
from pipeline.templates.tables import Concept
from schemas.event import Coded, Event, Frozen, Null, Timestamp

T = TypeVar("T")
M = TypeVar("M", bound=Frozen)


class PlacedText(str):
    """A text with its HL7 place."""

    __slots__ = ("place",)
    place: str

    def __new__(cls, text: str, place: str) -> Self:
        """Keep the place beside the text."""
        placed = super().__new__(cls, text)
        placed.place = place
        return placed


class PlacedNumber(int):
    """A number with its HL7 place."""

    place: str

    def __new__(cls, number: int, place: str) -> Self:
        """Keep the place beside the number."""
        placed = super().__new__(cls, number)
        placed.place = place
        return placed


class PlacedTuple(tuple[Any, ...]):  # noqa: SLOT001 - a tuple can have no slots of its own
    """The repetitions of a field, or segments, with the place of all of them."""

    place: str

    def __new__(cls, items: Iterable[Any], place: str) -> Self:
        """Keep the place beside the items."""
        placed = super().__new__(cls, items)
        placed.place = place
        return placed


class PlacedHl7:
    """A message by path whose answers know their place."""

    def __init__(self, hl7: Hl7) -> None:
        self._hl7 = hl7

    def __call__(self, path: str) -> str | Null | None:
        """As pipeline.model.Hl7."""
        value = self._hl7(path)
        return PlacedText(value, path) if isinstance(value, str) else value

    def count(self, path: str) -> int:
        """As pipeline.model.Hl7."""
        return self._hl7.count(path)


def place_of(value: object) -> str | None:
    """Where a value comes from, where it knows; a list that was put together in a template has the place of its first part."""
    place = getattr(value, "place", None)
    if isinstance(place, str):
        return place
    if isinstance(value, Coded):
        return place_of((value.code, value.alternate_code))
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := place_of(item)) is not None), None)
    return None


def with_place(value: T, place: str) -> T:
    """The same value, knowing a place. What cannot know one is returned as it is."""
    if type(value) is str:
        return PlacedText(value, place)  # type: ignore[return-value,arg-type]  # a str for a str
    if type(value) is int:
        return PlacedNumber(value, place)  # type: ignore[return-value,arg-type]  # an int for an int
    if isinstance(value, Concept):
        parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        return Concept(**{name: PlacedText(text, place) if text else text for name, text in parts.items()})  # type: ignore[return-value]
    return value


def placed_event(event: Event) -> Event:
    """The event with places."""
    return _placed(event, "")


def placed_identity(identity: Identity, event: Event) -> Identity:
    """An accepted identity with the places of its value and of what decided its system, where the message has one."""
    if identity.place is None:
        return identity
    return dataclasses.replace(
        identity,
        system=PlacedText(identity.system, _place_of_system(identity.place, event)),
        value=PlacedText(identity.value, identity.place),
    )


PID_3: Final = re.compile(r"(PID-3(?:\[(\d+)\])?)\.1")


def _place_of_system(place: str, event: Event) -> str:
    """The assigning authority (CX.4), or the type (CX.5) where none is named: what tables.identifier_system looks at, in its order."""
    found = PID_3.fullmatch(place)
    identifiers = event.patient.identifiers if event.patient else ()
    number = int(found[2] or 1) if found else 0
    if found is None or number > len(identifiers):
        return place
    cx, repetition = identifiers[number - 1], found[1]
    if cx.authority_oid and cx.authority:
        return f"{repetition}.4"  # either of the two may have been the table's
    if cx.authority_oid or cx.authority:
        return f"{repetition}.4.2" if cx.authority_oid else f"{repetition}.4.1"
    return f"{repetition}.5" if cx.type else repetition


def placing(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result has the place of what went in, where the filter did not say better."""

    @wraps(filter_)
    def placed(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - a filter takes what templates hand in
        result = filter_(*arguments, **named)
        place = next((found for argument in arguments if (found := place_of(argument)) is not None), None)
        if place is None or result is None or place_of(_text_of(result)) is not None:
            return result
        return PlacedTuple(result, place) if type(result) is tuple else with_place(result, place)

    return placed


def _text_of(result: object) -> object:
    return result.code if isinstance(result, Concept) else result


def _placed(model: M, place: str) -> M:
    values: dict[str, Any] = {}
    for name, value in model.__dict__.items():  # a part that was not built is not there
        extra = type(model).model_fields[name].json_schema_extra
        below = str(extra["hl7"]) if isinstance(extra, dict) and "hl7" in extra else ""
        values[name] = _value(value, joined_place(place, below))
    return built(type(model), {}, values)


def _value(value: Any, place: str) -> Any:  # noqa: ANN401 - a field's value
    if type(value) is str:
        return PlacedText(value, place)
    if isinstance(value, tuple):
        numbers = (getattr(item, "nth", number) for number, item in enumerate(value, 1))
        items = zip(value, numbers, strict=True)
        return PlacedTuple((_value(item, _numbered(place, number)) for item, number in items), _unnumbered(place))
    if isinstance(value, Timestamp):
        return value.model_copy(
            update={name: PlacedText(text, place) for name in TIMES if (text := getattr(value, name)) is not None}
        )
    return _placed(value, place) if isinstance(value, Frozen) else value


TIMES: Final = ("date", "datetime", "instant")


def joined_place(place: str, below: str) -> str:
    """The place of a part: `PID-5[2]` and `.1.1` make `PID-5[2].1.1`; a place that names its segment takes over the segment's number."""
    if not below:
        return place
    if below.startswith("."):
        return place + below
    segment = below.partition("[n]")[0]
    number = place.removeprefix(segment) if place.startswith(segment) else ""
    return below.replace("[n]", number if number.startswith("[") else "")


def _numbered(place: str, number: int) -> str:
    """The first of its kind goes without a number, so that one place has one name (hl7/paths.py)."""
    index = f"[{number}]" if number > 1 else ""
    return place.replace("[r]", index) if "[r]" in place else place + index


def _unnumbered(place: str) -> str:
    return place.replace("[r]", "")
