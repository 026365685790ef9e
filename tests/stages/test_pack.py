"""pack: the partner's requests, or the reason why there are none."""

import pytest

from pipeline import flow
from pipeline.model import Knowledge, Outcome, Packed
from schemas.outcomes import Reason
from tests.delivery.partner_script import adt
from tests.stages.plans import plan_with, read

PLAN = plan_with()


def test_a_mapped_message_becomes_the_partners_requests_and_keeps_what_it_came_from() -> None:
    routed = read(adt(), PLAN)
    packed = flow.prepare(routed, Knowledge(), PLAN)
    assert isinstance(packed, Packed)
    assert packed.mapped.identified.routed is routed
    assert [request.operation for request in packed.requests] == ["patient-create"]


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b"Example^Ana", b"^Ana", "Patient.name[0].family (PID-5)"),
        (b"Example^Ana", b"Example^", "Patient.name[0].given (PID-5)"),
        (b"12345678Z", b"1" * 65, "Patient.identifier[0].value (PID-3.1)"),
    ],
)
def test_a_profile_that_is_not_met_names_the_fhir_path_and_the_hl7_place(old: bytes, new: bytes, where: str) -> None:
    outcome = flow.prepare(read(adt().replace(old, new), PLAN), Knowledge(), PLAN)
    assert isinstance(outcome, Outcome)
    assert (outcome.reason in {Reason.PROFILE_REQUIRED, Reason.PROFILE_INVALID}, outcome.where) == (True, where)
