"""resolve and discard: what an operator says of a parked record, and what follows from it."""

import json

import pytest
import yaml

from pipeline import wiring
from pipeline.bus.embedded_producer import EmbeddedProducer
from pipeline.cli import main
from pipeline.delivery.payloads import Payloads
from pipeline.errors import BusUnavailable, NoAnswer
from pipeline.ledger.sql import now_ms
from schemas.outcomes import Reason, State
from tests.commands.replaying import MONDAY, TUESDAY, Call, Hospital, caller
from tests.delivery.partner_script import ROUTE, Killed, adt, issue


@pytest.fixture
def call(house: Hospital, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(house, capsys)


def unknown_create(house: Hospital) -> None:
    """Parked: no answer, and no probe that could tell."""

    def no_probe(tree: dict[str, dict[str, dict[str, object]]]) -> None:
        tree["partners"]["roche"] |= {"probe": "off"}

    from tests.delivery.partner_script import settings_with  # noqa: PLC0415 - this state alone needs it

    keep, house.settings = house.settings, settings_with(no_probe)
    house.send(adt("A04", "1"))
    house.work([NoAnswer(Reason.TIMEOUT)])
    house.settings = keep
    assert house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL)
    house.script.requests.clear()


def gives_ids(house: Hospital) -> None:
    """The partner's updates go by the id that its answer to the create told."""
    tree = yaml.safe_load(house.settings_file.read_text())
    tree["partners"]["roche"] |= {"update_id": "returned"}
    house.settings_file.write_text(yaml.safe_dump(tree))


def test_a_create_that_arrived_is_delivered_and_the_next_message_updates(house: Hospital, call: Call) -> None:
    unknown_create(house)
    code, out, err = call("resolve", "his.adt/0/0", "--delivered", "4711", "--why", "their service desk")
    assert (code, err) == (0, "")
    assert "delivered" in out
    assert house.state(0) == (State.DELIVERED, Reason.OPERATOR)
    result = house.results()[-1]
    assert (result.state, result.reason, result.settled, result.confirmed_by) == (
        State.DELIVERED,
        Reason.OPERATOR,
        True,
        "operator",
    )
    assert ("4711" in result.model_dump_json(), "service desk" in result.model_dump_json()) == (False, False)
    assert house.ledger.unemitted(ROUTE, house.topics.source, 0) == []
    house.send(adt("A08", "2"))
    house.work()
    assert [path.split()[0] for path in house.paths()] == ["PUT"]
    assert house.settled()[-1] == (State.DELIVERED, None)


def test_a_partner_that_goes_by_the_identifier_has_no_id_to_tell(house: Hospital, call: Call) -> None:
    unknown_create(house)
    assert call("resolve", "his.adt/0/0", "--why", "asked", "--delivered")[0] == 0
    assert house.state(0) == (State.DELIVERED, Reason.OPERATOR)


@pytest.mark.parametrize("bytes_are_there", [True, False])
def test_a_partner_that_gives_ids_is_asked_for_the_patients(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch, *, bytes_are_there: bool
) -> None:
    unknown_create(house)
    gives_ids(house)
    with monkeypatch.context() as gone:
        if not bytes_are_there:
            gone.setattr(Payloads, "find", lambda *_: None)
        code, out, err = call("resolve", "his.adt/0/0", "--why", "asked", "--delivered")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--delivered PARTNER_ID" in err
    assert house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL)
    assert house.ledger.holding("roche", [house.at(0)]) == {house.at(0)}
    assert call("resolve", "his.adt/0/0", "--why", "asked", "--delivered", "4711")[0] == 0
    assert house.state(0) == (State.DELIVERED, Reason.OPERATOR)


def test_of_a_patient_whose_id_is_known_nobody_is_asked(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    left_open(house, monkeypatch, minutes_ago=5)
    gives_ids(house)
    assert call("resolve", "his.adt/0/1", "--delivered", "--why", "asked")[0] == 0
    assert house.state(1) == (State.DELIVERED, Reason.OPERATOR)


def test_a_create_that_did_not_arrive_is_sent_by_a_plan_of_its_own(house: Hospital, call: Call) -> None:
    unknown_create(house)
    code, out, _ = call("resolve", "his.adt/0/0", "--absent", "--why", "their service desk", "--json")
    name = json.loads(out)["plan"]
    assert code == 0
    assert house.state(0) == (State.PARKED, Reason.OPERATOR)
    assert house.ledger.holding("roche", [house.at(0)]) == set()
    (taken,) = house.ledger.replays.next(ROUTE, house.topics.source, {0: "w1"}, 10)
    assert (taken.replay, taken.item.position, taken.item.payload) == (name, house.at(0), house.at(0))
    assert house.script.requests == []


def test_what_is_not_unknown_is_not_resolved(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    code, _, err = call("resolve", "his.adt/0/0", "--absent", "--why", "x")
    assert code == 4
    assert err.count("\n") == 1
    assert "nothing to resolve" in err


def test_a_discarded_message_is_closed_and_its_words_stay_in_the_audit(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    code, _, err = call("discard", "his.adt/0/0", "--route", ROUTE, "--why", "a test patient")
    assert (code, err) == (0, "")
    assert house.state(0) == (State.DISCARDED, Reason.OPERATOR)
    assert house.settled()[-1] == (State.DISCARDED, Reason.OPERATOR)
    assert len(house.dead_letters()) == 1
    assert "test patient" not in house.results()[-1].model_dump_json()
    code, out, _ = call("trace", "his.adt/0/0")
    assert "a test patient" in out
    assert call("discard", "his.adt/0/0", "--why", "again")[0] == 4


def test_a_reason_is_a_why(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    assert call("discard", "his.adt/0/0", "--reason", "a test patient")[0] == 0
    assert "because: a test patient" in call("trace", "his.adt/0/0")[1]


def test_an_unknown_create_is_not_discarded(house: Hospital, call: Call) -> None:
    unknown_create(house)
    code, _, err = call("discard", "his.adt/0/0", "--why", "away with it")
    assert code == 4
    assert "resolve" in err
    assert house.ledger.holding("roche", [house.at(0)]) == {house.at(0)}


def test_a_result_that_could_not_be_written_is_written_when_it_is_said_again(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    before = len(house.results())

    def away(*_: object) -> None:
        raise BusUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedProducer, "append", away)
        code, _, err = call("discard", "his.adt/0/0", "--why", "x")
    assert code == 2
    assert "it is decided" in err
    assert house.state(0) == (State.DISCARDED, Reason.OPERATOR)
    assert len(house.results()) == before
    assert call("discard", "his.adt/0/0", "--why", "x")[0] == 0
    assert house.settled()[-1] == (State.DISCARDED, Reason.OPERATOR)
    assert call("discard", "his.adt/0/0", "--why", "x")[0] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["resolve", "17", "--absent", "--why", "x"],
        ["resolve", "his.adt/0/9", "--absent", "--why", "x"],
        ["resolve", "his.adt/0/0", "--absent", "--why", " "],
        ["resolve", "his.adt/0/0", "--route", "other", "--absent", "--why", "x"],
        ["resolve", "his.adt/0/0", "--delivered", "a\x1bb", "--why", "x"],
        ["discard", "his.adt/0/9", "--why", "x"],
    ],
)
def test_wrong_input_is_one_line(house: Hospital, call: Call, words: list[str]) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert house.state(0)[0] is State.PARKED


def test_a_create_that_was_forgotten_says_in_its_audit_who_and_why(house: Hospital, call: Call) -> None:
    unknown_create(house)
    gone = house.folder / "gone.csv"
    gone.write_text("kind,system,value\npatient,urn:oid:2.16.724.4.41,12345678Z\n")
    assert call("identities", "forget", str(gone), "--why", "their service desk, ticket 12")[0] == 0
    assert house.ledger.holding("roche", [house.at(0)]) == set()
    (line,) = [one for one in call("trace", "his.adt/0/0")[1].splitlines() if "audit" in one]
    assert "identities forget  his.adt/0/0  because: their service desk, ticket 12" in line


def test_who_forgets_a_patient_says_why(call: Call) -> None:
    assert call("identities", "forget", "gone.csv", "--why", " ")[0] == 2
    with pytest.raises(SystemExit) as ended:
        call("identities", "forget", "gone.csv")
    assert ended.value.code == 2


def test_what_only_was_known_and_is_forgotten_stands_in_the_audit_too(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work()
    gone = house.folder / "gone.csv"
    gone.write_text("kind,system,value\npatient,urn:oid:2.16.724.4.41,12345678Z\n")
    assert call("identities", "forget", str(gone), "--why", "deleted there")[0] == 0
    assert [(deed.what, deed.why, deed.position) for deed in house.ledger.replays.audit()] == [
        ("identities forget", "deleted there", None)
    ]


# settings with several routes


def also_on(house: Hospital, **routes: State) -> None:
    """Further routes on the topic, where the ledger has the first record so."""
    tree = yaml.safe_load(house.settings_file.read_text())
    tree["routes"] |= {name: dict(tree["routes"][ROUTE], group=name) for name in routes}
    house.settings_file.write_text(yaml.safe_dump(tree))
    for name, state in routes.items():
        with house.ledger._write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO deliveries (route, topic, partition, offset, partner, state, at_ms) VALUES (?, 'his.adt', 0, 0, 'roche', ?, 1)",
                (name, state.value),
            )


def test_of_several_routes_the_one_is_meant_on_which_the_record_waits(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    also_on(house, other=State.DELIVERED, third=State.FILTERED)
    code, out, err = call("discard", "his.adt/0/0", "--why", "a test patient")
    assert (code, out, err) == (0, f"his.adt/0/0 is discarded on {ROUTE}\n", "")
    assert house.state(0) == (State.DISCARDED, Reason.OPERATOR)


def test_where_it_waits_on_several_routes_the_line_names_those(house: Hospital, call: Call) -> None:
    unknown_create(house)
    also_on(house, other=State.PARKED, third=State.FILTERED)
    code, out, err = call("resolve", "his.adt/0/0", "--absent", "--why", "asked")
    assert (code, out) == (2, "")
    assert err == f"emr-pipeline resolve: --route: several routes have it, name one of other, {ROUTE}\n"
    assert call("resolve", "his.adt/0/0", "--route", ROUTE, "--absent", "--why", "asked")[0] == 0


def test_what_none_of_several_routes_has_is_one_line(house: Hospital, call: Call) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    also_on(house, other=State.PARKED)
    code, out, err = call("discard", "his.adt/0/7", "--why", "a test patient")
    assert (code, out, err) == (
        2,
        "",
        "emr-pipeline discard: his.adt/0/7: the ledger has no such record: emr-pipeline find shows them\n",
    )


def test_the_bytes_of_a_dead_letter_need_no_route(house: Hospital, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    house.send(adt())
    house.work([issue(400, "required")])
    also_on(house, other=State.PARKED)
    for place in ("his.adt/0/0", f"{house.topics.dead_letters}/0/0"):
        capfdbinary.readouterr()
        assert main(["dead-letters", "--bytes", place, "--settings", str(house.settings_file)]) == 0
        assert capfdbinary.readouterr().out == adt()


# what a crash left open, and nobody can go on with


def left_open(house: Hospital, monkeypatch: pytest.MonkeyPatch, *, minutes_ago: int) -> None:
    """An update that was sent when its process ended; its bytes are nowhere any more."""
    house.send(adt("A04", "1", time=MONDAY))
    house.work()
    house.send(adt("A08", "2", time=TUESDAY))
    clock, house.clock = house.clock, lambda: wiring.clock() - minutes_ago * 60_000
    with pytest.raises(Killed):
        house.work([Killed()])
    house.clock = clock
    assert house.state(1) == (State.PENDING, None)
    monkeypatch.setattr(Payloads, "find", lambda *_: None)


def test_what_was_left_open_and_has_no_bytes_is_ended_by_a_person_and_the_lane_is_free(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_open(house, monkeypatch, minutes_ago=5)
    assert call("discard", "his.adt/0/1", "--why", "gone")[0] == 4  # it may have arrived: that is said first
    assert call("resolve", "his.adt/0/1", "--delivered", "--why", "asked")[0] == 0
    assert house.state(1) == (State.DELIVERED, Reason.OPERATOR)
    house.send(adt("A08", "3", time=TUESDAY))
    house.work()
    assert house.state(2) == (State.DELIVERED, None)


def test_it_may_be_absent_and_then_discarded(house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    left_open(house, monkeypatch, minutes_ago=5)
    assert call("resolve", "his.adt/0/1", "--absent", "--why", "asked")[0] == 0
    assert house.state(1) == (State.PARKED, Reason.OPERATOR)
    assert call("discard", "his.adt/0/1", "--why", "gone")[0] == 0
    assert house.state(1) == (State.DISCARDED, Reason.OPERATOR)
    house.send(adt("A08", "3", time=TUESDAY))
    house.work()
    assert house.state(2) == (State.DELIVERED, None)


def test_as_long_as_its_time_is_not_over_or_its_bytes_are_there_it_is_the_workers(
    house: Hospital, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as gone:
        left_open(house, gone, minutes_ago=0)
        code, _, err = call("resolve", "his.adt/0/1", "--delivered", "--why", "asked")
        assert (code, err.count("\n")) == (4, 1)
        assert "its last request may be out until 20" in err
    house.ledger.close()
    monkeypatch.setattr(wiring, "clock", lambda: now_ms() + 300_000)
    code, _, err = call("resolve", "his.adt/0/1", "--delivered", "--why", "asked")
    assert code == 4
    assert "the worker is at it" in err


@pytest.mark.parametrize(
    "words",
    [
        ("resolve", "his.adt/0/0", "--delivered", "4711", "--why", "asked"),
        ("resolve", "his.adt/0/0", "--absent", "--why", "asked"),
        ("discard", "his.adt/0/0", "--why", "a test patient"),
        ("replay", "plan", "--state", "parked"),
    ],
    ids=lambda words: " ".join(word for word in words[:3] if "/" not in word),
)
def test_after_the_partner_was_given_another_name_nothing_is_decided(
    house: Hospital, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """What is learned would be known of the new name only, and named back the partner would get a second create."""
    unknown_create(house)
    tree = yaml.safe_load(house.settings_file.read_text())
    tree["partners"]["roche-clinic"] = tree["partners"].pop("roche")
    tree["routes"][ROUTE]["partner"] = "roche-clinic"
    house.settings_file.write_text(yaml.safe_dump(tree))
    code, out, err = caller(house, capsys, *words)()
    assert (code, out, len(err.splitlines())) == (4, "", 1)
    assert "started to the partner roche" in err
    assert house.state(0) == (State.PARKED, Reason.PROBE_CANNOT_TELL)
