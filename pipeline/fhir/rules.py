"""The rules of a type that stand behind its typed dict: what pydantic-core cannot say of one dict. They run on every object, so they are lean.

A rule sees an object whose elements have passed their own checks and returns problems, mostly none; all of them are raised at once.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from pipeline.fhir.invariants import Node, invariants
from pipeline.fhir.metadata import Element, Release, Type, resource_types, value_set_codes
from schemas.outcomes import FindingCode

Problem = tuple[FindingCode, tuple[str | int, ...], str | None]
"""What, where below the object, and the rule's name."""
Rule = Callable[[Node], Iterable[Problem]]
NONE: Final[tuple[Problem, ...]] = ()


def fail(problems: Iterable[Problem]) -> NoReturn:
    """Raise pydantic's error of problems: it carries places and codes, and no value."""
    raise ValidationError.from_exception_data(
        "FHIR",
        [
            InitErrorDetails(type=PydanticCustomError(code.value, "{about}", {"about": about or ""}), loc=place, input=None)
            for code, place, about in problems
        ],
    )


def after(release: Release, known: Type, targets: tuple[str, ...] = ()) -> Callable[[Node], Node]:
    """The rules of a type as one function behind its typed dict. What it raises has places relative to the object.

    `targets` are the resource types that a Reference may point at; none: any.
    """
    rules = rules_of(release, known) + ((_elsewhere(release, targets),) if targets else ())
    element = not known.resource
    beside = known.name == "Element"
    """What stands in `_birthDate`: the value beside it counts as content, so an id alone is right there."""

    def check(node: Node) -> Node:
        if len(node) < 2 and element and (not node or ("id" in node and not beside)):  # noqa: PLR2004 - nothing, or an id alone
            fail([(FindingCode.INVARIANT, (), "ele-1")])
        for rule in rules:
            if rule(node):
                fail([problem for each in rules for problem in each(node)])
        return node

    def check_content(node: Node) -> Node:
        if len(node) < 2 and (not node or ("id" in node and not beside)):  # noqa: PLR2004 - as above
            fail([(FindingCode.INVARIANT, (), "ele-1")])
        return node

    return check if rules or not element else check_content


def rules_of(release: Release, known: Type) -> tuple[Rule, ...]:
    """What the typed dict of a type cannot say."""
    elements = known.elements.values()
    rules: list[Rule] = []
    if needed := {one.name: f"_{one.name}" for one in elements if one.required and one.extensible}:
        rules.append(_required(needed))
    if lists := {one.name: f"_{one.name}" for one in elements if one.many and one.extensible}:
        rules.append(_aligned(lists))
    groups: dict[str, list[Element]] = {}
    for one in elements:
        if one.choice:
            groups.setdefault(one.choice, []).append(one)
    rules.extend(_choice(name, members) for name, members in groups.items())
    if known.name == "Extension":
        rules.append(_extension)
    bound = [one for one in elements if one.value_set and one.type in {"Coding", "CodeableConcept"}]
    rules.extend(_coded(release, one.value_set or "", one) for one in bound)
    if rule := _invariants(release, known):
        rules.append(rule)
    return tuple(rules)


def _required(names: Mapping[str, str]) -> Rule:
    """A required primitive, or an extension that says why there is none."""

    def rule(node: Node) -> Iterable[Problem]:
        for name, beside in names.items():
            if name not in node and beside not in node:
                return [
                    (FindingCode.MISSING_ELEMENT, (one,), None) for one, other in names.items() if not {one, other} & node.keys()
                ]
        return NONE

    return rule


def _aligned(names: Mapping[str, str]) -> Rule:
    """json.html: in a repeating primitive a null stands where its `_` array has something, and the other way round."""

    def rule(node: Node) -> Iterable[Problem]:
        for name, beside in names.items():
            values = node.get(name)
            if beside in node or (values is not None and None in values):
                return [problem for one, other in names.items() for problem in _unaligned(one, node.get(one), node.get(other))]
        return NONE

    return rule


def _unaligned(name: str, values: list[Any] | None, beside: list[Any] | None) -> Iterable[Problem]:
    if values is not None and beside is not None and len(values) != len(beside):
        yield FindingCode.CARDINALITY, (f"_{name}",), "one item for each value"
        return
    for at in range(len(values or beside or ())):
        if (values is None or values[at] is None) and (beside is None or beside[at] is None):
            yield FindingCode.WRONG_TYPE, (name if values is not None else f"_{name}", at), "null"


def _choice(group: str, members: list[Element]) -> Rule:
    names = frozenset(one.name for one in members) | frozenset(f"_{one.name}" for one in members if one.extensible)
    demanded = any(one.choice_required for one in members)

    def rule(node: Node) -> Iterable[Problem]:
        if not demanded and names.isdisjoint(node):  # most often, and quicker than to make a set
            return NONE
        present = names & node.keys()
        if demanded and not present:
            return [(FindingCode.MISSING_ELEMENT, (f"{group}[x]",), None)]
        if len(present) < 2:  # noqa: PLR2004 - one type is right
            return NONE
        types = sorted({one.lstrip("_") for one in present})
        return [(FindingCode.CHOICE, (one,), f"{group}[x]") for one in types] if len(types) > 1 else NONE

    return rule


def _extension(node: Node) -> Iterable[Problem]:
    """ext-1: an extension has extensions or a value, not both."""
    valued = any(name.lstrip("_").startswith("value") for name in node)
    return [(FindingCode.INVARIANT, (), "ext-1")] if valued is ("extension" in node) else NONE


def _coded(release: Release, value_set: str, element: Element) -> Rule:
    """A required binding of a Coding or CodeableConcept: the Coding, or one at least of the concept's, has a code of the set."""
    known = frozenset((system, code) for system, codes in value_set_codes(release, value_set).items() for code in codes)
    name, concept = element.name, element.type == "CodeableConcept"

    def outside(value: Node) -> bool:
        codings = value.get("coding", ()) if concept else (value,)
        return not any((one.get("system"), one.get("code")) in known for one in codings)

    def rule(node: Node) -> Iterable[Problem]:
        value = node.get(name)
        if value is None:
            return NONE
        if isinstance(value, list):
            return [(FindingCode.NOT_IN_BINDING, (name, at), value_set) for at, one in enumerate(value) if outside(one)]
        return [(FindingCode.NOT_IN_BINDING, (name,), value_set)] if outside(value) else NONE

    return rule


RESTFUL: Final = re.compile(r"https?://\S+/([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}(?:/_history/[A-Za-z0-9.\-]{1,64})?")


def _elsewhere(release: Release, targets: tuple[str, ...]) -> Rule:
    """The target type of a RESTful URL on another server; a relative reference's is in the pattern."""
    wrong = resource_types(release) - set(targets)

    def rule(node: Node) -> Iterable[Problem]:
        reference = node.get("reference")
        if reference is None or not reference.startswith("http"):
            return NONE
        found = RESTFUL.fullmatch(reference)
        return [(FindingCode.REFERENCE_TYPE, ("reference",), None)] if found and found[1] in wrong else NONE

    return rule


def _invariants(release: Release, known: Type) -> Rule | None:
    rows = invariants(release, known.name, domain_resource="contained" in known.elements)
    always = tuple(one for one in rows if not one.when)
    gated = tuple(
        (when, tuple(one for one in rows if one.when == when)) for when in dict.fromkeys(one.when for one in rows if one.when)
    )

    gates = frozenset(when for when, _ in gated)

    def rule(node: Node) -> Iterable[Problem]:
        asked = always
        if not gates.isdisjoint(node):
            for when, more in gated:
                if when in node:
                    asked += more
        for one in asked:
            if one.broken(node):
                return [(FindingCode.INVARIANT, (each.at,) if each.at else (), each.key) for each in asked if each.broken(node)]
        return NONE

    return rule if rows else None
