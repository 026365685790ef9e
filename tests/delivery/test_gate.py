"""The gate of a partner: when it shuts, who finds out, and what the log is told. The clock is handed in and nothing sleeps."""

import contextlib
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.gate import TROUBLE, Gate, GateState
from pipeline.delivery.trouble import HALTED, OVER, Trouble
from pipeline.errors import NoAnswer, NotSent
from pipeline.health import NotReady
from pipeline.model import Decision
from pipeline.settings import BreakerSettings
from pipeline.stages.send import NOBODYS_MESSAGE
from schemas.outcomes import Reason

SETTINGS = BreakerSettings(failures=3, ratio=0.5, window=10, open_first=1, open_most=8, retry_after_most=100)
WELL = (Decision.DELIVERED, Decision.PARKED, Decision.EXISTS, Decision.ABSENT)


@dataclass
class House:
    """A gate with a clock that a test moves, and a knock that does what a test says."""

    settings: BreakerSettings = SETTINGS
    knocking: bool = False
    now: float = 1000.0
    knocks: int = 0
    refuses: NotSent | NoAnswer | None = None
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        knock = self.knock if self.knocking else None
        self.gate = Gate("roche", self.settings, knock=knock, clock=lambda: self.now, jitter=lambda: 1.0)

    def knock(self) -> None:
        self.knocks += 1
        if self.refuses is not None:
            raise self.refuses

    def state(self) -> GateState:
        return self.gate.state

    def attempt(self, decision: Decision, reason: Reason | None = None, **told: object) -> None:
        assert self.gate.ask("one") == 0.0
        self.gate.told(decision, reason, by="one", **told)  # type: ignore[arg-type]

    def away(self) -> None:
        for _ in range(self.settings.failures):
            self.attempt(Decision.FAILED, Reason.UNAVAILABLE)
        assert self.state() is GateState.OPEN

    def wait(self) -> float:
        """Until the next trial may go; how long that was."""
        seconds = self.gate.standing.seconds
        self.now += seconds
        return seconds


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line["event"] for line in lines(capsys)]


# when it shuts


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (Decision.FAILED, Reason.NOT_SENT_CONNECT),
        (Decision.FAILED, Reason.UNAVAILABLE),
        (Decision.UNKNOWN, Reason.TIMEOUT),
        (Decision.UNKNOWN, Reason.PARTNER_EXCEPTION),
    ],
)
def test_a_partner_that_fails_so_often_in_a_row_is_away(decision: Decision, reason: Reason) -> None:
    house = House()
    for _ in range(2):
        house.attempt(decision, reason)
    assert house.state() is GateState.CLOSED
    house.attempt(decision, reason)
    assert (house.gate.standing.trouble, house.gate.standing.reason) == (Trouble.AWAY, reason)
    assert house.gate.ask("another") == 1.0


@pytest.mark.parametrize("decision", WELL)
def test_an_answer_between_failures_shows_that_the_partner_is_there(decision: Decision) -> None:
    house = House()
    for one in (Decision.FAILED, Decision.FAILED, decision, Decision.FAILED, Decision.FAILED):
        house.attempt(one)
    assert house.state() is GateState.CLOSED


def test_an_accepted_message_that_is_not_done_yet_is_no_failure() -> None:
    house = House()
    for _ in range(20):
        house.attempt(Decision.UNKNOWN, Reason.AWAITING_PROBE)
    assert house.state() is GateState.CLOSED


def test_a_share_of_failures_in_the_window_shuts_it_though_never_many_in_a_row() -> None:
    house = House()
    for turn in range(9):
        house.attempt(Decision.FAILED if turn % 2 else Decision.DELIVERED, Reason.UNAVAILABLE if turn % 2 else None)
    assert house.state() is GateState.CLOSED
    house.attempt(Decision.FAILED, Reason.UNAVAILABLE)
    assert house.state() is GateState.OPEN


def test_failures_from_before_it_was_open_count_no_more_when_it_is_closed_again() -> None:
    house = House()
    for turn in range(10):
        house.attempt(Decision.FAILED if turn % 2 else Decision.DELIVERED)
    house.wait()
    house.attempt(Decision.DELIVERED)
    house.attempt(Decision.FAILED)
    assert house.state() is GateState.CLOSED


def test_a_partner_that_refuses_us_as_a_whole_shuts_it_at_once_and_is_tried_at_the_longest_pause() -> None:
    house = House()
    house.attempt(Decision.HALTED, Reason.REFUSED_CLIENT)
    assert house.gate.standing.trouble is Trouble.HALTED
    assert house.gate.ask("another") == 8.0


# throttled


@pytest.mark.parametrize(
    ("asked", "waited"), [(30.0, 30.0), (0.0, 1.0), (86_400.0, 100.0), (float("inf"), 100.0), (float("nan"), 1.0), (None, 1.0)]
)
def test_a_partner_that_throttles_is_left_alone_as_long_as_it_asks_within_reason(asked: float | None, waited: float) -> None:
    house = House()
    house.attempt(Decision.THROTTLED, Reason.THROTTLED, retry_after=asked)
    assert house.state() is GateState.THROTTLED
    assert house.gate.ask("another") == waited


def test_after_a_throttle_one_message_tries_and_then_all_go(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    house.attempt(Decision.THROTTLED, Reason.THROTTLED, retry_after=30)
    house.now += 30
    assert house.gate.ask("a") == 0.0
    assert house.gate.ask("b") > 0
    house.gate.told(Decision.DELIVERED, None, by="a")
    assert house.gate.ask("b") == house.gate.ask("c") == 0.0
    assert events(capsys) == ["partner_throttled", "partner_back"]


def test_a_late_throttle_makes_the_wait_longer_and_never_shorter() -> None:
    house = House()
    assert [house.gate.ask(by) for by in "abc"] == [0.0, 0.0, 0.0]
    house.gate.told(Decision.THROTTLED, Reason.THROTTLED, retry_after=20, by="a")
    house.gate.told(Decision.THROTTLED, Reason.THROTTLED, retry_after=40, by="b")
    house.gate.told(Decision.THROTTLED, Reason.THROTTLED, retry_after=10, by="c")
    assert house.gate.ask("d") == 40.0


def test_a_route_is_not_ready_where_its_partner_is_away_or_refuses_us_and_ready_where_it_asks_us_to_wait() -> None:
    why = {}
    for decision in (Decision.DELIVERED, Decision.THROTTLED, Decision.UNKNOWN, Decision.HALTED):
        house = House()
        for _ in range(3 if decision is Decision.UNKNOWN else 1):
            house.attempt(decision)
        why[decision] = house.gate.standing.not_ready
    assert why == {
        Decision.DELIVERED: None,
        Decision.THROTTLED: None,
        Decision.UNKNOWN: NotReady.PARTNER_AWAY,
        Decision.HALTED: NotReady.ROUTE_HALTED,
    }


def test_a_partner_stays_away_while_one_finds_out() -> None:
    house = House()
    house.away()
    house.wait()
    house.gate.ask("trial")
    assert (house.state(), house.gate.standing.not_ready) == (GateState.HALF_OPEN, NotReady.PARTNER_AWAY)


# trials


def test_exactly_one_of_many_threads_gets_the_trial() -> None:
    now = [1000.0]

    def clock() -> float:
        time.sleep(0)  # to let another thread in between: what is asked and what is taken have to be one step
        return now[0]

    gate = Gate("roche", SETTINGS, clock=clock, jitter=lambda: 1.0)
    for _ in range(3):
        gate.told(Decision.FAILED, None)
    now[0] += 2
    together = threading.Barrier(32)

    def ask() -> float:
        together.wait()
        return gate.ask()

    with ThreadPoolExecutor(32) as pool:
        waits = [one.result() for one in [pool.submit(ask) for _ in range(32)]]
    assert sorted(waits) == [0.0] + [1.0] * 31
    assert gate.state is GateState.HALF_OPEN


def test_pauses_double_up_to_the_longest() -> None:
    house = House()
    house.away()
    pauses = []
    for _ in range(6):
        pauses.append(house.wait())
        house.attempt(Decision.FAILED, Reason.UNAVAILABLE)
    assert pauses == [1, 2, 4, 8, 8, 8]


def test_jitter_takes_up_to_half_of_a_pause() -> None:
    gate = Gate("roche", SETTINGS, clock=lambda: 0.0, jitter=lambda: 0.0)
    for _ in range(3):
        gate.told(Decision.FAILED, None)
    assert gate.standing.seconds == 0.5


@pytest.mark.parametrize("decision", WELL)
def test_a_trial_that_is_answered_lets_everything_go_and_the_next_pause_begin_anew(decision: Decision) -> None:
    house = House()
    house.away()
    house.wait()
    house.attempt(Decision.FAILED)
    house.wait()
    house.attempt(decision, Reason.REJECTED_INVALID if decision is Decision.PARKED else None)
    assert house.state() is GateState.CLOSED
    house.away()
    assert house.wait() == 1.0


def test_a_caller_that_did_not_send_gives_its_trial_to_the_next() -> None:
    house = House()
    house.away()
    house.wait()
    assert house.gate.ask("a") == 0.0
    house.gate.back("b")
    assert house.gate.ask("b") > 0
    house.gate.back("a")
    assert house.state() is GateState.OPEN
    assert house.gate.ask("b") == 0.0


def test_a_caller_that_asks_twice_has_its_trial_still() -> None:
    house = House()
    house.away()
    house.wait()
    assert [house.gate.ask("a"), house.gate.ask("b"), house.gate.ask("a")] == [0.0, 1.0, 0.0]


def test_answers_to_attempts_that_began_before_tell_nothing_of_now() -> None:
    house = House()
    late = [f"late {number}" for number in range(64)]
    assert {house.gate.ask(by) for by in late} == {0.0}
    house.away()
    house.gate.told(Decision.DELIVERED, None, by=late.pop())  # else a ratio would never keep it shut
    assert house.state() is GateState.OPEN
    house.wait()
    assert house.gate.ask("trial") == 0.0
    house.gate.told(Decision.FAILED, Reason.TIMEOUT, by=late.pop())
    assert house.state() is GateState.HALF_OPEN
    assert house.gate.ask("another") > 0
    house.gate.told(Decision.DELIVERED, None, by="trial")
    for by in late:
        house.gate.told(Decision.UNKNOWN, Reason.TIMEOUT, by=by)
    assert house.state() is GateState.CLOSED


def test_a_late_refusal_of_us_as_a_whole_counts_while_it_is_shut(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    house.gate.ask("late")
    house.away()
    house.gate.told(Decision.HALTED, Reason.REFUSED_CLIENT, by="late")
    assert house.gate.standing.trouble is Trouble.HALTED
    assert house.wait() == 8.0
    house.attempt(Decision.DELIVERED)
    assert events(capsys) == ["partner_away", "route_halted", "route_resumed"]


# a connection that ended without a word


def test_a_new_connection_that_ends_without_a_word_shuts_it_after_the_first_and_the_trial_is_no_message() -> None:
    house = House(knocking=True, refuses=NoAnswer(Reason.CONNECTION_LOST, fresh=True))
    house.attempt(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    assert house.state() is GateState.OPEN
    for knocks in range(1, 5):
        house.wait()
        assert house.gate.ask("message") > 0  # refused, and no message was spent on it
        assert house.knocks == knocks
    house.refuses = None
    house.wait()
    assert house.gate.ask("message") == 0.0
    assert (house.state(), house.knocks) == (GateState.HALF_OPEN, 5)
    house.gate.told(Decision.DELIVERED, None, by="message")
    assert house.state() is GateState.CLOSED


def test_a_knock_that_is_answered_leaves_one_message_to_find_out_and_its_silence_means_knocking_again() -> None:
    house = House(knocking=True)
    house.attempt(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    house.wait()
    assert [house.gate.ask(by) for by in ("a", "b", "a")] == [0.0, 1.0, 0.0]
    assert house.knocks == 1
    house.gate.told(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True, by="a")
    house.wait()
    house.gate.ask("a")
    assert house.knocks == 2


def test_a_knock_that_meets_a_refused_certificate_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    house = House(knocking=True, refuses=NotSent(Reason.REFUSED_CERTIFICATE))
    house.attempt(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    house.wait()
    assert house.gate.ask("a") == 8.0
    first, second = lines(capsys)
    assert (first["event"], second["event"], second["reason"]) == ("partner_away", "route_halted", "refused_certificate")
    assert "emr-pipeline doctor" in first["do"]


def test_nobody_else_knocks_or_goes_while_one_knocks() -> None:
    now, others = [0.0], []

    def knock() -> None:
        others.append(gate.ask("b"))

    gate = Gate("roche", SETTINGS, knock=knock, clock=lambda: now[0], jitter=lambda: 1.0)
    gate.told(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    now[0] += 1
    assert gate.ask("a") == 0.0
    assert others == [1.0]


def test_a_knock_with_a_defect_gives_the_trial_back() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    house = House()
    gate = Gate("roche", SETTINGS, knock=broken, clock=lambda: house.now)
    gate.told(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    house.now += 1
    with pytest.raises(ZeroDivisionError):
        gate.ask("a")
    assert gate.state is GateState.OPEN


def test_without_a_knock_the_trial_is_a_message() -> None:
    house = House()
    house.attempt(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
    house.wait()
    assert house.gate.ask("a") == 0.0


def test_a_late_suspicion_ends_with_the_trouble_that_it_came_in() -> None:
    house = House(knocking=True)
    house.gate.ask("late")
    house.away()
    house.wait()
    assert house.gate.ask("trial") == 0.0
    house.gate.told(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True, by="late")
    house.gate.told(Decision.DELIVERED, None, by="trial")
    house.away()
    house.wait()
    assert house.gate.ask("message") == 0.0
    assert house.knocks == 0


# the log


def test_a_partner_that_goes_and_comes_back_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    house.away()
    for _ in range(5):
        house.wait()
        house.attempt(Decision.FAILED, Reason.NOT_SENT_TLS)
    house.wait()
    house.attempt(Decision.DELIVERED)
    house.attempt(Decision.DELIVERED)
    assert [(line["event"], line["partner"]) for line in lines(capsys)] == [("partner_away", "roche"), ("partner_back", "roche")]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.NOT_SENT_TLS, "tls.ca"),
        (Reason.NOT_SENT_DNS, "DNS"),
        (Reason.NOT_SENT_CONNECT, "firewall"),
        (Reason.NOT_SENT_TOKEN, "token endpoint"),
        (Reason.TIMEOUT, "tried again"),
    ],
)
def test_the_line_says_what_to_do_about_this_reason(capsys: pytest.CaptureFixture[str], reason: Reason, word: str) -> None:
    house = House()
    for _ in range(3):
        house.attempt(Decision.FAILED, reason)
    (line,) = lines(capsys)
    assert word in line["do"]


def test_another_reason_for_which_the_partner_refuses_us_is_a_line_with_what_to_do_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    house = House()
    for reason in (Reason.REFUSED_CERTIFICATE, Reason.REFUSED_CERTIFICATE, Reason.LOGIN_NEEDED, Reason.LOGIN_NEEDED):
        house.attempt(Decision.HALTED, reason)
        house.wait()
    assert [
        (line["event"], line["reason"], line["do"] == {str(reason): do for reason, do in HALTED.items()}[line["reason"]])
        for line in lines(capsys)
    ] == [
        ("route_halted", "refused_certificate", True),
        ("route_halted", "login_needed", True),
    ]


def test_that_it_may_be_our_certificate_is_told_though_the_partner_was_away_before(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    house.away()
    for _ in range(3):
        house.wait()
        house.attempt(Decision.FAILED, Reason.CONNECTION_LOST, suspect=True)
    assert [(line["event"], "client certificate" in line["do"]) for line in lines(capsys)] == [
        ("partner_away", False),
        ("partner_away", True),
    ]


@pytest.mark.parametrize("certified", [True, False])
def test_our_client_certificate_is_spoken_of_only_where_there_is_one(
    capsys: pytest.CaptureFixture[str], *, certified: bool
) -> None:
    house = House()
    house.gate = Gate("njsams", SETTINGS, certified=certified, clock=lambda: house.now, jitter=lambda: 1.0)
    for _ in range(3):
        house.attempt(Decision.FAILED, Reason.NOT_SENT_TLS)
    for _ in range(2):
        house.wait()
        house.attempt(Decision.FAILED, Reason.CONNECTION_LOST, suspect=True)
    handshake, ended = lines(capsys)
    assert ("tls.ca" in handshake["do"], "client certificate" in handshake["do"]) == (True, certified)
    assert ("without a word" in ended["do"], "client certificate" in ended["do"]) == (True, certified)


def test_what_only_a_person_can_mend_says_how() -> None:
    assert {*NOBODYS_MESSAGE, Reason.REFUSED_CLIENT} == set(HALTED)


def test_a_partner_that_asks_for_patience_again_and_again_does_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """What the ledger or the metrics would say goes on: the log alone keeps quiet, and then says how it ended."""
    house = House()
    for _ in range(100):
        house.attempt(Decision.THROTTLED, Reason.THROTTLED, retry_after=1.0)
        house.wait()
        house.attempt(Decision.DELIVERED)
    house.now += 60
    house.gate.look()
    assert events(capsys) == [*["partner_throttled", "partner_back"] * 3, "partner_unsteady", "partner_back"]


def test_a_trouble_that_turns_into_another_is_a_line_with_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    house = House()
    house.away()
    for decision, reason in (
        (Decision.HALTED, Reason.REFUSED_CLIENT),
        (Decision.THROTTLED, Reason.THROTTLED),
        (Decision.DELIVERED, None),
    ):
        house.wait()
        house.attempt(decision, reason)
    assert events(capsys) == ["partner_away", "route_halted", "partner_throttled", "partner_back"]


# whatever happens

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5)),
        st.tuples(
            st.just("told"), st.integers(0, 5), st.sampled_from(Decision), st.booleans(), st.sampled_from([None, 0.0, 5.0])
        ),
        st.tuples(st.just("back"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 10.0])),
        st.tuples(st.just("knock"), st.sampled_from([None, NoAnswer(Reason.CONNECTION_LOST), NotSent(Reason.NOT_SENT_DNS)])),
    ),
    max_size=60,
)


@given(ACTS)
def test_whatever_comes_one_tries_at_a_time_and_no_line_is_written_without_a_change(acts: list[tuple[object, ...]]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as written:
        house, trial = House(knocking=True), None
        for act in acts:
            before, told = house.gate.standing.trouble, len(written.getvalue().splitlines())
            trial = one_act(house, trial, act)
            after, new = house.gate.standing.trouble, written.getvalue().splitlines()[told:]
            assert len(new) == (before is not after)
            assert (trial is not None) == (house.state() is GateState.HALF_OPEN)
            assert (after is Trouble.NONE) == (house.state() is GateState.CLOSED)
        reach_the_partner(house, trial)
        assert json.loads(written.getvalue().splitlines()[-1])["event"] in OVER.values() if written.getvalue() else True


def one_act(house: House, trial: int | None, act: tuple[object, ...]) -> int | None:
    """Do it; who has the trial afterwards."""
    match act:
        case ("ask", int(by)):
            shut = house.state() is not GateState.CLOSED
            if house.gate.ask(by) == 0.0 and shut:
                assert trial in {None, by}
                return by
        case ("told", int(by), Decision() as decision, bool(suspect), retry_after):
            house.gate.told(decision, None, suspect=suspect, retry_after=retry_after, by=by)  # type: ignore[arg-type]
            if trial == by:
                assert (house.state() is GateState.CLOSED) == (decision not in TROUBLE)
                return None
        case ("back", int(by)):
            house.gate.back(by)
            return None if trial == by else trial
        case ("wait", float(seconds)):
            house.now += seconds
        case ("knock", answer):
            house.refuses = answer  # type: ignore[assignment]
    return trial


def reach_the_partner(house: House, trial: int | None) -> None:
    """A delivered trial ends every trouble, and everything goes."""
    house.refuses = None
    house.now += 1000
    by = 99 if trial is None else trial
    assert house.gate.ask(by) == 0.0
    house.gate.told(Decision.DELIVERED, None, by=by)
    assert house.state() is GateState.CLOSED
    assert [house.gate.ask(other) for other in range(6)] == [0.0] * 6
