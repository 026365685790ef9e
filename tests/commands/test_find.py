"""find: what an operator asks at night, and what a script reads."""

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import flow, wiring
from pipeline.cli import main
from pipeline.commands.find import _patients, printable, table, time_of
from pipeline.errors import SettingsError
from pipeline.ledger.port import Delivery
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Position, Received, Routed
from pipeline.settings import load
from schemas.outcomes import Reason, State
from tests.commands import hospital
from tests.ledger.samples import CIP, PSEUDONYMS, Message, begun, settled


@pytest.fixture
def settings(tmp_path: Path) -> str:
    return str(hospital.write(tmp_path))


@pytest.fixture
def filled(tmp_path: Path, settings: str) -> str:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.settle(settled(Message(1), State.FILTERED, Reason.NOT_PRODUCTION, at_ms=1_000_000))
    ledger.settle(settled(Message(2, patient="CIP2"), State.PARKED, Reason.FHIR_INVALID, at_ms=2_000_000))
    ledger.close()
    return settings


def test_on_nothing_it_says_so_and_makes_nothing(tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", "--settings", settings]) == 0
    assert "nothing has run yet" in capsys.readouterr().out
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_table_says_what_the_reasons_mean(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", "--state", "parked", "--settings", filled]) == 0
    out = capsys.readouterr().out
    assert "his.adt/0/2" in out
    assert f"fhir_invalid: {Reason.FHIR_INVALID.sentence}" in out
    assert "his.adt/0/1" not in out


def test_a_star_has_its_legend() -> None:
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(Delivery))
    one = Delivery(
        **nothing | {"route": "r", "position": Position("his.adt", 0, 1), "state": State.PENDING, "at_ms": 0, "open": True}
    )
    assert any(line.startswith("*: sent or about to be") for line in table([one], 100))
    assert not any(line.startswith("*") for line in table([replace(one, open=False)], 100))


@pytest.mark.parametrize(
    "asked",
    [
        ["--patient-id", f"{CIP}|CIP2"],
        ["--reason", "fhir_invalid"],
        ["--control-id", "MSG0-2"],
        ["--event", "a08", "--since", "1970-01-01T00:30:00+00:00"],
        ["--position", "his.adt/0/2"],
        ["--position", "his.adt/0/2..9"],
        ["--most", "1"],
    ],
)
def test_each_question_finds_its_delivery(filled: str, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", *asked, "--json", "--settings", filled]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["position"] == "his.adt/0/2"


def test_unknown_is_all_that_may_have_arrived(tmp_path: Path, filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a crash left open, and what was parked so: the runbook's first looks promise both."""
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.begin(begun(Message(3, patient="CIP3")))
    ledger.settle(settled(Message(4, patient="CIP4"), State.PARKED, Reason.PROBE_CANNOT_TELL, at_ms=2_000_000))
    ledger.close()
    assert main(["find", "--state", "unknown", "--settings", filled]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "his.adt/0/" in line]
    assert ["probe_cannot_tell" in rows[0], "pending*" in rows[1], len(rows)] == [True, True, 2]


@pytest.mark.parametrize(
    "asked",
    [
        ["--since", "yesterday"],
        ["--patient-id", "CIP2"],
        ["--position", "17"],
        ["--position", "his.adt/0/3..2"],
        ["--route", "other"],
        ["--most", "0"],
        ["--most", "99999999999999999999"],
        ["--http-status", "99999999999999999999"],
        ["--position", "his.adt/0/99999999999999999999"],
        ["--position", "his.adt/9999999999/0"],
        ["--position", "his.adt/0/0..99999999999999999999"],
    ],
)
def test_a_question_that_says_nothing_is_one_line(filled: str, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", *asked, "--settings", filled]) == 2
    assert asked[0] in capsys.readouterr().err


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine, and not the site of the settings."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
def test_a_time_without_an_offset_is_one_as_the_table_shows_it(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert time_of("1970-01-01T01:00", "--since") == 6 * 3_600_000
    assert time_of("1970-01-01T01:00Z", "--since") == 3_600_000
    assert main(["find", "--settings", filled]) == 0
    newest = capsys.readouterr().out.splitlines()[1][:19]
    assert main(["find", "--since", newest, "--settings", filled]) == 0
    assert newest in capsys.readouterr().out


@pytest.mark.parametrize("text", ["99999999999999d", "0001-01-01"])
def test_a_time_that_is_none_is_a_line_and_no_defect(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--since: a time as"):
        time_of(text, "--since")


@pytest.mark.parametrize("command", [["find"], ["replay", "plan"]])
def test_a_filter_that_is_given_twice_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of two reasons only the last would be selected, and nobody would be told."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--reason", "fhir_invalid", "--reason", "profile_required"])
    assert ended.value.code == 2
    assert "argument --reason: takes one value" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("A\x1b[2J") == "A?[2J"


def test_the_patient_is_asked_for_as_the_route_writes_it(tmp_path: Path) -> None:
    loaded = load(hospital.write(tmp_path))
    plan = wiring.plan_of(loaded, "roche-patients", wiring.catalogue_of(loaded), PSEUDONYMS)
    message = f"MSH|^~\\&|HIX|OLVG|||20260131||ADT^A04|1|P|2.5\rPID|||CIP2^^^&{CIP.removeprefix('urn:oid:')}&ISO\r"
    routed = flow.read(Received(Message(1).position, message.encode()), plan)
    assert isinstance(routed, Routed)
    (asked,) = _patients(Namespace(patient_id=f"{CIP}|CIP2"), loaded)
    assert routed.lane == asked


@pytest.mark.parametrize(
    "words", [["find"], ["identities", "export"], ["trace", "his.adt/0/2"], ["replay", "list"], ["doctor", "--json"]]
)
def test_a_ledger_of_a_newer_program_is_refused_by_whatever_reads_it(
    tmp_path: Path, filled: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    with ledger._write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'")
    ledger.close()
    code = main([*words, "--settings", filled])
    said = capsys.readouterr()
    told = "ledger.url: the ledger has schema 0099, which is newer than this program: start the newer version"
    if words[0] == "doctor":
        (line,) = [one for one in map(json.loads, said.out.splitlines()) if one["what"] == "ledger"]
        assert (line["level"], line["found"]) == ("FAIL", told)
    else:
        assert (code, said.out, said.err) == (4, "", f"emr-pipeline {words[0]}: {told}\n")
