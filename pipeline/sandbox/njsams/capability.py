"""NJSAMS's CapabilityStatement, as the stand-in serves it at /metadata: read, search, and transactions to Bundle (contracts/njsams.md section 1)."""

from collections.abc import Mapping
from typing import Any, Final

from pipeline.sandbox.njsams.records import IG
from pipeline.sandbox.njsams.search import PARAMETERS

SMART: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_TYPES: Final = {"family": "string", "identifier": "token", "date": "date"}


def statement(base: str, urls: Mapping[str, str], kind: str) -> dict[str, Any]:
    """`kind` as the knob capability."""
    resources = [_resource(name, kind) for name in PARAMETERS]
    if kind != "no_writes":
        resources.append({"type": "Bundle", "interaction": [{"code": "create"}, {"code": "update"}]})
    uris = [{"url": name, "valueUri": urls[name]} for name in ("authorize", "token")]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2025-06-23",
        "kind": "instance",
        "software": {"name": "NJSAMS stand-in", "version": "1.0.0"},
        "implementation": {"description": "A stand-in on loopback", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/json+fhir", "application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"extension": [{"url": SMART, "extension": uris}]},
                "resource": resources,
                **({} if kind == "no_writes" else {"interaction": [{"code": "transaction"}]}),
            }
        ],
    }


def _resource(name: str, kind: str) -> dict[str, Any]:
    parameters = [{"name": one, "type": _TYPES.get(one, "reference")} for one in PARAMETERS[name]]
    searching = {"searchParam": parameters, **({"searchInclude": ["Encounter:subject"]} if name == "Encounter" else {})}
    return {
        "type": name,
        "supportedProfile": [f"{IG}/StructureDefinition/NJSAMS{name}"],
        "interaction": [{"code": "read"}, *([] if kind == "no_search" else [{"code": "search-type"}])],
        **({} if kind == "no_search" else searching),
    }
