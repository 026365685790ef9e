"""dead-letters: what was parked, and the bytes of one for who asks for them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Record, TopicSettings
from pipeline.cli import main
from pipeline.commands.dead_letters import readable
from schemas.dead_letter import PREFIX, DeadLetter
from schemas.outcomes import Reason
from tests.commands import hospital

TOPIC = "emr.dead-letters.roche-patients"
CANARY = b"MSH|^~\\&|CANARY\r\nPID|\x1b[2J\r"


def letter(offset: int, reason: Reason, value: bytes | None = CANARY, **more: str) -> Record:
    said = DeadLetter(
        route="roche-patients",
        partner="roche",
        reason=reason,
        where="PID-5",
        result_id=str(offset),
        source_topic="his.adt",
        source_partition=1,
        source_offset=offset,
        parked_ms=offset * 1_000_000,
    )
    headers = {PREFIX + name: str(each) for name, each in (said.model_dump(exclude_none=True) | more).items()}
    return Record(TOPIC, value, key=b"k", headers=tuple((name, each.encode()) for name, each in headers.items()))


@pytest.fixture
def settings(tmp_path: Path) -> str:
    return str(hospital.write(tmp_path))


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EmbeddedBus]:
    opened = EmbeddedBus(tmp_path / "bus")
    opened.create_topics([TopicSettings(TOPIC)])
    yield opened
    opened.close()


@pytest.fixture
def filled(bus: EmbeddedBus, settings: str) -> str:
    with bus.producer() as producer:
        producer.append([letter(1, Reason.NOT_HL7), letter(2, Reason.FHIR_INVALID, b"second"), letter(3, Reason.EMPTY, None)])
    return settings


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], ["his.adt/1/3", "his.adt/1/2", "his.adt/1/1"]),
        (["--reason", "not_hl7"], ["his.adt/1/1"]),
        (["--last", "1"], ["his.adt/1/3"]),
        (["--since", "1970-01-01T00:30:00+00:00"], ["his.adt/1/3", "his.adt/1/2"]),
        (["--route", "roche-patients", "--since", "1m"], []),
    ],
)
def test_dead_letters_are_listed_newest_first(
    filled: str, asked: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead-letters", "--json", "--settings", filled, *asked]) == 0
    assert [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()] == expected


def test_the_list_has_the_reasons_meaning_and_no_patient_data(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "--settings", filled]) == 0
    assert main(["dead-letters", "--json", "--settings", filled]) == 0
    out = capsys.readouterr().out
    assert f"not_hl7: {Reason.NOT_HL7.sentence}" in out
    assert "CANARY" not in out


@pytest.mark.parametrize("place", ["his.adt/1/1", f"{TOPIC}/0/0"])
def test_the_bytes_of_one_are_those_that_came(filled: str, place: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["dead-letters", "--bytes", place, "--settings", filled]) == 0
    assert capfdbinary.readouterr().out == CANARY


def test_of_a_message_that_was_parked_twice_the_newest_is_meant(
    bus: EmbeddedBus, filled: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with bus.producer() as producer:
        producer.append([letter(1, Reason.NOT_HL7, b"newer", parked_ms="9000000")])
    assert main(["dead-letters", "--bytes", "his.adt/1/1", "--settings", filled]) == 0
    assert capfdbinary.readouterr().out == b"newer"


def test_a_message_that_is_not_in_its_dead_letter_is_marked_and_its_place_is_told(
    bus: EmbeddedBus, filled: str, capfd: pytest.CaptureFixture[str]
) -> None:
    left_out = {"left_out": "value", "source_bytes": "33000000"}
    with bus.producer() as producer:
        producer.append([letter(9, Reason.TOO_LARGE, None, **left_out)])
    assert main(["dead-letters", "--settings", filled]) == 0
    out = capfd.readouterr().out
    assert ("33000000*" in out, "* too large for the dead-letter topic: the message stands in the source topic" in out) == (
        True,
        True,
    )
    assert main(["dead-letters", "--json", "--last", "1", "--settings", filled]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["source"], told["bytes"], told["left_out"]) == ("his.adt/1/9", 33_000_000, "value")
    assert main(["dead-letters", "--bytes", "his.adt/1/9", "--settings", filled]) == 2
    out, err = capfd.readouterr()
    assert (out, f"33000000 bytes, was too large for {TOPIC}: it stands in the source topic alone, at his.adt/1/9" in err) == (
        "",
        True,
    )


def test_of_a_message_that_was_parked_twice_the_dead_letter_that_has_it_is_written(
    bus: EmbeddedBus, filled: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    left_out = {"left_out": "record", "source_bytes": "33000000", "parked_ms": "9000000"}
    with bus.producer() as producer:
        producer.append([letter(1, Reason.NOT_HL7, None, **left_out)])
    assert main(["dead-letters", "--bytes", "his.adt/1/1", "--settings", filled]) == 0
    assert capfdbinary.readouterr().out == CANARY


def test_a_header_of_the_source_record_leaves_nothing_out(
    bus: EmbeddedBus, filled: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with bus.producer() as producer:
        producer.append([letter(9, Reason.NOT_HL7, b"whole", left_out="value", source_bytes="7")])
    assert main(["dead-letters", "--bytes", "his.adt/1/9", "--settings", filled]) == 0
    assert capfdbinary.readouterr().out == b"whole"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("his.adt/1/7", "no dead letter of his.adt/1/7: find --state parked shows what is parked"),
        ("seven", "--bytes: TOPIC/PARTITION/OFFSET, as his.adt/0/17"),
    ],
)
def test_a_place_without_a_dead_letter_is_one_line(
    filled: str, place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead-letters", "--bytes", place, "--settings", filled]) == 2
    assert capsys.readouterr().err == f"emr-pipeline dead-letters: {said}\n"


def test_what_others_wrote_there_is_counted(bus: EmbeddedBus, filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    with bus.producer() as producer:
        producer.append([Record(TOPIC, b"x"), letter(5, Reason.EMPTY, parked_ms="of the future")])
    assert main(["dead-letters", "--json", "--settings", filled]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err == f"{TOPIC}: 2 records are no dead letters that this version can read\n"


def test_where_nothing_was_parked_it_says_so(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "--settings", settings]) == 0
    out, err = capsys.readouterr()
    assert (out, f"{TOPIC} is not there" in err) == ("no dead letters\n", True)


def test_on_a_terminal_a_message_has_line_ends_and_no_control_characters() -> None:
    assert readable(CANARY) == "MSH|^~\\&|CANARY\nPID|?[2J"
