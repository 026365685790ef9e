"""Systematic damage: every place of a resource, each wrong value in turn; what the two oracles and we are asked about."""

import copy
from collections.abc import Iterator
from typing import Any, Final

Place = tuple[str | int, ...]

WRONG: Final[dict[str, Any]] = {
    "null": None,
    "empty": "",
    "blank": " ",
    "number": 1,
    "negative": -1,
    "true": True,
    "object": {},
    "list": [],
    "two words": "x y",
    "word": "zzz",
    "no such day": "2023-02-29",
    "no offset": "2023-02-28T10:00:00",
    "long": "a" * 70,
}
DELETED: Final = "deleted"
LISTED: Final = "listed"
UNKNOWN: Final = "unknown element"


def places(node: Any, place: Place = ()) -> Iterator[Place]:  # noqa: ANN401 - JSON
    """Every place below a node."""
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, value in steps:
        yield (*place, step)
        yield from places(value, (*place, step))


def damaged(resource: dict[str, Any], place: Place, how: str) -> dict[str, Any]:
    """A copy with one thing wrong."""
    made = copy.deepcopy(resource)
    node: Any = made
    for step in place[:-1]:
        node = node[step]
    if how == DELETED:
        del node[place[-1]]
    elif how == LISTED:
        node[place[-1]] = [node[place[-1]]]
    elif how == UNKNOWN:
        (node if isinstance(node, dict) else node[place[-1]] if isinstance(node[place[-1]], dict) else made)["frobnicate"] = 1
    else:
        node[place[-1]] = copy.deepcopy(WRONG[how])
    return made


def mutations(resource: dict[str, Any]) -> Iterator[tuple[Place, str, dict[str, Any]]]:
    """Every place damaged in every way; the type at the root stays, since it decides who is asked."""
    for place in places(resource):
        if place != ("resourceType",):
            for how in (*WRONG, DELETED, LISTED, UNKNOWN):
                yield place, how, damaged(resource, place, how)
