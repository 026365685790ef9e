"""The figures of `serve`, over a small store: that they are had at all, and that nothing failed."""

import json

import pytest

from pipeline import cli
from tests.postgres_server import a_schema

SMALL = ["--appointments", "200", "--patients", "20", "--clients", "2", "--seconds", "1"]


def test_searches_are_counted_and_none_fails(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "serve", *SMALL, "--rows", "plain", "tls", "--json"]
    assert cli.main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["failed"], row["searches"] > 0) for row in figures["rows"]] == [("plain", 0, True), ("tls", 0, True)]
    assert (figures["database"], figures["appointments"], figures["patients"]) == ("sqlite", 200, 20)


def test_a_postgresql_is_filled_once_and_never_over_somebody(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "serve", *SMALL, "--url", a_schema()]
    assert cli.main(words) == 0
    assert "in postgresql" in capsys.readouterr().out
    assert cli.main(words) == 2
    assert "give an empty database" in capsys.readouterr().err


def test_more_patients_than_appointments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "serve", "--appointments", "1", "--patients", "2"]) == 2
    assert "no more patients than appointments" in capsys.readouterr().err
