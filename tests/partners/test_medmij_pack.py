"""What patients read as appointments: whole, by stable ids, for the right person, without a BSN; and each rule of the profile refuses what breaks it."""

import copy
import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import flow
from pipeline.errors import NoAnswer
from pipeline.fhir import profile
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.model import Decision, Intent, Knowledge, Known, Outcome, Packed, Position, Received, Reply, Subject
from pipeline.partners.medmij.parts import own_id, whole_bsn
from pipeline.partners.medmij.times import Times, times
from pipeline.partners.medmij.verdicts import TABLE, Operation, row_of
from pipeline.settings_partners import MedmijSettings
from pipeline.wiring import MAPPINGS
from schemas.medmij import CHECK
from schemas.outcomes import FindingCode, Reason
from tests.partners.medmij_samples import BSN, LOCAL, PID, converted, packed, plan_with, request_of, resources, siu

PLAN = plan_with()
GOLDEN = sorted((MAPPINGS / "medmij" / "golden").glob("*.json"))
SENT = {path.stem: tree for path in GOLDEN if isinstance(tree := json.loads(path.read_text()), list) and tree[0]["body"]}


def people(message: bytes) -> list[str]:
    return [value for name, value in request_of(message, PLAN).headers if name == "x-patient"]


# the request


def test_it_is_one_put_of_all_that_the_appointment_refers_to_with_whose_it_is_beside_it() -> None:
    request = request_of(siu(), PLAN)
    assert (request.method, request.path_template, request.intent) == ("PUT", "/Appointment/{id}", Intent.UPDATE)
    assert request.path == f"/Appointment/{resources(request)['Appointment']['id']}"
    every = ["Appointment", "Patient", "Practitioner", "PractitionerRole", "Location", "Organization"]
    assert list(resources(request)) == every
    assert request.headers == (
        ("Content-Type", "application/fhir+json"),
        ("x-patient", f"urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6|{LOCAL}"),
        ("x-patient", f"http://fhir.nl/fhir/NamingSystem/bsn|{BSN}"),
        ("x-event-ms", "1772362800000"),
        ("x-position", "file/0/0"),
    )


def test_when_the_clock_is_turned_back_the_place_in_the_topic_decides_within_the_hour_that_comes_twice() -> None:
    def at(sent: str) -> int:
        return int(dict(request_of(siu(sent=sent), PLAN).headers)["x-event-ms"])

    assert at("20261025025000") == at("20261025021000")
    hours = ["20261025015959", "20261025023000", "20261025030000", "20260329015959", "20260329023000", "20260329030000"]
    found = [at(hour) for hour in hours]
    assert found[0] < found[1] < found[2]
    assert found[3] < found[4] <= found[5]
    assert at("20261025025000+0100") - at("20261025025000+0200") == 3_600_000


def test_whatever_becomes_of_an_appointment_it_stays_the_same_one_and_its_people_and_places_too() -> None:
    first = resources(request_of(siu(), PLAN))
    for trigger in ("S13", "S14", "S15", "S16", "S17", "S26"):
        later = resources(
            request_of(siu(trigger, sent="20260401120000+0200", start="20260621093000+0200", end="20260621100000+0200"), PLAN)
        )
        assert {kind: one["id"] for kind, one in later.items()} == {kind: one["id"] for kind, one in first.items()}
    assert resources(request_of(siu(number="A-2^AGENDA"), PLAN))["Appointment"]["id"] != first["Appointment"]["id"]
    assert resources(request_of(siu(number="A-1^ANDERE"), PLAN))["Appointment"]["id"] != first["Appointment"]["id"]


def test_who_is_known_keeps_the_ids_that_the_store_has() -> None:
    known = {"known": "11111111-1111-5111-8111-111111111111", "parts": ["22222222-2222-5222-8222-222222222222"]}
    request = request_of(siu(), PLAN, **known)
    found = resources(request)
    assert (found["Patient"]["id"], found["Appointment"]["id"]) == (known["known"], known["parts"][0])
    assert found["Appointment"]["participant"][0]["actor"]["reference"] == f"Patient/{known['known']}"


def test_no_bsn_and_nothing_that_counts_back_to_one_is_in_a_body() -> None:
    alone = f"PID|1||{BSN}^^^NLMINBIZA^NNNLD||Vries^Anna||19800203|F"
    for pid in (PID, alone):
        request = request_of(siu(pid=pid), PLAN)
        assert BSN.encode() not in request.body
        assert BSN not in request.path
        assert own_id("Patient", "http://fhir.nl/fhir/NamingSystem/bsn", BSN).encode() not in request.body
    assert b"masked" in request_of(siu(pid=alone), PLAN).body


def test_a_bsn_finds_its_patient_with_and_without_its_first_zero() -> None:
    short = "PID|1||12345672^^^NLMINBIZA^NNNLD||Vries^Anna"
    assert people(siu(pid=short)) == ["http://fhir.nl/fhir/NamingSystem/bsn|012345672"]


@given(st.integers(0, 999_999_999))
def test_a_bsn_with_a_wrong_digit_is_none(number: int) -> None:
    text = f"{number:09}"
    if whole_bsn(text) is None:
        return
    for at in range(9):
        wrong = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        assert whole_bsn(wrong) is None


@pytest.mark.parametrize("text", ["", "000000000", "111111111", "999999999", "12345678", "99991112a", "9999111200", "٩٩٩٩١١١٢٠"])
def test_what_stands_where_nobody_knows_a_bsn_is_none(text: str) -> None:
    assert whole_bsn(text) is None


def test_two_patients_with_one_placeholder_share_nothing() -> None:
    one, other = (f"PID|1||000000000^^^NLMINBIZA^NNNLD~{number}^^^ZGDEMO^PI||Vries^Anna" for number in ("1", "2"))
    assert set(people(siu(pid=one))) & set(people(siu(pid=other))) == set()


def test_what_an_answer_teaches_is_the_patient_by_every_number_and_the_appointment_and_not_whose_it_is() -> None:
    sent = packed(siu(), PLAN)
    (request,) = sent.requests
    verdict = PLAN.partner.judge(sent, request, Reply(201, {}, b"", 1.0, 0, 1), after_unknown=False)
    assert [(one.identity.kind, one.partner_id, one.belongs_to) for one in verdict.learned] == [
        (Subject.PATIENT, None, None),
        (Subject.PATIENT, None, None),
        (Subject.APPOINTMENT, resources(request)["Appointment"]["id"], None),
    ]


def test_a_patient_keeps_the_id_that_the_first_number_gave_whatever_numbers_come_and_in_which_order() -> None:
    first = packed(siu(pid=f"PID|1||{LOCAL}^^^ZGDEMO^PI||Vries^Anna"), PLAN)
    verdict = PLAN.partner.judge(first, first.requests[0], Reply(201, {}, b"", 1.0, 0, 1), after_unknown=False)
    known = {one.identity: Known(one.partner_id, created_with=one.created_with) for one in verdict.learned}
    ids = {resources(first.requests[0])["Patient"]["id"]}
    numbers = [f"{LOCAL}^^^ZGDEMO^PI", f"{BSN}^^^NLMINBIZA^NNNLD", "00001^^^ZGDEMO^PI"]
    for order in permutations(numbers):
        routed = flow.read(Received(Position("siu", 0, 2), siu(pid=f"PID|1||{'~'.join(order)}||Vries^Anna")), PLAN)
        assert not isinstance(routed, Outcome)
        later = flow.prepare(routed, Knowledge(known=known), PLAN)
        assert isinstance(later, Packed)
        ids.add(resources(later.requests[0])["Patient"]["id"])
    assert len(ids) == 1


# times


@given(
    start=st.sampled_from(["20260620093000+0200", "20260620093000", "20260620", "", "20260631093000", '""']),
    end=st.sampled_from(["20260620100000+0200", "20260620093000+0200", "20260101", "", '""']),
    duration=st.sampled_from(["15", "0", "1.5", "x", "", '""', "90"]),
    units=st.sampled_from(["min", "H", "", "fortnight", "s"]),
    default=st.none() | st.just(20),
)
@settings(max_examples=200)
def test_an_end_is_never_without_a_start_nor_before_it(
    start: str, end: str, duration: str, units: str, default: int | None
) -> None:
    event = typed(parse(siu(start=start, end=end, duration=f"{duration}|{units}"), charset="utf-8"), zone="Europe/Amsterdam")[0]
    assert event.appointment
    found: Times = times(event.appointment, default)
    assert found.start is not None or found.end is None
    assert found.start is None or found.end is None or found.end > found.start
    assert found.minutes is None or found.minutes > 0


# the profile


def whole() -> dict[str, Any]:
    bundle: dict[str, Any] = orjson.loads(request_of(siu(), PLAN).body)
    assert profile.check(CHECK, bundle, "Bundle") == ()
    return bundle


def at(bundle: dict[str, Any], kind: str) -> Any:  # noqa: ANN401 - JSON
    return next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind)


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], Any], FindingCode]] = {
    "identifier 1..*": (lambda b: at(b, "Appointment").pop("identifier"), FindingCode.PROFILE_MANDATORY),
    "participant 1..*": (lambda b: at(b, "Appointment").update(participant=[]), FindingCode.PROFILE_MANDATORY),
    "participant.status": (lambda b: at(b, "Appointment")["participant"][0].pop("status"), FindingCode.PROFILE_MANDATORY),
    "status": (lambda b: at(b, "Appointment").update(status="waitlist"), FindingCode.PROFILE_SYSTEM),
    "app-2": (
        lambda b: (at(b, "Appointment").update(status="cancelled"), at(b, "Appointment").pop("end")),
        FindingCode.PROFILE_MANDATORY,
    ),
    "app-3": (lambda b: (at(b, "Appointment").pop("start"), at(b, "Appointment").pop("end")), FindingCode.PROFILE_MANDATORY),
    "meta.profile": (lambda b: at(b, "Location")["meta"].update(profile=["http://elsewhere"]), FindingCode.PROFILE_MANDATORY),
    "display of a reference": (lambda b: at(b, "PractitionerRole")["organization"].pop("display"), FindingCode.PROFILE_MANDATORY),
    "display of an actor": (
        lambda b: at(b, "Appointment")["participant"][1]["actor"].pop("display"),
        FindingCode.PROFILE_MANDATORY,
    ),
    "a reference to nothing": (
        lambda b: at(b, "Location")["managingOrganization"].update(reference="Organization/1"),
        FindingCode.REFERENCE_BROKEN,
    ),
    "display or text of a concept": (
        lambda b: at(b, "Appointment")["specialty"][0]["coding"][0].pop("display"),
        FindingCode.PROFILE_MANDATORY,
    ),
    "system of a coding": (
        lambda b: at(b, "Appointment")["appointmentType"]["coding"][0].pop("system"),
        FindingCode.PROFILE_MANDATORY,
    ),
    "a value set as a system": (
        lambda b: at(b, "Appointment")["specialty"][0]["coding"][0].update(
            system="urn:oid:2.16.840.1.113883.2.4.3.11.60.40.2.17.1.7"
        ),
        FindingCode.PROFILE_SYSTEM,
    ),
    "value of an identifier": (lambda b: at(b, "Organization")["identifier"][0].pop("value"), FindingCode.PROFILE_MANDATORY),
    "a BSN with a value": (lambda b: at(b, "Patient")["identifier"][1].update(value=BSN), FindingCode.NOT_IN_PROFILE),
    "a BSN without its mask": (lambda b: at(b, "Patient")["identifier"][1].pop("_value"), FindingCode.NOT_IN_PROFILE),
    "the same twice": (lambda b: b["entry"].append(copy.deepcopy(b["entry"][-1])), FindingCode.ID_COLLISION),
    "two appointments": (
        lambda b: b["entry"].append({"resource": {**copy.deepcopy(at(b, "Appointment")), "id": "other"}}),
        FindingCode.ID_COLLISION,
    ),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_each_rule_of_the_profile_refuses_what_breaks_it_and_repeats_no_value(rule: str) -> None:
    bundle = whole()
    change, code = BREAKS[rule]
    change(bundle)
    found = profile.check(CHECK, bundle, "Bundle")
    assert [finding.code for finding in found] == [code]
    assert not any(value in repr(found) for value in (BSN, LOCAL, "Vries", "Kiek"))


@pytest.mark.parametrize("status", ["proposed", "cancelled"])
def test_what_is_proposed_or_cancelled_may_have_no_times(status: str) -> None:
    bundle = whole()
    appointment = at(bundle, "Appointment")
    appointment.update(status=status)
    del appointment["start"], appointment["end"]
    assert profile.check(CHECK, bundle, "Bundle") == ()


@pytest.mark.parametrize("name", SENT)
def test_every_golden_bundle_meets_the_profile_and_shows_no_bsn(name: str) -> None:
    (request,) = SENT[name]
    assert profile.check(CHECK, request["body"], "Bundle") == ()
    assert BSN not in json.dumps(request["body"])


# what cannot go


@pytest.mark.parametrize(
    ("message", "reason", "where"),
    [
        (siu(number=""), Reason.NUMBER_MISSING, "SCH-2"),
        (siu(pid="PID|1||1^^^ELDERS^PI||Vries^Anna"), Reason.IDENTIFIER_SYSTEM, "PID-3.4"),
        (siu(pid=f"PID|1||{LOCAL}^^^ZGDEMO^PI||"), Reason.PROFILE_REQUIRED, "Appointment.participant[0].actor.display (PID-5)"),
        (siu(start="", group=()), Reason.TIME_MISSING, "Appointment.start (SCH-11.4)"),
        (siu(end="", duration="|", group=()), Reason.TIME_MISSING, "Appointment (SCH-11.5)"),
        (siu(number="A-\ufffd^AGENDA"), Reason.CHARSET, "SCH-2.1"),
        (siu() + b"SCH||B-2^AGENDA\r", Reason.SEVERAL_APPOINTMENTS, "SCH[2]"),
    ],
)
def test_what_cannot_be_shown_parks_and_says_where(message: bytes, reason: Reason, where: str) -> None:
    came = converted(message, PLAN)
    assert isinstance(came, Outcome)
    assert (came.reason, came.where) == (reason, where)


def test_an_appointment_that_the_store_has_with_another_patient_parks_and_with_this_one_goes() -> None:
    routed = packed(siu(), PLAN).mapped.identified.routed
    patient, appointment = routed.identities[0], routed.parts[0]
    assert (appointment.kind, routed.about is not None) == (Subject.APPOINTMENT, True)
    whose = PLAN.pseudonyms.hash("subject", PLAN.name, Subject.PATIENT, patient.system, patient.value)
    assert whose in routed.patient_subjects
    for owner, expected in (("other", Reason.PART_OF_ANOTHER), ("mine", None)):
        known = {patient: Known("mine"), appointment: Known("a-1", belongs_to=owner)}
        came = flow.prepare(routed, Knowledge(known=known), PLAN)
        assert (came.reason if isinstance(came, Outcome) else None) is expected


@pytest.mark.parametrize("trigger", ["S12", "S14", "S15", "S17", "S26"])
def test_what_is_older_than_what_the_store_has_is_superseded_whatever_it_says(trigger: str) -> None:
    routed = packed(siu(trigger), PLAN).mapped.identified.routed
    assert routed.event_ms is not None
    ends = []
    for last in (routed.event_ms + 1, routed.event_ms - 1):
        came = flow.prepare(routed, Knowledge(last_event_ms=last, last_position=Position("t", 0, 0)), PLAN)
        ends.append(came.reason if isinstance(came, Outcome) else None)
    assert ends == [Reason.STALE, None]


# answers


def test_the_table_is_total_and_every_row_is_reached() -> None:
    assert {id(row_of(one, status)) for one in Operation for status in range(1000)} == {id(row) for row in TABLE}
    decisions = {status: row_of(Operation.APPOINTMENT, status).decision for status in (0, 200, 201, 403, 404, 409, 412, 500, 503)}
    assert decisions == {
        0: Decision.FAILED,
        200: Decision.DELIVERED,
        201: Decision.DELIVERED,
        403: Decision.PARKED,
        404: Decision.HALTED,
        409: Decision.PARKED,
        412: Decision.STALE,
        500: Decision.FAILED,
        503: Decision.FAILED,
    }


def test_each_refusal_of_the_store_has_its_own_reason() -> None:
    asked = [(Operation.APPOINTMENT, 403), (Operation.APPOINTMENT, 409), (Operation.MERGE, 409), (Operation.MERGE, 412)]
    assert [row_of(*each).reason for each in asked] == [
        Reason.PART_OF_ANOTHER,
        Reason.IDENTITY_CONFLICT,
        Reason.MERGE_REFUSED,
        Reason.STALE,
    ]
    assert row_of(Operation.MERGE, 403).decision is Decision.HALTED


# merges


def a40(event: str = "A40", mrg: str = f"MRG|77^^^ZGDEMO^PI~{BSN}^^^NLMINBIZA^NNNLD") -> bytes:
    msh = f"MSH|^~\\&|HIS|ZIEKENHUIS|PIPE|MEDMIJ|20260301120000+0100||ADT^{event}|M-2|P|2.5|||||NLD|UNICODE UTF-8"
    return f"{msh}\r{PID}\r{mrg}\r".encode()


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"])
def test_a_merge_is_one_request_of_who_is_who(event: str) -> None:
    request = request_of(a40(event), PLAN)
    local = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"
    assert (request.operation, request.method, request.path, request.intent, request.body) == (
        "persons-merge",
        "POST",
        "/Person/$merge",
        Intent.UPDATE,
        b"",
    )
    assert request.headers == (
        ("x-prior", f"{local}|77"),
        ("x-patient", f"{local}|{LOCAL}"),
        ("x-patient", f"http://fhir.nl/fhir/NamingSystem/bsn|{BSN}"),
        ("x-event-ms", "1772362800000"),
        ("x-position", "file/0/0"),
    )


@pytest.mark.parametrize("mrg", ["MRG|", f"MRG|{LOCAL}^^^ZGDEMO^PI", "PV1|1|I", "PV1|1|I" + "|" * 17 + "V-1"])
def test_a_merge_of_nobody_parks(mrg: str) -> None:
    came = converted(a40(mrg=mrg), PLAN)
    assert isinstance(came, Outcome)
    assert (came.reason, came.where) == (Reason.PATIENT_MISSING, "MRG-1")


@pytest.mark.parametrize("mrg", ["MRG|", "PV1|1|I", "PV1|1|I" + "|" * 17 + "V-1"])
def test_a_number_that_moves_parks_whatever_else_it_lacks(mrg: str) -> None:
    came = converted(a40("A43", mrg), PLAN)
    assert isinstance(came, Outcome)
    assert (came.reason, came.routed is not None) == (Reason.NUMBER_MOVED, True)


def test_what_a_merge_teaches_is_that_the_store_has_both() -> None:
    sent = packed(a40(), PLAN)
    verdict = PLAN.partner.judge(sent, sent.requests[0], Reply(200, {}, b"", 1.0, 0, 1), after_unknown=False)
    assert sorted((one.identity.value, one.partner_id) for one in verdict.learned) == [("77", None), (LOCAL, None), (BSN, None)]


def test_what_was_not_answered_goes_again_and_teaches_nothing() -> None:
    sent = packed(siu(), PLAN)
    verdict = PLAN.partner.judge(sent, sent.requests[0], NoAnswer(Reason.TIMEOUT), after_unknown=False)
    assert (verdict.decision, verdict.reason, verdict.learned) == (Decision.FAILED, Reason.TIMEOUT, ())
    probe = PLAN.partner.probe(sent)
    assert probe is not None
    assert (probe.path, probe.body, probe.headers) == (sent.requests[0].path, sent.requests[0].body, sent.requests[0].headers)


def test_a_resend_has_the_same_bytes_and_an_id_of_its_own() -> None:
    sent = packed(siu(), PLAN)
    again = PLAN.partner.resent(sent, "plan-1")
    assert again.requests[0].body == sent.requests[0].body
    assert again.requests[0].request_id != sent.requests[0].request_id
    assert again == PLAN.partner.resent(sent, "plan-1")


@pytest.mark.parametrize(
    "block", [{"organization": {"name": ""}}, {"organization": {"name": "A", "ura": "12"}}, {"specialty": "PV1"}]
)
def test_settings_that_cannot_work_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"organization|specialty|path"):
        MedmijSettings.model_validate({"kind": "medmij", "organization": {"name": "A"}} | block)
