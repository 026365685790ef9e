"""Partner stand-ins. They import nothing of partners, stages, fhir or schemas, so that they cannot agree with us by construction."""
