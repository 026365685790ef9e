"""NJSAMS's messages through attempts and a real ledger: steps, parts that are known afterwards, searches for what is unknown, updates that came early."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.delivery.attempts import Delivery, Later
from pipeline.errors import NoAnswer
from pipeline.model import Outcome, Reply
from pipeline.stages.settle import settle
from pipeline.transport.port import landed
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House
from tests.delivery.test_attempts import Desk
from tests.partners.njsams_samples import adt, answer, found, packed, plan_with, reply

LAG = 25 * 3600.0
"""Visibility and margin, as the built-in settings have them."""
POLICY = [("MEDICAID", "P-1")]
LOST = NoAnswer(Reason.TIMEOUT)
NOT_THERE = reply(404, orjson.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found"}]}))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    house = House(tmp_path)
    desk = Desk(house)
    desk.plan = plan_with()
    yield desk
    house.close()


def done(*locations: str) -> Reply:
    return reply(200, answer(*locations))


def ok(entries: int) -> Reply:
    return reply(200, answer(*[None] * entries, status="200 OK"))


def run(desk: Desk, value: bytes, *answers: Any, offset: int = 0) -> Outcome:  # noqa: ANN401 - replies and errors
    """To its end, and into the ledger."""
    outcome = desk.run(value, *answers, offset=offset)
    written = settle(outcome, desk.plan, results_topic="results", dead_letter_topic="letters", at_ms=desk.house.clock())
    desk.house.ledger.settle(written.settlement)
    return outcome


def there(kind: str, given: str) -> Reply:
    sent = packed(adt(policies=POLICY), plan_with())
    resource = next(one for one in sent.mapped.resources if one["resourceType"] == kind)
    return reply(200, found({**resource, "id": given}))


def test_after_an_admission_an_update_is_one_put_and_makes_no_second_encounter_or_coverage(desk: Desk) -> None:
    run(desk, adt(policies=POLICY), done("Patient/p1", "Encounter/e1", "Coverage/c1"))
    outcome = run(desk, adt("A08", policies=POLICY), ok(3), offset=1)
    assert (outcome.state, desk.house.paths()) == (State.DELIVERED, ["POST /Bundle", "PUT /Bundle"])
    urls = [one["request"]["url"] for one in orjson.loads(desk.house.script.requests[1].body)["entry"]]
    assert urls == ["Patient/p1", "Encounter/e1", "Coverage/c1"]


def test_another_providers_client_with_the_same_number_is_created_and_not_written_over_the_first(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e1"))
    outcome = run(desk, adt("A08", facility="CLINIC-A", service="SUD-OP"), done("Patient/p2", "Encounter/e2"), offset=1)
    assert (outcome.state, desk.house.paths()) == (State.DELIVERED, ["POST /Bundle", "POST /Bundle"])
    assert run(desk, adt("A08"), ok(2), offset=2).state is State.DELIVERED
    urls = [one["request"]["url"] for one in orjson.loads(desk.house.script.requests[2].body)["entry"]]
    assert urls == ["Patient/p1", "Encounter/e1"]


def test_a_known_patient_with_a_new_visit_is_two_requests_in_order(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e1"))
    outcome = run(desk, adt("A01", visit="V-2"), ok(1), done("Encounter/e2"), offset=1)
    assert (outcome.state, desk.house.paths()[1:]) == (State.DELIVERED, ["PUT /Bundle", "POST /Bundle"])
    assert run(desk, adt("A03", visit="V-2"), ok(2), offset=2).state is State.DELIVERED
    assert desk.house.paths()[3:] == ["PUT /Bundle"]


def test_an_unknown_create_is_searched_for_part_by_part_once_it_can_be_seen_and_never_sent_again(desk: Desk) -> None:
    searches = there("Patient", "p1"), there("Encounter", "e1"), there("Coverage", "c1")
    outcome = run(desk, adt(policies=POLICY), LOST, *searches)
    assert (outcome.state, outcome.confirmed_by, desk.waits[0]) == (State.DELIVERED, "probe", LAG)
    assert desk.house.paths() == [
        "POST /Bundle",
        "GET /Patient?identifier=C-1001",
        "GET /Encounter?subject=Patient/p1",
        "GET /Coverage?beneficiary=Patient/p1",
    ]
    assert run(desk, adt("A08", policies=POLICY), ok(3), offset=1).state is State.DELIVERED


def test_an_unknown_create_that_is_not_found_is_sent_again_once(desk: Desk) -> None:
    none = reply(200, found())
    outcome = run(desk, adt(), LOST, none, done("Patient/p1", "Encounter/e1"))
    assert (outcome.state, desk.house.paths()) == (
        State.DELIVERED,
        ["POST /Bundle", "GET /Patient?identifier=C-1001", "POST /Bundle"],
    )


def test_where_the_patient_was_there_anyway_it_is_updated_and_its_encounter_alone_sent_again(desk: Desk) -> None:
    outcome = run(desk, adt(), LOST, there("Patient", "p1"), reply(200, found()), ok(1), done("Encounter/e1"))
    assert outcome.state is State.DELIVERED
    (entry,) = orjson.loads(desk.house.script.requests[-1].body)["entry"]
    assert (entry["request"]["url"], entry["resource"]["subject"]["reference"]) == ("Encounter", "Patient/p1")


def test_of_two_steps_an_unknown_second_is_searched_for_and_the_first_not_sent_again(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e0"))
    message = adt("A01", visit="V-2")
    resource = next(one for one in packed(message, plan_with()).mapped.resources if one["resourceType"] == "Encounter")
    outcome = run(desk, message, ok(1), LOST, reply(200, found({**resource, "id": "e2"})), offset=1)
    assert (outcome.state, desk.house.paths()[1:]) == (
        State.DELIVERED,
        ["PUT /Bundle", "POST /Bundle", "GET /Encounter?subject=Patient/p1"],
    )


def test_an_update_of_what_is_not_processed_yet_waits_out_the_lag_once_parked_meanwhile(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e1"))
    outcome = run(desk, adt("A08"), NOT_THERE, ok(2), offset=1)
    assert (outcome.state, desk.house.paths()[1:]) == (State.DELIVERED, ["PUT /Bundle", "PUT /Bundle"])
    assert LAG - 60 < sum(desk.waits) <= LAG + 60


def test_an_update_that_is_still_refused_after_the_lag_parks(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e1"))
    outcome = run(desk, adt("A08"), NOT_THERE, NOT_THERE, offset=1)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.REJECTED_NOT_FOUND)


def test_while_an_early_update_waits_it_may_be_parked_with_its_bytes(desk: Desk) -> None:
    run(desk, adt(), done("Patient/p1", "Encounter/e1"))
    desk.house.script.answers.append(NOT_THERE)
    delivery = Delivery(desk.routed(adt("A08"), 1), desk.plan, desk.hands())
    landed(delivery.step())
    waits = landed(delivery.step())
    assert isinstance(waits, Later)
    assert (waits.parks, waits.seconds) == (Reason.AWAITING_PROBE, LAG)
