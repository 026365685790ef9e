"""A delivery of two requests: each has its intent and its answer, and what is done is done once, whatever happens in between."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.delivery.attempts import Delivery, Elsewhere, Later
from pipeline.delivery.gate import Gate
from pipeline.failpoints import Point
from pipeline.ledger.plans import Deed, ItemState, PlanState, What
from pipeline.ledger.port import Begun
from pipeline.model import Intent, Learned
from pipeline.transport.port import landed
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import ROUTE, Killed, Serving, run_beside, until
from tests.delivery.promises import soon
from tests.delivery.test_attempts import Desk
from tests.delivery.two_steps import TUESDAY, WEDNESDAY, Clinic, Fault, TwoSteps, clinic, reaching, visit

PATIENT, V1, V2 = "patient|12345678Z", "visit|V1", "visit|V2"
FIRST, SECOND = visit(), visit("A01", "2", number="V2", time=TUESDAY)
"""The patient's first visit creates both; the second updates the patient, then creates the visit."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Clinic]:
    with clinic(tmp_path) as house:
        yield house


@pytest.fixture
def known(house: Clinic) -> Clinic:
    """The patient and the first visit are there, and the second visit's message waits."""
    house.send(FIRST)
    house.drain()
    house.registry.requests.clear()
    house.send(SECOND)
    return house


def killed_at(house: Clinic, point: Point, passing: int, *faults: Fault) -> None:
    """Work, and die where the point is passed for the `passing`-th time."""
    passed: list[str] = []

    def die(reached: str) -> None:
        passed.extend([reached] if reached is point else [])
        if len(passed) == passing and reached is point:
            raise Killed

    with reaching(die), pytest.raises(Killed):
        house.drain(*faults)


def once_each(house: Clinic) -> bool:
    """Both visits and the patient were created once, and the second message's update was done."""
    return house.registry.created == {PATIENT: 1, V1: 1, V2: 1} and [PATIENT] in house.registry.updates


def test_what_is_new_alone_goes_in_one_request_and_what_is_known_before_it_in_one_of_its_own(house: Clinic) -> None:
    house.send(FIRST, SECOND)
    house.drain()
    assert (house.registry.methods, house.registry.created) == (["POST", "PUT", "POST"], {PATIENT: 1, V1: 1, V2: 1})
    assert house.registry.updates == [[PATIENT]]


def test_each_request_has_its_result_and_only_the_last_settles(known: Clinic) -> None:
    known.drain()
    assert [(one.settled, one.state, one.step, one.attempt, one.confirmed_by) for one in known.results()[1:]] == [
        (False, State.PENDING, 0, 1, "response"),
        (True, State.DELIVERED, 1, 2, "response"),
    ]
    assert known.ledger.counts()[ROUTE] == {State.DELIVERED: 2}


def test_a_visit_that_is_known_is_updated_with_its_patient(known: Clinic) -> None:
    known.send(visit("A08", "3", number="V2", time=WEDNESDAY))
    known.drain()
    assert known.registry.updates[-1] == [PATIENT, V2]
    assert once_each(known)


STEPS = [Point.AFTER_INTENT, Point.AFTER_ANSWER]
CRASHES = [
    *((point, passing) for point in STEPS for passing in (1, 2)),
    (Point.AFTER_STEP, 1),
    (Point.AFTER_LEDGER_SETTLED, 1),
    (Point.AFTER_RESULT_PRODUCED, 1),
]


@pytest.mark.parametrize(("point", "passing"), CRASHES)
def test_killed_anywhere_each_step_has_its_effect_once_or_as_an_update_again(known: Clinic, point: Point, passing: int) -> None:
    killed_at(known, point, passing)
    known.drain()
    assert once_each(known)
    assert known.registry.updates.count([PATIENT]) == (2 if (point, passing) == (Point.AFTER_ANSWER, 1) else 1)
    settled = [one for one in known.results() if one.settled and one.source_offset == 1]
    assert (len({one.result_id for one in settled}), settled[0].state) == (1, State.DELIVERED)


def test_killed_between_the_steps_the_first_is_not_sent_again(known: Clinic) -> None:
    killed_at(known, Point.AFTER_STEP, 1)
    known.registry.requests.clear()
    known.drain()
    assert known.registry.methods == ["POST"]


@pytest.mark.parametrize(
    ("faults", "methods"),
    [
        ([Fault.LOST], ["PUT", "PUT", "POST"]),
        ([Fault.SWALLOWED], ["PUT", "PUT", "POST"]),
        ([Fault.NONE, Fault.LOST], ["PUT", "POST", "GET"]),
        ([Fault.NONE, Fault.SWALLOWED], ["PUT", "POST", "GET", "POST"]),
        ([Fault.NONE, Fault.LOST, Fault.SWALLOWED], ["PUT", "POST", "GET", "GET"]),
        ([Fault.NONE, Fault.BUSY, Fault.BUSY], ["PUT", "POST", "POST", "POST"]),
        ([Fault.BUSY, Fault.NONE, Fault.DOWN], ["PUT", "PUT", "POST", "POST"]),
    ],
    ids=["update lost", "update swallowed", "create lost", "create swallowed", "probe lost", "throttled between", "down"],
)
def test_what_goes_wrong_with_a_step_is_that_steps_alone(known: Clinic, faults: list[Fault], methods: list[str]) -> None:
    known.drain(*faults)
    assert known.registry.methods == methods
    assert once_each(known)


def test_an_unknown_step_is_found_out_by_the_next_process_on_its_own(known: Clinic) -> None:
    with pytest.raises(Killed):
        known.drain(Fault.NONE, Fault.KILLED)
    known.drain()
    assert known.registry.methods == ["PUT", "POST", "GET"]
    assert (once_each(known), known.results()[-1].possible_duplicate) == (True, True)


def test_what_a_probe_finds_a_part_of_is_known_from_then_on_and_the_rest_is_asked_for(house: Clinic) -> None:
    house.send(FIRST)
    house.drain(Fault.LOST)
    assert house.registry.methods == ["POST", "GET", "GET"]
    assert [orjson.loads(one.body)[0][0] for one in house.registry.requests[1:]] == [PATIENT, V1]
    house.send(visit("A08", "3", time=WEDNESDAY))
    house.drain()
    assert (house.registry.updates, house.registry.created) == ([[PATIENT, V1]], {PATIENT: 1, V1: 1})


@pytest.mark.parametrize(("hours", "left"), [(0, 24), (1, 24), (10, 15), (30, 0)])
def test_a_probe_that_is_due_in_a_day_does_not_begin_its_day_anew_with_each_process(
    known: Clinic, hours: float, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the wall clocks, which may be wrong by an hour."""
    with pytest.raises(Killed):
        known.drain(Fault.NONE, Fault.KILLED)
    monkeypatch.setattr(TwoSteps, "probe_after", lambda *_: 24 * 3600.0)
    seen = known.ledger.seen(ROUTE, known.at(1))
    assert seen is not None
    sent = seen.sent_ms or 0
    known.clock = lambda: sent + int(hours * 3_600_000)
    desk = Desk(known)
    later = landed(Delivery(desk.routed(SECOND, 1), desk.plan, desk.hands(), seen).step())
    assert round(later.seconds / 3600, 3) == left if isinstance(later, Later) else left == 0


def released(house: Clinic, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    capsys.readouterr()
    main(["replay", "plan", *words, "--rate", "1000", "--json", "--settings", str(house.settings_file)])
    name = str(json.loads(capsys.readouterr().out)["plan"])
    assert main(["replay", "run", "--plan", name, "--settings", str(house.settings_file)]) == 0
    house.registry.requests.clear()


def test_a_replay_of_what_was_parked_at_its_second_step_sends_that_step_alone(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    known.drain(Fault.NONE, Fault.REFUSED)
    assert known.state(1) == (State.PARKED, Reason.REJECTED_INVALID)
    released(known, capsys, "--state", "parked")
    known.drain()
    assert (known.registry.methods, known.state(1)) == (["POST"], (State.DELIVERED, None))
    assert once_each(known)


@pytest.mark.parametrize("faults", [[], [Fault.LOST], [Fault.SWALLOWED, Fault.DOWN]])
def test_what_an_operator_brought_in_between_the_steps_is_updated_and_not_taken_for_done(
    known: Clinic, capsys: pytest.CaptureFixture[str], faults: list[Fault]
) -> None:
    """The first step said nothing of the visit: it was not known then. Else the record were delivered without it."""
    known.drain(Fault.NONE, Fault.REFUSED)
    known.registry.has[V2] = "theirs"
    known.ledger.import_identities("roche", [Learned(Desk(known).routed(SECOND, 1).parts[0], "theirs")])
    released(known, capsys, "--state", "parked")
    known.drain(*faults)
    assert (known.registry.updates[-1], known.state(1)) == ([PATIENT, V2], (State.DELIVERED, None))
    assert set(known.registry.methods) == {"PUT"}


def test_what_was_brought_in_and_is_killed_on_its_way_is_sent_all_the_same(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    known.drain(Fault.NONE, Fault.REFUSED)
    known.registry.has[V2] = "theirs"
    known.ledger.import_identities("roche", [Learned(Desk(known).routed(SECOND, 1).parts[0], "theirs")])
    released(known, capsys, "--state", "parked")
    killed_at(known, Point.AFTER_INTENT, 1)
    known.drain()
    assert (known.registry.updates[-1], known.state(1)) == ([PATIENT, V2], (State.DELIVERED, None))


def brought_in(house: Clinic) -> None:
    """The second visit, by whoever has asked the partner, who has it."""
    house.registry.has[V2] = "theirs"
    house.ledger.import_identities("roche", [Learned(Desk(house).routed(SECOND, 1).parts[0], "theirs")])
    house.registry.requests.clear()


def test_a_create_that_was_killed_on_its_way_and_whose_visit_was_brought_in_then_is_an_update(known: Clinic) -> None:
    """Nothing has said of the unknown create that it was done. Guard: Delivery._chosen."""
    killed_at(known, Point.AFTER_INTENT, 2)
    brought_in(known)
    known.drain()
    assert (known.registry.methods, known.registry.updates[-1]) == (["PUT"], [PATIENT, V2])
    assert known.state(1) == (State.DELIVERED, None)


def test_a_create_that_awaits_its_probe_and_whose_visit_was_brought_in_then_is_an_update_at_once(
    known: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe would be due in a day, and is needed no longer. Guard: Delivery.early, of updates alone."""
    monkeypatch.setattr(TwoSteps, "probe_after", lambda *_: 86_400.0)
    known.set_delivery(hold=0.1)
    known.drain(Fault.NONE, Fault.SWALLOWED)
    assert known.state(1) == (State.PARKED, Reason.AWAITING_PROBE)
    brought_in(known)
    known.drain()
    assert (known.registry.methods, known.registry.updates[-1]) == (["PUT"], [PATIENT, V2])
    assert known.state(1) == (State.DELIVERED, None)


def test_a_resend_of_a_delivered_one_sends_all_of_it_again_as_an_update(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    known.drain()
    released(known, capsys, "--position", "his.adt/0/1", "--include-delivered", "--why", "they lost it")
    known.drain()
    assert (known.registry.methods, known.registry.updates[-1]) == (["PUT"], [PATIENT, V2])


def test_a_resend_killed_between_its_steps_goes_on_with_what_is_left_and_the_next_resend_begins_anew(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    known.drain()
    again = "--position", "his.adt/0/1", "--include-delivered", "--why", "they lost it"
    known.ledger.forget("roche", Desk(known).routed(SECOND, 1).parts)
    released(known, capsys, *again)
    killed_at(known, Point.AFTER_STEP, 1)
    assert known.registry.methods == ["PUT"]
    known.drain()
    assert (known.registry.methods, known.state(1)) == (["PUT", "POST"], (State.DELIVERED, None))
    released(known, capsys, *again)
    known.drain()
    assert known.registry.methods == ["PUT"]


@pytest.mark.parametrize("moves", [[PlanState.CANCELLED], [PlanState.PAUSED, PlanState.CANCELLED]], ids=" ".join)
def test_after_a_resend_that_was_cancelled_between_its_steps_the_next_one_begins_with_the_first(
    known: Clinic, capsys: pytest.CaptureFixture[str], moves: list[PlanState]
) -> None:
    """Seen to leave out the first: the second resend went on where the first one had ended."""
    known.drain()
    again = "--position", "his.adt/0/1", "--include-delivered", "--why", "they lost it"
    known.ledger.forget("roche", Desk(known).routed(SECOND, 1).parts)
    known.registry.has.pop(V2)
    released(known, capsys, *again)
    (plan,), replays = known.ledger.replays.all(ROUTE), known.ledger.replays
    known.registry.faults = [Fault.NONE] + [Fault.DOWN] * 10_000
    worker = known.worker(known.registry)
    thread = run_beside(worker)
    until(lambda: "POST" in known.registry.methods)
    for to in moves:
        replays.move(plan.id, to, Deed(known.clock(), "ana", What.PAUSE, None, ROUTE, None, plan.id))
        until(lambda: ItemState.TAKEN not in replays.progress(plan.id).states)
    worker.stop.set()
    thread.join(60)
    released(known, capsys, *again)
    known.drain()
    assert (known.registry.methods, known.state(1)) == (["PUT", "POST"], (State.DELIVERED, None))


def test_a_resend_that_was_paused_between_its_steps_goes_on_with_what_is_left(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    known.drain()
    known.ledger.forget("roche", Desk(known).routed(SECOND, 1).parts)
    known.registry.has.pop(V2)
    released(known, capsys, "--position", "his.adt/0/1", "--include-delivered", "--why", "they lost it")
    (plan,), replays = known.ledger.replays.all(ROUTE), known.ledger.replays
    known.registry.faults = [Fault.NONE] + [Fault.DOWN] * 10_000
    worker = known.worker(known.registry)
    thread = run_beside(worker)
    until(lambda: "POST" in known.registry.methods)
    replays.move(plan.id, PlanState.PAUSED, Deed(known.clock(), "ana", What.PAUSE, None, ROUTE, None, plan.id))
    until(lambda: replays.progress(plan.id).states == {ItemState.WAITING: 1})
    worker.stop.set()
    thread.join(60)
    replays.move(plan.id, PlanState.RELEASED, Deed(known.clock(), "ana", What.RESUME, None, ROUTE, None, plan.id))
    known.registry.requests.clear()
    known.drain()
    assert (known.registry.methods, known.state(1)) == (["POST"], (State.DELIVERED, None))


def test_a_process_that_stood_still_between_the_steps_finds_another_ahead_and_sends_nothing(known: Clinic) -> None:
    desk = Desk(known)
    routed = desk.routed(SECOND, 1)
    delivery = Delivery(routed, desk.plan, desk.hands())
    landed(delivery.step())
    seen = known.ledger.seen(ROUTE, known.at(1))
    other = Delivery(routed, desk.plan, desk.hands(), seen)
    assert not isinstance(landed(other.step()), Elsewhere)
    with pytest.raises(Elsewhere):
        landed(delivery.step())
    assert known.registry.methods == ["PUT", "POST"]


def test_a_late_answer_to_the_first_step_takes_nothing_from_the_process_that_went_on(known: Clinic) -> None:
    """It stood still before it read the answer; meanwhile another sent the update again, and has its create open."""
    desk = Desk(known)
    routed = desk.routed(SECOND, 1)
    late, other = (Delivery(routed, desk.plan, desk.hands()) for _ in range(2))
    exchange = known.registry.exchange

    def stands_still(request: object) -> object:
        answered = exchange(request)  # type: ignore[arg-type]
        known.registry.exchange = exchange  # type: ignore[method-assign]
        seen = known.ledger.seen(ROUTE, known.at(1))
        other.__init__(routed, desk.plan, desk.hands(), seen)  # type: ignore[misc]
        landed(other.step())
        known.registry.faults = [Fault.LOST]
        landed(other.step())
        return answered

    known.registry.exchange = stands_still  # type: ignore[method-assign, assignment]
    landed(late.step())
    knowledge = known.ledger.knowledge(desk.routed(visit("A08", "9", number="V2", time=WEDNESDAY), 9))
    assert (knowledge.open_create, knowledge.known.keys() >= {routed.parts[0]}) == (known.at(1), False)


def on(point: Point, action: Callable[[], object]) -> Callable[[str], None]:
    def reached_one(reached: str) -> None:
        if reached is point:
            action()

    return reached_one


FAULTS = st.lists(st.sampled_from([fault for fault in Fault if fault is not Fault.REFUSED]), max_size=6)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs=st.lists(st.tuples(FAULTS, st.sampled_from([None, *STEPS, Point.AFTER_STEP])), max_size=4))
def test_whatever_fails_and_whenever_it_dies_nothing_is_created_twice_and_all_arrives(
    runs: list[tuple[list[Fault], Point | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of step 0, an update, an effect more for each answer that was lost on the way, and for each death."""
    with clinic(tmp_path_factory.mktemp("clinic")) as house:
        house.send(FIRST, SECOND, visit("A08", "3", number="V1", time=WEDNESDAY))
        deaths = 0
        for faults, point in runs:
            try:
                with reaching(on(point, die) if point else lambda _: None):
                    house.drain(*faults)
            except Killed:
                deaths += 1
        house.drain()
        assert house.registry.created == {PATIENT: 1, V1: 1, V2: 1}
        assert house.ledger.counts()[ROUTE] == {State.DELIVERED: 3}
        lost = sum(fault in {Fault.LOST, Fault.KILLED} for faults, _ in runs for fault in faults)
        assert house.registry.updates.count([PATIENT]) <= 1 + lost + deaths
        assert house.registry.updates[-1] == [PATIENT, V1]


def die() -> None:
    raise Killed


def test_the_intent_of_each_request_names_its_step(known: Clinic) -> None:
    begun: list[tuple[int, Intent]] = []
    begin = known.ledger.begin

    def begins(one: Begun) -> None:
        begun.append((one.step, one.intent))
        begin(one)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(known.ledger, "begin_soon", soon(begins))
        known.drain()
    assert begun == [(0, Intent.UPDATE), (1, Intent.CREATE)]


def test_a_step_that_arrived_as_an_operator_says_is_not_sent_again_and_the_next_one_goes(
    known: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guard: planning.rest_of. Without it the record is closed, and its visit never created."""
    parked_at_its_first_step(known)
    resolved(known, capsys, "--delivered")
    assert known.state(1) == (State.PARKED, Reason.OPERATOR)
    known.drain()
    assert (known.registry.methods, known.state(1)) == (["POST"], (State.DELIVERED, None))
    assert known.registry.created == {PATIENT: 1, V1: 1, V2: 1}


@pytest.mark.parametrize(
    "point", [Point.AFTER_INTENT, Point.AFTER_ANSWER, Point.AFTER_LEDGER_SETTLED, Point.AFTER_RESULT_PRODUCED]
)
def test_what_follows_the_step_that_arrived_has_its_effect_once_wherever_it_is_killed(
    known: Clinic, capsys: pytest.CaptureFixture[str], point: Point
) -> None:
    parked_at_its_first_step(known)
    resolved(known, capsys, "--delivered")
    killed_at(known, point, 1)
    known.drain()
    assert (known.registry.created, known.registry.updates) == ({PATIENT: 1, V1: 1, V2: 1}, [])
    assert known.state(1) == (State.DELIVERED, None)


def test_a_step_that_did_not_arrive_is_sent_again_with_what_follows_it(known: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    parked_at_its_first_step(known)
    resolved(known, capsys, "--absent")
    known.drain()
    assert (known.registry.methods, once_each(known)) == (["PUT", "POST"], True)


def test_the_last_step_that_arrived_closes_the_record(
    known: Clinic, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TwoSteps, "probe", lambda *_: None)
    known.drain(Fault.NONE, Fault.LOST)
    resolved(known, capsys, "--delivered")
    assert known.state(1) == (State.DELIVERED, Reason.OPERATOR)
    known.drain()
    assert known.registry.methods == []


def parked_at_its_first_step(known: Clinic) -> None:
    """It was answered nothing for too long, and parked: nobody knows whether it arrived."""
    settings = known.settings
    known.settings = settings.model_copy(update={"delivery": settings.delivery.model_copy(update={"patience": 0.01})})
    known.gate = Serving
    known.drain(*[Fault.SWALLOWED] * 100)
    known.settings, known.gate = settings, Gate
    assert known.state(1) == (State.PARKED, Reason.TIMEOUT)


def resolved(known: Clinic, capsys: pytest.CaptureFixture[str], how: str) -> None:
    capsys.readouterr()
    words = ["resolve", "his.adt/0/1", how, "--why", "their service desk", "--settings", str(known.settings_file)]
    assert main(words) == 0, capsys.readouterr().err
    known.registry.requests.clear()


def test_a_plan_says_that_nobody_can_tell_what_became_of_an_unknown_second_step(
    known: Clinic, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TwoSteps, "probe", lambda *_: None)
    known.drain(Fault.NONE, Fault.SWALLOWED)
    assert known.state(1) == (State.PARKED, Reason.PROBE_CANNOT_TELL)
    capsys.readouterr()
    main(["replay", "plan", "--state", "parked", "--json", "--settings", str(known.settings_file)])
    assert json.loads(capsys.readouterr().out)["classes"] == {"still_parked": 1}
