"""pack: Mapped → Packed. The partner makes its requests of the resources and holds them against its profile. No I/O."""

from pipeline.errors import ProfileNotMet
from pipeline.model import Finding, Mapped, Packed
from pipeline.stages.mapping import context_of, where_of, with_place
from pipeline.stages.plan import Plan
from schemas.outcomes import FindingCode


def pack(mapped: Mapped, plan: Plan) -> Packed:
    """The requests, in order; ProfileNotMet or Parked where there can be none, with the FHIR path and the HL7 place of what is wrong."""
    try:
        return plan.partner.pack(mapped)
    except ProfileNotMet as ended:
        if ended.where:
            places = plan.catalogue.trace(plan.partner.name, context_of(mapped.identified, plan))
            ended.where = where_of(with_place(Finding(FindingCode.PROFILE_MANDATORY, fhir=ended.where), places))
        raise
