"""A route whose source was given a new name: what the ledger has of the former topic comes to its end all the same. No offset is committed there.

The whole worker on the embedded bus and SQLite; only the partner answers from a script.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pipeline import flow, wiring
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import TopicPartition, Where
from pipeline.delivery.payloads import Payloads
from pipeline.delivery.planning import absent_of, judge, replay_of
from pipeline.errors import NoAnswer, Parked
from pipeline.ledger.plans import Deed, Mode, PlanState, What
from pipeline.ledger.port import Query
from pipeline.model import Position, Routed
from pipeline.stages.settle import settle
from schemas.outcomes import Reason, State
from tests.delivery.one_patient import BLOCKED, CANNOT_TELL, DELIVERED, create, identities, sent, states, update, working
from tests.delivery.partner_script import ROUTE, House, Killed, issue, run_beside, until

FORMER: Final = "his.adt"
PRESENT: Final = "his.adt-2"


def renamed(house: House) -> None:
    """As the runbook says (offset_gone): the route reads another topic, from its start."""
    house.topics = replace(house.topics, source=PRESENT)
    of_source = wiring.topic_settings(house.settings)[0]
    house.bus.create_topics([replace(of_source, name=PRESENT, partitions=1)])
    house.bus.start(house.settings.group_of(ROUTE), [PRESENT], Where.EARLIEST)


def drained(house: House) -> bool:
    """Whether a drain ends."""
    worker = house.worker()
    worker.drain()
    thread = run_beside(worker)
    thread.join(10)
    ended = not thread.is_alive()
    worker.stop.set()
    thread.join(60)
    return ended


def at(offset: int) -> Position:
    return Position(FORMER, 0, offset)


def released(house: House) -> str:
    """A plan of all that is parked; its name."""
    rows, payloads = house.ledger.find(Query(state=State.PARKED)), Payloads(house.bus, house.topics.dead_letters)
    judged = judge(rows, house.worker().plan, house.ledger, payloads, Mode())
    items, deed = [one.item(Mode()) for one in judged], Deed(house.clock(), "ana", What.PLAN, None, ROUTE)
    plan = replay_of(ROUTE, items, Mode(), deed, rate=1_000)
    house.ledger.replays.plan(plan, items, deed)
    house.ledger.replays.move(plan.id, PlanState.RELEASED, replace(deed, what=What.RUN, replay=plan.id))
    return plan.id


def test_what_was_parked_in_the_former_topic_is_replayed_and_a_drain_ends(a_house: Callable[..., House]) -> None:
    """Guard: Replayer._topics. With the source alone the plan stays released for ever, and `run --drain` with it."""
    house = a_house()
    house.send(create(1), create(2, "ANOTHER"))
    house.work([issue(400, "required")] * 2)
    renamed(house)
    plan = released(house)
    assert drained(house)
    assert states(house) == ["delivered"] * 2
    found = house.ledger.replays.get(plan)
    assert found is not None
    assert found.state is PlanState.DONE
    told = [(one.source_topic, one.source_offset) for one in house.results() if one.settled and one.state is State.DELIVERED]
    assert told == [(FORMER, 0), (FORMER, 1)]


def test_no_offset_of_the_former_topic_is_committed(a_house: Callable[..., House]) -> None:
    house = a_house(probe="off")
    house.send(create(1))
    with pytest.raises(Killed):
        house.work([Killed()])
    renamed(house)
    assert drained(house)
    assert house.settled() == [CANNOT_TELL]
    former = TopicPartition(FORMER, 0)
    with house.bus.consumer(house.settings.group_of(ROUTE), [FORMER]) as consumer:
        assert consumer.committed([former]) == {former: 0}


def test_what_waited_behind_another_comes_back_and_goes_before_what_is_read_from_the_new_topic(
    a_house: Callable[..., House],
) -> None:
    """Guard: Intake.restore. Without it the new message creates the patient, and the former ones wait for ever."""
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert house.settled() == [CANNOT_TELL, BLOCKED]
    renamed(house)
    house.ledger.forget("roche", identities(house, create()), by_operator=True)
    house.send(update(3))
    assert drained(house)
    assert (sent(house), sorted(states(house))) == (["POST 1", "POST 2", "PUT 3"], ["delivered", "delivered", "parked"])


def test_an_unknown_create_of_the_former_topic_that_is_not_there_is_sent_again(a_house: Callable[..., House]) -> None:
    house = a_house(probe="off")
    house.send(create(1))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    renamed(house)
    (row,) = house.ledger.find(Query(position=at(0)))
    deed = Deed(house.clock(), "ana", What.RESOLVE_ABSENT, "their service desk", ROUTE, at(0))
    house.ledger.decide(absent_of(deed, row, house.bus.fetch(at(0)), house.worker().plan).decided)
    assert drained(house)
    assert (sent(house), states(house)) == (["POST 1", "POST 1"], ["delivered"])


def test_what_a_crash_left_open_in_the_former_topic_is_found_out_and_a_drain_waits_for_it(a_house: Callable[..., House]) -> None:
    """Guard: Intake.none_open asks for former topics too. Without it the drain ends between the two attempts."""
    house = a_house(backoff_first=1.0, backoff_most=1.0)
    house.send(create(1))
    with pytest.raises(Killed):
        house.work([Killed()])
    renamed(house)
    house.script.answers = [issue(404, "not-found"), issue(503, "transient")]
    assert drained(house)
    assert (sent(house), states(house)) == (["POST 1", "PUT 1", "POST 1", "POST 1"], ["delivered"])


def test_what_is_nowhere_any_more_since_its_topic_is_gone_is_told_and_a_drain_ends(
    a_house: Callable[..., House], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    house = a_house()
    house.send(create(1))
    with pytest.raises(Killed):
        house.work([Killed()])
    before, house.bus = house.bus, EmbeddedBus(tmp_path / "anew")
    house.bus.create_topics(replace(topic, partitions=1) for topic in wiring.topic_settings(house.settings)[1:])
    renamed(house)
    house.send(update(3, "ANOTHER"))
    assert drained(house)
    assert capfd.readouterr().err.count('"payload_gone"') == 1
    assert (sent(house), house.settled()) == (["POST 1", "POST 3"], [DELIVERED])
    before.close()


def test_a_result_that_a_process_left_in_the_former_topic_is_told(a_house: Callable[..., House]) -> None:
    house = a_house()
    house.send(create(1))
    read, plan = house.bus.fetch(at(0)), house.worker().plan
    assert read is not None
    routed = flow.read(read, plan)
    assert isinstance(routed, Routed)
    outcome = flow.ended_outcome(Parked(Reason.PROFILE_REQUIRED), read, plan, routed.decoded, routed)
    topics = house.topics
    written = settle(outcome, plan, results_topic=topics.results, dead_letter_topic=topics.dead_letters, at_ms=house.clock())
    assert house.ledger.settle(written.settlement)
    renamed(house)
    with working(house):
        until(lambda: house.settled() == [(State.PARKED, Reason.PROFILE_REQUIRED)])
        until(lambda: [value for value, _ in house.dead_letters()] == [create(1)])
    assert house.script.requests == []


def test_after_a_second_new_name_the_oldest_topic_goes_first(a_house: Callable[..., House]) -> None:
    house = a_house(probe="off", hold=0.1)
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    renamed(house)
    house.send(update(3))
    assert drained(house)
    assert house.settled() == [CANNOT_TELL, BLOCKED, BLOCKED]
    house.topics = replace(house.topics, source="a")  # by name it would be the first
    house.bus.create_topics([replace(wiring.topic_settings(house.settings)[0], name="a", partitions=1)])
    house.bus.start(house.settings.group_of(ROUTE), ["a"], Where.EARLIEST)
    house.ledger.forget("roche", identities(house, create()), by_operator=True)
    house.send(update(4))
    assert drained(house)
    assert sent(house) == ["POST 1", "POST 2", "PUT 3", "PUT 4"]
