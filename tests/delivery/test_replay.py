"""What a replay would do with a record, and what is left of one that a process before us took."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from pipeline.delivery.replay import (
    Classed,
    Left,
    classed,
    executed,
    hash_of,
    item_of,
    latest_only,
    left,
    outcome_of,
    prepare,
    received_of,
)
from pipeline.ledger.fingerprint import fingerprint
from pipeline.ledger.plans import ItemClass, ItemState, Mode, Taken
from pipeline.ledger.port import Delivery
from pipeline.model import Intent, Knowledge, Known, Outcome, Packed, Position, Received, Routed, Seen
from pipeline.stages.plan import Plan
from pipeline.stages.settle import letters, result_of, settle
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import adt
from tests.stages.plans import plan_with, read, received

MONDAY, TUESDAY = "20240506090000+0200", "20240507090000+0200"
PLAN = plan_with()


def row(state: State = State.PARKED, reason: Reason | None = Reason.PROFILE_REQUIRED, **more: Any) -> Delivery:  # noqa: ANN401 - columns
    told: dict[str, Any] = {
        "route": PLAN.name,
        "position": Position("his.adt", 0, 0),
        "state": state,
        "reason": reason.value if reason else None,
        "where": None,
        "event": "ADT^A04",
        "control_id": "1",
        "patient": None,
        "request_id": "r",
        "attempt": 1,
        "result_id": "x",
        "http_status": None,
        "response_ms": None,
        "at_ms": 1,
        "mapping_version": "v",
    }
    return Delivery(**told | more)


def judge(
    delivery: Delivery,
    value: bytes | None,
    knowledge: Knowledge | Callable[[Routed], Knowledge] | None = None,
    mode: Mode | None = None,
    plan: Plan = PLAN,
) -> Classed:
    there = None if value is None else received(value, delivery.position.offset)
    known = knowledge if callable(knowledge) else lambda _: knowledge or Knowledge()
    return classed(delivery, lambda: there, plan, known, mode or Mode())


def newer(routed: Routed) -> Knowledge:
    """Tuesday's A08 was delivered."""
    known = {routed.identities[0]: Known("P1")}
    return Knowledge(known=known, last_event_ms=(routed.event_ms or 0) + 86_400_000, last_position=Position("his.adt", 0, 5))


def no_bytes() -> Received | None:
    pytest.fail("its bytes were asked for, and nothing depends on them")


@pytest.mark.parametrize(
    ("state", "mode", "expected"),
    [
        (State.DELIVERED, Mode(), ItemClass.ALREADY_DELIVERED),
        (State.DELIVERED, Mode(force=True), ItemClass.ALREADY_DELIVERED),
        (State.DUPLICATE, Mode(force=True, include_delivered=True), ItemClass.FILTERED),
        (State.DISCARDED, Mode(), ItemClass.FILTERED),
        (State.PENDING, Mode(), ItemClass.BLOCKED_BEHIND),
    ],
)
def test_what_the_row_alone_says_is_not_looked_at(state: State, mode: Mode, expected: ItemClass) -> None:
    judged = classed(row(state, None), no_bytes, PLAN, lambda _: Knowledge(), mode)
    assert (judged.item_class, executed(judged.item_class, mode)) == (expected, False)


@pytest.mark.parametrize(
    ("delivery", "value", "mode", "expected"),
    [
        (row(), adt(), Mode(), ItemClass.WILL_SEND),
        (row(State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER), adt(), Mode(), ItemClass.WILL_SEND),
        (row(State.DISCARDED, Reason.OPERATOR), adt(), Mode(force=True), ItemClass.WILL_SEND),
        (row(State.DELIVERED, None), adt(), Mode(include_delivered=True), ItemClass.ALREADY_DELIVERED),
        (row(reason=Reason.TIMEOUT), adt(), Mode(), ItemClass.UNKNOWN_NEEDS_PROBE),
        (row(State.UNKNOWN, Reason.TIMEOUT), adt(), Mode(), ItemClass.UNKNOWN_NEEDS_PROBE),
        (row(reason=Reason.MAPPING_FAILED, claims=True), adt(), Mode(), ItemClass.UNKNOWN_NEEDS_PROBE),
        (row(), None, Mode(), ItemClass.PAYLOAD_GONE),
        (row(), b"no message", Mode(), ItemClass.STILL_PARKED),
        (row(), adt(family=""), Mode(), ItemClass.STILL_PARKED),
        (row(), adt("A03"), Mode(), ItemClass.FILTERED),
    ],
)
def test_a_record_is_judged_by_todays_hops(delivery: Delivery, value: bytes | None, mode: Mode, expected: ItemClass) -> None:
    assert judge(delivery, value, mode=mode).item_class is expected


def test_a_record_behind_an_open_create_goes_on_by_itself() -> None:
    assert judge(row(), adt(), Knowledge(open_create=Position("his.adt", 0, 9))).item_class is ItemClass.BLOCKED_BEHIND


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [(row(reason=Reason.TIMEOUT), ItemClass.UNKNOWN_NEEDS_PROBE), (row(), ItemClass.FILTERED)],
)
def test_what_may_have_arrived_is_no_duplicate_of_its_copy(delivery: Delivery, expected: ItemClass) -> None:
    copy = seen(position=Position("his.adt", 1, 7), reason=Reason.BLOCKED_BEHIND)
    assert judge(delivery, adt(), Knowledge(same=copy)).item_class is expected


def test_an_unknown_create_that_no_probe_can_tell_of_is_a_persons() -> None:
    def v2(tree: dict[str, Any]) -> None:
        tree["partners"]["roche"] |= {"api": "v2", "v2_unknown": "park"}

    judged = judge(row(reason=Reason.PROBE_CANNOT_TELL), adt(), plan=plan_with(v2))
    assert (judged.item_class, judged.reason) == (ItemClass.STILL_PARKED, Reason.PROBE_CANNOT_TELL)


# S1


@pytest.mark.parametrize("delivery", [row(), row(State.SUPERSEDED, Reason.STALE), row(State.DELIVERED, None)])
def test_mondays_a04_after_tuesdays_a08_is_stale_and_goes_only_by_force(delivery: Delivery) -> None:
    careful, forced = Mode(include_delivered=True), Mode(include_delivered=True, force=True)
    judged = judge(delivery, adt(time=MONDAY), newer, careful)
    assert (judged.item_class, executed(judged.item_class, careful)) == (ItemClass.STALE, False)
    judged = judge(delivery, adt(time=MONDAY), newer, forced)
    assert (judged.item_class, executed(judged.item_class, forced)) == (ItemClass.STALE, True)


def test_a_worker_refuses_what_has_become_stale_since_it_was_planned() -> None:
    routed = read(adt(time=MONDAY), PLAN)
    planned = taken(ItemClass.WILL_SEND)
    outcome = prepare(routed, newer(routed), PLAN, planned, seen(State.PARKED))
    assert isinstance(outcome, Outcome)
    assert outcome.reason is Reason.STALE
    forced = prepare(routed, newer(routed), PLAN, taken(ItemClass.STALE, Mode(force=True)), seen(State.PARKED))
    assert isinstance(forced, Packed)
    assert forced.requests[0].intent is Intent.UPDATE


# diff


def test_a_plan_says_which_elements_differ_from_what_was_sent() -> None:
    sent = prepare(read(adt(), PLAN), Knowledge(), PLAN, taken(), seen())
    assert isinstance(sent, Packed)
    kept = fingerprint(sent.mapped.resources, "his.adt/0/0", PLAN.pseudonyms)
    assert "Ana" not in kept
    assert judge(row(sent=kept), adt()).differs == ()
    assert judge(row(sent=kept), adt(family="Other", diagnosis="")).differs == (
        "Condition.clinicalStatus",
        "Condition.code",
        "Condition.meta",
        "Patient.name",
    )
    assert judge(row(), adt()).differs is None


# --latest-only


def several(*values: bytes) -> list[Classed]:
    return [judge(row(position=Position("his.adt", 0, offset)), value) for offset, value in enumerate(values)]


def classes(judged: list[Classed], mode: Mode | None = None) -> list[str]:
    return [one.item_class.value for one in latest_only(judged, mode or Mode(latest_only=True))]


def test_of_the_snapshots_of_a_patient_the_newest_is_sent() -> None:
    others = adt("A04", "3", patient="99999999R", time=MONDAY)
    judged = several(adt("A08", "1", time=TUESDAY), adt("A04", "2", time=MONDAY), others)
    assert classes(judged) == ["will_send", "superseded", "will_send"]


def test_one_that_brought_a_diagnosis_is_sent_before_a_newer_one_without() -> None:
    assert classes(several(adt("A04", "1", time=MONDAY), adt("A08", "2", time=TUESDAY, diagnosis=""))) == [
        "will_send",
        "will_send",
    ]
    assert classes(several(adt("A04", "1", time=MONDAY, diagnosis=""), adt("A08", "2", time=TUESDAY))) == [
        "superseded",
        "will_send",
    ]


def test_what_cannot_go_itself_makes_nothing_superseded() -> None:
    assert classes(several(adt("A04", "1", time=MONDAY), adt("A08", "2", time=TUESDAY, family=""))) == [
        "will_send",
        "still_parked",
    ]


# items


def taken(item_class: ItemClass = ItemClass.WILL_SEND, mode: Mode | None = None, was: State = State.PARKED) -> Taken:
    item = replace(item_of(judge(row(), adt()), None, Mode()), item_class=item_class, was=was)
    return Taken("r1", PLAN.name, mode or Mode(), 5.0, item)


def seen(state: State = State.PARKED, **more: Any) -> Seen:  # noqa: ANN401 - fields
    told: dict[str, Any] = {
        "position": Position("his.adt", 0, 0),
        "state": state,
        "reason": None,
        "request_id": "r",
        "intents": 1,
    }
    return Seen(**told | more)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (seen(State.PARKED), Left.GO),
        (seen(State.PENDING), Left.GO),
        (seen(State.UNKNOWN, open=True), Left.GO),
        (seen(State.DELIVERED, open=True, replay="r1"), Left.GO),
        (seen(State.DELIVERED, replay="r1", result="{}"), Left.EMIT),
        (seen(State.DELIVERED, replay="r1"), Left.NOTHING),
        (seen(State.PARKED, replay="r1", result="{}"), Left.EMIT),
        (seen(State.PARKED, replay="r0"), Left.GO),
        (seen(State.DELIVERED), Left.NOTHING),
        (seen(State.SUPERSEDED, replay="r0"), Left.NOTHING),
        (None, Left.NOTHING),
    ],
)
def test_what_a_process_before_us_did_is_not_done_again(there: Seen | None, expected: Left) -> None:
    assert left(taken(), there) is expected


def test_what_was_delivered_when_it_was_planned_is_sent_again() -> None:
    assert left(taken(ItemClass.ALREADY_DELIVERED, was=State.DELIVERED), seen(State.DELIVERED)) is Left.GO
    assert left(taken(ItemClass.ALREADY_DELIVERED, was=State.DELIVERED), seen(State.DELIVERED, replay="r1")) is Left.NOTHING


def test_a_resend_has_a_bundle_id_and_a_request_id_of_its_own_and_the_same_message() -> None:
    routed = read(adt(), PLAN)
    known = Knowledge(known={routed.identities[0]: Known("P1")})
    first = prepare(routed, known, PLAN, taken(), seen(State.PARKED))
    again = prepare(routed, known, PLAN, taken(), seen(State.DELIVERED))
    twice = prepare(routed, known, PLAN, taken(), seen(State.DELIVERED))
    other = prepare(routed, known, PLAN, replace(taken(), replay="r2"), seen(State.DELIVERED))
    assert isinstance(first, Packed)
    assert isinstance(again, Packed)
    assert isinstance(other, Packed)
    assert again == twice
    before, now, then = (orjson.loads(one.requests[0].body) for one in (first, again, other))
    assert len({before.pop("id"), now.pop("id"), then.pop("id")}) == 3
    assert before == now == then
    ids = {one.requests[0].request_id for one in (first, again, other)}
    assert len(ids) == 3
    assert dict(again.requests[0].headers)["x-origin-request-id"] == again.requests[0].request_id


def test_the_bytes_of_a_dead_letter_are_the_records() -> None:
    source = Received(Position("his.adt", 0, 7), adt(), b"key", (("charset", b"utf-8"),), 5)
    routed = read(adt(), PLAN)
    outcome = Outcome(source, PLAN.name, "roche", State.PARKED, Reason.FHIR_INVALID, routed=routed, decoded=routed.decoded)
    letter = letters(source, result_of(outcome, PLAN, 9), "dead")[0]
    found = Received(Position("dead", 0, 0), letter.value, letter.key, letter.headers, 9)
    came = received_of(source.position, found)
    assert (came.position, came.value, came.key, came.headers) == (source.position, source.value, source.key, source.headers)
    assert received_of(source.position, source) is source


def test_the_result_of_a_replay_names_it_and_differs_in_each() -> None:
    routed = read(adt(), PLAN)
    outcome = Outcome(routed.decoded.received, PLAN.name, "roche", State.PARKED, Reason.FHIR_INVALID, routed=routed)
    plain = result_of(outcome, PLAN, 9)
    of_item = result_of(outcome_of(outcome, taken(), seen(State.PARKED)), PLAN, 9)
    other = result_of(outcome_of(outcome, replace(taken(), replay="r2"), seen(State.PARKED)), PLAN, 9)
    assert (of_item.replay_id, of_item.settled) == ("r1", True)
    assert len({plain.result_id, of_item.result_id, other.result_id}) == 3


def test_a_resend_that_did_not_arrive_settles_nothing_and_is_no_dead_letter() -> None:
    routed = read(adt(), PLAN)
    outcome = Outcome(routed.decoded.received, PLAN.name, "roche", State.PARKED, Reason.REJECTED_INVALID, routed=routed)
    of_item = outcome_of(outcome, taken(), seen(State.DELIVERED))
    written = settle(of_item, PLAN, results_topic="r", dead_letter_topic="d", at_ms=9)
    later = settle(of_item, PLAN, results_topic="r", dead_letter_topic="d", at_ms=10)
    assert written.dead_letter is None
    assert orjson.loads(written.settlement.result)["settled"] is False
    assert written.settlement.result_id == later.settlement.result_id


def test_the_hash_of_a_plan_is_over_all_that_would_be_sent() -> None:
    item = item_of(judge(row(), adt()), None, Mode())
    assert (item.state, item.lanes) == (ItemState.WAITING, read(adt(), PLAN).lanes)
    hashes = {
        hash_of("a", Mode(), [item]),
        hash_of("b", Mode(), [item]),
        hash_of("a", Mode(force=True), [item]),
        hash_of("a", Mode(), [replace(item, item_class=ItemClass.STALE)]),
        hash_of("a", Mode(), [replace(item, position=Position("his.adt", 0, 1))]),
    }
    assert len(hashes) == 5
