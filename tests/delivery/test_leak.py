"""A worker keeps nothing of what is settled: objects are counted, not megabytes, so that a leak of one dict entry a message is seen.

What is parked and comes back, what is tried again, what nobody can read and what comes twice goes through it, batch after batch.
"""

import functools
import gc
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.delivery.worker import Worker
from pipeline.errors import NoAnswer
from pipeline.model import Reply, Request
from schemas.outcomes import Reason
from tests.delivery.partner_script import House, adt, created, issue, reply, run_beside, until, updated

PATIENTS: Final = 20
NOISE: Final = 10
"""Objects of one type that come and go: what a thread holds while it waits for the next message. Each leak is one of 20 and more."""
CONTAINERS: Final = (dict, list, set, frozenset, tuple, deque)
LARGEST_CACHE: Final = 8192
"""Entries: so much of what was seen once may stay for a worker's whole life, in one cache."""


@dataclass
class Moody:
    """A partner that remembers nothing of a request: every second create is lost on the way, and now and then it fails, throttles, or refuses."""

    asked: int = 0
    lost: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def exchange(self, request: Request) -> Reply:
        with self.lock:
            self.asked += 1
            asked = self.asked
        if request.method == "POST" and asked % 2 == 0:
            raise NoAnswer(Reason.TIMEOUT)
        if asked % 17 == 0:
            return reply(503)
        if asked % 23 == 0:
            return reply(429, retry_after="0")
        if request.method == "POST" and asked % 7 == 0:  # never a probe, which a refusal would leave without an answer for ever
            return issue(400, "invalid")
        return created(f"roche-{asked}") if request.method == "POST" else updated()

    def knock(self) -> None:
        """Somebody is there."""

    def close(self) -> None:
        """Nothing is open."""


def change(tree: dict[str, Any]) -> None:
    tree["partners"]["roche"] |= {"probe_margin": 0.1 - 10}
    tree["delivery"] |= {"hold": 0.02, "per_patient": 2}


def batch(number: int) -> list[bytes | None]:
    """A create and three updates of each patient, one of them twice, and two that nobody can read."""
    messages: list[bytes | None] = [b"garbage %d" % number, None]
    for event, day in (("A04", 1), ("A08", 2), ("A08", 3), ("A08", 3), ("A08", 4)):
        for patient in range(PATIENTS):
            name = f"{number:03}{patient:05}Z"
            messages.append(adt(event, f"{name}-{day}", patient=name, time=f"2024050{day}101500+0200"))
    return messages


def ours() -> Counter[str]:
    """Live objects of our own types."""
    gc.collect()
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for each in gc.get_objects() if of_ours(kind := type(each)))


def entries(root: object) -> int:
    """Of all dicts, lists, sets and queues that can be reached from `root` through objects of ours."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        each = left.pop()
        if id(each) not in seen and (isinstance(each, CONTAINERS) or of_ours(type(each))):
            seen[id(each)] = each
            left += gc.get_referents(each)
    return sum(len(each) for each in seen.values() if isinstance(each, CONTAINERS))


def of_ours(kind: type) -> bool:
    return str(kind.__module__).startswith(("pipeline.", "schemas."))


def caches() -> "list[functools._lru_cache_wrapper[Any]]":
    """All that are alive, and ours."""
    found = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
    return [each for each in found if str(getattr(each, "__module__", "")).startswith(("pipeline.", "schemas."))]


def settle(house: House, worker: Worker, number: int) -> None:
    """A batch, up to the commit: nothing of it is on its way any more."""
    before = worker.progress.read
    messages = batch(number)
    house.send(*messages)
    until(lambda: worker.progress.read >= before + len(messages))
    until(lambda: at_rest(worker))


def at_rest(worker: Worker) -> bool:
    figures = worker.figures()
    return not (figures.unsettled or figures.in_flight or figures.waiting or figures.waiting_parked or figures.results_waiting)


def test_what_is_settled_leaves_nothing_behind(tmp_path: Path) -> None:
    """Guards: what is taken out of `_back` and `_probe_due` (courier.py), `_epochs` (offsets.py), `_leaves` (gate.py) and `_results` (emitter.py)."""
    house = House(tmp_path, change=change)
    house.in_flight = 8
    worker = house.worker(Moody())
    thread = run_beside(worker)
    try:
        for number in range(2):  # threads, connections, statements: what comes once
            settle(house, worker, number)
        worker.courier._older.cache_clear()  # bounded, and no leak: how much of it there is hangs on how many were refused
        objects, kept = ours(), entries(worker)
        for number in range(2, 5):
            settle(house, worker, number)
        worker.courier._older.cache_clear()
        grown = {kind: count - objects[kind] for kind, count in ours().items() if count - objects[kind] > NOISE}
        assert grown == {}
        assert entries(worker) - kept < PATIENTS  # of three batches of a hundred
    finally:
        worker.stop.set()
        thread.join(60)
        house.close()
    assert not thread.is_alive()


def test_no_cache_of_ours_grows_for_ever() -> None:
    without = sorted(
        each.__qualname__ for each in caches() if each.cache_parameters()["maxsize"] is None and each.cache_info().currsize > 100
    )
    assert without == []
    assert [each.__qualname__ for each in caches() if (each.cache_parameters()["maxsize"] or 0) > LARGEST_CACHE] == []
