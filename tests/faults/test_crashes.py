"""R1, R2, R8: killed at every row of the crash table, told to stop while requests are out, and started twice. Real processes on both buses."""

import random
import signal
import time
from collections.abc import Callable
from itertools import count

import pytest

from pipeline.bus.port import TopicPartition
from pipeline.failpoints import Point
from pipeline.model import Position
from pipeline.trial.invariants import SETTLED, Evidence, violations
from pipeline.trial.traffic import seeded
from schemas.outcomes import State
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import PARTNER, ROUTE, Hospital

Seen = Callable[[str], None]
BUSES = ["embedded", pytest.param("kafka", marks=[pytest.mark.kafka, THOROUGH])]
POINTS = [point for point in Point if point is not Point.AFTER_STEP]
"""Roche's deliveries have one request: tests/delivery/test_steps.py has those of two."""
QUICK = {Point.AFTER_BYTES_SENT, Point.AFTER_LEDGER_SETTLED}
"""On Kafka, of `make test`."""
CRASHES = [(point, "embedded") for point in POINTS] + [
    pytest.param(point, "kafka", marks=[pytest.mark.kafka, *([] if point in QUICK else [THOROUGH])]) for point in POINTS
]
KILLED = "the worker is killed there, and on restart the table of section 3 holds"


def requests(evidence: Evidence) -> dict[bytes, int]:
    """How often the partner was asked for each message, probes too."""
    values = {value for records in evidence.sent.values() for value in records.values() if value}
    return {value: len(evidence.requests_of(value)) for value in values}


def posts(evidence: Evidence, value: bytes) -> int:
    return sum(one.method == "POST" for one in evidence.requests_of(value))


def values_of(evidence: Evidence, *, opened: bool) -> list[bytes]:
    """Messages with an open intent, or those that are settled."""
    places = {row.position for row in evidence.rows if (row.open if opened else row.state in SETTLED)}
    return [value for value in requests(evidence) if evidence.place_of(value) in places]


def check_moment(point: Point, there: Evidence) -> None:
    """What the table's second column says, of the moment of the kill. What other threads have in hand meanwhile is not looked at."""
    settled = [row.position for row in there.rows if row.state in SETTLED]
    match point:
        case Point.AFTER_INTENT:
            assert any(not there.requests_of(value) for value in values_of(there, opened=True))
        case Point.AFTER_BYTES_SENT | Point.AFTER_ANSWER:
            assert values_of(there, opened=True)
        case Point.AFTER_LEDGER_SETTLED:
            assert any(not there.settled(position) for position in settled)
        case Point.AFTER_RESULT_PRODUCED:
            assert any(there.settled(position) for position in settled)
        case Point.AFTER_COMMIT:  # on a slow machine the first one is of where reading began: nothing is settled yet
            assert any(offset is not None for offset in there.committed.values())
        case Point.AFTER_POLL:
            assert there.bounds


def check_restart(before: Evidence, after: Evidence) -> None:
    """What the third column says: what was settled is not sent again, what was open is found out, and flagged."""
    counted, then = requests(after), requests(before)
    assert [value for value in values_of(before, opened=False) if counted[value] != then[value]] == []
    for value in values_of(before, opened=True):
        place = after.place_of(value)
        assert place is not None
        (result,) = {one.result_id: one for one in after.settled(place)}.values()
        assert result.possible_duplicate
        assert posts(after, value) <= 1
        if posts(before, value):
            assert result.confirmed_by == "probe"


@pytest.mark.fault("R1", KILLED)
@pytest.mark.parametrize(("point", "bus"), CRASHES)
def test_killed_at_a_row_of_the_table_it_goes_on_from_there(
    make_hospital: Make, point: Point, bus: str, seed: int, seen: Seen
) -> None:
    random_ = random.Random(f"{seed}{point}{bus}")
    hospital = make_hospital(bus=bus)
    hospital.partner()
    hospital.fill(seeded(seed, patients=6, updates=1))
    passing = 1 if point is Point.AFTER_COMMIT else random_.randint(1, 8)
    hospital.crashed(hospital.start("--drain", at=[f"{point}:{passing}=kill"]))
    if point is Point.AFTER_BYTES_SENT:
        time.sleep(0.3)  # the stand-in reads and does what has arrived
    there = hospital.evidence(over=False)
    assert violations(there) == []
    check_moment(point, there)

    assert hospital.drain() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    check_restart(there, after)
    seen("each of 7 points, embedded and Kafka")


@pytest.mark.fault("R1", KILLED)
@pytest.mark.slow_faults
@pytest.mark.parametrize("bus", BUSES)
def test_killed_again_and_again_at_random_points(make_hospital: Make, bus: str, seed: int, seen: Seen) -> None:
    """PostgreSQL where the bus is Kafka, as it is run."""
    random_ = random.Random(f"{seed}{bus}")
    hospital = make_hospital(bus=bus, ledger="postgres" if bus == "kafka" else "sqlite")
    hospital.partner()
    hospital.fill(seeded(seed, patients=20, updates=2))
    for _ in range(6):
        point = random_.choice([one for one in POINTS if one is not Point.AFTER_COMMIT])
        worker = hospital.start("--drain", at=[f"{point}:{random_.randint(1, 6)}=kill"])
        if worker.wait() == 0:
            break
        hospital.crashes += 1
        assert hospital.violations(over=False) == []
    assert hospital.drain() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    seen(f"{hospital.crashes} kills in one run")


STOPPED = "SIGTERM: nothing new is begun, what is out is waited for, settled and committed, and the process ends with 0"


@pytest.mark.fault("R2", STOPPED)
@pytest.mark.parametrize("bus", BUSES)
def test_told_to_stop_it_settles_what_is_out_commits_it_and_ends(make_hospital: Make, bus: str, seed: int, seen: Seen) -> None:
    hospital = make_hospital(bus=bus)
    partner = hospital.partner(latency=2.0)
    hospital.fill(seeded(seed, patients=40, updates=0, merges=0, garbage=0, again=0))
    worker = hospital.start()
    hospital.until(lambda: begun(hospital))
    began = time.monotonic()
    assert worker.end() == 0, hospital.logs()
    took = time.monotonic() - began
    there = hospital.evidence(over=False)
    assert violations(there) == []
    assert took < 2.0 + 20, "a request that was out, and the time that a loaded machine needs"
    assert there.states[State.DELIVERED] == len(there.rows) >= 1, "what was begun is settled"
    assert len(there.effects) == len(there.rows), "and nothing was begun that is not"
    assert {each: at or 0 for each, at in there.committed.items()} == settled_in_front(there), "and committed"
    partner.set(latency=0.0)
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []
    seen(f"ended {took:.1f} s after the signal, with a partner that takes 2 s")


def settled_in_front(there: Evidence) -> dict[TopicPartition, int]:
    """Of each partition the offset that is the first without a row: the messages that were begun need not be the first ones."""
    rows = {row.position for row in there.rows}
    return {
        each: next(at for at in count(first) if Position(each.topic, each.partition, at) not in rows)
        for each, (first, _) in there.bounds.items()
    }


def begun(hospital: Hospital) -> bool:
    """A request is at the partner: the stand-in counts as it reads."""
    return hospital.partners[PARTNER].requests > 0


@pytest.mark.fault("R2", STOPPED)
@pytest.mark.once
@THOROUGH
def test_told_twice_it_ends_at_once_and_what_was_out_is_found_out_later(hospital: Hospital, seed: int) -> None:
    partner = hospital.partners[PARTNER]
    partner.set(latency=2.0)
    hospital.fill(seeded(seed, patients=3, updates=0, merges=0, garbage=0, again=0))
    worker = hospital.start()
    hospital.until(lambda: begun(hospital))
    worker.tell(signal.SIGTERM)
    hospital.until(lambda: worker.events("worker_stopping"))
    worker.tell(signal.SIGTERM)
    assert worker.wait() == -signal.SIGTERM
    hospital.crashes += 1
    time.sleep(2.5)  # the stand-in takes effect all the same
    partner.set(latency=0.0)
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []


@pytest.mark.fault("R2", STOPPED)
def test_64_requests_are_out_when_it_is_told_to_stop(hospital: Hospital, seed: int) -> None:
    hospital.partners[PARTNER].set(latency=3.0)
    hospital.fill(seeded(seed, patients=100, updates=0, merges=0, garbage=0, again=0))
    worker = hospital.start()
    hospital.until(lambda: begun(hospital))
    hospital.until(lambda: hospital.partners[PARTNER].requests >= 64, seconds=20)
    began = time.monotonic()
    assert worker.end() == 0, hospital.logs()
    assert time.monotonic() - began < 3.0 + 10
    there = hospital.evidence(over=False)
    assert violations(there) == []
    assert len(there.effects) == there.states[State.DELIVERED] >= 64


REFUSED = "a second worker is refused with exit 4 and one line; nothing is sent twice"


@pytest.mark.fault("R8", REFUSED)
@pytest.mark.once
@pytest.mark.parametrize("bus", BUSES)
def test_a_second_worker_on_the_same_routes_is_refused(make_hospital: Make, bus: str, seed: int, seen: Seen) -> None:
    """On Kafka too: a SQLite ledger has no room for several members of a group."""
    hospital = make_hospital(bus=bus)
    hospital.partner(latency=0.1)
    hospital.fill(seeded(seed, patients=4))
    first = hospital.start()  # until it is told to end: the second may take its time to start
    hospital.until(lambda: begun(hospital))
    second = hospital.start("--drain")
    assert second.wait() == 4, hospital.logs()
    assert "another worker has this route" in second.said
    assert first.end() == 0, hospital.logs()
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []
    seen("exit 4: same group on SQLite; another group on SQLite and PostgreSQL; embedded and Kafka")


@pytest.mark.fault("R8", REFUSED)
@pytest.mark.once
@pytest.mark.parametrize("bus", BUSES)
@pytest.mark.parametrize("ledger", ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, THOROUGH])])
def test_a_worker_with_another_group_id_is_refused(make_hospital: Make, bus: str, ledger: str, seed: int) -> None:
    hospital = make_hospital(bus=bus, ledger=ledger)
    hospital.partner()
    hospital.fill(seeded(seed, patients=2))
    assert hospital.drain() == 0, hospital.logs()
    before = hospital.evidence()
    hospital.tree["routes"][ROUTE]["group"] += "-other"
    assert hospital.drain() == 4
    assert "would read everything again" in hospital.workers[-1].said
    hospital.tree["routes"][ROUTE]["group"] = hospital.tree["routes"][ROUTE]["group"].removesuffix("-other")
    assert len(hospital.evidence().effects) == len(before.effects)
    assert hospital.violations() == []
