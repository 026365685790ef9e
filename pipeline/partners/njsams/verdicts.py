"""What NJSAMS's answers mean: one table, read top to bottom, the first row that fits counts, and the last rows fit everything.

Each row names its line of the dossier: B is the partner's page, C a section of contracts/njsams.md, R a rule of RELIABILITY section 1, I an
inference of ours. What a 2xx did is told by the entries of its transaction-response; a failed one counts as the status of the whole, where nothing
else can have been done. On an update what is in doubt has FAILED: the same PUT again finds out, after a pause.
"""

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Final

from pipeline.model import Decision
from pipeline.partners.verdicts import Row, Signal, row
from schemas.outcomes import Reason


class Operation(StrEnum):
    """What is asked."""

    CREATE = "bundle-create"
    UPDATE = "bundle-update"
    PATIENT = "patient-search"
    ENCOUNTER = "encounter-search"
    COVERAGE = "coverage-search"


class Said(StrEnum):
    """What a body says."""

    DONE = "done"
    """Of a write: every entry was done, and each created one has its id."""
    PARTLY = "partly"
    """Some entries say done and some do not. R4 does all or nothing, so one of them is wrong."""
    FOUND = "found"
    """Of a search: one that is ours."""
    NONE = "none"
    """Of a search: all that there is, and none is ours."""
    UNCLEAR = "unclear"
    """Of a search: several that are ours, or none and there are further pages."""
    OUTCOME = "outcome"
    """An OperationOutcome with an error."""
    EMPTY = "empty"
    OTHER = "other"
    """Anything else."""


class Flag(StrEnum):
    """What else a row may ask for."""

    RETRY_AFTER = "retry_after"
    """The answer says how long to wait."""
    SCOPE = "scope"
    """WWW-Authenticate says insufficient_scope (RFC 6750 section 3.1)."""
    AFTER_UNKNOWN = "after_unknown"
    """Not the first try: the wait for an id that is not processed yet is over."""
    FURTHER = "further"
    """Of a search: what was found is not all that is to be found."""
    NOT_FOUND_PARKS = "not_found_parks"
    """The setting not_found: park."""


CREATE, UPDATE = Operation.CREATE, Operation.UPDATE
WRITES: Final = frozenset({CREATE, UPDATE})
SEARCHES: Final = frozenset({Operation.PATIENT, Operation.ENCOUNTER, Operation.COVERAGE})
ANY: Final = frozenset(Operation)
DELIVERED, FAILED, THROTTLED, ABSENT = Decision.DELIVERED, Decision.FAILED, Decision.THROTTLED, Decision.ABSENT
PARKED, UNKNOWN, HALTED = Decision.PARKED, Decision.UNKNOWN, Decision.HALTED
WORDED: Final = frozenset({Said.OUTCOME, Said.EMPTY})
"""The partner's own way to refuse; HTML or other JSON is a gateway's."""


def _doubt(
    statuses: int | range | tuple[int | range, ...],
    reason: Reason | None,
    line: str,
    *,
    said: frozenset[Said] | Said | None = None,
) -> Iterator[Row]:
    """It is not known whether it was done: unknown for a create and what searches for it, again for an update."""
    yield row(frozenset({CREATE, *SEARCHES}), statuses, UNKNOWN, reason, line, said=said)
    yield row(UPDATE, statuses, FAILED, reason, line, said=said, pause=True)


ALL: Final = range(1000)
SUCCESS: Final = range(200, 300)

TABLE: Final[tuple[Row, ...]] = (
    # no answer
    *_doubt(range(1), None, "R: read time-out, reset after the first byte; C 6: a create whose answer is lost"),
    # the partner refuses us as a whole: nobody's message
    row(ANY, 401, HALTED, Reason.REFUSED_CLIENT, "C 9: 401, after the one refresh that the transport has tried"),
    row(ANY, 403, HALTED, Reason.REFUSED_CLIENT, "I: RFC 6750, the token's scope does not do", flag=Flag.SCOPE),
    # it refuses this message
    row(WRITES, 403, PARKED, Reason.REFUSED_LABEL, "B: 403 without the label; C 9: permanent for the message", said=WORDED),
    row(SEARCHES, 403, PARKED, Reason.PROBE_CANNOT_TELL, "C 4: a label that we may not read"),
    row(ANY, 403, HALTED, Reason.REFUSED_CLIENT, "I: a 403 without the partner's own word is a gateway's"),
    # we are asked to wait
    row(ANY, 429, THROTTLED, Reason.THROTTLED, "R: 429; C 9 GAP"),
    row(ANY, 503, THROTTLED, Reason.THROTTLED, "R: 503 with Retry-After", flag=Flag.RETRY_AFTER),
    row(ANY, 503, FAILED, Reason.UNAVAILABLE, "R: 503 proves that nothing was done"),
    # done
    row(WRITES, (200, 201), DELIVERED, None, "B: transaction-response; C 5: by index, each entry's status", said=Said.DONE),
    row(
        CREATE,
        SUCCESS,
        UNKNOWN,
        Reason.ANSWER_UNREADABLE,
        "C 5: a 2xx alone is no proof; I: part of it may be there",
        said=Said.PARTLY,
    ),
    # found, or not
    row(
        SEARCHES,
        200,
        UNKNOWN,
        Reason.AWAITING_PROBE,
        "I: all or nothing; the ids of the others are wanted too",
        said=Said.FOUND,
        flag=Flag.FURTHER,
    ),
    row(SEARCHES, 200, DELIVERED, None, "B: search; C 6: by identifier, after the lag", said=Said.FOUND),
    row(SEARCHES, 200, PARKED, Reason.PROBE_CANNOT_TELL, "I: setting not_found: park", said=Said.NONE, flag=Flag.NOT_FOUND_PARKS),
    row(SEARCHES, 200, ABSENT, None, "R: not there once it should be visible (C 6)", said=Said.NONE),
    row(SEARCHES, 200, PARKED, Reason.PROBE_CANNOT_TELL, "C 7 GAP: paging; or several are ours", said=Said.UNCLEAR),
    # an id that is not processed yet
    row(
        UPDATE, (404, 409), PARKED, Reason.REJECTED_NOT_FOUND, "C 6: still so after the lag", said=WORDED, flag=Flag.AFTER_UNKNOWN
    ),
    row(UPDATE, (404, 409), UNKNOWN, Reason.AWAITING_PROBE, "C 6 GAP: an early 404 or 409 is tried again later", said=WORDED),
    row(UPDATE, 410, PARKED, Reason.REJECTED_NOT_FOUND, "I: deleted there, a person decides", said=WORDED),
    # the endpoint is not there or not as we think: base_url, paths, media_type. Nobody's message
    row(
        SEARCHES,
        range(400, 408),
        PARKED,
        Reason.PROBE_CANNOT_TELL,
        "C 7 GAP: the search is refused, the create is still in doubt",
    ),
    row(ANY, 404, HALTED, Reason.REJECTED_NOT_SUPPORTED, "I: base_url or paths; or a gateway's"),
    row(ANY, (405, 406, 415, 501), HALTED, Reason.REJECTED_NOT_SUPPORTED, "C 9 GAP; B: verb and media type"),
    # the content is refused
    *_doubt(408, Reason.PARTNER_TIMEOUT, "C 9: transient; a timed-out POST is ambiguous"),
    row(ANY, (421, 425), FAILED, Reason.UNAVAILABLE, "I: RFC 9110 15.5.20, RFC 8470: not processed"),
    row(SEARCHES, range(400, 500), PARKED, Reason.PROBE_CANNOT_TELL, "R: the probe cannot tell"),
    row(ANY, (409, 412), PARKED, Reason.REJECTED_CONFLICT, "C 9: permanent"),
    row(ANY, 413, PARKED, Reason.REJECTED_TOO_LONG, "C 9 GAP: size limits"),
    row(ANY, (400, 422), PARKED, Reason.REJECTED_INVALID, "C 9: permanent"),
    row(ANY, range(400, 500), PARKED, Reason.REJECTED_OTHER, "C 9: permanent"),
    # a 2xx that is no success
    row(WRITES, SUCCESS, PARKED, Reason.REJECTED_OTHER, "R, F8: 200 with an error is no success", said=Said.OUTCOME),
    *_doubt(SUCCESS, Reason.ANSWER_UNREADABLE, "R, F8: 202, a login page; C 5: an entry or an id is missing"),
    # 5xx
    *_doubt(504, Reason.PARTNER_TIMEOUT, "R: 504 on a create"),
    *_doubt(range(500, 600), Reason.PARTNER_EXCEPTION, "R: 500, 502 on a create; C 9: transient"),
    # 3xx: no redirect is followed
    *_doubt(303, Reason.ANSWER_UNREADABLE, "I: RFC 9110 15.4.4, it may have been done"),
    row(ANY, range(300, 400), HALTED, Reason.REJECTED_OTHER, "I: base_url is another's, or a login stands before it"),
    *_doubt(ALL, Reason.ANSWER_UNREADABLE, "the rest: nothing that HTTP has"),
)


@lru_cache(4096)
def row_of(signal: Signal) -> Row:
    """The first row that fits. The last ones fit every status from 0 to 999."""
    return next(one for one in TABLE if one.fits(signal))
