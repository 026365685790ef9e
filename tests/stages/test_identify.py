"""identify: create or update, stale or duplicate, by what the ledger knows."""

from dataclasses import replace

import pytest

from pipeline.errors import Duplicate, Filtered, Parked, Superseded
from pipeline.model import (
    Behind,
    Identified,
    Identity,
    Intent,
    Kind,
    Knowledge,
    Known,
    ParkedBefore,
    Position,
    Routed,
    Seen,
    Subject,
)
from pipeline.stages.identify import identify
from schemas.outcomes import FindingCode, Reason, State
from tests.delivery.partner_script import adt
from tests.stages.plans import known, plan_with, read

PLAN = plan_with()
ROUTED = read(adt(), PLAN, offset=5)


def test_an_unknown_patient_is_created() -> None:
    identified = identify(ROUTED, Knowledge())
    assert (identified.intent, identified.partner_id, identified.identity) == (Intent.CREATE, None, ROUTED.identities[0])


def test_a_known_patient_is_updated_under_the_partners_id() -> None:
    identified = identify(ROUTED, known(ROUTED, "roche-7"))
    assert (identified.intent, identified.partner_id, identified.identity) == (Intent.UPDATE, "roche-7", ROUTED.identities[0])


def test_a_patient_known_by_a_second_identifier_is_updated_under_that_one() -> None:
    routed = read(adt().replace(b"12345678Z^^^CIP^PI", b"M1^^^METEDA^PI~12345678Z^^^CIP^PI"), PLAN)
    second = routed.identities[1]
    assert identify(routed, Knowledge(known={second: Known(None)})).identity == second


def seen(state: State) -> Seen:
    return Seen(Position("his.adt", 0, 1), state, None, "r")


@pytest.mark.parametrize("state", [State.DELIVERED, State.PARKED, State.UNKNOWN, State.FILTERED])
def test_the_same_bytes_again_are_a_duplicate_whatever_became_of_the_first(state: State) -> None:
    with pytest.raises(Duplicate) as ended:
        identify(ROUTED, Knowledge(same=seen(state)))
    assert ended.value.pointer == "his.adt/0/1"


def test_a_control_id_used_again_with_another_body_is_processed_with_a_warning() -> None:
    assert [finding.code for finding in identify(ROUTED, Knowledge(control_id_reused=True)).findings] == [
        FindingCode.CONTROL_ID_REUSED
    ]


TIME = ROUTED.event_ms or 0


@pytest.mark.parametrize(
    ("knowledge", "stale"),
    [
        (Knowledge(last_event_ms=TIME + 1), True),
        (Knowledge(last_event_ms=TIME - 1, last_position=Position("his.adt", 0, 9)), False),
        (Knowledge(last_event_ms=TIME, last_position=Position("his.adt", 0, 4)), False),
        (Knowledge(last_event_ms=TIME, last_position=Position("his.adt", 0, 9)), True),
        (Knowledge(last_event_ms=TIME, last_position=Position("his.adt", 1, 9)), False),
        (Knowledge(last_position=Position("his.adt", 0, 9)), True),
    ],
)
def test_stale_is_decided_by_event_time_and_where_that_does_not_tell_by_position(knowledge: Knowledge, *, stale: bool) -> None:
    if stale:
        with pytest.raises(Superseded):
            identify(ROUTED, knowledge)
    else:
        assert isinstance(identify(ROUTED, knowledge), Identified)


def test_what_the_partner_weighs_itself_goes_though_it_is_older() -> None:
    weighed = replace(ROUTED, rule=replace(ROUTED.rule, older_goes=True))
    assert isinstance(identify(weighed, Knowledge(last_event_ms=TIME + 1)), Identified)


def test_while_a_create_of_the_patient_is_open_no_other_leaves() -> None:
    with pytest.raises(Parked) as ended:
        identify(ROUTED, Knowledge(open_create=Position("his.adt", 0, 1)))
    assert ended.value.reason == Reason.BLOCKED_BEHIND


def parked_before(subject: Subject = Subject.PATIENT, offset: int = 1) -> Knowledge:
    return Knowledge(parked=(ParkedBefore(Position("his.adt", 0, offset), Kind.SNAPSHOT, subject),))


def held(behind: Behind) -> Routed:
    return replace(ROUTED, rule=replace(ROUTED.rule, kind=Kind.FACT, behind=behind))


def test_behind_a_parked_message_of_its_subject_a_message_passes_or_holds_as_its_row_says() -> None:
    assert identify(held(Behind.PASS), parked_before()).intent is Intent.CREATE
    with pytest.raises(Parked) as ended:
        identify(held(Behind.HOLD), parked_before())
    assert ended.value.reason == Reason.BLOCKED_BEHIND


@pytest.mark.parametrize(
    "knowledge", [parked_before(Subject.VISIT), parked_before(offset=6)], ids=["of another subject", "after it"]
)
def test_it_holds_behind_nothing_else(knowledge: Knowledge) -> None:
    assert identify(held(Behind.HOLD), knowledge).intent is Intent.CREATE


def test_a_create_that_is_merely_in_flight_is_left_to_the_ledger() -> None:
    assert identify(ROUTED, Knowledge(creating=Position("his.adt", 0, 1))).intent is Intent.CREATE


TWO = read(adt().replace(b"12345678Z^^^CIP^PI", b"M1^^^METEDA^PI~12345678Z^^^CIP^PI"), PLAN)
MET, CIP = TWO.identities


@pytest.mark.parametrize(
    ("known_of", "partner_id", "identity"),
    [
        ({MET: Known(None), CIP: Known("roche-1")}, "roche-1", CIP),
        ({MET: Known("roche-1"), CIP: Known("roche-1", created_with=True)}, "roche-1", CIP),
        ({MET: Known(None), CIP: Known(None, created_with=True)}, None, CIP),
        ({MET: Known(None), CIP: Known(None)}, None, MET),
        ({MET: Known("roche-1"), CIP: Known(None, created_with=True)}, "roche-1", MET),
    ],
)
def test_an_update_goes_by_the_partners_id_then_by_what_was_created_with_then_as_they_stand(
    known_of: dict[Identity, Known], partner_id: str | None, identity: Identity
) -> None:
    identified = identify(TWO, Knowledge(known=known_of))
    assert (identified.intent, identified.partner_id, identified.identity) == (Intent.UPDATE, partner_id, identity)


def test_numbers_of_two_patients_in_one_message_park_it() -> None:
    with pytest.raises(Parked) as ended:
        identify(TWO, Knowledge(known={MET: Known("roche-1"), CIP: Known("roche-2")}))
    assert (ended.value.reason, ended.value.where) == (Reason.IDENTITY_CONFLICT, "PID-3")


@pytest.mark.parametrize("partner_id", [None, "roche-2"])
def test_a_number_that_was_merged_away_is_left_out_of_the_survivors_message(partner_id: str | None) -> None:
    merged = Known("roche-1", merged_into="hash", merged_ms=1)
    identified = identify(TWO, Knowledge(known={MET: merged, CIP: Known(partner_id)}))
    assert (identified.routed.identities, identified.identity, identified.partner_id) == ((CIP,), CIP, partner_id)


def test_a_result_that_is_taken_back_and_never_went_is_filtered_and_one_that_went_goes() -> None:
    part = Identity(Subject.RESULT, "urn:x", "F1", "OBR-3.1")
    rule = replace(ROUTED.rule, kind=Kind.CANCEL, subject=Subject.RESULT, behind=Behind.HOLD)
    cancel = replace(ROUTED, rule=rule, parts=(part,), subjects=("result",), patient_subjects=ROUTED.subjects)
    with pytest.raises(Filtered) as ended:
        identify(cancel, Knowledge())
    assert (ended.value.reason, ended.value.where) == (Reason.RESULT_NOT_KNOWN, "OBR-3.1")
    with pytest.raises(Parked) as waits:
        identify(cancel, Knowledge(part_open=Position("his.adt", 0, 1)))
    assert waits.value.reason == Reason.BLOCKED_BEHIND
    there = Knowledge(known={ROUTED.identities[0]: Known("2075"), part: Known("id-7", belongs_to="2075")})
    assert identify(cancel, there).part_ids == {part: "id-7"}


def test_a_number_that_the_partner_has_with_one_that_was_merged_away_is_the_priors_too() -> None:
    merged = Known("roche-1", merged_into="hash", merged_ms=1)
    with pytest.raises(Parked) as ended:
        identify(TWO, Knowledge(known={MET: merged, CIP: Known("roche-1")}))
    assert ended.value.reason == Reason.MERGED_PRIOR


MERGE = read(adt("A40", prior="PRIOR1"), PLAN)
PRIOR = MERGE.prior[0]
SURVIVOR = MERGE.identities[0]


@pytest.mark.parametrize(
    ("knowledge", "kind", "reason"),
    [
        (Knowledge(), Filtered, Reason.PARTNER_HAS_NO_MERGE),
        (Knowledge(known={SURVIVOR: Known(None)}), Filtered, Reason.PARTNER_HAS_NO_MERGE),
        (Knowledge(known={SURVIVOR: Known(None), PRIOR: Known(None)}), Filtered, Reason.MERGE_LEAVES_TWO),
        (Knowledge(known={PRIOR: Known(None)}), Parked, Reason.MERGE_NEEDS_REKEY),
        (Knowledge(merge_cycle=True), Parked, Reason.MERGE_CYCLE),
        (Knowledge(open_create=Position("his.adt", 0, 1)), Parked, Reason.BLOCKED_BEHIND),
        (Knowledge(creating=Position("his.adt", 0, 1)), Parked, Reason.BLOCKED_BEHIND),
    ],
)
def test_a_merge_ends_by_what_the_partner_has(knowledge: Knowledge, kind: type[Parked | Filtered], reason: Reason) -> None:
    with pytest.raises(kind) as ended:
        identify(MERGE, knowledge)
    assert ended.value.reason == reason


def test_a_merge_without_a_prior_identifier_is_parked() -> None:
    with pytest.raises(Parked) as ended:
        identify(read(adt("A40"), PLAN), Knowledge())
    assert (ended.value.reason, ended.value.where) == (Reason.PATIENT_MISSING, "MRG-1")


@pytest.mark.parametrize(("merged_ms", "kind"), [(TIME + 1, Superseded), (TIME - 1, Parked)])
def test_a_patient_who_was_merged_away_is_never_sent_again(merged_ms: int, kind: type[Exception]) -> None:
    merged = Known(None, merged_into="hash", merged_ms=merged_ms)
    with pytest.raises(kind):
        identify(ROUTED, Knowledge(known={ROUTED.identities[0]: merged}))


# a number that moves

MOVE = read(adt("A43", prior="PRIOR1"), PLAN)


def moved(offset: int, kind: Kind = Kind.MOVE, subject: Subject = Subject.PATIENT) -> Knowledge:
    return Knowledge(parked=(ParkedBefore(Position("his.adt", 0, offset), kind, subject),))


@pytest.mark.parametrize("knowledge", [Knowledge(), moved(-1), Knowledge(creating=Position("his.adt", 0, 1))])
def test_a_number_that_moves_waits_for_a_person_whatever_is_known(knowledge: Knowledge) -> None:
    with pytest.raises(Parked) as ended:
        identify(MOVE, knowledge)
    assert (ended.value.reason, ended.value.where) == (Reason.NUMBER_MOVED, "MRG-1")


def test_told_again_a_move_is_a_duplicate() -> None:
    with pytest.raises(Duplicate):
        identify(MOVE, Knowledge(same=seen(State.PARKED)))


@pytest.mark.parametrize("routed", [held(Behind.PASS), held(Behind.HOLD), MERGE])
def test_all_that_comes_after_a_move_that_nobody_has_dealt_with_waits(routed: Routed) -> None:
    for offset in (-1, -7):
        with pytest.raises(Parked) as ended:
            identify(routed, moved(offset))
        assert ended.value.reason == Reason.BLOCKED_BEHIND


@pytest.mark.parametrize(("moved_ms", "goes"), [(TIME - 1, False), (TIME, False), (TIME + 1, True), (None, False)])
def test_of_another_topic_the_event_time_says_what_came_before_a_move(moved_ms: int | None, goes: bool) -> None:
    move = ParkedBefore(Position("his.siu", 0, 99), Kind.MOVE, Subject.PATIENT, event_ms=moved_ms)
    knowledge = Knowledge(parked=(move,))
    if goes:
        assert identify(ROUTED, knowledge).intent is Intent.CREATE
        return
    with pytest.raises(Parked) as ended:
        identify(ROUTED, knowledge)
    assert ended.value.reason == Reason.BLOCKED_BEHIND
    assert identify(ROUTED, knowledge.of_one_begun).intent is Intent.CREATE, "what went out comes to its end"


def test_what_came_before_a_move_goes_and_the_move_of_a_visit_holds_nobody() -> None:
    assert identify(ROUTED, moved(ROUTED.decoded.received.position.offset + 1)).intent is Intent.CREATE
    assert identify(ROUTED, moved(-1, subject=Subject.VISIT)).intent is Intent.CREATE
    assert identify(ROUTED, moved(-1, Kind.MERGE)).intent is Intent.CREATE
