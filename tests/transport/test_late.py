"""Answers that come after their time: read where they are wanted, bounded in number and time, and nothing is left open."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from pipeline.errors import NoAnswer
from pipeline.model import Reply
from pipeline.transport.late import LateAnswers
from schemas.outcomes import Reason

REPLY = Reply(200, {}, b"there", 1.0, 1, 2)
WAIT = 60.0


@dataclass(eq=False)
class End:
    """A connection that a test lets an answer come back by."""

    answer: Reply | None = REPLY
    came: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0

    def read(self, seconds: float) -> Reply:
        self.seconds = seconds
        end = time.monotonic() + WAIT
        while not (self.came.wait(0.01) or self.closed.is_set()):
            assert time.monotonic() < end
        if self.closed.is_set() or self.answer is None:
            raise NoAnswer(Reason.CONNECTION_LOST)
        return self.answer

    def close(self) -> None:
        self.closed.set()


def test_what_comes_is_told() -> None:
    late, end, told = LateAnswers(), End(), threading.Event()
    assert late.wait(end, 5.0, lambda reply: told.set() if reply is REPLY else None)
    end.came.set()
    assert told.wait(WAIT)
    assert 0 < end.seconds <= 5.0
    late.close()


def test_no_more_than_so_many_are_kept_open_and_the_rest_is_closed_at_once() -> None:
    """Guard: LateAnswers._most. Each is a thread and a connection, and may be a request more at the partner."""
    late, ends = LateAnswers(2), [End(), End(), End()]
    assert [late.wait(end, 60.0, lambda _: None) for end in ends] == [True, True, False]
    assert [end.closed.is_set() for end in ends] == [False, False, True]
    late.close()


def test_where_none_comes_there_is_room_again() -> None:
    late, first = LateAnswers(1), End(answer=None)
    assert late.wait(first, 60.0, lambda _: pytest.fail("nothing came"))
    first.came.set()
    end = time.monotonic() + WAIT
    while not late.wait(other := End(), 60.0, lambda _: None):
        assert time.monotonic() < end
    late.close()
    assert other.closed.is_set()


def test_after_the_end_nothing_is_told_and_nothing_kept() -> None:
    late, end, told = LateAnswers(), End(), threading.Event()
    late.wait(end, 60.0, lambda _: told.set())
    late.close()
    end.came.set()
    assert (end.closed.is_set(), told.is_set()) == (True, False)
    assert not late.wait(after := End(), 60.0, lambda _: None)
    assert after.closed.is_set()
