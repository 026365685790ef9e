"""Alembic's folder: env.py is run by database/schema.py, versions/ holds one file per change of the schema."""
