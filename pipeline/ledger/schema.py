"""The schema: brought up to date by alembic at start, safe when several processes start at once. Never backwards."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pipeline.errors import Refused

MIGRATIONS: Final = Path(__file__).with_name("migrations")
ADVISORY_LOCK: Final = (
    0x454D5250  # "EMRP": what concurrent starts queue at on PostgreSQL; on SQLite it is the write transaction itself
)


def bring_up_to_date(
    reading: Callable[[], AbstractContextManager[Connection]], writing: Callable[[], AbstractContextManager[Connection]]
) -> None:
    """Migrate where needed, all in one transaction. Refused where the ledger is newer than this program."""
    script = ScriptDirectory(str(MIGRATIONS))
    with reading() as connection:
        if _up_to_date(connection, script):
            return
    with writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        if _up_to_date(connection, script):
            return
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it names its steps at INFO; our log has a closed list of events
        upgrade(config, "head")


def _up_to_date(connection: Connection, script: ScriptDirectory) -> bool:
    at = MigrationContext.configure(connection).get_current_heads()
    known = {revision.revision for revision in script.walk_revisions()}
    if not known.issuperset(at):
        raise Refused(
            f"the ledger has schema {', '.join(at)}, which is newer than this program: start the newer version",
            where="ledger.url",
        )
    return set(at) == set(script.get_heads())
