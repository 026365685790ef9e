"""What was fetched as tables: what a person looks for, one table for each type. No I/O but the printing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pipeline.commands.find import printable
from pipeline.model import Resource


def show(found: Iterator[Resource], otherwise: str) -> int:
    """One table for each type, each column as wide as its widest cell; `otherwise`: what is no FHIR resource is called."""
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for resource in found:
        kind = str(resource.get("resourceType") or otherwise)
        kinds.setdefault(kind, [HEADERS.get(kind, ("id",))]).append(_cells(kind, resource))
    for kind, rows in kinds.items():
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        print(kind)
        for row in rows:
            print(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    return sum(len(rows) - 1 for rows in kinds.values())


def _scores(response: Resource) -> str:
    """As `totaal 135 HH, psychisch 74 HH`: key, value and flag of each."""
    outcome = response.get("outcome")
    scores = outcome.get("scores") if isinstance(outcome, dict) else None
    each = [(key, one) for key, one in scores.items() if isinstance(one, dict)] if isinstance(scores, dict) else []
    return ", ".join(" ".join(filter(None, (key, _at(one, ("value",)), _at(one, ("oru_flag",))))) for key, one in each)


Cell = tuple[str | int, ...] | Callable[[Resource], str]
"""Where it stands, or what it is made of."""
COLUMNS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "Patient": {
        "id": ("id",),
        "family": ("name", 0, "family"),
        "given": ("name", 0, "given", 0),
        "gender": ("gender",),
        "born": ("birthDate",),
        "identifier": ("identifier", 0, "value"),
    },
    "Encounter": {
        "id": ("id",),
        "status": ("status",),
        "class": ("class", "code"),
        "start": ("period", "start"),
        "end": ("period", "end"),
        "subject": ("subject", "reference"),
    },
    "Coverage": {
        "id": ("id",),
        "status": ("status",),
        "beneficiary": ("beneficiary", "reference"),
        "payor": ("payor", 0, "reference"),
    },
    "Observation": {
        "id": ("id",),
        "status": ("status",),
        "code": ("code", "coding", 0, "code"),
        "text": ("code", "text"),
        "time": ("effectiveDateTime",),
        "value": lambda one: _at(one, ("valueQuantity", "value")) or _at(one, ("valueString",)) or _at(one, ("valueBoolean",)),
        "flag": ("interpretation", "coding", 0, "code"),
    },
    "responses": {
        "id": ("id",),
        "questionnaire": ("questionnaire_key",),
        "completed_at": ("completed_at",),
        "status": ("status",),
        "scores": _scores,
    },
}
"""What a table shows of a type; of the others the id."""
HEADERS: Final = {kind: tuple(columns) for kind, columns in COLUMNS.items()}
OTHER: Final[Mapping[str, Cell]] = {"id": ("id",)}
WIDEST: Final = 80


def _cells(kind: str, resource: Resource) -> tuple[str, ...]:
    cells = COLUMNS.get(kind, OTHER).values()
    return tuple(printable(cell(resource) if callable(cell) else _at(resource, cell), WIDEST) for cell in cells)


def _at(tree: Any, steps: tuple[str | int, ...]) -> str:  # noqa: ANN401 - JSON's own types
    for step in steps:
        if isinstance(tree, dict) and isinstance(step, str):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int):
            tree = tree[step] if len(tree) > step else None
        else:
            return ""
    return "" if tree is None or isinstance(tree, dict | list) else str(tree)
