"""Roche's stand-in."""
