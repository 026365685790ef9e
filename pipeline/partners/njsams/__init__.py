"""NJSAMS: R4 transaction bundles, SMART on FHIR (contracts/njsams.md)."""
