"""How far a database is, told without alembic: by the numbers of our versions, which are alembic's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.command import upgrade
from alembic.config import Config
from alembic.script import ScriptDirectory

from pipeline.appointments.named import MIGRATIONS as OF_APPOINTMENTS
from pipeline.database.engine import Database
from pipeline.database.schema import bring_up_to_date, versions
from pipeline.errors import Refused
from pipeline.ledger.named import LEDGER
from pipeline.ledger.named import MIGRATIONS as OF_THE_LEDGER


@pytest.mark.parametrize("folder", [OF_THE_LEDGER, OF_APPOINTMENTS], ids=["ledger", "appointments"])
def test_the_names_of_the_versions_are_alembics_in_its_order(folder: Path) -> None:
    script = ScriptDirectory(str(folder))
    assert versions(folder) == [each.revision for each in reversed(list(script.walk_revisions()))]
    assert versions(folder)[-1:] == script.get_heads()


def test_a_database_that_is_up_to_date_is_left_alone_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    start = (
        "import sys\n"
        "from pipeline.database.engine import Database\n"
        "from pipeline.database.schema import bring_up_to_date\n"
        "from pipeline.ledger.named import LEDGER, MIGRATIONS\n"
        f"database = Database(LEDGER, {url!r})\n"
        "database.make()\n"
        "bring_up_to_date(database, MIGRATIONS)\n"
        "print('alembic' in sys.modules)\n"
    )
    said = [subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert said == ["True\n", "False\n"]


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    database = Database(LEDGER, f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    database.make()
    bring_up_to_date(database, OF_THE_LEDGER)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Refused, match="schema 9999, which is newer than this program"):
        bring_up_to_date(database, OF_THE_LEDGER)


def test_of_appointments_the_ledger_forgets_whose_they_are_and_of_the_others_nothing(tmp_path: Path) -> None:
    """Whatever their partner is called: seen to fail without 0010."""
    database = Database(LEDGER, f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    database.make()
    config = Config()
    config.set_main_option("script_location", str(OF_THE_LEDGER))
    with database.write() as connection:
        config.attributes["connection"] = connection
        upgrade(config, "0008")
    columns = "partner, hash, kind, system, known, created_with, partner_id, merged_into, merged_ms, belongs_to, at_ms"
    with database.write() as connection:
        for partner, part in (("medmij", "appointment"), ("zuid", "appointment"), ("roqua", "result")):
            for kind in ("patient", part):
                row = f"'{partner}', '{kind}', '{kind}', 's', true, true, 'id', 'into', 1, 'whose', 1"
                connection.exec_driver_sql(f"INSERT INTO identities ({columns}) VALUES ({row})")  # noqa: S608 - ours
    bring_up_to_date(database, OF_THE_LEDGER)
    with database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT partner, kind, partner_id, merged_into, belongs_to FROM identities ORDER BY partner, kind DESC"
        )
        assert [tuple(row) for row in rows] == [
            ("medmij", "patient", None, None, "whose"),
            ("medmij", "appointment", "id", "into", None),
            ("roqua", "result", "id", "into", "whose"),
            ("roqua", "patient", "id", "into", "whose"),
            ("zuid", "patient", None, None, "whose"),
            ("zuid", "appointment", "id", "into", None),
        ]
