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


def _when(appointment: Resource) -> str:
    """As `2026-01-31 09:30 to 09:45`, by the server's own clock."""
    start, end = _at(appointment, ("start",)), _at(appointment, ("end",))
    until = end[11:16] if end[:10] == start[:10] else f"{end[:10]} {end[11:16]}"
    return f"{start[:10]} {start[11:16]}" + (f" to {until}" if end else "")


def _actors(kind: str) -> "Callable[[Resource], str]":
    """How the participants of a type are called."""

    def of(appointment: Resource) -> str:
        actors = [one["actor"] for one in _objects(appointment.get("participant")) if isinstance(one.get("actor"), dict)]
        named = [one for one in actors if f"/{_at(one, ('reference',))}".rpartition("/")[0].endswith(f"/{kind}")]
        return ", ".join(dict.fromkeys(_at(one, ("display",)) or _at(one, ("reference",)) for one in named))

    return of


def _instructions(appointment: Resource) -> str:
    texts = [one for one in _objects(appointment.get("extension")) if str(one.get("url")).endswith("-PatientInstructions")]
    return ", ".join(filter(None, (_at(one, ("valueString",)) for one in texts)))


def _objects(value: object) -> list[Resource]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


Cell = tuple[str | int, ...] | Callable[[Resource], str]
"""Where it stands, or what it is made of."""
COLUMNS: Final[Mapping[str, Mapping[str, Cell]]] = {
    "Appointment": {
        "when": _when,
        "status": ("status",),
        "what": lambda one: _at(one, ("description",)) or _at(one, ("appointmentType", "coding", 0, "display")),
        "with": _actors("Practitioner"),
        "where": _actors("Location"),
        "instructions": _instructions,
    },
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


def texts(kind: str, resource: Resource) -> dict[str, str]:
    """By column, as long as they are."""
    cells = COLUMNS.get(kind, OTHER).items()
    return {name: cell(resource) if callable(cell) else _at(resource, cell) for name, cell in cells}


def _cells(kind: str, resource: Resource) -> tuple[str, ...]:
    return tuple(printable(text, WIDEST) for text in texts(kind, resource).values())


def _at(tree: Any, steps: tuple[str | int, ...]) -> str:  # noqa: ANN401 - JSON's own types
    for step in steps:
        if isinstance(tree, dict) and isinstance(step, str):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int):
            tree = tree[step] if len(tree) > step else None
        else:
            return ""
    return "" if tree is None or isinstance(tree, dict | list) else str(tree)
