"""settle: the result record, the dead letter, the settlement; and that none of them holds a patient."""

from dataclasses import replace

import pytest

from pipeline import flow
from pipeline.model import Answer, Decision, Knowledge, Known, Learned, Outcome, Packed, Reply, Verdict
from pipeline.stages.settle import Written, settle
from schemas.outcomes import Reason, State
from schemas.result import Result
from tests.delivery.partner_script import adt
from tests.stages.plans import ended, plan_with, read, received

PLAN = plan_with()
CANARIES = ("12345678Z", "Example", "Ana", "600000001", "19800203", "1980-02-03")


def written(outcome: Outcome) -> Written:
    return settle(outcome, PLAN, results_topic="results", dead_letter_topic="dead", at_ms=1_700_000_000_000)


def delivered() -> Outcome:
    routed = read(adt(), PLAN)
    packed = flow.prepare(routed, Knowledge(), PLAN)
    assert isinstance(packed, Packed)
    reply = Reply(200, {}, b"", 1507.17, 1_700_000_000_000, 1_700_000_001_507)
    verdict = Verdict(Decision.DELIVERED, learned=(Learned(routed.identities[0], "12345678Z"),))
    answer = Answer(packed.requests[0], reply, verdict, 1)
    return Outcome(
        routed.decoded.received,
        PLAN.name,
        "roche",
        State.DELIVERED,
        decoded=routed.decoded,
        routed=routed,
        packed=packed,
        answer=answer,
        confirmed_by="response",
    )


def test_a_result_says_what_was_done_how_long_it_took_and_of_which_record() -> None:
    result = Result.model_validate_json(written(delivered()).settlement.result)
    assert (result.state, result.event, result.control_id, result.attempt, result.http_status) == (
        State.DELIVERED,
        "ADT^A04",
        "1",
        1,
        200,
    )
    assert (result.response_ms, result.source_topic, result.source_offset, result.confirmed_by) == (
        1507.17,
        "his.adt",
        0,
        "response",
    )


def test_a_result_is_keyed_by_the_request_id() -> None:
    one = written(delivered())
    assert one.result.key == str(Result.model_validate_json(one.settlement.result).request_id).encode()


def test_results_of_what_nobody_could_read_share_a_key_of_their_own() -> None:
    unread = received(b"garbage")
    outcomes = [Outcome(unread, PLAN.name, "roche", state, Reason.NOT_HL7) for state in (State.PARKED, State.DISCARDED)]
    assert [written(one).result.key for one in outcomes] == [b"his.adt/0/0", b"his.adt/0/0"]


@pytest.mark.parametrize("outcome", [delivered(), ended(adt(authority="NOBODY"), PLAN), ended(adt("A03"), PLAN)])
def test_neither_result_nor_headers_hold_a_patient(outcome: Outcome) -> None:
    one = written(outcome)
    told = one.settlement.result + str(one.dead_letter.headers if one.dead_letter else "") + repr(one) + repr(outcome)
    assert [canary for canary in CANARIES if canary in told] == []


def test_a_partner_id_that_is_the_patients_own_is_hashed() -> None:
    result = Result.model_validate_json(written(delivered()).settlement.result)
    assert result.partner_id is None
    assert result.partner_id_hash == PLAN.pseudonyms.hash("partner-id", "roche", "12345678Z")


def test_a_dead_letter_is_the_record_as_it_was_with_the_reason_in_its_headers() -> None:
    value = adt(authority="NOBODY")
    letter = written(ended(value, PLAN)).dead_letter
    assert letter is not None
    assert (letter.value, letter.key) == (value, received(value).key)
    assert dict(letter.headers)["emr-reason"] == Reason.IDENTIFIER_SYSTEM.encode()


def test_what_stands_for_a_dead_letter_that_is_too_large_says_what_it_leaves_out_and_where_that_is() -> None:
    outcome = ended(adt(authority="NOBODY"), PLAN)
    foreign = (("charset", b"utf-8"),)
    outcome = replace(outcome, received=replace(outcome.received, headers=foreign))
    one = written(outcome)
    whole, without, bare = one.letters
    assert one.dead_letter is whole
    assert [(each.value, each.key) for each in (without, bare)] == [(None, whole.key), (None, one.settlement.result_id.encode())]
    ours = whole.headers[: -len(foreign)]
    size = str(len(whole.value or b"")).encode()
    assert without.headers == (*ours, ("emr-left_out", b"value"), ("emr-source_bytes", size), *foreign)
    assert bare.headers == (*ours, ("emr-left_out", b"record"), ("emr-source_bytes", size))
    assert {"emr-source_topic", "emr-source_partition", "emr-source_offset"} <= dict(bare.headers).keys()


def test_a_tombstone_has_no_value_to_leave_out() -> None:
    empty = Outcome(received(None), PLAN.name, "roche", State.PARKED, Reason.EMPTY)
    assert [dict(each.headers).get("emr-left_out") for each in written(empty).letters] == [None, b"record"]


def test_only_a_parked_message_has_a_dead_letter() -> None:
    assert written(delivered()).dead_letter is None
    assert written(ended(adt("A03"), PLAN)).dead_letter is None


def test_the_same_settlement_has_the_same_result_id_whenever_it_is_written() -> None:
    first = settle(delivered(), PLAN, results_topic="results", dead_letter_topic="dead", at_ms=1)
    again = settle(delivered(), PLAN, results_topic="results", dead_letter_topic="dead", at_ms=2)
    assert first.settlement.result_id == again.settlement.result_id


def test_a_merge_that_needs_a_rekey_is_recorded_and_waits() -> None:
    merge = read(adt("A40", prior="PRIOR1"), PLAN)
    outcome = flow.prepare(merge, Knowledge(known={merge.prior[0]: Known("roche-1")}), PLAN)
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.MERGE_NEEDS_REKEY)
    recorded = written(outcome).settlement.merged
    assert recorded is not None
    assert (recorded.prior, recorded.waiting) == (merge.prior, merge.identities)


def test_a_merge_that_is_filtered_is_recorded_with_it() -> None:
    merge = read(adt("A40", prior="PRIOR1"), PLAN)
    outcome = flow.prepare(merge, Knowledge(), PLAN)
    assert isinstance(outcome, Outcome)
    recorded = written(outcome).settlement.merged
    assert recorded is not None
    assert (recorded.prior, recorded.survivor, recorded.waiting) == (merge.prior, merge.identities[0], ())
