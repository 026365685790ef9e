"""A prepared statement writes and reads what SQLAlchemy would, on both databases; an error goes SQLAlchemy's way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from pipeline.database.prepared import Prepared, one_by_one
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.tables import IDENTITIES
from tests import postgres_server
from tests.ledger.samples import PSEUDONYMS

HERE = IDENTITIES.c.hash == bindparam("k_hash")
ADD = Prepared(insert(IDENTITIES).returning(IDENTITIES.c.hash, IDENTITIES.c.known))
CHANGE = Prepared(update(IDENTITIES).where(HERE).values(merged_into=None))
READ = Prepared(select(IDENTITIES).where(HERE))
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**62), 2**62)
ROWS = st.fixed_dictionaries(
    {"partner": TEXTS, "hash": TEXTS, "kind": TEXTS, "system": TEXTS, "at_ms": NUMBERS},
    optional={
        "known": st.booleans(),
        "created_with": st.booleans(),
        "partner_id": st.none() | TEXTS,
        "merged_into": st.none() | TEXTS,
        "merged_ms": st.none() | NUMBERS,
    },
)
ROW = {"partner": "p", "hash": "h", "kind": "patient", "system": "s", "at_ms": 1}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    yield ledger
    ledger.close()


def typed(row: Any) -> list[tuple[type, Any]]:  # noqa: ANN401 - a row of either
    return [(type(value), value) for value in row]


def read_by_sqlalchemy(connection: Connection, value: str) -> Any:  # noqa: ANN401 - a row
    return connection.execute(select(IDENTITIES).where(IDENTITIES.c.hash == value)).one()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=ROWS, changed=ROWS)
def test_what_is_written_and_read_is_what_sqlalchemy_would_write_and_read(
    ledger: SqlLedger, row: dict[str, Any], changed: dict[str, Any]
) -> None:
    with ledger._write() as connection:
        connection.execute(delete(IDENTITIES))
        back = ADD.first(connection, row)
        assert back is not None
        assert (back.hash, back.known) == (row["hash"], row.get("known", False))
        for expected in (row, row | changed | {"merged_into": None}):
            there, read = read_by_sqlalchemy(connection, expected["hash"]), READ.first(connection, {"k_hash": expected["hash"]})
            assert read is not None
            assert {name: getattr(there, name) for name in expected} == expected
            assert read._fields == there._fields
            assert typed(read) == typed(there)
            given_now = {name: value for name, value in changed.items() if name != "merged_into"}
            CHANGE.all(connection, {"k_hash": expected["hash"]} | given_now)


def test_a_list_of_values_is_bound_one_by_one(ledger: SqlLedger) -> None:
    among = Prepared(select(IDENTITIES.c.hash).where(IDENTITIES.c.kind.in_(one_by_one({"a", "b"}))).order_by(IDENTITIES.c.hash))
    with ledger._write() as connection:
        for kind in ("a", "b", "c"):
            ADD.all(connection, ROW | {"hash": f"of {kind}", "kind": kind})
        assert [row.hash for row in among.all(connection, {})] == ["of a", "of b"]


def test_what_is_asked_for_and_not_given_is_never_null(ledger: SqlLedger) -> None:
    with ledger._write() as connection, pytest.raises((KeyError, ProgrammingError)):
        READ.all(connection, {})


def test_a_broken_rule_is_sqlalchemys_error_and_shows_no_statement(ledger: SqlLedger) -> None:
    with ledger._write() as connection:
        ADD.all(connection, ROW)
        with pytest.raises(IntegrityError) as caught, connection.begin_nested():
            ADD.all(connection, ROW)
        assert READ.first(connection, {"k_hash": "h"}) is not None
    assert "INSERT" not in str(caught.value)


@pytest.mark.postgres
def test_a_lost_connection_takes_the_others_of_its_age_out_of_the_pool() -> None:
    url = postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    with ledger._engine.connect(), ledger._engine.connect():
        pass
    with postgres_server.connect(url) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'emr-pipeline'")
    with pytest.raises(OperationalError) as caught, ledger._engine.connect() as connection:
        READ.all(connection, {"k_hash": "h"})
    with ledger._engine.connect() as one, ledger._engine.connect() as two:
        assert [READ.all(each, {"k_hash": "h"}) for each in (one, two)] == [[], []]
    ledger.close()
    assert caught.value.connection_invalidated
