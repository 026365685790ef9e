"""Writes the data files of this room: metadata from fhir.resources' models, required bindings from HL7's definitions. Never runs in production."""
