"""trace: the way of one message, from its source record to its result."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import NotSent
from schemas.outcomes import Reason
from tests.commands.replaying import Call, Hospital, caller
from tests.delivery.partner_script import adt, issue


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    house = Hospital(tmp_path)
    yield house
    house.close()


@pytest.fixture
def call(house: Hospital, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(house, capsys, "trace")


def test_the_way_of_a_message_is_told_from_end_to_end(house: Hospital, call: Call) -> None:
    house.send(adt(control_id="MSG1"))
    house.work([NotSent(Reason.NOT_SENT_CONNECT), issue(400, "required")])
    code, out, err = call("his.adt/0/0", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["position"], told["route"], told["source"]["bytes"]) == (
        "his.adt/0/0",
        "roche-patients",
        len(adt(control_id="MSG1")),
    )
    assert [(one["settled"], one["state"], one["reason"]) for one in told["results"]] == [
        (False, "pending", "not_sent_connect"),
        (True, "parked", "rejected_required"),
    ]
    assert told["results"][-1]["mapping_version"] == told["ledger"]["mapping_version"]
    assert told["dead_letters"] == [f"{house.topics.dead_letters}/0/0"]
    assert (told["commit"]["committed"], told["commit"]["passed"]) == (1, True)
    code, out, _ = call("his.adt/0/0")
    for word in ("source", "mapping", "attempt", "result", "dead letter", "offset", "passed", "rejected_required"):
        assert word in out
    assert "12345678Z" not in out


def test_it_is_found_by_its_control_id_and_by_each_request_id(house: Hospital, call: Call) -> None:
    house.send(adt(control_id="MSG1"), adt(control_id="MSG2", patient="99999999R"))
    house.work()
    assert json.loads(call("--control-id", "MSG2", "--json")[1])["position"] == "his.adt/0/1"
    for result in house.results():
        assert result.request_id is not None
        told = json.loads(call("--request-id", result.request_id, "--json")[1])
        assert told["position"] == f"his.adt/0/{result.source_offset}"
    with house.ledger._write() as connection:  # a resend has an id of its own, which only the results topic knows
        connection.exec_driver_sql("UPDATE deliveries SET request_id = 'another'")
    assert json.loads(call("--request-id", str(house.results()[1].request_id), "--json")[1])["position"] == "his.adt/0/1"


def test_what_no_route_has_taken_up_is_told_so(house: Hospital, call: Call) -> None:
    house.send(adt())
    code, out, _ = call("his.adt/0/0")
    assert code == 0
    assert "no route has taken it up yet" in out
    code, out, _ = call("his.adt/0/7")
    assert code == 3
    assert "the ledger has nothing of it" in out
    assert call("nowhere/0/0")[0] == 3


@pytest.mark.parametrize("words", [[], ["his.adt/0/0", "--control-id", "1"], ["17"], ["his.adt/0/0", "--route", "other"]])
def test_a_question_that_says_nothing_is_one_line(call: Call, words: list[str]) -> None:
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "trace: trace" not in err
