"""On PostgreSQL: a merge sees a create that another worker has written and not yet committed, of the survivor as of the prior."""

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import insert

from pipeline.ledger.port import Held, Merged
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.tables import IDENTITIES
from schemas.outcomes import State
from tests import postgres_server
from tests.ledger.samples import CIP, PARTNER, PSEUDONYMS, Message, begun, identity, settled

pytestmark = pytest.mark.postgres


@pytest.fixture
def ledgers() -> Iterator[tuple[str, SqlLedger, SqlLedger]]:
    """Of two workers, and where they are."""
    url = postgres_server.a_schema()
    two = SqlLedger(url, PSEUDONYMS), SqlLedger(url, PSEUDONYMS)
    two[0].check()
    yield url, *two
    for ledger in two:
        ledger.close()


def somebody_waits(url: str) -> bool:
    with postgres_server.connect(url) as connection:
        return bool(connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0])  # type: ignore[index]


@pytest.mark.parametrize("whose", ["PRIOR", "SURVIVOR"])
@pytest.mark.parametrize("known_row", [False, True], ids=["of nobody known", "of one with a row"])
def test_a_merge_waits_for_a_create_that_is_being_committed(
    ledgers: tuple[str, SqlLedger, SqlLedger], whose: str, known_row: bool
) -> None:
    """Guard: Identities._wait_for_claims. Without it the merge of the survivor goes through beside the create."""
    url, one, two = ledgers
    if known_row:
        value = one._identities.hash(identity(whose))
        with one._write() as connection:
            connection.execute(insert(IDENTITIES).values(partner=PARTNER, hash=value, kind="patient", system=CIP, at_ms=1))
    merging = settled(
        Message(1, patient="SURVIVOR", prior=("PRIOR",)),
        State.FILTERED,
        merged=Merged((identity("PRIOR"),), identity("SURVIVOR"), 1_000),
    )
    told: list[object] = []

    def merge() -> None:
        try:
            told.append(two.settle(merging))
        except Held as held:
            told.append(held.by)

    create = Message(2, patient=whose, partition=1)
    thread = threading.Thread(target=merge)
    with one._write() as connection:  # as `begin` does it, up to its commit
        one._begin(begun(create), connection)
        thread.start()
        end = time.monotonic() + 60
        while not told and not somebody_waits(url) and time.monotonic() < end:
            time.sleep(0.02)
        assert told == []
    thread.join(60)
    assert told == [create.position]


def test_a_merge_leaves_no_row_of_a_patient_of_whom_nothing_is_known(ledgers: tuple[str, SqlLedger, SqlLedger]) -> None:
    url, one, _ = ledgers
    merged = Merged((identity("PRIOR"),), identity("SURVIVOR"), 1_000)
    one.settle(settled(Message(1, patient="SURVIVOR", prior=("PRIOR",)), State.FILTERED, merged=merged))
    with postgres_server.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM identities").fetchone() == (1,)
    one.begin(begun(Message(2, patient="SURVIVOR")))
