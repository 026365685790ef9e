"""A create's answer that comes after our time-out: it counts where it says that it was done, and in any case it is told.

The whole worker on the embedded bus; the connection that is open still is a test's, which lets an answer come back by it.
"""

import threading
import time
from collections.abc import Callable

import pytest

from pipeline.errors import NoAnswer
from pipeline.model import Reply
from pipeline.transport.port import Unanswered
from schemas.outcomes import Reason, State
from tests.delivery.one_patient import AWAITING, BLOCKED, CANNOT_TELL, DELIVERED, create, sent, states, update, working
from tests.delivery.partner_script import House, created, issue, until

pytestmark = pytest.mark.usefixtures("short_pauses")
HOUR = 3600.0


class Line:
    """A connection by which an answer comes when a test says so."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.over = threading.Event()
        self.seconds: float | None = None

    def comes(self, reply: Reply) -> None:
        self.reply = reply
        self.over.set()

    def read(self, seconds: float) -> Reply:
        self.seconds = seconds
        end = time.monotonic() + 60
        while not self.over.wait(0.01) and time.monotonic() < end:
            pass
        if self.reply is None:
            raise NoAnswer(Reason.TIMEOUT)
        return self.reply

    def close(self) -> None:
        self.over.set()


def last_of(house: House, offset: int = 0) -> tuple[State, str | None, int | None, bool]:
    """Of a record's results the last one."""
    one = [each for each in house.results() if each.source_offset == offset][-1]
    return one.state, one.confirmed_by, one.http_status, one.settled


def test_what_was_done_as_a_late_answer_says_is_delivered_and_nobody_waits_for_the_probe(a_house: Callable[..., House]) -> None:
    """Guard: Courier._listen. Without it all wait for the probe, an hour here."""
    house, line = a_house(probe_after=HOUR, hold=0.1), Line()
    house.send(create(1), update(2))
    house.script.answers = [Unanswered(line)]
    with working(house):
        until(lambda: sorted(house.settled()) == [AWAITING, BLOCKED])
        assert line.seconds is not None
        assert line.seconds <= 60
        line.comes(created())
        until(lambda: house.settled()[2:] == [DELIVERED] * 2)
    assert sent(house) == ["POST 1", "PUT 2"]
    assert last_of(house) == (State.DELIVERED, "response", 200, True)
    assert house.committed() == 2


def test_it_tells_what_no_probe_could(a_house: Callable[..., House]) -> None:
    """The record is parked, for a person to ask the partner; its own answer comes first."""
    house, line = a_house(probe="off", probe_after=5), Line()
    house.send(create(1), update(2))
    house.script.answers = [Unanswered(line)]
    with working(house):
        until(lambda: sorted(house.settled()) == [BLOCKED, CANNOT_TELL])
        line.comes(created())
        until(lambda: states(house) == ["delivered"] * 2)
        until(lambda: house.settled()[2:] == [DELIVERED] * 2)
    assert sent(house) == ["POST 1", "PUT 2"]


def test_what_says_that_nothing_was_done_is_told_and_the_probe_decides(a_house: Callable[..., House]) -> None:
    house, line = a_house(probe_after=1.5), Line()
    house.send(create(1))
    house.script.answers = [Unanswered(line)]
    with working(house):
        until(lambda: line.seconds is not None)
        line.comes(issue(400, "structure"))
        until(lambda: any((one.state, one.http_status, one.settled) == (State.UNKNOWN, 400, False) for one in house.results()))
        until(lambda: house.settled() == [DELIVERED])
    assert sent(house) == ["POST 1", "PUT 1"]


def test_what_comes_when_another_attempt_has_begun_is_told_and_changes_nothing(a_house: Callable[..., House]) -> None:
    """Guard: Courier._came_late looks at the row's count of intents."""
    house, line = a_house(probe_after=0.0, backoff_first=0.3, backoff_most=0.3), Line()
    house.send(create(1))
    house.script.answers = [Unanswered(line), issue(404, "not-found"), *[issue(503, "transient")] * 1_000]
    with working(house):
        until(lambda: len(house.script.requests) > 2)
        line.comes(created())
        until(lambda: any((one.state, one.http_status) == (State.UNKNOWN, 200) for one in house.results()))
        assert house.settled() == []
        house.script.answers = []
        until(lambda: house.settled() == [DELIVERED])
    assert sent(house)[:3] == ["POST 1", "PUT 1", "POST 1"]


def test_a_stop_waits_for_no_late_answer(a_house: Callable[..., House]) -> None:
    house, line = a_house(probe_after=HOUR), Line()
    house.send(create(1))
    house.script.answers = [Unanswered(line)]
    with working(house):
        until(lambda: line.seconds is not None)
    assert line.over.is_set()
    assert states(house)[0] in {"unknown", "parked"}, "as far as it had come"
