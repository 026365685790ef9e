"""Mappings as data: Jinja templates that are JSON, code tables, the events table, site overlays; lint and golden pairs."""
