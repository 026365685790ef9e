"""What the store is called, towards people and the shared way to databases. No I/O."""

from pathlib import Path
from typing import Final

from pipeline.database.engine import Named
from pipeline.errors import StoreError

STORE: Final = Named("store of appointments", "appointments", StoreError)
MIGRATIONS: Final = Path(__file__).with_name("migrations")
VERSIONS: Final = "appointments_version"
"""How far the migrations are. Not the ledger's: both may stand in one database."""
