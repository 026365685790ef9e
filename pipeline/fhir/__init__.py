"""FHIR STU3 and R4 checks, compiled from fhir.resources' metadata: elements, types, bindings, choices, references."""
