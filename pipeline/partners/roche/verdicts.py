"""What Roche's answers mean: one table, read top to bottom, the first row that fits counts, and the last rows fit everything.

Each row names its line of the dossier: B is the partner's page of Patient services, C a section of the partner dossier (contracts,
Roche), R a rule of RELIABILITY section 1, I an inference of ours. On an update nothing is ever unknown: the same PUT again finds out,
so what is in doubt there has FAILED; the pause keeps it apart from a request that may still be at work.
"""

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Final

from pipeline.model import Decision
from pipeline.partners.answers import Form
from pipeline.partners.verdicts import Row, Signal, row
from schemas.outcomes import Reason


class Operation(StrEnum):
    """What is asked."""

    CREATE = "patient-create"
    UPDATE = "patient-update"
    PROBE = "patient-probe"
    """PUT by business id, to find out whether a create was done."""


class Flag(StrEnum):
    """What else a row may ask for."""

    CERTIFICATE = "certificate"
    """A gateway's text speaks of a certificate."""
    RETRY_AFTER = "retry_after"
    """The answer says how long to wait."""
    REACHABLE = "reachable"
    """What is there can be updated without an id from the partner (v1, business id)."""
    AGAIN = "again"
    """A create posted again after an unknown one, where the setting v2_unknown trusts `duplicate`."""


NO_ANSWER: Final = range(1)
"""The status of no answer at all is 0."""
ANSWERED: Final = range(200, 300), range(400, 500)
"""Where an issue code tells more than the status."""

CREATE, UPDATE, PROBE = Operation.CREATE, Operation.UPDATE, Operation.PROBE
DELIVERED, FAILED, THROTTLED, EXISTS = Decision.DELIVERED, Decision.FAILED, Decision.THROTTLED, Decision.EXISTS
ABSENT, PARKED, UNKNOWN, HALTED = Decision.ABSENT, Decision.PARKED, Decision.UNKNOWN, Decision.HALTED
BARE = frozenset({Form.EMPTY, Form.JSON, Form.OTHER})
ANY: Final = frozenset(Operation)


def _doubt(
    statuses: int | range | tuple[int | range, ...], reason: Reason | None, line: str, *, codes: str | None = None
) -> Iterator[Row]:
    """It is not known whether it was done: unknown for a create and for its probe, again for an update."""
    yield row(frozenset({CREATE, PROBE}), statuses, UNKNOWN, reason, line, codes=codes)
    yield row(UPDATE, statuses, FAILED, reason, line, codes=codes, pause=True)


def _refused(codes: str, reason: Reason, line: str) -> Row:
    """The partner's word about the content: this message's business."""
    return row(ANY, ANSWERED, PARKED, reason, line, codes=codes)


ALL: Final = range(1000)

TABLE: Final[tuple[Row, ...]] = (
    # no answer
    *_doubt(NO_ANSWER, None, "R: read time-out, reset after the first byte; C 7.3"),
    # the partner refuses us as a whole: nobody's message
    row(ANY, 401, HALTED, Reason.REFUSED_CLIENT, 'C 7.2: {"error": "Invalid Client"}; C 7.3'),
    row(ANY, (403, 495, 496), HALTED, Reason.REFUSED_CERTIFICATE, "C 7.2: Certificate validation failed", flag=Flag.CERTIFICATE),
    row(ANY, (495, 496), HALTED, Reason.REFUSED_CERTIFICATE, "I: nginx's own statuses for a client certificate"),
    row(
        ANY,
        400,
        HALTED,
        Reason.REFUSED_CERTIFICATE,
        "I: nginx answers 400 in HTML to a refused certificate",
        flag=Flag.CERTIFICATE,
    ),
    row(ANY, 403, HALTED, Reason.REFUSED_CLIENT, "C 7.2: organisation or header refused, empty body; C 7.3"),
    row(ANY, ANSWERED, HALTED, Reason.REFUSED_CLIENT, "C 7.2: issue name forbidden", codes="forbidden login expired security"),
    # we are asked to wait
    row(ANY, 429, THROTTLED, Reason.THROTTLED, "R: 429; C 7.2 GAP"),
    row(ANY, ANSWERED, THROTTLED, Reason.THROTTLED, "I: issue code throttled says the same", codes="throttled"),
    *_doubt(503, Reason.PARTNER_TIMEOUT, "R: the partner's timeout on a create, whatever the status", codes="timeout"),
    *_doubt(503, Reason.PARTNER_EXCEPTION, "R: the partner's exception on a create, whatever the status", codes="exception"),
    row(ANY, 503, THROTTLED, Reason.THROTTLED, "R: 503 with Retry-After", flag=Flag.RETRY_AFTER),
    row(ANY, 503, FAILED, Reason.UNAVAILABLE, "R: 503 proves that nothing was done"),
    # it failed inside, after it had begun
    *_doubt(ANSWERED, Reason.PARTNER_TIMEOUT, "B: timeout, an internal time-out; C 7.3", codes="timeout"),
    *_doubt(
        ANSWERED,
        Reason.PARTNER_EXCEPTION,
        "B: exception, an internal error; the others are FHIR's transient kinds",
        codes="exception transient lock-error no-store incomplete",
    ),
    # it is there already
    row(CREATE, ANSWERED, DELIVERED, None, "I: C 8, setting v2_unknown: again", codes="duplicate", flag=Flag.AGAIN),
    row(CREATE, ANSWERED, EXISTS, Reason.REJECTED_DUPLICATE, "C 7.1, C 7.3", codes="duplicate", flag=Flag.REACHABLE),
    row(CREATE, ANSWERED, PARKED, Reason.REJECTED_DUPLICATE, "C 8: no search, and no update without its id", codes="duplicate"),
    row(UPDATE, ANSWERED, PARKED, Reason.REJECTED_CONFLICT, "C 5.2: identifier and e-mail are unique", codes="duplicate"),
    # it is not there
    row(UPDATE, ANSWERED, ABSENT, Reason.REJECTED_NOT_FOUND, "C 7.2, C 7.3", codes="not-found"),
    row(PROBE, 404, ABSENT, None, "I: C 8, a PUT of what is not there is 404", codes="not-found"),
    row(
        UPDATE, 404, ABSENT, Reason.REJECTED_NOT_FOUND, "I: as 404 not-found, and errors may come empty (C 7.2)", said=Form.EMPTY
    ),
    row(PROBE, 404, ABSENT, None, "I: as the row before", said=Form.EMPTY),
    row(UPDATE, 410, PARKED, Reason.REJECTED_NOT_FOUND, "I: deleted there, a person decides"),
    row(UPDATE, ANSWERED, PARKED, Reason.REJECTED_NOT_FOUND, "I: as 410", codes="deleted"),
    # the endpoint is not there or not as we think: base_url, api, content_type. Nobody's message
    row(ANY, 404, HALTED, Reason.REJECTED_NOT_SUPPORTED, "I: a 404 without the partner's own word is a gateway's", said=BARE),
    row(ANY, (405, 406, 415, 501), HALTED, Reason.REJECTED_NOT_SUPPORTED, "C 7.2: 405, 501"),
    # the content is refused. What a probe is refused for says nothing of the create before it
    row(PROBE, ANSWERED, PARKED, Reason.PROBE_CANNOT_TELL, "R: the probe cannot tell", said=Form.ERROR),
    _refused("too-long", Reason.REJECTED_TOO_LONG, "B: too-long"),
    _refused("required", Reason.REJECTED_REQUIRED, "B: required"),
    _refused("structure", Reason.REJECTED_STRUCTURE, "B: structure"),
    _refused("not-supported", Reason.REJECTED_NOT_SUPPORTED, "C 7.2: not-supported, FHIR id missing"),
    _refused("conflict multiple-matches", Reason.REJECTED_CONFLICT, "I: FHIR's own meaning"),
    _refused(
        "invalid value invariant code-invalid extension business-rule processing",
        Reason.REJECTED_INVALID,
        "B: invalid; the others are FHIR's kinds of it",
    ),
    row(ANY, range(200, 300), PARKED, Reason.REJECTED_OTHER, "R, F8: 200 with an error is no success", said=Form.ERROR),
    # done
    row(ANY, 202, UNKNOWN, Reason.AWAITING_PROBE, "R, F8: accepted is not done"),
    row(CREATE, (200, 201), DELIVERED, None, "B: 200 with the ids; C 6: 201 as in Practitioner v2", said=Form.PATIENT),
    row(
        frozenset({UPDATE, PROBE}),
        (200, 201, 204),
        DELIVERED,
        None,
        "B: 200, empty body; C 6: v2's body is a GAP",
        said=frozenset({Form.EMPTY, Form.PATIENT, Form.BUNDLE, Form.FINE}),
    ),
    *_doubt(range(200, 300), Reason.ANSWER_UNREADABLE, "R, F8: 200 with a login page; a create without the promised id"),
    # 4xx without a word of the partner's own
    *_doubt(408, Reason.PARTNER_TIMEOUT, "I: some gateways say 408 when what is behind them is slow"),
    row(ANY, (421, 425), FAILED, Reason.UNAVAILABLE, "I: RFC 9110 15.5.20, RFC 8470: not processed"),
    row(PROBE, range(400, 500), PARKED, Reason.PROBE_CANNOT_TELL, "R: the probe cannot tell"),
    row(ANY, 409, PARKED, Reason.REJECTED_CONFLICT, "C 7.2 GAP"),
    row(ANY, 413, PARKED, Reason.REJECTED_TOO_LONG, "C 7.2 GAP"),
    row(ANY, 422, PARKED, Reason.REJECTED_INVALID, "C 7.2 GAP"),
    row(ANY, range(400, 500), PARKED, Reason.REJECTED_OTHER, "C 7.3: permanent"),
    # 5xx
    *_doubt(504, Reason.PARTNER_TIMEOUT, "R: 504 on a create"),
    *_doubt(range(500, 600), Reason.PARTNER_TIMEOUT, "B: timeout", codes="timeout"),
    *_doubt(range(500, 600), Reason.PARTNER_EXCEPTION, "C 7.2: 500 exception; R: 500, 502 on a create"),
    # 3xx: no redirect is followed
    *_doubt(303, Reason.ANSWER_UNREADABLE, "I: RFC 9110 15.4.4, it may have been done"),
    row(ANY, range(300, 400), HALTED, Reason.REJECTED_OTHER, "I: base_url is another's, or a login stands before it"),
    *_doubt(ALL, Reason.ANSWER_UNREADABLE, "the rest: nothing that HTTP has"),
)


@lru_cache(4096)
def row_of(signal: Signal) -> Row:
    """The first row that fits. The last ones fit every status from 0 to 999."""
    return next(one for one in TABLE if one.fits(signal))
