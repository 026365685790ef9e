"""The log's lines of a partner: each change, until they come so fast that nobody could read them. The clock is handed in."""

import contextlib
import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.news import AGAIN, CHANGES, STEADY, WITHIN, Change, News
from pipeline.telemetry import LogEvent
from schemas.outcomes import Reason

THROTTLED = Change(LogEvent.PARTNER_THROTTLED, Reason.THROTTLED, "wait")
AWAY = Change(LogEvent.PARTNER_AWAY, Reason.UNAVAILABLE, "ask the partner")
HALTED = Change(LogEvent.ROUTE_HALTED, Reason.REFUSED_CERTIFICATE, "renew it")
BACK = Change(LogEvent.PARTNER_BACK)
RESUMED = Change(LogEvent.ROUTE_RESUMED)


@dataclass
class Told:
    """News, with what the log has of them."""

    now: float = 1000.0

    def __post_init__(self) -> None:
        self.news = News("roche", clock=lambda: self.now)

    def after(self, seconds: float, change: Change | None = None) -> list[dict[str, object]]:
        """The lines that this adds."""
        self.now += seconds
        with contextlib.redirect_stderr(io.StringIO()) as lines:
            if change is None:
                self.news.look()
            else:
                self.news.changed(change)
        return [
            {name: value for name, value in json.loads(line).items() if name != "time"} for line in lines.getvalue().splitlines()
        ]

    def unsteady(self) -> list[dict[str, object]]:
        """It comes and goes; the lines of the last change."""
        for _ in range(CHANGES // 2):
            self.after(0.5, THROTTLED)
            self.after(0.5, BACK)
        return self.after(0.5, THROTTLED)


def events(lines: list[dict[str, object]]) -> list[object]:
    return [line["event"] for line in lines]


def test_a_change_now_and_then_is_a_line_each() -> None:
    told = Told()
    for _ in range(10):
        assert events(told.after(WITHIN / 4, THROTTLED)) == ["partner_throttled"]
        assert events(told.after(WITHIN / 4, BACK)) == ["partner_back"]


def test_where_it_comes_and_goes_one_line_says_so_and_what_to_do() -> None:
    told = Told()
    assert told.unsteady() == [
        {
            "event": "partner_unsteady",
            "partner": "roche",
            "reason": "throttled",
            "changes": CHANGES,
            "do": "wait; it comes and goes: the next line says how it stays",
        }
    ]
    assert [told.after(0.5, change) for change in (BACK, THROTTLED) * 50] == [[]] * 100


@pytest.mark.parametrize(("last", "event"), [(BACK, "partner_back"), (THROTTLED, "partner_throttled")])
def test_when_it_has_stayed_the_same_for_a_minute_a_line_says_how(last: Change, event: str) -> None:
    told = Told()
    told.unsteady()
    told.after(1, BACK)
    told.after(1, THROTTLED)
    told.after(1, last)
    assert told.after(STEADY - 1) == []
    (line,) = told.after(1)
    assert (line["event"], line["changes"], line.get("do")) == (event, 4, last.do)
    assert told.after(STEADY) == [], "once"
    assert events(told.after(1, AWAY)) == ["partner_away"], "and then each change is a line again"


def test_what_is_new_is_told_at_once_though_all_else_is_held_back() -> None:
    told = Told()
    told.unsteady()
    assert events(told.after(1, HALTED)) == ["route_halted"]
    assert events(told.after(1, RESUMED)) == ["route_resumed"]
    assert told.after(1, HALTED) == [], "told already"


def test_while_it_lasts_it_is_said_again_every_ten_minutes_with_how_often() -> None:
    told = Told()
    told.unsteady()
    said: list[dict[str, object]] = []
    for _ in range(int(2.5 * AGAIN) // 20):
        said += told.after(10, BACK) + told.after(10, AWAY)
    assert events(said) == ["partner_away", "partner_unsteady", "partner_unsteady"]
    assert [line.get("changes") for line in said] == [None, 60, 60]
    assert "ask the partner" in str(said[-1]["do"]), "what the last trouble was"


def test_a_change_after_a_long_silence_is_told_after_how_it_stood_until_then() -> None:
    told = Told()
    told.unsteady()
    assert events(told.after(3600, BACK)) == ["partner_throttled", "partner_back"]


CHANGED = st.lists(
    st.tuples(st.sampled_from([0.1, 1.0, 20.0, 59.0, 61.0]), st.sampled_from([THROTTLED, AWAY, HALTED, BACK, RESUMED, None])),
    max_size=60,
)


@given(CHANGED)
def test_the_last_line_is_how_it_stands_once_it_has_stayed_so_for_a_minute_and_no_minute_has_more_than_a_screen(
    changes: list[tuple[float, Change | None]],
) -> None:
    told = Told()
    at: list[float] = []
    shown: list[object] = []
    for seconds, change in changes:
        lines = told.after(seconds, change)
        at += [told.now] * len(lines)
        shown += events(lines)
        if change is not None:
            assert change.event in shown, "no kind of news is kept back altogether"
    shown += events(told.after(STEADY))
    stands = [change.event for _, change in changes if change is not None]
    assert shown[-1:] == stands[-1:]
    assert all(sum(start <= each < start + WITHIN for each in at) <= 2 * CHANGES + 5 for start in at)
