"""`emr-pipeline topics start`: where a route's group reads on, and who is told to call it."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline import wiring
from pipeline.bus.port import TopicPartition, Where
from pipeline.cli import main
from pipeline.errors import BusGap
from pipeline.ledger.plans import What
from pipeline.settings import load
from schemas.outcomes import State
from tests.commands import hospital
from tests.commands.replaying import Call, Hospital, caller
from tests.delivery.partner_script import ROUTE, adt

GROUP = f"emr-pipeline.{ROUTE}"


@pytest.fixture
def call(house: Hospital, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(house, capsys)


@pytest.fixture
def start(call: Call) -> Call:
    return lambda *words: call("topics", "start", *words)


def worked(house: Hospital) -> None:
    """Two messages, delivered."""
    house.send(adt(control_id="1"), adt("A08", "2"))
    house.work()


def renamed(house: Hospital, call: Call) -> None:
    """The source has a new name, as the runbook says of a topic that was made anew."""
    tree = yaml.safe_load(house.settings_file.read_text())
    tree["routes"][ROUTE]["source"] = "his.adt2"
    house.settings_file.write_text(yaml.safe_dump(tree))
    house.settings = load(house.settings_file)
    house.topics = wiring.topics_of(house.settings, ROUTE)
    assert call("topics", "create")[0] == 0


def stands(house: Hospital) -> dict[TopicPartition, int]:
    return house.bus.committed(GROUP, house.topics.source)


def doctor(call: Call) -> dict[str, str] | None:
    """What it says of the route."""
    lines = [json.loads(line) for line in call("doctor", "--json")[1].splitlines()]
    return next((line for line in lines if line["what"] == f"route {ROUTE}"), None)


def test_a_source_of_a_new_name_is_started_by_the_command_that_run_and_doctor_name(
    house: Hospital, call: Call, start: Call
) -> None:
    worked(house)
    assert doctor(call) is None
    renamed(house, call)
    house.send(adt("A08", "3"))
    with pytest.raises(BusGap, match=r"no offset here: start it first, emr-pipeline topics start --at .*runbook: offset_gone"):
        house.work()
    told = doctor(call)
    assert told is not None
    assert (told["level"], told["found"]) == ("FAIL", f"the group {GROUP} has no offset of his.adt2")
    assert f"emr-pipeline topics start --route {ROUTE} --at" in told["do"]
    code, out, err = start("--route", ROUTE, "--at", "earliest")
    assert (code, err) == (0, "")
    assert "  his.adt2/0: from nothing to 0" in out.splitlines()
    assert doctor(call) is None
    house.work()
    assert house.settled()[-1] == (State.DELIVERED, None)


@pytest.mark.parametrize(("at", "offset"), [("latest", 2), ("2100-01-01", 2), ("1h", 0)])
def test_it_begins_where_it_is_told(house: Hospital, call: Call, start: Call, at: str, offset: int) -> None:
    worked(house)
    renamed(house, call)
    house.send(adt("A08", "3"), adt("A08", "4"))
    told = json.loads(start("--at", at, "--json")[1])
    assert (told["route"], told["group"], told["topic"], len(told["partitions"])) == (ROUTE, GROUP, "his.adt2", 8)
    assert told["partitions"][0] == {"partition": 0, "from": None, "to": offset}
    assert stands(house)[TopicPartition("his.adt2", 0)] == offset


def test_offsets_that_are_there_are_moved_only_when_that_is_meant_and_the_audit_has_why(
    house: Hospital, call: Call, start: Call
) -> None:
    worked(house)
    code, out, err = start("--at", "earliest")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "has its offsets there (his.adt/0 at 2): to move them forward skips records, and back reads them again" in err
    assert start("--at", "earliest", "--again")[0] == 2
    assert start("--at", "earliest", "--again", "--why", " ")[0] == 2
    assert stands(house) == {TopicPartition("his.adt", 0): 2}
    code, out, _ = start("--at", "earliest", "--again", "--why", "the ledger was restored")
    assert (code, stands(house)) == (0, {TopicPartition("his.adt", 0): 0})
    assert "  his.adt/0: from 2 to 0, 2 back: what lies between is read again" in out.splitlines()
    assert [(deed.what, deed.why, deed.route, deed.position) for deed in house.ledger.replays.audit()] == [
        (What.START, "the ledger was restored", ROUTE, house.at(0))
    ]
    assert "because: the ledger was restored" in call("trace", "his.adt/0/0")[1]
    sent = len(house.script.requests)
    house.work()
    assert (len(house.script.requests), stands(house)) == (sent, {TopicPartition("his.adt", 0): 2})
    house.bus.move(GROUP, [TopicPartition("his.adt", 0)], Where.EARLIEST)
    assert "from 0 to 2, 2 forward: what lies between is skipped" in start("--at", "latest", "--again", "--why", "x")[1]


def test_while_a_worker_of_the_group_runs_nothing_is_set(house: Hospital, call: Call, start: Call) -> None:
    worked(house)
    renamed(house, call)
    with house.bus.consumer(GROUP, ["his.adt"]):
        code, out, err = start("--at", "earliest")
    assert (code, out, err.count("\n"), stands(house)) == (4, "", 1, {})
    assert "the group has live members: stop its workers first" in err


def test_a_first_start_is_runs_own(house: Hospital, start: Call) -> None:
    code, out, err = start("--at", "earliest")
    assert (code, out, err.count("\n"), stands(house)) == (4, "", 1, {})
    assert "its first emr-pipeline run makes one" in err


def test_a_group_whose_offset_is_no_more_in_the_topic_is_told_by_doctor(house: Hospital, call: Call) -> None:
    worked(house)
    with house.bus._log.lent() as connection, house.bus._log.writing(connection):  # type: ignore[attr-defined]
        connection.execute("UPDATE committed SET next = 9")
    told = doctor(call)
    assert told is not None
    assert (told["level"], f"his.adt/0: offset 9 of the group {GROUP} is not there" in told["found"]) == ("FAIL", True)


@pytest.mark.parametrize(
    "words", [["--at", "yesterday"], ["--at", "earliest", "--route", "other"], ["--at", "earliest", "--again"]], ids=" ".join
)
def test_wrong_input_is_one_line(house: Hospital, start: Call, words: list[str]) -> None:
    worked(house)
    code, out, err = start(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_where_nothing_has_run_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "start", "--at", "earliest", "--settings", str(hospital.write(tmp_path))]) == 2
    assert "nothing has run yet" in capsys.readouterr().err
    assert not (tmp_path / "bus").exists()
