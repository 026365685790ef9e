"""What is promised by the ledger is asked for first, waited for later, and asked for again while the ledger is away."""

import threading
from collections.abc import Callable
from typing import Final

import pytest

from pipeline.delivery.steady import Outages, Steady, Stopped
from pipeline.errors import LedgerError
from pipeline.ledger.port import Held
from pipeline.transport.port import Pause, landed
from tests.delivery.promises import Asked

AWAY: Final = LedgerError("away", where="ledger")


class Now:
    """No pause between two tries."""

    def after(self, _: int) -> float:
        return 0.0


class Ledger:
    """Answers in turn; `asked` says how often it was asked, `waited` how often for the result."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers, self.asked, self.waited = list(answers), 0, 0

    def ask(self) -> Asked[int]:
        self.asked += 1
        return Asked(self.result)

    def result(self) -> int:
        self.waited += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def steady(stop: threading.Event | None = None) -> Steady:
    return Steady(Outages("route"), stop or threading.Event(), Now())


def test_it_is_asked_at_once_and_waited_for_when_others_have_asked_too() -> None:
    ledger = Ledger(7)
    flight = steady().soon(ledger.ask)
    assert next(flight) is Pause.TOGETHER
    assert (ledger.asked, ledger.waited) == (1, 0)
    with pytest.raises(StopIteration) as end:
        next(flight)
    assert (end.value.value, ledger.asked, ledger.waited) == (7, 1, 1)


def test_while_the_ledger_is_away_it_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(AWAY, AWAY, 7)
    assert landed(steady().soon(ledger.ask)) == 7
    assert ledger.asked == 3
    said = capsys.readouterr()
    assert (said.out + said.err).count("ledger_away") <= 1


@pytest.mark.parametrize("error", [Held("another's"), ValueError("a defect")])
def test_an_answer_that_is_an_error_is_not_asked_for_again(error: Exception) -> None:
    ledger = Ledger(error)
    with pytest.raises(type(error)):
        landed(steady().soon(ledger.ask))
    assert ledger.asked == 1


def test_a_stop_ends_it() -> None:
    stop = threading.Event()
    stop.set()
    asks: Callable[[], Asked[int]] = Ledger(AWAY).ask
    with pytest.raises(Stopped):
        landed(steady(stop).soon(asks))


def test_what_was_broken_before_the_ledger_came_back_is_no_news_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Its answer is read late: others have waited for the same outage, and were told that it is over. Guard: Outages.returns."""
    outages = Outages("route")
    mine, others = Ledger(AWAY, 7), Ledger(AWAY, 8)
    late = Steady(outages, threading.Event(), Now()).soon(mine.ask)
    assert next(late) is Pause.TOGETHER
    assert landed(Steady(outages, threading.Event(), Now()).soon(others.ask)) == 8
    with pytest.raises(StopIteration) as end:
        next(late)
    assert (end.value.value, mine.asked) == (7, 2)
    said = capsys.readouterr().err
    assert [said.count(each) for each in ("ledger_away", "ledger_back")] == [1, 1]


def test_what_is_away_again_by_then_is_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    outages = Outages("route")
    mine, others = Ledger(AWAY, AWAY, 7), Ledger(AWAY, 8)
    late = Steady(outages, threading.Event(), Now()).soon(mine.ask)
    next(late)
    landed(Steady(outages, threading.Event(), Now()).soon(others.ask))
    with pytest.raises(StopIteration) as end:
        next(late)
    assert (end.value.value, mine.asked) == (7, 3)
    said = capsys.readouterr().err
    assert [said.count(each) for each in ("ledger_away", "ledger_back")] == [2, 2]
