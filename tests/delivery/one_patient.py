"""One patient's messages by their day, and the words in which the tests of a worker tell what became of them."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pipeline import flow
from pipeline.delivery.worker import Worker
from pipeline.ledger.port import Query
from pipeline.model import Identity, Learned, Routed
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House, adt, run_beside
from tests.stages.plans import received

DELIVERED: Final = (State.DELIVERED, None)
BLOCKED: Final = (State.PARKED, Reason.BLOCKED_BEHIND)
AWAITING: Final = (State.PARKED, Reason.AWAITING_PROBE)
CANNOT_TELL: Final = (State.PARKED, Reason.PROBE_CANNOT_TELL)
WORST: Final = 10
"""Seconds: the partner's published worst time of a create."""


def change(tree: dict[str, Any], *, probe_after: float = 0.0, probe: str = "on", **delivery: float) -> None:
    tree["partners"]["roche"] |= {"probe_margin": probe_after - WORST, "probe": probe}
    tree["delivery"] |= {"revoke_seconds": 5, "drain_seconds": 5, **delivery}


@contextmanager
def working(house: House, worker: Worker | None = None) -> Iterator[Worker]:
    worker = worker or house.worker()
    thread = run_beside(worker)
    try:
        yield worker
    finally:
        worker.stop.set()
        thread.join(60)
        assert not thread.is_alive()


def create(number: int = 1, patient: str = "12345678Z") -> bytes:
    return adt("A04", f"{patient}-{number}", patient=patient, time=stamp(number))


def update(number: int, patient: str = "12345678Z") -> bytes:
    return adt("A08", f"{patient}-{number}", patient=patient, time=stamp(number))


def stamp(number: int) -> str:
    return f"202405{number:02}101500+0200"


def sent(house: House) -> list[str]:
    """Verb and day of each request: a message's number is its day."""
    found = ((request.method, re.search(rb'"timestamp":"2024-05-(\d\d)', request.body)) for request in house.script.requests)
    return [f"{method} {int(day[1])}" for method, day in found if day]


def states(house: House) -> list[str]:
    """As the ledger has them, by offset."""
    return [str(each.state) for each in sorted(house.ledger.find(Query()), key=lambda each: each.position.offset)]


def known_as(house: House, value: bytes, partner_id: str | None = None) -> list[Learned]:
    routed = flow.read(received(value), house.worker().plan)
    assert isinstance(routed, Routed)
    return [Learned(identity, partner_id) for identity in routed.identities]


def identities(house: House, value: bytes) -> Iterable[Identity]:
    return (learned.identity for learned in known_as(house, value))
