"""Visits at a partner that keeps them: known under an id of their own, stale by themselves, taken back only where they are, left where they belong."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.model import Identity, Learned, Subject
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import Serving, adt
from tests.delivery.two_steps import MONDAY, TUESDAY, VISITS, WEDNESDAY, Clinic, Fault, clinic, visit

PATIENT, V1, V2 = "patient|12345678Z", "visit|V1", "visit|V2"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Clinic]:
    with clinic(tmp_path) as house:
        yield house


def states(house: Clinic) -> list[tuple[State, str | None]]:
    """As the ledger has them, in source order."""
    return [house.state(offset) for offset in range(house.sent)]


# stale


def test_an_older_snapshot_of_a_visit_does_not_follow_a_newer_one_of_it(house: Clinic) -> None:
    house.send(visit(), visit("A08", "3", time=WEDNESDAY), visit("A08", "2", time=TUESDAY))
    house.drain()
    assert states(house)[2] == (State.SUPERSEDED, Reason.STALE)


def test_what_an_older_message_of_another_visit_says_of_the_patient_stays_at_home(house: Clinic) -> None:
    house.send(visit(), visit("A01", "2", number="V2", time=WEDNESDAY), visit("A08", "3", number="V1", time=TUESDAY))
    house.drain()
    assert house.registry.updates == [[PATIENT], [V1]]
    assert states(house) == [(State.DELIVERED, None)] * 3


def test_a_patients_own_message_is_stale_by_what_came_with_a_visit(house: Clinic) -> None:
    house.send(visit("A01", "1", time=WEDNESDAY), adt("A31", "2", time=TUESDAY))
    house.drain()
    assert states(house)[1] == (State.SUPERSEDED, Reason.STALE)


def test_what_a_half_done_message_brought_of_the_patient_is_not_overwritten_by_an_older_one(house: Clinic) -> None:
    house.send(visit(), visit("A01", "2", number="V2", time=WEDNESDAY))
    house.drain(Fault.NONE, Fault.NONE, Fault.REFUSED)
    house.send(visit("A08", "3", number="V1", time=TUESDAY))
    house.drain()
    assert states(house) == [(State.DELIVERED, None), (State.PARKED, Reason.REJECTED_INVALID), (State.DELIVERED, None)]
    assert house.registry.updates == [[PATIENT], [V1]]


def test_a_half_done_message_is_made_needless_by_a_newer_one_of_its_visit(house: Clinic) -> None:
    house.send(visit(), visit("A01", "2", number="V2", time=TUESDAY))
    house.drain(Fault.NONE, Fault.NONE, Fault.REFUSED)
    house.send(visit("A08", "3", number="V2", time=WEDNESDAY))
    house.drain()
    assert states(house)[1:] == [(State.SUPERSEDED, Reason.OLDER_SNAPSHOT), (State.DELIVERED, None)]
    assert house.registry.created == {PATIENT: 1, V1: 1, V2: 1}


TIMES = st.sampled_from([MONDAY, TUESDAY, WEDNESDAY])
VISIT_MESSAGES = st.lists(st.tuples(st.sampled_from(["V1", "V2"]), TIMES), min_size=1, max_size=6)


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(told=VISIT_MESSAGES)
def test_nothing_older_ever_goes_over_something_newer(
    told: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the patient and of each visit: the times of what was written are in order."""
    with clinic(tmp_path_factory.mktemp("clinic")) as house:
        house.send(*(visit("A08", f"{n}", number=number, time=time) for n, (number, time) in enumerate(told, 1)))
        house.drain()
        wrote: dict[str, list[str]] = {}
        time_of = {f"{n}": time for n, (_, time) in enumerate(told, 1)}
        order = {result.request_id: time_of[str(result.control_id)] for result in house.results()}
        for request in house.registry.requests:
            for name, _ in orjson.loads(request.body):
                wrote.setdefault(name, []).append(order[request.request_id])
        assert all(times == sorted(times) for times in wrote.values())
        assert set(house.registry.created.values()) == {1}


# taken back


def test_what_the_partner_has_is_taken_back_there(house: Clinic) -> None:
    house.send(visit(), visit("A11", "2", time=TUESDAY))
    house.drain()
    assert house.registry.updates == [[PATIENT, V1]]


@pytest.mark.parametrize("before", [[], [visit("A01", "1", number="V2")]], ids=["nothing of the patient", "another visit"])
def test_a_visit_that_the_partner_never_got_needs_no_taking_back(house: Clinic, before: list[bytes]) -> None:
    house.send(*before, visit("A11", "9", time=TUESDAY))
    house.drain()
    assert states(house)[-1] == (State.FILTERED, Reason.VISIT_NOT_KNOWN)
    assert V1 not in house.registry.created


def test_what_takes_back_a_visit_and_is_older_than_what_went_of_it_stays_at_home(house: Clinic) -> None:
    """Sent once more under another control id: the visit was admitted again since."""
    house.send(visit("A01", "1"), visit("A11", "2", time=TUESDAY), visit("A01", "3", time=WEDNESDAY))
    house.send(visit("A11", "4", time=TUESDAY))
    house.drain()
    assert states(house) == [*[(State.DELIVERED, None)] * 3, (State.SUPERSEDED, Reason.STALE)]


def test_what_takes_back_a_visit_that_is_parked_waits_for_it(house: Clinic) -> None:
    house.send(visit("A01", "1"))
    house.drain(Fault.REFUSED)
    house.send(visit("A11", "2", time=TUESDAY))
    waits(house)
    assert states(house) == [(State.PARKED, Reason.REJECTED_INVALID), (State.PARKED, Reason.BLOCKED_BEHIND)]


def test_what_takes_back_a_visit_waits_for_no_other_visit(house: Clinic) -> None:
    house.send(visit("A01", "1", number="V2"))
    house.drain(Fault.REFUSED)
    house.send(visit("A11", "2", time=TUESDAY))
    house.drain()
    assert states(house)[1] == (State.FILTERED, Reason.VISIT_NOT_KNOWN)


def test_what_takes_back_a_visit_whose_update_timed_out_for_good_waits_for_it_too(house: Clinic) -> None:
    """Parked as unknown at its first step, the visit not created yet: a replay will."""
    house.send(visit("A28", "0", number=""), visit("A01", "1", time=TUESDAY))
    house.set_delivery(patience=0.001)
    house.gate = Serving
    house.drain(Fault.NONE, *[Fault.SWALLOWED] * 20)
    assert states(house)[1] == (State.PARKED, Reason.TIMEOUT)
    house.send(visit("A11", "2", time=WEDNESDAY))
    waits(house)
    assert states(house)[2] == (State.PARKED, Reason.BLOCKED_BEHIND)


def waits(house: Clinic) -> None:
    """Work until it is parked to wait: its offset passes, and it comes back by itself."""
    house.drain()


# whose it is


def part(number: str) -> Identity:
    return Identity(Subject.VISIT, VISITS, number)


def test_a_visit_stays_with_the_patient_that_was_merged_away(house: Clinic) -> None:
    house.send(visit("A01", "1", patient="11111111A"), visit("A01", "2", patient="22222222B", number="V2", time=TUESDAY))
    house.send(adt("A40", "3", patient="22222222B", prior="11111111A", time=TUESDAY))
    house.send(visit("A08", "4", patient="22222222B", number="V1", time=WEDNESDAY))
    house.drain()
    assert states(house)[2:] == [(State.FILTERED, Reason.MERGE_LEAVES_TWO), (State.PARKED, Reason.PART_OF_ANOTHER)]
    assert (house.registry.created[V1], house.registry.updates) == (1, [])


def test_a_visit_that_was_imported_anew_belongs_to_whoever_names_it_next(house: Clinic) -> None:
    house.send(visit("A01", "1", patient="11111111A"), visit("A01", "2", patient="22222222B", number="V2", time=TUESDAY))
    house.drain()
    house.ledger.import_identities("roche", [Learned(part("V1"), "visit|V1-1")])
    house.send(visit("A08", "3", patient="22222222B", time=WEDNESDAY), visit("A08", "4", patient="11111111A", time=WEDNESDAY))
    house.drain()
    assert states(house)[2:] == [(State.DELIVERED, None), (State.PARKED, Reason.PART_OF_ANOTHER)]


def test_a_visit_that_the_partner_has_under_an_id_that_nobody_knows_is_not_created_again(house: Clinic) -> None:
    house.send(visit())
    house.ledger.import_identities("roche", [Learned(part("V1"), None)])
    house.drain()
    assert (states(house), house.registry.methods) == ([(State.PARKED, Reason.PART_ID_MISSING)], [])
