"""One log line for a change of the partner's state, none for a retry, each with what to do."""

import json

import pytest

from pipeline.delivery.weather import Sky, Weather
from pipeline.model import Decision
from schemas.outcomes import Reason


def lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str | None]]:
    return [(line["event"], line.get("do")) for line in map(json.loads, capsys.readouterr().err.splitlines())]


def test_a_partner_that_goes_and_comes_back_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    weather = Weather("roche-patients", "roche")
    for decision in (Decision.FAILED, Decision.FAILED, Decision.UNKNOWN, Decision.DELIVERED, Decision.DELIVERED):
        weather.told(decision, Reason.UNAVAILABLE if decision is not Decision.DELIVERED else None)
    assert [event for event, _ in lines(capsys)] == ["partner_away", "partner_back"]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.NOT_SENT_TLS, "tls.ca"),
        (Reason.NOT_SENT_DNS, "DNS"),
        (Reason.NOT_SENT_CONNECT, "firewall"),
        (Reason.TIMEOUT, "tried again"),
    ],
)
def test_the_line_says_what_to_do_about_this_reason(capsys: pytest.CaptureFixture[str], reason: Reason, word: str) -> None:
    Weather("roche-patients", "roche").told(Decision.FAILED, reason)
    ((_, do),) = lines(capsys)
    assert do is not None
    assert word in do


def test_a_partner_that_refuses_us_halts_the_route_until_it_takes_something(capsys: pytest.CaptureFixture[str]) -> None:
    weather = Weather("roche-patients", "roche")
    weather.told(Decision.HALTED, Reason.REFUSED_CLIENT)
    assert weather.sky is Sky.HALTED
    weather.told(Decision.DELIVERED, None)
    assert [event for event, _ in lines(capsys)] == ["route_halted", "route_resumed"]
