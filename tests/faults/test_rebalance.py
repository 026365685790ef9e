"""R3 and R4: members of a group join, leave, die and stand still while messages flow. A real Kafka, PostgreSQL, several workers.

The partner makes a second patient of a second create, and answers slowly enough that requests are out whenever a partition moves.
"""

import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from kafka import KafkaProducer

from pipeline.delivery.attempts import GRACE
from pipeline.failpoints import Point
from pipeline.trial.invariants import violations
from pipeline.trial.traffic import Patient, adt, of_one, seeded
from tests.faults.administrator import Administrator
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import PARTNER, Hospital

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

Seen = Callable[[str], None]
PARTITIONS = 4
TOTAL = 3
LASTS = GRACE + TOTAL - 1
"""Seconds that an intent of a process that stands still lasts at least: it was written a little before."""
JOINED = "members join, leave and die while messages flow: no loss, nothing created twice, each patient's order kept"
STILL = "SIGSTOP beyond the session, then SIGCONT: late completions are fenced, nothing is sent twice"


@pytest.fixture
def several(make_hospital: Make) -> Callable[..., Hospital]:
    """A hospital for several workers."""

    def make(**settings: Any) -> Hospital:  # noqa: ANN401 - the bus's
        hospital = make_hospital(bus="kafka", ledger="postgres", **settings)
        hospital.tree["topics"]["partitions"] = PARTITIONS
        hospital.partner(latency=0.15)
        short = {"connect": 3, "read": 2, "total": TOTAL}
        hospital.set(in_flight=8, create=dict(short), update=dict(short))
        return hospital

    return make


def administrator(hospital: Hospital) -> Administrator:
    return Administrator(hospital.tree["bus"]["bootstrap_servers"])


def end_all(hospital: Hospital) -> None:
    """The rest is worked off, with one more member that ends when all is committed; then all that run end well."""
    assert hospital.drain() == 0, hospital.logs()
    for worker in hospital.workers:
        if worker.running:
            assert worker.end() == 0, hospital.logs()


@pytest.mark.fault("R3", JOINED)
@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
@THOROUGH
def test_members_join_leave_and_die_while_messages_flow(
    several: Callable[..., Hospital], rebalance: str, seed: int, seen: Seen
) -> None:
    """What holds it: Ledger.begin lets one send; what runs is settled before it is passed on, and nobody takes another's (tests/delivery/test_worker_groups.py)."""
    random_ = random.Random(f"{seed}{rebalance}")
    hospital = several(rebalance=rebalance)
    hospital.fill(seeded(seed, patients=10))
    hospital.start()
    hospital.more(1)
    told: list[str] = []
    for round_ in range(1, 5):
        hospital.fill(seeded(seed + 100 * round_, patients=10))
        running = [worker for worker in hospital.workers if worker.running]
        what = "join" if len(running) == 1 else random_.choice(["join", "leave", "die"])
        told.append(what)
        match what:
            case "join":
                joining = hospital.start()
                hospital.until(partial(joining.events, "worker_started"))
            case "leave":
                assert random_.choice(running).end() == 0, hospital.logs()
            case "die":
                hospital.crash(random_.choice(running))
        hospital.more(random_.randint(5, 20))
    end_all(hospital)
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    again = sum(any(one.possible_duplicate for one in after.settled(row.position)) for row in after.rows)
    seen(f"seed {seed} {rebalance}: {', '.join(told)}; {len(after.rows)} messages, {again} found out after a crash")


@pytest.mark.fault("R3", JOINED)
@pytest.mark.once
@THOROUGH
def test_a_worker_that_joins_has_its_share_while_the_other_still_works_off_what_it_has_read(
    several: Callable[..., Hospital], seed: int
) -> None:
    """A partner that takes half a second would hold the group up for long, were it heard only between two batches."""
    hospital = several()
    hospital.partners[PARTNER].set(latency=0.5)
    hospital.set(in_flight=1)
    hospital.fill(seeded(seed, patients=60, updates=0, merges=0, garbage=0))
    hospital.start()
    hospital.more(2)
    hospital.start()
    hospital.until(lambda: administrator(hospital).holders(hospital.group) == [2, 2])
    assert hospital.partners[PARTNER].requests < len(hospital.traffic.messages), "it was at it still"


@pytest.mark.fault("R3", JOINED)
@pytest.mark.once
@THOROUGH
def test_what_is_passed_on_in_peace_is_settled_and_is_worked_off_by_nobody_again(
    several: Callable[..., Hospital], seed: int, seen: Seen
) -> None:
    """The ledger would hold a second sending up in any case; what ran is waited for and committed, so that it is not even read again."""
    hospital = several()
    hospital.partners[PARTNER].set(latency=0.5)
    hospital.set(in_flight=16)
    hospital.fill(seeded(seed, patients=240, updates=0, again=0, merges=0, garbage=0))
    first = hospital.start()
    hospital.more(4)
    second = hospital.start()
    hospital.until(lambda: administrator(hospital).holders(hospital.group) == [2, 2])
    hospital.more(4)
    assert first.end() == 0, hospital.logs()
    assert hospital.drain() == 0, hospital.logs()
    assert second.end() == 0, hospital.logs()
    worked_off = sum(line["settled"] for worker in hospital.workers for line in worker.events("worker_stopped"))
    assert worked_off == len(hospital.traffic.messages)
    seen(f"{worked_off} messages of {len(hospital.traffic.messages)} worked off by {len(hospital.workers)} workers")


@pytest.mark.fault("R4", STILL)
def test_a_worker_that_stood_still_for_longer_than_its_session_goes_on_and_sends_nothing_twice(
    several: Callable[..., Hospital], seed: int, seen: Seen
) -> None:
    """What holds it: the consumer asks the group before it hands out anything after a session; epochs, and the ledger's intents.

    Where it stood still for longer than its intents lasted (in mid-transaction it keeps the others waiting until the database ends it), the others took it
    for dead, and what was out was found out: an update by sending it again, flagged as after a crash.
    """
    random_ = random.Random(seed)
    hospital = several()
    hospital.partners[PARTNER].set(latency=0.4)
    hospital.fill(seeded(seed, patients=20))
    first, _ = hospital.start(), hospital.start()
    hospital.until(lambda: administrator(hospital).holders(hospital.group) == [2, 2])
    hospital.more(random_.randint(1, 12))
    first.tell(signal.SIGSTOP)
    stood = time.monotonic()
    hospital.until(lambda: administrator(hospital).holders(hospital.group) == [4])
    hospital.more(random_.randint(1, 12))
    first.tell(signal.SIGCONT)
    hospital.crashes += time.monotonic() - stood > LASTS
    end_all(hospital)
    assert first.wait() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    seen("all four partitions were another's when it went on; each effect once")


@pytest.mark.fault("R4", STILL)
@pytest.mark.once
@THOROUGH
def test_a_worker_that_stood_still_between_its_intent_and_the_first_byte_sends_nothing_any_more(
    several: Callable[..., Hospital], seed: int, seen: Seen
) -> None:
    """Guard: Delivery._stood_since. Another worker has found that nothing was there, and created the patient, by the time that this one goes on."""
    hospital = several()
    hospital.fill(of_one(seed, ("A04", 0), ("A08", 1)))
    first = hospital.start(at=[f"{Point.AFTER_INTENT}:1=stop"])
    hospital.until(lambda: any(row.open for row in hospital.evidence(over=False).rows))
    hospital.start()
    hospital.until(hospital.settled)
    asked = hospital.partners[PARTNER].requests
    first.tell(signal.SIGCONT)
    end_all(hospital)
    assert violations(hospital.evidence()) == []
    assert hospital.partners[PARTNER].requests == asked
    seen("and SIGSTOP between the intent and the first byte: nothing was sent on it any more")


@pytest.mark.fault("R7", "what holds no record, a transaction's marker, is passed")
@pytest.mark.once
@THOROUGH
def test_a_drain_ends_where_the_marker_of_a_transaction_ends_the_topic(several: Callable[..., Hospital], seed: int) -> None:
    hospital = several()
    hospital.fill(of_one(seed))
    patient = Patient(0, seed)
    his: Any = KafkaProducer(
        bootstrap_servers=hospital.tree["bus"]["bootstrap_servers"], transactional_id=f"{hospital.prefix}his"
    )
    his.init_transactions()
    his.begin_transaction()
    his.send(hospital.source, adt(patient, "A04", 1), key=patient.name.encode())
    his.commit_transaction()
    his.close()
    hospital.traffic += of_one(seed, ("A04", 1))
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []
    assert [one.effect for one in hospital.partners[PARTNER].log.effects()] == ["created"]
