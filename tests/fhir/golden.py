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
        found[name] = node
    elif isinstance(node, dict):
        for key, value in node.items():
            _collect(value, f"{name}#{key}", found)
    elif isinstance(node, list):
        for at, value in enumerate(node):
            _collect(value, f"{name}[{at}]", found)
