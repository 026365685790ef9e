"""What waits long is parked with its bytes and comes back by itself, in its patient's order; who ends what stands in its way; two workers on one ledger.

The whole worker on the embedded bus; the ledger is SQLite, or PostgreSQL where two share it. Only the partner answers from a script.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline import flow, wiring
from pipeline.bus.port import Bus, TopicPartition, Where
from pipeline.delivery.attempts import Later
from pipeline.delivery.courier import Task
from pipeline.delivery.gate import Gate
from pipeline.delivery.lanes import Ticket
from pipeline.delivery.pool import Again
from pipeline.delivery.worker import Worker
from pipeline.errors import NoAnswer
from pipeline.ledger.port import Ledger, Query, Settlement
from pipeline.model import (
    Answer,
    Decision,
    Learned,
    Outcome,
    Packed,
    Position,
    Received,
    Reply,
    Request,
    Routed,
    Verdict,
)
from pipeline.settings_sections import OperationTimes
from pipeline.stages.settle import settle
from pipeline.transport.port import Flight, landed
from schemas.outcomes import Reason, State
from tests import postgres_server
from tests.delivery.one_patient import (
    AWAITING,
    BLOCKED,
    CANNOT_TELL,
    DELIVERED,
    change,
    create,
    identities,
    known_as,
    sent,
    stamp,
    states,
    update,
    working,
)
from tests.delivery.partner_script import (
    ROUTE,
    House,
    Killed,
    Script,
    adt,
    created,
    issue,
    run_beside,
    settings_with,
    until,
    updated,
)
from tests.delivery.promises import Asked
from tests.stages.plans import received

pytestmark = pytest.mark.usefixtures("short_pauses")


@dataclass
class Door(Script):
    """The first request waits until it opens."""

    open: threading.Event = field(default_factory=threading.Event)

    def exchange(self, request: Request) -> Reply:
        answer = super().exchange(request)
        assert len(self.requests) > 1 or self.open.wait(60)
        return answer


# too long


def test_what_waits_too_long_for_a_probe_and_what_waits_behind_it_is_parked_and_comes_back_in_order(
    a_house: Callable[..., House],
) -> None:
    house = a_house(probe_after=0.8, hold=0.2)
    house.send(create(1), update(2), update(3))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    with working(house):
        until(lambda: len(house.settled()) == 3)
        assert sorted(house.settled()) == [AWAITING, BLOCKED, BLOCKED]
        assert {value for value, _ in house.dead_letters()} == {create(1), update(2), update(3)}
        assert sent(house) == ["POST 1"]
        until(lambda: house.settled()[3:] == [DELIVERED] * 3)
    assert sent(house) == ["POST 1", "PUT 1", "PUT 2", "PUT 3"]
    assert states(house) == ["delivered"] * 3
    assert len({result.result_id for result in house.results()}) == len(house.results())


def test_the_offset_of_what_is_parked_passes(a_house: Callable[..., House]) -> None:
    house = a_house(probe_after=60, hold=0.1)
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert (house.committed(), states(house)) == (2, ["parked", "parked"])


@dataclass
class OneSlow(Script):
    """A patient whose request waits until told; the rest goes by the script."""

    last: bytes = b"SLOW"
    enough: Callable[[], bool] = lambda: True

    def exchange(self, request: Request) -> Reply:
        if self.last in request.body:
            until(self.enough)
            return created()
        return super().exchange(request)


def test_a_drain_does_not_end_while_what_came_back_is_between_two_attempts(a_house: Callable[..., House]) -> None:
    """Guard: Worker._at_rest. Its offset has passed long ago; without it the drain ends with the message pending."""
    house = a_house(probe_after=0.3, hold=0.05, backoff_first=1.0, backoff_most=1.0)
    house.in_flight = 2
    house.script = script = OneSlow(
        [NoAnswer(Reason.TIMEOUT), issue(404, "not-found"), issue(503, "transient")],
        enough=lambda: "pending" in states(house) and len(script.requests) == 3,
    )
    house.send(create(1), create(2, "SLOW"))
    house.work()
    assert sent(house) == ["POST 1", "PUT 1", "POST 1", "POST 1"]
    assert states(house) == ["delivered"] * 2
    assert house.settled()[0] == AWAITING


def test_what_came_back_and_has_to_wait_long_once_more_is_parked_once_more(a_house: Callable[..., House]) -> None:
    """Guard: Courier._later reads what the attempt made of it. Without it the ledger has it as unknown, and a drain would wait for its probe."""
    house = a_house(probe_after=0.3, hold=0.05)
    house.script.answers = [NoAnswer(Reason.TIMEOUT), issue(404, "not-found"), NoAnswer(Reason.TIMEOUT)]
    house.send(create(1))
    with working(house):
        until(lambda: house.settled() == [AWAITING, AWAITING, DELIVERED])
    assert sent(house) == ["POST 1", "PUT 1", "POST 1", "PUT 1"]


def test_what_overflows_its_patients_lane_is_parked_and_goes_on_in_its_place(a_house: Callable[..., House]) -> None:
    house = a_house(per_patient=2)
    house.in_flight = 2  # one at the door, one that parks
    house.script = door = Door()
    house.send(create(1), update(2), update(3), update(4), update(5))
    with working(house):
        until(lambda: house.settled() == [BLOCKED] * 3)
        assert [value for value, _ in house.dead_letters()] == [update(3), update(4), update(5)]
        door.open.set()
        until(lambda: house.settled()[3:] == [DELIVERED] * 5)
    assert sent(house) == ["POST 1", "PUT 2", "PUT 3", "PUT 4", "PUT 5"]
    assert states(house) == ["delivered"] * 5


def test_after_a_restart_what_was_parked_goes_on_first(a_house: Callable[..., House]) -> None:
    house = a_house(probe_after=60, hold=0.1)
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert sorted(house.settled()) == [AWAITING, BLOCKED]
    house.settings = settings_with(change)
    house.send(update(3))
    with working(house):
        until(lambda: house.settled()[2:] == [DELIVERED] * 3)
    assert sent(house) == ["POST 1", "PUT 1", "PUT 2", "PUT 3"]


def test_what_was_parked_and_is_read_again_keeps_its_place(a_house: Callable[..., House]) -> None:
    """The offset was not committed: what the ledger has parked takes its place when reading comes to it."""
    house = a_house(probe_after=60, hold=0.1)
    house.send(create(1, "OTHER"), create(2), update(3))
    house.script.answers = [created(), NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert sorted(house.settled()) == [DELIVERED, AWAITING, BLOCKED]
    with house.bus.consumer(house.settings.group_of(ROUTE), [house.topics.source]) as consumer:
        consumer.commit({TopicPartition(house.topics.source, 0): 0})
    house.settings = settings_with(change)
    house.send(update(4))
    with working(house):
        until(lambda: states(house) == ["delivered"] * 4)
    assert [each for each in sent(house) if not each.endswith(" 1")] == ["POST 2", "PUT 2", "PUT 3", "PUT 4"]


@pytest.mark.parametrize("dies_at", ["PUT 1", "POST 1"])
def test_what_came_back_and_was_killed_on_its_way_comes_back_again(a_house: Callable[..., House], dies_at: str) -> None:
    """Its offset has passed, and it is parked no more: only the ledger knows that it is open."""
    house = a_house(probe_after=60, hold=0.1)
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert (sorted(house.settled()), house.committed()) == ([AWAITING, BLOCKED], 2)
    house.settings = settings_with(change)
    house.script.answers = [Killed()] if dies_at == "PUT 1" else [issue(404, "not-found"), Killed()]
    with pytest.raises(Killed):
        house.worker().run()
    assert sent(house)[-1] == dies_at
    with working(house):
        until(lambda: states(house) == ["delivered"] * 2)
    assert sent(house)[-1] == "PUT 2"


def test_what_came_back_and_was_stopped_between_attempts_comes_back_again(a_house: Callable[..., House]) -> None:
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    house.ledger.import_identities("roche", known_as(house, create()))
    house.script.answers = [issue(503, "transient")] * 1_000
    with working(house):
        until(lambda: len(house.script.requests) > 2)
    assert (states(house), house.committed()) == (["parked", "pending"], 2)
    house.script.answers = []
    with working(house):
        until(lambda: states(house) == ["parked", "delivered"])


# a person


@pytest.mark.parametrize(
    ("person", "then"),
    [
        (lambda house: house.ledger.import_identities("roche", known_as(house, create())), ["PUT 2", "PUT 3"]),
        (lambda house: house.ledger.forget("roche", identities(house, create()), by_operator=True), ["POST 2", "PUT 3"]),
    ],
    ids=["import", "forget"],
)
def test_when_a_person_ends_what_stands_in_the_way_the_patients_messages_go_on_by_themselves(
    a_house: Callable[..., House], person: Callable[[House], object], then: list[str]
) -> None:
    house = a_house(probe="off")
    house.send(create(1), update(2), update(3))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    with working(house):
        until(lambda: house.settled()[:2] == [CANNOT_TELL, BLOCKED])
        time.sleep(0.3)
        assert sent(house) == ["POST 1"]
        person(house)
        until(lambda: [state for state in house.settled() if state == DELIVERED] == [DELIVERED] * 2)
    assert sent(house) == ["POST 1", *then]
    assert states(house) == ["parked", "delivered", "delivered"]


def test_what_a_crash_left_open_is_flagged_though_it_was_parked_for_its_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patient's messages came in two partitions, and the one that was out stands behind another. Guard: Settlement.keeps_open."""
    house = House(tmp_path, change=change, partitions=2)
    house.send(create(1))
    house.work()
    house.send(update(2))
    with pytest.raises(Killed):
        house.work([Killed()])
    house.send(update(3), partition=1)  # which is read first
    house.set_delivery(per_patient=1)
    worker, out = house.worker(), Position(house.topics.source, 0, 1)
    ask = worker.flood.ask

    def ask_when_parked(by: object = None) -> float:
        seen = house.ledger.seen(ROUTE, out)
        return ask(by) if seen is not None and seen.state is not State.PENDING else 0.02

    monkeypatch.setattr(worker.flood, "ask", ask_when_parked)
    with working(house, worker):
        until(lambda: states(house) == ["delivered"] * 3)
        worker.emitter.flush(60)
    told = [one for one in house.results() if (one.source_partition, one.source_offset, one.settled) == (0, 1, True)]
    assert [(one.state, one.reason, one.possible_duplicate) for one in told] == [(*BLOCKED, False), (*DELIVERED, True)]
    house.close()


class Slots:
    """A partner's slots, and who took how many in one go."""

    def __init__(self, worker: Worker) -> None:
        self.taken: list[int] = []
        self._here = threading.local()
        self._work = worker.courier.work
        worker.courier.hands = replace(worker.courier.hands, slots=self)
        worker.pool._work = self.work

    def work(self, ticket: Ticket[Task]) -> Flight[Again | None]:
        flight, mine = self._work(ticket), list[None]()
        try:
            while True:
                self._here.taken = mine
                yield next(flight)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what the generator returns
        finally:
            self.taken.append(len(mine))

    def __enter__(self) -> None:
        self._here.taken.append(None)

    def __exit__(self, *_: object) -> None:
        """It is free again."""


def test_a_step_waits_for_one_slot_at_most_also_where_another_record_goes_first(tmp_path: Path) -> None:
    """Who waits for the second one has an answer's thread, and whoever has the slot may need that to land."""
    house = House(tmp_path, change=change, partitions=2)
    house.send(create(1))
    house.work()
    house.send(update(2))
    with pytest.raises(Killed):
        house.work([Killed()])
    house.send(update(3), partition=1)  # which is read first, and finds the other one open
    worker = house.worker()
    slots = Slots(worker)
    with working(house, worker):
        until(lambda: states(house) == ["delivered"] * 3)
    assert sent(house)[-2:] == ["PUT 2", "PUT 3"]
    assert max(slots.taken) == 1
    house.close()


# bytes that are gone


class Forgetful:
    """A bus whose source has not kept what it had, and whose dead letters may be gone too. Made anew, the source has another patient's record at each place."""

    def __init__(self, bus: Bus, *, letters: bool, anew: bool = False) -> None:
        self.bus, self.letters, self.anew = bus, letters, anew

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the bus's
        return getattr(self.bus, name)

    def fetch(self, position: Position) -> Received | None:
        if position.topic != "his.adt":
            return self.bus.fetch(position)
        return Received(position, update(9, "ANOTHER")) if self.anew else None

    def read(self, topic: str, *args: Any, **more: Any) -> Iterable[Received]:  # noqa: ANN401 - as above
        return self.bus.read(topic, *args, **more) if self.letters else []


@pytest.mark.parametrize("anew", [False, True])
def test_what_the_source_has_not_kept_is_taken_from_the_dead_letters(a_house: Callable[..., House], *, anew: bool) -> None:
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    house.ledger.import_identities("roche", known_as(house, create()))
    whole, house.bus = house.bus, Forgetful(house.bus, letters=True, anew=anew)
    with working(house):
        until(lambda: states(house) == ["parked", "delivered"])
    house.bus = whole
    assert sent(house) == ["POST 1", "PUT 2"]
    (result,) = [result for result in house.results() if result.state is State.DELIVERED]
    assert (result.source_topic, result.source_offset) == ("his.adt", 1)


@pytest.mark.parametrize("anew", [False, True])
def test_what_is_nowhere_any_more_stays_parked_is_told_and_holds_up_nobody(
    a_house: Callable[..., House], capfd: pytest.CaptureFixture[str], *, anew: bool
) -> None:
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    house.ledger.import_identities("roche", known_as(house, create()))
    house.send(create(3, "OTHER"), update(4))
    whole, house.bus = house.bus, Forgetful(house.bus, letters=False, anew=anew)
    with working(house):
        until(lambda: states(house) == ["parked", "parked", "delivered", "delivered"])
    house.bus = whole
    assert capfd.readouterr().err.count('"payload_gone"') == 1
    assert sent(house) == ["POST 1", "POST 3", "PUT 4"]


# who is first


class LastMoment:
    """A ledger to which something happens just before it is asked to settle, once."""

    def __init__(self, ledger: Ledger, before: Callable[[Settlement], object]) -> None:
        self.ledger, self.before, self.settled = ledger, before, 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the ledger's
        return getattr(self.ledger, name)

    def settle(self, settlement: Settlement) -> bool:
        self.settled += 1
        assert self.settled < 20, "it goes round"
        if self.settled == 1:
            self.before(settlement)
        return self.ledger.settle(settlement)

    def settle_soon(self, settlement: Settlement) -> Asked[bool]:
        return Asked(partial(self.settle, settlement))


def test_a_merge_whose_cycle_arises_while_it_is_settled_is_parked_and_the_route_goes_on(a_house: Callable[..., House]) -> None:
    house = a_house()
    plan = house.worker().plan

    def the_other_way_round(_: Settlement) -> None:
        routed = flow.read(received(adt("A40", "9", patient="B", prior="A", time=stamp(9)), 99), plan)
        assert isinstance(routed, Routed)
        outcome = flow.prepare(routed, house.ledger.knowledge(routed), plan)
        assert isinstance(outcome, Outcome)
        assert house.ledger.settle(settle(outcome, plan, results_topic="r", dead_letter_topic="d", at_ms=1).settlement)

    whole, house.ledger = house.ledger, LastMoment(house.ledger, the_other_way_round)  # type: ignore[assignment]
    house.send(adt("A40", "1", patient="A", prior="B", time=stamp(1)), create(2, "OTHER"))
    house.work()
    house.ledger = whole
    assert sorted(house.settled()) == [DELIVERED, (State.PARKED, Reason.MERGE_CYCLE)]
    assert house.committed() == 2


def settle_elsewhere(worker: Worker, value: bytes, offset: int) -> None:
    """Another worker has delivered it."""
    routed = flow.read(received(value, offset), worker.plan)
    assert isinstance(routed, Routed)
    packed = flow.prepare(routed, worker.ledger.knowledge(routed), worker.plan)
    assert isinstance(packed, Packed)
    answer = Answer(packed.requests[0], updated(), Verdict(Decision.DELIVERED, learned=(Learned(routed.identities[0], None),)), 1)
    outcome = Outcome(
        routed.decoded.received,
        ROUTE,
        "roche",
        State.DELIVERED,
        decoded=routed.decoded,
        routed=routed,
        packed=packed,
        answer=answer,
    )
    written = settle(outcome, worker.plan, results_topic="r", dead_letter_topic="d", at_ms=1)
    assert worker.ledger.settle(written.settlement)


@pytest.mark.parametrize("its_result", ["lost", "written"])
def test_what_another_has_settled_while_it_waited_too_long_is_not_parked_and_its_offset_passes(
    a_house: Callable[..., House], its_result: str
) -> None:
    house = a_house(hold=0.3)
    house.in_flight = 2  # as above
    house.script = door = Door()
    house.send(create(1), update(2))
    worker = house.worker()
    worker.drain()
    thread = run_beside(worker)
    until(lambda: len(door.requests) == 1)
    settle_elsewhere(worker, update(2), 1)
    if its_result == "written":
        position = Position("his.adt", 0, 1)
        its = next(house.ledger.find(Query(route=ROUTE, position=position))).result_id
        house.ledger.emitted(ROUTE, [(position, str(its))])
    until(lambda: worker.pool.waiting == (1, 1))
    door.open.set()
    thread.join(60)
    assert not thread.is_alive(), "the offset does not pass"
    assert (house.committed(), states(house), sent(house)) == (2, ["delivered", "delivered"], ["POST 1"])
    offsets = [result.source_offset for result in house.results() if result.settled]
    assert sorted(set(offsets)) == ([0, 1] if its_result == "lost" else [0])


SHORT: Final = OperationTimes(read=0.5, total=1)
"""What the second worker takes for the longest that a request may last. The first one's lasts until a test lets it end."""


def taken_over(first: House, second: House, ahead: float) -> float:
    """Seconds that the second worker sent nothing, its clock `ahead` of the first one's, whose create is out all the while."""
    first.script = door = Door()
    first.send(create(1))
    second.send(create(1))
    with working(first) as one:
        until(lambda: len(door.requests) == 1)
        second.bus.start(second.settings.group_of(ROUTE), [second.topics.source], Where.EARLIEST)
        second.clock = lambda: wiring.clock() + int(ahead * 1000)
        begun = time.monotonic()
        with working(second):
            until(lambda: second.script.requests != [])
            waited = time.monotonic() - begun
            until(lambda: second.settled() == [DELIVERED])
        door.open.set()
        until(lambda: one.progress.states == {State.DELIVERED: 1})
    return waited


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("ahead", "waits"),
    [(0, True), (3000, True), (-3000, True), (2 * 3600, False)],
    ids=["clocks agree", "50 minutes ahead", "50 minutes behind", "the intent is two hours old"],
)
def test_while_another_worker_may_be_sending_nothing_is_sent_whatever_the_two_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, waits: bool
) -> None:
    """As long as one of its requests may take. Guard: Delivery._lease."""
    monkeypatch.setattr("pipeline.delivery.attempts.GRACE", 1.0)
    url = postgres_server.a_schema()
    first, second = (House(tmp_path / name, change=change, ledger=url) for name in ("first", "second"))
    second.set_partner(create=SHORT, update=SHORT)
    waited = taken_over(first, second, ahead)
    assert (waited >= 2.0) is waits
    assert sent(second) == ["PUT 1"]  # a probe; there is one create
    (told,) = {result.result_id for house in (first, second) for result in house.results() if result.settled}
    assert told
    assert states(first) == ["delivered"]
    first.close()
    second.close()


# the gate


class Listening:
    """A gate that writes down who asks, who is heard, and who gives leave back."""

    def __init__(self, worker: Worker) -> None:
        self.gate = worker.gate
        self.names: set[object] = set()
        self.has_leave: set[object] = set()

    def ask(self, by: object) -> float:
        self.names.add(by)
        self.has_leave.add(by)
        return 0.0

    def told(self, *args: Any, by: object, **more: Any) -> None:  # noqa: ANN401 - the gate's
        self.has_leave.discard(by)
        self.gate.told(*args, by=by, **more)

    def back(self, by: object) -> None:
        self.has_leave.discard(by)

    @property
    def standing(self) -> object:
        return self.gate.standing


def test_two_routes_that_read_one_topic_are_two_at_the_gate(a_house: Callable[..., House]) -> None:
    house = a_house()
    worker = house.worker()
    listening = Listening(worker)
    worker.courier.hands = hands_with(worker, listening)
    house.send(create(1))
    worker.drain()
    worker.run()
    assert listening.names == {(ROUTE, Position("his.adt", 0, 0))}


def hands_with(worker: Worker, gate: Listening) -> Any:  # noqa: ANN401 - Hands, with another gate
    return replace(worker.courier.hands, gate=gate)  # type: ignore[arg-type]


class Defect(Exception):
    """Nobody expected it."""


def test_a_parked_one_that_meets_a_defect_keeps_no_leave_of_the_partners_other_routes(
    a_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = a_house(probe="off")
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    house.ledger.import_identities("roche", known_as(house, create()))
    worker = house.worker()
    listening = Listening(worker)
    worker.courier.hands = hands_with(worker, listening)

    def breaks(_: Position) -> Later:
        raise Defect

    monkeypatch.setattr(worker.courier, "_revived", breaks)
    with pytest.raises(Defect):
        worker.run()
    assert listening.names
    assert listening.has_leave == set()


# what is wanted of a message has changed since


def strictly(tree: dict[str, Any]) -> None:
    change(tree)
    tree["routes"][ROUTE]["strict"] = True


def smaller(tree: dict[str, Any]) -> None:
    change(tree)
    tree["site"]["most_bytes"] = 100


TODAY: Final = {"strict": (strictly, Reason.STRUCTURE), "smaller": (smaller, Reason.TOO_LARGE)}


@pytest.mark.parametrize("today", TODAY)
def test_what_a_crash_left_and_is_not_wanted_any_more_is_still_taken_for_what_it_is(tmp_path: Path, today: str) -> None:
    """Seen to stop the route, as where its topic had been made anew."""
    house = House(tmp_path, change=change)
    house.send(create(1), create(1, "99999999R"))
    house.script.answers = [Killed()]
    with pytest.raises(Killed):
        house.work()
    settings, reason = TODAY[today]
    house.settings = settings_with(settings)
    house.work()
    settled = house.settled()
    house.close()
    assert settled == [(State.PARKED, reason)] * 2


@pytest.mark.parametrize("today", TODAY)
def test_what_waits_parked_and_is_not_wanted_any_more_is_parked_for_that_and_not_as_gone(tmp_path: Path, today: str) -> None:
    house = House(tmp_path, change=partial(change, probe_after=60, hold=0.1))
    house.send(create(1), update(2))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert sorted(house.settled()) == [AWAITING, BLOCKED]
    settings, reason = TODAY[today]
    house.settings = settings_with(settings)
    with working(house) as worker:
        until(lambda: house.settled().count((State.PARKED, reason)) == 2 or bool(worker.courier.gone))
        assert not worker.courier.gone
    house.close()


def corrected(tree: dict[str, Any]) -> None:
    change(tree)
    tree["site"]["charset"] = "ISO-8859-1"


ZURICH: Final = "|ZÜRICH|".encode("latin-1")


def test_what_a_crash_left_is_still_the_same_message_once_the_sites_charset_is_corrected(tmp_path: Path) -> None:
    """Its sender's name reads otherwise: seen to stop the route, as where its topic had been made anew."""
    house = House(tmp_path, change=change)
    house.send(adt().replace(b"|CLINIC|", ZURICH))
    house.script.answers = [Killed()]
    with pytest.raises(Killed):
        house.work()
    house.settings = settings_with(corrected)
    house.work()
    states_then = states(house)
    house.close()
    assert states_then == ["delivered"]


# read again, and beside another route


def test_what_is_parked_a_second_time_for_the_same_reason_lets_its_offset_pass(a_house: Callable[..., House]) -> None:
    """Parked, it came back and was tried; then its partition was read again from before it."""
    house = a_house(probe_after=60, hold=0.1)
    house.send(create(1))
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.work()
    assert (house.committed(), states(house)) == (1, ["parked"])
    house.settings = settings_with(change)  # its probe is due
    house.script.answers = [issue(503, "transient")] * 1_000
    with working(house):
        until(lambda: len(house.script.requests) > 2)
    assert states(house) == ["unknown"]
    with house.bus.consumer(house.settings.group_of(ROUTE), [house.topics.source]) as consumer:
        consumer.commit({TopicPartition(house.topics.source, 0): 0})
    house.settings = settings_with(partial(change, probe_after=60, hold=0.1))

    def parked() -> list[str]:
        return [result.result_id for result in house.results() if result.settled]

    with working(house) as worker:
        until(lambda: len(parked()) == 2 and worker.offsets.unsettled == 0)
    assert (house.committed(), states(house), len(set(parked()))) == (1, ["parked"], 2)


def two_routes(tree: dict[str, Any]) -> None:
    change(tree, probe="off", hold=0.1)
    tree["routes"]["second"] = dict(tree["routes"][ROUTE])


def second_worker(house: House) -> Worker:
    catalogue = wiring.catalogue_of(house.settings)
    return Worker(
        wiring.plan_of(house.settings, "second", catalogue, house.pseudonyms),
        house.topics,
        house.settings.group_of("second"),
        house.bus,
        house.ledger,
        transport=house.script,
        gate=Gate("roche", house.settings.breaker),
        clock=house.clock,
        settings=house.settings.delivery,
        flood=house.settings.flood,
        in_flight=1,
    )


def test_a_record_waits_for_its_own_create_on_another_route_of_the_partner(tmp_path: Path) -> None:
    house = House(tmp_path, change=two_routes)
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.send(create(1))
    house.work()
    second = second_worker(house)

    def ends() -> dict[str, tuple[State, str | None]]:
        return {each.route: (each.state, each.reason) for each in house.ledger.find(Query())}

    with working(house, second):
        until(lambda: ends() == {ROUTE: CANNOT_TELL, "second": BLOCKED} and second.offsets.unsettled == 0)
        house.ledger.import_identities("roche", known_as(house, create()))
        until(lambda: ends()["second"] == DELIVERED)
    house.close()
    assert sent(house) == ["POST 1", "PUT 1"]


def test_what_another_route_has_unknown_puts_nothing_of_ours_at_the_same_place_ahead(tmp_path: Path) -> None:
    """The later route begins with the second record, so its create is unknown there, where the first route has a message that came later than its own first."""
    house = House(tmp_path, change=two_routes)
    house.send(create(1))
    house.bus.start(house.settings.group_of("second"), [house.topics.source], Where.LATEST)
    house.ledger.start("second", house.settings.group_of("second"), "roche", "latest")
    house.send(update(2))

    def ends(route: str) -> list[tuple[State, str | None]]:
        found = sorted(house.ledger.find(Query(route=route)), key=lambda each: each.position.offset)
        return [(each.state, each.reason) for each in found]

    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    with working(house, second_worker(house)):
        until(lambda: ends("second") == [CANNOT_TELL])
    with working(house) as first:
        until(lambda: ends(ROUTE) == [BLOCKED, BLOCKED] and first.offsets.unsettled == 0)
    with working(house):
        time.sleep(1)  # both have looked
        house.ledger.import_identities("roche", known_as(house, update(2)))
        until(lambda: ends(ROUTE) == [DELIVERED, DELIVERED])
    house.close()
    assert sent(house) == ["POST 2", "PUT 1", "PUT 2"]


@pytest.mark.parametrize("restart", [False, True])
def test_an_unknown_create_is_no_duplicate_of_its_copy_in_another_partition(tmp_path: Path, *, restart: bool) -> None:
    """Without keys the same message sent twice comes to two partitions. The copy waits for the create, and must not be what the create waits for."""
    house = House(tmp_path, change=partial(change, probe_after=60 if restart else 2, hold=0.1), partitions=2)
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    house.send(create(1), partition=0)

    def ends() -> dict[int, tuple[State, str | None]]:
        return {each.position.partition: (each.state, each.reason) for each in house.ledger.find(Query())}

    duplicate = (State.DUPLICATE, None)
    with working(house):
        until(lambda: len(house.script.requests) == 1)
        house.send(create(1), partition=1)
        until(lambda: ends() == {0: AWAITING, 1: BLOCKED})
        if not restart:
            until(lambda: ends() == {0: DELIVERED, 1: duplicate})
    if restart:
        house.settings = settings_with(change)  # the probe is due
        with working(house):
            until(lambda: ends() == {0: DELIVERED, 1: duplicate})
    house.close()
    assert sent(house).count("POST 1") == 1


class Passing:
    """A desk that writes down what may pass."""

    def __init__(self, worker: Worker) -> None:
        self.passed: list[Position] = []
        self.mine, self.emit = worker.mine, worker.emit

    def done(self, position: Position, _state: State) -> None:
        self.passed.append(position)

    def aside(self, action: Callable[[], None]) -> None:
        action()

    def soon(self, position: Position) -> None:
        """It waits for nothing."""


def test_what_comes_back_and_was_settled_by_another_process_lets_its_offset_pass(a_house: Callable[..., House]) -> None:
    """Its parking here was refused, as the other one had begun it: no parking let it pass."""
    house = a_house()
    house.send(create(1))
    house.work()
    worker = house.worker()
    worker.courier.desk = desk = Passing(worker)
    at = Position("his.adt", 0, 0)
    assert landed(worker.courier.work(Ticket(at, (), 0, None))) is None
    assert desk.passed == [at]
