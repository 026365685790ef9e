"""The loop of one route on the embedded bus and a SQLite ledger; only the partner answers from a script."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import pytest

from pipeline import failpoints, flow, wiring
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Bus, Consumer, RebalanceListener, Record, TopicPartition, Where
from pipeline.delivery.worker import Worker
from pipeline.errors import BusError, BusGap, BusRefused, BusUnavailable, NoAnswer, NotSent, Refused
from pipeline.failpoints import Point
from pipeline.ledger.port import Query
from pipeline.ledger.sql import SqlLedger
from pipeline.model import (
    Answer,
    Decision,
    Knowledge,
    Learned,
    Outcome,
    Packed,
    Position,
    Received,
    Reply,
    Request,
    Routed,
    Verdict,
)
from pipeline.stages.settle import settle
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import (
    ROUTE,
    House,
    Killed,
    Script,
    Serving,
    adt,
    created,
    issue,
    reply,
    run_beside,
    settings_with,
    until,
    updated,
)
from tests.stages.plans import received

DELIVERED = (State.DELIVERED, None)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, change=probe_at_once)
    yield house
    house.close()


def probe_at_once(tree: dict[str, Any], **delivery: float) -> None:
    """The published worst time of a create is 10 s: a negative margin brings the probe's time to now."""
    tree["partners"]["roche"]["probe_margin"] = -10
    tree["delivery"] |= delivery


def test_a_patient_is_created_and_the_offset_passes(house: House) -> None:
    house.send(adt())
    house.work([created()])
    assert house.paths() == ["POST /Bundle"]
    assert house.settled() == [DELIVERED]
    assert house.committed() == 1


def test_the_next_message_of_the_patient_updates_by_the_business_id(house: House) -> None:
    house.send(adt("A04", "1"), adt("A08", "2", time="20240503101500+0200"))
    house.work([created(), updated()])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    assert house.settled() == [DELIVERED, DELIVERED]


def test_another_message_in_the_place_of_a_settled_one_stops_the_route_and_is_not_taken_for_it(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.send(adt())
    house.work([created()])
    house.ledger.close()
    anew = House(tmp_path, bus=EmbeddedBus(tmp_path / "anew"), change=probe_at_once)
    anew.bus.start(anew.settings.group_of("roche-patients"), [anew.topics.source], Where.EARLIEST)
    anew.send(adt("A04", "2", patient="87654321X"))
    with pytest.raises(BusGap, match="the ledger knows another message by this place"):
        anew.work()
    assert (anew.script.requests, anew.settled(), anew.committed()) == ([], [], 0)
    assert '"event": "offset_gone", "route": "roche-patients"' in capsys.readouterr().err
    anew.close()


NOT_HL7: Final = b"no message at all"
FILTERED: Final = adt("A04", "9").replace(b"|P|2.5", b"|T|2.5")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NOT_HL7, adt()),
        (FILTERED, adt()),
        (FILTERED, FILTERED.replace(b"|9|", b"|8|")),
        (adt(), NOT_HL7),
        (adt(), FILTERED),
        (NOT_HL7, b"no message, and another one"),
        (None, adt()),
    ],
    ids=["read now", "wanted now", "another unwanted", "not read now", "not wanted now", "neither read", "was empty"],
)
def test_another_record_in_the_place_of_one_that_went_no_further_stops_the_route_too(
    house: House, tmp_path: Path, before: bytes | None, after: bytes
) -> None:
    """Guard: the ledger's hash of the bytes (Pseudonyms.record). Without it the new record counts as settled, and is lost in silence."""
    house.send(before)
    house.work()
    house.ledger.close()
    anew = House(tmp_path, bus=EmbeddedBus(tmp_path / "anew"), change=probe_at_once)
    anew.bus.start(anew.settings.group_of("roche-patients"), [anew.topics.source], Where.EARLIEST)
    anew.send(after)
    with pytest.raises(BusGap, match="the ledger knows another message by this place"):
        anew.work()
    assert (anew.script.requests, anew.settled(), anew.committed()) == ([], [], 0)
    anew.close()


@pytest.mark.parametrize("record", [NOT_HL7, FILTERED, None, adt()], ids=["not read", "not wanted", "empty", "read"])
def test_the_same_record_read_again_is_known_again(house: House, record: bytes | None) -> None:
    house.send(record)
    house.work()
    settled = house.settled()
    with house.bus.consumer(house.settings.group_of("roche-patients"), [house.topics.source]) as consumer:
        consumer.commit({TopicPartition(house.topics.source, 0): 0})
    house.work()
    assert (house.settled(), house.committed()) == (settled, 1)


def test_a_message_that_is_not_wanted_any_more_is_the_same_still(house: House) -> None:
    house.send(adt())
    house.work([created()])
    with house.bus.consumer(house.settings.group_of("roche-patients"), [house.topics.source]) as consumer:
        consumer.commit({TopicPartition(house.topics.source, 0): 0})
    house.settings = settings_with(lambda tree: tree["site"].update(processing_ids=["X"]))
    house.work()
    assert (house.settled(), house.committed()) == ([DELIVERED], 1)


def test_the_same_message_again_is_a_duplicate_and_is_not_sent(house: House) -> None:
    house.send(adt(), adt())
    house.work([created()])
    assert house.paths() == ["POST /Bundle"]
    assert house.settled() == [DELIVERED, (State.DUPLICATE, None)]
    assert [result.duplicate_of for result in house.results()] == [None, "his.adt/0/0"]


def test_an_older_snapshot_after_a_newer_one_is_superseded(house: House) -> None:
    house.send(adt("A04", "1", time="20240502101500+0200"), adt("A08", "2", time="20240501101500+0200"))
    house.work([created()])
    assert house.paths() == ["POST /Bundle"]
    assert house.settled() == [DELIVERED, (State.SUPERSEDED, Reason.STALE)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x00\xffnothing of HL7", Reason.NOT_HL7),
        (None, Reason.EMPTY),
        (adt(authority="NOBODY"), Reason.IDENTIFIER_SYSTEM),
        (adt(family=""), Reason.PROFILE_REQUIRED),
    ],
)
def test_what_cannot_go_is_parked_with_its_bytes_and_the_worker_goes_on(
    house: House, value: bytes | None, reason: Reason
) -> None:
    house.send(value, adt(control_id="2", patient="87654321X"))
    house.work([created()])
    assert house.settled() == [(State.PARKED, reason), DELIVERED]
    (letter,) = house.dead_letters()
    assert letter[0] == value
    assert letter[1]["emr-reason"] == reason
    assert letter[1]["emr-source_offset"] == "0"
    assert house.committed() == 2


def test_what_the_partner_has_no_use_for_is_filtered_with_its_reason(house: House) -> None:
    house.send(adt("A03"), adt("A23", "2"))
    house.work()
    assert house.paths() == []
    assert house.settled() == [(State.FILTERED, Reason.PARTNER_HAS_NO_VISIT), (State.FILTERED, Reason.PARTNER_HAS_NO_DELETE)]
    assert [result.event for result in house.results()] == ["ADT^A03", "ADT^A23"]


def test_an_unavailable_partner_is_tried_again_with_the_same_bytes(house: House) -> None:
    house.send(adt())
    house.work([NotSent(Reason.NOT_SENT_CONNECT), NotSent(Reason.NOT_SENT_CONNECT), created()])
    assert len({(request.path, request.body, request.request_id) for request in house.script.requests}) == 1
    assert [(result.settled, result.state, result.reason, result.attempt) for result in house.results()] == [
        (False, State.PENDING, Reason.NOT_SENT_CONNECT, 1),
        (False, State.PENDING, Reason.NOT_SENT_CONNECT, 2),
        (True, State.DELIVERED, None, 3),
    ]


def test_waiting_as_the_partner_asked_is_no_attempt(house: House) -> None:
    house.send(adt())
    house.work([reply(429, retry_after="0"), created()])
    assert [(result.state, result.attempt) for result in house.results() if result.settled] == [(State.DELIVERED, 1)]


def test_a_rejected_message_is_parked_with_the_partners_code(house: House) -> None:
    house.send(adt())
    house.work([issue(400, "invalid")])
    (result,) = house.results()
    assert (result.state, result.reason, result.http_status, result.issue_codes) == (
        State.PARKED,
        Reason.REJECTED_INVALID,
        400,
        ("invalid",),
    )


def test_an_unknown_create_that_the_probe_finds_is_delivered_and_not_created_again(house: House) -> None:
    house.send(adt())
    house.work([NoAnswer(Reason.TIMEOUT), updated()])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    probe = house.script.requests[1]
    assert probe.request_id != house.script.requests[0].request_id
    assert [(result.state, result.confirmed_by) for result in house.results()] == [
        (State.UNKNOWN, None),
        (State.DELIVERED, "probe"),
    ]


def test_an_unknown_create_that_is_proven_absent_is_created_again_with_the_same_ids(house: House) -> None:
    house.send(adt())
    house.work([NoAnswer(Reason.CONNECTION_LOST), issue(404, "not-found"), created()])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z", "POST /Bundle"]
    first, _, again = house.script.requests
    assert (first.body, first.request_id) == (again.body, again.request_id)
    assert house.settled() == [DELIVERED]


def test_a_create_that_exists_already_goes_on_as_an_update(house: House) -> None:
    house.send(adt())
    house.work([issue(400, "duplicate"), updated()])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    assert house.settled() == [DELIVERED]


def test_a_patient_refused_as_a_duplicate_and_not_there_is_parked_instead_of_going_round(house: House) -> None:
    def create_what_is_absent(tree: dict[str, Any]) -> None:
        tree["partners"]["roche"]["on_absent"] = "create"

    house.settings = settings_with(create_what_is_absent)
    house.send(adt())
    house.work([issue(400, "duplicate"), issue(404, "not-found")])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    assert house.settled() == [(State.PARKED, Reason.REJECTED_DUPLICATE)]


def test_each_attempt_has_an_id_of_its_own_where_the_setting_says_so_and_the_same_body(house: House) -> None:
    def per_attempt(tree: dict[str, Any]) -> None:
        tree["partners"]["roche"]["request_id"] = "per_attempt"

    house.settings = settings_with(per_attempt)
    house.send(adt())
    house.work([NotSent(Reason.NOT_SENT_CONNECT), created()])
    first, second = house.script.requests
    assert first.request_id != second.request_id
    assert first.body == second.body
    (delivery,) = house.ledger.find(Query())
    assert delivery.request_id == second.request_id


def test_after_a_crash_between_intent_and_answer_the_create_is_probed_and_not_repeated(house: House) -> None:
    house.send(adt())
    with pytest.raises(Killed):
        house.work([Killed()])
    house.work([updated()])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    (result,) = house.results()
    assert (result.state, result.confirmed_by, result.possible_duplicate) == (State.DELIVERED, "probe", True)


@pytest.fixture
def killed_before_the_result() -> Iterator[None]:
    """The process dies when the ledger has the settlement and no topic has its result."""

    def die() -> None:
        failpoints.disarm()
        raise Killed

    failpoints.arm(Point.AFTER_LEDGER_SETTLED, die)
    yield
    failpoints.disarm()


@pytest.mark.usefixtures("killed_before_the_result")
def test_after_a_crash_before_the_result_the_same_result_is_written_and_nothing_sent(house: House) -> None:
    house.send(adt())
    with pytest.raises(Killed):
        house.worker().run()
    settled = house.ledger.seen("roche-patients", Position("his.adt", 0, 0))
    assert settled is not None
    assert settled.result is not None
    house.work()
    assert house.paths() == ["POST /Bundle"]
    (result,) = house.results()
    assert result.model_dump_json(exclude_none=True) == settled.result


def test_a_refused_client_halts_the_route_and_costs_no_message(house: House) -> None:
    house.send(adt(), adt("A08", "2", time="20240503101500+0200"))
    house.work([reply(401, b'{"error": "Invalid Client"}', content_type="application/json"), created(), updated()])
    assert house.settled() == [DELIVERED, DELIVERED]
    assert [result.attempt for result in house.results() if result.settled] == [1, 1]


def test_a_stop_while_waiting_leaves_the_message_open_and_the_offset_where_it_was(house: House) -> None:
    house.send(adt())
    house.script.answers.extend([NotSent(Reason.NOT_SENT_CONNECT)] * 10_000)
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: len(house.script.requests) > 2)
    worker.stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert (house.settled(), house.committed()) == ([], 0)


class Broken:
    """A bus whose topics cannot be written for the first so many times."""

    def __init__(self, bus: Bus, failures: int) -> None:
        self.bus, self.failures, self.refused = bus, failures, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.bus, name)

    def producer(self) -> "BrokenProducer":
        return BrokenProducer(self)


class BrokenProducer:
    def __init__(self, bus: Broken) -> None:
        self.broken, self.producer = bus, bus.bus.producer()

    def append_each(self, records: list[Record], timeout: float = 30.0) -> list[Position | BusError]:
        if self.broken.refused < self.broken.failures:
            self.broken.refused += 1
            raise BusUnavailable("the topic cannot be written")
        return self.producer.append_each(records, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.producer.close()


def test_while_the_results_topic_cannot_be_written_no_offset_passes(house: House) -> None:
    house.send(adt())
    whole, broken = house.bus, Broken(house.bus, 1_000_000)
    house.bus = broken  # type: ignore[assignment]
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: broken.refused > 3)
    worker.stop.set()
    thread.join(60)
    house.bus = whole
    assert (house.paths(), house.settled(), house.committed()) == (["POST /Bundle"], [], 0)
    house.work()
    assert (house.paths(), house.settled(), house.committed()) == (["POST /Bundle"], [DELIVERED], 1)


def test_when_the_results_topic_can_be_written_again_work_goes_on(house: House) -> None:
    house.send(adt(), adt("A08", "2", time="20240503101500+0200"))
    whole = house.bus
    house.bus = Broken(whole, 3)  # type: ignore[assignment]
    house.work()
    house.bus = whole
    assert (house.paths(), house.settled()) == (["POST /Bundle", "PUT /Bundle/12345678Z"], [DELIVERED, DELIVERED])


def ends(house: House) -> list[tuple[State, Reason | None]]:
    """What became of each record at last, in source order."""
    last = {result.source_offset: (result.state, result.reason) for result in house.results() if result.settled}
    return [last[offset] for offset in sorted(last)]


def test_a_delivered_snapshot_makes_an_older_parked_one_needless(house: House) -> None:
    house.send(adt("A04", "1", family=""), adt("A08", "2", time="20240503101500+0200"))
    house.work()
    assert ends(house) == [(State.SUPERSEDED, Reason.OLDER_SNAPSHOT), DELIVERED]
    assert house.paths() == ["POST /Bundle"]
    assert house.ledger.counts("roche-patients")["roche-patients"] == {State.SUPERSEDED: 1, State.DELIVERED: 1}


@pytest.mark.parametrize(
    "parked",
    [
        {"family": "", "time": "20240504101500+0200"},
        {"family": "", "patient": "87654321X"},
        {"family": "", "diagnosis": "E11.9"},
    ],
    ids=["newer", "of another patient", "with a diagnosis that the newer one has not"],
)
def test_a_parked_one_that_is_not_made_needless_waits_for_a_person(house: House, parked: dict[str, str]) -> None:
    house.send(adt("A04", "1", **parked), adt("A08", "2", time="20240503101500+0200"))
    house.work()
    assert ends(house) == [(State.PARKED, Reason.PROFILE_REQUIRED), DELIVERED]


def test_a_merge_is_recorded_and_the_prior_patient_is_never_created_again(house: House) -> None:
    house.send(
        adt("A04", "1", patient="SURVIVOR1"),
        adt("A40", "2", patient="SURVIVOR1", prior="PRIOR1", time="20240503101500+0200"),
        adt("A08", "3", patient="PRIOR1", time="20240502101500+0200"),
        adt("A08", "4", patient="PRIOR1", time="20240504101500+0200"),
    )
    house.work()
    assert house.paths() == ["POST /Bundle"]
    assert house.settled() == [
        DELIVERED,
        (State.FILTERED, Reason.PARTNER_HAS_NO_MERGE),
        (State.SUPERSEDED, Reason.OLDER_SNAPSHOT),
        (State.PARKED, Reason.MERGED_PRIOR),
    ]


def test_a_merge_whose_prior_alone_is_known_waits_for_a_person(house: House) -> None:
    house.send(
        adt("A04", "1", patient="PRIOR1"), adt("A40", "2", patient="SURVIVOR1", prior="PRIOR1", time="20240503101500+0200")
    )
    house.work()
    assert house.settled() == [DELIVERED, (State.PARKED, Reason.MERGE_NEEDS_REKEY)]


def test_every_record_is_in_exactly_one_state(house: House) -> None:
    house.send(adt(), adt(), b"garbage", None, adt("A03", "3"), adt("A08", "4", time="20240503101500+0200"))
    house.work()
    assert sum(house.ledger.counts("roche-patients")["roche-patients"].values()) == 6


def test_a_second_worker_on_a_sqlite_ledger_is_refused_before_it_reads_anything(house: House, tmp_path: Path) -> None:
    house.send(adt())
    house.script.answers.extend([NotSent(Reason.NOT_SENT_CONNECT)] * 10_000)
    first = house.worker()
    thread = run_beside(first)
    until(lambda: len(house.script.requests) > 0)
    other = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", house.pseudonyms)
    second = house.worker()
    second.ledger = other
    with pytest.raises(Refused):
        second.run()
    first.stop.set()
    thread.join(60)
    other.close()


def test_another_group_id_for_a_started_route_is_refused(house: House) -> None:
    house.send(adt())
    house.work()
    other = house.worker()
    other.group = "another"
    with pytest.raises(Refused, match=r"emr-pipeline\.roche-patients"):
        other.run()


def test_a_route_that_was_started_and_has_no_offset_any_more_stops_instead_of_jumping(house: House) -> None:
    house.send(adt())
    house.ledger.start("roche-patients", house.settings.group_of("roche-patients"), "roche", "earliest")
    with pytest.raises(BusRefused):
        house.worker().run()
    assert house.paths() == []


class BackwardsConsumer:
    """Gives the last partition first."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer

    def poll(self, timeout: float, most: int = 500) -> list[Received]:
        return sorted(self.consumer.poll(timeout, most), key=lambda record: (-record.position.partition, record.position.offset))

    def __getattr__(self, name: str) -> object:
        return getattr(self.consumer, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.consumer.close()


class Reversing(Broken):
    def consumer(self, group: str, topics: Sequence[str], *, listener: RebalanceListener | None = None) -> BackwardsConsumer:
        return BackwardsConsumer(self.bus.consumer(group, topics, listener=listener))


def test_a_record_that_a_crash_left_open_goes_first_wherever_it_is_read(tmp_path: Path) -> None:
    """The patient's two records lie on two partitions, and the one that the crash left open is read last."""
    house = House(tmp_path, change=probe_at_once, partitions=2)
    house.send(adt("A04", "1"))
    house.work([created()])
    house.send(adt("A08", "2", time="20240503101500+0200"))
    with pytest.raises(Killed):
        house.work([Killed()])
    house.send(adt("A08", "3", time="20240504101500+0200"), partition=1)
    worker = house.worker()
    worker.bus = Reversing(house.bus, 0)  # type: ignore[assignment]
    thread = run_beside(worker)
    until(lambda: len(house.settled()) == 3)
    worker.stop.set()
    thread.join(60)
    sent = [re.search(rb'"timestamp":"(\d{4}-\d\d-\d\d)', request.body) for request in house.script.requests]
    assert [found[1].decode() for found in sent if found] == ["2024-05-02", "2024-05-03", "2024-05-03", "2024-05-04"]
    assert house.settled() == [DELIVERED] * 3
    house.close()


def test_a_defect_on_one_message_parks_it_with_the_place_and_no_value(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("Example^Ana 12345678Z")

    house.send(adt(), adt(control_id="2", patient="87654321X"))
    worker = house.worker()
    monkeypatch.setattr(worker.plan.partner, "pack", broken)
    worker.drain()
    worker.run()
    assert house.settled() == [(State.PARKED, Reason.DEFECT)] * 2
    assert "Example" not in "".join(result.model_dump_json() for result in house.results())
    assert re.fullmatch(r"pack\.py:\d+", str(house.results()[0].where))


def test_a_message_answered_with_failures_for_too_long_is_parked_and_others_go_on(house: House) -> None:
    house.settings = settings_with(partial(probe_at_once, patience=0.1))
    house.gate = Serving
    house.send(adt("A04", "1"), adt("A08", "2", time="20240503101500+0200"))
    house.script.answers.extend([created(), *[issue(500, "exception")] * 500])
    worker = house.worker()
    thread = run_beside(worker)
    until(lambda: (State.PARKED, Reason.PARTNER_EXCEPTION) in house.settled())
    house.script.answers.clear()
    house.send(adt(control_id="3", patient="87654321X"))
    until(lambda: len(house.settled()) == 3)
    worker.stop.set()
    thread.join(60)
    assert house.settled() == [DELIVERED, (State.PARKED, Reason.PARTNER_EXCEPTION), DELIVERED]


def test_what_is_not_sent_does_not_wear_out_the_patience(house: House) -> None:
    house.send(adt())
    house.script.answers.extend([NotSent(Reason.NOT_SENT_CONNECT)] * 12)
    house.settings = settings_with(partial(probe_at_once, patience=0.000_001))
    house.work()
    assert house.settled() == [DELIVERED]


def test_the_unknown_create_is_not_probed_before_the_partners_worst_time_is_over(house: House) -> None:
    house.settings = settings_with(lambda tree: tree["partners"]["roche"].update(probe_margin=-9.7))
    house.send(adt())
    begun = time.monotonic()
    house.work([NoAnswer(Reason.TIMEOUT), updated()])
    assert time.monotonic() - begun > 0.3
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]


def test_a_clock_that_was_put_back_does_not_stretch_the_wait_for_the_probe(house: House) -> None:
    house.send(adt())
    with pytest.raises(Killed):
        house.work([Killed()])
    house.clock = lambda: wiring.clock() - 3_600_000
    house.work([updated()])
    assert house.settled() == [DELIVERED]


def moved_on_another_route(house: House, number: str) -> None:
    """An A43 of this number is parked there."""
    plan = wiring.plan_of(house.settings, "moves", wiring.catalogue_of(house.settings), house.pseudonyms)
    record = replace(received(adt("A43", "9", patient="NEW1", prior=number)), position=Position("his.moves", 0, 0))
    routed = flow.read(record, plan)
    assert isinstance(routed, Routed)
    outcome = flow.prepare(routed, Knowledge(), plan)
    assert isinstance(outcome, Outcome)
    written = settle(outcome, plan, results_topic="emr.results", dead_letter_topic="emr.dead-letters", at_ms=wiring.clock())
    house.ledger.settle(written.settlement)


def test_what_may_have_arrived_comes_to_its_end_though_its_number_moved_on_another_route_and_what_is_new_waits(
    tmp_path: Path,
) -> None:
    """Seen to fail without of_one_begun (pipeline/delivery/attempts.py)."""

    def two_routes(tree: dict[str, Any]) -> None:
        probe_at_once(tree)
        tree["routes"]["moves"] = tree["routes"][ROUTE] | {"source": "his.moves"}

    house = House(tmp_path, change=two_routes)
    house.send(adt())
    with pytest.raises(Killed):
        house.work([Killed()])
    moved_on_another_route(house, "12345678Z")
    house.send(adt("A08", "2"))
    house.work([updated()])
    assert house.settled() == [DELIVERED, (State.PARKED, Reason.BLOCKED_BEHIND)]
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z"]
    house.close()


def test_a_throttled_attempt_waits_as_told(house: House) -> None:
    house.send(adt())
    begun = time.monotonic()
    house.work([reply(429, retry_after="1"), created()])
    assert time.monotonic() - begun > 1


@pytest.mark.usefixtures("killed_before_the_result")
def test_a_dead_letter_that_a_crash_held_back_is_written_at_the_next_start(house: House) -> None:
    value = adt(authority="NOBODY")
    house.send(value)
    with pytest.raises(Killed):
        house.worker().run()
    assert house.dead_letters() == []
    house.work()
    assert [letter for letter, _ in house.dead_letters()] == [value]


def test_a_settlement_that_another_worker_made_meanwhile_counts_and_there_is_one_result(house: House) -> None:
    house.send(adt())

    worker = house.worker()
    (record,) = house.bus.read(house.topics.source)
    routed = flow.read(record, worker.plan)
    assert isinstance(routed, Routed)
    worker.courier.hands = replace(worker.courier.hands, transport=Late(worker, routed))
    worker.drain()
    worker.run()
    assert len([result for result in house.results() if result.settled]) == 1


class Late(Script):
    """While the answer is on its way, the former owner of the partition settles the record."""

    def __init__(self, worker: Worker, routed: Routed) -> None:
        super().__init__()
        self.worker, self.routed = worker, routed

    def exchange(self, request: Request) -> Reply:
        settle_first(self.worker, self.routed)
        return super().exchange(request)


def settle_first(worker: Worker, routed: Routed) -> None:
    packed = flow.prepare(routed, worker.ledger.knowledge(routed), worker.plan)
    assert isinstance(packed, Packed)
    verdict = Verdict(Decision.DELIVERED, learned=(Learned(routed.identities[0], None),))
    answer = Answer(packed.requests[0], created(), verdict, 1)
    outcome = Outcome(
        routed.decoded.received,
        worker.plan.name,
        "roche",
        State.DELIVERED,
        decoded=routed.decoded,
        routed=routed,
        packed=packed,
        answer=answer,
    )
    written = settle(outcome, worker.plan, results_topic="emr.results", dead_letter_topic="emr.dead", at_ms=1)
    worker.ledger.settle(written.settlement)


def test_a_record_that_is_read_again_after_all_was_written_is_neither_sent_nor_told_again(house: House) -> None:
    house.send(adt(), adt(control_id="2", authority="NOBODY"))
    house.work()
    with house.bus.consumer(house.settings.group_of("roche-patients"), [house.topics.source]) as consumer:
        consumer.commit({TopicPartition(house.topics.source, 0): 0})
    house.work()
    assert (house.paths(), len(house.results()), len(house.dead_letters()), house.committed()) == (["POST /Bundle"], 2, 1, 2)


def test_a_record_with_neither_key_nor_value_is_parked_and_halts_nothing(house: House) -> None:
    """The embedded bus takes none such, a foreign producer on Kafka may write it."""
    outcome = flow.read(Received(Position(house.topics.source, 0, 0), None), house.worker().plan)
    assert isinstance(outcome, Outcome)
    written = settle(
        outcome, house.worker().plan, results_topic=house.topics.results, dead_letter_topic=house.topics.dead_letters, at_ms=1
    )
    assert written.dead_letter is not None
    with house.bus.producer() as producer:
        producer.append([written.result, written.dead_letter])
    assert (house.settled(), len(house.dead_letters())) == ([(State.PARKED, Reason.EMPTY)], 1)


def test_two_routes_of_one_partner_share_its_places_in_flight(house: House) -> None:
    """More than one at once would be two: the slot is one, though each route may have four."""
    house.in_flight = 4
    house.send(*(adt(control_id=str(number), patient=f"{number}2345678Z") for number in range(8)))
    partner, slot = Busy(), threading.Semaphore(1)
    worker = house.worker(partner, slots=slot)
    worker.drain()
    worker.run()
    assert (partner.most, house.settled()) == (1, [DELIVERED] * 8)


class Busy(Script):
    """Counts how many are with it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def exchange(self, request: Request) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.01)
        try:
            return super().exchange(request)
        finally:
            self.now -= 1


@pytest.mark.parametrize(("trouble", "parks"), [(Decision.THROTTLED, True), (Decision.HALTED, False)])
def test_what_waits_too_long_is_parked_though_the_partner_throttles_and_not_while_it_refuses_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Decision, *, parks: bool
) -> None:
    monkeypatch.setattr("pipeline.delivery.worker.COMMIT_EVERY", 0.05)
    house = House(tmp_path, change=lambda tree: tree["breaker"].update(open_first=60, open_most=60))
    worker = house.worker()
    worker.gate.told(trouble, None)
    told: list[bool] = []
    monkeypatch.setattr(worker.intake, "park_overdue", lambda _, *, fair: told.append(fair))
    thread = run_beside(worker)
    until(lambda: len(told) > 1)
    worker.stop.set()
    thread.join(60)
    house.close()
    assert set(told) == {parks}
