"""What the ledger is called, towards people and the shared way to databases. No I/O."""

from pathlib import Path
from typing import Final

from pipeline.database.engine import Named
from pipeline.errors import LedgerError

LEDGER: Final = Named("ledger", "ledger", LedgerError)
MIGRATIONS: Final = Path(__file__).with_name("migrations")
