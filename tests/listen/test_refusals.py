"""Refused frames are counted all, and said seldom."""

import json

import pytest

from pipeline.listen.refusals import _REMEMBERED, AGAIN_SECONDS, Refusal, Refusals


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, str, int]]:
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [(line["peer"], line["problem"].partition(",")[0], line["frames"]) for line in lines]


def test_each_peer_and_problem_is_said_once_and_all_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    refusals = Refusals(Clock())
    for _ in range(5):
        refusals.note("10.0.0.1", Refusal.NOT_HL7)
        refusals.note("10.0.0.1", Refusal.CUT_OFF)
        refusals.note("10.0.0.2", Refusal.NOT_HL7)
    assert said(capfd) == [
        ("10.0.0.1", "no readable MSH segment", 1),
        ("10.0.0.1", "the connection ended within a frame", 1),
        ("10.0.0.2", "no readable MSH segment", 1),
    ]
    assert refusals.count == 15


def test_a_sender_that_goes_on_is_said_again_later_with_the_number(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for clock.now in (0, 1, 2, AGAIN_SECONDS, AGAIN_SECONDS + 1):
        refusals.note("10.0.0.1", Refusal.TOO_LARGE)
    assert said(capfd) == [("10.0.0.1", "larger than site.most_bytes", 1), ("10.0.0.1", "larger than site.most_bytes", 3)]


def test_what_is_remembered_has_a_bound() -> None:
    refusals = Refusals(Clock())
    for number in range(_REMEMBERED + 50):
        refusals.note(f"10.0.{number}", Refusal.NOT_HL7)
        refusals.note(f"10.0.{number}", Refusal.NOT_HL7)
    assert (len(refusals._said), len(refusals._since)) == (_REMEMBERED, _REMEMBERED)
    assert refusals.count == 2 * (_REMEMBERED + 50)
