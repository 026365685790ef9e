"""A visit that two patients' messages name at once: who comes second waits for what is under way, and no longer than that."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger.port import Begun, Held
from pipeline.model import Reply, Request
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import run_beside, until
from tests.delivery.promises import soon
from tests.delivery.two_steps import TUESDAY, Clinic, Registry, TwoSteps, clinic, visit

FIRST, SECOND = visit(patient="11111111A"), visit("A01", "2", patient="22222222B", time=TUESDAY)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    """Its partner's reads lag by a day."""
    monkeypatch.setattr(TwoSteps, "probe_after", lambda _self, _operation: 86_400.0)
    with clinic(tmp_path) as house:
        yield house


class Slow(Registry):
    """Answers once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def exchange(self, request: Request) -> Reply:
        self.requests.append(request)
        assert self.go_on.wait(60)
        return self._do(request)


def held_of(house: Clinic, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that were told to wait, each time."""
    begin, held = house.ledger.begin, []

    def begins(begun: Begun) -> None:
        try:
            begin(begun)
        except Held:
            held.append(begun.routed.decoded.received.position.offset)
            raise

    monkeypatch.setattr(house.ledger, "begin_soon", soon(begins))
    return held


def test_what_is_on_its_way_is_not_taken_for_what_a_crash_left(house: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    house.in_flight, slow, held = 2, Slow(), held_of(house, monkeypatch)
    house.send(FIRST)
    thread = run_beside(worker := house.worker(slow))
    try:
        until(lambda: len(slow.requests) == 1)
        house.send(SECOND)
        until(lambda: len(held) > 1)
        slow.go_on.set()
        until(lambda: len(house.settled()) == 2)
    finally:
        slow.go_on.set()
        worker.stop.set()
        thread.join(60)
    assert house.settled() == [(State.DELIVERED, None), (State.PARKED, Reason.PART_OF_ANOTHER)]
