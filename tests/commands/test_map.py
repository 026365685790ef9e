"""`emr-pipeline map` as a user calls it: what it prints, on which stream, and its exit code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.settings import DEFAULTS, load_offline
from tests.delivery.partner_script import adt
from tests.templates.samples import MAPPINGS


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file_with(content: bytes, name: str = "message.hl7") -> str:
    Path(name).write_bytes(content)
    return name


def test_a_message_is_shown_as_the_create_with_its_secret_masked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", file_with(adt()), "--route", "roche-patients", "--json"]) == 0
    (request,) = json.loads(capsys.readouterr().out)
    assert (request["method"], request["path"]) == ("POST", "/Bundle")
    assert request["headers"]["client_secret"] == "********"
    assert request["headers"]["org_id"] == "2.16.724.4.2"
    assert request["body"]["type"] == "message"
    assert sorted(request) == ["body", "headers", "method", "path"]


def test_known_shows_the_update(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", file_with(adt()), "--json", "--known", "ROCHE-1"]) == 0
    (request,) = json.loads(capsys.readouterr().out)
    assert (request["method"], request["path"]) == ("PUT", "/Bundle/12345678Z")


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (b"garbage", 2, "not_hl7"),
        (b"", 2, "empty"),
        (adt(patient=""), 2, "patient_missing"),
        (adt(authority="NOBODY"), 3, "identifier_system"),
        (adt(family=""), 3, "profile_required"),
    ],
)
def test_what_cannot_go_is_one_object_on_stderr(
    capsys: pytest.CaptureFixture[str], content: bytes, code: int, reason: str
) -> None:
    assert main(["map", file_with(content), "--json"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    error = json.loads(printed.err)
    assert sorted(error) == ["message", "reason", "where"]
    assert error["reason"] == reason


def test_what_is_filtered_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", file_with(adt("A03")), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == []
    assert "partner_has_no_visit" in printed.err


def test_many_messages_of_files_folders_and_batches_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    Path("day").mkdir()
    file_with(adt() + b"\r" + adt("A03", "2") + b"\r", "day/several.hl7")
    file_with(b"garbage", "day/what.bin")
    file_with(b"", "day/nothing.hl7")
    batch = b"FHS|^~\\&\rBHS|^~\\&\r" + adt(authority="NOBODY") + b"\rBTS|1\rFTS|1\r"
    assert main(["map", "--jsonl", "--route", "roche-patients", "day", file_with(batch, "batch.hl7")]) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["file"], line["index"], line["event"], line["outcome"], line["reason"]) for line in lines] == [
        ("day/nothing.hl7", 1, None, "parked", "empty"),
        ("day/several.hl7", 1, "ADT^A04", "mapped", None),
        ("day/several.hl7", 2, "ADT^A03", "filtered", "partner_has_no_visit"),
        ("day/what.bin", 1, None, "parked", "not_hl7"),
        ("batch.hl7", 1, "ADT^A04", "parked", "identifier_system"),
    ]
    assert {tuple(sorted(line)) for line in lines} == {
        ("control_id", "event", "file", "findings", "index", "outcome", "reason", "requests", "where")
    }


def test_explain_says_where_each_element_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", file_with(adt()), "--json", "--explain"]) == 0
    (request,) = json.loads(capsys.readouterr().out)
    assert request["explain"]["Patient.birthDate"] == "PID-7"
    assert request["explain"]["Patient.name[0].family"] == "PID-5.1.1"


def test_explain_numbers_what_there_is_several_of(capsys: pytest.CaptureFixture[str]) -> None:
    message = (MAPPINGS / "njsams" / "golden" / "create-a04-two-coverages.hl7").read_bytes()
    assert main(["map", file_with(message), "--route", "njsams-clients", "--json", "--explain"]) == 0
    told = json.loads(capsys.readouterr().out)[0]["explain"]
    assert {"Patient.birthDate", "Encounter.class.code"} <= set(told)
    policies = {path: place for path, place in told.items() if place.startswith("IN1") and place.endswith("-36")}
    assert {path.partition(".")[0]: place for path, place in policies.items()} == {
        "Coverage[0]": "IN1-36",
        "Coverage[1]": "IN1[2]-36",
    }


@pytest.mark.parametrize(
    ("cx", "place"),
    [
        ("A1^^^CIP&2.16.724.4.41&ISO^PI", "PID-3.4"),
        ("A1^^^&2.16.724.4.41&ISO^PI", "PID-3.4.2"),
        ("A1^^^2.16.724.4.41^PI", "PID-3.4.1"),
        ("999^^^NOBODY^MR~A1^^^CIP&2.16.724.4.41&ISO^PI", "PID-3[2].4"),
    ],
)
def test_explain_says_what_decided_the_identifiers_system(cx: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = re.sub(rb"PID\|1\|\|[^|]*", b"PID|1||" + cx.encode(), adt())
    assert main(["map", file_with(message), "--json", "--explain"]) == 0
    (request,) = json.loads(capsys.readouterr().out)
    assert request["explain"]["Patient.identifier[0].system"] == place
    assert request["explain"]["Patient.identifier[0].value"] == place.partition(".")[0] + ".1"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["map", "nowhere.hl7"], "emr-pipeline map: nowhere.hl7: cannot be read (No such file or directory)"),
        (
            ["map", "several.hl7"],
            "emr-pipeline map: several.hl7: has 2 messages: choose one with --message N, or take all with --jsonl",
        ),
        (
            ["map", "several.hl7", "--known", ""],
            "emr-pipeline map: the argument of --known is empty, and says nothing: is a variable of the shell not set?",
        ),
        (
            ["map", "--jsonl", "several.hl7", "hollow"],
            "emr-pipeline map: hollow: the folder holds no file (hidden ones are left out)",
        ),
        (["map", "several.hl7", "--message", "3"], "emr-pipeline map: several.hl7: has 2 messages, there is no number 3"),
        (
            ["map", "several.hl7", "--route", "x"],
            f"emr-pipeline map: --route x: no such route in the settings; there is {', '.join(sorted(load_offline(DEFAULTS).routes))}",
        ),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    file_with(adt() + b"\r" + adt("A03", "2"), "several.hl7")
    Path("hollow").mkdir()
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines() == [line]
