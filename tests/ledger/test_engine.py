"""Errors of the database are one line without a value; the schema is what the tables say; one worker has a SQLite route."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import column, select
from sqlalchemy.exc import ArgumentError, CompileError
from sqlalchemy.types import NullType

from pipeline.errors import LedgerError, Refused, SettingsError
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.tables import METADATA
from tests import postgres_server
from tests.ledger.samples import PSEUDONYMS, ROUTE, Message, begun


def of(folder: Path) -> SqlLedger:
    ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    return ledger


def test_a_statement_that_is_none_is_a_defect_of_ours_and_not_a_database_that_is_away(tmp_path: Path) -> None:
    """Else the worker would try it again until somebody looks."""
    ledger = of(tmp_path)
    with pytest.raises(CompileError), ledger._write() as connection:
        connection.execute(select(column("told").cast(NullType)))
    with pytest.raises(ArgumentError), ledger._write() as connection:
        connection.execute(select(object()))  # type: ignore[call-overload]
    with ledger._read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    ledger.close()


@pytest.mark.parametrize("server", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_migrations_make_what_the_tables_say(server: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'l.sqlite'}" if server == "sqlite" else postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    with ledger._write() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_server_default": False}), METADATA)
    ledger.close()
    assert differences == []


def test_sqlite_is_durable(tmp_path: Path) -> None:
    ledger = of(tmp_path)
    with ledger._read() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    ledger.close()
    assert settings == ["wal", 2, 1]


@pytest.mark.postgres
def test_postgresql_is_durable() -> None:
    ledger = SqlLedger(postgres_server.a_schema(), PSEUDONYMS)
    with ledger._read() as connection:
        setting = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    ledger.close()
    assert setting == "on"


def test_a_file_that_is_opened_again_in_this_process_is_not_taken_from_it_by_another_that_goes(tmp_path: Path) -> None:
    """Seen to fail when `check` opened and closed the file: its locks were gone, the other process removed the -wal, and neither saw the other's writes."""
    first, again = of(tmp_path), of(tmp_path)
    elsewhere = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "with connection:\n"
        "    connection.execute(sys.argv[2])\n"
        "connection.close()\n"
    )
    for statement in ("CREATE TABLE told (a)", "INSERT INTO told VALUES (1)", "INSERT INTO told VALUES (2)"):
        subprocess.run([sys.executable, "-c", elsewhere, str(tmp_path / "ledger.sqlite"), statement], check=True)
        assert (tmp_path / "ledger.sqlite-wal").exists()
    for ledger in (first, again):
        with ledger._write() as connection:
            connection.exec_driver_sql("INSERT INTO told VALUES (3)")
            assert connection.exec_driver_sql("SELECT count(*) FROM told WHERE a < 3").scalar() == 2
    again.close()
    first.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as found:
        assert found.execute("SELECT count(*) FROM told").fetchall() == [(4,)]


def test_nothing_is_made_before_check(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'l.sqlite'}", PSEUDONYMS)
    assert not ledger.exists()
    with pytest.raises(LedgerError, match="nothing has run"):
        ledger.counts()
    with pytest.raises(LedgerError):
        ledger.begin(begun(Message(1)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(LedgerError, match="no SQLite database") as caught:
        of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be made"):
        of(tmp_path / "file")


def test_no_error_shows_what_was_to_be_written(tmp_path: Path) -> None:
    ledger = of(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("DROP TABLE identities")
    with pytest.raises(LedgerError) as caught:
        ledger.begin(begun(Message(1, patient="CANARY")))
    ledger.close()
    shown = f"{caught.value!s} {caught.value!r}"
    assert "CANARY" not in shown
    assert "INSERT" not in shown
    assert "\n" not in shown
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("no address", "not an address"),
        ("mysql://h/d", "not supported"),
        ("sqlite://", "would forget"),
        ("sqlite:///:memory:", "would forget"),
    ],
)
def test_an_address_that_is_none_of_ours_is_told(url: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        SqlLedger(url, PSEUDONYMS)


@pytest.mark.postgres
def test_a_wrong_password_is_told_and_not_shown() -> None:
    ledger = SqlLedger(postgres_server.a_schema(), PSEUDONYMS, "a-wrong-password")
    with pytest.raises(LedgerError, match="refuses the user or password") as caught:
        ledger.check()
    assert "a-wrong-password" not in str(caught.value)
    assert postgres_server.PASSWORD not in str(caught.value)


def test_a_route_on_sqlite_has_one_worker(tmp_path: Path) -> None:
    first, second = of(tmp_path), of(tmp_path)
    first.claim(ROUTE, "g", "p")
    first.claim(ROUTE, "g", "p")
    second.claim("another", "g", "p")
    with pytest.raises(Refused, match="another worker has this route"):
        second.claim(ROUTE, "g", "p")
    first.close()
    second.claim(ROUTE, "g", "p")
    second.close()


def test_whether_a_worker_has_a_route_can_be_asked_by_anybody_and_takes_nothing_away(tmp_path: Path) -> None:
    worker, asking = of(tmp_path), of(tmp_path)
    assert asking.claimed(ROUTE) is False
    worker.claim(ROUTE, "g", "p")
    assert (asking.claimed(ROUTE), worker.claimed(ROUTE)) == (True, True)
    worker.close()
    assert asking.claimed(ROUTE) is False
    worker.claim(ROUTE, "g", "p")
    worker.close()


def test_on_postgresql_nobody_can_tell_whether_a_worker_has_a_route() -> None:
    ledger = SqlLedger("postgresql+psycopg://nobody@localhost/none", PSEUDONYMS)
    assert ledger.claimed(ROUTE) is None


def test_a_route_is_free_when_its_worker_was_killed(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.ledger.test_engine import of, ROUTE
of(Path({str(tmp_path)!r})).claim(ROUTE, "g", "p")
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False, capture_output=True)
    assert killed.returncode == -9
    ledger = of(tmp_path)
    ledger.claim(ROUTE, "g", "p")
    ledger.close()


@pytest.mark.postgres
def test_workers_share_a_route_on_postgresql() -> None:
    url = postgres_server.a_schema()
    first, second = SqlLedger(url, PSEUDONYMS), SqlLedger(url, PSEUDONYMS)
    first.check()
    first.claim(ROUTE, "g", "p")
    second.claim(ROUTE, "g", "p")
    first.close()
    second.close()


@pytest.mark.postgres
def test_a_postgresql_that_comes_back_is_used_again() -> None:
    url = postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    with postgres_server.connect(url) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'emr-pipeline'")
    with pytest.raises(LedgerError) as caught:
        ledger.begin(begun(Message(1)))
    ledger.begin(begun(Message(1)))
    ledger.close()
    assert "it is tried again" in str(caught.value)


def test_an_intent_survives_kill_9(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.ledger.test_engine import of
from tests.ledger.samples import Message, begun
of(Path({str(tmp_path)!r})).begin(begun(Message(1)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False, capture_output=True)
    assert killed.returncode == -9
    ledger = of(tmp_path)
    here = ledger.seen(ROUTE, Message(1).position)
    ledger.close()
    assert here is not None
    assert here.open
