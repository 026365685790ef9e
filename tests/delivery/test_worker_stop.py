"""A stop ends the worker in its time, whatever is away; what it leaves is done after the next start."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.delivery.worker import DRAIN_TRIES
from pipeline.errors import LedgerError, Refused
from pipeline.ledger.port import Ledger
from pipeline.model import Position, Seen
from schemas.outcomes import State
from tests.delivery.partner_script import House, adt, issue, run_beside, settings_with, until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


class Away:
    """A ledger that cannot be read by those who take records in, or place those that were parked."""

    def __init__(self, ledger: Ledger, what: str) -> None:
        self.ledger, self.what, self.asked = ledger, what, 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the ledger's
        return self._fail if name == self.what else getattr(self.ledger, name)

    def _fail(self, *_: object) -> dict[Position, Seen]:
        self.asked += 1
        raise LedgerError("away")


@pytest.mark.parametrize("what", ["seen_between", "waiting"])
def test_a_stop_while_the_ledger_is_away_ends_the_worker_and_the_next_one_does_the_work(house: House, what: str) -> None:
    house.send(adt())
    whole, house.ledger = house.ledger, Away(house.ledger, what)  # type: ignore[assignment]
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: worker.ledger.asked > 2)  # type: ignore[attr-defined]
    begun = time.monotonic()
    worker.stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 30
    house.ledger = whole
    assert (house.paths(), house.committed()) == ([], 0)
    house.work()
    assert (house.settled(), house.committed()) == ([(State.DELIVERED, None)], 1)


def test_a_drain_is_given_up_where_the_flood_breaker_stands_and_nobody_is_there_to_mend_anything(house: House) -> None:
    house.settings = settings_with(lambda tree: tree["flood"].update(parked=2, pause=0.2))
    messages = [adt(control_id=str(number), patient=f"{number:02}345678Z") for number in range(30)]
    house.send(*messages)
    with pytest.raises(Refused, match="drain again"):
        house.work([issue(400, "required")] * len(messages))
    parked = len(house.settled())
    assert 2 + DRAIN_TRIES <= parked < len(messages)
    assert (house.committed() or 0) <= parked
    house.script.answers.clear()
    house.work()
    assert house.settled()[parked:] == [(State.DELIVERED, None)] * (len(messages) - parked)
