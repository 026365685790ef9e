"""results: in order of settled time, from where it is asked for, followed from the end on."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Record, TopicPartition, TopicSettings
from pipeline.cli import main
from pipeline.commands import results
from schemas.outcomes import Reason, State
from schemas.result import Result
from tests.commands import hospital

TOPIC = "emr.results"


def result(number: int, *, partition: int, state: State = State.DELIVERED) -> Record:
    text = Result(
        result_id=str(number),
        route="roche-patients",
        partner="roche",
        settled=True,
        state=state,
        reason=Reason.FHIR_INVALID if state is State.PARKED else None,
        control_id=f"MSG{number}",
        source_topic="his.adt",
        source_partition=0,
        source_offset=1_000 - number,  # another order than the settled times
        settled_ms=number * 1_000_000,
    ).model_dump_json(exclude_none=True)
    return Record(TOPIC, text.encode(), partition=partition)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    return str(hospital.write(tmp_path))


@pytest.fixture
def bus(settings: str) -> Iterator[EmbeddedBus]:
    """Four results that stand on two partitions in another order than they were settled in."""
    opened = EmbeddedBus(Path(settings).parent / "bus")
    opened.create_topics([TopicSettings(TOPIC, 2)])
    with opened.producer() as producer:
        producer.append([result(2, partition=0), result(4, partition=0, state=State.PARKED)])
        producer.append([result(1, partition=1), result(3, partition=1)])
    yield opened
    opened.close()


def shown(out: str) -> list[int]:
    return [json.loads(line)["settled_ms"] // 1_000_000 for line in out.splitlines()]


@pytest.mark.usefixtures("bus")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], [1, 2, 3, 4]),
        (["--last", "2"], [3, 4]),
        (["--most", "2"], [3, 4]),
        (["--last", "0"], [1, 2, 3, 4]),
        (["--state", "delivered", "--last", "2"], [2, 3]),
        (["--since", "1970-01-01T00:40:00+00:00"], [3, 4]),
        (["--since", "1970-01-01T00:40:00+00:00", "--last", "1"], [4]),
        (["--since", "1m"], []),
    ],
)
def test_results_stand_in_the_order_of_settled_time(
    settings: str, asked: list[str], expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["results", "--json", "--settings", settings, *asked]) == 0
    assert shown(capsys.readouterr().out) == expected


@pytest.mark.usefixtures("bus")
def test_that_older_ones_are_left_out_is_said(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "MOST", 3)
    assert main(["results", "--json", "--settings", settings]) == 0
    captured = capsys.readouterr()
    assert shown(captured.out) == [2, 3, 4]
    assert "the newest 3 are shown" in captured.err


@pytest.mark.parametrize(("asked", "before"), [([], []), (["--last", "1"], [4]), (["--since", "1970-01-02"], [])])
def test_follow_begins_at_the_end_or_where_it_is_asked_to(  # noqa: PLR0917 - fixtures
    bus: EmbeddedBus,
    settings: str,
    asked: list[str],
    before: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    looks = threading.Event()

    def pause(_seconds: float) -> None:
        if looks.is_set():
            raise KeyboardInterrupt  # Ctrl-C at the second look
        looks.set()
        with bus.producer() as producer:
            producer.append([result(200, partition=1)])

    monkeypatch.setattr(time, "sleep", pause)
    assert main(["results", "--follow", "--json", "--settings", settings, *asked]) == 130
    assert shown(capsys.readouterr().out) == [*before, 200]


def test_follow_shows_a_topics_first_result_where_it_is_made_meanwhile(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = EmbeddedBus(Path(settings).parent / "bus")
    looks = threading.Event()

    def pause(_seconds: float) -> None:
        if looks.is_set():
            raise KeyboardInterrupt
        looks.set()
        opened.create_topics([TopicSettings(TOPIC, 2)])
        with opened.producer() as producer:
            producer.append([result(1, partition=1)])

    monkeypatch.setattr(time, "sleep", pause)
    assert main(["results", "--follow", "--json", "--settings", settings]) == 130
    opened.close()
    assert shown(capsys.readouterr().out) == [1]


def test_a_record_that_is_no_result_is_said_and_passed_over(
    bus: EmbeddedBus, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with bus.producer() as producer:
        producer.append([Record(TOPIC, b'{"of": "the future"}', partition=0)])
    assert main(["results", "--json", "--settings", settings]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == [1, 2, 3, 4]
    assert err == f"{TOPIC}/0/2 is no result that this version can read\n"


def test_what_comes_while_it_looks_is_left_to_follow(bus: EmbeddedBus) -> None:
    ends = {TopicPartition(TOPIC, 0): 1, TopicPartition(TOPIC, 1): 2}
    assert sorted(one.settled_ms // 1_000_000 for one, _ in results._there(bus, TOPIC, ends)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--route", "roqua"], "--route: no such route in the settings; there is roche-patients"),
        (["--last", "-1"], "--last: a number, 0 for all"),
        (["--since", "monday"], "--since: a time as"),
    ],
)
def test_a_question_that_says_nothing_is_one_line(
    settings: str, asked: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["results", "--settings", settings, *asked]) == 2
    assert capsys.readouterr().err.startswith(f"emr-pipeline results: {line}")


@pytest.mark.parametrize("command", ["results", "find"])
def test_an_unknown_state_is_refused_with_the_choices(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--state", "deliverd"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"emr-pipeline {command}: argument --state: no such state; there is delivered, filtered, duplicate, superseded, discarded, pending,"
        f" parked, unknown (emr-pipeline {command} --help)\n"
    )


def test_an_unknown_reason_is_refused_with_what_looks_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["find", "--reason", "fhir_invald"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no such reason; there is fhir_invalid" in last
    assert len(last) < 200
