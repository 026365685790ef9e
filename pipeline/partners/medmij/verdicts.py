"""What the store of appointments answers (pipeline/appointments): read top to bottom, the first row that fits counts, the last fit everything.

Every write is an upsert by an id of ours, so what is in doubt has FAILED: the same again finds out.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Final

from pipeline.model import Decision
from pipeline.partners.verdicts import Row, Signal, row
from schemas.outcomes import Reason


class Operation(StrEnum):
    """What is asked."""

    APPOINTMENT = "appointment-put"
    MERGE = "persons-merge"


class Said(StrEnum):
    """What a body says: the store has none."""

    NOTHING = "nothing"


PUT, MERGE = Operation.APPOINTMENT, Operation.MERGE
ANY: Final = frozenset(Operation)
DELIVERED, STALE, FAILED, PARKED, HALTED = Decision.DELIVERED, Decision.STALE, Decision.FAILED, Decision.PARKED, Decision.HALTED

TABLE: Final[tuple[Row, ...]] = (
    row(ANY, range(1), FAILED, None, "an upsert by our own id: the same again finds out", pause=True),
    row(ANY, (200, 201, 204), DELIVERED, None, "updated, created"),
    row(
        PUT,
        202,
        DELIVERED,
        None,
        "of an admission that nobody announced: nothing shows, and what it says counts once somebody does",
    ),
    row(PUT, 412, STALE, Reason.STALE, "something newer of the appointment is there, which says all that this does"),
    row(MERGE, 412, STALE, Reason.STALE, "an operator parted the two after it: that is the newer word"),
    row(PUT, 409, PARKED, Reason.IDENTITY_CONFLICT, "the numbers are two persons': a person decides"),
    row(PUT, 403, PARKED, Reason.PART_OF_ANOTHER, "the appointment is another person's: a person decides"),
    row(MERGE, 409, PARKED, Reason.MERGE_REFUSED, "they are two persons by their BSNs, or the survivor is two: a person decides"),
    row(PUT, 422, PARKED, Reason.TIME_MISSING, "neither this message nor any before it tells when the appointment is"),
    row(ANY, (429, 503), FAILED, Reason.UNAVAILABLE, "the database is away or busy", pause=True),
    row(ANY, (400, 413, 422), PARKED, Reason.REJECTED_INVALID, "the store cannot read what we made"),
    row(ANY, range(500, 600), FAILED, Reason.PARTNER_EXCEPTION, "the store failed inside", pause=True),
    row(ANY, range(1000), HALTED, Reason.REJECTED_OTHER, "the rest: nothing that the store says"),
)


@lru_cache(1024)
def row_of(operation: Operation, status: int) -> Row:
    """The first row that fits. The last one fits every status from 0 to 999."""
    return next(one for one in TABLE if one.fits(Signal(operation, status, Said.NOTHING)))
