"""Open the ledger of the settings. The one place that reads its secrets."""

from pipeline.ledger.sql import SqlLedger
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import Settings


def open_ledger(settings: Settings) -> SqlLedger:
    """The ledger; nothing is connected or made before its first call (`check`). SettingsError where a secret or the address is wrong."""
    password = settings.ledger.password.read("ledger.password") if settings.ledger.password else None
    pseudonyms = Pseudonyms(settings.keys.patient_hash.read("keys.patient_hash"))
    return SqlLedger(settings.ledger.url, pseudonyms, password)
