"""Which fields of the event a template can read, told from its expressions: the event is built of these and no others.

By name alone, without following any value: a template reaches a field by naming it (`x.birth`, `x["birth"]`) or through a filter that
says what it reads, and the sandbox knows no other way. So a name counts wherever it stands, whatever it stands on. Where a template
could look into a part without naming its fields (`a[b]`, two diagnoses compared as wholes), the answer is None: all of the event.
"""

import typing
from collections.abc import Iterator
from typing import Any, Final

from jinja2 import nodes
from pydantic import BaseModel

from pipeline.templates.fields import ENDS
from pipeline.templates.filters import READS
from schemas.event import (
    Appointment,
    Coverage,
    Diagnosis,
    Event,
    Merge,
    Note,
    Observation,
    Patient,
    PatientGroup,
    Personnel,
    Place,
    Report,
    Resource,
    Service,
    Visit,
)

OWNERS: Final = (
    *(Event, Patient, PatientGroup, Visit, Diagnosis, Coverage, Merge, Report, Observation),
    *(Appointment, Service, Resource, Personnel, Place, Note),
)
"""The message and its segments: the parts of which single fields are built or left out. Data types are built whole."""
FIELDS: Final = frozenset(name for model in OWNERS for name in model.model_fields)


def _parts(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - a type
    yield annotation
    for inner in typing.get_args(annotation):
        yield from _parts(inner)


LEADS_ON: Final = frozenset(
    {
        name
        for model in OWNERS
        for name, field in model.model_fields.items()
        if any(isinstance(part, type) and issubclass(part, BaseModel) and part in OWNERS for part in _parts(field.annotation))
    }
    | {*ENDS, "previtem", "nextitem"}
)
"""Names behind which a message or a segment may stand; behind any other stands a data type or a text."""
SAME_KIND: Final = frozenset({"first", "prefer"})
"""Filters that hand on what they take; the others make texts and codings."""
COMPARING: Final = frozenset({"==", "eq", "!=", "ne", "in"})


def fields_read(tree: nodes.Template) -> frozenset[str] | None:
    """Names of the event's own fields and those of its segments that a template can read; None: it may be any."""
    names: set[str] = set()
    for node in tree.find_all((nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Compare, nodes.Test)):
        match node:
            case nodes.Name(name=name) | nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=str(name))):
                names.add(name)
            case nodes.Getitem(arg=nodes.Const(value=int()) | nodes.Neg(node=nodes.Const(value=int()))):
                continue
            case nodes.Filter(name=name):
                names |= READS.get(name, frozenset())
            case nodes.Compare(expr=first, ops=others) if all(
                _told_by_names(one, other.expr, inside="in" in other.op)
                for one, other in zip([first, *(each.expr for each in others)], others, strict=False)
            ):
                continue
            case nodes.Test(name=name) if name not in COMPARING:
                continue
            case nodes.Test(node=one, args=[other]) as test if _told_by_names(one, other, inside=test.name == "in"):
                continue
            case _:
                return None
    return frozenset(names & FIELDS)


def _told_by_names(one: nodes.Node, other: nodes.Node, *, inside: bool) -> bool:
    """Whether comparing two values cannot look into a segment: one of them is a text or a data type.

    `inside` (`one in other`): a segment is a list of pairs to Python, so that one must be no pair, or the other is written out.
    """
    if inside:
        return _small(other) or (_small(one) and not isinstance(one, nodes.List | nodes.Tuple))
    return _small(one) or _small(other)


def _small(node: nodes.Node) -> bool:
    """It is no segment and holds none: a text of the template, a list of such, a field of a data type, what a filter made."""
    match node:
        case nodes.Const():
            return True
        case nodes.List(items=items) | nodes.Tuple(items=items):
            return all(_small(item) for item in items)
        case nodes.Getattr(attr=name):
            return name not in LEADS_ON
        case nodes.Filter(name=name):
            return name not in SAME_KIND
        case _:
            return False
