"""Alembic's folder: env.py is run by schema.py, versions/ holds one file per change of the schema."""
