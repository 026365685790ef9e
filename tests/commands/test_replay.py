"""replay: a plan of what would be sent, its release, how far it is."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.errors import NotSent
from pipeline.ledger.plans import ItemState, PlanState
from pipeline.ledger.port import Query
from pipeline.ledger.sql import now_ms
from schemas.outcomes import Reason, State
from tests.commands.replaying import MONDAY, TUESDAY, Call, Hospital, caller
from tests.delivery.partner_script import ROUTE, adt, issue, run_beside, until


@pytest.fixture
def call(house: Hospital, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(house, capsys, "replay")


def planned(call: Call, *words: str, code: int = 0) -> dict[str, Any]:
    came, out, err = call("plan", *words, "--json")
    assert (came, err) == (code, "")
    told: dict[str, Any] = json.loads(out)
    return told


def parked(house: Hospital, *messages: bytes) -> None:
    """The partner refuses each, for a reason that has been mended since."""
    house.send(*messages)
    house.work([issue(400, "required")] * len(messages))
    house.script.requests.clear()


def test_on_nothing_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.commands import hospital  # noqa: PLC0415 - this test alone has no house

    assert main(["replay", "list", "--settings", str(hospital.write(tmp_path))]) == 2
    assert "nothing has run yet" in capsys.readouterr().err
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_plan_says_what_would_be_sent_and_sends_nothing(house: Hospital, call: Call) -> None:
    parked(house, adt(control_id="1"), adt(control_id="2", patient="99999999R"))
    code, out, err = call("plan", "--state", "parked", "--rate", "0.5")
    assert (code, err) == (0, "")
    assert "will_send" in out
    assert "2 to send, 4 s at 0.5 a second; nothing was sent yet" in out
    assert "his.adt/0/0" in out
    assert "12345678Z" not in out
    assert house.script.requests == []
    (plan,) = house.ledger.replays.all()
    assert f"emr-pipeline replay run --plan {plan.id}" in out
    assert plan.filter == '{"state": "parked"}'


def test_each_filter_selects_what_it_says(house: Hospital, call: Call) -> None:
    parked(house, adt(control_id="1"), adt("A08", "2", patient="99999999R"))
    house.send(adt(control_id="3", patient="77777777B"))
    house.work()
    version = next(house.ledger.find(Query(position=house.at(2)))).mapping_version
    request = next(house.ledger.find(Query(position=house.at(1)))).request_id

    def selected(*words: str) -> int:
        return int(planned(call, *words)["records"])

    assert selected() == 3
    assert selected("--event", "A08") == 1
    assert selected("--control-id", "1") == 1
    assert selected("--patient-id", "urn:oid:2.16.724.4.41|99999999R") == 1
    assert selected("--reason", "rejected_required") == 2
    assert selected("--http-status", "400") == 2
    assert selected("--state", "delivered") == 1
    assert selected("--request-id", request) == 1
    assert selected("--mapping-version", str(version)) == 3
    assert planned(call, "--mapping-version", "other") == {"plan": None, "records": 0, "sends": 0}
    assert selected("--since", "1h") == 3
    assert selected("--until", "1h") == 0
    assert selected("--position", "his.adt/0/1..2") == 2
    assert planned(call, "--state", "unknown") == {"plan": None, "records": 0, "sends": 0}
    with house.ledger._write() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET reason = 'probe_cannot_tell' WHERE offset = 1")
    assert selected("--state", "unknown") == 1
    assert '{"in_doubt": true}' in {plan.filter for plan in house.ledger.replays.all()}
    assert "99999999R" not in "".join(plan.filter for plan in house.ledger.replays.all())


def test_mondays_a04_after_tuesdays_a08_is_listed_as_stale_and_not_released(house: Hospital, call: Call) -> None:
    parked(house, adt("A04", "1", time=MONDAY))
    house.send(adt("A08", "2", time=TUESDAY))
    house.work()
    told = planned(call, "--position", "his.adt/0/0", code=3)
    assert (told["classes"], told["sends"]) == ({"stale": 1}, 0)
    code, _, err = call("run", "--plan", told["plan"])
    assert code == 4
    assert "nothing in the plan is to be sent" in err


def test_a_delivered_a04_that_is_stale_is_not_sent_again_either(house: Hospital, call: Call) -> None:
    house.send(adt("A04", "1", time=MONDAY), adt("A08", "2", time=TUESDAY))
    house.work()
    told = planned(call, "--include-delivered", "--why", "they lost it", code=3)
    assert told["classes"] == {"stale": 1, "already_delivered": 1}
    assert told["sends"] == 1


@pytest.mark.parametrize("words", [["--force"], ["--include-delivered"], ["--force", "--why", "  "]])
def test_what_would_not_be_sent_is_sent_for_a_reason_only(house: Hospital, call: Call, words: list[str]) -> None:
    parked(house, adt())
    code, out, err = call("plan", *words)
    assert (code, out) == (2, "")
    assert "--why" in err
    assert house.ledger.replays.all() == []


def test_forced_and_explained_a_stale_one_is_planned_and_the_audit_says_why(house: Hospital, call: Call) -> None:
    parked(house, adt("A04", "1", time=MONDAY))
    house.send(adt("A08", "2", time=TUESDAY))
    house.work()
    told = planned(call, "--position", "his.adt/0/0", "--force", "--why", "agreed with the partner")
    assert (told["classes"], told["sends"]) == ({"stale": 1}, 1)
    assert call("run", "--plan", told["plan"])[0] == 0
    code, out, _ = call("show", "--plan", told["plan"], "--items")
    assert code == 0
    assert "agreed with the partner" in out
    assert told["hash"] in out
    assert "his.adt/0/0" in out


def test_what_still_cannot_go_is_told_with_its_reason(house: Hospital, call: Call) -> None:
    house.send(adt(family=""))
    house.work()
    told = planned(call, code=3)
    assert (told["classes"], told["reasons"]) == ({"still_parked": 1}, {"profile_required": 1})


def test_more_than_was_asked_for_is_refused(house: Hospital, call: Call) -> None:
    parked(house, adt(control_id="1"), adt(control_id="2", patient="99999999R"))
    code, _, err = call("plan", "--most", "1")
    assert code == 4
    assert "narrow the filters" in err


def test_a_changed_mapping_shows_as_places_without_values(house: Hospital, call: Call) -> None:
    parked(house, adt())
    with house.ledger._write() as connection:
        connection.exec_driver_sql('UPDATE deliveries SET sent = replace(sent, \'"Patient.name":"\', \'"Patient.name":"x\')')
    told = planned(call)
    assert told["differs"] == {"his.adt/0/0": ["Patient.name"]}
    code, out, _ = call("plan", "--diff")
    assert code == 0
    assert "Patient.name" in out
    assert "Example" not in out


@pytest.mark.parametrize("words", [["--show-values"], ["--diff", "--show-values"]])
def test_values_are_shown_on_a_terminal_only(house: Hospital, call: Call, words: list[str]) -> None:
    parked(house, adt())
    code, out, _ = call("plan", *words)
    assert (code, out) == (2 if words[0] == "--show-values" else 4, "")


def test_its_bytes_may_come_from_the_dead_letters(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    parked(house, adt())
    fetch = type(house.bus).fetch
    gone = {house.at(0)}
    monkeypatch.setattr(type(house.bus), "fetch", lambda bus, position: None if position in gone else fetch(bus, position))
    told = planned(call)
    assert told["classes"] == {"will_send": 1}
    (item,) = house.ledger.replays.items(told["plan"])
    assert item.payload is not None
    assert item.payload.topic == house.topics.dead_letters
    gone.add(item.payload)
    assert planned(call, code=3)["classes"] == {"payload_gone": 1}


def test_a_plan_is_released_paused_resumed_and_cancelled(house: Hospital, call: Call) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    assert call("resume", "--plan", name)[0] == 4
    for action, state in (("run", "released"), ("pause", "paused"), ("resume", "released"), ("cancel", "cancelled")):
        code, out, _ = call(action, "--plan", name, "--json")
        assert (code, json.loads(out)["state"]) == (0, state)
    assert call("run", "--plan", name)[0] == 4
    code, out, _ = call("list")
    assert code == 0
    assert "cancelled" in out
    told = json.loads(call("show", "--plan", name, "--json", "--items")[1])
    assert [deed["what"] for deed in told["audit"]] == [f"replay {one}" for one in ("plan", "run", "pause", "resume", "cancel")]
    assert told["items"][0]["state"] == ItemState.LEFT_OUT.value


def test_a_plan_that_is_released_is_followed_by_whoever_releases_it_again(house: Hospital, call: Call) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    call("run", "--plan", name)
    code, out, _ = call("run", "--plan", name)
    assert (code, f"plan {name} is released" in out) == (0, True)
    (taken,) = house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)
    house.ledger.replays.done(name, taken.item.position, State.DELIVERED)
    told = json.loads(call("show", "--plan", name, "--json")[1])
    assert [deed["what"] for deed in told["audit"]] == ["replay plan", "replay run"]


@pytest.mark.parametrize(("outcome", "expected"), [(State.DELIVERED, 0), (State.PARKED, 3)])
@pytest.mark.parametrize("words", [[], ["--wait"]])
def test_a_plan_that_is_done_says_how_it_came_out(
    house: Hospital, call: Call, outcome: State, expected: int, words: list[str]
) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    call("run", "--plan", name)
    (taken,) = house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)
    house.ledger.replays.done(name, taken.item.position, outcome)
    code, out, err = call("run", "--plan", name, *words)
    assert (code, err) == (expected, "")
    assert out.splitlines() == ["done: 1 done, 0 left", f"  {outcome.value:20}{1:>7}"]
    code, out, _ = call("run", "--plan", name, *words, "--json")
    assert (code, json.loads(out)["outcomes"]) == (expected, {outcome.value: 1})


def test_who_stops_waiting_is_told_that_the_plan_goes_on(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    parked(house, adt())
    name = planned(call)["plan"]

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.commands.replay.waiting.time", SimpleNamespace(sleep=sleep))
    code, _, err = call("run", "--plan", name, "--wait")
    assert (code, err) == (130, f"the plan goes on: emr-pipeline replay pause | cancel --plan {name} stops it\n")
    plan = house.ledger.replays.get(name)
    assert plan is not None
    assert plan.state is PlanState.RELEASED


def waited(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch, *, looks: int = 60) -> str:
    """What is said on stderr by somebody who waits for so many looks, half a second each, and then stops the plan."""
    slept = 0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        assert seconds == 0.5
        if slept == looks:
            call("pause", "--plan", name)

    name = house.ledger.replays.all()[0].id
    monkeypatch.setattr("pipeline.commands.replay.waiting.time", SimpleNamespace(sleep=sleep))
    told: list[str] = []
    monkeypatch.setattr(
        "pipeline.commands.replay.waiting.sys", SimpleNamespace(stderr=SimpleNamespace(write=told.append, flush=int))
    )
    assert call("run", "--plan", name, "--wait")[0] == 3
    return "".join(told)


def test_where_no_worker_has_the_route_who_waits_is_told_once_and_after_ten_seconds(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked(house, adt())
    planned(call)
    house.ledger.close()  # and with it the worker's right to the route
    told = f"it waits: no worker has the route {ROUTE}; emr-pipeline run {ROUTE} starts one\n"
    assert waited(house, call, monkeypatch, looks=20) == ""
    call("resume", "--plan", house.ledger.replays.all()[0].id)
    assert waited(house, call, monkeypatch) == told


def test_where_a_worker_has_taken_nothing_who_waits_is_told(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    parked(house, adt())
    planned(call)
    house.ledger.claim(ROUTE, house.settings.group_of(ROUTE), "roche")
    told = waited(house, call, monkeypatch)
    assert told == f"it waits: the worker of {ROUTE} has taken nothing yet: does it run? emr-pipeline doctor\n"


def test_where_what_was_taken_does_not_end_who_waits_is_told(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked(house, adt())
    call("run", "--plan", planned(call)["plan"])
    house.ledger.claim(ROUTE, house.settings.group_of(ROUTE), "roche")
    house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)
    told = waited(house, call, monkeypatch)
    assert told.startswith(f"it waits: the worker of {ROUTE} has taken 1 and ended none: the partner or the worker is away")


def test_where_attempts_fail_who_waits_is_told_of_the_last_one(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked(house, adt())
    call("run", "--plan", planned(call)["plan"])
    house.script.answers += [NotSent(Reason.NOT_SENT_CONNECT)] * 10_000
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: house.state(0) == (State.PENDING, "not_sent_connect"))
    began = iter([0])
    monkeypatch.setattr("pipeline.wiring.clock", lambda: next(began, now_ms()))
    told = waited(house, call, monkeypatch)
    worker.stop.set()
    thread.join()
    assert told.startswith("it waits: the last attempt ended as not_sent_connect, and is made again")


def test_a_plan_that_was_released_before_is_waited_for_too(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    call("run", "--plan", name)
    (taken,) = house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)

    def sleep(_: float) -> None:
        """The worker has time meanwhile."""
        house.ledger.replays.done(name, taken.item.position, State.DELIVERED)

    monkeypatch.setattr("pipeline.commands.replay.waiting.time", SimpleNamespace(sleep=sleep))
    code, out, _ = call("run", "--plan", name, "--wait")
    assert (code, out.splitlines()[:2]) == (0, ["released: 0 done, 1 left", "done: 1 done, 0 left"])


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_who_stops_a_plan_is_told_how_many_records_may_have_been_begun(house: Hospital, call: Call, action: str) -> None:
    parked(house, adt(control_id="1"), adt(control_id="2", patient="87654321X"))
    name = planned(call)["plan"]
    call("run", "--plan", name)
    house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 1)
    code, out, _ = call(action, "--plan", name)
    then = {"pause": "waits until it is resumed", "cancel": "is left out"}[action]
    assert (code, f"has taken 1 of its records: what was begun comes to its end, the rest {then}" in out) == (0, True)


def test_what_the_worker_has_not_seen_stops_whole(house: Hospital, call: Call) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    call("run", "--plan", name)
    assert "nothing of it is in the worker's hands" in call("pause", "--plan", name)[1]


@pytest.mark.parametrize("action", ["plan", "run", "list", "show", "pause", "resume", "cancel"])
def test_the_help_of_each_action_has_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", action, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  emr-pipeline replay {action}" in capsys.readouterr().out


def test_a_paused_plan_is_resumed_not_run(house: Hospital, call: Call) -> None:
    parked(house, adt())
    name = planned(call)["plan"]
    call("run", "--plan", name)
    call("pause", "--plan", name)
    code, _, err = call("run", "--plan", name)
    assert code == 4
    assert "resume" in err


@pytest.mark.parametrize("action", ["run", "show", "pause", "resume", "cancel"])
def test_a_plan_that_is_not_there_is_one_line(house: Hospital, call: Call, action: str) -> None:
    assert house.ledger.exists()
    code, _, err = call(action, "--plan", "nope")
    assert code == 2
    assert err.count("\n") == 1
    assert "no such plan" in err


@pytest.mark.parametrize(("outcome", "expected"), [(State.DELIVERED, 0), (State.PARKED, 3)])
def test_waiting_follows_it_to_its_end(house: Hospital, call: Call, outcome: State, expected: int) -> None:
    parked(house, adt())
    name = planned(call)["plan"]

    def work() -> None:
        while not (taken := house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)):
            time.sleep(0.02)
        house.ledger.replays.done(name, taken[0].item.position, outcome)

    worker = threading.Thread(target=work)
    worker.start()
    code, out, _ = call("run", "--plan", name, "--wait")
    worker.join()
    assert code == expected
    assert "done: 1 done, 0 left" in out
    assert outcome.value in out
