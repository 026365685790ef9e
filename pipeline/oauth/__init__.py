"""Access tokens: OAuth 2 and SMART on FHIR. README.md says what is where; `cache.py` is what a transport asks."""
