"""route: what the event is, whose lane it belongs to, or that nobody wants it."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import flow
from pipeline.model import Action, Identity, Kind, Routed, Subject
from pipeline.stages.plan import Plan
from pipeline.stages.route import is_known_as, request_id
from schemas.outcomes import FindingCode, Reason, Severity, State
from tests.delivery.partner_script import adt
from tests.stages.plans import ended, plan_with, read, received

PLAN = plan_with()
CIP = "urn:oid:2.16.724.4.41"


def test_an_admission_is_a_snapshot_of_its_patient() -> None:
    routed = read(adt("A01"), PLAN)
    assert (routed.rule.kind, routed.rule.subject, routed.rule.action) == (Kind.SNAPSHOT, Subject.PATIENT, Action.UPSERT)
    assert routed.identities == (Identity(Subject.PATIENT, CIP, "12345678Z"),)
    assert routed.identities[0].place == "PID-3.1"


def test_messages_of_one_patient_share_a_lane_and_others_do_not() -> None:
    lanes = [
        read(adt(control_id=number, patient=patient), PLAN).lane for number, patient in (("1", "A1"), ("2", "A1"), ("3", "B1"))
    ]
    assert lanes[0] == lanes[1] != lanes[2]


def test_only_identifiers_whose_system_the_partner_takes_are_identities() -> None:
    value = adt().replace(b"12345678Z^^^CIP^PI", b"99^^^LOCAL^MR~12345678Z^^^CIP^PI")
    assert [identity.place for identity in read(value, PLAN).identities] == ["PID-3[2].1"]


@given(st.permutations(["12345678Z^^^CIP^PI", "M1^^^METEDA^PI", "M2^^^METEDA^PI", "M1^^^METEDA^PI"]))
def test_lane_and_subjects_are_the_same_in_whatever_order_the_numbers_stand(numbers: list[str]) -> None:
    first = read(adt().replace(b"12345678Z^^^CIP^PI", b"12345678Z^^^CIP^PI~M1^^^METEDA^PI~M2^^^METEDA^PI"), PLAN)
    routed = read(adt().replace(b"12345678Z^^^CIP^PI", "~".join(numbers).encode()), PLAN)
    assert (routed.lane, routed.subjects, len(routed.identities)) == (first.lane, first.subjects, 3)


def test_a_number_that_stands_in_pid_and_mrg_alike_is_no_prior() -> None:
    value = adt("A40", prior="OLD1").replace(b"OLD1^^^CIP^PI", b"12345678Z^^^CIP^PI~OLD1^^^CIP^PI")
    assert [identity.value for identity in read(value, PLAN).prior] == ["OLD1"]
    assert read(adt("A40", prior="12345678Z"), PLAN).prior == ()


MOVED = adt("A43", prior="OLD1")


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (MOVED, ["12345678Z", "OLD1"]),
        (adt("A43", prior="12345678Z"), ["12345678Z"]),
        (MOVED + b"\rPID|2||B2^^^CIP^PI\rMRG|OLD2^^^CIP^PI\r", ["12345678Z", "B2", "OLD1", "OLD2"]),
        (MOVED.replace(b"12345678Z^^^CIP^PI", b"99^^^LOCAL^MR"), ["OLD1"]),
        (MOVED.replace(b"12345678Z^^^CIP^PI", b"\xff\xfe^^^CIP^PI"), ["OLD1"]),
        (MOVED.replace(b"|OLD1", b"|\xff\xfe^^^CIP^PI~OLD1"), ["12345678Z", "OLD1"]),
    ],
)
def test_a_number_that_moves_has_the_lanes_of_all_whom_it_names(message: bytes, numbers: list[str]) -> None:
    """Whichever segments name them, and where one has a number of ours."""
    routed = read(message, PLAN)
    assert [identity.value for identity in routed.identities] == numbers
    lanes = {read(adt(patient=number), PLAN).lane for number in numbers}
    assert (set(routed.lanes), routed.prior) == (lanes, ())


def test_a_number_that_moves_and_names_nobody_parks_for_that() -> None:
    nobody = b"\r".join(line for line in adt("A43").split(b"\r") if not line.startswith(b"PID"))
    assert ended(nobody, PLAN).reason == Reason.PATIENT_MISSING


def test_a_number_that_moves_and_names_none_that_can_be_read_parks_for_that() -> None:
    outcome = ended(MOVED.replace(b"12345678Z", b"\xff\xfe").replace(b"OLD1", b"\xff"), PLAN)
    assert (outcome.reason, outcome.where) == (Reason.CHARSET, "PID-3.1")


def test_the_sender_is_a_hash_and_duplicates_are_told_by_the_whole_of_it() -> None:
    one, other = read(adt(), PLAN), read(adt().replace(b"|HIS|", b"|HI\x00S|"), PLAN)
    assert "HIS" not in one.sender
    assert (one.sender == other.sender, one.dedupe == other.dedupe) == (False, False)


# its age

SENT = "20240502101500+0200"
SENT_MS = 1_714_637_700_000
HOUR_MS = 3_600_000


def routed_at(recorded_ms: int, value: bytes) -> Routed:
    came = flow.read(replace(received(value), timestamp_ms=recorded_ms), PLAN)
    assert isinstance(came, Routed), came
    return came


@pytest.mark.parametrize(
    ("recorded_ms", "event_ms"),
    [
        (SENT_MS + 10 * HOUR_MS, SENT_MS),
        (SENT_MS, SENT_MS),
        (SENT_MS - HOUR_MS, SENT_MS),
        (SENT_MS - HOUR_MS - 1, None),
        (1, None),
        (0, SENT_MS),
        (-1, SENT_MS),
    ],
)
def test_an_event_time_more_than_an_hour_ahead_of_its_record_counts_as_missing(recorded_ms: int, event_ms: int | None) -> None:
    routed = routed_at(recorded_ms, adt(time=SENT))
    assert routed.event_ms == event_ms
    said = [(one.code, one.severity, one.hl7) for one in routed.findings]
    assert said == ([(FindingCode.EVENT_TIME_AHEAD, Severity.WARNING, "EVN-2")] if event_ms != SENT_MS else [])


def test_the_field_that_told_the_time_ahead_is_named() -> None:
    value = adt(time=SENT).replace(f"EVN|A04|{SENT}".encode(), b"EVN|A04")
    assert [one.hl7 for one in routed_at(1, value).findings] == ["MSH-7"]


def test_how_far_ahead_is_far_is_a_setting() -> None:
    def a_minute(tree: dict[str, Any]) -> None:
        tree["site"]["most_ahead"] = 60

    minute = replace(received(adt(time=SENT)), timestamp_ms=SENT_MS - 61_000)
    came = flow.read(minute, plan_with(a_minute))
    assert isinstance(came, Routed)
    assert (came.event_ms, routed_at(SENT_MS - 61_000, adt(time=SENT)).event_ms) == (None, SENT_MS)


@given(st.integers(1, 4_102_444_800_000), st.integers(0, 3), st.integers(0, 4_102_444_800))
def test_no_message_ever_counts_as_newer_than_an_hour_behind_its_record(recorded_ms: int, zone: int, seconds: int) -> None:
    sent = f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d%H%M%S}" + (f"+0{zone}00" if zone else "")
    event_ms = routed_at(recorded_ms, adt(time=sent)).event_ms
    assert event_ms is None or event_ms <= recorded_ms + HOUR_MS


@pytest.mark.parametrize(
    ("value", "state", "reason", "where"),
    [
        (adt("A03"), State.FILTERED, Reason.PARTNER_HAS_NO_VISIT, "MSH-9"),
        (adt("A29"), State.FILTERED, Reason.PARTNER_HAS_NO_DELETE, "MSH-9"),
        (adt().replace(b"|P|2.5", b"|T|2.5"), State.FILTERED, Reason.NOT_PRODUCTION, "MSH-11"),
        (adt().replace(b"ADT^A04", b"XYZ^Q99"), State.PARKED, Reason.EVENT_UNLISTED, "MSH-9"),
        (adt().replace(b"ADT^A04", b"ADT").replace(b"EVN|A04|", b"EVN||"), State.PARKED, Reason.EVENT_MISSING, "MSH-9.2"),
        (adt(patient=""), State.PARKED, Reason.PATIENT_MISSING, "PID-3"),
        (adt(authority="NOBODY"), State.PARKED, Reason.IDENTIFIER_SYSTEM, "PID-3.4"),
        (b"MSH|^~\\&|HIS|CLINIC|||20240502||ADT^A04|1|P|2.5", State.PARKED, Reason.PATIENT_MISSING, "PID"),
        (b"", State.PARKED, Reason.EMPTY, None),
        (None, State.PARKED, Reason.EMPTY, None),
    ],
)
def test_what_ends_here_says_why_and_where(value: bytes | None, state: State, reason: Reason, where: str | None) -> None:
    outcome = ended(value, PLAN)
    assert (outcome.state, outcome.reason, outcome.where) == (state, reason, where)


def test_an_identifier_that_the_character_set_spoils_parks_the_message() -> None:
    value = adt(patient="12345\xc3").replace("\xc3".encode(), b"\xc3")
    assert ended(value, PLAN).reason == Reason.CHARSET


def test_a_message_larger_than_the_site_allows_is_parked_unread() -> None:
    def small(tree: dict[str, Any]) -> None:
        tree["site"]["most_bytes"] = 100

    assert ended(adt(), plan_with(small)).reason == Reason.TOO_LARGE


def test_a_message_with_more_numbers_than_any_patient_has_is_parked() -> None:
    """The ledger is asked for all of them in one statement: seen to count as a database that is away."""
    numbers = [f"{number}Z^^^CIP^PI" for number in range(1001)]
    few, many = (adt().replace(b"12345678Z^^^CIP^PI", "~".join(some).encode()) for some in (numbers[:1000], numbers))
    assert len(read(few, PLAN).identities) == 1000
    outcome = ended(many, PLAN)
    assert (outcome.state, outcome.reason, outcome.where) == (State.PARKED, Reason.TOO_LARGE, "PID-3")
    assert outcome.message == "1001 numbers of patients; 1000 at most"


@pytest.mark.parametrize("name", ["MSH-3", "MSH-4", "MSH-10"])
def test_a_message_is_known_again_by_its_bytes_in_whatever_charset_its_sender_is_read(name: str) -> None:
    """The site's charset was a slip: what parked under it has to be found again."""

    def reading(charset: str) -> Plan:
        return plan_with(lambda tree: tree["site"].update(charset=charset))

    shown = {"MSH-3": b"|HIS|", "MSH-4": b"|CLINIC|", "MSH-10": b"|1|"}[name]
    value = adt().replace(shown, "|ZÜRICH|".encode("latin-1"), 1)
    assert value != adt()
    hashes = {read(value, reading(charset)).dedupe for charset in ("UTF-8", "ISO-8859-1", "ISO-8859-15", "cp850", "ascii")}
    assert len(hashes) == 1
    assert read(value + b"ZZZ|1\r", PLAN).dedupe not in hashes


@pytest.mark.parametrize("facility", ["CLINIC", "ZÜRICH"])
def test_a_ledger_of_before_knows_its_messages_again(facility: str) -> None:
    """Its hashes had the sender's name whatever it was; of one in ASCII they are as they were."""
    value = adt().replace(b"|CLINIC|", f"|{facility}|".encode())
    routed = read(value, PLAN)
    before = PLAN.pseudonyms.hash("dedupe", PLAN.name, f"HIS^{facility}", "1", sha256(value).hexdigest())
    assert is_known_as(before, received(value), routed, PLAN)
    assert (routed.dedupe == before) == facility.isascii()
    assert not is_known_as(before, received(value + b"ZZZ|1\r"), read(value + b"ZZZ|1\r", PLAN), PLAN)


def test_of_a_partner_with_many_routes_a_message_may_name_fewer_numbers() -> None:
    """Each has a lane on each of them, and the ledger is asked for all."""
    plan = replace(PLAN, beside=tuple(f"route {number}" for number in range(99)))
    some, many = (
        adt().replace(b"12345678Z^^^CIP^PI", "~".join(f"{number}Z^^^CIP^PI" for number in range(most)).encode())
        for most in (100, 101)
    )
    assert len(read(some, plan).lanes_beside) == 9900
    outcome = ended(many, plan)
    assert (outcome.reason, outcome.where, outcome.message) == (Reason.TOO_LARGE, "PID-3", "101 numbers of patients; 100 at most")


def test_a_route_takes_only_its_facilities() -> None:
    def elsewhere(tree: dict[str, Any]) -> None:
        tree["routes"]["roche-patients"]["facilities"] = ["ELSEWHERE"]

    assert ended(adt(), plan_with(elsewhere)).reason == Reason.FACILITY_NOT_ROUTED


@given(st.text(min_size=1, max_size=20), st.binary(max_size=200), st.binary(max_size=200))
def test_a_request_id_is_a_version_5_uuid_of_route_and_bytes(route: str, one: bytes, other: bytes) -> None:
    assert uuid.UUID(request_id(route, one)).version == 5
    assert (request_id(route, one) == request_id(route, other)) == (one == other)
