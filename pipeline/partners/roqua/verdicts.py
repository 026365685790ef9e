"""What RoQua's answers mean, documents and REST API in one table: read top to bottom, the first row that fits counts, the last fit everything.

Each row names its line of the dossier: B is the partner's pages, C a section of contracts/roqua.md, R a rule of RELIABILITY section 1, I an inference
of ours. Every write is an upsert by an id of ours (C 6.2: FOUND 2022-09-13), so what is in doubt has FAILED: the same again finds out, after a
pause. Where the setting `upsert` is off, a create in doubt is UNKNOWN instead, and a PUT to its external_id asks.
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

    DOCUMENT = "document-put"
    CREATE = "response-create"
    UPDATE = "response-update"
    DELETE = "response-delete"
    PROBE = "response-probe"
    """An unknown create is looked for: a PUT to its external_id."""


class Said(StrEnum):
    """What a body is, or says."""

    DONE = "done"
    """JSON without an error; of a response: the one that was sent."""
    EMPTY = "empty"
    ERRORS = "errors"
    """The partner's own way to refuse: `errors`, `error`, or an OperationOutcome with an error."""
    OTHER = "other"
    """Other JSON, or somebody else's response."""
    PAGE = "page"
    """No JSON: a gateway's, or a login."""


class Flag(StrEnum):
    """What else a row may ask for."""

    RETRY_AFTER = "retry_after"
    """The answer says how long to wait."""
    KNOWN = "known"
    """RoQua has it by what the ledger knows: a correction, or a resend."""
    UPSERT = "upsert"
    """The setting: a POST that is repeated meets the same response."""


DOCUMENT, CREATE, UPDATE, DELETE, PROBE = Operation
ANY: Final = frozenset(Operation)
UPSERTS: Final = ANY - {CREATE, PROBE}
"""Whatever became of the first, the second does no harm."""
DELIVERED, FAILED, THROTTLED, ABSENT = Decision.DELIVERED, Decision.FAILED, Decision.THROTTLED, Decision.ABSENT
PARKED, UNKNOWN, HALTED = Decision.PARKED, Decision.UNKNOWN, Decision.HALTED


def _doubt(
    statuses: int | range | tuple[int | range, ...],
    reason: Reason | None,
    line: str,
    *,
    said: frozenset[Said] | Said | None = None,
) -> Iterator[Row]:
    """It is not known whether it was done."""
    yield row(UPSERTS, statuses, FAILED, reason, line, said=said, pause=True)
    yield row(CREATE, statuses, FAILED, reason, line, said=said, flag=Flag.UPSERT, pause=True)
    yield row(frozenset({CREATE, PROBE}), statuses, UNKNOWN, reason, line, said=said)


ALL: Final = range(1000)
SUCCESS: Final = range(200, 300)

TABLE: Final[tuple[Row, ...]] = (
    # no answer
    *_doubt(range(1), None, "R: read time-out, reset after the first byte; C 6.2, C 10.1: the same again is an upsert"),
    # the partner refuses us as a whole: nobody's message
    row(ANY, 401, HALTED, Reason.REFUSED_CLIENT, "C 5: HTTP authentication fails; of a JWT after the one that was made anew"),
    row(ANY, 403, HALTED, Reason.REFUSED_CLIENT, "I: a page is a gateway's", said=Said.PAGE),
    # it refuses this message, by what it has of it
    row(UPDATE, 403, PARKED, Reason.REJECTED_STORED, "B: the response already stores data; C 6.3: not again"),
    row(PROBE, 403, DELIVERED, None, "B: it already stores data, so the create was done; R: a 403 after our own unknown"),
    row(DELETE, 403, PARKED, Reason.REJECTED_STORED, "I: only what the API stored may be deleted (B), and this it does not"),
    row(DOCUMENT, 403, PARKED, Reason.REJECTED_STORED, "I: the rule of responses (B) may hold of documents", flag=Flag.KNOWN),
    row(ANY, 403, HALTED, Reason.REFUSED_CLIENT, "C 5: right of the token, address, JWT without its dossier"),
    # we are asked to wait
    row(ANY, 429, THROTTLED, Reason.THROTTLED, "R: 429; C 5: a rate limiter stands before RoQua"),
    row(ANY, 503, THROTTLED, Reason.THROTTLED, "R: 503 with Retry-After", flag=Flag.RETRY_AFTER),
    row(ANY, 503, FAILED, Reason.UNAVAILABLE, "R: 503 proves that nothing was done"),
    # done
    row(
        DOCUMENT,
        (200, 201, 204),
        DELIVERED,
        None,
        "C 4: not documented; I: FHIR's update, with or without a body",
        said=frozenset({Said.DONE, Said.EMPTY}),
    ),
    row(CREATE, (200, 201), DELIVERED, None, "B: 201 and the response; I: 200 where it was there (C 6.2)", said=Said.DONE),
    row(frozenset({UPDATE, PROBE}), (200, 201), DELIVERED, None, "B: 200 and the response; I: 201 of an upsert", said=Said.DONE),
    row(DELETE, (200, 204), DELIVERED, None, "B: 204; I: 200", said=frozenset({Said.DONE, Said.EMPTY})),
    # it is not there
    row(ANY, 404, HALTED, Reason.REJECTED_NOT_SUPPORTED, "I: base_url, or a gateway's", said=Said.PAGE),
    row(DELETE, (404, 410), DELIVERED, None, "I: gone is what was asked for"),
    row(PROBE, 404, ABSENT, None, "B: no response for the id; or no questionnaire, which the POST is told then"),
    row(UPDATE, 404, ABSENT, Reason.REJECTED_NOT_FOUND, "B: no response for the id; or no questionnaire, as above"),
    row(CREATE, 404, PARKED, Reason.TARGET_UNKNOWN, "B: no such questionnaire; C 6.8: dossiers are not made here"),
    row(DOCUMENT, 404, PARKED, Reason.TARGET_UNKNOWN, "C 4: not documented; I: dossier unknown, or the path"),
    # the endpoint is not as we think: base_url. Nobody's message
    row(ANY, (405, 406, 415, 501), HALTED, Reason.REJECTED_NOT_SUPPORTED, "I: verb, path or media type"),
    # the content is refused. What a probe is refused for says nothing of the create before it
    *_doubt(408, Reason.PARTNER_TIMEOUT, "I: some gateways say 408 when what is behind them is slow"),
    row(ANY, (421, 425), FAILED, Reason.UNAVAILABLE, "I: RFC 9110 15.5.20, RFC 8470: not processed"),
    row(PROBE, range(400, 500), PARKED, Reason.PROBE_CANNOT_TELL, "R: the probe cannot tell"),
    row(ANY, (400, 422), PARKED, Reason.REJECTED_REQUIRED, "C 5: 422, keywords", codes="blank missing"),
    row(ANY, (400, 422), PARKED, Reason.REJECTED_INVALID, "C 5: 422; C 4: a document is not documented"),
    row(ANY, (409, 412), PARKED, Reason.REJECTED_CONFLICT, "I: RFC 9110; of a POST where nothing is overwritten"),
    row(ANY, 413, PARKED, Reason.REJECTED_TOO_LONG, "I: RFC 9110"),
    row(ANY, range(400, 500), PARKED, Reason.REJECTED_OTHER, "C 4: 4xx but 408 and 429 is permanent"),
    # a 2xx that is no success
    row(ANY - {PROBE}, SUCCESS, PARKED, Reason.REJECTED_OTHER, "R, F8: 200 with an error is no success", said=Said.ERRORS),
    *_doubt(SUCCESS, Reason.ANSWER_UNREADABLE, "R, F8: 202, a login page; I: somebody else's response"),
    # 5xx
    *_doubt(504, Reason.PARTNER_TIMEOUT, "R: 504"),
    *_doubt(range(500, 600), Reason.PARTNER_EXCEPTION, "R: 500, 502"),
    # 3xx: no redirect is followed
    *_doubt(303, Reason.ANSWER_UNREADABLE, "I: RFC 9110 15.4.4, it may have been done"),
    row(ANY, range(300, 400), HALTED, Reason.REJECTED_OTHER, "I: base_url is another's, or a login stands before it"),
    *_doubt(ALL, Reason.ANSWER_UNREADABLE, "the rest: nothing that HTTP has"),
)


@lru_cache(4096)
def row_of(signal: Signal) -> Row:
    """The first row that fits. The last ones fit every status from 0 to 999."""
    return next(one for one in TABLE if one.fits(signal))
