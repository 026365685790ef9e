"""Open the ledger of the settings. The one place that reads its secrets."""

from pipeline.database import engine
from pipeline.ledger.named import LEDGER
from pipeline.ledger.sql import SqlLedger
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import Settings


def open_ledger(settings: Settings) -> SqlLedger:
    """The ledger; nothing is connected or made before its first call (`check`). SettingsError where a secret or the address is wrong."""
    password = settings.ledger.password.read("ledger.password") if settings.ledger.password else None
    pseudonyms = Pseudonyms(settings.keys.patient_hash.read("keys.patient_hash"))
    return SqlLedger(settings.ledger.url, pseudonyms, password)


def not_there_yet(settings: Settings) -> str | None:
    """The place of a SQLite ledger whose file is not there, for people; None where it is there, or is a server's. Reads no secret."""
    url = engine.parse(LEDGER, settings.ledger.url, None)
    file = engine.sqlite_file(url)
    return engine.place(LEDGER, url) if file is not None and not file.exists() else None
