"""NJSAMS's requests: two steps that are never mixed, labels, references, ids; what parks, and what 42 CFR Part 2 keeps here."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import flow
from pipeline.model import Outcome, Packed, Position, Received, Routed, Subject
from pipeline.settings import Programs
from schemas.njsams import LABEL
from schemas.outcomes import Reason, State
from tests.partners.njsams_samples import COVERAGE, ENCOUNTER, PATIENT, adt, converted, entries, njsams, packed, plan_with
from tests.stages.plans import plan_with as roche_plan

PLAN = plan_with()
POLICIES = (("MEDICAID", "P-1"), ("DC", "P-2"))


def ended(message: bytes, **settings: Any) -> tuple[State, Reason | None, str | None]:  # noqa: ANN401 - any setting
    came = converted(message, plan_with(**settings))
    assert isinstance(came, Outcome)
    return came.state, came.reason, came.where


def test_what_is_new_is_one_post_whose_entries_refer_to_each_other() -> None:
    (request,) = packed(adt(policies=POLICIES), PLAN).requests
    patient, encounter, *coverages = entries(request)
    assert (request.method, request.path, request.step) == ("POST", "/Bundle", 1)
    assert [one["request"] for one in (patient, encounter, *coverages)] == [
        {"method": "POST", "url": kind} for kind in ("Patient", "Encounter", "Coverage", "Coverage")
    ]
    assert encounter["resource"]["subject"]["reference"] == patient["fullUrl"]
    assert {one["resource"]["beneficiary"]["reference"] for one in coverages} == {patient["fullUrl"]}
    assert not any("id" in one["resource"] for one in (patient, encounter, *coverages))


def test_a_known_patient_with_a_new_encounter_is_two_requests_in_order_each_with_an_id_of_its_own() -> None:
    put, post = packed(adt(policies=POLICIES), PLAN, known=PATIENT, parts=[None, COVERAGE]).requests
    assert [(one.method, one.step, one.operation) for one in (put, post)] == [
        ("PUT", 0, "bundle-update"),
        ("POST", 1, "bundle-create"),
    ]
    assert [one["request"]["url"] for one in entries(put)] == [f"Patient/{PATIENT}", f"Coverage/{COVERAGE}"]
    assert [one["resource"]["id"] for one in entries(put)] == [PATIENT, COVERAGE]
    assert [one["request"]["url"] for one in entries(post)] == ["Encounter", "Coverage"]
    assert entries(post)[0]["resource"]["subject"]["reference"] == f"Patient/{PATIENT}"
    assert put.request_id != post.request_id


def test_the_id_in_an_updated_resource_is_a_setting() -> None:
    plan = plan_with(update_includes_id=False)
    (put,) = packed(adt("A08"), plan, known=PATIENT, parts=[ENCOUNTER]).requests
    assert [("id" in one["resource"], one["request"]["url"]) for one in entries(put)] == [
        (False, f"Patient/{PATIENT}"),
        (False, f"Encounter/{ENCOUNTER}"),
    ]


def test_the_media_type_and_the_path_are_settings() -> None:
    (request,) = packed(adt(), PLAN).requests
    assert dict(request.headers) == {"Content-Type": "application/json+fhir", "Accept": "application/json+fhir"}
    (other,) = packed(adt(), plan_with(media_type="application/fhir+json", paths={"write": "/"})).requests
    assert (other.path, dict(other.headers)["Accept"]) == ("/", "application/fhir+json")


@given(st.sampled_from([None, PATIENT]), st.tuples(st.booleans(), st.booleans(), st.booleans()), st.integers(0, 2), st.booleans())
def test_whatever_is_known_each_entry_goes_once_in_the_step_that_fits_it_with_a_label_and_whole_references(
    patient: str | None, there: tuple[bool, ...], policies: int, ids: bool
) -> None:
    known = zip((ENCOUNTER, COVERAGE, "x.1"), there, strict=True)
    parts = [given if is_there else None for given, is_there in known][: 1 + policies] if patient else []
    requests = packed(adt(policies=POLICIES[:policies]), PLANS[ids], known=patient, parts=parts).requests
    everything = [(request, entry) for request in requests for entry in entries(request)]
    assert [request.step for request in requests] == sorted({request.step for request in requests})
    assert sorted(entry["resource"]["resourceType"] for _, entry in everything) == sorted(
        ["Patient", "Encounter", *["Coverage"] * policies]
    )
    for request, entry in everything:
        update = entry["request"]["method"] == "PUT"
        assert (request.method, request.step) == (("PUT", 0) if update else ("POST", 1))
        assert {(one["system"], one["code"]) for one in entry["resource"]["meta"]["security"]} == {(LABEL, "123456")}
        assert "contained" not in entry["resource"]
        mine = {one["fullUrl"] for one in entries(request)}
        for reference in _references(entry["resource"]):
            assert reference in mine or reference.partition("/")[0] in {"Patient", "Organization"}
        assert update is ("id" in entry["resource"]) or not ids


PLANS = {True: PLAN, False: plan_with(update_includes_id=False)}


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "reference":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_the_same_message_gives_the_same_bytes_and_another_message_other_names() -> None:
    once, again, other = (packed(adt(client=client), PLAN).requests[0] for client in ("C-1", "C-1", "C-2"))
    assert once == again
    assert {one["fullUrl"] for one in entries(once)} & {one["fullUrl"] for one in entries(other)} == set()


def test_a_resend_is_the_same_bundle_under_a_request_id_of_its_own() -> None:
    partner, sent = njsams(), packed(adt(), PLAN)
    (again,) = partner.resent(sent, "replay-1").requests
    assert again.body == sent.requests[0].body
    assert again.request_id not in {sent.requests[0].request_id, partner.resent(sent, "replay-2").requests[0].request_id}


def test_older_demographics_stay_at_home_where_newer_ones_came_with_another_visit() -> None:
    sent = packed(adt(), PLAN, known=PATIENT, parts=[ENCOUNTER])
    stale = replace(sent.mapped, identified=replace(sent.mapped.identified, stale_patient=True))
    (put,) = PLAN.partner.pack(stale).requests
    assert [one["request"]["url"] for one in entries(put)] == [f"Encounter/{ENCOUNTER}"]


def test_so_do_older_coverages_but_not_those_that_are_new() -> None:
    sent = packed(adt(policies=POLICIES), PLAN, known=PATIENT, parts=[ENCOUNTER, COVERAGE])
    stale = replace(sent.mapped, identified=replace(sent.mapped.identified, stale_patient=True))
    put, post = PLAN.partner.pack(stale).requests
    assert [one["request"]["url"] for one in entries(put)] == [f"Encounter/{ENCOUNTER}"]
    assert [one["resource"]["subscriberId"] for one in entries(post)] == ["P-2"]


def test_who_is_not_known_any_more_goes_whole_however_new_what_was_delivered() -> None:
    """Forgotten by an operator: the references of what is new need the person."""
    sent = packed(adt(policies=POLICIES), PLAN)
    stale = replace(sent.mapped, identified=replace(sent.mapped.identified, stale_patient=True))
    (post,) = PLAN.partner.pack(stale).requests
    assert [one["request"]["url"] for one in entries(post)] == ["Patient", "Encounter", "Coverage", "Coverage"]


# the label


def test_what_one_provider_has_of_a_client_is_not_what_another_has_under_the_same_numbers() -> None:
    """Else a message of the second would be put over the record of the first, and under another label (contracts/njsams.md 10.2)."""
    mine, theirs, again = (
        flow.read(Received(Position("t", 0, 0), adt(facility=one, service="SUD-OP", policies=POLICIES), b"k"), PLAN)
        for one in ("DEMO", "CLINIC-A", "DEMO")
    )
    assert isinstance(mine, Routed)
    assert isinstance(theirs, Routed)
    assert isinstance(again, Routed)
    assert (mine.identities, mine.parts) == (again.identities, again.parts)
    assert not {*mine.identities, *mine.parts} & {*theirs.identities, *theirs.parts}
    stand = PLAN.pseudonyms.identity
    hashes = [{stand(i.kind, i.system, i.value, i.under) for i in (*one.identities, *one.parts)} for one in (mine, theirs)]
    assert not hashes[0] & hashes[1]
    assert PLAN.partner.unders == {"123456", "234567"}


def test_the_label_is_the_sending_facilitys_and_an_unmapped_facility_parks() -> None:
    (request,) = packed(adt(facility="CLINIC-A", service="SUD-OP"), PLAN).requests
    assert {one["resource"]["meta"]["security"][0]["code"] for one in entries(request)} == {"234567"}
    parked = (State.PARKED, Reason.FACILITY_NOT_MAPPED, "MSH-4")
    assert ended(adt(), facilities={"CLINIC-A": "234567"}) == parked
    assert ended(adt(), facilities={}) == parked


# 42 CFR Part 2


def part2(*allowed: Programs | None, **route: Any) -> tuple[State, Reason | None] | None:  # noqa: ANN401 - any setting
    listed = None if allowed == (None,) else tuple(one for one in allowed if one is not None)
    plan = replace(PLAN, route=PLAN.route.model_copy(update={"part2": listed, **route}))
    came = converted(adt(service="SUD-IOP"), plan)
    return None if isinstance(came, Packed) else (came.state, came.reason)


KEPT = (State.FILTERED, Reason.PART2_NOT_ALLOWED)


def test_without_a_list_nothing_goes() -> None:
    assert part2(None) == KEPT
    assert part2() == KEPT


def test_only_the_facility_and_program_that_the_route_names_go() -> None:
    assert part2(Programs(facility="DEMO", programs=("SUD-IOP",))) is None
    assert part2(Programs(facility="DEMO", programs=("SUD-OP", ""))) == KEPT
    assert part2(Programs(facility="CLINIC-A", programs=("SUD-IOP",))) == KEPT
    assert part2(Programs(facility="CLINIC-A", programs=("SUD-IOP",)), Programs(facility="DEMO", programs=("DETOX",))) == KEPT


def test_a_message_without_a_program_goes_only_where_the_route_says_so() -> None:
    listed = (Programs(facility="DEMO", programs=("SUD-IOP", "")),)
    assert part2(*listed, part2_program="PV1-18") is None
    assert part2(Programs(facility="DEMO", programs=("SUD-IOP",)), part2_program="PV1-18") == KEPT


def test_a_number_that_moves_waits_for_a_person_without_any_program_since_nothing_of_it_goes() -> None:
    """An A43 has no PV1, where the program stands."""
    listed = (Programs(facility="DEMO", programs=("SUD-IOP",)),)
    plan = replace(PLAN, route=PLAN.route.model_copy(update={"part2": listed}))
    came = converted(adt("A43", service="") + b"MRG|C-1000^^^NJSAMS^PI\r", plan)
    assert isinstance(came, Outcome)
    assert (came.state, came.reason) == (State.PARKED, Reason.NUMBER_MOVED)


def test_roche_takes_messages_without_any_such_list() -> None:
    assert not roche_plan().partner.part2


# parts


def test_the_parts_are_the_visit_and_each_coverage_once() -> None:
    parts = packed(adt(policies=(*POLICIES, ("MEDICAID", "P-1"))), PLAN).mapped.identified.routed.parts
    assert [(one.kind, one.value, one.place) for one in parts] == [
        (Subject.VISIT, "V-5001", "PV1-19.1"),
        (Subject.COVERAGE, "Organization/12|P-1|C-1001", "IN1-36"),
        (Subject.COVERAGE, "Organization/13|P-2|C-1001", "IN1[2]-36"),
    ]


def test_a_message_with_more_coverages_than_any_patient_has_is_parked() -> None:
    """The ledger is asked for all of them in one statement: of 65,000 that counted as a database that is away."""
    messages = (adt(policies=[("MEDICAID", f"P-{number}") for number in range(most)]) for most in (999, 1000))
    some, outcome = (flow.read(Received(Position("his.adt", 0, 0), each, None, (), 0), PLAN) for each in messages)
    assert isinstance(some, Routed)
    assert isinstance(outcome, Outcome)
    assert len(some.parts) == 1000
    assert (outcome.state, outcome.reason, outcome.where) == (State.PARKED, Reason.TOO_LARGE, "IN1[1000]-36")
    assert outcome.message == "1001 parts; 1000 at most"


def test_two_members_of_a_family_have_coverages_of_their_own_under_one_policy() -> None:
    mother, child = (packed(adt(client=one, policies=POLICIES), PLAN).mapped.identified.routed.parts for one in ("C-1", "C-2"))
    assert set(mother[1:]) & set(child[1:]) == set()


def test_a_visit_or_a_coverage_without_its_number_parks() -> None:
    parked = (State.PARKED, Reason.NUMBER_MISSING)
    assert ended(adt(visit=None)) == (*parked, "PV1-19")
    assert ended(adt(policies=[("MEDICAID", "")])) == (*parked, "IN1-36")


def test_an_unknown_payor_parks_and_one_that_is_set_to_null_stays_out() -> None:
    assert ended(adt(policies=[("MEDICAID", "P-1"), ("NOBODY", "P-2")])) == (State.PARKED, Reason.PAYOR_NOT_MAPPED, "IN1[2]-3")
    (request,) = packed(adt(policies=[("SELF", ""), ("DC", "P-2")]), PLAN).requests
    assert [one["resource"]["payor"] for one in entries(request)[2:]] == [[{"reference": "Organization/13"}]]


def test_no_message_that_does_not_go_has_a_value_of_it_in_what_is_said() -> None:
    for message in (adt(visit=None), adt(policies=[("NOBODY", "P-77")]), adt(facility="ELSEWHERE"), adt(service="CARDIO")):
        came = converted(message, PLAN)
        assert isinstance(came, Outcome)
        said = f"{came.where} {came.message}"
        assert not any(value in said for value in ("C-1001", "900010001", "P-77", "NOBODY", "ELSEWHERE", "CARDIO", "V-5001"))


def test_what_goes_out_is_the_bundle_alone() -> None:
    (request,) = packed(adt(), PLAN).requests
    assert set(orjson.loads(request.body)) == {"resourceType", "type", "entry"}


@pytest.mark.parametrize("value", ["C-1001", "900010001", "V-5001"])
def test_no_number_of_the_patient_stands_in_a_path_or_header_of_a_write(value: str) -> None:
    (request,) = packed(adt(), PLAN).requests
    assert value not in request.path + str(request.headers) + request.request_id
