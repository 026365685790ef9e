"""The bundles of the project's golden pairs: every body of every mappings/*/golden/*.json that is a resource of one FHIR release."""

import json
from pathlib import Path
from typing import Any, Final

from pipeline.fhir.validator import Release
from pipeline.templates.catalogue import Catalogue

MAPPINGS: Final = Path(__file__).parents[2] / "mappings"


def golden(release: Release = Release.STU3) -> dict[str, dict[str, Any]]:
    """Resources by file and place in it."""
    mappings = Catalogue(MAPPINGS, "demo")
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(MAPPINGS.glob("*/golden/*.json")):
        if mappings.release(path.parent.parent.name) is not release:
            continue
        _collect(json.loads(path.read_text(encoding="utf-8")), str(path.relative_to(MAPPINGS)), found)
    return found


def _collect(node: Any, name: str, found: dict[str, dict[str, Any]]) -> None:  # noqa: ANN401 - JSON
    if isinstance(node, dict) and "resourceType" in node:
        found[name] = identified(node)
    elif isinstance(node, dict):
        for key, value in node.items():
            _collect(value, f"{name}#{key}", found)
    elif isinstance(node, list):
        for at, value in enumerate(node):
            _collect(value, f"{name}[{at}]", found)


def identified(resource: dict[str, Any]) -> dict[str, Any]:
    """A document with the identifier that FHIR demands (bdl-9): RoQua's published shape has none, and goes so (contracts/roqua.md 4.4)."""
    if resource.get("type") != "document" or "identifier" in resource:
        return resource
    return resource | {"identifier": {"system": "urn:emr-pipeline:document", "value": resource["id"]}}
