"""The CapabilityStatement: exactly what this XIS offers, as Nictiz's own for eAfspraak (contracts/medmij.md section 2). Pure."""

from typing import Any, Final

from pipeline import __version__

CORE: Final = "http://fhir.nl/fhir/StructureDefinition"
PROFILES: Final = {
    "Appointment": "http://nictiz.nl/fhir/StructureDefinition/eAfspraak-Appointment",
    "Patient": f"{CORE}/nl-core-patient",
    "Practitioner": f"{CORE}/nl-core-practitioner",
    "PractitionerRole": f"{CORE}/nl-core-practitionerrole",
    "Location": f"{CORE}/nl-core-location",
    "Organization": f"{CORE}/nl-core-organization",
}
"""What may be read, in the patient's context."""
SEARCHED: Final = (
    ("date", "Appointment-date", "date"),
    ("patient", "Appointment-patient", "reference"),
    ("status", "Appointment-status", "token"),
    ("_id", "Resource-id", "token"),
)
ORDER: Final = "Searches are sorted by start: the first one first, with _sort=-date the last one first."
DATE: Final = "2026-11-22"
"""When this statement was last changed."""


def statement(base: str) -> dict[str, Any]:
    """What `GET [base]/metadata` answers."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": {"name": "emr-pipeline", "version": __version__},
        "implementation": {"description": "Appointments of a patient (MedMij eAfspraak, XIS)", "url": base},
        "fhirVersion": "3.0.2",
        "acceptUnknown": "both",
        "format": ["application/fhir+json", "application/fhir+xml"],
        "rest": [{"mode": "server", "security": _security(), "resource": [_resource(kind) for kind in PROFILES]}],
    }


def _security() -> dict[str, Any]:
    system = "http://hl7.org/fhir/restful-security-service"
    return {
        "service": [{"coding": [{"system": system, "code": "OAuth", "display": "OAuth"}]}],
        "description": "A Bearer token stands for one patient: only what is his is found and read.",
    }


def _resource(kind: str) -> dict[str, Any]:
    said: dict[str, Any] = {"type": kind, "profile": {"reference": PROFILES[kind]}, "interaction": [{"code": "read"}]}
    if kind != "Appointment":
        return said
    searched = [
        {"name": name, "definition": f"http://hl7.org/fhir/SearchParameter/{definition}", "type": kind}
        for name, definition, kind in SEARCHED
    ]
    interactions = [{"code": "read"}, {"code": "search-type"}]
    return said | {"documentation": ORDER, "interaction": interactions, "searchParam": searched}
