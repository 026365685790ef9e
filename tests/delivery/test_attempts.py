"""One delivery from its lane to its end, without a loop: the waits are written down instead of waited."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pipeline import flow
from pipeline.delivery.attempts import Backoff, Delivery, Elsewhere, Hands, Later
from pipeline.delivery.gate import Gate
from pipeline.delivery.steady import Outages, Steady
from pipeline.errors import NoAnswer, NotSent, Parked, ProfileNotMet
from pipeline.ledger.port import Begun, Held
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Decision, Learned, Outcome, Packed, Position, Reply, Request, Routed, Seen
from pipeline.settings import BreakerSettings
from pipeline.settings_partners import RocheSettings
from pipeline.stages.settle import settle
from pipeline.transport.port import Flight, InAir, Pause, landed
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import ROUTE, House, Killed, Scripted, adt, created, issue, reply, settings_with, updated
from tests.delivery.promises import soon
from tests.stages.plans import received

T = TypeVar("T")


class Desk:
    """A delivery with what it said and how long it would have waited."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.plan = house.worker().plan
        self.waits: list[float] = []
        self.attempts: list[Outcome] = []
        self.now = 1000.0
        self.gate = Gate("roche", BreakerSettings(failures=1_000, window=1_000), clock=lambda: self.now)

    def hands(self) -> Hands:
        return Hands(
            ledger=self.house.ledger,
            transport=self.house.script,
            clock=self.house.clock,
            gate=self.gate,
            slots=nullcontext(),
            steady=Steady(Outages(ROUTE), threading.Event(), Backoff(1.0, 60.0)),
            backoff=Backoff(1.0, 60.0),
            monotonic=lambda: self.now,
        )

    def routed(self, value: bytes, offset: int = 0) -> Routed:
        came = flow.read(received(value, offset), self.plan)
        assert isinstance(came, Routed)
        return came

    def run(self, value: bytes, *answers: Scripted, offset: int = 0, others: bool = False) -> Outcome:
        """`others`: other messages are served in between."""
        self.house.script.answers.extend(answers)
        delivery = Delivery(self.routed(value, offset), self.plan, self.hands())
        while isinstance(stepped := landed(delivery.step()), Later):
            shut = min(self.gate.standing.seconds, stepped.seconds) if others else 0
            self.now += shut
            if others and self.gate.ask("another") == 0:
                self.gate.told(Decision.DELIVERED, None, by="another")
            self.attempts.extend([stepped.tried] if stepped.tried else [])
            if stepped.seconds:
                self.waits.append(round(stepped.seconds, 1))
                self.now += stepped.seconds - shut
        return stepped


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    house = House(tmp_path)
    yield Desk(house)
    house.close()


def knows(desk: Desk, value: bytes) -> None:
    desk.house.ledger.import_identities("roche", [Learned(identity, None) for identity in desk.routed(value).identities])


def test_an_unknown_create_is_probed_after_the_published_worst_time_and_its_margin(desk: Desk) -> None:
    outcome = desk.run(adt(), NoAnswer(Reason.TIMEOUT), updated())
    assert (outcome.state, outcome.confirmed_by, desk.waits) == (State.DELIVERED, "probe", [15.0])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_leaves_only_as_fast_as_the_partner_takes_it_goes_apart_before_its_intent_and_before_it_is_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, at_once: bool
) -> None:
    monkeypatch.setattr("pipeline.delivery.attempts.AT_ONCE", 1_000_000 if at_once else 0)
    flight = Delivery(desk.routed(adt()), desk.plan, desk.hands()).step()
    stops = [stop for stop in stops_of(flight) if isinstance(stop, Pause)]
    asks = [Pause.TOGETHER, Pause.TOGETHER]  # what is known; the intent
    assert stops == (asks if at_once else [asks[0], Pause.APART, asks[1], Pause.APART])


def stops_of(flight: Flight[object]) -> Iterator[InAir | Pause]:
    with suppress(StopIteration):
        while True:
            yield next(flight)


def test_a_probe_without_an_answer_leaves_it_unknown_and_is_asked_again(desk: Desk) -> None:
    outcome = desk.run(adt(), NoAnswer(Reason.TIMEOUT), NoAnswer(Reason.TIMEOUT), updated())
    assert [attempt.state for attempt in desk.attempts] == [State.UNKNOWN, State.UNKNOWN]
    assert (outcome.state, desk.house.paths()) == (State.DELIVERED, ["POST /Bundle", *["PUT /Bundle/12345678Z"] * 2])


def test_a_probe_that_could_not_be_sent_leaves_it_unknown(desk: Desk) -> None:
    desk.run(adt(), NoAnswer(Reason.TIMEOUT), NotSent(Reason.NOT_SENT_CONNECT), updated())
    assert [attempt.state for attempt in desk.attempts] == [State.UNKNOWN, State.UNKNOWN]


def test_an_update_in_doubt_is_sent_again_and_not_before_the_first_may_have_had_its_effect(desk: Desk) -> None:
    knows(desk, adt())
    outcome = desk.run(adt(), NoAnswer(Reason.TIMEOUT), updated())
    assert desk.house.paths() == ["PUT /Bundle/12345678Z"] * 2
    assert (outcome.state, desk.waits[0] >= 4.0) == (State.DELIVERED, True)


def test_a_partner_that_says_how_long_is_waited_for_as_long(desk: Desk) -> None:
    desk.run(adt(), reply(429, retry_after="7"), reply(503, retry_after="0"), created())
    told = [attempt.answer.verdict.decision for attempt in desk.attempts if attempt.answer]
    assert (desk.waits, told) == ([7.0, 1.0], [Decision.THROTTLED] * 2)


def test_an_update_of_what_is_not_there_is_parked(desk: Desk) -> None:
    knows(desk, adt())
    assert desk.run(adt(), issue(404, "not-found")).reason == Reason.REJECTED_NOT_FOUND


def test_by_a_setting_an_update_of_what_is_not_there_goes_on_as_a_create(tmp_path: Path) -> None:
    def create(tree: dict[str, Any]) -> None:
        tree["partners"]["roche"]["on_absent"] = "create"

    house = House(tmp_path, change=create)
    desk = Desk(house)
    knows(desk, adt())
    outcome = desk.run(adt(), issue(404, "not-found"), created())
    house.close()
    assert (outcome.state, house.paths()) == (State.DELIVERED, ["PUT /Bundle/12345678Z", "POST /Bundle"])


def test_without_a_probe_an_unknown_create_is_parked_for_a_person(tmp_path: Path) -> None:
    house = House(tmp_path, change=lambda tree: tree["partners"]["roche"].update(api="v2"))
    desk = Desk(house)
    outcome = desk.run(adt(), NoAnswer(Reason.TIMEOUT))
    house.close()
    assert (outcome.state, outcome.reason, house.paths()) == (State.PARKED, Reason.PROBE_CANNOT_TELL, ["POST /v2/Bundle"])


def test_nothing_is_sent_while_another_record_holds_the_lane(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(_begun: Begun) -> None:
        raise Held("another's", by=Position("his.adt", 3, 7))

    monkeypatch.setattr(desk.house.ledger, "begin_soon", soon(held))
    later = landed(Delivery(desk.routed(adt()), desk.plan, desk.hands()).step())
    assert isinstance(later, Later)
    assert (later.behind, later.parks, desk.house.paths()) == (Position("his.adt", 3, 7), Reason.BLOCKED_BEHIND, [])


def test_an_older_snapshot_does_not_follow_a_newer_one_that_another_worker_delivered_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = settle(
        desk.run(adt("A08", "2", time="20240507090000+0200"), created(), offset=1),
        desk.plan,
        results_topic="results",
        dead_letter_topic="dead letters",
        at_ms=1,
    ).settlement
    begin, asked = desk.house.ledger.begin, list[Begun]()

    def after_the_other(begun: Begun) -> None:
        asked.append(begun)
        if len(asked) == 1:
            assert desk.house.ledger.settle(newer)
        begin(begun)

    monkeypatch.setattr(desk.house.ledger, "begin_soon", soon(after_the_other))
    older = Delivery(desk.routed(adt("A08", "1", time="20240506090000+0200")), desk.plan, desk.hands())
    knows(desk, adt())
    assert isinstance(landed(older.step()), Later)
    outcome = landed(older.step())
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.reason, desk.house.paths()) == (State.SUPERSEDED, Reason.STALE, ["POST /Bundle"])


def test_the_same_record_of_another_route_is_waited_for_and_is_not_our_own(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Position("his.adt", 0, 0)

    def held(_begun: Begun) -> None:
        raise Held("another route's", by=mine, route="another")

    monkeypatch.setattr(desk.house.ledger, "begin_soon", soon(held))
    later = landed(Delivery(desk.routed(adt()), desk.plan, desk.hands()).step())
    assert isinstance(later, Later)
    assert (later.behind, later.parks) == (mine, Reason.BLOCKED_BEHIND)


def test_what_another_process_has_begun_is_left_to_it(desk: Desk) -> None:
    mine, other = (Delivery(desk.routed(adt()), desk.plan, desk.hands()) for _ in range(2))
    desk.house.script.answers.append(NoAnswer(Reason.TIMEOUT))
    landed(other.step())
    with pytest.raises(Elsewhere):
        landed(mine.step())
    assert desk.house.paths() == ["POST /Bundle"]


def test_on_a_shared_ledger_an_open_intent_is_left_alone_until_its_deadline(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    position = Position("his.adt", 0, 0)
    desk.house.script.answers.append(NoAnswer(Reason.TIMEOUT))
    landed(Delivery(desk.routed(adt()), desk.plan, desk.hands()).step())
    here = desk.house.ledger.seen("roche-patients", position)
    monkeypatch.setattr(SqlLedger, "alone", False)
    later = landed(Delivery(desk.routed(adt()), desk.plan, desk.hands(), here).step())
    assert isinstance(later, Later)
    assert 20 < later.seconds <= 25  # the total time-out of a create, and what may pass between intent and first byte
    assert desk.house.paths() == ["POST /Bundle"]


def test_a_process_that_stood_still_between_intent_and_first_byte_sends_nothing_and_tries_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = desk.house.ledger.begin

    def slowly(begun: Begun) -> None:
        begin(begun)
        desk.now += 6 if begun.attempt == 1 else 0

    monkeypatch.setattr(desk.house.ledger, "begin_soon", soon(slowly))
    outcome = desk.run(adt(), created())
    assert [attempt.reason for attempt in desk.attempts] == [Reason.NOT_SENT_STOOD_STILL]
    assert (outcome.state, desk.house.paths()) == (State.DELIVERED, ["POST /Bundle"])


def test_a_machine_that_was_suspended_between_intent_and_first_byte_sends_nothing_and_tries_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stood still meanwhile: only the wall clock tells."""
    begin, clock, wait_ms = desk.house.ledger.begin, desk.house.clock, [0]

    def suspended(begun: Begun) -> None:
        begin(begun)
        wait_ms[0] = 600_000

    monkeypatch.setattr(desk.house.ledger, "begin_soon", soon(suspended))
    hands = replace(desk.hands(), clock=lambda: clock() + wait_ms[0])
    stepped = landed(Delivery(desk.routed(adt()), desk.plan, hands).step())
    assert isinstance(stepped, Later)
    assert stepped.tried is not None
    assert (stepped.tried.reason, desk.house.paths()) == (Reason.NOT_SENT_STOOD_STILL, [])


def left_unknown(desk: Desk) -> Seen:
    """What the ledger has of a create that timed out, in another process."""
    desk.house.script.answers.append(NoAnswer(Reason.TIMEOUT))
    landed(Delivery(desk.routed(adt()), desk.plan, desk.hands()).step())
    here = desk.house.ledger.seen("roche-patients", Position("his.adt", 0, 0))
    assert here is not None
    return here


@pytest.mark.parametrize("jump_ms", [-3_600_000, 0, 3_600_000])
def test_after_a_restart_a_probe_waits_in_full_whatever_the_wall_clock_says(desk: Desk, jump_ms: int) -> None:
    here, clock = left_unknown(desk), desk.house.clock
    hands = replace(desk.hands(), clock=lambda: clock() + jump_ms)
    later = landed(Delivery(desk.routed(adt()), desk.plan, hands, here).step())
    assert isinstance(later, Later)
    assert (later.seconds, desk.house.paths()) == (15.0, ["POST /Bundle"])


def test_the_lease_of_another_process_ends_by_our_own_clock_where_the_others_is_ahead(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, clock = left_unknown(desk), desk.house.clock
    monkeypatch.setattr(SqlLedger, "alone", False)
    delivery = Delivery(desk.routed(adt()), desk.plan, replace(desk.hands(), clock=lambda: clock() - 3_600_000), here)
    later = landed(delivery.step())
    assert isinstance(later, Later)
    assert later.seconds == 5 + desk.plan.partner.longest
    desk.now += later.seconds
    later = landed(delivery.step())
    assert isinstance(later, Later)
    assert later.parks is Reason.AWAITING_PROBE


def test_the_lease_runs_from_when_the_intent_was_seen_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    here = left_unknown(desk)
    monkeypatch.setattr(SqlLedger, "alone", False)
    desk.now = 20.0
    later = landed(Delivery(desk.routed(adt()), desk.plan, desk.hands(), here, open_since=5.0).step())
    assert isinstance(later, Later)
    assert later.seconds == 5 + desk.plan.partner.longest - 15


def test_a_probe_that_the_partner_cannot_make_parks_the_message_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(_: Packed) -> None:
        raise ProfileNotMet(Reason.PROFILE_INVALID)

    monkeypatch.setattr(desk.plan.partner, "probe", impossible)
    outcome = desk.run(adt(), NoAnswer(Reason.TIMEOUT))
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.PROBE_CANNOT_TELL)


def test_an_update_that_always_times_out_at_a_partner_that_is_there_is_parked_when_patience_is_over(desk: Desk) -> None:
    knows(desk, adt())
    outcome = desk.run(adt(), *[NoAnswer(Reason.TIMEOUT)] * 100, others=True)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.TIMEOUT)
    assert sum(desk.waits) > 900


@pytest.mark.parametrize(
    "breaker", [BreakerSettings(failures=1), BreakerSettings(failures=1_000, window=1_000)], ids=["opens", "stays"]
)
def test_a_sick_message_is_parked_when_patience_is_over_though_its_failures_open_the_breaker_and_the_partner_throttles(
    desk: Desk, breaker: BreakerSettings
) -> None:
    """Seen to go on for ever when only the time counted in which the breaker had stayed closed."""
    knows(desk, adt())
    desk.gate = Gate("roche", breaker, clock=lambda: desk.now)
    sick = [issue(500, "exception"), issue(500, "exception"), reply(429, retry_after="5")]
    outcome = desk.run(adt(), *sick * 200, others=True)
    assert (outcome.state, outcome.reason, len(desk.house.script.answers) > 300) == (State.PARKED, Reason.PARTNER_EXCEPTION, True)
    assert sum(desk.waits) > 900


def test_a_partner_that_answers_nobody_uses_up_no_messages_patience(desk: Desk) -> None:
    knows(desk, adt())
    desk.gate = Gate("roche", BreakerSettings(failures=1), clock=lambda: desk.now)
    outcome = desk.run(adt(), *[NoAnswer(Reason.TIMEOUT)] * 100, updated())
    assert (outcome.state, sum(desk.waits) > 900) == (State.DELIVERED, True)


FAILURES = [reply(503), issue(500, "exception"), NoAnswer(Reason.TIMEOUT)]


@pytest.mark.parametrize("failure", FAILURES, ids=["503", "500", "no answer"])
@pytest.mark.parametrize("known", [True, False], ids=["update", "create"])
def test_a_partner_that_counts_as_away_uses_up_no_messages_patience_however_it_fails(
    desk: Desk, failure: Scripted, *, known: bool
) -> None:
    """A gateway that answers for it, as in the hours of an update, is no answer of the partner."""
    if known:
        knows(desk, adt())
    desk.gate = Gate("roche", BreakerSettings(failures=3), clock=lambda: desk.now)
    outcome = desk.run(adt(), *[failure] * 200, updated() if known or failure is not FAILURES[0] else created())
    assert (outcome.state, sum(desk.waits) > 3600) == (State.DELIVERED, True)


@pytest.mark.parametrize("failure", FAILURES, ids=["503", "500", "no answer"])
def test_the_hours_of_an_outage_park_nothing_when_the_partner_is_back_and_fails_once_more(desk: Desk, failure: Scripted) -> None:
    knows(desk, adt())
    desk.gate = Gate("roche", BreakerSettings(failures=2), clock=lambda: desk.now)
    desk.house.script.answers.extend([failure, failure, updated()])
    delivery = Delivery(desk.routed(adt()), desk.plan, desk.hands())
    landed(delivery.step())
    for _ in range(2):
        desk.gate.ask("another")
        desk.gate.told(Decision.FAILED, Reason.UNAVAILABLE, by="another")
    desk.now += 7200
    assert desk.gate.ask("another") == 0
    desk.gate.told(Decision.DELIVERED, None, by="another")
    assert isinstance(landed(delivery.step()), Later)
    desk.now += 60
    outcome = landed(delivery.step())
    assert isinstance(outcome, Outcome)
    assert outcome.state is State.DELIVERED


def test_a_connection_that_cannot_be_made_uses_up_no_patience(desk: Desk) -> None:
    outcome = desk.run(adt(), *[NotSent(Reason.NOT_SENT_CONNECT)] * 100, created())
    assert (outcome.state, sum(desk.waits) > 900) == (State.DELIVERED, True)


def test_who_waited_for_a_slot_while_the_partner_asked_for_patience_does_not_send(desk: Desk) -> None:
    @contextmanager
    def slot() -> Iterator[None]:
        assert desk.gate.ask("another") == 0
        desk.gate.told(Decision.THROTTLED, Reason.THROTTLED, retry_after=5, by="another")
        yield

    later = landed(Delivery(desk.routed(adt()), desk.plan, replace(desk.hands(), slots=slot())).step())
    assert isinstance(later, Later)
    assert (later.seconds, desk.house.paths()) == (5.0, [])


def test_who_waited_for_a_slot_until_the_stop_begins_nothing(desk: Desk) -> None:
    stopped = []

    @contextmanager
    def slot() -> Iterator[None]:
        stopped.append(True)
        yield

    stepped = landed(
        Delivery(desk.routed(adt()), desk.plan, replace(desk.hands(), slots=slot(), stopping=lambda: bool(stopped))).step()
    )
    assert isinstance(stepped, Later)
    assert desk.house.paths() == []


def test_what_was_not_sent_is_tried_again_with_growing_pauses(desk: Desk) -> None:
    desk.run(adt(), *[NotSent(Reason.NOT_SENT_CONNECT)] * 5, created())
    floors = [0.5, 1.0, 2.0, 4.0, 8.0]
    assert all(floor <= wait <= 2 * floor for floor, wait in zip(floors, desk.waits, strict=True))


def test_a_partner_that_refuses_us_is_asked_again_after_the_longest_pause_and_it_is_no_attempt(desk: Desk) -> None:
    outcome = desk.run(adt(), reply(401, b'{"error": "Invalid Client"}', content_type="application/json"), created())
    assert outcome.answer is not None
    assert (desk.waits, outcome.answer.attempt) == ([60.0], 1)


def test_settings_of_the_built_in_are_those_that_these_tests_assume() -> None:
    roche = settings_with(None).partners["roche"]
    assert isinstance(roche, RocheSettings)
    assert (roche.probe_margin, roche.probe, roche.on_absent) == (5, "on", "park")


def test_a_late_word_that_the_patient_is_absent_does_not_forget_who_was_created_since(tmp_path: Path) -> None:
    """This process stood still with the answer in its hand; another one heard the same, created the patient, and settled."""
    house = House(tmp_path, change=lambda tree: tree["partners"]["roche"].update(on_absent="create"))
    desk = Desk(house)
    knows(desk, adt())
    routed, script = desk.routed(adt()), desk.house.script
    exchange = script.exchange

    def stands_still(request: Request) -> Reply:
        reply = exchange(request)
        script.exchange = exchange  # type: ignore[method-assign]
        other = Delivery(
            routed, desk.plan, desk.hands(), desk.house.ledger.seen("roche-patients", routed.decoded.received.position)
        )
        while isinstance(outcome := landed(other.step()), Later):
            pass
        written = settle(outcome, desk.plan, results_topic="r", dead_letter_topic="d", at_ms=1, after=other.intents)
        assert desk.house.ledger.settle(written.settlement)
        return reply

    script.exchange = stands_still  # type: ignore[method-assign]
    script.answers = [issue(404, "not-found"), issue(404, "not-found"), created()]
    late = Delivery(routed, desk.plan, desk.hands())
    landed(late.step())
    with pytest.raises(Elsewhere):
        landed(late.step())
    assert desk.house.paths() == ["PUT /Bundle/12345678Z"] * 2 + ["POST /Bundle"]
    later = desk.routed(adt("A08", "2", time="20240503101500+0200"), 1)
    following = flow.prepare(later, house.ledger.knowledge(later), desk.plan)
    house.close()
    assert isinstance(following, Packed)
    assert following.requests[0].method == "PUT"


@pytest.mark.parametrize("ends", ["parked and back", "killed again"])
def test_what_went_out_again_after_a_crash_says_so_however_it_goes_on(desk: Desk, ends: str) -> None:
    """The second sending was answered with a 503, so that nothing is open any more."""
    knows(desk, adt())
    routed, at = desk.routed(adt()), Position("his.adt", 0, 0)
    desk.house.script.answers = [Killed(), issue(503, "transient"), updated()]
    with pytest.raises(Killed):
        landed(Delivery(routed, desk.plan, desk.hands()).step())
    second = Delivery(routed, desk.plan, desk.hands(), desk.house.ledger.seen("roche-patients", at))
    assert isinstance(landed(second.step()), Later)
    if ends == "parked and back":
        parked = flow.ended_outcome(Parked(Reason.UNAVAILABLE), routed.decoded.received, desk.plan, routed.decoded, routed)
        written = settle(parked, desk.plan, results_topic="r", dead_letter_topic="d", at_ms=1, after=second.intents)
        assert desk.house.ledger.settle(written.settlement)
    desk.now += 100
    outcome = landed(Delivery(routed, desk.plan, desk.hands(), desk.house.ledger.seen("roche-patients", at)).step())
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.possible_duplicate) == (State.DELIVERED, True)
