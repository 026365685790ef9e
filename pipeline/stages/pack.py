"""pack: Mapped → Packed. The partner makes its requests of the resources and holds them against its profile. No I/O."""

from pipeline.model import Mapped, Packed
from pipeline.partners.port import Partner


def pack(mapped: Mapped, partner: Partner) -> Packed:
    """The requests, in order; ProfileNotMet or Parked where there can be none."""
    return partner.pack(mapped)
