"""pack: the partner's requests, or the reason why there are none."""

import pytest

from pipeline.errors import ProfileNotMet
from pipeline.stages.pack import pack
from tests.partners.samples import mapped, roche


def test_a_mapped_message_becomes_the_partners_requests_and_keeps_what_it_came_from() -> None:
    partner = roche()
    sample = mapped(partner)
    packed = pack(sample, partner)
    assert packed.mapped is sample
    assert [request.operation for request in packed.requests] == ["patient-create"]


def test_a_profile_that_is_not_met_ends_it() -> None:
    partner = roche()
    with pytest.raises(ProfileNotMet):
        pack(mapped(partner, name=None), partner)
