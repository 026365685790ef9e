"""What an answer to a watch's question means: one table, read top to bottom. No I/O, and no text of an answer goes further.

A question changes nothing at the partner, so whatever got no answer is asked again; what refuses us as a whole halts, as it does for deliveries.
"""

from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Decision, Reply, Request, Resource
from pipeline.partners import answers
from pipeline.partners.reads import NotRead, Reader
from pipeline.stages.send import NOBODYS_MESSAGE
from schemas.outcomes import Reason

OK: Final = 200
UNAVAILABLE: Final = 503
ROWS: Final[tuple[tuple[frozenset[int] | range, Decision, Reason], ...]] = (
    (frozenset({401, 403}), Decision.HALTED, Reason.REFUSED_CLIENT),
    (frozenset({404, 410}), Decision.ABSENT, Reason.TARGET_UNKNOWN),
    (frozenset({429}), Decision.THROTTLED, Reason.THROTTLED),
    (frozenset({408, 425}), Decision.FAILED, Reason.PARTNER_TIMEOUT),
    (frozenset({503}), Decision.FAILED, Reason.UNAVAILABLE),
    (frozenset({504}), Decision.FAILED, Reason.PARTNER_TIMEOUT),
    (range(500, 600), Decision.FAILED, Reason.PARTNER_EXCEPTION),
    (range(400, 500), Decision.PARKED, Reason.REJECTED_OTHER),
    (range(1000), Decision.FAILED, Reason.ANSWER_UNREADABLE),
)
"""By status. PARKED: it does not take what is asked; the dossier's next turn comes as always, and a person is told."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer, or that there was none."""

    decision: Decision
    reason: Reason | None = None
    found: tuple[Resource, ...] = field(default=(), repr=False)
    retry_after: float | None = None


def judged(reader: Reader, asked: Request, came: Reply | NotSent | NoAnswer) -> Judged:
    """DELIVERED with what was found; ABSENT: no such dossier; FAILED, THROTTLED, HALTED: ask again; PARKED: see ROWS."""
    if isinstance(came, NotSent):
        return Judged(Decision.HALTED if came.reason in NOBODYS_MESSAGE else Decision.FAILED, came.reason)
    if isinstance(came, NoAnswer):
        return Judged(Decision.FAILED, came.reason)
    wait = answers.retry_after(came)
    if came.status == UNAVAILABLE and wait is not None:
        return Judged(Decision.THROTTLED, Reason.THROTTLED, retry_after=wait)
    if came.status != OK:
        decision, reason = next((decision, reason) for statuses, decision, reason in ROWS if came.status in statuses)
        return Judged(decision, reason, retry_after=wait)
    try:
        return Judged(Decision.DELIVERED, found=reader.page(asked, came).resources)
    except NotRead:
        return Judged(Decision.FAILED, Reason.ANSWER_UNREADABLE)
