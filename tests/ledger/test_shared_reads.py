"""Reads of the hot path share a connection: each sees all that was durable before it was asked, and has its own error."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from pipeline.errors import LedgerError
from pipeline.ledger.sql import SqlLedger
from tests import postgres_server
from tests.delivery.partner_script import until
from tests.ledger.samples import PSEUDONYMS, ROUTE, Message, begun


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    yield ledger
    ledger.close()


class Leader:
    """A read that has read already, and holds those that come after it until it is let go."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger, self._pool = ledger, ThreadPoolExecutor(8)
        self._reads, self._goes_on = threading.Event(), threading.Event()
        self._pool.submit(ledger._ask, self._read)
        assert self._reads.wait(60)

    def _read(self, connection: Connection) -> None:
        connection.execute(text("SELECT count(*) FROM deliveries")).all()
        self._reads.set()
        assert self._goes_on.wait(60)

    def behind(self, *reads: Callable[[], Any]) -> list["Future[Any]"]:
        """Ask these, all of which wait for one turn, then let go."""
        futures: list[Future[Any]] = []
        for number, read in enumerate(reads, 1):
            futures.append(self._pool.submit(read))
            until(lambda number=number: len(self._ledger._ask._waiting) == number)  # type: ignore[misc]
        self._goes_on.set()
        self._pool.shutdown()
        return futures


def test_a_read_sees_what_was_durable_before_it_was_asked(ledger: SqlLedger) -> None:
    leader, message = Leader(ledger), Message(1)
    ledger.begin(begun(message))
    seen, knowledge = leader.behind(lambda: ledger.seen(ROUTE, message.position), lambda: ledger.knowledge(Message(2).routed()))
    assert seen.result().open
    assert knowledge.result().creating == message.position


def test_those_that_wait_share_one_connection(ledger: SqlLedger) -> None:
    used: list[tuple[int, int]] = []

    def look(connection: Connection) -> None:
        used.append((id(connection), threading.get_ident()))

    futures = Leader(ledger).behind(*[lambda: ledger._ask(look)] * 3)
    assert [future.result() for future in futures] == [None] * 3
    assert len(used) == 3
    assert len(set(used)) == 1


def test_one_that_fails_has_its_own_error_in_one_line_and_costs_the_others_nothing(ledger: SqlLedger) -> None:
    def fails() -> None:
        ledger._ask(lambda connection: connection.execute(text("SELECT 'CANARY' FROM nowhere")).all())

    good, bad, other = Leader(ledger).behind(
        lambda: ledger.seen(ROUTE, Message(1).position), fails, lambda: ledger.seen(ROUTE, Message(2).position)
    )
    assert (good.result(), other.result()) == (None, None)
    with pytest.raises(LedgerError, match="no tables yet") as caught:
        bad.result()
    assert "CANARY" not in f"{caught.value!s} {caught.value!r}"
    assert "\n" not in str(caught.value)
