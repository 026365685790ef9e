"""While tracing, every value that a template emits takes a number along; after pruning, the numbers tell which element came from where."""

import threading
from collections.abc import Iterator
from typing import Any, Final

from pipeline.model import Resource
from pipeline.templates.environment import finalize
from pipeline.templates.places import PlacedNumber, place_of
from pipeline.templates.text import TEXT, Fragment

NUMBER: Final = "\ue002"
"""Around the number, after the mark of a variable's text."""
AS_NUMBER: Final = "#"
"""Behind the number of what is no text."""


class _Kept(threading.local):
    places: list[str | None]


class Provenance:
    """The places of one tracing per thread."""

    def __init__(self) -> None:
        self._kept = _Kept()

    def begin(self) -> None:
        """Forget the last one."""
        self._kept.places = []

    def finalize(self, value: object) -> str:
        """As the environment's, with a number in front of each text; a number goes as a text until it is taken."""
        if isinstance(value, PlacedNumber):
            self._kept.places.append(value.place)
            return f'"{TEXT}{NUMBER}{len(self._kept.places) - 1}{AS_NUMBER}{NUMBER}{int(value)}"'
        text = finalize(value)
        if isinstance(value, Fragment) or not isinstance(value, str) or not text.startswith(f'"{TEXT}'):
            return text
        self._kept.places.append(place_of(value))
        return f'"{TEXT}{NUMBER}{len(self._kept.places) - 1}{NUMBER}{text[2:]}'

    def take(self, resources: tuple[Resource, ...]) -> tuple[tuple[Resource, ...], dict[str, str]]:
        """The resources without numbers, and FHIR path to HL7 place."""
        places: dict[str, str] = {}
        cleaned = []
        for entry, resource in enumerate(resources):
            clean, found = self._cleaned(resource, "")
            cleaned.append(clean)
            name = str(clean.get("resourceType", ""))
            for path, place in _with_holders(found).items():
                places[f"Bundle.entry[{entry}].resource{path}"] = place
                places.setdefault(f"{name}{path}", place)
        return tuple(cleaned), places

    def _cleaned(self, value: Any, path: str) -> tuple[Any, dict[str, str]]:  # noqa: ANN401 - JSON's own types
        if isinstance(value, dict):
            parts = {key: self._cleaned(item, f"{path}.{key}") for key, item in value.items()}
            return {key: item for key, (item, _) in parts.items()}, {
                k: v for _, found in parts.values() for k, v in found.items()
            }
        if isinstance(value, list):
            items = [self._cleaned(item, f"{path}[{number}]") for number, item in enumerate(value)]
            return [item for item, _ in items], {k: v for _, found in items for k, v in found.items()}
        if isinstance(value, str) and value.startswith(NUMBER):
            number, _, text = value[1:].partition(NUMBER)
            place = self._kept.places[int(number.removesuffix(AS_NUMBER))]
            return int(text) if number.endswith(AS_NUMBER) else text, {path: place} if place else {}
        return value, {}


def _with_holders(found: dict[str, str]) -> dict[str, str]:
    """Also what holds elements of one common place: `.name[0]` is PID-5[1]."""
    held: dict[str, str | None] = {}
    for path, place in found.items():
        for holder in _holders(path):
            held[holder] = place if holder not in held else _common(held[holder], place)
    return {holder: place for holder, place in held.items() if place} | found


def _holders(path: str) -> Iterator[str]:
    while path:
        path = path[: max(path.rfind("."), path.rfind("["))]
        if path:
            yield path


def _common(one: str | None, other: str) -> str | None:
    """The innermost HL7 place around both; None where not even the segment is the same."""
    if one is None:
        return None
    while one and not (other == one or other.startswith((f"{one}.", f"{one}[", f"{one}-"))):
        one = one[: max(one.rfind("."), one.rfind("["), one.rfind("-"), 0)]
    return one or None
