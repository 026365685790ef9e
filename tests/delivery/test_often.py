"""A log that can be read at night: the first message of a cause has a line, and a thousand more of them have one."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.delivery.often import SECONDS, Often
from pipeline.model import Position
from pipeline.telemetry import LogEvent
from schemas.outcomes import Reason
from tests.delivery.partner_script import House

PARKED = LogEvent.MESSAGE_PARKED


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at(offset: int) -> Position:
    return Position("his.adt", 0, offset)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [{name: value for name, value in line.items() if name not in {"time", "do", "route"}} for line in said]


def test_the_first_of_a_cause_is_said_at_once_and_the_others_together_when_their_time_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    often = Often("r", clock=clock)
    for offset in range(5):
        often.happened(PARKED, Reason.NOT_HL7, at(offset))
    often.happened(PARKED, Reason.STALE, at(7), "PID-3.1")
    often.happened(LogEvent.OUTCOME_UNKNOWN, Reason.TIMEOUT, at(8))
    assert lines(capsys) == [
        {"event": "message_parked", "reason": "not_hl7", "at": "his.adt/0/0"},
        {"event": "message_parked", "reason": "stale", "at": "his.adt/0/7", "where": "PID-3.1"},
        {"event": "outcome_unknown", "reason": "timeout", "at": "his.adt/0/8"},
    ]
    clock.now = SECONDS - 1
    often.look()
    assert lines(capsys) == []
    clock.now = SECONDS
    often.look()
    assert lines(capsys) == [{"event": "message_parked", "reason": "not_hl7", "more": 4, "last": "his.adt/0/4"}]


def test_what_goes_on_has_a_line_each_time_and_what_comes_again_later_is_a_first_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    often = Often("r", clock=clock)
    for ten_minutes in range(4):
        clock.now = ten_minutes * SECONDS
        often.look()
        often.happened(PARKED, Reason.NOT_HL7, at(ten_minutes))
    assert [line.get("more") for line in lines(capsys)] == [None, None, None, None]  # one each time: no line says "more: 0"
    often.happened(PARKED, Reason.NOT_HL7, at(4))
    clock.now += SECONDS
    often.look()
    clock.now += SECONDS
    often.look()
    often.happened(PARKED, Reason.NOT_HL7, at(5))
    assert [line.get("more") for line in lines(capsys)] == [1, None]


def test_at_the_end_nothing_is_left_unsaid(capsys: pytest.CaptureFixture[str]) -> None:
    often = Often("r", clock=Clock())
    for offset in range(3):
        often.happened(PARKED, Reason.NOT_HL7, at(offset))
    often.look(last=True)
    assert [line.get("more") for line in lines(capsys)] == [None, 2]


def test_a_worker_that_parks_many_says_two_lines_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = House(tmp_path)
    house.send(*(b"garbage %d" % number for number in range(12)))
    house.work()
    house.close()
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "message_parked" in line]
    assert [line.get("more") for line in said] == [None, 11]
    assert all("find --state parked --reason not_hl7" in line["do"] for line in said)
