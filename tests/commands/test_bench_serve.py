"""The figures of `serve`, over a small store: that they are had at all, and that nothing failed."""

import json

import pytest

from pipeline import cli


def test_searches_are_counted_and_none_fails(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "serve", "--appointments", "200", "--patients", "20", "--clients", "2", "--seconds", "1", "--json"]
    assert cli.main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["searches"] > 0
    assert (figures["failed"], figures["appointments"], figures["patients"]) == (0, 200, 20)


def test_more_patients_than_appointments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "serve", "--appointments", "1", "--patients", "2"]) == 2
    assert "no more patients than appointments" in capsys.readouterr().err
