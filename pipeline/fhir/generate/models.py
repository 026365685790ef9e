"""fhir.resources' models as data: `python -m pipeline.fhir.generate.models` rewrites pipeline/fhir/stu3.json and r4b.json.

Importing one release's models takes over a second, reading the file two milliseconds; so the models are read here, once, and a test
fails when the files are stale. Nothing but type names, element names and their order, cardinalities, choices and reference targets is taken over.
"""

import importlib
import pkgutil
import typing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson

ROOM: Final = Path(__file__).parent.parent
PACKAGES: Final = {"stu3": "fhir.resources.STU3", "r4b": "fhir.resources.R4B"}
NOT_FHIR: Final = frozenset({"fhir_comments", "resource_type", "resourceType"})
"""Fields of the models that FHIR does not have (fhir_comments is DSTU2's)."""

OWN: Final = frozenset({"FHIRResourceModel", "MetadataResource"})
"""Types of fhir.resources that FHIR does not have: they have no order of their own."""


def harvest(release: str) -> dict[str, Any]:
    """All types of a release: {"source", "types": {name: {"base", "resource", "elements": {name: {…}}}}}."""
    package = importlib.import_module(PACKAGES[release])
    models: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name == "fhirtypes":
            continue
        for thing in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            if isinstance(thing, type) and "__resource_type__" in vars(thing) and thing.__module__.startswith(package.__name__):
                models[thing.__name__] = thing
    types = {name: _type(model, models) for name, model in sorted(models.items())}
    return {"source": f"fhir.resources {version('fhir.resources')}, {package.__name__}", "types": types}


def _type(model: Any, models: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - the models have no types that mypy may follow
    base = model.__mro__[1].__name__
    inherited = models[base].model_fields if base in models else {}
    entry: dict[str, Any] = {}
    if base in models:
        entry["base"] = base
    if model.has_resource_base():
        entry["resource"] = True
    if model.__name__ not in OWN:
        entry["order"] = list(
            dict.fromkeys(each for each in model.elements_sequence() if each not in NOT_FHIR)
        )  # it names some twice
    entry["elements"] = {
        field.alias or name: _element(field)
        for name, field in model.model_fields.items()
        if name not in NOT_FHIR
        and not name.endswith("__ext")
        and (name not in inherited or _element(inherited[name]) != _element(field))
    }
    return entry


def _element(field: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    extra = field.json_schema_extra or {}
    kind, many = _kind(field.annotation)
    element: dict[str, Any] = {"type": kind}
    if many:
        element["many"] = True
    if field.is_required() or extra.get("element_required"):
        element["required"] = True
    if "one_of_many" in extra:
        element["choice"] = extra["one_of_many"]
        if extra.get("one_of_many_required"):
            element["choice_required"] = True
    if extra.get("enum_reference_types"):
        element["targets"] = extra["enum_reference_types"]
    return element


def _kind(annotation: Any) -> tuple[str, bool]:  # noqa: ANN401 - as above
    """FHIR type name and whether it repeats, of `X | None`, `List[X | None] | None`, `Annotated[str, Code()]`."""
    many = False
    while typing.get_origin(annotation) is not typing.Annotated:
        arguments = [one for one in typing.get_args(annotation) if one is not type(None)]
        if not arguments:
            break
        many = many or typing.get_origin(annotation) is list
        annotation = arguments[0]
    for mark in getattr(annotation, "__metadata__", ()):
        name = getattr(mark, "__visit_name__", None) or getattr(type(mark), "__visit_name__", None)
        if name:
            return name, many
    plain = {bool: "boolean", UUID: "uuid"}.get(
        typing.get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    )
    if plain:
        return plain, many
    if hasattr(annotation, "_model_klass"):
        return annotation._model_klass.rsplit(".", 1)[-1], many  # noqa: SLF001 - the only place where it stands
    raise TypeError(f"fhir.resources changed: {annotation!r} is no type that is known here")


def rendered(release: str) -> bytes:
    """The file, a line for each type, so that a change is a small diff."""
    data = harvest(release)
    lines = [
        orjson.dumps(name) + b": " + orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) for name, entry in data["types"].items()
    ]
    return b'{"source": ' + orjson.dumps(data["source"]) + b', "types": {\n' + b",\n".join(lines) + b"\n}}\n"


if __name__ == "__main__":
    for each in PACKAGES:
        (ROOM / f"{each}.json").write_bytes(rendered(each))
