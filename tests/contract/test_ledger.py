"""One suite on both ledgers: SQLite and a real PostgreSQL."""

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from pipeline import flow
from pipeline.errors import LedgerError, Refused
from pipeline.ledger.port import STARTING, Held, Ledger, Merged, Query, Settlement
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.tables import METADATA
from pipeline.model import (
    Action,
    Decision,
    EventRule,
    Identity,
    Intent,
    Kind,
    Known,
    Learned,
    Position,
    Received,
    Routed,
    Subject,
)
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import COMES_BACK, Reason, State
from tests import postgres_server
from tests.delivery.partner_script import adt
from tests.ledger.samples import (
    CIP,
    PARTNER,
    PSEUDONYMS,
    ROUTE,
    Message,
    answer,
    begun,
    identity,
    outcome,
    result_of,
    settled,
    unreadable,
)
from tests.stages.plans import plan_with

Open = Callable[..., SqlLedger]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()


@pytest.fixture
def open_it(url: str) -> Iterator[Open]:
    """Open the same ledger again, as another process would."""
    opened: list[SqlLedger] = []

    def again(pseudonyms: Pseudonyms = PSEUDONYMS) -> SqlLedger:
        opened.append(SqlLedger(url, pseudonyms, clock=lambda: 9_000))
        return opened[-1]

    yield again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_it: Open) -> SqlLedger:
    ledger = open_it()
    ledger.check()
    return ledger


def known(ledger: Ledger, message: Message) -> dict[str, Known]:
    return {one.value: what for one, what in ledger.knowledge(message.routed()).known.items()}


def deliver(ledger: Ledger, message: Message, intent: Intent = Intent.CREATE, partner_id: str | None = None) -> None:
    ledger.begin(begun(message, intent))
    learned = tuple(Learned(one, partner_id) for one in message.identities[:1])
    assert ledger.settle(settled(message, answered=answer(Decision.DELIVERED), learned=learned))


# start


def test_a_ledger_serves_the_port(ledger: SqlLedger) -> None:
    as_port: Ledger = ledger
    assert as_port.counts() == {}


def test_checking_twice_changes_nothing(ledger: SqlLedger, open_it: Open) -> None:
    open_it().check()
    assert ledger.counts() == {}


def test_of_many_that_begin_with_a_new_file_at_once_none_is_refused(tmp_path: Path) -> None:
    """SQLite does not wait where two turn a file to write-ahead at the same moment. Guard: engine._write_ahead; without it some seven in a hundred fail."""
    errors: list[Exception] = []

    def begin(number: int) -> None:
        ledger = SqlLedger(f"sqlite:///{tmp_path / f'{number}.sqlite'}", PSEUDONYMS)
        try:
            ledger.check()
        except Exception as error:  # noqa: BLE001 - as below
            errors.append(error)
        ledger.close()

    for number in range(40):
        threads = [threading.Thread(target=begin, args=(number,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_many_that_start_at_once_all_come_up(open_it: Open) -> None:
    errors: list[Exception] = []

    def start() -> None:
        try:
            open_it().check()
        except Exception as error:  # noqa: BLE001 - the test shows whatever it was
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert open_it().exists()


def test_another_key_is_refused_before_anything_is_written(ledger: SqlLedger, open_it: Open) -> None:
    assert ledger.start(ROUTE, "g", PARTNER, "earliest") is None
    with pytest.raises(Refused, match="another key") as caught:
        open_it(Pseudonyms("another key of at least sixteen bytes")).check()
    assert caught.value.where == "keys.patient_hash"
    open_it().check()


def test_a_ledger_of_a_newer_program_is_refused_in_one_line(ledger: SqlLedger, open_it: Open) -> None:
    with ledger._write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Refused, match="newer than this program") as caught:
        open_it().check()
    assert "\n" not in str(caught.value)


def test_a_first_start_is_kept(ledger: SqlLedger, open_it: Open) -> None:
    assert ledger.started(ROUTE) is None
    assert ledger.start(ROUTE, "g", PARTNER, "earliest") is None
    assert open_it().start(ROUTE, "g", PARTNER, "latest") == "earliest"
    assert open_it().started(ROUTE) == "earliest"


def test_a_first_start_that_was_only_begun_may_be_begun_anew_and_binds_nobody(ledger: SqlLedger) -> None:
    """Nothing was read yet: group and partner may have been a slip."""
    slip, right = f"{STARTING} slip his.adt", f"{STARTING} g his.adt"
    assert ledger.start(ROUTE, "slip", "another slip", slip) is None
    ledger.fits(ROUTE, "g", PARTNER)
    assert (ledger.start(ROUTE, "g", PARTNER, right), ledger.started(ROUTE)) == (slip, right)
    assert (ledger.start(ROUTE, "g", PARTNER, "earliest"), ledger.started(ROUTE)) == (right, "earliest")
    assert (ledger.start(ROUTE, "g", PARTNER, right), ledger.started(ROUTE)) == ("earliest", "earliest")
    with pytest.raises(Refused):
        ledger.fits(ROUTE, "slip", PARTNER)


def test_a_route_that_began_with_another_group_is_refused(ledger: SqlLedger) -> None:
    ledger.start(ROUTE, "first", PARTNER, "earliest")
    with pytest.raises(Refused, match="first") as caught:
        ledger.start(ROUTE, "second", PARTNER, "earliest")
    assert caught.value.where == f"routes.{ROUTE}.group"
    with pytest.raises(Refused, match="first"):
        ledger.claim(ROUTE, "second", PARTNER)
    ledger.claim(ROUTE, "first", PARTNER)


def test_a_route_that_began_to_a_partner_of_another_name_is_refused(ledger: SqlLedger) -> None:
    """By that name its patients are known: under another one each would be created again."""
    ledger.start(ROUTE, "g", "roche", "earliest")
    calls: list[Callable[[], object]] = [
        lambda: ledger.start(ROUTE, "g", "roche-clinic", "earliest"),
        lambda: ledger.claim(ROUTE, "g", "roche-clinic"),
        lambda: ledger.fits(ROUTE, "g", "roche-clinic"),
    ]
    for call in calls:
        with pytest.raises(
            Refused, match=r"started to the partner roche, .*: to roche-clinic each would be created again"
        ) as caught:
            call()
        assert (caught.value.where, str(caught.value).count("\n")) == (f"routes.{ROUTE}.partner", 0)
    ledger.claim(ROUTE, "g", "roche")


def test_of_two_that_start_a_route_to_two_partners_at_once_one_is_refused(ledger: SqlLedger, open_it: Open) -> None:
    both, codes = [ledger, open_it()], list[str]()
    ready = threading.Barrier(2)

    def start(which: int) -> None:
        ready.wait()
        try:
            both[which].start(ROUTE, "g", f"partner-{which}", "earliest")
        except Refused:
            codes.append("refused")
        else:
            codes.append("started")

    threads = [threading.Thread(target=start, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["refused", "started"]


def test_a_route_under_another_name_with_the_same_group_is_refused(ledger: SqlLedger) -> None:
    """What the first one has parked would be found by nobody."""
    ledger.start("roche-patients", "g", PARTNER, "earliest")
    with pytest.raises(Refused, match="the consumer group g is that of the route roche-patients") as caught:
        ledger.claim("roche-adt", "g", PARTNER)
    assert caught.value.where == "routes.roche-adt.group"
    ledger.claim("roche-adt", "its own", PARTNER)


# the way of a message


def test_of_a_new_message_nothing_is_known(ledger: SqlLedger) -> None:
    knowledge = ledger.knowledge(Message(1).routed())
    assert (knowledge.same, knowledge.control_id_reused, knowledge.known) == (None, False, {})
    assert (knowledge.last_event_ms, knowledge.last_position, knowledge.open_create) == (None, None, None)


def test_an_intent_is_there_after_a_crash(ledger: SqlLedger, open_it: Open) -> None:
    message = Message(1)
    ledger.begin(begun(message, attempt=3, at_ms=5_000))
    here = open_it().seen(ROUTE, message.position)
    assert here is not None
    assert (here.state, here.open, here.intent, here.attempt, here.sent_ms) == (State.PENDING, True, Intent.CREATE, 3, 5_000)


def test_one_lane_has_one_open_intent(ledger: SqlLedger, open_it: Open) -> None:
    first, second = Message(1), Message(2)
    ledger.begin(begun(first, Intent.UPDATE))
    with pytest.raises(Held) as caught:
        open_it().begin(begun(second, Intent.UPDATE))
    assert caught.value.by == first.position
    assert ledger.seen(ROUTE, second.position) is None


@pytest.mark.usefixtures("ledger")
def test_two_that_begin_in_one_lane_at_once_do_not_both_begin(open_it: Open) -> None:
    ends: list[str] = []
    barrier = threading.Barrier(4)

    def begin(offset: int) -> None:
        mine = open_it()
        barrier.wait()
        try:
            mine.begin(begun(Message(offset), Intent.UPDATE))
            ends.append("begun")
        except Held:
            ends.append("held")

    threads = [threading.Thread(target=begin, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["begun", "held", "held", "held"]


def test_lanes_of_other_patients_and_routes_are_free(ledger: SqlLedger) -> None:
    for message in (Message(1), Message(2, patient="CIP2"), Message(1, route="other")):
        ledger.begin(begun(message, Intent.UPDATE))
    assert ledger.counts() == {ROUTE: {State.PENDING: 2}, "other": {State.PENDING: 1}}


def test_the_same_intent_may_be_begun_again(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message))
    ledger.begin(begun(message, attempt=2, at_ms=7_000, after=1))
    here = ledger.seen(ROUTE, message.position)
    assert here is not None
    assert (here.attempt, here.sent_ms) == (2, 7_000)


def test_what_another_process_has_begun_since_it_was_read_is_held_by_itself(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message, Intent.UPDATE))
    with pytest.raises(Held) as held:
        ledger.begin(begun(message, Intent.UPDATE))
    assert held.value.by == message.position
    here = ledger.seen(ROUTE, message.position)
    assert here is not None
    assert (here.intents, here.deadline_ms) == (1, 25_000)
    ledger.begin(begun(message, Intent.UPDATE, attempt=2, after=1))


@pytest.mark.usefixtures("ledger")
def test_two_that_begin_one_record_at_once_do_not_both_begin(open_it: Open) -> None:
    ends: list[str] = []

    def begin() -> None:
        ledger = open_it()
        try:
            ledger.begin(begun(Message(1), Intent.UPDATE))
            ends.append("begun")
        except Held:
            ends.append("held")

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["begun", "held", "held", "held"]


def test_what_the_slower_of_two_processes_learns_changes_nothing_unless_it_was_delivered(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message, Intent.UPDATE))
    ledger.begin(begun(message, Intent.UPDATE, attempt=2, after=1))
    failed = outcome(message, State.PENDING, Reason.UNAVAILABLE, answered=answer(Decision.FAILED, 503))
    ledger.retry(ROUTE, message.position, failed, 5_500, 1)
    parked = settled(message, State.PARKED, Reason.REJECTED_INVALID, answered=answer(Decision.PARKED, 400))
    assert not ledger.settle(replace(parked, after=1))
    here = ledger.seen(ROUTE, message.position)
    assert here is not None
    assert (here.state, here.open) == (State.PENDING, True)
    with pytest.raises(Held):
        ledger.begin(begun(Message(2), Intent.UPDATE))
    assert ledger.settle(replace(settled(message), after=1))
    ledger.begin(begun(Message(2), Intent.UPDATE))


def test_two_messages_that_share_one_number_of_the_patient_share_a_lane(ledger: SqlLedger) -> None:
    ledger.begin(begun(Message(1, others=("MET1",)), Intent.UPDATE))
    with pytest.raises(Held) as held:
        ledger.begin(begun(Message(2, patient="MET1"), Intent.UPDATE))
    assert held.value.by == Message(1).position


def test_what_comes_back_by_itself_is_told_with_its_lanes_in_source_order(ledger: SqlLedger, open_it: Open) -> None:
    second, first, other = Message(2), Message(1, others=("MET1",)), Message(3, partition=1)
    for message in (second, first, other):
        ledger.settle(settled(message, State.PARKED, Reason.BLOCKED_BEHIND))
    ledger.settle(settled(Message(4), State.PARKED, Reason.PROFILE_REQUIRED))
    expected = [(message.position, message.routed().lanes) for message in (first, second)]
    assert open_it().waiting(ROUTE, "his.adt", 0) == expected


def at(topic: str, partition: int, offset: int, route: str = ROUTE) -> Settlement:
    """Of a record that went no further."""
    message = settled(Message(offset, partition=partition, route=route), State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER)
    there = Position(topic, partition, offset)
    return replace(
        message,
        outcome=replace(message.outcome, received=replace(message.outcome.received, position=there), decoded=None, routed=None),
        result_id=f"{route} {there}",
    )


def test_the_partitions_of_topics_that_were_the_source_before_are_told_the_oldest_topic_first(ledger: SqlLedger) -> None:
    for one in (at("z", 1, 5), at("his.adt", 0, 1), at("z", 0, 3), at("a", 0, 0), at("z", 0, 4), at("m", 0, 0, "another-route")):
        ledger.settle(one)
    assert ledger.former(ROUTE, "his.adt") == [("z", 0), ("z", 1), ("a", 0)]
    assert ledger.former(ROUTE, "z") == [("his.adt", 0), ("a", 0)]
    assert ledger.former("a-new-one", "z") == []


def test_many_are_seen_at_once(ledger: SqlLedger) -> None:
    for offset in (1, 2, 5):
        ledger.settle(settled(Message(offset), State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER))
    seen = ledger.seen_between(ROUTE, Message(2).position, Message(5).position)
    assert sorted(position.offset for position in seen) == [2, 5]


def test_whose_create_still_holds_a_patient_is_told(ledger: SqlLedger) -> None:
    unknown, done = Message(1), Message(2, patient="CIP2")
    ledger.begin(begun(unknown))
    ledger.settle(settled(unknown, State.PARKED, Reason.PROBE_CANNOT_TELL))
    deliver(ledger, done)
    assert ledger.holding(PARTNER, [unknown.position, done.position]) == {unknown.position}


def test_a_create_at_another_partner_of_the_same_record_holds_nobody_here(ledger: SqlLedger) -> None:
    message = Message(1, route="another-route")
    elsewhere = begun(message)
    ledger.begin(replace(elsewhere, routed=replace(elsewhere.routed, partner="another")))
    assert ledger.holding(PARTNER, [message.position]) == set()
    assert ledger.holding("another", [message.position]) == {message.position}


def test_threads_that_write_at_once_share_transactions_and_one_that_is_refused_costs_the_others_nothing(
    ledger: SqlLedger,
) -> None:
    deliver(ledger, Message(0, patient="closed"))
    ends: dict[int, str] = {}

    def begin(number: int) -> None:
        try:
            ledger.begin(begun(Message(number, patient="closed" if number == 0 else f"P{number}")))
            ends[number] = "begun"
        except Refused:
            ends[number] = "refused"

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == {0: "refused"} | dict.fromkeys(range(1, 40), "begun")
    assert ledger.counts()[ROUTE] == {State.DELIVERED: 1, State.PENDING: 39}


def test_an_attempt_that_did_nothing_frees_the_lane_and_the_patient(ledger: SqlLedger) -> None:
    first, second = Message(1), Message(2)
    ledger.begin(begun(first))
    failed = outcome(first, State.PENDING, Reason.UNAVAILABLE, answered=answer(Decision.FAILED, 503))
    ledger.retry(ROUTE, first.position, failed, 5_500, 1)
    here = ledger.seen(ROUTE, first.position)
    assert here is not None
    assert (here.state, here.reason, here.open, here.sent_ms, here.attempt) == (State.PENDING, Reason.UNAVAILABLE, False, None, 1)
    ledger.begin(begun(second))


def test_an_unknown_attempt_keeps_the_lane_and_the_patient(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    unknown = outcome(first, State.UNKNOWN, Reason.TIMEOUT, answered=answer(Decision.UNKNOWN, None))
    ledger.retry(ROUTE, first.position, unknown, 5_500, 1)
    here = ledger.seen(ROUTE, first.position)
    assert here is not None
    assert (here.state, here.open, here.sent_ms) == (State.UNKNOWN, True, 5_000)
    with pytest.raises(Held):
        ledger.begin(begun(Message(2), Intent.UPDATE))
    with pytest.raises(Held):
        ledger.begin(begun(Message(3, route="other")))


def test_a_probe_leaves_intent_time_and_state_as_they_are(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message, at_ms=5_000))
    ledger.retry(ROUTE, message.position, outcome(message, State.UNKNOWN, Reason.TIMEOUT), 5_500, 1)
    ledger.begin(begun(message, Intent.UPDATE, attempt=2, at_ms=30_000, probe=True, after=1))
    here = ledger.seen(ROUTE, message.position)
    assert here is not None
    assert (here.state, here.intent, here.sent_ms, here.attempt) == (State.UNKNOWN, Intent.CREATE, 5_000, 2)


def test_a_closed_record_is_not_begun_again(ledger: SqlLedger) -> None:
    message = Message(1)
    deliver(ledger, message)
    with pytest.raises(Refused, match="closed already"):
        ledger.begin(begun(message, Intent.UPDATE))


def test_a_parked_record_may_be_begun_again(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.settle(settled(message, State.PARKED, Reason.FHIR_INVALID))
    ledger.begin(begun(message))
    assert ledger.counts() == {ROUTE: {State.PENDING: 1}}


def test_what_was_delivered_is_known_with_its_partner_id(ledger: SqlLedger, open_it: Open) -> None:
    deliver(ledger, Message(1), partner_id="Bj6.1Lq")
    assert known(open_it(), Message(2)) == {"CIP1": Known("Bj6.1Lq")}
    assert known(ledger, Message(3, patient="CIP2")) == {}


def test_all_identities_of_a_delivered_create_are_known(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1, others=("MET1",)), partner_id="P1")
    assert known(ledger, Message(2, patient="MET1")) == {"MET1": Known(None)}


def test_settling_twice_changes_nothing(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message))
    assert ledger.settle(settled(message, at_ms=6_000)) is True
    assert ledger.settle(settled(message, at_ms=8_000)) is False
    assert [row.at_ms for row in ledger.find(Query())] == [6_000]


def test_delivered_is_never_taken_back(ledger: SqlLedger) -> None:
    message = Message(1)
    deliver(ledger, message)
    assert ledger.settle(settled(message, State.PARKED, Reason.PROBE_CANNOT_TELL)) is False
    ledger.retry(ROUTE, message.position, outcome(message, State.UNKNOWN, Reason.TIMEOUT), 9_000, 1)
    assert ledger.counts() == {ROUTE: {State.DELIVERED: 1}}


def test_a_closed_record_stays_closed(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.settle(settled(message, State.SUPERSEDED, Reason.STALE))
    assert ledger.settle(settled(message, State.PARKED, Reason.FHIR_INVALID)) is False
    assert ledger.counts() == {ROUTE: {State.SUPERSEDED: 1}}


def test_a_late_delivered_is_true_whatever_stood_there(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message))
    ledger.settle(settled(message, State.DISCARDED, Reason.OPERATOR))
    assert ledger.settle(settled(message, learned=(Learned(identity("CIP1"), "P1"),))) is True
    assert known(ledger, Message(2)) == {"CIP1": Known("P1")}


def test_a_late_delivered_of_a_process_that_stood_still_forgets_no_attempt_of_the_one_that_went_on(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message))
    ledger.begin(begun(message, Intent.UPDATE, attempt=2, at_ms=30_000, probe=True, after=1))
    late = settled(message, answered=answer(Decision.DELIVERED, attempt=1))
    assert ledger.settle(replace(late, after=1)) is True
    assert [(row.state, row.attempt) for row in ledger.find(Query())] == [(State.DELIVERED, 2)]


def test_a_settled_result_is_there_until_it_was_emitted(ledger: SqlLedger, open_it: Open) -> None:
    message = Message(1)
    deliver(ledger, message)
    before = open_it().seen(ROUTE, message.position)
    assert before is not None
    assert (before.result, before.result_emitted) == (f'{{"result":"{message.position}"}}', False)
    ledger.emitted(ROUTE, [result_of(message)])
    after = ledger.seen(ROUTE, message.position)
    assert after is not None
    assert (after.result, after.result_emitted, after.state) == (None, True, State.DELIVERED)


def test_what_could_not_be_read_is_seen_by_its_position(ledger: SqlLedger) -> None:
    message = Message(1)
    assert ledger.settle(unreadable(message))
    seen = ledger.seen(ROUTE, message.position)
    assert seen is not None
    assert (seen.state, seen.reason, seen.request_id) == (State.PARKED, Reason.NOT_HL7, "")


def test_a_settlement_that_fails_leaves_nothing(ledger: SqlLedger) -> None:
    merge = Message(1, prior=("CIP2",))
    ledger.settle(settled(merge, State.FILTERED, merged=Merged((identity("CIP2"),), identity("CIP1"), 1)))
    back = Message(2, patient="CIP2", prior=("CIP1",))
    with pytest.raises(Held):
        ledger.settle(
            settled(
                back,
                State.FILTERED,
                merged=Merged((identity("CIP1"),), identity("CIP2"), 2),
                learned=(Learned(identity("X"), "P"),),
            )
        )
    assert ledger.seen(ROUTE, back.position) is None
    assert known(ledger, Message(3, patient="X")) == {}


# one create per patient and partner


def test_a_create_is_not_begun_twice_for_one_patient_over_two_routes(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    with pytest.raises(Held, match="create") as caught:
        ledger.begin(begun(Message(7, route="other")))
    assert caught.value.by == first.position
    there = ledger.knowledge(Message(7, route="other").routed())
    assert (there.open_create, there.creating) == (None, first.position)
    own = ledger.knowledge(first.routed())
    assert (own.open_create, own.creating) == (None, None)


def test_a_create_is_not_begun_twice_under_another_identity_of_the_patient(ledger: SqlLedger) -> None:
    ledger.begin(begun(Message(1, others=("MET1",))))
    with pytest.raises(Held):
        ledger.begin(begun(Message(2, patient="MET1")))


def test_a_create_of_who_is_known_by_now_is_held(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1, route="other"))
    with pytest.raises(Held, match="knows this patient"):
        ledger.begin(begun(Message(2)))
    assert ledger.seen(ROUTE, Position("his.adt", 0, 2)) is None


@pytest.mark.usefixtures("ledger")
def test_two_that_create_one_patient_at_once_do_not_both_begin(open_it: Open) -> None:
    ends: list[str] = []
    barrier = threading.Barrier(4)

    def create(number: int) -> None:
        mine = open_it()
        barrier.wait()
        try:
            mine.begin(begun(Message(1, route=f"route-{number}", others=("MET1",))))
            ends.append("begun")
        except Held:
            ends.append("held")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["begun", "held", "held", "held"]


def test_a_create_parked_as_unknown_holds_the_patient_but_not_the_lane(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    ledger.settle(settled(first, State.PARKED, Reason.PROBE_CANNOT_TELL))
    assert ledger.knowledge(Message(2).routed()).open_create == first.position
    with pytest.raises(Held):
        ledger.begin(begun(Message(2)))
    ledger.begin(begun(Message(2), Intent.UPDATE))


def test_a_create_that_the_partner_refused_lets_the_next_one_go(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    ledger.settle(settled(first, State.PARKED, Reason.REJECTED_INVALID, answered=answer(Decision.PARKED, 400)))
    assert ledger.knowledge(Message(2).routed()).open_create is None
    ledger.begin(begun(Message(2)))


def test_an_unknown_create_that_parks_for_another_reason_still_holds_the_patient(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    ledger.retry(ROUTE, first.position, outcome(first, State.UNKNOWN, Reason.TIMEOUT), 5_500, 1)
    ledger.settle(settled(first, State.PARKED, Reason.FHIR_INVALID))
    assert ledger.knowledge(Message(2).routed()).open_create == first.position


def moved(message: Message) -> Settlement:
    """An A43 that parked."""
    parked = settled(message, State.PARKED, Reason.NUMBER_MOVED)
    rule = EventRule("ADT^A43", Kind.MOVE, Subject.PATIENT, Action.PARK, Reason.NUMBER_MOVED)
    return replace(parked, outcome=replace(parked.outcome, routed=replace(message.routed(), rule=rule)))


def test_a_number_that_moved_is_told_on_every_route_of_the_partner(ledger: SqlLedger) -> None:
    there = Message(1, others=("CIP2",), route="second")
    ledger.settle(moved(there))
    ledger.settle(settled(Message(2, patient="CIP2", route="second"), State.PARKED, Reason.FHIR_INVALID))
    here = Message(7, patient="CIP2", others=("MET2",)).routed()
    beside = replace(here, lanes_beside=Message(7, patient="CIP2", route="second").routed().lanes)
    assert ledger.knowledge(here).parked == ()
    (told,) = ledger.knowledge(beside).parked
    assert (told.position, told.kind, told.event_ms) == (there.position, Kind.MOVE, 1_000)
    other = replace(here, lanes_beside=Message(7, patient="CIP3", route="second").routed().lanes)
    assert ledger.knowledge(other).parked == ()


def test_an_operator_ends_a_create_that_was_parked_as_unknown(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    ledger.settle(settled(first, State.PARKED, Reason.PROBE_CANNOT_TELL))
    ledger.settle(settled(first, State.DISCARDED, Reason.OPERATOR))
    assert ledger.knowledge(Message(2).routed()).open_create is None


def test_a_patient_whom_the_partner_has_after_all_waits_for_no_create(ledger: SqlLedger) -> None:
    first = Message(1)
    ledger.begin(begun(first))
    ledger.settle(settled(first, State.PARKED, Reason.PROBE_CANNOT_TELL))
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    assert ledger.knowledge(Message(2).routed()).open_create is None
    ledger.begin(begun(Message(2), Intent.UPDATE))


def test_what_the_partner_has_not_is_created_again(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1), partner_id="P1")
    ledger.forget(PARTNER, [identity("CIP1")])
    assert known(ledger, Message(2)) == {}
    ledger.begin(begun(Message(2)))


def test_what_an_answer_taught_takes_no_number_from_another_patient(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1), partner_id="P1")
    deliver(ledger, Message(2, patient="CIP2"), partner_id="P2")
    both = (Learned(identity("CIP1"), "P1"), Learned(identity("CIP2"), "P1"))
    ledger.settle(settled(Message(3, others=("CIP2",)), learned=both))
    assert known(ledger, Message(4, others=("CIP2",))) == {"CIP1": Known("P1"), "CIP2": Known("P2")}


def test_the_number_that_a_create_went_out_under_is_remembered_until_it_is_forgotten(ledger: SqlLedger) -> None:
    message = Message(1, others=("MET1",))
    ledger.begin(begun(message))
    learned = (Learned(identity("CIP1"), "P1", created_with=True), Learned(identity("MET1"), "P1"))
    ledger.settle(settled(message, learned=learned))
    assert known(ledger, message) == {"CIP1": Known("P1", created_with=True), "MET1": Known("P1")}
    ledger.forget(PARTNER, [identity("CIP1")])
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P2")])
    assert known(ledger, Message(2)) == {"CIP1": Known("P2")}


def parked_create(ledger: Ledger) -> Message:
    first = Message(1, others=("MET1",))
    ledger.begin(begun(first))
    ledger.settle(settled(first, State.PARKED, Reason.PROBE_CANNOT_TELL))
    return first


def test_an_import_ends_a_parked_create_under_all_its_numbers(ledger: SqlLedger) -> None:
    first = parked_create(ledger)
    ledger.import_identities(PARTNER, [Learned(identity("MET1"), "P1")])
    assert known(ledger, Message(2, others=("MET1",))) == {"CIP1": Known("P1"), "MET1": Known("P1")}
    ledger.forget(PARTNER, [identity("CIP1")])
    assert ledger.knowledge(Message(2).routed()).open_create is None
    assert first.identities[0].value == "CIP1"


def test_an_operator_forgets_a_parked_create_and_the_next_may_leave(ledger: SqlLedger) -> None:
    parked_create(ledger)
    assert ledger.unknown(PARTNER, [identity("CIP1"), identity("MET1"), identity("NEW")]) == (identity("NEW"),)
    ledger.forget(PARTNER, [identity("CIP1")])
    assert ledger.knowledge(Message(2).routed()).open_create is not None
    ledger.forget(PARTNER, [identity("CIP1")], by_operator=True)
    assert ledger.knowledge(Message(2, patient="MET1").routed()).open_create is None
    assert ledger.unknown(PARTNER, [identity("CIP1"), identity("MET1")]) == (identity("CIP1"), identity("MET1"))
    ledger.begin(begun(Message(2)))


def test_an_operator_does_not_end_a_create_that_is_in_flight(ledger: SqlLedger) -> None:
    ledger.begin(begun(Message(1, others=("MET1",))))
    ledger.forget(PARTNER, [identity("CIP1")], by_operator=True)
    ledger.import_identities(PARTNER, [Learned(identity("MET1"), "P1")])
    assert ledger.knowledge(Message(2).routed()).creating == Message(1).position
    with pytest.raises(Held):
        ledger.begin(begun(Message(2)))


# stale


@pytest.mark.parametrize(
    ("then", "last_ms", "last_offset"),
    [(2_000, 2_000, 2), (500, 1_000, 1), (None, 1_000, 2), (1_000, 1_000, 2)],
    ids=["newer", "older never takes it back", "without a time", "equal"],
)
def test_what_was_last_delivered_never_goes_backwards(
    ledger: SqlLedger, then: int | None, last_ms: int, last_offset: int
) -> None:
    deliver(ledger, Message(1, event_ms=1_000))
    deliver(ledger, Message(2, event_ms=then), Intent.UPDATE)
    knowledge = ledger.knowledge(Message(3).routed())
    assert (knowledge.last_event_ms, knowledge.last_position) == (last_ms, Position("his.adt", 0, last_offset))


def test_an_earlier_position_does_not_take_back_the_later_one(ledger: SqlLedger) -> None:
    deliver(ledger, Message(5, event_ms=None))
    deliver(ledger, Message(2, event_ms=None), Intent.UPDATE)
    assert ledger.knowledge(Message(6).routed()).last_position == Position("his.adt", 0, 5)


def test_what_was_delivered_under_one_number_counts_under_all_that_a_message_has(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1, others=("MET1",), event_ms=3_000))
    deliver(ledger, Message(2, patient="MET2", event_ms=2_000))
    knowledge = ledger.knowledge(Message(3, patient="MET2", others=("MET1",)).routed())
    assert (knowledge.last_event_ms, knowledge.last_position) == (3_000, Message(1).position)
    untimed = ledger.knowledge(Message(3, patient="MET2", others=("MET1",), event_ms=None).routed())
    assert untimed.last_position == Message(2).position


def test_only_delivered_counts_as_delivered(ledger: SqlLedger) -> None:
    ledger.settle(settled(Message(1), State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER))
    assert ledger.knowledge(Message(2).routed()).last_event_ms is None


def test_senders_and_subjects_are_told_apart(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1))
    assert ledger.knowledge(Message(2, sender="LAB^OLVG").routed()).last_event_ms is None
    assert ledger.knowledge(Message(2, subject="a visit").routed()).last_event_ms is None


# duplicates


def test_the_same_bytes_under_the_same_control_id_are_the_same(ledger: SqlLedger) -> None:
    first, again = Message(1, control_id="M1", body="a"), Message(2, control_id="M1", body="a")
    deliver(ledger, first)
    knowledge = ledger.knowledge(again.routed())
    assert knowledge.same is not None
    assert (knowledge.same.position, knowledge.same.state) == (first.position, State.DELIVERED)
    assert not knowledge.control_id_reused
    assert ledger.knowledge(first.routed()).same is None


def test_what_a_person_discarded_may_be_sent_again_by_its_sender(ledger: SqlLedger) -> None:
    """As where its bytes were lost, and the sender was asked for them."""
    first, again = Message(1, control_id="M1", body="a"), Message(2, control_id="M1", body="a")
    ledger.settle(settled(first, State.DISCARDED, Reason.OPERATOR))
    assert ledger.knowledge(again.routed()).same is None


def test_a_duplicate_is_not_what_others_are_duplicates_of(ledger: SqlLedger) -> None:
    first, again = Message(1, control_id="M1", body="a"), Message(2, control_id="M1", body="a")
    ledger.settle(settled(first, State.PARKED, Reason.FHIR_INVALID))
    ledger.settle(settled(again, State.DUPLICATE))
    assert ledger.knowledge(first.routed()).same is None


@pytest.mark.parametrize("reason", sorted(COMES_BACK))
def test_what_waits_behind_a_message_is_not_what_it_is_a_duplicate_of(ledger: SqlLedger, reason: Reason) -> None:
    first, again = Message(1, control_id="M1", body="a"), Message(2, control_id="M1", body="a")
    for waits in (again, first):
        ledger.settle(settled(waits, State.PARKED, reason))
    assert ledger.knowledge(first.routed()).same is None
    joined = ledger.knowledge(again.routed()).same
    assert joined is not None
    assert joined.position == first.position


def test_another_body_under_the_same_control_id_is_told(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1, control_id="M1", body="a"))
    knowledge = ledger.knowledge(Message(2, control_id="M1", body="b").routed())
    assert (knowledge.same, knowledge.control_id_reused) == (None, True)
    other = ledger.knowledge(Message(2, control_id="M1", body="b", sender="LAB^OLVG").routed())
    assert not other.control_id_reused


def test_a_result_that_came_after_the_one_on_the_topic_is_kept(ledger: SqlLedger) -> None:
    message = Message(1)
    assert ledger.settle(settled(message, State.PARKED, Reason.BLOCKED_BEHIND))
    assert ledger.settle(settled(message))
    ledger.emitted(ROUTE, [result_of(message, State.PARKED)])
    assert ledger.unemitted(ROUTE, "his.adt", 0) == [message.position]
    ledger.emitted(ROUTE, [result_of(message)])
    assert ledger.unemitted(ROUTE, "his.adt", 0) == []


# what two workers do to one patient between reading and writing


@pytest.mark.parametrize(
    ("state", "reason"), [(State.PARKED, Reason.MAPPING_FAILED), (State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER)], ids=str
)
def test_a_create_that_may_have_been_done_is_told_whatever_its_record_ended_for(
    ledger: SqlLedger, open_it: Open, state: State, reason: Reason
) -> None:
    message = Message(1)
    ledger.begin(begun(message, at_ms=5_000))
    assert ledger.settle(settled(message, state, reason))
    here = open_it().seen(ROUTE, message.position)
    assert here is not None
    assert (here.state, here.open, here.sent_ms) == (state, False, 5_000)
    assert ledger.seen_between(ROUTE, message.position, message.position)[message.position].sent_ms == 5_000
    assert [row.claims for row in ledger.find(Query())] == [True]
    ledger.forget(PARTNER, message.identities, by_operator=True)
    after = ledger.seen(ROUTE, message.position)
    if state is State.PARKED:
        assert after is not None
        assert (after.sent_ms, [row.claims for row in ledger.find(Query())]) == (None, [False])


def test_a_record_of_another_route_of_the_partner_is_another_record(ledger: SqlLedger) -> None:
    mine, its = Message(1, route="mine"), Message(1, route="its")
    ledger.begin(begun(its))
    assert ledger.knowledge(mine.routed()).creating == its.position
    assert ledger.knowledge(its.routed()).creating is None
    with pytest.raises(Held) as held:
        ledger.begin(begun(mine))
    assert (held.value.by, held.value.route) == (its.position, "its")
    ledger.settle(settled(its, State.PARKED, Reason.PROBE_CANNOT_TELL))
    assert ledger.knowledge(mine.routed()).open_create == its.position


@pytest.mark.parametrize("whose", ["PRIOR", "SURVIVOR", "ALSO"])
def test_a_merge_is_held_while_a_create_of_either_patient_is_open(ledger: SqlLedger, open_it: Open, whose: str) -> None:
    a40 = Message(7, patient="SURVIVOR", others=("ALSO",), prior=("PRIOR",))
    merged = Merged((identity("PRIOR"),), identity("SURVIVOR"), 1_000, waiting=a40.identities if whose == "ALSO" else ())
    merging = settled(a40, State.PARKED if merged.waiting else State.FILTERED, merged=merged)
    create = Message(3, patient=whose, partition=1)
    assert ledger.knowledge(a40.routed()).creating is None
    open_it().begin(begun(create))
    with pytest.raises(Held) as held:
        ledger.settle(merging)
    assert held.value.by == create.position
    assert (ledger.seen(ROUTE, a40.position), known(ledger, Message(8, patient="PRIOR"))) == (None, {})
    open_it().settle(settled(create, answered=answer(Decision.DELIVERED)))
    assert ledger.settle(merging)


def test_an_older_snapshot_is_held_where_a_newer_one_was_delivered_since_it_was_read(ledger: SqlLedger, open_it: Open) -> None:
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    older, newer = Message(1, event_ms=1_000), Message(1, event_ms=2_000, partition=1)
    read = ledger.knowledge(older.routed())
    deliver(open_it(), newer, Intent.UPDATE)
    with pytest.raises(Held):
        ledger.begin(replace(begun(older, Intent.UPDATE), knowledge=read))
    assert ledger.seen(ROUTE, older.position) is None
    ledger.begin(replace(begun(older, Intent.UPDATE), knowledge=ledger.knowledge(older.routed())))


def test_what_was_delivered_last_is_told_the_same_whenever_it_is_asked(ledger: SqlLedger) -> None:
    """Of several numbers with deliveries of one time from several partitions: else a message would be held for ever."""
    for partition, number in enumerate(("MET1", "MET2", "MET3")):
        deliver(ledger, Message(5, patient=number, partition=partition))
    mine = Message(9, patient="MET3", others=("MET1", "MET2"), partition=3)
    ledger.begin(replace(begun(mine, Intent.UPDATE), knowledge=ledger.knowledge(mine.routed())))


@pytest.mark.usefixtures("ledger")
def test_two_workers_with_the_same_patients_do_not_stop_one_another(open_it: Open) -> None:
    """Each shares its transactions among its threads, and so holds many patients at once."""
    workers, errors = [open_it(), open_it()], list[str]()

    def work(number: int) -> None:
        mine, chance = workers[number % 2], random.Random(number)
        for offset in range(8):
            first, second = chance.sample([f"P{n}" for n in range(12)], 2)
            message = Message(100 * number + offset, patient=first, others=(second,), partition=number % 2, event_ms=offset)
            learned = tuple(Learned(one, None) for one in message.identities)
            for write in (
                partial(mine.begin, begun(message, Intent.UPDATE)),
                partial(mine.settle, settled(message, learned=learned)),
            ):
                until_not_held(write, errors)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def until_not_held(write: Callable[[], object], errors: list[str]) -> None:
    """After an error nobody waits: its lane may stay taken."""
    while not errors:
        try:
            write()
        except Held:
            time.sleep(0.005)
        except LedgerError as error:
            errors.append(error.message)
        else:
            return


# merges


def merge(ledger: Ledger, offset: int, prior: str, survivor: str, event_ms: int = 1) -> None:
    message = Message(offset, patient=survivor, prior=(prior,))
    ledger.settle(settled(message, State.FILTERED, merged=Merged((identity(prior),), identity(survivor), event_ms)))


def hashed(value: str) -> str:
    return PSEUDONYMS.hash("identity", "patient", CIP, value)


def test_a_merged_patient_says_into_whom_and_when(ledger: SqlLedger) -> None:
    deliver(ledger, Message(1), partner_id="P1")
    merge(ledger, 2, "CIP1", "CIP2", event_ms=4_000)
    assert known(ledger, Message(3)) == {"CIP1": Known("P1", hashed("CIP2"), 4_000)}


def test_a_merged_patient_is_never_created_again(ledger: SqlLedger) -> None:
    merge(ledger, 1, "CIP1", "CIP2")
    with pytest.raises(Held, match="merged away"):
        ledger.begin(begun(Message(2)))
    ledger.forget(PARTNER, [identity("CIP1")])
    with pytest.raises(Held, match="merged away"):
        ledger.begin(begun(Message(2)))


def test_chains_end_at_the_last_survivor_in_whatever_order_they_are_told(ledger: SqlLedger) -> None:
    merge(ledger, 1, "A", "B")
    merge(ledger, 2, "B", "C")
    merge(ledger, 3, "Z", "A")
    told = known(ledger, Message(4, patient="A", others=("B", "Z")))
    assert {value: one.merged_into for value, one in told.items()} == {value: hashed("C") for value in ("A", "B", "Z")}


def test_a_merge_that_closes_a_cycle_is_told_and_held(ledger: SqlLedger) -> None:
    merge(ledger, 1, "A", "B")
    merge(ledger, 2, "B", "C")
    assert ledger.knowledge(Message(3, patient="A", prior=("C",)).routed()).merge_cycle
    assert not ledger.knowledge(Message(3, patient="D", prior=("C",)).routed()).merge_cycle
    with pytest.raises(Held):
        merge(ledger, 3, "C", "A")
    assert known(ledger, Message(4, patient="C")) == {}


def test_a_patient_merged_into_itself_is_a_cycle(ledger: SqlLedger) -> None:
    assert ledger.knowledge(Message(1, patient="A", prior=("A",)).routed()).merge_cycle


def waiting_merge(ledger: Ledger) -> None:
    """CIP1 is at the partner, CIP2 (and MET2) not; CIP1 is merged into CIP2."""
    deliver(ledger, Message(1), partner_id="P1")
    a40 = Message(2, patient="CIP2", others=("MET2",), prior=("CIP1",))
    merged = Merged(a40.routed().prior, identity("CIP2"), 4_000, waiting=a40.identities)
    ledger.settle(settled(a40, State.PARKED, Reason.MERGE_NEEDS_REKEY, merged=merged))


def waits(ledger: Ledger) -> list[bool]:
    messages = [Message(3), Message(4, patient="CIP2"), Message(5, patient="MET2")]
    return [ledger.knowledge(message.routed()).open_create == Message(2).position for message in messages]


def test_a_merge_that_waits_holds_both_patients_and_lets_no_create_leave(ledger: SqlLedger, open_it: Open) -> None:
    waiting_merge(ledger)
    assert waits(open_it()) == [True, True, True]
    with pytest.raises(Held) as caught:
        ledger.begin(begun(Message(4, patient="CIP2")))
    assert caught.value.by == Message(2).position


def test_an_import_of_the_survivor_ends_a_merge_that_waits(ledger: SqlLedger) -> None:
    waiting_merge(ledger)
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    assert waits(ledger) == [True, True, True]
    ledger.import_identities(PARTNER, [Learned(identity("CIP2"), "P1")])
    assert waits(ledger) == [False, False, False]
    assert known(ledger, Message(6, patient="CIP2", others=("MET2", "CIP1"))) == {
        "CIP2": Known("P1"),
        "MET2": Known("P1"),
        "CIP1": Known(None, hashed("CIP2"), 4_000),
    }


def test_a_survivor_whom_the_partner_has_by_then_waits_for_nobody(ledger: SqlLedger) -> None:
    deliver(ledger, Message(9, patient="CIP2"), partner_id="P2")
    waiting_merge(ledger)
    assert waits(ledger) == [False, False, False]


def test_a_survivor_that_lists_the_old_number_is_created_and_the_prior_alone_is_not(ledger: SqlLedger) -> None:
    merge(ledger, 1, "CIP1", "CIP2")
    with pytest.raises(Held, match="merged away"):
        ledger.begin(begun(Message(2)))
    ledger.begin(begun(Message(3, patient="CIP2", others=("CIP1",))))
    assert ledger.knowledge(Message(4).routed()).creating is None


# people


def test_find_is_newest_first_and_asks_for_what_it_is_asked(ledger: SqlLedger) -> None:
    ledger.settle(settled(Message(1), State.FILTERED, Reason.NOT_PRODUCTION, at_ms=1_000))
    ledger.settle(settled(Message(2, patient="CIP2"), State.PARKED, Reason.FHIR_INVALID, at_ms=3_000))
    ledger.settle(settled(Message(3, route="other"), State.PARKED, Reason.FHIR_INVALID, at_ms=2_000))

    def offsets(**asked: Any) -> list[int]:  # noqa: ANN401 - Query's own fields
        return [row.position.offset for row in ledger.find(Query(**asked))]

    assert offsets() == [2, 3, 1]
    assert offsets(most=1) == [2]
    assert offsets(route=ROUTE) == [2, 1]
    assert offsets(state=State.PARKED) == [2, 3]
    assert offsets(reason="not_production") == [1]
    assert offsets(event="ADT^A08", control_id="MSG0-1") == [1]
    assert offsets(request_id=f"request-{Message(2).position}") == [2]
    assert offsets(position=Message(3).position) == [3]
    assert offsets(since_ms=2_000, until_ms=3_000) == [3]
    assert offsets(patients=(PSEUDONYMS.hash("lane", ROUTE, CIP, "CIP2"),)) == [2]
    assert offsets(patients=tuple(PSEUDONYMS.hash("lane", route, CIP, "CIP1") for route in (ROUTE, "other"))) == [3, 1]


def test_a_message_is_found_by_each_of_its_patients_numbers(ledger: SqlLedger) -> None:
    ledger.settle(settled(Message(1, others=("MET1",)), State.PARKED, Reason.FHIR_INVALID))
    deliver(ledger, Message(2, patient="CIP2", others=("MET2",)))
    found = [
        [row.position.offset for row in ledger.find(Query(patients=(PSEUDONYMS.hash("lane", ROUTE, CIP, number),)))]
        for number in ("CIP1", "MET1", "CIP2", "MET2")
    ]
    assert found == [[1], [1], [2], [2]]


def test_a_found_delivery_says_what_became_of_it(ledger: SqlLedger) -> None:
    message = Message(1)
    ledger.begin(begun(message))
    whole = settled(message, State.PARKED, Reason.REJECTED_INVALID, answered=answer(Decision.PARKED, 400, attempt=2))
    ledger.settle(replace(whole, outcome=replace(whole.outcome, where="Patient.gender", pointer="his.adt/0/0")))
    (row,) = ledger.find(Query())
    assert (row.reason, row.where, row.http_status, row.response_ms, row.attempt) == (
        "rejected_invalid",
        "Patient.gender",
        400,
        12.5,
        2,
    )
    assert (row.event, row.control_id, row.patient, row.pointer, row.open) == (
        "ADT^A08",
        "MSG0-1",
        PSEUDONYMS.hash("lane", ROUTE, CIP, "CIP1"),
        "his.adt/0/0",
        False,
    )


def test_imported_identities_are_known_and_counted(ledger: SqlLedger, open_it: Open) -> None:
    rows = [Learned(identity("CIP1"), "P1"), Learned(identity("CIP2"), None)]
    assert ledger.import_identities(PARTNER, rows) == 2
    assert ledger.import_identities(PARTNER, rows) == 0
    assert ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P7"), Learned(identity("CIP2"), None)]) == 1
    assert known(open_it(), Message(1, others=("CIP2",))) == {"CIP1": Known("P7"), "CIP2": Known(None)}


def test_exported_identities_are_hashes(ledger: SqlLedger) -> None:
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    merge(ledger, 1, "CIP5", "CIP6")
    assert list(ledger.export_identities(PARTNER)) == [("patient", CIP, hashed("CIP1"), "P1")]
    assert list(ledger.export_identities("another")) == []


# silence


def test_no_canary_is_in_the_database(ledger: SqlLedger, url: str) -> None:
    """Patients' ids, partner ids and results through every call; then all bytes that the database keeps."""
    patient, prior, partner_id, result = "CANARYMRN", "CANARYPRIOR", "CANARYPARTNER", "CANARYRESULT"
    first = Message(1, patient=patient, others=("CANARYBSN",))
    ledger.begin(begun(first))
    ledger.settle(replace(settled(first, learned=(Learned(identity(patient), partner_id),)), result=result))
    merge(ledger, 2, prior, patient)
    ledger.import_identities(PARTNER, [Learned(Identity(first.identities[0].kind, CIP, "CANARYIMPORT"), "CANARYIMPORTED")])
    ledger.begin(begun(Message(3, patient=patient), Intent.UPDATE))
    ledger.retry(ROUTE, Message(3).position, outcome(Message(3, patient=patient), State.UNKNOWN, Reason.TIMEOUT), 1, 1)
    kept = everything(url)
    assert b"ADT^A08" in kept
    assert b"CANARY" not in kept


GARBAGE = [
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b'""',
    b"\r",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b"\\X00\\",
    b"\xed\xa0\x80",
    b"PID|",
    9000 * b"x7q",
]


@pytest.mark.parametrize("seed", range(4))
def test_garbled_messages_are_kept_whatever_stands_in_them(ledger: SqlLedger, seed: int) -> None:
    """Each goes the way of a message: knowledge, intent, settlement. What a row says of it is a code, a hash, or looks like a control id."""
    chance = random.Random(seed)
    plan = plan_with()
    ways: set[str] = set()
    for offset in range(60):
        value = bytearray(
            adt(chance.choice(["A04", "A08", "A40", "A03"]), f"C{offset}", patient=f"{offset}2345678Z", prior="OLD1")
        )
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(min(len(value), 90))
            value[at : at + chance.choice([0, 0, 1, 12])] = chance.choice(GARBAGE)
        came = flow.read(Received(Position("his.adt", 0, offset), bytes(value)), plan)
        if isinstance(came, Routed):
            ledger.knowledge(came)
            ledger.begin(replace(begun(Message(offset), Intent.UPDATE), routed=came))
            came = replace(outcome(Message(offset), State.DELIVERED), decoded=came.decoded, routed=came)
        ways.add(came.state)
        ledger.settle(replace(settled(Message(offset)), outcome=came))
    assert len(ways) > 1
    rows = list(ledger.find(Query(most=100)))
    assert len(rows) == 60
    assert [row.event for row in rows if row.event and not re.fullmatch(r"[A-Z0-9]{3}\^[A-Z0-9]{3}", row.event)] == []
    assert [row.control_id for row in rows if row.control_id and not re.fullmatch(r"[!-~]{1,199}", row.control_id)] == []
    assert not re.search("Example|Ana|19800203", repr(rows))


def everything(url: str) -> bytes:
    file = make_url(url).database or ""
    if url.startswith("sqlite"):
        return b"".join(path.read_bytes() for path in Path(file).parent.iterdir())
    with postgres_server.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        ).fetchall()
        assert len(tables) == len(METADATA.tables) + 1  # and alembic's own
        return b"".join(
            str(row[0]).encode()
            for (table,) in tables
            for row in connection.execute(f'SELECT t::text FROM "{table}" t'.encode())  # noqa: S608 - our own tables' names
        )


def test_sqlite_files_are_their_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "made" / "ledger.sqlite"
    old = os.umask(0)
    try:
        ledger = SqlLedger(f"sqlite:///{file}", PSEUDONYMS)
        ledger.check()
        ledger.claim(ROUTE, "g", PARTNER)
        deliver(ledger, Message(1))
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in file.parent.iterdir()}
    finally:
        os.umask(old)
    ledger.close()
    assert len(modes) == 4
    assert set(modes.values()) == {"0o600"}
    assert file.parent.stat().st_mode & 0o777 == 0o700
