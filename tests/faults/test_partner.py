"""F1, F2, F4, F5, F6, F8, F10, F11, F12: what a partner can do to us, and what came of it by its own log."""

import random
import signal
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Final

import pytest

from pipeline.sandbox.log import CREATED, NOTHING
from pipeline.trial.invariants import Evidence, violations
from pipeline.trial.traffic import Message, Patient, Traffic, adt, of_one, seeded
from schemas.outcomes import Reason, State
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import PARTNER, Hospital
from tests.faults.proxy import FIRST_REQUEST, Order, Proxy, Way

Seen = Callable[[str], None]
UNANSWERED: Final = {State.UNKNOWN, State.PENDING}


def settle_all(hospital: Hospital) -> Evidence:
    """Drain, and hold all invariants."""
    assert hospital.drain() == 0, hospital.logs()
    evidence = hospital.evidence()
    assert violations(evidence) == []
    return evidence


def by_probe(evidence: Evidence) -> int:
    return sum(one.settled and one.confirmed_by == "probe" for one in evidence.results)


def unsettled(evidence: Evidence, *reasons: Reason) -> int:
    return sum(not one.settled and (not reasons or one.reason in reasons) for one in evidence.results)


# F1

LOST = "unknown, probe, delivered: one effect, though a second create would be taken"


@pytest.mark.fault("F1", LOST)
@pytest.mark.parametrize("reset", [False, pytest.param(True, marks=THOROUGH)], ids=["closed", "reset"])
def test_a_create_is_done_and_its_answer_lost(hospital: Hospital, seed: int, seen: Seen, reset: bool) -> None:
    """Guard: Delivery.run sends no unknown create again."""
    hospital.fill(seeded(seed, patients=10))
    hospital.partners[PARTNER].inject("commit_then_drop", operation="create", every=2 + seed % 3, reset=reset)
    evidence = settle_all(hospital)
    lost = sum(one.fault == "commit_then_drop" for one in evidence.effects)
    assert evidence.states == evidence.traffic.states
    assert (by_probe(evidence), unsettled(evidence, Reason.CONNECTION_LOST)) == (lost, lost)
    assert lost >= 3
    seen(f"{lost} answers lost, {by_probe(evidence)} found by probe")


@pytest.mark.fault("F1", LOST)
@THOROUGH
def test_an_update_is_done_and_its_answer_lost(hospital: Hospital, seed: int) -> None:
    """The same bytes go again, and change nothing the second time. The pause of 4 s after it is the partner's published worst time."""
    hospital.fill(seeded(seed, patients=3))
    hospital.partners[PARTNER].inject("commit_then_drop", operation="update", next=1)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states


@pytest.mark.fault("F1", LOST)
@THOROUGH
def test_a_create_is_lost_before_it_was_done_and_goes_out_again(hospital: Hospital, seed: int) -> None:
    """What the probe does not find is created, by the same request."""
    hospital.fill(seeded(seed, patients=6))
    hospital.partners[PARTNER].inject("drop", operation="create", every=2)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert unsettled(evidence, Reason.CONNECTION_LOST) >= 3


# F2

LATE = "as F1: one effect; an answer that comes before the probe is due is recorded, and settles what it says was done"


@pytest.mark.fault("F2", LATE)
def test_the_answer_comes_after_our_timeout_and_the_effect_before_the_probe(hospital: Hospital, seed: int, seen: Seen) -> None:
    """Guard: Delivery._until_probe waits for the partner's worst time; a probe before it would not find the patient, and create again."""
    hospital.set(create={"connect": 3, "read": 0.4, "total": 1.0}, probe_margin=2.0 - 10)
    hospital.fill(seeded(seed, patients=4, updates=1))
    hospital.partners[PARTNER].inject("late", operation="create", next=2, effect_after=1.2, answer_after=2.0)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert (unsettled(evidence, Reason.TIMEOUT) >= 2, by_probe(evidence) >= 2) == (True, True)
    seen("effect 0.8 s after our time-out, probe 0.8 s after the effect; and effect after the probe, refused as a duplicate")


@pytest.mark.fault("F2", LATE)
@pytest.mark.once
def test_the_answer_comes_after_our_timeout_and_before_the_probe_and_says_that_it_was_done(
    hospital: Hospital, seed: int, seen: Seen
) -> None:
    """Guard: Courier._listen keeps the connection. Without it each waits for its probe, and the answer is heard by nobody."""
    hospital.set(create={"connect": 3, "read": 0.4, "total": 1.0}, probe_margin=40.0 - 10)
    hospital.fill(seeded(seed, patients=4, updates=1))
    hospital.partners[PARTNER].inject("late", operation="create", next=2, effect_after=1.2, answer_after=0.3)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    late = [one for one in evidence.results if one.settled and one.confirmed_by == "response" and (one.response_ms or 0) >= 1_000]
    assert (len(late), by_probe(evidence), unsettled(evidence, Reason.TIMEOUT)) == (2, 0, 2)
    seen(f"{len(late)} answers 1.1 s after our time-out: recorded, and no probe was needed")


@pytest.mark.fault("F2", LATE)
@pytest.mark.once
@THOROUGH
def test_the_effect_comes_even_after_the_probe_and_the_partner_keeps_it_single(hospital: Hospital, seed: int) -> None:
    """Beyond its published worst time only the partner itself can refuse the second create; what it says then is no failure."""
    hospital.set(create={"connect": 3, "read": 0.3, "total": 0.6})
    hospital.partners[PARTNER].set(duplicate="duplicate")
    traffic = of_one(seed, ("A04", 0), ("A08", 1))
    hospital.fill(traffic)
    hospital.partners[PARTNER].inject("late", operation="create", next=1, effect_after=2.0)
    assert hospital.drain() == 0, hospital.logs()
    time.sleep(2.2)  # the late one has come to its end as well
    evidence = hospital.evidence()
    assert violations(evidence) == []
    assert evidence.states == traffic.states
    late = [one for one in evidence.effects if one.fault == "late"]
    assert [(one.effect, one.issues) for one in late] == [(NOTHING, ("duplicate",))]


# F4

THROTTLED = "waited as told, capped, no attempt burnt; another partner is not touched"


@pytest.mark.fault("F4", THROTTLED)
@pytest.mark.once
@pytest.mark.parametrize("status", ["429", pytest.param("503", marks=THOROUGH)])
@pytest.mark.parametrize("form", ["seconds", pytest.param("date", marks=THOROUGH)])
def test_it_waits_as_long_as_it_is_told(make_hospital: Make, seed: int, status: str, form: str, seen: Seen) -> None:
    """Guard: Decision.THROTTLED and its wait; the other partner's route has a worker of its own."""
    hospital = make_hospital()
    partner = hospital.partner()
    hospital.partner("other")
    hospital.set(in_flight=1)  # else those that are out already go on
    hospital.fill(Traffic(()))
    worker = hospital.start()
    hospital.until(lambda: len(worker.events("worker_started")) == 2)  # a start may take longer than the wait that is told
    until = int(time.time()) + 5
    partner.inject(status, next=1, operation="create", retry_after="3" if form == "seconds" else formatdate(until, usegmt=True))
    hospital.fill(seeded(seed, patients=4, updates=1, merges=0, garbage=0))
    hospital.until(
        lambda: min(hospital.states(name).get("delivered", 0) for name in (PARTNER, "other")) == len(hospital.traffic.messages)
    )
    assert worker.end() == 0, hospital.logs()
    evidence = hospital.evidence()
    assert violations(evidence) == []
    assert hospital.violations("other") == []
    told = next(one for one in evidence.effects if one.status == int(status))
    again = min(one.received for one in evidence.effects if one.number > told.number)
    assert again >= (told.time + 3 if form == "seconds" else until) - 0.1
    assert {row.attempt for row in evidence.rows} == {1}, "waiting is no attempt"
    done = max(one.time for one in hospital.evidence("other").effects)
    assert done < min(one.received for one in evidence.effects if one.number > told.number), (
        "the other partner was done before it went on"
    )
    seen("3 s in seconds and as a date, 429 and 503; absent: the backoff; absurd: waits, and ends when told")


@pytest.mark.fault("F4", THROTTLED)
@pytest.mark.once
def test_a_429_without_a_word_waits_for_the_backoff(hospital: Hospital, seed: int) -> None:
    hospital.fill(seeded(seed, patients=6))
    hospital.partners[PARTNER].inject("429", probability=0.5, next=10)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert sum(one.status == 429 for one in evidence.effects) >= 5


@pytest.mark.fault("F4", THROTTLED)
@pytest.mark.once
@THOROUGH
@pytest.mark.parametrize("absurd", ["999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurd_wait_is_kept_as_long_as_it_runs_and_holds_up_no_stop(hospital: Hospital, seed: int, absurd: str) -> None:
    """The cap itself (300 s) is tests/partners/test_answers.py's."""
    hospital.set(in_flight=1)
    hospital.fill(seeded(seed, patients=3, updates=0))
    hospital.partners[PARTNER].inject("429", next=1, retry_after=absurd)
    worker = hospital.start("--drain")
    hospital.until(lambda: hospital.partners[PARTNER].requests)
    time.sleep(1)
    assert hospital.partners[PARTNER].requests == 1
    assert worker.end() == 0, hospital.logs()
    assert hospital.violations(over=False) == []
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states


@pytest.mark.fault("F4", THROTTLED)
@pytest.mark.once
@pytest.mark.parametrize("wrong", ["soon", *(pytest.param(each, marks=THOROUGH) for each in ("-1", ""))])
def test_a_wait_that_cannot_be_read_is_none(hospital: Hospital, seed: int, wrong: str) -> None:
    hospital.fill(seeded(seed, patients=3, updates=0))
    hospital.partners[PARTNER].inject("503", next=2, retry_after=wrong)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states


# F5

SICK = "all delivered, order per patient kept, nothing parked"


@pytest.mark.fault("F5", SICK)
def test_a_partner_that_says_503_to_30_percent_for_a_while(hospital: Hospital, seed: int, seen: Seen) -> None:
    """Guard: Decision.FAILED is tried again, and nothing of the patient goes ahead meanwhile."""
    hospital.partners[PARTNER].set(seed=seed)
    hospital.fill(seeded(seed, patients=20))
    hospital.partners[PARTNER].inject("503", probability=0.3)
    evidence = settle_all(hospital)
    refused = sum(one.status == 503 for one in evidence.effects)
    assert evidence.states == evidence.traffic.states
    assert refused >= 5
    assert unsettled(evidence, Reason.UNAVAILABLE) == refused
    seen(f"{refused} times 503 over {len(evidence.traffic.messages)} messages")


@pytest.mark.fault("F5", SICK)
@pytest.mark.parametrize("name", ["503", pytest.param("500", marks=THOROUGH)])
def test_a_partner_that_answers_everybody_with_failures_for_longer_than_a_message_may_fail(
    hospital: Hospital, seed: int, name: str, seen: Seen
) -> None:
    """Guard: Patience counts only while the partner serves somebody. A gateway's page in front of a partner that is away, for hours; here for six times the patience."""
    hospital.tree["delivery"]["patience"] = 0.5
    partner = hospital.partners[PARTNER]
    partner.set(seed=seed)
    partner.inject(name, probability=1.0)
    hospital.fill(seeded(seed, patients=10, updates=1, merges=0, garbage=0))
    worker = hospital.start()
    hospital.until(lambda: worker.events("partner_away"))
    begun, asked = time.monotonic(), partner.requests
    hospital.until(lambda: time.monotonic() - begun > 3 and partner.requests >= asked + 6)
    partner.clear_faults()
    assert worker.end() == 0, hospital.logs()
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert sum(one.status == int(name) for one in evidence.effects) >= 6
    seen(f"all with {name} for six times a message's patience: one at a time to find out, nothing parked")


# F6

REJECTED = "parked at once after one attempt, with its bytes and reason; the others go on"


@pytest.mark.fault("F6", REJECTED)
@pytest.mark.parametrize(
    ("name", "reason"), [pytest.param("400", Reason.REJECTED_INVALID, marks=THOROUGH), ("422", Reason.REJECTED_INVALID)]
)
def test_some_are_refused_for_what_they_say(hospital: Hospital, seed: int, name: str, reason: Reason, seen: Seen) -> None:
    """Guard: Decision.PARKED. One in 15 instead of 1,000, to be seen in seconds."""
    hospital.fill(seeded(seed, patients=20, merges=0, garbage=0))
    hospital.partners[PARTNER].inject(name, every=15)
    evidence = settle_all(hospital)
    refused = [one for one in evidence.effects if one.fault == name]
    parked = [one for one in evidence.results if one.settled and one.state is State.PARKED]
    assert len(parked) == len(refused) >= 3
    assert {(one.reason, one.attempt) for one in parked} == {(reason, 1)}
    assert evidence.states.keys() <= {State.DELIVERED, State.PARKED, State.SUPERSEDED}, (
        "superseded: something newer of the patient went through"
    )
    assert evidence.states[State.DELIVERED] == len(evidence.traffic.messages) - len(refused)
    assert unsettled(evidence) == 0
    seen("some of each 15 refused, each once")


@pytest.mark.fault("F6", REJECTED)
@pytest.mark.timeout(900)
@pytest.mark.slow_faults
def test_of_a_thousand_one_is_refused_and_the_others_wait_no_longer(make_hospital: Make, seed: int, seen: Seen) -> None:
    """Two partners with the same traffic at the same time, in one process: only one refuses anything. The best of three rounds counts, by the clock."""
    hospital = make_hospital()
    partner = hospital.partner(latency=0.05)
    other = hospital.partner("other", latency=0.05)
    people = [Patient(number, seed) for number in range(100)]
    creates = (Message(adt(one, "A04", 0), one.name.encode(), one.name, 0, "A04") for one in people)
    hospital.fill(Traffic(tuple(creates), tuple(people)))
    assert hospital.drain() == 0, hospital.logs()
    random_, ratios = random.Random(seed), []
    worker = hospital.start()
    hospital.until(lambda: len(worker.events("worker_started")) == 2)
    for number in range(3):
        partner.inject("422", request=partner.requests + random_.randint(100, 900))
        appended = hospital.live(people, random_, 1000, every=0.01, minute=1000 * (number + 1))
        asked = len(hospital.traffic.messages)
        hospital.until(lambda asked=asked: min(partner.requests, other.requests) >= asked and settled(hospital) == 2 * asked)  # type: ignore[misc]
        ratios.append(hospital.p95(PARTNER, appended) / hospital.p95("other", appended))
        if ratios[-1] <= 1.10:
            break
    assert worker.end() == 0, hospital.logs()
    assert [hospital.violations(name, silence=False) for name in (PARTNER, "other")] == [[], []]
    refused = [one for one in hospital.evidence().results if one.reason is Reason.REJECTED_INVALID]
    assert [(one.state, one.attempt) for one in refused] == [(State.PARKED, 1)] * len(ratios)
    assert min(ratios) <= 1.10, ratios
    seen(f"1 of 1,000: p95 of all beside the same without, at the same time: {', '.join(f'{one:.2f}' for one in ratios)}")


def settled(hospital: Hospital) -> int:
    return sum(
        number for name in (PARTNER, "other") for state, number in hospital.states(name).items() if state not in UNANSWERED
    )


# F8


def some_quick(rows: list[tuple[str, dict[str, Any]]], *quick: str) -> list[Any]:
    """These at every run, the others in `make faults`."""
    return [pytest.param(name, details, marks=[] if name in quick else [THOROUGH]) for name, details in rows]


FALSE: Final[list[tuple[str, dict[str, Any]]]] = [
    ("error_in_200", {}),
    ("error_in_200", {"issue": "invalid"}),
    ("login_page", {}),
    ("202", {}),
    ("empty_200", {"effect": False}),
    ("answer", {"status": 204}),
    ("answer", {"status": 302, "body": "html"}),
]
NO_SUCCESS = "200 with an error, a login page, 202, an empty 200: no success for a create"


@pytest.mark.fault("F8", NO_SUCCESS)
@pytest.mark.once
@pytest.mark.parametrize(("name", "details"), some_quick(FALSE, "login_page", "202"), ids=str)
def test_what_looks_like_success_and_did_nothing(
    hospital: Hospital, seed: int, name: str, details: dict[str, Any], seen: Seen
) -> None:
    """Guard: the table's rows for 2xx. Were one believed, its patient would not be at the partner."""
    traffic = seeded(seed, patients=4, updates=1, merges=0, garbage=0, again=0)
    hospital.fill(traffic)
    hospital.partners[PARTNER].inject(name, operation="create", next=1, **details)
    evidence = settle_all(hospital)
    delivered = {message.patient for message in traffic.messages if delivered_by(evidence, message.value)}
    assert delivered == set(evidence_created(evidence)) == traffic.created
    parked = [
        one.reason for one in evidence.results if one.settled and one.state is State.PARKED
    ]  # superseded later, by the next update
    assert parked == ([Reason.REJECTED_INVALID] if details.get("issue") == "invalid" else [])
    seen(f"{len(FALSE)} kinds without an effect, 4 with one")


def delivered_by(evidence: Evidence, value: bytes | None) -> bool:
    row = evidence.row_of(value or b"")
    return row is not None and row.state is State.DELIVERED


def evidence_created(evidence: Evidence) -> dict[str, int]:
    return {one.identifier: 1 for one in evidence.effects if one.effect == CREATED and one.identifier}


@pytest.mark.fault("F8", NO_SUCCESS)
@pytest.mark.once
@THOROUGH
@pytest.mark.parametrize("name", ["login_page", "202", "empty_200", "504"])
def test_what_looks_like_nothing_or_half_and_was_done(hospital: Hospital, seed: int, name: str) -> None:
    hospital.fill(seeded(seed, patients=4, updates=1))
    hospital.partners[PARTNER].inject(name, operation="create", next=2, effect=True)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert by_probe(evidence) == 2


# F10

ENDLESS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("slow_loris", {"seconds": 0.05}),
    ("endless_chunks", {"seconds": 0.01}),
    ("huge_body", {"megabytes": 200}),
    ("truncated", {}),
]
ENDED_BY: Final = {
    "slow_loris": Reason.TIMEOUT,
    "endless_chunks": Reason.TIMEOUT,
    "huge_body": Reason.ANSWER_TOO_LARGE,
    "truncated": Reason.CONNECTION_LOST,
}
BOUNDED = "deadline and cap hold; the outcome is unknown, and found out"


@pytest.mark.fault("F10", BOUNDED)
@pytest.mark.once
@pytest.mark.parametrize(("name", "details"), some_quick(ENDLESS, "slow_loris", "huge_body"), ids=[name for name, _ in ENDLESS])
def test_an_answer_that_does_not_end_well(hospital: Hospital, seed: int, name: str, details: dict[str, Any], seen: Seen) -> None:
    """Guard: Exchange.patience (deadline over all reads), HttpsTransport._body (cap)."""
    if name != "huge_body":  # there the cap is to end it
        hospital.set(create={"connect": 3, "read": 1.0, "total": 1.5})
    hospital.fill(seeded(seed, patients=3, updates=1, merges=0))
    hospital.partners[PARTNER].inject(name, operation="create", next=1, **details)
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states
    assert by_probe(evidence) >= 1
    struck = next(one for one in evidence.effects if one.fault == name)
    assert ENDED_BY[name] in {one.reason for one in evidence.results if one.request_id == struck.request_id}
    probe = next(one for one in evidence.effects if one.bundle_id == struck.bundle_id and one.method == "PUT")
    assert probe.received - struck.time < 1.5 + 15, "a deadline, and what a loaded machine needs"
    seen("slow drip, endless chunks, 200 MB, cut off: each ended by deadline or cap")


# F11

IDLE = "a POST is not sent twice in silence: what may have arrived is unknown and probed"


def through(hospital: Hospital, proxy: Proxy) -> None:
    """The partner behind the proxy."""
    hospital.set(base_url=hospital.partners[PARTNER].base_url.replace(f":{hospital.partners[PARTNER].port}/", f":{proxy.port}/"))


@pytest.mark.fault("F11", IDLE)
@pytest.mark.parametrize(
    "order", [Order(hang_up_on=FIRST_REQUEST + 1), Order(cut_answer_to=FIRST_REQUEST + 1)], ids=["before", "after"]
)
@pytest.mark.parametrize("way", [Way.RST, pytest.param(Way.FIN, marks=THOROUGH)])
def test_the_connection_ends_as_we_send_on_it_again(hospital: Hospital, seed: int, order: Order, way: Way, seen: Seen) -> None:
    """Before the partner has read the request, or after. Guard: urllib3's retries are off (max_retries False), http.client resends nothing."""
    partner = hospital.partners[PARTNER]
    with Proxy(("127.0.0.1", partner.port)) as proxy:
        through(hospital, proxy)
        hospital.set(in_flight=1)  # else each has a connection of its own
        hospital.fill(seeded(seed, patients=5, updates=0, merges=0, garbage=0, again=0))
        proxy.order(Order(hang_up_on=order.hang_up_on, cut_answer_to=order.cut_answer_to, way=way, times=2))
        evidence = settle_all(hospital)
        assert proxy.ended >= 1
    assert evidence.states == evidence.traffic.states
    assert unsettled(evidence, Reason.CONNECTION_LOST) >= 1
    assert max(sum(one.method == "POST" for one in evidence.requests_of(value)) for value in bytes_of(evidence.traffic)) == 1
    seen("hung up before and after the partner read it, by FIN and RST: one POST each at the partner")


def bytes_of(traffic: Traffic) -> list[bytes]:
    return [message.value for message in traffic.messages if message.value]


@pytest.mark.fault("F11", IDLE)
@THOROUGH
def test_the_server_closes_its_idle_connections(hospital: Hospital, seed: int) -> None:
    hospital.partners[PARTNER].inject("close_idle", probability=0.5)
    hospital.fill(seeded(seed, patients=8, updates=1))
    evidence = settle_all(hospital)
    assert evidence.states == evidence.traffic.states


# F12

ONE_CREATE = "one create at the partner; the rest in order, or waiting"


def hot(seed: int) -> Traffic:
    """A create, ten updates, and a second A04 somewhere among them."""
    second = random.Random(seed).randint(1, 10)
    steps = [("A04" if minute in {0, second} else "A08", minute) for minute in range(12)]
    return of_one(seed, *steps) + seeded(seed + 500, patients=4, updates=1, merges=0, garbage=0)


@pytest.mark.fault("F12", ONE_CREATE)
@pytest.mark.parametrize("bus", ["embedded", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.slow_faults])])
def test_behind_an_unknown_create_all_wait_and_then_go_in_order(make_hospital: Make, seed: int, bus: str, seen: Seen) -> None:
    """Guard: the lane; and the claim of the identity in the ledger."""
    hospital = make_hospital(bus=bus)
    partner = hospital.partner()
    hospital.set(probe_margin=1.5 - 10)
    traffic = hot(seed)
    name = traffic.messages[0].patient
    hospital.fill(traffic)
    partner.inject("commit_then_drop", operation="create", patient=name, next=1)
    partner.inject("503", operation="update", patient=name, next=3)
    evidence = settle_all(hospital)
    assert evidence.states == traffic.states
    mine = [one for one in evidence.effects if one.identifier == name and one.effect != NOTHING]
    assert [one.operation for one in mine] == ["create"] + ["update"] * 12, "the probe's repetition, and eleven updates"
    seen("probe 1.5 s later, then 11 updates in order; without a probe: 1 parked as unknown, 11 behind it, nothing sent")


@pytest.mark.fault("F12", ONE_CREATE)
def test_behind_a_create_that_no_probe_can_tell_of_nothing_leaves(hospital: Hospital, seed: int) -> None:
    hospital.set(probe="off")
    hospital.tree["delivery"]["hold"] = 2
    traffic = hot(seed)
    name = traffic.messages[0].patient
    hospital.fill(traffic)
    hospital.partners[PARTNER].inject("commit_then_drop", operation="create", patient=name, next=1)
    evidence = settle_all(hospital)
    reasons = [
        row.reason for message in traffic.messages if message.patient == name and (row := evidence.row_of(message.value or b""))
    ]
    assert reasons == [Reason.PROBE_CANNOT_TELL.value] + [Reason.BLOCKED_BEHIND.value] * 11
    assert [one.operation for one in evidence.effects if one.identifier == name] == ["create"]


@pytest.mark.fault("F12", ONE_CREATE)
@THOROUGH
def test_a_crash_while_the_create_is_unknown_changes_nothing(hospital: Hospital, seed: int) -> None:
    hospital.set(probe_margin=3.0 - 10)
    traffic = hot(seed)
    hospital.fill(traffic)
    hospital.partners[PARTNER].inject("commit_then_drop", operation="create", patient=traffic.messages[0].patient, next=1)
    worker = hospital.start("--drain")
    hospital.until(lambda: worker.events("outcome_unknown"))
    hospital.crash(worker, signal.SIGKILL)
    evidence = settle_all(hospital)
    assert evidence.states == traffic.states
