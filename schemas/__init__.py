"""Contracts with the outside: the typed event, results, dead letters, partner profiles. Imports nothing of `pipeline`."""
