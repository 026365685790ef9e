"""The schema: brought up to date by alembic at start, safe when several processes start at once. Never backwards."""

import logging
from pathlib import Path
from typing import Final

from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pipeline.database.engine import Database, Named
from pipeline.errors import Refused

ADVISORY_LOCK: Final = (
    0x454D5250  # "EMRP": what concurrent starts queue at on PostgreSQL; on SQLite it is the write transaction itself
)


def bring_up_to_date(database: Database, folder: Path, table: str = "alembic_version") -> None:
    """Migrate where needed, all in one transaction. Refused where the database is newer than this program.

    `folder` is alembic's; `table` says how far it is: two of our databases may be one of a server's.
    """
    script = ScriptDirectory(str(folder))
    with database.read() as connection:
        if _up_to_date(connection, script, table, database.named):
            return
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        if _up_to_date(connection, script, table, database.named):
            return
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it names its steps at INFO; our log has a closed list of events
        upgrade(config, "head")


def _up_to_date(connection: Connection, script: ScriptDirectory, table: str, named: Named) -> bool:
    at = MigrationContext.configure(connection, opts={"version_table": table}).get_current_heads()
    known = {revision.revision for revision in script.walk_revisions()}
    if not known.issuperset(at):
        raise Refused(
            f"the {named.noun} has schema {', '.join(at)}, which is newer than this program: start the newer version",
            where=f"{named.setting}.url",
        )
    return set(at) == set(script.get_heads())
