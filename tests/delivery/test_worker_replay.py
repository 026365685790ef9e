"""The worker executes what a plan releases: once, in the lanes, with results that name it; a kill at any point sends nothing twice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import flow
from pipeline.bus.embedded_producer import EmbeddedProducer
from pipeline.cli import main
from pipeline.errors import BusUnavailable, LedgerError, NoAnswer, Parked
from pipeline.failpoints import Point
from pipeline.ledger.plans import Deed, ItemState, PlanState, Taken, What
from pipeline.model import Decision, Knowledge, Outcome, Reply, Request, Routed
from pipeline.stages.plan import Plan
from schemas.outcomes import Reason, State
from tests.commands.replaying import MONDAY, TUESDAY, Hospital
from tests.delivery.partner_script import ROUTE, Killed, Script, Scripted, adt, created, issue, run_beside, until, updated

Call = Callable[..., str]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    house = Hospital(tmp_path)
    yield house
    house.close()


@pytest.fixture
def released(house: Hospital, capsys: pytest.CaptureFixture[str]) -> Call:
    """Plan and release; the plan's name."""

    def call(*words: str) -> str:
        capsys.readouterr()
        main(["replay", "plan", *words, "--rate", "1000", "--json", "--settings", str(house.settings_file)])
        name = str(json.loads(capsys.readouterr().out)["plan"])
        assert main(["replay", "run", "--plan", name, "--settings", str(house.settings_file)]) == 0
        house.script.requests.clear()
        return name

    return call


def refused(house: Hospital, *messages: bytes) -> None:
    house.send(*messages)
    house.work([issue(400, "required")] * len(messages))


def delivered(house: Hospital, *messages: bytes) -> None:
    house.send(*messages)
    house.work()


def state_of(house: Hospital, name: str) -> PlanState:
    plan = house.ledger.replays.get(name)
    assert plan is not None
    return plan.state


def test_what_was_parked_is_sent_once_and_its_result_names_the_plan(house: Hospital, released: Call) -> None:
    refused(house, adt(control_id="1"), adt(control_id="2", patient="99999999R"))
    name = released("--state", "parked")
    house.work()
    assert [path.split()[0] for path in house.paths()] == ["POST", "POST"]
    assert [(one.state, one.replay_id, one.settled) for one in house.results()[-2:]] == [(State.DELIVERED, name, True)] * 2
    assert state_of(house, name) is PlanState.DONE
    assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 2}
    house.work()
    assert len(house.script.requests) == 2


def test_what_is_parked_again_says_so_in_the_plan(house: Hospital, released: Call) -> None:
    refused(house, adt())
    name = released()
    house.work([issue(400, "required")])
    assert house.ledger.replays.progress(name).outcomes == {State.PARKED: 1}
    assert house.state(0) == (State.PARKED, Reason.REJECTED_REQUIRED)
    assert len(house.dead_letters()) == 2
    assert len({one.result_id for one in house.results()}) == len(house.results()) == 2


def test_what_was_delivered_is_sent_again_as_an_update_with_a_bundle_id_of_its_own(house: Hospital, released: Call) -> None:
    delivered(house, adt())
    first = house.script.requests[0]
    name = released("--include-delivered", "--why", "they lost it")
    house.work()
    (again,) = house.script.requests
    assert again.method == "PUT"
    assert orjson.loads(again.body)["id"] != orjson.loads(first.body)["id"]
    assert again.request_id != first.request_id
    assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 1}
    assert (house.results()[-1].state, house.results()[-1].replay_id) == (State.DELIVERED, name)


def test_a_resend_that_the_partner_refuses_leaves_the_record_delivered(house: Hospital, released: Call) -> None:
    delivered(house, adt())
    name = released("--include-delivered", "--why", "they lost it")
    house.work([issue(400, "invalid")])
    assert house.state(0) == (State.DELIVERED, None)
    last = house.results()[-1]
    assert (last.state, last.settled, last.replay_id) == (State.PARKED, False, name)
    assert house.dead_letters() == []
    assert house.ledger.replays.progress(name).outcomes == {State.PARKED: 1}
    delivered(house, adt("A08", "2", time=TUESDAY))
    assert house.state(1) == (State.DELIVERED, None)


def test_what_has_become_stale_since_it_was_planned_is_not_sent(house: Hospital, released: Call) -> None:
    refused(house, adt("A04", "1", time=MONDAY, diagnosis="E11.9"))  # which the newer one does not have, so it stays parked
    name = released()
    worker = house.ledger.replays
    worker.move(name, PlanState.PAUSED, _deed(house, name))
    delivered(house, adt("A08", "2", time=TUESDAY))
    worker.move(name, PlanState.RELEASED, _deed(house, name))
    house.script.requests.clear()
    house.work()
    assert house.script.requests == []
    assert house.state(0) == (State.SUPERSEDED, Reason.STALE)
    assert state_of(house, name) is PlanState.DONE


def _deed(house: Hospital, name: str) -> Deed:
    return Deed(house.clock(), "ana", What.PAUSE, None, ROUTE, None, name)


def test_forced_the_older_one_goes(house: Hospital, released: Call) -> None:
    refused(house, adt("A04", "1", time=MONDAY, diagnosis="E11.9"))  # which the newer one does not have, so it stays parked
    delivered(house, adt("A08", "2", time=TUESDAY))
    released("--state", "parked", "--force", "--why", "agreed")
    house.work()
    assert [path.split()[0] for path in house.paths()] == ["PUT"]
    assert house.state(0) == (State.DELIVERED, None)


def test_a_create_that_an_operator_says_is_absent_is_sent_again(house: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    house.set_partner(probe="off")
    house.send(adt())
    house.work([NoAnswer(Reason.TIMEOUT)])
    assert house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL)
    assert main(["resolve", "his.adt/0/0", "--absent", "--why", "asked", "--settings", str(house.settings_file)]) == 0
    capsys.readouterr()
    house.script.requests.clear()
    house.work()
    assert [path.split()[0] for path in house.paths()] == ["POST"]
    assert house.state(0) == (State.DELIVERED, None)


def test_a_create_that_an_operator_says_is_absent_while_it_waits_in_its_lane_is_sent_again(house: Hospital) -> None:
    house.set_partner(probe_margin=50.0)
    house.set_delivery(hold=0.1)
    house.send(adt())
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: worker.pool.waiting == (0, 1))
    assert house.state(0) == (State.PARKED, Reason.AWAITING_PROBE)
    assert main(["resolve", "his.adt/0/0", "--absent", "--why", "asked", "--settings", str(house.settings_file)]) == 0
    until(lambda: house.state(0) == (State.DELIVERED, None))
    worker.stop.set()
    thread.join(60)
    assert [path.split()[0] for path in house.paths()] == ["POST", "POST"]


def counts(house: Hospital) -> dict[State, int]:
    return house.ledger.counts().get(ROUTE, {})


@pytest.mark.parametrize("which", ["--absent", "--delivered"])
def test_what_an_operator_says_of_a_create_counts_at_once_and_not_when_its_probe_is_due(
    house: Hospital, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """NJSAMS's is due after a day. What waits behind the create is another of its patient's messages."""
    monkeypatch.setattr("pipeline.delivery.courier.BLOCKED_PAUSE", 0.05)
    house.set_partner(probe_margin=90_000.0)
    house.set_delivery(hold=0.1)
    house.send(adt("A04", "1", time=MONDAY), adt("A08", "2", time=TUESDAY))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: counts(house) == {State.PARKED: 2})
    assert [house.state(number)[1] for number in (0, 1)] == [Reason.AWAITING_PROBE, Reason.BLOCKED_BEHIND]
    assert main(["resolve", "his.adt/0/0", which, "--why", "asked", "--settings", str(house.settings_file)]) == 0
    until(lambda: house.state(1) == (State.DELIVERED, None))
    worker.stop.set()
    thread.join(60)
    methods = [path.split()[0] for path in house.paths()]
    assert methods == {"--absent": ["POST", "POST", "PUT"], "--delivered": ["POST", "PUT"]}[which]
    assert house.state(0)[0] is State.DELIVERED


def test_what_an_operator_discards_while_it_waits_lets_its_other_patients_go(
    house: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names two patients: one whose create is unknown, and one whose next message waits for nothing else."""
    monkeypatch.setattr("pipeline.delivery.courier.BLOCKED_PAUSE", 0.05)
    house.set_partner(probe="off")
    other = "99999999R"
    both = adt("A08", "2", time=TUESDAY).replace(b"12345678Z^^^CIP^PI", f"12345678Z^^^CIP^PI~{other}^^^CIP^PI".encode())
    house.send(adt("A04", "1", time=MONDAY), both, adt("A04", "3", patient=other, time=TUESDAY))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: counts(house) == {State.PARKED: 2})
    assert main(["discard", "his.adt/0/1", "--why", "another's number", "--settings", str(house.settings_file)]) == 0
    until(lambda: counts(house) == {State.PARKED: 1, State.DISCARDED: 1, State.DELIVERED: 1})
    worker.stop.set()
    thread.join(60)
    assert house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL)


def test_of_a_cancelled_plan_what_the_partner_refused_so_far_is_not_tried_again(house: Hospital, released: Call) -> None:
    """As where the partner is away for hours: seen to be sent when it was back."""
    refused(house, *(adt(control_id=str(number), patient=f"{number}2345678Z") for number in range(4)))
    name, replays = released(), house.ledger.replays
    house.script.answers = [issue(503, "transient")] * 10_000
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: replays.progress(name).states == {ItemState.TAKEN: 4} and len(house.script.requests) > 0)
    replays.move(name, PlanState.CANCELLED, _deed(house, name))
    until(lambda: ItemState.TAKEN not in replays.progress(name).states)
    house.script.answers = []
    sent = len(house.script.requests)
    worker.stop.set()
    thread.join(60)
    assert (len(house.script.requests), worker.courier.replaying, state_of(house, name)) == (sent, 0, PlanState.CANCELLED)
    assert {house.state(number)[0] for number in range(4)} == {State.PARKED}
    released()  # none of them is any plan's
    house.work()
    assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 4}


@pytest.mark.parametrize("shut", [False, True], ids=["partner back", "partner shut"])
def test_of_a_plan_that_was_cancelled_while_the_worker_was_away_nothing_is_tried_again_either(
    house: Hospital, released: Call, shut: bool
) -> None:
    """Seen to be sent once more after a restart. Where the partner takes nothing still, it is free for another plan all the same."""
    refused(house, *(adt(control_id=str(number), patient=f"{number}2345678Z") for number in range(4)))
    name, replays = released(), house.ledger.replays
    house.script.answers = [issue(503, "transient")] * 10_000
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: replays.progress(name).states == {ItemState.TAKEN: 4} and State.PENDING in counts(house))
    worker.stop.set()
    thread.join(60)
    replays.move(name, PlanState.CANCELLED, _deed(house, name))
    house.script.answers, sent = [], len(house.script.requests)
    worker = house.worker()
    if shut:
        worker.gate.told(Decision.THROTTLED, Reason.THROTTLED, retry_after=600, by="another route")
    thread = run_beside(worker)
    until(lambda: ItemState.TAKEN not in replays.progress(name).states)
    worker.stop.set()
    thread.join(60)
    assert (len(house.script.requests), worker.courier.replaying) == (sent, 0)
    assert {house.state(number)[0] for number in range(4)} == {State.PARKED}
    released()  # none of them is any plan's


@pytest.mark.parametrize("cancelled", [False, True], ids=["released", "cancelled meanwhile"])
def test_a_plan_goes_on_though_the_answer_to_taking_its_records_was_lost(
    house: Hospital, released: Call, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    refused(house, adt(control_id="1"), adt(control_id="2", patient="99999999R"))
    name, replays = released(), house.ledger.replays
    take, lost = replays.next, list[Taken]()

    def next_(*asked: Any) -> list[Taken]:  # noqa: ANN401 - as the port has it
        found = take(*asked)
        if lost or not found:
            return found
        lost.extend(found)
        if cancelled:
            replays.move(name, PlanState.CANCELLED, _deed(house, name))
        raise LedgerError("the connection was lost at COMMIT")

    monkeypatch.setattr(replays, "next", next_)
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: len(lost) == 2 and ItemState.TAKEN not in replays.progress(name).states)
    assert state_of(house, name) is (PlanState.CANCELLED if cancelled else PlanState.DONE)
    assert len(house.script.requests) == (0 if cancelled else 2)
    if cancelled:
        name = released()
        until(lambda: state_of(house, name) is PlanState.DONE)
    worker.stop.set()
    thread.join(60)
    assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 2}
    assert len(house.script.requests) == 2


def test_the_rate_of_the_plan_is_kept(house: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    refused(house, *(adt(control_id=str(number), patient=f"{number}2345678Z") for number in range(4)))
    main(["replay", "plan", "--rate", "5", "--json", "--settings", str(house.settings_file)])
    name = json.loads(capsys.readouterr().out.splitlines()[-1])["plan"]
    main(["replay", "run", "--plan", name, "--settings", str(house.settings_file)])
    began = time.monotonic()
    house.work()
    assert state_of(house, name) is PlanState.DONE
    assert time.monotonic() - began >= 0.6


@dataclass
class Door(Script):
    """The first request is out until somebody opens."""

    door: threading.Event = field(default_factory=threading.Event)

    def exchange(self, request: Request) -> Reply:
        answer = super().exchange(request)
        assert self.door.wait(60)
        return answer


@pytest.mark.parametrize("to", [PlanState.PAUSED, PlanState.CANCELLED])
def test_of_a_plan_that_is_stopped_nothing_more_is_begun_though_it_was_taken(
    house: Hospital, released: Call, to: PlanState
) -> None:
    refused(house, *(adt(control_id=str(number), patient=f"{number}2345678Z") for number in range(4)))
    name, replays = released(), house.ledger.replays
    house.script = script = Door()
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: len(script.requests) == 1 and replays.progress(name).states == {ItemState.TAKEN: 4})
    replays.move(name, to, _deed(house, name))
    script.door.set()
    ends = ItemState.WAITING if to is PlanState.PAUSED else ItemState.LEFT_OUT
    until(lambda: replays.progress(name).states == {ItemState.DONE: 1, ends: 3})
    assert (state_of(house, name), len(script.requests)) == (to, 1)
    if to is PlanState.PAUSED:
        replays.move(name, PlanState.RELEASED, _deed(house, name))
    else:
        name = released()
    until(lambda: state_of(house, name) is PlanState.DONE)
    worker.stop.set()
    thread.join(60)
    assert worker.courier.replaying == 0
    assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 4}
    assert len([path for path in house.paths() if path.startswith("POST")]) == (4 if to is PlanState.PAUSED else 3)


@pytest.mark.parametrize("to", [PlanState.PAUSED, PlanState.CANCELLED])
def test_what_waits_behind_an_unknown_create_is_given_back_too_when_its_plan_is_stopped(
    house: Hospital, released: Call, monkeypatch: pytest.MonkeyPatch, to: PlanState
) -> None:
    """Seen to stay taken until a person ended the create."""
    monkeypatch.setattr("pipeline.delivery.courier.BLOCKED_PAUSE", 0.05)
    refused(house, adt("A04", "1", time=MONDAY, diagnosis="E11.9"), adt("A08", "2", time=TUESDAY))
    house.set_partner(probe="off")
    name, replays = released(), house.ledger.replays
    house.script.answers.append(NoAnswer(Reason.TIMEOUT))
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL))
    until(lambda: replays.progress(name).states == {ItemState.DONE: 1, ItemState.TAKEN: 1})
    replays.move(name, to, _deed(house, name))
    ends = ItemState.WAITING if to is PlanState.PAUSED else ItemState.LEFT_OUT
    until(lambda: replays.progress(name).states == {ItemState.DONE: 1, ends: 1})
    worker.stop.set()
    thread.join(60)
    assert (len(house.script.requests), worker.courier.replaying) == (1, 0)


def test_what_a_cancelled_plan_had_taken_is_free_after_a_restart(house: Hospital, released: Call) -> None:
    """Seen to be refused for ever: the cancelled plan had a record of the new one, and nobody ended that."""
    refused(house, adt())
    name = released()
    assert len(house.ledger.replays.next(ROUTE, house.topics.source, {0: "a worker that is no more"}, 10)) == 1
    house.ledger.replays.move(name, PlanState.CANCELLED, _deed(house, name))
    house.work()
    assert house.script.requests == []
    name = released()
    house.work()
    assert (state_of(house, name), house.state(0)) == (PlanState.DONE, (State.DELIVERED, None))


def test_what_an_operator_decided_and_could_not_tell_is_told_at_the_next_start(
    house: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(house, adt())

    def away(*_: object) -> None:
        raise BusUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedProducer, "append", away)
        assert main(["discard", "his.adt/0/0", "--why", "x", "--settings", str(house.settings_file)]) == 2
    house.work()
    assert house.settled()[-1] == (State.DISCARDED, Reason.OPERATOR)
    assert house.ledger.unemitted(ROUTE, house.topics.source, 0) == []


def test_after_a_number_that_moved_both_patients_wait_and_go_when_it_is_discarded(house: Hospital) -> None:
    later = "20240503101500+0200"
    delivered(house, adt("A04", "1", patient="PRIOR1"))
    delivered(
        house,
        adt("A43", "2", patient="NEW1", prior="PRIOR1"),
        adt("A08", "3", patient="PRIOR1", time=later),
        adt("A04", "4", patient="NEW1", time=later),
        adt("A04", "5", patient="OTHER1"),
    )
    waits = (State.PARKED, Reason.BLOCKED_BEHIND)
    gone = (State.DELIVERED, None)
    assert [house.state(number) for number in range(5)] == [gone, (State.PARKED, Reason.NUMBER_MOVED), waits, waits, gone]
    assert [path.split()[0] for path in house.paths()] == ["POST", "POST"]
    assert main(["discard", "his.adt/0/1", "--why", "PRIOR1 is the old one's", "--settings", str(house.settings_file)]) == 0
    house.work()
    assert [house.state(number) for number in range(1, 5)] == [(State.DISCARDED, Reason.OPERATOR), gone, gone, gone]
    assert [path.split()[0] for path in house.paths()] == ["POST", "POST", "PUT", "POST"]


# killed


def killed_at(house: Hospital, point: Point, answers: list[Scripted], monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(reached: Point) -> None:
        if reached is point:
            raise Killed

    with monkeypatch.context() as patched:
        for module in ("attempts", "courier", "emitter"):
            patched.setattr(f"pipeline.delivery.{module}.reach", reach)
        with pytest.raises(Killed):
            house.work(answers)
    house.script.answers.clear()


def test_a_message_parked_behind_a_resend_that_was_killed_lets_the_resend_go_first(
    house: Hospital, released: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.set_delivery(hold=0.01)
    delivered(house, adt("A04", "1", time=MONDAY))
    released("--include-delivered", "--why", "they lost it")
    killed_at(house, Point.AFTER_INTENT, [updated()], monkeypatch)
    house.send(adt("A08", "2", time=TUESDAY))
    worker = house.worker()
    take_up = worker.replayer.due
    monkeypatch.setattr(worker.replayer, "due", lambda room: take_up(room) if worker.pool.waiting == (0, 1) else [])
    thread = run_beside(worker)
    until(lambda: house.ledger.counts()[ROUTE] == {State.DELIVERED: 2} and not worker.courier.replaying)
    worker.stop.set()
    thread.join(60)


POINTS = [Point.AFTER_INTENT, Point.AFTER_ANSWER, Point.AFTER_LEDGER_SETTLED, Point.AFTER_RESULT_PRODUCED]


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_a_replay_of_a_parked_create_creates_once(
    house: Hospital, released: Call, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.set_partner(probe_margin=-10.0)  # the probe may ask at once
    refused(house, adt())
    name = released()
    killed_at(house, point, [created()], monkeypatch)
    house.work([updated()] if point in POINTS[:2] else [])
    assert [path.split()[0] for path in house.paths()].count("POST") <= 1
    assert house.state(0) == (State.DELIVERED, None)
    assert state_of(house, name) is PlanState.DONE
    settled = [one for one in house.results() if one.settled and one.replay_id == name]
    assert len({one.result_id for one in settled}) == 1


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_a_resend_ends_and_lets_the_lane_go(
    house: Hospital, released: Call, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(house, adt("A04", "1", time=MONDAY))
    name = released("--include-delivered", "--why", "they lost it")
    killed_at(house, point, [updated()], monkeypatch)
    sent = len(house.script.requests)
    house.send(adt("A08", "2", time=TUESDAY))
    house.work()
    assert len(house.script.requests) - sent == (2 if point in POINTS[:2] else 1)
    assert (house.state(0), house.state(1)) == ((State.DELIVERED, None), (State.DELIVERED, None))
    assert state_of(house, name) is PlanState.DONE


def test_an_open_create_that_no_longer_mapped_is_probed_by_its_replay_and_not_sent_twice(
    house: Hospital, released: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner did it; the process was killed; a mistaken mapping parked the message for that; the mapping was mended."""
    house.set_partner(probe_margin=-10.0)  # its probe is due
    house.send(adt())
    with pytest.raises(Killed):
        house.work([Killed()])
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.flow.prepare", does_not_map)
        house.work()
    assert house.state(0) == (State.PARKED, Reason.MAPPING_FAILED)
    released("--state", "parked")
    house.work([updated()])
    assert (house.state(0)[0], [path.split()[0] for path in house.paths()]) == (State.DELIVERED, ["PUT"])


def does_not_map(routed: Routed, _knowledge: Knowledge, plan: Plan) -> Outcome:
    ended = Parked(Reason.MAPPING_FAILED, where="patient.json.j2:3")
    return flow.ended_outcome(ended, routed.decoded.received, plan, routed.decoded, routed)
