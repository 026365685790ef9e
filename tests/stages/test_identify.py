"""identify: create or update, stale or duplicate, by what the ledger knows."""

import pytest

from pipeline.errors import Duplicate, Filtered, Parked, Superseded
from pipeline.model import Identified, Intent, Knowledge, Known, Position, Seen
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


def test_while_a_create_of_the_patient_is_open_no_other_leaves() -> None:
    with pytest.raises(Parked) as ended:
        identify(ROUTED, Knowledge(open_create=Position("his.adt", 0, 1)))
    assert ended.value.reason == Reason.BLOCKED_BEHIND


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
