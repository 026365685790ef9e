"""Parked records behind unknown creates: one question for all of them, and an answer that is never older than said."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery import blocked
from pipeline.delivery.blocked import FRESH, Blocked
from pipeline.errors import LedgerError
from pipeline.model import Position


class Ledger:
    """Who holds a patient, and what was asked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.held: set[Position] = set()
        self.over: set[Position] = set()
        self.asked: list[list[Position]] = []
        self.away = False

    def holding(self, positions: Sequence[Position]) -> set[Position]:
        if self.away:
            raise LedgerError("away")
        self.asked.append(list(positions))
        return self.held & set(positions)

    def ended(self, positions: Sequence[Position]) -> set[Position]:
        return self.over & set(positions)

    def blocked(self) -> Blocked:
        return Blocked(self.holding, self.ended, lambda: self.now)


def at(offset: int) -> Position:
    return Position("his.adt", 0, offset)


def test_a_thousand_that_come_back_ask_once() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    for number in range(1000):
        waits.put(at(1000 + number), at(number % 50))
    ledger.held = {at(number) for number in range(25)}
    assert [waits.still(at(1000 + number)) for number in range(1000)] == [number % 50 < 25 for number in range(1000)]
    assert [sorted(each, key=str) for each in ledger.asked] == [sorted((at(number) for number in range(50)), key=str)]


def test_a_question_is_never_longer_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "PAGE", 3)
    ledger = Ledger()
    waits = ledger.blocked()
    for number in range(7):
        waits.put(at(10 + number), at(number))
    ledger.held = {at(0), at(6)}
    assert [waits.still(at(10 + number)) for number in range(7)] == [True, *[False] * 5, True]
    assert [len(each) for each in ledger.asked] == [3, 3, 1]


def test_what_has_ended_is_known_half_a_second_later() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    waits.put(at(1), at(0))
    ledger.held = {at(0)}
    assert waits.still(at(1))
    ledger.held = set()
    ledger.now += FRESH
    assert not waits.still(at(1))


def test_what_an_operator_ended_waits_for_nobody_any_more() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    waits.put(at(1), at(0))
    ledger.held = {at(0)}
    assert waits.still(at(1))
    ledger.over = {at(1)}
    ledger.now += FRESH
    assert not waits.still(at(1))


def test_what_waits_for_its_own_time_waits_until_then_or_until_it_is_ended() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    for number in (1, 2):
        waits.put_until(at(number), 100)
    assert [waits.still(at(number)) for number in (1, 2, 3)] == [True, True, False]
    ledger.now, ledger.over = 60.0, {at(2)}
    assert [waits.still(at(number)) for number in (1, 2)] == [True, False]
    ledger.now = 100.0
    assert not waits.still(at(1))


def test_what_is_not_ours_any_more_is_not_asked_for() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    waits.put_until(at(1), 100)
    waits.keep(lambda _: False)
    assert not waits.still(at(1))


def test_a_ledger_that_is_away_is_the_callers_to_know_and_is_asked_again() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    waits.put(at(1), at(0))
    ledger.held, ledger.away = {at(0)}, True
    with pytest.raises(LedgerError):
        waits.still(at(1))
    ledger.away = False
    assert waits.still(at(1))


def test_what_was_forgotten_waits_for_nobody() -> None:
    ledger = Ledger()
    waits = ledger.blocked()
    waits.put(at(1), at(0))
    waits.put(at(2), at(0))
    ledger.held = {at(0)}
    waits.put(at(3), at(9))
    ledger.held.add(at(9))
    waits.keep(lambda position: position not in {at(1), at(9)})
    assert [waits.still(at(number)) for number in (1, 2, 3)] == [False, True, False]
    waits.pop(at(2))
    assert not waits.still(at(2))
    assert (waits._behind, waits._asked, waits._held) == ({}, frozenset(), set())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "still", "hold", "release", "pop"]), st.integers(0, 3), st.sampled_from([0.0, 0.2, FRESH])
        ),
        max_size=40,
    )
)
def test_an_answer_is_what_was_true_within_the_last_moment(steps: list[tuple[str, int, float]]) -> None:
    """And of one that began to wait just now, what is true now or was then."""
    ledger = Ledger()
    waits = ledger.blocked()
    behind: dict[int, int] = {}
    history: dict[int, list[tuple[float, bool]]] = {number: [(-1.0, False)] for number in range(4)}
    for what, number, passed in steps:
        ledger.now += passed
        if what == "put":
            behind[number] = (number + 1) % 4
            waits.put(at(10 + number), at(behind[number]))
        elif what == "pop":
            behind.pop(number, None)
            waits.pop(at(10 + number))
        elif what == "still":
            said = waits.still(at(10 + number))
            assert said in (_true_lately(history[behind[number]], ledger.now) if number in behind else {False})
        else:
            (ledger.held.add if what == "hold" else ledger.held.discard)(at(number))
            history[number].append((ledger.now, what == "hold"))


def _true_lately(history: list[tuple[float, bool]], now: float) -> set[bool]:
    before = [held for when, held in history if when <= now - FRESH][-1:]
    return {*before, *(held for when, held in history if when > now - FRESH)}
