"""A mappings folder made for one test, and the smallest context for it."""

from pathlib import Path
from typing import Any

from pipeline.model import Hl7, Identity, Intent, Resource, Subject
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.context import Context, Rendered
from schemas.event import Event, Null, Patient

MAPPINGS = Path(__file__).parents[2] / "mappings"
EVENTS = (MAPPINGS / "events.yaml").read_text(encoding="utf-8").replace("roche:", "p:")


class NoHl7:
    """A message in which nothing can be found by path."""

    def __call__(self, path: str) -> str | Null | None:
        return {"ZPI-3.1": "from a Z segment"}.get(path)

    def count(self, path: str) -> int:
        return int(path == "ZPI")


def catalogue(folder: Path, template: str, overlay: str | None = None, **files: str) -> Catalogue:
    """A catalogue of the partner `p` with one template and other files by their path (`__` stands for /, `_` before the suffix for .)."""
    texts = {
        "p/mapping.yaml": "partner: p\nfhir: STU3\ntemplates: [t.json.j2]\nvariables: {id: an id, flag: a flag, none: nothing}\n",
        "p/t.json.j2": template,
        "events.yaml": EVENTS,
        **files,
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Catalogue(folder, overlay)


def context(
    event: Event | None = None,
    *,
    identities: tuple[Identity, ...] = (),
    hl7: Hl7 | None = None,
    **partner: Any,  # noqa: ANN401 - variables of a partner
) -> Context:
    """What the template sees."""
    variables = {"id": "1", "flag": False, "none": None, **partner}
    return Context(
        event or Event(type="ADT", trigger="A04", patient=Patient()), hl7 or NoHl7(), Intent.CREATE, identities, variables, "test"
    )


def identity(value: str, place: str = "PID-3.1") -> Identity:
    return Identity(Subject.PATIENT, "urn:oid:1.2.3", value, place)


def render(folder: Path, template: str, event: Event | None = None, **partner: Any) -> Rendered:  # noqa: ANN401 - variables of a partner
    """The template's resources, for one event."""
    return catalogue(folder, template).render("p", context(event, **partner))


def one(folder: Path, template: str, event: Event | None = None, **partner: Any) -> Resource:  # noqa: ANN401 - variables of a partner
    """The only resource."""
    (resource,) = render(folder, template, event, **partner).resources
    return resource
