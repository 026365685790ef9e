"""Roche Diabetes Care: STU3 message bundles (contracts/roche.md)."""
