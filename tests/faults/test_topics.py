"""R7: the source topic is made anew, loses records before they are read, or is given more partitions. A real Kafka, real worker processes.

The place to read on is gone: the worker stops and says so, and the partner hears of nothing. What was only added is read from its first record.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.trial.invariants import violations
from pipeline.trial.traffic import Traffic, seeded
from tests.faults.administrator import Administrator
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import PARTNER, ROUTE, Hospital, Worker

pytestmark = pytest.mark.kafka

Seen = Callable[[str], None]
NO_JUMP = (
    "never a silent jump: exit 4, one line that names the place, nothing sent; an added partition is read from its first record"
)
REFUSED = 4
NOTHING_YET = Traffic(())


@pytest.fixture
def hospital(make_hospital: Make) -> Hospital:
    one = make_hospital(bus="kafka")
    one.partner()
    return one


@pytest.fixture
def administrator(hospital: Hospital) -> Administrator:
    return Administrator(hospital.tree["bus"]["bootstrap_servers"])


def begun(hospital: Hospital, seed: int) -> None:
    """Everything so far is settled and committed, and each partition has some of it: what is new in one that had nothing is nobody else's place, and goes."""
    for more in range(100):
        hospital.fill(seeded(seed + more * 1000, patients=4, garbage=0, merges=0))
        if all(end for _, end in hospital.evidence(over=False).bounds.values()):
            break
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []


def stopped(hospital: Hospital, worker: Worker, asked: int) -> str:
    """It ended by itself with one line, and the partner was asked for nothing since; the line's error."""
    assert worker.wait() == REFUSED, hospital.logs()
    (line,) = worker.events("offset_gone")
    assert line["route"] == ROUTE
    assert hospital.partners[PARTNER].requests == asked
    assert [text for text in worker.said.splitlines() if not text.startswith("{")] == [
        f"emr-pipeline run: {ROUTE}: {line['error']}"
    ]
    return str(line["error"])


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
def test_records_that_retention_took_before_they_were_read_stop_the_worker(
    hospital: Hospital, administrator: Administrator, seed: int, seen: Seen
) -> None:
    """What holds it: auto_offset_reset is none. With earliest the worker would go on behind the gap."""
    begun(hospital, seed)
    asked = hospital.partners[PARTNER].requests
    before = hospital.evidence()
    hospital.fill(seeded(seed + 100, patients=12))
    ends = {partition.partition: end for partition, (_, end) in hospital.evidence(over=False).bounds.items()}
    administrator.delete_records(hospital.source, {number: end - 1 for number, end in ends.items()})
    error = stopped(hospital, hospital.start(), asked)
    assert "the committed offset is not there any more" in error
    after = hospital.evidence(over=False)
    assert (after.committed, after.rows) == (before.committed, before.rows)
    seen("retention, deleted offsets, a topic made anew (stopped and running): exit 4, nothing sent")


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
@THOROUGH
def test_a_topic_that_was_made_anew_stops_the_worker_until_it_has_a_name_of_its_own(
    hospital: Hospital, administrator: Administrator, seed: int
) -> None:
    """Guard: the ledger's keyed hash of what stood in a place (Intake._one). The offsets go with the topic, and are put back by hand.

    Without it the first messages of the new topic are taken for those of the old one, and lost.
    """
    begun(hospital, seed)
    asked = hospital.partners[PARTNER].requests
    administrator.make_anew(hospital.source, 2)
    anew = seeded(seed + 100, patients=12, garbage=0, merges=0)
    hospital.traffic = NOTHING_YET
    hospital.fill(anew)
    stopped(hospital, hospital.start(), asked)
    administrator.set_offsets(hospital.group, hospital.source, {0: 0, 1: 0})
    assert "the ledger knows another message" in stopped(hospital, hospital.start(), asked)

    hospital.tree["routes"][ROUTE]["source"] += ".anew"  # as the runbook has it
    hospital.traffic = NOTHING_YET
    hospital.fill(anew)
    administrator.set_offsets(hospital.group, hospital.source, {0: 0, 1: 0})
    assert hospital.drain() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(replace(after, effects=[one for one in after.effects if one.number > asked])) == []
    assert {hospital.traffic.patient_of(one.identifier or "") for one in hospital.partners[PARTNER].log.effects()} >= anew.created


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
@THOROUGH
def test_a_topic_that_is_made_anew_under_a_running_worker_stops_it(
    hospital: Hospital, administrator: Administrator, seed: int
) -> None:
    """What holds it: Membership.check_ids, and an offset that went with the topic. kafka-python fetches by name, and might read on in the new one."""
    hospital.fill(seeded(seed, patients=4, garbage=0, merges=0))
    worker = hospital.start()
    hospital.until(hospital.settled)
    asked = hospital.asked()
    administrator.make_anew(hospital.source, 2)
    hospital.traffic = NOTHING_YET
    hospital.fill(seeded(seed + 100, patients=40, garbage=0, merges=0))  # the old offsets are in the new topic, too
    assert "the topic was made anew" in stopped(hospital, worker, asked)


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
@THOROUGH
def test_a_topic_that_is_deleted_under_a_running_worker_is_told(
    hospital: Hospital, administrator: Administrator, seed: int
) -> None:
    """Guard: KafkaBusConsumer._check_there. The group takes its partitions from everybody, and all would be quiet for ever."""
    hospital.fill(seeded(seed, patients=4, garbage=0, merges=0))
    worker = hospital.start()
    hospital.until(hospital.settled)
    administrator.delete(hospital.source)
    hospital.until(lambda: worker.events("bus_away"))
    (line,) = worker.events("bus_away")
    assert line["error"] == f"{hospital.source}: there is no such topic any more; find out who deleted it"
    assert worker.end() == 0, hospital.logs()


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
@THOROUGH
def test_offsets_that_somebody_deleted_stop_the_worker(hospital: Hospital, administrator: Administrator, seed: int) -> None:
    begun(hospital, seed)
    asked = hospital.partners[PARTNER].requests
    administrator.delete_offsets(hospital.group, hospital.source)
    assert "the group has no offset here" in stopped(hospital, hospital.start(), asked)


@pytest.mark.fault("R7", NO_JUMP)
@pytest.mark.once
@pytest.mark.parametrize("running", [pytest.param(True, marks=THOROUGH), False], ids=["running", "stopped"])
def test_a_partition_that_was_added_is_read_from_its_first_record_and_told(
    hospital: Hospital, administrator: Administrator, seed: int, *, running: bool
) -> None:
    """Guard: Membership._added. Without it the worker stops for want of an offset."""
    begun(hospital, seed)
    worker = hospital.start() if running else None
    if worker is not None:
        hospital.until(lambda: administrator.holders(hospital.group) == [2])
    administrator.partitions(hospital.source, 4)
    hospital.fill(seeded(seed + 100, patients=16))
    worker = worker or hospital.start()
    hospital.until(hospital.settled)
    assert sorted(line["partition"] for line in worker.events("partition_added")) == [
        f"{hospital.source}/2",
        f"{hospital.source}/3",
    ]
    assert worker.end() == 0, hospital.logs()
    after = hospital.evidence()
    assert all(end > 0 for _, end in after.bounds.values()), "each partition has records"
    assert violations(after) == []
    assert after.states == after.traffic.states
