"""The flood breaker of a route: many parked for one cause stop it, one delivered lets it go on. The clock is handed in."""

import contextlib
import io
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.flood import COMMON, OWN, Flood
from pipeline.settings import FloodSettings
from schemas.outcomes import Reason, State

SETTINGS = FloodSettings(parked=4, share=0.5, window=10, pause=60)
WHY = Reason.MAPPING_FAILED


@dataclass
class Route:
    """A route's flood breaker with a clock that a test moves."""

    now: float = 1000.0
    flood: Flood = field(init=False)

    def __post_init__(self) -> None:
        self.flood = Flood("roche-patients", SETTINGS, clock=lambda: self.now)

    def stopped(self) -> bool:
        return self.flood.stopped

    def settle(self, *ends: State | Reason) -> None:
        """Messages that were taken up and settled, each as its state or as parked for its reason."""
        for number, end in enumerate(ends):
            state, reason = (State.PARKED, end) if isinstance(end, Reason) else (end, None)
            self.flood.ask(number)
            self.flood.told(state, reason, number)

    def stop(self) -> None:
        self.settle(*[WHY] * SETTINGS.parked)
        assert self.stopped()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_reason_either_smells_of_a_common_cause_or_is_a_messages_own() -> None:
    assert COMMON.isdisjoint(OWN)
    assert sorted([*COMMON, *OWN]) == sorted(Reason)


def test_so_many_parked_in_a_row_stop_the_route_and_the_line_names_the_most_frequent_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    route = Route()
    route.settle(Reason.REJECTED_INVALID, WHY, WHY)
    assert not route.stopped()
    route.settle(WHY)
    assert route.stopped()
    (line,) = lines(capsys)
    assert (line["event"], line["route"], line["reason"]) == ("flood_stopped", "roche-patients", WHY)
    assert WHY.sentence in line["do"]


def test_it_counts_what_was_tried_in_vain() -> None:
    route = Route()
    route.stop()
    for number in range(1, 4):
        route.now += SETTINGS.pause
        route.settle(WHY)
        assert route.flood.tries == number
    route.now += SETTINGS.pause
    route.settle(State.DELIVERED)
    assert (route.stopped(), route.flood.tries) == (False, 0)


def test_a_share_of_the_window_stops_it_though_never_many_in_a_row() -> None:
    route = Route()
    for _ in range(4):
        route.settle(State.DELIVERED, WHY)
    route.settle(State.DELIVERED)
    assert not route.stopped()
    route.settle(WHY)
    assert route.stopped()


@pytest.mark.parametrize("reason", sorted(OWN))
def test_what_is_a_messages_own_stops_nothing_however_often(reason: Reason) -> None:
    route = Route()
    route.settle(*[reason] * 50)
    assert not route.stopped()


def test_what_was_filtered_in_between_neither_counts_nor_clears() -> None:
    route = Route()
    route.settle(WHY, State.FILTERED, WHY, State.DUPLICATE, WHY, Reason.BLOCKED_BEHIND)
    assert not route.stopped()
    route.settle(WHY)
    assert route.stopped()


def test_a_delivered_one_clears_the_row() -> None:
    route = Route()
    route.settle(WHY, WHY, WHY, State.DELIVERED, WHY, WHY, WHY)
    assert not route.stopped()


def test_while_it_stands_one_message_per_pause_may_try() -> None:
    route = Route()
    route.stop()
    assert route.flood.ask("a") == 60
    route.now += 60
    assert [route.flood.ask(by) for by in "abab"] == [0.0, 60.0, 0.0, 60.0]
    route.flood.told(State.PARKED, WHY, "a")
    assert [route.flood.ask(by) for by in "ab"] == [60.0, 60.0]
    route.now += 60
    assert route.flood.ask("b") == 0.0


def test_one_that_is_delivered_ends_it_and_counting_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    route = Route()
    route.stop()
    route.now += 60
    route.settle(State.DELIVERED)
    assert [route.flood.ask(by) for by in "abc"] == [0.0, 0.0, 0.0]
    route.settle(WHY, WHY, WHY)
    assert not route.stopped()
    assert [line["event"] for line in lines(capsys)] == ["flood_stopped", "flood_over"]


def test_what_was_begun_before_it_stopped_neither_ends_it_nor_makes_it_longer() -> None:
    route = Route()
    route.flood.ask("before")
    route.stop()
    route.flood.told(State.DELIVERED, None, "before")
    assert route.flood.ask("a") == 60.0


def test_what_was_parked_before_counts_no_more_when_it_is_over() -> None:
    route = Route()
    for _ in range(5):
        route.settle(State.DELIVERED, WHY)
    route.now += 60
    route.settle(State.DELIVERED, WHY)
    assert not route.stopped()


def test_a_trial_of_an_earlier_flood_tells_nothing_of_this_one() -> None:
    route = Route()
    route.stop()
    for by in ("slow", "quick"):
        route.now += 60
        assert route.flood.ask(by) == 0.0
    route.flood.told(State.DELIVERED, None, "quick")
    route.stop()
    route.flood.told(State.DELIVERED, None, "slow")
    assert route.stopped()


@pytest.mark.parametrize("end", [State.FILTERED, State.SUPERSEDED, Reason.BLOCKED_BEHIND])
def test_one_that_found_nothing_out_lets_the_next_try_at_once(end: State | Reason) -> None:
    route = Route()
    route.stop()
    route.now += 60
    route.settle(end)
    assert route.flood.ask("next") == 0.0


def test_one_that_was_left_open_lets_the_next_try_at_once() -> None:
    route = Route()
    route.stop()
    route.now += 60
    assert route.flood.ask("a") == 0.0
    route.flood.back("another")
    assert route.flood.ask("b") == 60.0
    route.flood.back("a")
    assert route.flood.ask("b") == 0.0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([*State]), st.sampled_from([WHY, Reason.REJECTED_INVALID, Reason.BLOCKED_BEHIND, None])),
            st.sampled_from([1.0, 59.0, 61.0]),
        ),
        max_size=80,
    )
)
def test_whatever_comes_a_line_is_a_change_and_a_delivered_trial_ends_it(acts: list[tuple[State, Reason | None] | float]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as written:
        route = Route()
        for act in acts:
            before, told = route.stopped(), len(written.getvalue().splitlines())
            if isinstance(act, float):
                route.now += act
            else:
                leave = route.flood.ask("one") == 0.0
                assert leave or before
                if leave:
                    route.flood.told(*act, "one")
                    assert not (before and act[0] is State.DELIVERED and route.stopped())
            assert len(written.getvalue().splitlines()) - told == (before is not route.stopped())
        route.now += 60
        route.settle(State.DELIVERED)
        assert not route.stopped()
