"""Costs a wrong element its place, not the message (DESIGN decision 7): what encloses an error and may be left out is left out, and told.

The smallest optional element goes, with exceptions where less would say something else, or nothing: a telecom without its value, an
identifier without its system go whole (CARRIES); so does what a modifier is wrong in, since without `old` or `refuted` the rest would
mean the opposite; a resource's id is never left out. Where it would be the resource itself, nothing is left out and the errors stand.
"""

import copy
from typing import Any, Final

from pipeline.fhir.metadata import Element, Type, type_named
from pipeline.fhir.validator import Place, Validator, path_of
from pipeline.model import Finding, Resource
from schemas.outcomes import FindingCode, Severity

CARRIES: Final = {
    "Coding": ("system", "code"),
    "ContactPoint": ("system", "value"),
    "Identifier": ("system", "value"),
    "Quantity": ("value", "unit", "system", "code"),
    "Reference": ("reference",),
}
"""The elements without which an object of the type says nothing, or too much: a bare number is not a measurement."""
ALWAYS_MODIFY: Final = frozenset({"modifierExtension", "implicitRules"})
ROUNDS: Final = 100
"""Each round leaves out something; a resource with more layers of errors than this is beyond mending."""


def degrade(resource: Resource, validator: Validator) -> tuple[Resource | None, tuple[Finding, ...]]:
    """The resource without what is wrong in it, and warnings: what was left out, and why. The input is not changed.

    Paths, also of later repetitions, are those of the resource as it was given.

    Returns:
        The same object and nothing where nothing is wrong; None and the errors where it cannot be mended by leaving out.
    """
    errors = validator.failures(resource)
    if not errors:
        return resource, ()
    mending = _Mending(resource, validator)
    told: list[Finding] = []
    for _ in range(ROUNDS):
        drops: set[Place] = set()
        for place, finding in errors:
            drop = mending.smallest(place)
            if not drop:
                return None, mending.as_given(errors)
            drops.add(drop)
            told.append(mending.warning(place, finding))
        outermost = {one for one in drops if not any(one[:depth] in drops for depth in range(1, len(one)))}
        left_out = [mending.leave_out(drop) for drop in sorted(outermost, key=_deepest_last, reverse=True)]
        told.extend(reversed(left_out))
        errors = validator.failures(mending.resource)
        if not errors:
            return mending.resource, tuple(dict.fromkeys(told))
    return None, mending.as_given(errors)


def _deepest_last(place: Place) -> tuple[tuple[str, int], ...]:
    """An order in which later repetitions and inner elements come last, and `_given` after `given`, which takes its items along."""
    return tuple(("", step) if isinstance(step, int) else (f"{step[1:]}~" if step[:1] == "_" else step, 0) for step in place)


class _Mending:
    """A copy of the resource, and where its repetitions stood."""

    def __init__(self, resource: Resource, validator: Validator) -> None:
        self.resource = copy.deepcopy(resource)
        self._release = validator.release
        self._root = validator.root_of(resource)
        self._stood: dict[int, list[int]] = {}
        """Of each list that lost something (by identity): the first place of what is left."""
        self._kept: list[list[Any]] = []
        """Those lists, so that no identity is given twice."""

    def smallest(self, place: Place) -> Place:
        """The place of the smallest element around the error that may be left out; empty where that is the resource."""
        chain = self._chain(place)
        for depth in range(len(chain) - 1, -1, -1):
            here, owner, element = chain[depth]
            if self._may_go(here, owner, element):
                return here
        return ()

    def _chain(self, place: Place) -> list[tuple[Place, Type, Element | None]]:
        """Each existing step towards the error: its place, the type that it is in, the element; None is one that FHIR has not."""
        chain: list[tuple[Place, Type, Element | None]] = []
        node: Any = self.resource
        owner = type_named(self._release, self._root)
        element: Element | None = None
        for at, step in enumerate(place):
            within = (
                step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int) and step < len(node)
            )
            if not within or owner is None:
                break
            node = node[step]
            if isinstance(step, str):
                element = owner.elements.get(step.removeprefix("_"))
            chain.append((place[: at + 1], owner, element))
            if element is None:
                break
            if isinstance(node, dict):
                name = node.get("resourceType", "") if element.type == "Resource" else element.type
                owner = type_named(self._release, "Element" if element.primitive else str(name))
        return chain

    def _may_go(self, place: Place, owner: Type, element: Element | None) -> bool:
        if element is None:
            return place[-1] != "resourceType"
        if str(place[-1]).startswith("_"):
            return element.name in self._at(place[:-1]) or not element.required
        if isinstance(place[-1], int) and str(place[-2]).startswith("_"):
            return self._at(place[:-2]).get(element.name) is not None
        modifies = element.name in ALWAYS_MODIFY or (element.modifier and element.type == "code")
        if isinstance(place[-1], int) and len(self._at(place[:-1])) > 1:
            return not modifies
        carries = element.name in CARRIES.get(owner.name, ())
        return not (element.required or carries or modifies or (owner.resource and element.name == "id"))

    def _at(self, place: Place) -> Any:  # noqa: ANN401 - JSON
        node: Any = self.resource
        for step in place:
            node = node[step]
        return node

    def leave_out(self, place: Place) -> Finding:
        """Take the element out, and what has become empty around it."""
        told = Finding(FindingCode.ELEMENT_DROPPED, fhir=self._path(place))
        while place:
            above = self._at(place[:-1])
            self._take(above, place)
            place = place[:-1]
            if above or not place:
                break
        return told

    def _take(self, above: Any, place: Place) -> None:  # noqa: ANN401 - JSON
        step = place[-1]
        if isinstance(step, str):
            del above[step]
            return
        if str(place[-2]).startswith("_"):
            above[step] = None  # the items of `_given` stay beside those of `given`
            if all(one is None for one in above):
                above.clear()
            return
        stood = self._stood.setdefault(id(above), list(range(len(above))))
        self._kept.append(above)
        del above[step], stood[step]
        beside = self._at(place[:-2]).get(f"_{place[-2]}")
        if isinstance(beside, list) and step < len(beside):
            del beside[step]
            if all(one is None for one in beside):
                del self._at(place[:-2])[f"_{place[-2]}"]

    def _path(self, place: Place) -> str:
        """The path in the resource as it was given."""
        node: Any = self.resource
        steps: list[str | int] = []
        for step in place:
            steps.append(self._stood.get(id(node), range(step + 1))[step] if isinstance(step, int) else step)
            within = (
                step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int) and step < len(node)
            )
            node = node[step] if within else None
        return path_of(self._root, tuple(steps))

    def warning(self, place: Place, finding: Finding) -> Finding:
        """What was wrong, as a warning: it costs its element only."""
        return Finding(finding.code, Severity.WARNING, fhir=self._path(place), about=finding.about)

    def as_given(self, errors: tuple[tuple[Place, Finding], ...]) -> tuple[Finding, ...]:
        """What is still wrong, as errors, with the places that it had at first."""
        return tuple(Finding(one.code, Severity.ERROR, fhir=self._path(place), about=one.about) for place, one in errors)
