"""What another process, or an operator, does to a record that this one has in hand; and what the ledger did, though its answer was lost.

The whole worker on the embedded bus and SQLite; only the partner answers from a script.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pipeline.bus.port import TopicPartition
from pipeline.cli import main
from pipeline.delivery.attempts import Delivery
from pipeline.delivery.worker import Worker
from pipeline.errors import LedgerError, NoAnswer
from pipeline.ledger.port import Promised, Settlement
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Position
from pipeline.partners.roche.partner import Roche
from schemas.outcomes import Reason, State
from tests.commands.replaying import MONDAY, TUESDAY, Hospital
from tests.delivery.one_patient import BLOCKED, CANNOT_TELL, create, update, working
from tests.delivery.partner_script import ROUTE, House, adt, until
from tests.delivery.test_attempts import Desk, desk, left_unknown

__all__ = ["desk"]

pytestmark = pytest.mark.usefixtures("short_pauses")
X: Final = Position("his.adt", 1, 0)
Y: Final = Position("his.adt", 0, 0)


@dataclass
class LostAnswer:
    """It was written, and the connection broke before the answer."""

    promise: Promised[bool]

    def result(self) -> bool:
        self.promise.result()
        raise LedgerError("the connection was lost at COMMIT", where="ledger")


def test_what_was_parked_though_the_ledgers_answer_was_lost_is_told_and_its_offset_passes(
    a_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, the ledger says that the record is parked already. Guard: Courier._elsewhere."""
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    settle, lost = house.ledger.settle_soon, list[Settlement]()

    def settle_soon(settlement: Settlement) -> Promised[bool]:
        promise = settle(settlement)
        if settlement.outcome.reason is not Reason.BLOCKED_BEHIND or lost:
            return promise
        lost.append(settlement)
        return LostAnswer(promise)

    monkeypatch.setattr(house.ledger, "settle_soon", settle_soon)
    with working(house) as worker:
        until(lambda: sorted(house.settled()) == [BLOCKED, CANNOT_TELL])
        until(lambda: worker.offsets.unsettled == 0)
    assert [value for value, _ in house.dead_letters()] == [create(1), update(2)]
    assert lost


@pytest.mark.parametrize("first", [0, 1], ids=["what waits is restored first", "what is waited for is restored first"])
def test_what_an_operator_says_counts_at_once_also_where_the_one_that_waits_has_taken_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Of two partitions: an unknown create in one, and what waits for it in the other goes on with it itself. Guard: Courier._was_decided."""
    monkeypatch.setattr(Roche, "probe_after", lambda *_: 90_000.0)
    monkeypatch.setattr("pipeline.delivery.courier.BLOCKED_PAUSE", 0.2)
    positions = Worker._positions

    def in_order(self: Worker, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        there = positions(self, partitions)
        return dict(sorted(there.items(), key=lambda one: one[0].partition != first))

    monkeypatch.setattr(Worker, "_positions", in_order)
    house = Hospital(tmp_path, partitions=2)
    house.set_delivery(hold=0.1)
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    with working(house):
        house.send(adt("A04", "1", time=MONDAY), partition=1)
        until(lambda: state(house, X) == (State.PARKED, Reason.AWAITING_PROBE))
        house.send(adt("A08", "2", time=TUESDAY), partition=0)
        until(lambda: state(house, Y) == (State.PARKED, Reason.BLOCKED_BEHIND))
    with working(house):
        time.sleep(1)  # it has looked, and has taken up what it waits for
        assert main(["resolve", str(X), "--absent", "--why", "asked", "--settings", str(house.settings_file)]) == 0
        until(lambda: state(house, Y) == (State.DELIVERED, None))
        until(lambda: state(house, X)[0] in {State.DELIVERED, State.SUPERSEDED})
    assert house.paths().count("POST /Bundle") == 2
    house.close()


def state(house: House, position: Position) -> tuple[State | None, Reason | None]:
    seen = house.ledger.seen(ROUTE, position)
    return (seen.state, seen.reason) if seen is not None else (None, None)


def test_what_moves_to_and_fro_is_waited_for_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that a crash left open, of a partition that is lost and given again. Guard: Courier._seen_open."""
    here, routed = left_unknown(desk), desk.routed(adt())
    monkeypatch.setattr(SqlLedger, "alone", False)
    courier = desk.house.worker().courier
    courier.hands = desk.hands()
    left = []
    for desk.now in (0.0, 20.0, 40.0):
        work = courier.task(routed.decoded.received, here, routed).work
        assert isinstance(work, Delivery)
        left.append(work.lease_due - desk.now)
        courier.forget(lambda _: False)
    assert left == [25.0, 5.0, -15.0]
