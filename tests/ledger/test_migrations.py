"""A ledger of an older schema, with rows in every state: what it promised holds after the program is renewed. SQLite and PostgreSQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, text

from pipeline.database import engine as way
from pipeline.errors import Refused
from pipeline.ledger.identities import Identities
from pipeline.ledger.named import LEDGER, MIGRATIONS
from pipeline.ledger.port import Held, Query
from pipeline.ledger.sql import KEY_CHECK, SqlLedger
from pipeline.ledger.tables import METADATA
from pipeline.model import Intent, Position
from schemas.outcomes import CLOSED, Reason, State
from tests import postgres_server
from tests.ledger.samples import PARTNER, PSEUDONYMS, ROUTE, Message, begun, identity, settled

OLD: Final = "0002"


@dataclass(frozen=True)
class Row:
    """A delivery as the old program left it."""

    state: State
    reason: Reason | None = None
    open: bool = False
    attempt: int = 0
    intent: Intent | None = None
    creating: bool = False


ROWS: Final = {
    1: Row(State.PENDING, open=True, attempt=1, intent=Intent.CREATE, creating=True),
    2: Row(State.PENDING, attempt=3, intent=Intent.UPDATE),
    3: Row(State.UNKNOWN, Reason.TIMEOUT, open=True, attempt=2, intent=Intent.CREATE, creating=True),
    4: Row(State.PARKED, Reason.PROBE_CANNOT_TELL, attempt=1, intent=Intent.CREATE, creating=True),
    5: Row(State.PARKED, Reason.REJECTED_INVALID, attempt=4, intent=Intent.UPDATE),
    6: Row(State.PARKED, Reason.BLOCKED_BEHIND),
    7: Row(State.DELIVERED, attempt=2, intent=Intent.CREATE),
    8: Row(State.FILTERED, Reason.PARTNER_HAS_NO_VISIT),
    9: Row(State.DUPLICATE),
    10: Row(State.SUPERSEDED, Reason.STALE),
    11: Row(State.DISCARDED, Reason.OPERATOR),
}
"""By offset; each of a patient of its own, but for the one that is blocked: it is of the patient of offset 4."""


def message(offset: int, *, at: int | None = None) -> Message:
    return Message(offset if at is None else at, patient=f"P{4 if offset == 6 else offset}")


def make_old(engine: Engine) -> None:
    """The schema of then, by its own migrations, and the rows by plain SQL."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        upgrade(config, OLD)
        put(connection, "facts", name=KEY_CHECK, value=PSEUDONYMS.check)
        put(connection, "facts", name="merges", value="")
        put(connection, "routes", route=ROUTE, consumer_group="g", how="earliest", at_ms=1)
        for offset, row in ROWS.items():
            write(connection, offset, row)


def put(connection: Connection, table: str, **values: Any) -> None:  # noqa: ANN401 - column values
    columns, marks = ", ".join(f'"{name}"' for name in values), ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({marks})"), values)  # noqa: S608 - names of this file


def write(connection: Connection, offset: int, row: Row) -> None:
    routed = message(offset).routed()
    tried = {"sent_ms": 5_000, "deadline_ms": 25_000, "operation": "patient-create"} if row.attempt else {}
    put(
        connection,
        "deliveries",
        id=100 + offset,
        route=ROUTE,
        topic="his.adt",
        partition=0,
        offset=offset,
        partner=PARTNER,
        state=row.state.value,
        reason=row.reason.value if row.reason else None,
        event="ADT^A08",
        control_id=routed.decoded.event.control_id,
        sender=routed.sender,
        event_ms=routed.event_ms,
        lane=routed.lane,
        open_lane=routed.lane if row.open else None,
        dedupe=routed.dedupe,
        request_id=routed.request_id,
        attempt=row.attempt,
        intent=row.intent.value if row.intent else None,
        result_id=f"result-{offset}" if row.state not in {State.PENDING, State.UNKNOWN} else None,
        emitted=True,
        at_ms=6_000 + offset,
        **tried,
    )
    if row.creating or row.state is State.DELIVERED:
        put(
            connection,
            "identities",
            partner=PARTNER,
            hash=Identities(PSEUDONYMS).hash(identity(f"P{offset}")),
            kind="patient",
            system="urn:oid:2.16.724.4.41",
            known=row.state is State.DELIVERED,
            created_with=row.state is State.DELIVERED,
            creating=100 + offset if row.creating else None,
            at_ms=1,
        )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    """Brought up to date from the old schema."""
    url = f"sqlite:///{tmp_path / 'l.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()
    engine = way.make_engine(LEDGER, way.parse(LEDGER, url, None))
    make_old(engine)
    engine.dispose()
    ledger = SqlLedger(url, PSEUDONYMS)
    ledger.check()
    yield ledger
    ledger.close()


def test_the_schema_is_the_newest(ledger: SqlLedger) -> None:
    with ledger._write() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_server_default": False}), METADATA)
    assert differences == []


def test_each_record_is_in_the_state_that_it_was_in(ledger: SqlLedger) -> None:
    found = {each.position.offset: (each.state, each.reason, each.attempt, each.open) for each in ledger.find(Query())}
    assert found == {
        offset: (row.state, row.reason.value if row.reason else None, row.attempt, row.open) for offset, row in ROWS.items()
    }


def test_each_attempt_counts_as_an_intent_and_only_what_was_open_is(ledger: SqlLedger) -> None:
    for offset, row in ROWS.items():
        seen = ledger.seen(ROUTE, message(offset).position)
        assert seen is not None
        assert (seen.intents, seen.attempt, seen.open, seen.intent) == (row.attempt, row.attempt, row.open, row.intent)
        assert seen.sent_ms == (5_000 if row.creating else None), "only of what may have arrived"


def test_what_was_open_keeps_its_lane_and_what_was_not_holds_none(ledger: SqlLedger) -> None:
    for offset, row in ROWS.items():
        another = begun(message(offset, at=50 + offset), Intent.UPDATE)
        if row.open:
            with pytest.raises(Held) as caught:
                ledger.begin(another)
            assert caught.value.by == message(offset).position
        elif offset != 6:
            ledger.begin(another)


def test_an_unknown_create_still_lets_no_other_create_of_the_patient_pass(ledger: SqlLedger) -> None:
    for offset in (1, 3, 4):
        knowledge = ledger.knowledge(message(offset, at=50).routed())
        assert message(offset).position in {knowledge.open_create, knowledge.creating}
        with pytest.raises(Held):
            ledger.begin(begun(message(offset, at=50)))


def test_an_open_record_goes_on_with_the_count_that_it_has_and_with_no_other(ledger: SqlLedger) -> None:
    with pytest.raises(Held) as caught:
        ledger.begin(begun(message(3), attempt=3, after=1, probe=True))
    assert caught.value.by == message(3).position
    ledger.begin(begun(message(3), attempt=3, after=2, probe=True))
    assert ledger.settle(settled(message(3)))
    ledger.begin(begun(message(3, at=50), Intent.UPDATE))


def test_what_was_closed_is_never_begun_again(ledger: SqlLedger) -> None:
    for offset in (offset for offset, row in ROWS.items() if row.state in CLOSED):
        with pytest.raises(Refused) as caught:
            ledger.begin(begun(message(offset), Intent.UPDATE, after=ROWS[offset].attempt))
        assert not isinstance(caught.value, Held)


def test_what_goes_on_by_itself_has_its_lane(ledger: SqlLedger) -> None:
    assert ledger.waiting(ROUTE, "his.adt", 0) == [
        (Position("his.adt", 0, offset), message(offset).routed().lanes) for offset in (1, 2, 3, 6)
    ]


def test_the_patient_that_was_delivered_is_known(ledger: SqlLedger) -> None:
    known = ledger.knowledge(message(7, at=50).routed()).known
    assert known[identity("P7")].created_with


def test_the_route_may_not_start_anew(ledger: SqlLedger) -> None:
    assert ledger.started(ROUTE) == "earliest"
    with pytest.raises(Refused):
        ledger.claim(ROUTE, "another", PARTNER)


def test_a_route_of_before_takes_the_partner_that_it_is_started_to_and_from_then_on_no_other(ledger: SqlLedger) -> None:
    ledger.fits(ROUTE, "g", "another")
    ledger.claim(ROUTE, "g", PARTNER)
    with pytest.raises(Refused, match=f"started to the partner {PARTNER}"):
        ledger.claim(ROUTE, "g", "another")
    ledger.claim(ROUTE, "g", PARTNER)
