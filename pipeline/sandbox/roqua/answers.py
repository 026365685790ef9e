"""How RoQua's stand-in answers: the recorded headers, errors in the shapes that were seen (contracts/roqua.md section 5). No rule of what is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.wire import Answer, as_json, outcome

JSON: Final = "application/json; charset=utf-8"
HEADERS: Final = (
    ("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate"),
    ("Pragma", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
)
"""As recorded (section 5)."""
EMPTY_LOCATION: Final = (("Location", ""),)
OF_FHIR: Final = frozenset({"document", "search"})
"""Operations of /medmij_fhir."""
WITHOUT_BODY: Final = frozenset({403, 404, 413, 415})
"""For which /api documents none."""

Errors = dict[str, str]
"""Field and keyword."""


def answer(status: int, tree: Any, headers: Sequence[tuple[str, str]] = ()) -> Answer:  # noqa: ANN401 - JSON
    """A success of /api."""
    return replace(as_json(status, tree, headers=(*HEADERS, *headers)), content_type=JSON)


def refused(errors: Errors, knobs: RoquaKnobs, status: int | None = None) -> Answer:
    """422 in one of the shapes that were seen."""
    status, shape = status or knobs.invalid_status, knobs.errors
    if shape == "html":
        page = b"<!DOCTYPE html><html><head><title>The change you wanted was rejected</title></head></html>"
        return Answer(status, page, "text/html; charset=utf-8", HEADERS)
    if shape == "empty":
        return Answer(status, headers=HEADERS)
    arrays: Mapping[str, Any] = {name: [code] for name, code in errors.items()}
    by_shape: Mapping[str, Any] = {"arrays": arrays, "strings": errors, "nested": {"response": arrays}}
    return answer(status, {"errors": by_shape[shape]})


def failure(operation: str, status: int, issues: Sequence[Issue], knobs: RoquaKnobs) -> Answer:
    """Any other error: of /medmij_fhir by its knob; of /api without a body, or as 422."""
    fhir = operation in OF_FHIR
    if fhir and knobs.document_errors == "outcome":
        return replace(outcome(status, *issues, headers=HEADERS), content_type=knobs.answer_media)
    if (fhir and knobs.document_errors == "empty") or status in WITHOUT_BODY:
        return Answer(status, headers=HEADERS)
    return refused({"base": issues[0].code}, knobs, status)
