"""The schema: brought up to date by alembic at start, safe when several processes start at once. Never backwards.

Alembic takes 0.2 s and 11 MB, so it is asked only where there is something to do: a version's number is the name of its file.
"""

import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from pipeline.database.engine import Database, Named
from pipeline.errors import Refused

ADVISORY_LOCK: Final = (
    0x454D5250  # "EMRP": what concurrent starts queue at on PostgreSQL; on SQLite it is the write transaction itself
)


def bring_up_to_date(database: Database, folder: Path, table: str = "alembic_version") -> None:
    """Migrate where needed, all in one transaction. Refused where the database is newer than this program.

    `folder` is alembic's; `table` says how far it is: two of our databases may be one of a server's.
    """
    known = versions(folder)
    with database.read() as connection:
        if _up_to_date(connection, known, table, database.named):
            return
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        if not _up_to_date(connection, known, table, database.named):
            _migrate(connection, folder)


def refuse_newer(database: Database, folder: Path, table: str = "alembic_version") -> None:
    """Refused where the database is newer than this program. For who only reads, and migrates nothing: an older one is as good as it reads."""
    with database.read() as connection:
        _up_to_date(connection, versions(folder), table, database.named)


def versions(folder: Path) -> list[str]:
    """The numbers of all versions, oldest first: versions/v0001_….py is 0001."""
    return sorted(file.name[1:].split("_", 1)[0] for file in folder.glob("versions/v*.py"))


def _migrate(connection: Connection, folder: Path) -> None:
    from alembic.command import upgrade  # noqa: PLC0415 - see the module
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it names its steps at INFO; our log has a closed list of events
    upgrade(config, "head")


def _up_to_date(connection: Connection, known: list[str], table: str, named: Named) -> bool:
    there = inspect(connection).has_table(table)
    at = set(connection.execute(text(f"SELECT version_num FROM {table}")).scalars()) if there else set()  # noqa: S608 - a name of ours
    if not at.issubset(known):
        raise Refused(
            f"the {named.noun} has schema {', '.join(sorted(at))}, which is newer than this program: start the newer version",
            where=f"{named.setting}.url",
        )
    return at == {known[-1]}
