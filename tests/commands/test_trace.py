"""trace: the way of one message, from its source record to its result."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.commands.replay.shown import at
from pipeline.errors import NoAnswer, NotSent
from pipeline.settings import load
from schemas.outcomes import Reason, State
from tests.commands.replaying import Call, Hospital, caller
from tests.delivery.partner_script import ROUTE, adt, issue, run_beside, until


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


@pytest.mark.parametrize("hold", [0.1, 120.0], ids=["parked", "unknown"])
def test_what_waits_for_its_probe_says_when_that_is_due(house: Hospital, call: Call, hold: float) -> None:
    tree = yaml.safe_load(house.settings_file.read_text())
    tree["partners"]["roche"] |= {"probe_margin": 50.0}
    tree["delivery"] = {"hold": hold, "drain_seconds": 0.5}
    house.settings_file.write_text(yaml.safe_dump(tree))
    house.settings = load(house.settings_file)
    house.send(adt())
    house.script.answers = [NoAnswer(Reason.TIMEOUT)]
    worker = house.worker()
    thread = run_beside(worker)
    wanted = (State.UNKNOWN, "timeout") if hold > 1 else (State.PARKED, "awaiting_probe")
    until(lambda: house.ledger.seen(ROUTE, house.at(0)) is not None and house.state(0) == wanted)
    seen = house.ledger.seen(ROUTE, house.at(0))
    code, out, _ = call("his.adt/0/0", "--json")
    assert code == 0
    assert seen is not None
    assert seen.sent_ms is not None
    due = seen.sent_ms + 60_000  # the published worst time of a create, 10 s, and the margin
    assert json.loads(out)["probe_due_ms"] == due
    assert f"  probe       at {at(due)} at the earliest" in call("his.adt/0/0")[1].splitlines()
    worker.stop.set()
    thread.join(60)


def test_what_waits_for_no_probe_has_no_time_of_one(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work()
    assert json.loads(call("his.adt/0/0", "--json")[1])["probe_due_ms"] is None
    assert "probe" not in call("his.adt/0/0")[1]


def test_what_no_route_has_taken_up_is_told_so(house: Hospital, call: Call) -> None:
    house.send(adt())
    code, out, _ = call("his.adt/0/0")
    assert code == 0
    assert "no route has taken it up yet" in out
    code, out, _ = call("his.adt/0/7")
    assert code == 3
    assert "the ledger has nothing of it" in out
    assert call("nowhere/0/0")[0] == 3


def test_a_control_id_of_which_nothing_is_found_may_wait_for_its_turn(house: Hospital, call: Call) -> None:
    house.send(adt(control_id="MSG1"))
    code, out, _ = call("--control-id", "MSG1")
    assert (code, out.count("\n")) == (3, 1)
    assert "it may be read already and wait for its turn" in out


def test_what_the_group_has_passed_and_the_ledger_does_not_know_asks_for_the_right_ledger(house: Hospital, call: Call) -> None:
    house.send(adt(control_id="MSG1"))
    house.work()
    with house.ledger._write() as connection:  # another ledger of the same key is in its place
        connection.exec_driver_sql("DELETE FROM deliveries")
    code, out, _ = call("his.adt/0/0")
    assert (code, out.count("\n")) == (3, 1)
    assert f"its offset has passed on {ROUTE}, and this ledger knows nothing of it: is it the right one?" in out
    assert json.loads(call("his.adt/0/0", "--json")[1])["passed"] == [ROUTE]
    heading = out.partition("(runbook: ")[2].partition(";")[0]
    assert f"\n## {heading}\n" in Path("deploy/runbook.md").read_text(encoding="utf-8")
    house.send(adt(control_id="MSG2"))
    assert "no route has taken it up yet" in call("his.adt/0/1")[1]


@pytest.mark.parametrize("words", [[], ["his.adt/0/0", "--control-id", "1"], ["17"], ["his.adt/0/0", "--route", "other"]])
def test_a_question_that_says_nothing_is_one_line(call: Call, words: list[str]) -> None:
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "trace: trace" not in err
