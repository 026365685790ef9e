"""emr-pipeline: HL7 v2 events in, exactly the FHIR that a partner accepts out. Read `flow.py` first."""

__version__ = "0.1.0"
